"""Stop-watches around the ports: which call was made when, for how long, for which VM or step."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Span:
    """One call, in seconds on the machine's own counter. `subject` is what it was about (see
    `Instruments.watch`), `task` the task that made it."""

    call: str
    subject: object
    task: int
    began: float
    ended: float

    @property
    def length_s(self) -> float:
        return self.ended - self.began


@dataclass(kw_only=True)
class Instruments:
    """All spans of a run, in the order of their ends."""

    spans: list[Span] = field(default_factory=list)

    def watch(self, inner: T, subject: Callable[[str, tuple[Any, ...]], object]) -> T:
        """The same object, with a stop-watch around each of its coroutines. `subject` says what a
        call, by its name and arguments, is about."""
        return cast("T", _Watched(inner, subject, self.spans))

    def of(self, *calls: str) -> Iterable[Span]:
        """The spans of these calls."""
        return (span for span in self.spans if span.call in calls)


class _Watched:
    def __init__(
        self,
        inner: object,
        subject: Callable[[str, tuple[Any, ...]], object],
        spans: list[Span],
    ) -> None:
        self._inner = inner
        self._subject = subject
        self._spans = spans

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def timed(*arguments: Any, **named: Any) -> Any:
            began = perf_counter()
            try:
                return await found(*arguments, **named)
            finally:
                self._spans.append(
                    Span(
                        call=name,
                        subject=self._subject(name, arguments),
                        task=id(asyncio.current_task()),
                        began=began,
                        ended=perf_counter(),
                    )
                )

        return timed
