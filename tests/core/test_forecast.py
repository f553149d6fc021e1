"""Forecasts of migrations that share links: nobody gets more than there is, all come through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.forecast import Course, Move, forecast
from furlough.core.ids import ClusterName, HostName
from furlough.core.policy import Limits
from tests.core.builders import H1, H2, H3, repeatable

CLUSTER = ClusterName("c1")
LINKS = {H1: 100.0, H2: 100.0, H3: 100.0}
PLAIN = Move(source=H1, target=H2, cluster=CLUSTER, memory_mib=1000)
ROUND = Move(source=H1, target=H2, cluster=CLUSTER, memory_mib=1000, set_up_s=0.5, finish_s=0.25)


def _forecast(moves: Sequence[Move], **limits: int) -> list[Course]:
    return forecast(moves, LINKS, {CLUSTER: Limits(**limits)} if limits else {})


def test_one_that_is_alone_has_the_link_for_itself() -> None:
    (course,) = _forecast([ROUND])
    assert course == Course(start_s=0, end_s=10.75, pause_s=0, sent_mib=1000)


def test_of_two_that_leave_together_the_first_has_the_link_and_the_other_a_trickle() -> None:
    both = _forecast([PLAIN, replace(PLAIN, target=H3)])
    assert [one.end_s for one in both] == pytest.approx([10, 19.9])


def test_when_one_is_through_the_other_gets_the_whole_link() -> None:
    short, long = _forecast([replace(PLAIN, memory_mib=500), PLAIN])
    assert [short.end_s, long.end_s] == pytest.approx([5, 14.95])


def test_what_the_first_does_not_take_of_a_link_is_the_seconds() -> None:
    """One stream moves half of what the link carries."""
    one = replace(PLAIN, stream_mib_s=50.0)
    assert [course.end_s for course in _forecast([one, one])] == pytest.approx([20, 20])


def test_who_waits_at_a_trickle_has_not_been_copied_and_so_not_been_written_again() -> None:
    """Its second round is what was written in the ten seconds in which it was copied."""
    _, shadow = _forecast([PLAIN, replace(PLAIN, dirty_mib_s=10.0, working_set_mib=500)])
    assert shadow.sent_mib == pytest.approx(1000 + 99 + 9.9, abs=1)


def test_who_is_set_up_takes_nothing_from_the_link() -> None:
    first, late = _forecast([PLAIN, replace(PLAIN, set_up_s=10.0)])
    assert [first.end_s, late.end_s] == pytest.approx([10, 20])


def test_the_next_one_begins_when_a_slot_is_free_and_in_order() -> None:
    courses = _forecast([ROUND] * 3, per_source=1)
    assert [one.start_s for one in courses] == pytest.approx([0, 10.75, 21.5])


def test_slots_are_counted_at_both_ends_and_in_the_cluster() -> None:
    elsewhere = replace(PLAIN, source=H3)
    assert [one.start_s for one in _forecast([PLAIN, elsewhere], per_target=1)] == [0, 10]
    aside = replace(PLAIN, source=H3, target=H1)
    assert [one.start_s for one in _forecast([PLAIN, aside], per_cluster=1)] == [0, 10]
    assert [one.start_s for one in _forecast([PLAIN, aside], per_source=1)] == [0, 0]


def test_who_finds_no_slot_lets_those_behind_go_first_that_do() -> None:
    courses = _forecast([PLAIN, PLAIN, replace(PLAIN, target=H3)], per_target=1)
    assert [one.start_s for one in courses] == pytest.approx([0, 10, 0])


def test_a_guest_that_writes_is_sent_again_until_the_rest_fits_the_pause() -> None:
    """1000, 200, 40 MiB at 100 MiB/s, 20 of which are written a second; 8 MiB are the pause."""
    (course,) = _forecast([replace(PLAIN, dirty_mib_s=20.0)])
    assert course.sent_mib == pytest.approx(1000 + 200 + 40 + 8)
    assert course.pause_s == pytest.approx(0.08)


def test_no_more_than_the_working_set_is_sent_again() -> None:
    (course,) = _forecast([replace(PLAIN, dirty_mib_s=90.0, working_set_mib=20)])
    assert course.sent_mib == pytest.approx(1020)


def test_a_guest_that_writes_as_fast_as_is_copied_is_throttled_until_it_comes_through() -> None:
    (course,) = _forecast([replace(PLAIN, dirty_mib_s=500.0)])
    assert course.pause_s <= 0.3
    assert course.sent_mib > 5000


def test_a_link_that_carries_less_than_it_should_takes_longer() -> None:
    (course,) = _forecast([replace(PLAIN, pace=0.5)])
    assert course.end_s == pytest.approx(20)


def test_a_vm_without_memory_takes_the_time_around_it() -> None:
    (course,) = _forecast([replace(ROUND, memory_mib=0)])
    assert course.end_s == pytest.approx(0.75)


def test_where_nobody_moves_nothing_is_told() -> None:
    assert forecast([], LINKS) == []


_HOSTS = st.sampled_from([H1, H2, H3])


@st.composite
def _moves(draw: st.DrawFn) -> Move:
    source: HostName = draw(_HOSTS)
    target = draw(_HOSTS.filter(lambda one: one != source))
    return Move(
        source=source,
        target=target,
        cluster=CLUSTER,
        memory_mib=draw(st.floats(0, 5000)),
        dirty_mib_s=draw(st.floats(0, 300)),
        working_set_mib=draw(st.floats(0, 1000)),
        pace=draw(st.floats(0.3, 1.2)),
        set_up_s=draw(st.floats(0, 1)),
        finish_s=draw(st.floats(0, 1)),
    )


def test_time_passes_however_late_it_is() -> None:
    """After months, the rest of a round may take less time than clocks can tell apart."""
    slow = replace(PLAIN, memory_mib=1e7, pace=1e-5)
    quick = [replace(PLAIN, target=H3, memory_mib=0.0717 * n) for n in range(1, 50)]
    courses = _forecast([slow, *quick], per_source=1, per_target=1, per_cluster=1)
    assert courses[-1].end_s > 1e10


@repeatable
@given(st.lists(_moves(), max_size=8), st.integers(0, 3))
def test_all_come_through_and_no_link_carries_more_than_it_can(
    moves: list[Move], slots: int
) -> None:
    courses = _forecast(moves, per_source=slots, per_target=slots, per_cluster=slots)
    end_s = max((one.end_s for one in courses), default=0.0)
    for move, course in zip(moves, courses, strict=True):
        assert course.end_s >= course.start_s >= 0
        assert course.sent_mib >= move.memory_mib - 0.01
    for host in LINKS:
        out = sum(
            one.sent_mib / move.pace
            for move, one in zip(moves, courses, strict=True)
            if move.source == host
        )
        # Whoever waits has a trickle besides.
        assert out <= (100.0 + len(moves)) * end_s + 0.01


def test_who_comes_after_others_begins_once_they_are_over() -> None:
    """Though links and slots are free."""
    courses = _forecast([PLAIN, replace(PLAIN, source=H2, target=H3, after=(0,))])
    assert [one.start_s for one in courses] == pytest.approx([0, 10])
