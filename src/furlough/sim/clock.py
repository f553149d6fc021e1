"""Virtual time: an event loop that jumps to the next timer instead of waiting for it.

A day of cluster life takes as long as its work takes, and the same seed gives the same run: there
is one thread, and nothing waits for the outside.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from furlough.core.steady_time import Reading, steady

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Standstill(Exception):
    """Every task waits for something that nothing will ever bring."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting, moves its loop's time forward."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Standstill("no timer is set and no task can run")
        self.now_s += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, starting at 0 s."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


class VirtualClock:
    """Implements `ports.Clock` on the time of the running loop."""

    def __init__(self) -> None:
        self._set_ahead = timedelta(0)
        self._last: Reading | None = None

    def set_wall(self, by_s: float) -> None:
        """Somebody sets the clock on the wall, as many seconds forward (F030, F031)."""
        self._last = self._last or Reading(at=self._unset(), monotonic_s=self.monotonic())
        self._set_ahead += timedelta(seconds=by_s)

    def now(self) -> datetime:
        if self._last is None:
            return self._unset()
        self._last = steady(self._last, self._unset() + self._set_ahead, self.monotonic())
        return self._last.at

    def _unset(self) -> datetime:
        return EPOCH + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
