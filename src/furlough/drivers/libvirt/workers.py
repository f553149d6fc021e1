"""Threads for blocking calls: a few per host, so that one host that hangs hangs alone.

They are daemon threads of our own: a call that never returns must not keep the process from
ending, which the standard library's executors would.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Workers:
    """So many threads, started when first needed."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._idle = 0
        self._started = 0
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )

    async def call(self, work: Callable[[], T]) -> T:
        """Run `work` in one of the threads. If the caller gives up, the thread goes on."""
        future: Future[T] = Future()
        self._work.put((future, work))
        self._start_one_if_needed()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """No more work; threads end when what they do has ended."""
        for _ in range(self._started):
            self._work.put(None)

    def _start_one_if_needed(self) -> None:
        with self._lock:
            if self._idle == 0 and self._started < self._most:
                self._started += 1
                name = f"{self._name}-{self._started}"
                threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            item = self._work.get()
            with self._lock:
                self._idle -= 1
            if item is None:
                return
            future, work = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  # handed to whoever waits
                with suppress(Exception):
                    future.set_exception(error)
            else:
                with suppress(Exception):
                    future.set_result(result)
