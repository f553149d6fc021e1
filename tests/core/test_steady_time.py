"""F030, F031: somebody sets the clock on the wall, and no length of time changes by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from furlough.core.steady_time import Reading, steady

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def after(wall_set_by: timedelta, passed_s: float) -> timedelta:
    """What seems to have passed since noon, when so many seconds have."""
    wall = NOON + timedelta(seconds=passed_s) + wall_set_by
    return steady(Reading(at=NOON, monotonic_s=5.0), wall, 5.0 + passed_s).at - NOON


def test_the_first_reading_is_the_walls() -> None:
    assert steady(None, NOON, 7.0) == Reading(at=NOON, monotonic_s=7.0)


def test_a_wall_that_agrees_is_followed_exactly() -> None:
    assert after(timedelta(0), 600) == timedelta(seconds=600)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_of_an_hour_changes_ten_minutes_by_half_a_minute_at_most(jump: timedelta) -> None:
    assert abs(after(jump, 600) - timedelta(seconds=600)) == timedelta(seconds=30)


def test_a_small_correction_is_made_good_at_once() -> None:
    assert after(timedelta(milliseconds=20), 600) == timedelta(seconds=600.02)


def test_time_never_goes_back() -> None:
    now = Reading(at=NOON, monotonic_s=0.0)
    for second in range(1, 100):
        later = steady(now, NOON - HOUR + timedelta(seconds=second), float(second))
        assert later.at > now.at
        now = later


def test_an_hour_is_made_good_within_twenty() -> None:
    now = Reading(at=NOON, monotonic_s=0.0)
    for minute in range(1, 20 * 60 + 2):
        wall = NOON + HOUR + timedelta(minutes=minute)
        now = steady(now, wall, 60.0 * minute)
    assert now.at == wall
