"""Accounting: no VM is left out, and each comes with what was tried and what can be done (S2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.accounting import account
from furlough.core.operation import Outcome
from furlough.core.plan import Method, OperationKind, Unplaced
from furlough.core.states import OperationState, Power, StepState
from tests.core.builders import (
    H1,
    H2,
    H3,
    a_failure,
    a_step,
    a_vm,
    an_attempt,
    an_inventory,
    an_operation,
    planned,
    vm_id,
)


def test_every_vm_of_the_operation_is_in_the_account_once() -> None:
    operation = an_operation(
        a_step(planned(1), StepState.SUCCEEDED, outcome=Outcome.MOVED),
        a_step(planned(2), StepState.SKIPPED, outcome=Outcome.STAYED),
    )
    inventory = an_inventory([a_vm(1, host=H2), a_vm(2, host=H1), a_vm(3)])
    entries = account(operation, inventory)
    assert [(one.vm, one.host, one.outcome) for one in entries] == [
        (vm_id(1), H2, Outcome.MOVED),
        (vm_id(2), H1, Outcome.STAYED),
    ]


def test_who_made_room_in_vain_is_told_how_it_comes_back_to_where_it_was() -> None:
    """It was on h2, and the maintenance of h1 did not come about."""
    made = replace(planned(1, targets=[H3]), source=H2)
    operation = an_operation(
        a_step(made, StepState.SUCCEEDED, outcome=Outcome.MOVED),
        a_step(planned(2), StepState.SKIPPED, outcome=Outcome.STAYED),
        state=OperationState.FAILED,
    )
    roster = [replace(one, host=H2) if one.vm == vm_id(1) else one for one in operation.roster]
    operation = replace(operation, roster=tuple(roster))
    entry, _ = account(operation, an_inventory([a_vm(1, host=H3), a_vm(2)]))
    assert f"furlough vm migrate {vm_id(1)} --to h2" in entry.remedy
    assert "made room" in entry.remedy


def test_a_vm_is_shown_where_it_is_now_and_not_where_it_was_left() -> None:
    operation = an_operation(a_step(planned(1), StepState.SUCCEEDED, outcome=Outcome.MOVED))
    (entry,) = account(operation, an_inventory([a_vm(1, host=H3, power=Power.PAUSED)]))
    assert (entry.host, entry.power) == (H3, Power.PAUSED)


def test_a_vm_that_no_host_lists_any_more_is_still_accounted_for() -> None:
    operation = an_operation(a_step(planned(1), StepState.FAILED, outcome=Outcome.MISSING))
    (entry,) = account(operation, an_inventory())
    assert (entry.name, entry.host, entry.power) == ("vm1", None, None)
    assert "before h1 lost it" in entry.remedy


def test_all_attempts_of_all_steps_of_a_vm_are_listed() -> None:
    tries = [an_attempt(H2, failure=a_failure()), an_attempt(H3)]
    again = [an_attempt(H2)]
    operation = an_operation(
        a_step(planned(1), StepState.SUCCEEDED, outcome=Outcome.MOVED, attempts=tries),
        a_step(planned(2, vm=vm_id(1)), StepState.SUCCEEDED, outcome=Outcome.MOVED, attempts=again),
        roster=an_operation(a_step(planned(1))).roster,
    )
    (entry,) = account(operation, an_inventory([a_vm(1, host=H2)]))
    assert [attempt.target for attempt in entry.attempts] == [H2, H3, H2]


def test_a_vm_that_came_back_is_accounted_for_by_its_last_step() -> None:
    operation = an_operation(
        a_step(planned(1), StepState.SUCCEEDED, outcome=Outcome.MOVED),
        a_step(planned(2, vm=vm_id(1)), StepState.FAILED, outcome=Outcome.DIED),
        roster=an_operation(a_step(planned(1))).roster,
    )
    (entry,) = account(operation, an_inventory())
    assert entry.outcome is Outcome.DIED


def test_a_vm_about_which_nothing_was_done_has_stayed() -> None:
    roster = an_operation(a_step(planned(1))).roster
    (entry,) = account(an_operation(roster=roster), an_inventory([a_vm(1)]))
    assert (entry.outcome, entry.attempts, entry.remedy) == (Outcome.STAYED, (), "")


def test_a_vm_that_was_left_as_its_policy_says_comes_with_what_a_person_can_do() -> None:
    operation = an_operation(roster=an_operation(a_step(planned(1))).roster)
    left = Unplaced(vm=vm_id(1), vm_name="vm1", reasons={H1: ("its policy says leave",)})
    operation = replace(operation, plan=replace(operation.plan, unplaced=(left,)))
    (entry,) = account(operation, an_inventory([a_vm(1)]))
    assert entry.outcome is Outcome.STAYED
    assert f"furlough vm set {vm_id(1)}" in entry.remedy


@pytest.mark.parametrize("state", [OperationState.FAILED, OperationState.CANCELLED])
def test_a_vm_that_was_stopped_in_vain_comes_with_how_to_start_it(state: OperationState) -> None:
    step = a_step(planned(1, Method.SHUT_DOWN), StepState.SUCCEEDED, outcome=Outcome.STOPPED)
    inventory = an_inventory([a_vm(1, power=Power.SHUT_OFF)])
    (entry,) = account(an_operation(step, state=state), inventory)
    assert "the next exit of h1 starts it" in entry.remedy
    assert f"furlough vm start {vm_id(1)}" in entry.remedy


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (OperationKind.ENTER, OperationState.RUNNING),
        (OperationKind.ENTER, OperationState.SUCCEEDED),
        (OperationKind.SHUT_DOWN_VM, OperationState.CANCELLED),
    ],
)
def test_a_vm_that_was_stopped_for_good_reason_needs_no_advice(
    kind: OperationKind, state: OperationState
) -> None:
    step = a_step(planned(1, Method.SHUT_DOWN), StepState.SUCCEEDED, outcome=Outcome.STOPPED)
    inventory = an_inventory([a_vm(1, power=Power.SHUT_OFF)])
    (entry,) = account(an_operation(step, kind=kind, state=state), inventory)
    assert entry.remedy == ""


def test_what_the_failure_says_can_be_done_goes_before_the_general_advice() -> None:
    failure = a_failure("target.refused", remedy="Give h2 the network dmz.")
    operation = an_operation(
        a_step(planned(1), StepState.FAILED, outcome=Outcome.STAYED, failure=failure)
    )
    (entry,) = account(operation, an_inventory([a_vm(1)]))
    assert entry.remedy == "Give h2 the network dmz."


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome.STAYED, "furlough vm migrate"),
        (Outcome.STOPPED_BY_GUEST, f"furlough vm start {vm_id(1)}"),
        (Outcome.DIED, "its log on h1"),
        (Outcome.MISSING, "No host knows it"),
        (Outcome.CHANGED_BY_OTHERS, "Somebody else changed it"),
    ],
)
def test_each_way_of_not_ending_as_planned_comes_with_something_to_do(
    outcome: Outcome, words: str
) -> None:
    operation = an_operation(a_step(planned(1), StepState.FAILED, outcome=outcome))
    (entry,) = account(operation, an_inventory())
    assert words in entry.remedy


@pytest.mark.parametrize(
    "outcome", [Outcome.PENDING, Outcome.MOVED, Outcome.STARTED, Outcome.STOPPED]
)
def test_a_vm_that_went_as_planned_needs_no_advice(outcome: Outcome) -> None:
    operation = an_operation(a_step(planned(1), StepState.SUCCEEDED, outcome=outcome))
    (entry,) = account(operation, an_inventory([a_vm(1)]))
    assert entry.remedy == ""


def test_a_name_with_braces_in_it_does_no_harm_to_the_advice() -> None:
    operation = an_operation(a_step(planned(1), StepState.FAILED, outcome=Outcome.DIED))
    (entry,) = account(operation, an_inventory([a_vm(1, name="{host.__class__}")]))
    assert "furlough vm start" in entry.remedy
