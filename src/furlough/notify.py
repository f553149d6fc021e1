"""The real Notifier: wakes the listeners of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Bus:
    """Implements `ports.Notifier`. A listener that is slow misses nothing: it is told once that
    there is news, and reads what it is from the store."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Event] = set()

    def notify(self) -> None:
        for listener in self._listeners:
            listener.set()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[None]]:
        woken = asyncio.Event()
        self._listeners.add(woken)

        async def news() -> AsyncIterator[None]:
            while True:
                await woken.wait()
                woken.clear()
                yield None

        try:
            yield news()
        finally:
            self._listeners.discard(woken)
