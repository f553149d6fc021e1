"""The record of maintenances: who is on it, what closes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.operation import Operation, Step
from furlough.core.plan import Method, OperationKind, Unplaced, WhyStays
from furlough.core.states import OperationState, StepState
from furlough.planning.record import Away, is_closed_by, plan_closing, record_of
from tests.core.builders import H1, H2, H3, a_step, an_operation, planned, vm_id
from tests.planning.test_restore import away

_OVER = OperationState.SUCCEEDED


def _left(why: WhyStays, number: int = 1) -> Unplaced:
    return Unplaced(vm=vm_id(number), vm_name="vm", reasons={H1: ("so it is",)}, why=why)


def _ended(kind: OperationKind, *left: Unplaced, state: OperationState = _OVER) -> Operation:
    """An operation about h1 that is over, its host in service."""
    steps = [] if kind is not OperationKind.EXIT else [_lowered()]
    operation = replace(an_operation(*steps, kind=kind), state=state)
    return replace(operation, plan=replace(operation.plan, unplaced=left))


def _lowered() -> Step:
    return a_step(planned(9, Method.LOWER_GUARD), StepState.SUCCEEDED)


def test_the_record_of_a_host_holds_whom_its_exit_brings_back_by_name() -> None:
    stopped = replace(away(3, home=H3, left_on=H1), was_stopped=True, name="a")
    elsewhere = replace(away(4, home=H1, left_on=H2), was_stopped=True)
    record = [away(2), away(1), stopped, elsewhere, away(5, home=H3)]
    assert [one.name for one in record_of(record, H1)] == ["a", "vm1", "vm2"]


@pytest.mark.parametrize("kind", [OperationKind.EXIT, OperationKind.RESTORE])
@pytest.mark.parametrize(
    ("why", "is_closed"),
    [(WhyStays.HINDERED, False), (WhyStays.POSTPONED, False), (WhyStays.LET_GO, True)],
)
def test_only_whom_others_have_taken_over_is_off_the_record_after_an_exit(
    kind: OperationKind, why: WhyStays, is_closed: bool
) -> None:
    assert is_closed_by(_ended(kind, _left(why)), away(1)) is is_closed


@pytest.mark.parametrize("kind", [OperationKind.EXIT, OperationKind.RESTORE])
def test_who_was_seen_to_be_home_is_off_the_record(kind: OperationKind) -> None:
    assert is_closed_by(_ended(kind), away(1))


def test_a_person_closes_the_record_for_whom_it_was_closed_and_nobody_else() -> None:
    closing = an_operation(kind=OperationKind.CLOSE_RECORD)
    closing = replace(closing, plan=plan_closing(H1, [away(1)]), state=_OVER)
    assert is_closed_by(closing, away(1))
    assert not is_closed_by(closing, away(2)), "it came later"
    assert closing.plan.steps == ()


@pytest.mark.parametrize("kind", [OperationKind.RESTORE, OperationKind.CLOSE_RECORD])
def test_what_was_cancelled_closes_nothing(kind: OperationKind) -> None:
    cancelled = _ended(kind, _left(WhyStays.LET_GO), state=OperationState.CANCELLED)
    assert not is_closed_by(cancelled, away(1))


def test_operations_that_bring_nobody_home_close_nothing() -> None:
    assert not is_closed_by(_ended(OperationKind.CORDON), away(1))


@pytest.mark.parametrize("one", [away(1, home=H2), replace(away(1), was_stopped=True)])
def test_the_record_of_another_host_is_none_of_its_business(one: Away) -> None:
    assert not is_closed_by(_ended(OperationKind.RESTORE), one)
