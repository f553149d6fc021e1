"""What links carry, learned from what migrations moved: alone or beside others."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.ids import HostName
from furlough.core.link_speed import LinkSpeed, Passage, learned, shown_by
from tests.core.builders import H1, H2, H3, NOW, repeatable

LINKS = {H1: 100.0, H2: 100.0, H3: 40.0}


def _speed(
    mib_s: float, *, alone_s: float = 10, migrations: int = 1, at: datetime = NOW
) -> LinkSpeed:
    return LinkSpeed(
        source=H1, target=H2, mib_s=mib_s, alone_s=alone_s, migrations=migrations, at=at
    )


def alone_mib_s(
    moved_mib: float, passage: Passage, others: list[Passage], links: dict[HostName, float]
) -> float | None:
    """What a migration shows its links to carry."""
    shown = shown_by(moved_mib, passage, others, links, NOW)
    return None if shown is None else shown.mib_s


def _passage(began_s: float, ended_s: float, target: str = H2, source: str = H1) -> Passage:
    return Passage(source=source, target=target, began_s=began_s, ended_s=ended_s)  # type: ignore[arg-type]


def test_a_migration_that_was_alone_tells_what_it_moved_in_a_second() -> None:
    assert alone_mib_s(310, _passage(0, 10), [], LINKS) == pytest.approx(31)


def test_two_that_shared_the_link_all_the_time_tell_the_same_as_one_alone() -> None:
    beside = _passage(-5, 20)
    assert alone_mib_s(155, _passage(0, 10), [beside], LINKS) == pytest.approx(31)


def test_sharing_counts_for_as_long_as_it_lasted() -> None:
    """Five seconds alone and five with another: three quarters of what it had had alone."""
    beside = _passage(5, 30)
    assert alone_mib_s(0.75 * 310, _passage(0, 10), [beside], LINKS) == pytest.approx(31)


def test_one_that_leaves_the_same_host_for_another_shares_the_link_as_well() -> None:
    beside = Passage(source=H1, target=H3, began_s=0)
    assert alone_mib_s(500, _passage(0, 10), [beside], LINKS) == pytest.approx(100)


def test_the_slower_link_is_the_one_that_is_shared() -> None:
    """Into H3 go 40 MiB/s for one; the other one that leaves H1 takes nothing from that."""
    beside = _passage(0, 10)
    assert alone_mib_s(400, _passage(0, 10, H3), [beside], LINKS) == pytest.approx(40)


def test_those_who_were_over_or_go_elsewhere_share_nothing() -> None:
    others = [_passage(-9, 0), _passage(10, 20), _passage(0, 10, H3, H2)]
    assert alone_mib_s(310, _passage(0, 10), others, LINKS) == pytest.approx(31)


def test_little_memory_and_no_time_tell_nothing() -> None:
    assert alone_mib_s(63, _passage(0, 10), [], LINKS) is None
    assert alone_mib_s(6300, _passage(7, 7), [], LINKS) is None


def test_later_migrations_let_the_past_fade() -> None:
    known = learned(learned(None, _speed(30)), _speed(48))
    assert (known.mib_s, known.alone_s, known.migrations) == (40, 18, 2)
    for _ in range(30):
        known = learned(known, _speed(90))
    assert (round(known.mib_s), known.migrations) == (90, 32)


def test_two_that_shared_a_link_unevenly_together_tell_what_it_carries() -> None:
    """One takes nearly all of 40 MiB/s, and the other what is left until it is alone."""
    greedy, patient = _passage(0, 10), _passage(0, 20)
    first = shown_by(400, greedy, [patient], LINKS, NOW)
    second = shown_by(400, patient, [greedy], LINKS, NOW)
    assert first is not None
    assert second is not None
    assert first.mib_s == 80
    assert learned(first, second).mib_s == pytest.approx(40, rel=0.1)
    assert learned(second, first).mib_s == pytest.approx(40, rel=0.1)


def test_what_was_learned_long_ago_weighs_as_one_migration_and_is_forgotten_in_the_end() -> None:
    known = _speed(30, alone_s=500, migrations=50)
    in_a_week, in_a_month = NOW + timedelta(days=8), NOW + timedelta(days=31)
    assert learned(known, _speed(60, at=in_a_week)).mib_s == 45
    assert learned(known, _speed(60, at=in_a_month)) == _speed(60, at=in_a_month)
    assert known.holds(in_a_week)
    assert not known.holds(in_a_month)


@repeatable
@given(st.lists(st.floats(1, 10_000), min_size=1, max_size=20))
def test_what_is_known_lies_between_the_slowest_and_the_fastest(
    rates: list[float],
) -> None:
    known: LinkSpeed | None = None
    for rate in rates:
        known = learned(known, _speed(rate))
    assert known is not None
    assert min(rates) - 0.01 <= known.mib_s <= max(rates) + 0.01
