"""The closing list of an exit: who is not home, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.accounting import account
from furlough.core.ids import HostName
from furlough.core.not_home import NotHome, closing_list, has_arrived, is_incomplete, not_home
from furlough.core.operation import Operation, Outcome, Step
from furlough.core.plan import Method, OperationKind, Unplaced, WhyStays
from furlough.core.states import Power, StepState
from tests.core.builders import (
    H1,
    H2,
    H3,
    a_failure,
    a_step,
    a_vm,
    an_inventory,
    an_operation,
    planned,
    vm_id,
)

EXIT = OperationKind.EXIT


def _coming(
    number: int, state: StepState, *, where: HostName | None = None, **traits: object
) -> Step:
    """A step that brings VM `number` home from h2."""
    step = a_step(planned(number, source=H2, targets=[H1]), state, **traits)  # type: ignore[arg-type]
    return replace(step, where=where)


def _with(operation: Operation, *left: Unplaced) -> Operation:
    return replace(operation, plan=replace(operation.plan, unplaced=left))


def _left(number: int, why: WhyStays = WhyStays.HINDERED, words: str = "no room") -> Unplaced:
    return Unplaced(vm=vm_id(number), vm_name=f"vm{number}", reasons={H1: (words,)}, why=why)


def test_everybody_who_has_no_step_that_ended_at_home_is_on_the_list_with_the_reason() -> None:
    operation = _with(
        an_operation(
            _coming(1, StepState.SUCCEEDED, where=H1),
            _coming(2, StepState.FAILED, failure=a_failure()),
            replace(_coming(3, StepState.SKIPPED), notes=("it moved on",)),
            _coming(4, StepState.PENDING),
            kind=EXIT,
        ),
        _left(5),
        _left(6, WhyStays.POSTPONED, "not wanted"),
    )
    assert [(one.name, one.why, one.stays) for one in not_home(operation)] == [
        ("vm2", "It did not work", WhyStays.HINDERED),
        ("vm3", "it moved on", WhyStays.HINDERED),
        ("vm4", "its turn has not come yet", WhyStays.HINDERED),
        ("vm5", "no room", WhyStays.HINDERED),
        ("vm6", "not wanted", WhyStays.POSTPONED),
    ]
    assert {one.host for one in not_home(operation)} == {H1}


def test_whoever_came_in_the_end_is_home_whatever_the_plan_said_and_failed_before() -> None:
    late = replace(_coming(2, StepState.SUCCEEDED, where=H1), planned=planned(3, vm=vm_id(2)))
    operation = _with(
        an_operation(
            _coming(1, StepState.SUCCEEDED, where=H1),
            _coming(2, StepState.FAILED),
            late,
            kind=EXIT,
        ),
        _left(1),
    )
    assert not_home(operation) == ()
    assert closing_list(operation) == ""
    assert not is_incomplete(operation)


def test_who_was_brought_only_to_a_third_host_is_not_home() -> None:
    parked = _coming(1, StepState.SUCCEEDED, where=H3)
    assert not has_arrived([parked])
    assert [one.vm for one in not_home(an_operation(parked, kind=EXIT))] == [vm_id(1)]


@pytest.mark.parametrize(
    ("outcome", "where", "stays"),
    [
        (Outcome.CHANGED_BY_OTHERS, H3, WhyStays.LET_GO),
        (Outcome.CHANGED_BY_OTHERS, H1, None),
        (Outcome.STOPPED_BY_GUEST, H2, WhyStays.POSTPONED),
        (Outcome.STAYED, H2, WhyStays.HINDERED),
    ],
)
def test_what_others_did_before_its_turn_decides_what_follows(
    outcome: Outcome, where: HostName, stays: WhyStays | None
) -> None:
    operation = an_operation(_coming(1, StepState.SKIPPED, where=where, outcome=outcome), kind=EXIT)
    assert [one.stays for one in not_home(operation)] == ([stays] if stays else [])
    assert is_incomplete(operation) == (stays is WhyStays.HINDERED)


def test_operations_that_bring_nobody_home_have_no_such_list() -> None:
    operation = _with(an_operation(_coming(1, StepState.FAILED)), _left(2))
    assert not_home(operation) == ()
    assert closing_list(operation) == ""


def test_the_ending_names_a_few_and_counts_the_rest() -> None:
    operation = _with(an_operation(kind=EXIT), *(_left(number) for number in range(1, 8)))
    named = "; ".join(f"vm{number} (no room)" for number in range(1, 6))
    assert closing_list(operation) == f"Not home: {named}; and 2 more."


def test_the_ending_of_a_closed_record_names_who_was_on_it() -> None:
    closing = an_operation(kind=OperationKind.CLOSE_RECORD)
    assert closing_list(_with(closing, _left(1), _left(2))) == "Off the record: vm1, vm2."


def test_who_was_left_from_the_first_is_accounted_for_with_what_follows() -> None:
    operation = _with(
        an_operation(_coming(1, StepState.SUCCEEDED, where=H1), kind=EXIT),
        _left(2),
        _left(3, WhyStays.POSTPONED, "it was not selected"),
        _left(4, WhyStays.LET_GO, "somebody moved it"),
    )
    found = {one.name: one for one in account(operation, an_inventory([a_vm(2, host=H2)]))}
    assert (found["vm2"].host, found["vm2"].power) == (H2, Power.RUNNING)
    assert (found["vm3"].host, found["vm3"].power) == (None, None)
    assert (found["vm2"].why, found["vm2"].remedy) == (
        "Not home: no room.",
        "Once that has changed, the next furlough exit h1 brings it home.",
    )
    assert "It stays on record" in found["vm3"].remedy
    by_hand = (
        f"It is off the record: whoever wants it home moves it: furlough vm migrate {vm_id(4)}."
    )
    assert by_hand in found["vm4"].remedy
    assert [one.name for one in found.values()].count("vm1") == 1


def test_a_vm_of_the_roster_is_accounted_for_once() -> None:
    operation = _with(an_operation(_coming(1, StepState.FAILED), kind=EXIT), _left(1))
    assert [one.name for one in account(operation, an_inventory([a_vm(1, host=H2)]))] == ["vm1"]
    assert isinstance(not_home(operation)[0], NotHome)
    assert operation.steps[0].method is Method.LIVE
