"""Operations and steps as they stand: which attempt is next, and what it has cost so far."""

from __future__ import annotations

import pytest

from furlough.core.operation import Act, Attempt
from furlough.core.plan import Method
from furlough.core.states import OperationState, StepState
from tests.core.builders import (
    H2,
    H3,
    NOW,
    a_failure,
    a_step,
    an_attempt,
    an_operation,
    later,
    planned,
)

_FAILED_ON_H2 = an_attempt(H2, failure=a_failure())
_FAILED_ON_H3 = an_attempt(H3, failure=a_failure())


def test_a_step_is_known_by_its_operation_and_its_number() -> None:
    step = a_step(planned(3))
    assert step.id == "op-7.3"
    assert an_operation(a_step(planned(1)), a_step(planned(2)), step).step(3) is step


def test_before_its_first_attempt_a_step_points_to_its_best_target() -> None:
    step = a_step(planned(1, targets=[H2, H3]))
    assert step.target == H2
    assert step.next_target == H2


def test_while_an_attempt_is_under_way_its_target_is_the_one_that_counts() -> None:
    attempts = [_FAILED_ON_H2, an_attempt(H3)]
    step = a_step(planned(1, targets=[H2, H3]), StepState.STARTED, attempts=attempts)
    assert step.target == H3


def test_each_failed_attempt_moves_a_vm_on_to_its_next_ranked_target() -> None:
    step = a_step(planned(1, targets=[H2, H3]), attempts=[_FAILED_ON_H2])
    assert step.target == H2
    assert step.next_target == H3


def test_with_few_targets_the_attempts_go_round_again() -> None:
    step = a_step(planned(1, targets=[H2, H3]), attempts=[_FAILED_ON_H2, _FAILED_ON_H3])
    assert step.next_target == H2


def test_a_crash_of_ours_costs_the_vm_none_of_its_attempts() -> None:
    crashed = an_attempt(H2, failure=a_failure("hypervisor.lost"), counts=False)
    step = a_step(planned(1, targets=[H2, H3]), attempts=[crashed])
    assert step.failed_attempts == 0
    assert step.next_target == H2


def test_a_step_about_a_host_has_no_target_at_all() -> None:
    step = a_step(planned(1, Method.RAISE_GUARD))
    assert step.target is None
    assert step.next_target is None


def test_only_acts_of_the_present_attempt_count_when_it_is_settled() -> None:
    earlier = Attempt(target=H2, epoch=1, started_at=NOW, acts=(Act.RESUME_TARGET,))
    present = Attempt(target=H3, epoch=1, started_at=NOW, acts=(Act.ABORT,))
    assert a_step(planned(1), attempts=[earlier, present]).acts == (Act.ABORT,)
    assert a_step(planned(1)).acts == ()


def test_the_duration_of_a_step_is_that_of_its_last_attempt() -> None:
    attempts = [an_attempt(H2, failure=a_failure()), an_attempt(H3, started_at=later(60))]
    step = a_step(planned(1), StepState.SUCCEEDED, attempts=attempts, ended_at=later(75))
    assert step.duration_s == 15


def test_a_step_that_is_not_over_has_no_duration_yet() -> None:
    assert a_step(planned(1), StepState.STARTED).duration_s is None
    assert a_step(planned(1), StepState.SKIPPED, ended_at=NOW).duration_s is None


@pytest.mark.parametrize("state", list(StepState))
def test_a_step_is_final_when_it_succeeded_failed_or_was_skipped(state: StepState) -> None:
    ends = (StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED)
    assert a_step(planned(1), state).is_final is (state in ends)


@pytest.mark.parametrize("state", list(OperationState))
def test_an_operation_is_final_when_it_has_ended_however(state: OperationState) -> None:
    ends = (OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED)
    assert an_operation(state=state).is_final is (state in ends)
