"""Threads for blocking calls: a few per host, so that one host that hangs hangs alone.

They are daemon threads of our own: a call that never returns must not keep the process from
ending, which the standard library's executors would.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Workers:
    """So many threads, started when first needed."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._started = 0
        self._unfinished = 0
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work` in one of the threads. If the caller gives up, the thread goes on."""
        future: Future[T] = Future()
        with self._lock:
            self._unfinished += 1
            # One thread per call that is not over, so that no call waits for another one.
            if self._unfinished > self._started and self._started < self._most:
                self._started += 1
                name = f"{self._name}-{self._started}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
        self._work.put((future, work))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """No more work; threads end when what they do has ended."""
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, work = item
            try:
                if future.set_running_or_notify_cancel():
                    _settle(future, work)
            finally:
                with self._lock:
                    self._unfinished -= 1


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    """Run `work` and hand over what comes of it; nobody may be waiting any more."""
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  # handed to whoever waits
        with suppress(InvalidStateError):
            future.set_exception(error)
    else:
        with suppress(InvalidStateError):
            future.set_result(result)
