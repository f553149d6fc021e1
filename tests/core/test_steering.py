"""What people say to an operation under way, and plans made anew: what it changes, and what not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.accounting import account
from furlough.core.admission import Standing, check_target, owned
from furlough.core.agenda import CLOSING_WAVE, agenda
from furlough.core.holding import need_of, needs_approval, unapproved
from furlough.core.inventory import Vm
from furlough.core.journal import CancelRequested, OperationUnblocked, PlanExtended, StepFailed
from furlough.core.operation import Operation, Outcome, RosterEntry
from furlough.core.plan import Before, Method, OperationKind
from furlough.core.policy import ActionOptions, Automation, CancelMode, EnterOptions, OnFailure
from furlough.core.states import HostMode, OperationState, Power, StepState
from furlough.core.steering import (
    OperationPaused,
    OperationResumed,
    StepOvertaken,
    StepsApproved,
)
from furlough.errors import Conflict, Refused
from tests.core.builders import (
    C1,
    H1,
    H2,
    H3,
    NOW,
    a_failure,
    a_plan,
    a_step,
    a_vm,
    after,
    an_inventory,
    an_operation,
    later,
    planned,
    running,
    vm_id,
)

PENDING, STARTED, SUCCEEDED = StepState.PENDING, StepState.STARTED, StepState.SUCCEEDED
FAILED, SKIPPED = StepState.FAILED, StepState.SKIPPED
MODES = {H1: HostMode.ENTERING}


def entering(*states: StepState, **options: object) -> Operation:
    """A guard that stands, moves in these states, a shut-down behind them, and the proof."""
    steps = [a_step(planned(1, Method.RAISE_GUARD), SUCCEEDED)]
    for number, state in enumerate(states, start=2):
        outcome = Outcome.MOVED if state is SUCCEEDED else Outcome.PENDING
        steps.append(a_step(planned(number), state, outcome=outcome))
    last = len(steps) + 1
    steps.append(a_step(planned(last, Method.SHUT_DOWN, wave=2)))
    steps.append(a_step(planned(last + 1, Method.CONFIRM_EMPTY, wave=9)))
    return replace(an_operation(*steps), options=EnterOptions(**options))  # type: ignore[arg-type]


def starting(operation: Operation) -> list[int]:
    return [step.number for step in agenda(operation, MODES, NOW).start]


# --- pause ---------------------------------------------------------------------------------------


def test_a_paused_operation_starts_nothing_and_goes_on_where_it_was() -> None:
    operation = after(entering(PENDING), OperationPaused(by="ann"))
    assert operation.state is OperationState.PAUSED
    assert starting(operation) == []
    assert starting(after(operation, OperationResumed(by="ann"))) == [2]


def test_only_a_paused_operation_is_resumed_from_a_pause() -> None:
    with pytest.raises(Conflict, match="running, not paused"):
        after(entering(PENDING), OperationResumed(by="ann"))


def test_who_says_go_on_is_counted() -> None:
    operation = after(entering(PENDING), OperationUnblocked(), OperationUnblocked(by="ann"))
    assert operation.urged == 1


# --- approval ------------------------------------------------------------------------------------


def test_steps_about_vms_wait_for_approval_and_others_do_not() -> None:
    operation = entering(PENDING, PENDING, automation=Automation.MANUAL)
    todo = agenda(operation, MODES, NOW)
    assert todo.start == ()
    assert todo.need is not None
    assert todo.need.code == "awaiting_approval"
    assert "vm2, vm3, vm4" in todo.need.words
    assert operation.plan.hash in todo.need.words
    some = after(operation, StepsApproved(plan_hash="", steps=(3, 2), by="ann"))
    assert (some.approved, starting(some)) == ((2, 3), [2, 3])
    assert [step.number for step in unapproved(some)] == [4]
    assert agenda(some, MODES, NOW).need is None, "the turn of the last one has not come"


def test_many_who_wait_for_approval_are_not_all_named() -> None:
    operation = entering(*[PENDING] * 8, automation=Automation.MANUAL)
    need = need_of(operation, operation.steps)
    assert need is not None
    assert "vm6 and 4 more" in need.words


def test_only_an_entering_asks_for_approval() -> None:
    operation = replace(an_operation(kind=OperationKind.MIGRATE_VM), options=ActionOptions())
    assert not needs_approval(operation)
    assert need_of(operation, ()) is None


# --- waiting for who has failed ------------------------------------------------------------------


def test_who_has_failed_is_waited_for_and_nobody_is_stopped_meanwhile() -> None:
    operation = entering(FAILED, PENDING, on_failure=OnFailure.WAIT)
    todo = agenda(operation, MODES, NOW)
    assert [step.number for step in todo.start] == [3]
    assert todo.skip == ()
    assert todo.need is not None
    assert todo.need.code == "vm.cannot_leave"
    assert "vm2 on h1: It did not work" in todo.need.words
    alone = entering(FAILED, SUCCEEDED, on_failure=OnFailure.WAIT)
    assert starting(alone) == []


def test_a_failure_without_words_is_named_all_the_same() -> None:
    operation = entering(FAILED, on_failure=OnFailure.WAIT)
    mute = replace(operation.step(2), failure=None)
    steps = (operation.steps[0], mute, *operation.steps[2:])
    need = need_of(replace(operation, steps=steps), ())
    assert need is not None
    assert "vm2 on h1: it failed" in need.words


def test_a_cancel_does_not_wait_for_who_has_failed() -> None:
    operation = entering(FAILED, on_failure=OnFailure.WAIT)
    operation = after(operation, CancelRequested(mode=CancelMode.STOP, by="ann"))
    assert [step.number for step, _ in agenda(operation, MODES, NOW).skip] == [3, 4]


def test_who_was_seen_to_have_left_is_not_waited_for() -> None:
    operation = entering(FAILED, on_failure=OnFailure.WAIT)
    gone = StepOvertaken(step=2, why="somebody moved it", outcome=Outcome.CHANGED_BY_OTHERS,
                         where=H3)  # fmt: skip
    operation = after(operation, gone)
    step = operation.step(2)
    assert (step.state, step.outcome, step.where) == (FAILED, Outcome.CHANGED_BY_OTHERS, H3)
    assert step.notes == ("somebody moved it",)
    assert starting(operation) == [3]


def test_a_step_that_has_not_failed_is_overtaken_by_nothing() -> None:
    gone = StepOvertaken(step=2, why="-", outcome=Outcome.CHANGED_BY_OTHERS)
    with pytest.raises(Conflict, match="nothing overtakes it"):
        after(entering(PENDING), gone)


# --- a plan made anew ----------------------------------------------------------------------------


def anew(*replaces: int) -> PlanExtended:
    fresh = tuple(planned(5 + n, vm=planned(number).vm, targets=[H3])
                  for n, number in enumerate(replaces))  # fmt: skip
    return PlanExtended(
        steps=fresh, roster=(), why="h2 is full", replaces=replaces, changes=("vm2: to h2 -> h3",)
    )


def test_a_step_that_had_not_begun_is_skipped_for_the_one_that_stands_in_for_it() -> None:
    before = entering(PENDING)
    operation = after(before, anew(2), at=later(5))
    old = operation.step(2)
    assert (old.state, old.is_overtaken, old.outcome, old.where) == (
        SKIPPED,
        True,
        Outcome.STAYED,
        H1,
    )
    assert (operation.step(5).state, starting(operation)) == (PENDING, [5])
    (replan,) = operation.replans
    assert (replan.before, replan.after) == (before.plan.hash, operation.plan.hash)
    assert (replan.at, replan.changes) == (later(5), ("vm2: to h2 -> h3",))


def test_a_step_that_had_failed_stays_failed_and_no_longer_counts() -> None:
    operation = after(entering(FAILED), anew(2))
    assert (operation.step(2).state, operation.step(2).is_overtaken) == (FAILED, True)
    assert agenda(operation, MODES, NOW).skip == ()


def test_a_step_that_is_under_way_or_done_is_not_planned_anew() -> None:
    for state in (STARTED, SUCCEEDED):
        with pytest.raises(Conflict, match="it stays"):
            after(entering(state), anew(2))


def test_a_plan_that_only_grows_is_no_plan_made_anew() -> None:
    operation = after(running(a_plan(planned(1))),
                      PlanExtended(steps=(planned(2),), roster=(), why="more"))  # fmt: skip
    assert operation.replans == ()


# --- putting back --------------------------------------------------------------------------------


def over(*moves: StepState, **options: object) -> Operation:
    """The same, with what followed the moves given up."""
    operation = entering(*moves, **options)
    steps = tuple(
        replace(step, state=SKIPPED) if step.state is PENDING else step for step in operation.steps
    )
    return replace(operation, steps=steps)


def test_after_a_failure_those_that_have_left_are_put_back_if_that_was_asked_for() -> None:
    assert agenda(over(SUCCEEDED, FAILED, on_failure=OnFailure.PUT_BACK), MODES, NOW).put_back
    assert not agenda(over(FAILED, on_failure=OnFailure.PUT_BACK), MODES, NOW).put_back
    assert not agenda(over(SUCCEEDED, FAILED), MODES, NOW).put_back
    elsewhere = {H1: HostMode.MAINTENANCE}
    assert not agenda(over(SUCCEEDED, FAILED, on_failure=OnFailure.PUT_BACK), elsewhere,
                      NOW).put_back  # fmt: skip


def test_a_cancel_puts_back_once_and_a_second_one_stops_the_way_back() -> None:
    cancel = CancelRequested(mode=CancelMode.PUT_BACK, by="ann")
    operation = after(over(SUCCEEDED), cancel)
    assert agenda(operation, MODES, NOW).put_back
    home = planned(5, vm=planned(2).vm, source=H2, targets=[H1], wave=CLOSING_WAVE + 1)
    word = planned(6, Method.RAISE_GUARD, wave=CLOSING_WAVE + 9)
    back = PlanExtended(steps=(home, word), roster=(), why="put back")
    operation = after(operation, back)
    assert starting(operation) == [5]
    stopped = after(operation, CancelRequested(mode=CancelMode.STOP, by="ann"))
    assert [step.number for step, _ in agenda(stopped, MODES, NOW).skip] == [5]


def test_who_has_come_back_is_told_so() -> None:
    operation = over(SUCCEEDED, FAILED)
    back = planned(6, vm=planned(2).vm, source=H2, targets=[H1], wave=CLOSING_WAVE + 1)
    steps = (*operation.steps, a_step(back, SUCCEEDED, outcome=Outcome.MOVED))
    ending = agenda(replace(operation, steps=steps), MODES, NOW).ending
    assert ending is not None
    assert "1 put back" in ending.message


def test_a_failed_return_does_not_keep_the_last_word_from_the_guard() -> None:
    operation = after(
        running(a_plan(planned(1, wave=CLOSING_WAVE, targets=[H1], source=H2),
                       planned(2, Method.RAISE_GUARD, wave=CLOSING_WAVE + 9))),
        StepFailed(step=1, failure=a_failure()),
    )  # fmt: skip
    assert starting(operation) == [2]


# --- what becomes of each VM, and whose they are -------------------------------------------------


def test_a_vm_that_has_moved_for_nothing_comes_with_a_way_home() -> None:
    ended = replace(over(SUCCEEDED, FAILED), state=OperationState.FAILED)
    told = {one.name: one for one in account(ended, an_inventory([a_vm(2, host=H2), a_vm(3)]))}
    assert "furlough vm migrate VM --to h1" in told["vm2"].remedy
    assert (told["vm2"].why, told["vm3"].why) == ("", "It did not work.")


def test_who_could_not_be_put_back_is_told_the_way_home_and_who_was_needs_none() -> None:
    for state, is_helped in ((SUCCEEDED, False), (FAILED, True)):
        operation = over(SUCCEEDED, FAILED)
        back = planned(6, vm=planned(2).vm, source=H2, targets=[H1], wave=CLOSING_WAVE + 1)
        ended = replace(operation, steps=(*operation.steps, a_step(back, state)))
        told = {one.name: one for one in account(ended, an_inventory([a_vm(2), a_vm(3)]))}
        assert ("uncordon" in told["vm2"].remedy) is is_helped


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (a_vm(1), Outcome.STAYED),
        (a_vm(1, host=H2), Outcome.CHANGED_BY_OTHERS),
        (a_vm(1, power=Power.SHUT_OFF), Outcome.CHANGED_BY_OTHERS),
        (a_vm(2), Outcome.MISSING),
    ],
)
def test_a_vm_that_people_were_to_move_is_accounted_for_as_it_is_found(
    now: Vm, outcome: Outcome
) -> None:
    before = Before(power=Power.RUNNING)
    entry = RosterEntry(vm=vm_id(1), name="vm1", host=H1, before=before)
    operation = an_operation(roster=[entry])
    (told,) = account(operation, an_inventory([now]))
    assert told.outcome is outcome


def test_an_operation_that_leaves_the_moving_to_people_owns_none_of_the_vms() -> None:
    roster = an_operation(a_step(planned(1))).roster
    assert owned(EnterOptions(automation=Automation.OFF), roster) == ()
    assert owned(EnterOptions(), roster) == (vm_id(1),)


def test_s12_a_host_on_its_way_in_is_a_target_for_those_that_are_put_back_and_no_others() -> None:
    standings = {
        H1: Standing(host=H1, cluster=C1, mode=HostMode.ENTERING, operation=None),
    }
    check_target(OperationKind.ENTER, [H1], H1, standings, home=H1)
    for home in (None, H2):
        with pytest.raises(Refused, match="h1 is entering"):
            check_target(OperationKind.ENTER, [H1], H1, standings, home=home)
    with pytest.raises(Refused, match="h1 is entering"):
        check_target(OperationKind.EXIT, [H1], H1, standings, home=H1)
