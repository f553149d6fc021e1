"""The agenda: what an operation does next, what it no longer does, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furlough.core.agenda import CLOSING_WAVE, Agenda, Ending, agenda
from furlough.core.ids import HostName
from furlough.core.journal import (
    CancelRequested,
    Event,
    HostModeChanged,
    OperationEnded,
    PlanExtended,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from furlough.core.operation import Operation, Outcome, Step
from furlough.core.plan import (
    Method,
    OperationKind,
    PlannedStep,
    Unplaced,
    WhyStays,
    numbered,
)
from furlough.core.policy import CancelMode
from furlough.core.states import HostMode, OperationState, StepState
from furlough.planning.planner import LAST_WAVE
from tests.core.builders import (
    H1,
    H2,
    H3,
    NOW,
    a_failure,
    a_plan,
    a_step,
    after,
    an_attempt,
    an_operation,
    later,
    planned,
    repeatable,
    running,
    vm_id,
)

ENTER, EXIT = OperationKind.ENTER, OperationKind.EXIT
PENDING, STARTED, SUCCEEDED = StepState.PENDING, StepState.STARTED, StepState.SUCCEEDED
FAILED, SKIPPED = StepState.FAILED, StepState.SKIPPED
CANCELLING = OperationState.CANCELLING
MODE_DURING = {
    ENTER: HostMode.ENTERING,
    EXIT: HostMode.EXITING,
    OperationKind.CORDON: HostMode.AVAILABLE,
    OperationKind.UNCORDON: HostMode.CORDONED,
}


def _guard(number: int, state: StepState = PENDING, host: HostName = H1) -> Step:
    return a_step(planned(number, Method.RAISE_GUARD, host), state)


def _move(
    number: int,
    state: StepState = PENDING,
    host: HostName = H1,
    *,
    outcome: Outcome = Outcome.PENDING,
    not_before: datetime | None = None,
) -> Step:
    plan = planned(number, Method.LIVE, host, source=host)
    return a_step(plan, state, outcome=outcome, not_before=not_before)


def _come_home(number: int) -> Step:
    return replace(_move(number, SUCCEEDED, outcome=Outcome.MOVED), where=H1)


def _proof(number: int, state: StepState = PENDING, host: HostName = H1) -> Step:
    return a_step(planned(number, Method.CONFIRM_EMPTY, host), state)


def _lowering(number: int, state: StepState = PENDING, host: HostName = H1) -> Step:
    return a_step(planned(number, Method.LOWER_GUARD, host), state)


def _modes(operation: Operation) -> dict[HostName, HostMode]:
    """The modes that the operation's hosts have while it runs."""
    mode = MODE_DURING.get(operation.kind, HostMode.AVAILABLE)
    return dict.fromkeys(operation.hosts, mode)


def _todo(operation: Operation, now: datetime = NOW) -> Agenda:
    return agenda(operation, _modes(operation), now)


def _starting(operation: Operation, now: datetime = NOW) -> list[int]:
    return [step.number for step in _todo(operation, now).start]


def _skipped(operation: Operation) -> dict[int, str]:
    return {step.number: why for step, why in _todo(operation).skip}


def _ending(operation: Operation, modes: Mapping[HostName, HostMode] | None = None) -> Ending:
    ending = agenda(operation, _modes(operation) if modes is None else modes, NOW).ending
    assert ending is not None
    return ending


# --- order -------------------------------------------------------------------------------------


def test_nobody_moves_before_the_guard_is_up() -> None:
    assert _starting(an_operation(_guard(1), _move(2), _move(3), _proof(4))) == [1]
    assert _starting(an_operation(_guard(1, STARTED), _move(2), _proof(3))) == []


def test_behind_the_guard_all_moves_may_start_in_the_order_of_the_plan() -> None:
    assert _starting(an_operation(_guard(1, SUCCEEDED), _move(2), _move(3), _proof(4))) == [2, 3]


def test_a_host_is_proven_empty_only_after_its_last_move_is_over() -> None:
    guard, proof = _guard(1, SUCCEEDED), _proof(4)
    assert _starting(an_operation(guard, _move(2, SUCCEEDED), _move(3, STARTED), proof)) == []
    assert _starting(an_operation(guard, _move(2, SUCCEEDED), _move(3, SKIPPED), proof)) == [4]


def test_hosts_that_are_entered_together_do_not_wait_for_each_other() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED, H1),
        _move(2, PENDING, H1),
        _proof(3, PENDING, H1),
        _guard(4, PENDING, H2),
        _move(5, PENDING, H2),
        _proof(6, PENDING, H2),
        hosts=[H1, H2],
    )
    assert _starting(operation) == [2, 4]


def test_an_exit_admits_its_vms_then_brings_them_home_and_lowers_the_guard_last() -> None:
    def states(*states: StepState) -> Operation:
        guard, move, lowering = states
        return an_operation(_guard(1, guard), _move(2, move), _lowering(3, lowering), kind=EXIT)

    assert _starting(states(PENDING, PENDING, PENDING)) == [1]
    assert _starting(states(SUCCEEDED, PENDING, PENDING)) == [2]
    assert _starting(states(SUCCEEDED, SUCCEEDED, PENDING)) == [3]


def test_vms_that_joined_later_are_moved_before_the_host_is_proven_empty() -> None:
    operation = an_operation(_guard(1, SUCCEEDED), _move(2, SUCCEEDED), _proof(3), _move(4))
    assert _starting(operation) == [4]


# --- time --------------------------------------------------------------------------------------


def test_an_attempt_is_made_again_at_its_time_and_not_before() -> None:
    operation = an_operation(_guard(1, SUCCEEDED), _move(2, not_before=later(5)), _proof(3))
    assert _starting(operation, later(4.9)) == []
    assert _todo(operation).wake_at == later(5)
    assert _starting(operation, later(5)) == [2]


def test_one_vm_that_has_to_wait_holds_up_no_other() -> None:
    operation = an_operation(_guard(1, SUCCEEDED), _move(2, not_before=later(60)), _move(3))
    assert _starting(operation) == [3]


@pytest.mark.parametrize(
    ("deadline", "retry", "wake_at"),
    [
        (None, None, None),
        (later(600), None, later(600)),
        (None, later(5), later(5)),
        (later(600), later(5), later(5)),
        (later(3), later(5), later(3)),
    ],
)
def test_it_asks_again_at_the_next_retry_or_at_the_deadline_whichever_comes_first(
    deadline: datetime | None, retry: datetime | None, wake_at: datetime | None
) -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED), _move(2, STARTED), _move(3, not_before=retry), deadline=deadline
    )
    assert _todo(operation).wake_at == wake_at


@pytest.mark.parametrize("state", [OperationState.QUEUED, OperationState.PAUSED])
def test_an_operation_that_is_queued_or_paused_does_nothing_until_its_deadline(
    state: OperationState,
) -> None:
    operation = an_operation(_guard(1), state=state, deadline=later(60))
    assert _todo(operation) == Agenda(wake_at=later(60))


def test_while_one_step_blocks_the_operation_the_others_go_on() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED), _move(2, STARTED), _move(3), state=OperationState.BLOCKED
    )
    assert _starting(operation) == [3]


# --- what makes no sense any more --------------------------------------------------------------


def test_without_a_guard_nobody_is_moved_and_the_reason_names_the_step() -> None:
    operation = an_operation(_guard(1, FAILED), _move(2), _move(3), _proof(4))
    why = "step op-7.1 (raise_guard) failed"
    assert _skipped(operation) == {2: why, 3: why, 4: why}
    assert _todo(operation).start == ()


def test_a_host_on_which_a_vm_stayed_is_not_proven_empty_and_its_other_vms_still_leave() -> None:
    operation = an_operation(_guard(1, SUCCEEDED), _move(2, FAILED), _move(3), _proof(4))
    assert _skipped(operation) == {4: "step op-7.2 (live) failed"}
    rest = an_operation(_guard(1, SUCCEEDED), _move(2, FAILED), _move(3), _proof(4, SKIPPED))
    assert _starting(rest) == [3]


def test_what_failed_on_one_host_is_no_reason_to_give_up_another() -> None:
    operation = an_operation(
        _guard(1, FAILED, H1),
        _move(2, SKIPPED, H1),
        _guard(3, SUCCEEDED, H2),
        _move(4, PENDING, H2),
        _proof(5, PENDING, H2),
        hosts=[H1, H2],
    )
    assert _skipped(operation) == {}
    assert _starting(operation) == [4]


def test_an_exit_lowers_the_guard_even_if_a_vm_could_not_come_home() -> None:
    operation = an_operation(_guard(1, SUCCEEDED), _move(2, FAILED), _lowering(3), kind=EXIT)
    assert _starting(operation) == [3]


def test_an_exit_that_could_not_admit_its_vms_does_not_lower_the_guard() -> None:
    operation = an_operation(_guard(1, FAILED), _move(2), _lowering(3), kind=EXIT)
    assert set(_skipped(operation)) == {2, 3}


# --- VMs that are stopped and started ----------------------------------------------------------


def _stop(number: int, wave: int, state: StepState = PENDING, **traits: Any) -> Step:
    return a_step(planned(number, Method.SHUT_DOWN, wave=wave), state, **traits)


def _start(number: int, wave: int, state: StepState = PENDING, **traits: Any) -> Step:
    return a_step(planned(number, Method.START, targets=[H1], wave=wave), state, **traits)


def _late_proof(number: int, state: StepState = PENDING) -> Step:
    return a_step(planned(number, Method.CONFIRM_EMPTY, wave=LAST_WAVE), state)


def test_vms_are_stopped_after_the_moves_one_wave_after_the_other() -> None:
    def starting(move: StepState, first: StepState) -> list[int]:
        steps = (_guard(1, SUCCEEDED), _move(2, move), _stop(3, 2, first), _stop(4, 2, first))
        return _starting(an_operation(*steps, _stop(5, 3), _late_proof(6)))

    assert starting(STARTED, PENDING) == []
    assert starting(SUCCEEDED, PENDING) == [3, 4]
    assert starting(SUCCEEDED, STARTED) == []
    assert starting(SUCCEEDED, SUCCEEDED) == [5]


def test_nobody_is_shut_down_for_a_host_that_will_not_be_empty_anyway() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED), _move(2, FAILED), _stop(3, 2), _stop(4, 3), _late_proof(5)
    )
    why = "step op-7.2 (live) failed"
    assert _skipped(operation) == {3: why, 4: why, 5: why}


def test_a_guest_that_ignored_its_shut_down_spares_those_who_matter_more() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED), _stop(2, 2, FAILED), _stop(3, 2), _stop(4, 3), _late_proof(5)
    )
    why = "step op-7.2 (shut_down) failed"
    assert _skipped(operation) == {4: why, 5: why}
    rest = an_operation(
        _guard(1, SUCCEEDED), _stop(2, 2, FAILED), _stop(3, 2), _late_proof(5, SKIPPED)
    )
    assert _starting(rest) == [3], "its own wave was asked together with it"


def test_a_vm_that_cannot_start_holds_up_nobody_and_the_guard_is_lowered() -> None:
    guard, lowering = _guard(1, SUCCEEDED), _lowering(4)
    lowering = replace(lowering, planned=replace(lowering.planned, wave=LAST_WAVE))
    failed = _start(2, 2, FAILED, outcome=Outcome.STAYED)
    assert _starting(an_operation(guard, failed, _start(3, 3), lowering, kind=EXIT)) == [3]
    started = _start(3, 3, SUCCEEDED, outcome=Outcome.STARTED)
    assert _starting(an_operation(guard, failed, started, lowering, kind=EXIT)) == [4]


def test_an_exit_that_could_not_start_everybody_says_so_and_its_host_is_in_service() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _start(2, 2, FAILED, outcome=Outcome.STAYED),
        replace(_start(3, 3, SUCCEEDED, outcome=Outcome.STARTED), where=H1),
        _lowering(4, SUCCEEDED),
        kind=EXIT,
    )
    ending = _ending(operation)
    assert (ending.state, ending.code) == (OperationState.FAILED, "restore_incomplete")
    assert ending.message == "VMs: 1 started, 1 stayed. Not home: vm2 (It did not work)."
    assert ending.modes == {H1: HostMode.AVAILABLE}


def test_a_cancelled_exit_that_has_started_somebody_does_not_look_for_emptiness() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _start(2, 2, SUCCEEDED, outcome=Outcome.STARTED),
        _lowering(3, SKIPPED),
        kind=EXIT,
        state=CANCELLING,
        cancel=CancelMode.STOP,
    )
    assert _closing_plan(operation) == [(4, Method.RAISE_GUARD, H1, 0)]


def test_who_is_left_is_counted_and_the_ending_says_that_there_are_some() -> None:
    proof = a_step(
        planned(2, Method.CONFIRM_EMPTY, wave=LAST_WAVE), FAILED, failure=a_failure("vm.left")
    )
    roster = an_operation(_move(8), _move(9)).roster
    ending = _ending(an_operation(_guard(1, SUCCEEDED), proof, roster=roster))
    assert (ending.state, ending.code) == (OperationState.FAILED, "vm.left")
    assert ending.message == "VMs: 2 left."
    assert ending.modes == {H1: HostMode.CORDONED}


@pytest.mark.parametrize(
    ("state", "modes"),
    [(OperationState.RUNNING, {H1: HostMode.AVAILABLE}), (CANCELLING, {})],
)
def test_a_host_that_never_had_a_guard_is_uncordoned_without_lowering_one(
    state: OperationState, modes: dict[HostName, HostMode]
) -> None:
    operation = an_operation(kind=OperationKind.UNCORDON, state=state, cancel=CancelMode.STOP)
    assert _ending(operation).modes == modes


# --- cancelling --------------------------------------------------------------------------------


def test_cancel_with_stop_aborts_the_migrations_in_flight_and_starts_nothing() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _move(2, SUCCEEDED),
        _move(3, STARTED),
        _move(4),
        state=CANCELLING,
        cancel=CancelMode.STOP,
    )
    todo = _todo(operation)
    assert [step.number for step in todo.abort] == [3]
    assert (todo.start, todo.skip, todo.ending) == ((), (), None)


def test_cancel_with_finish_lets_the_migrations_in_flight_end() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _move(2, STARTED),
        _move(3),
        state=CANCELLING,
        cancel=CancelMode.FINISH,
    )
    assert _todo(operation) == Agenda()


@pytest.mark.parametrize("method", [Method.RAISE_GUARD, Method.SHUT_DOWN, Method.POWER_OFF])
def test_only_migrations_are_aborted_other_steps_in_flight_come_to_their_end(
    method: Method,
) -> None:
    operation = an_operation(
        a_step(planned(1, method), STARTED), state=CANCELLING, cancel=CancelMode.STOP
    )
    assert _todo(operation) == Agenda()


@pytest.mark.parametrize(
    ("has_timed_out", "why"),
    [(False, "the operation was cancelled"), (True, "time is over")],
)
def test_once_nothing_flies_what_has_not_begun_is_skipped_with_the_reason(
    has_timed_out: bool, why: str
) -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _move(2, SUCCEEDED),
        _move(3, not_before=later(5)),
        _proof(4),
        state=CANCELLING,
        cancel=CancelMode.STOP,
        has_timed_out=has_timed_out,
    )
    assert _skipped(operation) == {3: why, 4: why}


# --- endings -----------------------------------------------------------------------------------


def test_an_enter_that_came_through_succeeds_and_leaves_its_host_in_maintenance() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _move(2, SUCCEEDED, outcome=Outcome.MOVED),
        _move(3, SKIPPED, outcome=Outcome.STOPPED_BY_GUEST),
        _move(4, SUCCEEDED, outcome=Outcome.MOVED),
        _proof(5, SUCCEEDED),
    )
    assert _ending(operation, {H1: HostMode.MAINTENANCE}) == Ending(
        state=OperationState.SUCCEEDED,
        code=None,
        message="VMs: 2 moved, 1 stopped by guest.",
        modes={},
    )


def test_an_enter_that_failed_leaves_a_cordoned_host_and_says_who_stayed_and_why() -> None:
    stayed = a_step(planned(2), FAILED, outcome=Outcome.STAYED, failure=a_failure("vm.immovable"))
    moved = _move(3, SUCCEEDED, outcome=Outcome.MOVED)
    ending = _ending(an_operation(_guard(1, SUCCEEDED), stayed, moved, _proof(4, SKIPPED)))
    assert (ending.state, ending.code) == (OperationState.FAILED, "vm.immovable")
    assert ending.message == "VMs: 1 moved, 1 stayed."
    assert ending.modes == {H1: HostMode.CORDONED}


def test_a_cancelled_enter_leaves_a_cordoned_host_and_counts_what_had_moved() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _move(2, SUCCEEDED, outcome=Outcome.MOVED),
        _move(3, SKIPPED, outcome=Outcome.STAYED),
        _proof(4, SKIPPED),
        state=CANCELLING,
        cancel=CancelMode.STOP,
    )
    assert _ending(operation) == Ending(
        state=OperationState.CANCELLED,
        code="cancelled",
        message="Cancelled. VMs: 1 moved, 1 stayed.",
        modes={H1: HostMode.CORDONED},
    )


def test_an_operation_whose_time_was_over_has_failed_and_not_been_cancelled() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _move(2, SKIPPED, outcome=Outcome.STAYED),
        state=CANCELLING,
        cancel=CancelMode.STOP,
        has_timed_out=True,
    )
    ending = _ending(operation)
    assert (ending.state, ending.code) == (OperationState.FAILED, "timed_out")
    assert ending.message == "Time was over. VMs: 1 stayed."


@pytest.mark.parametrize("has_timed_out", [False, True])
def test_a_cancel_that_came_after_the_last_step_changes_nothing_about_the_success(
    has_timed_out: bool,
) -> None:
    """F034: success wins if it was seen before."""
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _move(2, SUCCEEDED, outcome=Outcome.MOVED),
        _proof(3, SUCCEEDED),
        state=CANCELLING,
        cancel=CancelMode.STOP,
        has_timed_out=has_timed_out,
    )
    ending = _ending(operation, {H1: HostMode.MAINTENANCE})
    assert (ending.state, ending.code, ending.modes) == (OperationState.SUCCEEDED, None, {})


def test_of_two_hosts_the_one_that_got_there_stays_in_maintenance_and_the_other_is_cordoned() -> (
    None
):
    operation = an_operation(
        _guard(1, SUCCEEDED, H1),
        _proof(2, SUCCEEDED, H1),
        _guard(3, FAILED, H2),
        _proof(4, SKIPPED, H2),
        hosts=[H1, H2],
    )
    ending = _ending(operation, {H1: HostMode.MAINTENANCE, H2: HostMode.ENTERING})
    assert ending.state is OperationState.FAILED
    assert ending.modes == {H2: HostMode.CORDONED}


def test_an_exit_that_came_through_puts_its_host_back_into_service() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _come_home(2),
        _lowering(3, SUCCEEDED),
        kind=EXIT,
    )
    assert _ending(operation) == Ending(
        state=OperationState.SUCCEEDED,
        code=None,
        message="VMs: 1 moved.",
        modes={H1: HostMode.AVAILABLE},
    )


def test_an_exit_that_could_not_bring_everybody_home_says_so_and_its_host_is_in_service() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _move(2, FAILED, outcome=Outcome.STAYED),
        _lowering(3, SUCCEEDED),
        kind=EXIT,
    )
    ending = _ending(operation)
    assert (ending.state, ending.code) == (OperationState.FAILED, "restore_incomplete")
    assert ending.modes == {H1: HostMode.AVAILABLE}


def test_an_exit_that_failed_for_more_than_its_vms_says_for_what() -> None:
    lowering = a_step(planned(3, Method.LOWER_GUARD), FAILED, failure=a_failure("guard.refused"))
    closing = a_step(planned(4, Method.RAISE_GUARD, wave=CLOSING_WAVE), SUCCEEDED)
    guard, move = _guard(1, SUCCEEDED), _move(2, SUCCEEDED, outcome=Outcome.MOVED)
    alone = an_operation(guard, move, lowering, closing, kind=EXIT)
    assert _ending(alone).code == "guard.refused"
    both = an_operation(guard, _move(2, FAILED), lowering, closing, kind=EXIT)
    assert _ending(both).code == "hypervisor.failed", "that of the first failure"


def test_an_exit_without_anybody_to_bring_home_ends_without_a_word_about_vms() -> None:
    ending = _ending(an_operation(_lowering(1, SUCCEEDED), kind=EXIT))
    assert (ending.state, ending.message) == (OperationState.SUCCEEDED, "")
    assert ending.modes == {H1: HostMode.AVAILABLE}


def test_a_cordon_has_no_steps_and_ends_with_a_cordoned_host() -> None:
    operation = an_operation(kind=OperationKind.CORDON)
    ending = _ending(operation)
    assert (ending.state, ending.message) == (OperationState.SUCCEEDED, "")
    assert ending.modes == {H1: HostMode.CORDONED}


@pytest.mark.parametrize(
    ("lowering", "state", "modes"),
    [
        (SUCCEEDED, OperationState.SUCCEEDED, {H1: HostMode.AVAILABLE}),
        (FAILED, OperationState.FAILED, {}),
    ],
)
def test_a_host_is_uncordoned_only_if_its_guard_was_lowered(
    lowering: StepState, state: OperationState, modes: dict[HostName, HostMode]
) -> None:
    ending = _ending(an_operation(_lowering(1, lowering), kind=OperationKind.UNCORDON))
    assert (ending.state, ending.modes) == (state, modes)


@pytest.mark.parametrize("mode", list(HostMode))
@pytest.mark.parametrize(
    ("kind", "state", "wanted"),
    [
        (OperationKind.CORDON, SUCCEEDED, (HostMode.AVAILABLE, HostMode.CORDONED)),
        (OperationKind.UNCORDON, SUCCEEDED, (HostMode.CORDONED, HostMode.AVAILABLE)),
        (ENTER, FAILED, (HostMode.ENTERING, HostMode.CORDONED)),
        (EXIT, SUCCEEDED, (HostMode.EXITING, HostMode.AVAILABLE)),
    ],
    ids=["cordon", "uncordon", "enter that failed", "exit"],
)
def test_an_ending_changes_the_mode_only_of_a_host_that_is_in_the_mode_it_expects(
    kind: OperationKind,
    state: StepState,
    wanted: tuple[HostMode, HostMode],
    mode: HostMode,
) -> None:
    ending = _ending(an_operation(_lowering(1, state), kind=kind), {H1: mode})
    old, new = wanted
    assert ending.modes == ({H1: new} if mode is old else {})


@pytest.mark.parametrize(
    ("kind", "method", "outcome", "message"),
    [
        (OperationKind.START_VM, Method.START, Outcome.STARTED, "VMs: 1 started."),
        (OperationKind.SHUT_DOWN_VM, Method.SHUT_DOWN, Outcome.STOPPED, "VMs: 1 stopped."),
        (OperationKind.POWER_OFF_VM, Method.POWER_OFF, Outcome.STOPPED, "VMs: 1 stopped."),
        (OperationKind.MIGRATE_VM, Method.LIVE, Outcome.MOVED, "VMs: 1 moved."),
    ],
)
@pytest.mark.parametrize("mode", list(HostMode))
def test_what_is_done_to_one_vm_changes_no_mode_of_a_host(
    kind: OperationKind, method: Method, outcome: Outcome, message: str, mode: HostMode
) -> None:
    operation = an_operation(a_step(planned(1, method), SUCCEEDED, outcome=outcome), kind=kind)
    ending = _ending(operation, {H1: mode})
    assert (ending.state, ending.message) == (OperationState.SUCCEEDED, message)
    assert ending.modes == {}


# --- the exit's closing steps ------------------------------------------------------------------


def _closing_plan(operation: Operation) -> list[tuple[int, Method, HostName, int]]:
    return [
        (step.number, step.method, step.host, step.wave - CLOSING_WAVE)
        for step in _todo(operation).extend
    ]


def _cancelled_exit(*more: Step, moved: bool = False) -> Operation:
    """An exit that was cancelled after its guard had admitted the VMs."""
    move = _move(2, SUCCEEDED, outcome=Outcome.MOVED) if moved else _move(2, SKIPPED)
    return an_operation(
        _guard(1, SUCCEEDED),
        move,
        _lowering(3, SKIPPED),
        *more,
        kind=EXIT,
        state=CANCELLING,
        cancel=CancelMode.STOP,
    )


def _closing_guard(state: StepState = PENDING, not_before: datetime | None = None) -> Step:
    plan = planned(4, Method.RAISE_GUARD, wave=CLOSING_WAVE)
    attempts = [an_attempt(None, failure=a_failure())] if not_before else None
    return a_step(plan, state, not_before=not_before, attempts=attempts)


def _closing_proof(state: StepState = PENDING) -> Step:
    return a_step(planned(5, Method.CONFIRM_EMPTY, wave=CLOSING_WAVE + 1), state)


def test_a_cancelled_exit_takes_back_its_admission_and_looks_whether_the_host_is_still_empty() -> (
    None
):
    assert _closing_plan(_cancelled_exit()) == [
        (4, Method.RAISE_GUARD, H1, 0),
        (5, Method.CONFIRM_EMPTY, H1, 1),
    ]
    assert _todo(_cancelled_exit()).extend[0].admit == ()


def test_a_cancelled_exit_that_has_brought_somebody_home_does_not_look_for_emptiness() -> None:
    assert _closing_plan(_cancelled_exit(moved=True)) == [(4, Method.RAISE_GUARD, H1, 0)]


def test_an_exit_that_could_not_lower_its_guard_takes_back_its_admission() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _move(2, SUCCEEDED, outcome=Outcome.MOVED),
        _lowering(3, FAILED),
        kind=EXIT,
    )
    assert _closing_plan(operation) == [(4, Method.RAISE_GUARD, H1, 0)]


def test_an_exit_that_had_admitted_nobody_looks_whether_the_host_is_still_empty_too() -> None:
    """It goes back to maintenance, which is not claimed without a look (S3)."""
    operation = an_operation(_lowering(1, SKIPPED), kind=EXIT, state=CANCELLING)
    assert _closing_plan(operation) == [
        (2, Method.RAISE_GUARD, H1, 0),
        (3, Method.CONFIRM_EMPTY, H1, 1),
    ]


def test_an_exit_that_could_not_admit_its_vms_puts_the_guard_right_all_the_same() -> None:
    """What its failed attempt has left on the host is not known."""
    operation = an_operation(
        _guard(1, FAILED),
        _move(2, SKIPPED),
        _lowering(3, SKIPPED),
        _closing_guard(),
        _closing_proof(),
        kind=EXIT,
    )
    assert _skipped(operation) == {}
    assert _starting(operation) == [4]


def test_the_closing_steps_are_added_once_and_run_although_the_operation_is_cancelled() -> None:
    operation = _cancelled_exit(_closing_guard(), _closing_proof())
    assert _todo(operation).extend == ()
    assert _todo(operation).skip == ()
    assert _starting(operation) == [4]
    assert _starting(_cancelled_exit(_closing_guard(SUCCEEDED), _closing_proof())) == [5]


def test_a_closing_step_that_has_begun_is_waited_for_and_not_aborted() -> None:
    assert _todo(_cancelled_exit(_closing_guard(STARTED), _closing_proof())) == Agenda()


def test_a_closing_step_that_is_to_be_tried_again_is_waited_for() -> None:
    todo = _todo(_cancelled_exit(_closing_guard(not_before=later(5)), _closing_proof()))
    assert (todo.start, todo.wake_at, todo.ending) == ((), later(5), None)


def test_emptiness_is_not_looked_for_behind_a_guard_that_could_not_be_put_right() -> None:
    operation = _cancelled_exit(_closing_guard(FAILED), _closing_proof())
    assert _skipped(operation) == {5: "step op-7.4 (raise_guard) failed"}


@pytest.mark.parametrize(
    ("proof", "mode", "modes"),
    [
        (SUCCEEDED, HostMode.MAINTENANCE, {}),
        (FAILED, HostMode.EXITING, {H1: HostMode.CORDONED}),
    ],
)
def test_a_cancelled_exit_goes_back_to_maintenance_only_if_the_host_was_seen_empty(
    proof: StepState, mode: HostMode, modes: dict[HostName, HostMode]
) -> None:
    operation = _cancelled_exit(_closing_guard(SUCCEEDED), _closing_proof(proof))
    ending = _ending(operation, {H1: mode})
    assert ending.state is OperationState.CANCELLED
    assert ending.modes == modes


@pytest.mark.parametrize(
    ("move", "lowering"),
    [(FAILED, SKIPPED), (SKIPPED, FAILED)],
    ids=["a migration home was aborted", "the guard could not be lowered"],
)
def test_after_a_failure_too_an_exit_looks_whether_the_host_is_still_empty(
    move: StepState, lowering: StepState
) -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED),
        _move(2, move, outcome=Outcome.STAYED),
        _lowering(3, lowering),
        _closing_guard(SUCCEEDED),
        _closing_proof(),
        kind=EXIT,
        state=CANCELLING,
        cancel=CancelMode.STOP,
    )
    assert _skipped(operation) == {}
    assert _starting(operation) == [5]


# --- playing whole operations ------------------------------------------------------------------


def _plan_of(kind: OperationKind, hosts: Sequence[HostName], vms: int) -> list[PlannedStep]:
    """A plan as the planner makes it: guard, moves, and the last step of that kind."""
    steps: list[PlannedStep] = []
    last = Method.CONFIRM_EMPTY if kind is ENTER else Method.LOWER_GUARD
    for host in hosts:
        power = Method.SHUT_DOWN if kind is ENTER else Method.START
        methods = [(Method.RAISE_GUARD, 0), *[(Method.LIVE, 1)] * vms]
        methods += [(power, 2 + number) for number in range(vms)] + [(last, LAST_WAVE)]
        for method, wave in methods:
            number = len(steps) + 1
            steps.append(planned(number, method, host, source=H3, targets=[H2, H3], wave=wave))
    return steps


class _Play:
    """Plays an operation as the engine does, with whatever outcomes the test draws, and checks
    after each round what must hold in every one of them."""

    def __init__(self, operation: Operation, draw: st.DataObject) -> None:
        self.operation = operation
        self.modes = _modes(operation)
        self.now = NOW
        self._draw = draw

    def round(self) -> bool:
        """One round; whether there is another."""
        todo = agenda(self.operation, self.modes, self.now)
        if todo.ending is not None:
            self._end(todo.ending)
            return False
        if todo.skip or todo.extend:
            skips: list[Event] = [StepSkipped(step=one.number, why=why) for one, why in todo.skip]
            extension = PlanExtended(steps=todo.extend, roster=(), why="closing")
            self._record(*skips, *([extension] if todo.extend else []))
            return True
        if todo.put_back:
            self._record(PlanExtended(steps=self._way_back(), roster=(), why="put back"))
            return True
        for step in todo.start:
            self._check_start(step)
            self._record(StepStarted(step=step.number, target=step.next_target, epoch=1))
        flying = [step for step in self.operation.steps if step.state is STARTED]
        if flying:
            self._conclude(self._draw.draw(st.sampled_from(flying)))
        else:
            assert todo.wake_at is not None, "nothing to do, nothing to wait for, and no end"
            assert todo.wake_at > self.now, "it would ask again at once, for ever"
            self.now = todo.wake_at
        return True

    def _way_back(self) -> tuple[PlannedStep, ...]:
        """As the planner makes it: who has left comes home, behind an admission that ends."""
        steps: list[PlannedStep] = []
        for host in self.operation.hosts:
            if self.modes[host] is not HostMode.ENTERING:
                continue
            moved = [
                step
                for step in self.operation.steps
                if step.outcome is Outcome.MOVED and step.planned.host == host
            ]
            guard = planned(1, Method.RAISE_GUARD, host, wave=CLOSING_WAVE)
            homes = [
                planned(1, Method.LIVE, host, vm=one.planned.vm, source=H2, targets=[host], wave=11)
                for one in moved
            ]
            steps += [guard, *homes, replace(guard, wave=CLOSING_WAVE + LAST_WAVE)]
        return numbered(tuple(steps), first=len(self.operation.steps) + 1)

    def cancel(self, mode: CancelMode) -> None:
        self._record(CancelRequested(mode=mode, by="ann"))

    def _record(self, *events: Event) -> None:
        self.operation = after(self.operation, *events, at=self.now)

    def _check_start(self, step: Step) -> None:
        for other in self.operation.steps:
            if other.planned.host == step.planned.host:
                assert other.is_final or other.planned.wave >= step.planned.wave
                guardless = other.method is Method.RAISE_GUARD and other.state is FAILED
                assert not (guardless and step.method in (Method.LIVE, Method.SHUT_DOWN))
                stayed = other.method is Method.LIVE and other.state is FAILED
                assert not (stayed and step.method is Method.SHUT_DOWN)
        is_closing = step.planned.wave >= CLOSING_WAVE
        assert is_closing or self.operation.state is not CANCELLING

    def _conclude(self, step: Step) -> None:
        again = step.failed_attempts < 2 and self.operation.state is not CANCELLING
        ways = ["succeeds", "fails"] + (["fails for now"] if again else [])
        match self._draw.draw(st.sampled_from(ways)):
            case "succeeds":
                outcome = _OUTCOMES.get(step.method, Outcome.PENDING)
                self._record(StepSucceeded(step=step.number, outcome=outcome))
                if step.method is Method.CONFIRM_EMPTY:
                    self._change(step.planned.host, HostMode.MAINTENANCE)
            case "fails":
                self._record(StepFailed(step=step.number, failure=a_failure()))
            case _:
                when = self.now + timedelta(seconds=5)
                self._record(StepFailed(step=step.number, failure=a_failure(), not_before=when))

    def _change(self, host: HostName, mode: HostMode) -> None:
        self._record(HostModeChanged(host=host, before=self.modes[host], after=mode))
        self.modes[host] = mode

    def _end(self, ending: Ending) -> None:
        for host, mode in ending.modes.items():
            self._change(host, mode)
        end = OperationEnded(state=ending.state, code=ending.code, message=ending.message)
        self._record(end)
        assert all(step.is_final for step in self.operation.steps)
        resting = {HostMode.AVAILABLE, HostMode.CORDONED, HostMode.MAINTENANCE}
        assert set(self.modes.values()) <= resting, "a host is left on its way"


_OUTCOMES = {
    Method.LIVE: Outcome.MOVED,
    Method.SHUT_DOWN: Outcome.STOPPED,
    Method.START: Outcome.STARTED,
}
_KINDS = st.sampled_from([ENTER, EXIT])
_HOSTS = st.sampled_from([(H1,), (H1, H2)])


@settings(repeatable, max_examples=80)
@given(kind=_KINDS, hosts=_HOSTS, vms=st.integers(0, 3), draw=st.data())
def test_every_operation_ends_whatever_becomes_of_its_steps(
    kind: OperationKind, hosts: tuple[HostName, ...], vms: int, draw: st.DataObject
) -> None:
    """L1; and no step begins before the earlier waves of its host are over, nobody moves without
    a guard, every ending is one that the journal takes, and no host is left on its way."""
    play = _Play(running(a_plan(*_plan_of(kind, hosts, vms), kind=kind, hosts=hosts)), draw)
    for _ in range(100):
        if not play.round():
            return
    pytest.fail("it does not come to an end")


@settings(repeatable, max_examples=80)
@given(
    kind=_KINDS,
    hosts=_HOSTS,
    vms=st.integers(0, 3),
    mode=st.sampled_from(CancelMode),
    rounds=st.integers(0, 12),
    draw=st.data(),
)
def test_every_cancelled_operation_ends_and_starts_nothing_but_what_closes_it(
    kind: OperationKind,
    hosts: tuple[HostName, ...],
    vms: int,
    mode: CancelMode,
    rounds: int,
    draw: st.DataObject,
) -> None:
    """L3, at every point of its way."""
    play = _Play(running(a_plan(*_plan_of(kind, hosts, vms), kind=kind, hosts=hosts)), draw)
    for number in range(100):
        if number == rounds:
            play.cancel(mode)
        if not play.round():
            return
    pytest.fail("it does not come to an end")


def test_a_closing_step_is_tried_again_once_its_time_has_come() -> None:
    operation = _cancelled_exit(_closing_guard(not_before=later(5)), _closing_proof())
    assert _starting(operation, later(5)) == [4]


def test_a_vm_that_came_home_to_one_host_does_not_keep_another_from_being_looked_at() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED, H1),
        _move(2, SUCCEEDED, H1, outcome=Outcome.MOVED),
        _lowering(3, SKIPPED, H1),
        _guard(4, SUCCEEDED, H2),
        _move(5, SKIPPED, H2),
        _lowering(6, SKIPPED, H2),
        kind=EXIT,
        hosts=[H1, H2],
        state=CANCELLING,
        cancel=CancelMode.STOP,
    )
    looks = [one.host for one in _todo(operation).extend if one.method is Method.CONFIRM_EMPTY]
    assert looks == [H2]


@pytest.mark.parametrize("has_timed_out", [False, True])
def test_a_cordon_that_was_cancelled_does_not_cordon(has_timed_out: bool) -> None:
    operation = an_operation(
        kind=OperationKind.CORDON,
        state=CANCELLING,
        cancel=CancelMode.STOP,
        has_timed_out=has_timed_out,
    )
    assert _ending(operation).modes == {}


def test_the_ending_of_a_blocked_operation_is_one_that_the_journal_takes() -> None:
    operation = an_operation(
        _guard(1, SUCCEEDED), _proof(2, SUCCEEDED), state=OperationState.BLOCKED
    )
    ending = _ending(operation, {H1: HostMode.MAINTENANCE})
    assert after(operation, OperationEnded(state=ending.state)).is_final


# --- steps that come after others --------------------------------------------------------------


def _later(number: int, *after: int, state: StepState = PENDING, host: HostName = H2) -> Step:
    step = _move(number, state, host)
    return replace(step, planned=replace(step.planned, after=after))


@pytest.mark.parametrize("state", [PENDING, STARTED])
def test_a_step_waits_for_those_it_comes_after_also_for_those_of_other_hosts(
    state: StepState,
) -> None:
    operation = an_operation(
        _move(1, state, H1), _later(2, 1), hosts=[H1, H2], kind=OperationKind.RESTORE
    )
    todo = agenda(operation, {}, NOW)
    assert [step.number for step in todo.start] == ([1] if state is PENDING else [])
    assert todo.skip == ()


def test_once_all_that_it_comes_after_have_come_through_it_may_start() -> None:
    operation = an_operation(
        _move(1, SUCCEEDED, H1),
        _move(2, SUCCEEDED, H2),
        _later(3, 1, 2),
        hosts=[H1, H2],
        kind=OperationKind.RESTORE,
    )
    assert [step.number for step in agenda(operation, {}, NOW).start] == [3]


@pytest.mark.parametrize("state", [FAILED, SKIPPED])
def test_a_step_after_one_that_did_not_come_through_is_skipped_once(state: StepState) -> None:
    """Also where another step of its host has failed for which it would be skipped as well."""
    operation = an_operation(
        _move(1, state, H1),
        _guard(2, FAILED, H2),
        _later(3, 1),
        hosts=[H1, H2],
        kind=OperationKind.RESTORE,
    )
    ((step, why),) = agenda(operation, {}, NOW).skip
    assert (step.number, why) == (3, "step op-7.1 (VM vm1) did not come through")


def test_a_restore_is_incomplete_where_somebody_who_was_meant_to_come_is_not_home() -> None:
    kind = OperationKind.RESTORE
    ending = _ending(an_operation(_come_home(1), kind=kind))
    assert (ending.state, ending.message) == (OperationState.SUCCEEDED, "VMs: 1 moved.")
    ending = _ending(an_operation(_come_home(1), _move(2, FAILED), kind=kind))
    assert (ending.state, ending.code) == (OperationState.FAILED, "restore_incomplete")
    assert ending.modes == {}, "it stays in service"


def test_a_step_that_failed_before_another_one_brought_its_vm_home_spoils_nothing() -> None:
    late = replace(_come_home(2), planned=replace(_come_home(2).planned, vm=vm_id(1)))
    ending = _ending(an_operation(_move(1, FAILED), late, kind=OperationKind.RESTORE))
    assert (ending.state, ending.message) == (OperationState.SUCCEEDED, "VMs: 1 moved.")


def test_a_record_is_closed_at_once_and_its_host_stays_as_it_is() -> None:
    closing = an_operation(kind=OperationKind.CLOSE_RECORD)
    left = Unplaced(vm=vm_id(1), vm_name="vm1", reasons={H1: ("closed",)}, why=WhyStays.LET_GO)
    closing = replace(closing, plan=replace(closing.plan, unplaced=(left,)))
    ending = _ending(closing, {H1: HostMode.MAINTENANCE})
    assert (ending.state, ending.message) == (OperationState.SUCCEEDED, "Off the record: vm1.")
    assert ending.modes == {}
