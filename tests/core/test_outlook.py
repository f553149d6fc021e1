"""The outlook: progress that never runs backwards out of its bounds, and an honest range."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.ids import HostName
from furlough.core.operation import Operation, Step
from furlough.core.outlook import Copied, Outlook, outlook
from furlough.core.plan import Method
from furlough.core.states import OperationState, StepState
from furlough.core.timing import PROOF, Range
from tests.core.builders import (
    H1,
    H2,
    NOW,
    a_plan,
    a_step,
    an_operation,
    later,
    planned,
    repeatable,
)

MIB = 2**20


def _moving(*states: StepState) -> Operation:
    """An operation that moves 1000 MiB for each of these states; planned for 10 to 20 s."""
    steps = [
        a_step(planned(number, sent_mib=1000), state) for number, state in enumerate(states, 1)
    ]
    plan = replace(a_plan(*(step.planned for step in steps)), eta=Range(low=10, high=20))
    return an_operation(*steps, plan=plan)


def test_before_anything_has_moved_the_plans_own_range_is_told() -> None:
    told = outlook(_moving(StepState.PENDING, StepState.PENDING), {}, later(5))
    assert told == Outlook(
        percent=0, eta=Range(low=10, high=20), bytes_done=0, bytes_total=2000 * MIB
    )


def test_an_operation_that_nobody_has_begun_has_the_range_of_its_plan() -> None:
    waiting = replace(_moving(StepState.PENDING), started_at=None, state=OperationState.QUEUED)
    assert outlook(waiting, {}, later(500)).eta == Range(low=10, high=20)


def test_memory_counts_as_done_when_it_is_no_longer_left_to_send() -> None:
    operation = _moving(StepState.STARTED, StepState.PENDING)
    told = outlook(operation, {1: Copied(remaining_mib=250, sent_mib=900)}, later(5))
    assert told.percent == 37
    assert told.bytes_done == 750 * MIB


def test_memory_that_is_sent_again_and_again_does_not_count_twice() -> None:
    operation = _moving(StepState.STARTED)
    told = outlook(operation, {1: Copied(remaining_mib=900, sent_mib=50_000)}, later(60))
    assert told.percent == 10


def test_a_migration_that_has_more_to_send_than_was_planned_has_done_nothing_yet() -> None:
    operation = _moving(StepState.STARTED)
    told = outlook(operation, {1: Copied(remaining_mib=4000, sent_mib=10)}, NOW)
    assert (told.percent, told.bytes_done) == (0, 0)


def test_a_started_step_of_which_nothing_is_known_counts_as_not_begun() -> None:
    assert outlook(_moving(StepState.STARTED), {}, later(5)).percent == 0


def test_what_a_dead_attempt_had_copied_is_not_counted_for_the_next() -> None:
    operation = _moving(StepState.PENDING)
    assert outlook(operation, {1: Copied(remaining_mib=10, sent_mib=990)}, NOW).percent == 0


@pytest.mark.parametrize("sent_mib", [3000, 200])
def test_what_a_step_really_sent_is_in_the_bytes_and_does_not_turn_progress_back(
    sent_mib: int,
) -> None:
    moved = a_step(planned(1, sent_mib=1000), StepState.SUCCEEDED, sent_mib=sent_mib)
    rest = a_step(planned(2, sent_mib=1000))
    told = outlook(an_operation(moved, rest), {}, NOW)
    assert told.percent == 50
    assert told.bytes_total == (sent_mib + 1000) * MIB


@pytest.mark.parametrize("state", [StepState.SKIPPED, StepState.FAILED])
def test_memory_that_was_never_sent_is_not_among_the_bytes_done(state: StepState) -> None:
    told = outlook(_moving(StepState.SUCCEEDED, state), {}, later(5))
    assert told.bytes_done == 1000 * MIB


@pytest.mark.parametrize(
    ("state", "percent"),
    [
        (OperationState.SUCCEEDED, 100),
        (OperationState.FAILED, 50),
        (OperationState.CANCELLED, 50),
    ],
)
def test_only_an_operation_that_succeeded_is_a_hundred_percent_and_none_that_is_over_has_time_left(
    state: OperationState, percent: int
) -> None:
    over = replace(_moving(StepState.SUCCEEDED, StepState.SKIPPED), state=state)
    told = outlook(over, {}, later(5))
    assert (told.percent, told.eta) == (percent, None)
    assert outlook(_moving(StepState.SUCCEEDED), {}, later(5)).percent == 99


def test_an_operation_without_memory_to_move_is_at_zero_until_it_is_over() -> None:
    operation = an_operation(a_step(planned(1, Method.RAISE_GUARD), StepState.SUCCEEDED))
    assert outlook(operation, {}, later(5)).percent == 0


def test_the_time_left_follows_from_what_was_moved_in_the_time_that_has_passed() -> None:
    operation = _moving(StepState.SUCCEEDED, StepState.STARTED)
    told = outlook(operation, {}, later(100))
    assert told.eta == Range(low=80, high=130)


def test_the_first_bytes_do_not_make_the_time_left_leap() -> None:
    """A hundredth is copied in the first second: at that pace it would take a hundred."""
    operation = _moving(StepState.STARTED)
    eta = outlook(operation, {1: Copied(remaining_mib=990, sent_mib=10)}, later(1)).eta
    assert eta is not None
    assert 10 <= eta.low <= eta.high <= 30


def test_the_time_left_grows_slowly_where_all_stands_still() -> None:
    operation = _moving(StepState.STARTED)
    highs = []
    for seconds in range(0, 60, 5):
        eta = outlook(operation, {1: Copied(remaining_mib=1000, sent_mib=0)}, later(seconds)).eta
        assert eta is not None
        highs.append(eta.high)
    assert highs[0] == highs[2] == 20
    assert highs == sorted(highs)
    assert highs[-1] > 500


def test_a_move_that_goes_as_planned_has_less_and_less_time_left() -> None:
    operation = _moving(StepState.STARTED)
    before = 20.0
    for seconds in range(1, 15):
        remaining = round(1000 * (1 - seconds / 15))
        live = {1: Copied(remaining_mib=remaining, sent_mib=0)}
        eta = outlook(operation, live, later(seconds)).eta
        assert eta is not None
        assert eta.low <= 15 - seconds <= eta.high < before
        before = eta.high


def test_the_proof_that_a_host_is_empty_takes_its_time_after_the_moves() -> None:
    move = a_step(planned(1, sent_mib=1000), StepState.SUCCEEDED, sent_mib=1000)
    proof = planned(2, Method.CONFIRM_EMPTY)
    plan = replace(a_plan(move.planned, proof), eta=Range(low=10, high=20))
    under_way = an_operation(move, a_step(proof), plan=plan)
    assert outlook(under_way, {}, later(15)).eta == PROOF
    before = an_operation(a_step(planned(1, sent_mib=1000)), a_step(proof), plan=plan)
    assert outlook(before, {}, NOW).eta == Range(low=10, high=20)


_STATES = st.lists(st.sampled_from(StepState), min_size=1, max_size=6)
_COPIED = st.builds(Copied, remaining_mib=st.integers(0, 5000), sent_mib=st.integers(0, 10**6))


@repeatable
@given(_STATES, st.dictionaries(st.integers(1, 6), _COPIED), st.floats(0, 10**6))
def test_progress_and_range_stay_within_their_bounds(
    states: list[StepState], live: dict[int, Copied], elapsed_s: float
) -> None:
    told = outlook(_moving(*states), live, later(elapsed_s))
    assert 0 <= told.percent <= 99
    assert 0 <= told.bytes_done <= told.bytes_total
    assert told.eta is not None
    assert 0 <= told.eta.low <= told.eta.high


@repeatable
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_the_less_is_left_to_send_the_further_it_is(one: int, other: int) -> None:
    less, more = sorted((one, other))
    operation = _moving(StepState.STARTED, StepState.PENDING)

    def percent(remaining_mib: int) -> int:
        return outlook(operation, {1: Copied(remaining_mib=remaining_mib, sent_mib=0)}, NOW).percent

    assert percent(less) >= percent(more)


def test_a_clock_that_was_set_back_does_not_make_the_time_left_negative() -> None:
    told = outlook(_moving(StepState.SUCCEEDED, StepState.PENDING), {}, later(-3600))
    assert told.eta is not None
    assert 0 <= told.eta.low <= told.eta.high


# --- VMs that are stopped ----------------------------------------------------------------------


def _stop(number: int, state: StepState = StepState.PENDING, *, host: HostName = H1) -> Step:
    """A shut-down of its own wave that usually takes 20 s and may take 90 s."""
    step = planned(number, Method.SHUT_DOWN, host, wave=number)
    return a_step(replace(step, duration_s=20.0, grace_s=90.0), state)


def test_where_no_memory_is_sent_the_steps_are_counted() -> None:
    operation = an_operation(
        _stop(2, StepState.SUCCEEDED), _stop(3), _stop(4, StepState.SKIPPED), _stop(5)
    )
    assert outlook(operation, {}, NOW).percent == 50
    assert outlook(an_operation(), {}, NOW).percent == 0


def test_those_that_are_left_to_be_stopped_count_in_the_time_that_is_left() -> None:
    moved = a_step(planned(1, sent_mib=1000), StepState.SUCCEEDED, sent_mib=1000)
    elsewhere = _stop(9, host=H2)
    operation = an_operation(
        moved, _stop(2, StepState.STARTED), _stop(3, StepState.STARTED), elsewhere
    )
    eta = outlook(operation, {}, later(60)).eta
    assert eta is not None
    assert eta.low == 40
    assert eta.high == 180
    done = an_operation(moved, _stop(2, StepState.SUCCEEDED))
    assert outlook(done, {}, later(60)).eta == Range(low=0.0, high=0.0)
