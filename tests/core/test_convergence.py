"""Whether a migration comes to its end, and which rung is next: from samples alone."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from furlough.core.convergence import (
    USUAL_BUDGET_MS,
    Course,
    Sample,
    Terms,
    first_limit_ms,
    noted,
    rung,
    silence,
)
from furlough.core.operation import Act
from furlough.core.vm_policy import OnMaintenance, PostCopy, VmPolicy

EVERY_S, RATE = 0.25, 100.0
ALLOWED = VmPolicy(post_copy=PostCopy.IF_NEEDED)


def play(
    rounds: Iterable[float], *, rate: float = RATE, first_round: int = 1, throttle: int = 0
) -> Course:
    """The course of a migration whose rounds send so many MiB each, looked at every now and then
    until it is in the last of them."""
    course: Course | None = None
    now, sent = 0.0, 0.0
    sizes = list(rounds)
    for number, size in enumerate(sizes):
        left = size
        steps = 1 if number == len(sizes) - 1 else max(1, int(size / rate / EVERY_S))
        for _ in range(steps):
            course = noted(
                course,
                Sample(
                    at_s=now,
                    rounds=first_round + number,
                    remaining_mib=left,
                    sent_mib=sent,
                    throttle_percent=throttle,
                ),
            )
            part = min(left, rate * EVERY_S) if steps > 1 else 0.0
            left, sent, now = left - part, sent + part, now + EVERY_S
        sent += left if number < len(sizes) - 1 else 0.0
    assert course is not None
    return course


def terms(policy: VmPolicy = ALLOWED, *acts: Act, limit_ms: int = 300, **traits: bool) -> Terms:
    """What holds for a migration that was begun so that it may go over."""
    may = traits.get("may_post_copy", True)
    return Terms(
        policy=policy, limit_ms=limit_ms, may_post_copy=may, stall_s=30, acts=frozenset(acts)
    )


def test_rounds_that_shrink_need_no_help() -> None:
    course = play([1000, 400, 160, 64])
    assert course.restless == 0
    assert rung(course, terms()) is None


@pytest.mark.parametrize("first_round", [1, 7])
def test_two_rounds_that_are_alike_after_the_first_make_a_guest_restless(first_round: int) -> None:
    """The hypervisor may count on from an earlier try."""
    assert play([1000, 400], first_round=first_round).restless == 0
    assert play([1000, 400, 390], first_round=first_round).restless == 1
    assert play([1000, 400, 390, 100], first_round=first_round).restless == 0


def test_a_look_in_the_middle_of_a_round_still_knows_how_large_it_was() -> None:
    first = Sample(at_s=0, rounds=2, remaining_mib=30, sent_mib=1000)
    second = Sample(at_s=1, rounds=3, remaining_mib=250, sent_mib=1100)
    assert noted(noted(None, first), second).peak_mib == 250 + (100 - 30)


def test_two_looks_at_the_same_instant_are_no_rate() -> None:
    first = Sample(at_s=5, rounds=1, remaining_mib=500, sent_mib=10)
    assert noted(noted(None, first), first).rate_mib_s == 0


def test_another_migration_of_the_same_vm_begins_anew() -> None:
    course = play([1000, 400, 390])
    again = noted(course, Sample(at_s=99, rounds=1, remaining_mib=1000, sent_mib=0))
    assert (again.restless, again.moved_s) == (0, 99)


def test_what_will_fit_the_pause_by_itself_is_left_alone() -> None:
    assert rung(play([1000, 25, 24]), terms()) is None


def test_but_not_for_ever() -> None:
    """By our sums it fits; the hypervisor, which knows better, goes on and on."""
    found = rung(play([1000, *[25.0] * 8]), terms(limit_ms=300))
    assert found is not None
    assert (found.act, found.limit_ms) == (Act.RAISE_DOWNTIME_LIMIT, 475)


def test_a_longer_pause_within_the_budget_comes_first_and_in_steps() -> None:
    """60 MiB at 100 MiB/s are 600 ms."""
    course = play([1000, 60, 60])
    found = rung(course, terms())
    assert found is not None
    assert found.act is Act.RAISE_DOWNTIME_LIMIT
    assert 1.2 * course.needed_ms <= found.limit_ms <= USUAL_BUDGET_MS
    assert rung(course, terms(limit_ms=found.limit_ms)) is None


def test_no_pause_beyond_the_budget_is_allowed() -> None:
    strict = VmPolicy(post_copy=PostCopy.IF_NEEDED, downtime_budget_ms=200)
    assert first_limit_ms(strict) == 200
    found = rung(play([1000, 60, 60]), terms(strict, limit_ms=200))
    assert found is not None
    assert found.act is Act.START_POST_COPY


def test_post_copy_as_soon_as_it_is_restless_where_that_is_allowed() -> None:
    found = rung(play([1000, 400, 390]), terms())
    assert found is not None
    assert found.act is Act.START_POST_COPY
    assert "policy allows post-copy" in found.why


@pytest.mark.parametrize(
    ("policy", "may_post_copy"), [(VmPolicy(), True), (VmPolicy(), False), (ALLOWED, False)]
)
def test_no_post_copy_without_leave_or_where_it_was_not_begun_so(
    policy: VmPolicy, may_post_copy: bool
) -> None:
    for rounds in range(3, 40):
        course = play([1000, *[400.0] * rounds])
        found = rung(course, terms(policy, may_post_copy=may_post_copy))
        assert found is None or found.act is Act.ABORT


@pytest.mark.parametrize(("throttle", "rounds"), [(0, 12), (40, 60), (99, 3)])
def test_slowing_its_cpus_is_given_its_time(throttle: int, rounds: int) -> None:
    for restless in range(1, rounds):
        course = play([1000, 400, *[400.0] * restless], throttle=throttle)
        assert rung(course, terms(VmPolicy())) is None
    found = rung(play([1000, 400, *[400.0] * rounds], throttle=throttle), terms(VmPolicy()))
    assert found is not None
    assert (found.act, found.code) == (Act.ABORT, "migration.not_converging")


def test_who_gives_up_says_what_could_be_chosen() -> None:
    restless = play([1000, *[400.0] * 20])
    found = rung(restless, terms(VmPolicy()))
    assert found is not None
    assert "--post-copy if_needed" in found.remedy
    assert "4800 ms" in found.remedy
    found = rung(restless, terms(may_post_copy=False))
    assert found is not None
    assert "prove the locks" in found.remedy
    found = rung(restless, terms(may_post_copy=True, limit_ms=300))
    assert found is not None
    assert found.act is Act.START_POST_COPY


@pytest.mark.parametrize(
    ("on_maintenance", "budget_ms", "act"),
    [
        (OnMaintenance.SUSPEND, None, Act.PAUSE_SOURCE),
        (OnMaintenance.SHUT_DOWN, None, Act.PAUSE_SOURCE),
        (OnMaintenance.COLD, 6000, Act.RAISE_DOWNTIME_LIMIT),
        (OnMaintenance.COLD, 1000, Act.ABORT),
        (OnMaintenance.LIVE, None, Act.ABORT),
        (OnMaintenance.ASK, None, Act.ABORT),
    ],
)
def test_who_may_be_stopped_is_stopped_for_the_rest_within_its_budget(
    on_maintenance: OnMaintenance, budget_ms: int | None, act: Act
) -> None:
    policy = VmPolicy(on_maintenance=on_maintenance, downtime_budget_ms=budget_ms)
    found = rung(play([1000, *[400.0] * 20]), terms(policy))
    assert found is not None
    assert found.act is act


def test_a_stop_is_allowed_for_as_long_as_the_budget_of_who_may_be_stopped() -> None:
    """Its limit is there already, and did not do."""
    policy = VmPolicy(on_maintenance=OnMaintenance.SUSPEND, downtime_budget_ms=6000)
    found = rung(play([1000, *[400.0] * 20]), terms(policy, limit_ms=6000))
    assert found is not None
    assert found.act is Act.PAUSE_SOURCE


def test_after_the_last_rungs_nothing_more_is_done() -> None:
    restless = play([1000, *[400.0] * 20])
    for last in (Act.ABORT, Act.START_POST_COPY, Act.PAUSE_SOURCE):
        assert rung(restless, terms(VmPolicy(), last)) is None


def silent(seconds: float, moved_mib: float = 0.0) -> Course:
    """Nothing moved for so long, but this much in each of those seconds."""
    course = noted(None, Sample(at_s=0, rounds=1, remaining_mib=900, sent_mib=100))
    for second in range(1, int(seconds) + 1):
        sent = 100 + moved_mib * second
        course = noted(course, Sample(at_s=second, rounds=1, remaining_mib=900, sent_mib=sent))
    return course


def test_f048_a_silent_link_is_given_up_after_a_while() -> None:
    assert rung(silent(29), terms()) is None
    found = rung(silent(30), terms())
    assert found is not None
    assert (found.act, found.code) == (Act.ABORT, "migration.stalled")
    assert "30 s" in found.why


def test_f049_a_slow_link_is_not_silent_however_long_it_takes() -> None:
    assert rung(silent(5000, moved_mib=0.1), terms()) is None


def test_a_paused_vm_whose_link_falls_silent_is_given_up_too() -> None:
    found = rung(silent(31), terms(VmPolicy(), Act.PAUSE_SOURCE))
    assert found is not None
    assert found.code == "migration.stalled"


def test_a_link_that_is_silent_in_post_copy_is_told_and_nothing_is_given_up() -> None:
    in_post_copy = terms(VmPolicy(), Act.START_POST_COPY)
    assert silence(silent(29), in_post_copy) == ""
    assert "none has for 30 s, in post-copy" in silence(silent(31), in_post_copy)
    assert silence(silent(31, moved_mib=0.1), in_post_copy) == ""
    assert rung(silent(31), in_post_copy) is None
    assert silence(silent(31), terms()) == "", "before it, that is a stall"
    broken = terms(VmPolicy(), Act.START_POST_COPY, Act.RECOVER_POST_COPY)
    assert silence(silent(31), broken) == ""
