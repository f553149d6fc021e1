"""The real Clock. Here and in `sim/clock.py` alone time is read and slept."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class RealClock:
    """Implements `ports.Clock` on the machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, duration_s: float) -> None:
        await asyncio.sleep(duration_s)


def pause(duration_s: float) -> None:
    """Sleep where nothing else goes on: on the command line."""
    time.sleep(duration_s)
