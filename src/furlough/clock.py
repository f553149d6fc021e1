"""The real Clock. Here and in `sim/clock.py` alone time is read and slept."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from furlough.core.steady_time import Reading, steady


class RealClock:
    """Implements `ports.Clock` on the machine's clocks. Whoever sets the clock on the wall while
    we run shortens or lengthens a timeout by a twentieth at most (docs/decisions/0022)."""

    def __init__(self) -> None:
        self._last: Reading | None = None

    def now(self) -> datetime:
        reading = self._last = steady(self._last, datetime.now(UTC), time.monotonic())
        return reading.at

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)


def pause(duration_s: float) -> None:
    """Sleep where nothing else goes on: on the command line."""
    time.sleep(duration_s)
