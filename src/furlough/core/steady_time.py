"""Time for people that nobody can make jump: it follows the clock on the wall, and gently.

Deadlines and moments of retries are instants. Were the wall's clock believed at once, somebody who
sets it forward would end operations early, and somebody who sets it back would stop them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

# An hour that the wall's clock was set by is made good within twenty.
_FOLLOWS_BY = 0.05


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An instant, aware, in UTC, and the monotonic clock's seconds at which it was read."""

    at: datetime
    monotonic_s: float


def steady(last: Reading | None, wall: datetime, monotonic_s: float) -> Reading:
    """The present instant, given the last one, what the clock on the wall shows (aware, UTC), and
    the monotonic clock (s). It never goes back, and is off by at most a twentieth of any length."""
    if last is None:
        return Reading(at=wall, monotonic_s=monotonic_s)
    passed_s = max(0.0, monotonic_s - last.monotonic_s)
    straight_on = last.at + timedelta(seconds=passed_s)
    most = timedelta(seconds=passed_s * _FOLLOWS_BY)
    off = min(most, max(-most, wall - straight_on))
    return Reading(at=straight_on + off, monotonic_s=monotonic_s)
