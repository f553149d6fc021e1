"""The transition tables are those of the design, written here a second time, by hand."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import product

import pytest

from furlough.core.states import (
    HOST_MODES,
    OPERATION_STATES,
    STEP_STATES,
    HostMode,
    OperationState,
    StepState,
    advance,
    is_final,
    may_advance,
)
from furlough.errors import Conflict

# Design, section 3.
_HOST = {
    "available -> cordoned",
    "cordoned -> available",
    "cordoned -> entering",
    "entering -> maintenance",
    "entering -> cordoned",
    "maintenance -> exiting",
    "exiting -> available",
    "exiting -> maintenance",
    "exiting -> cordoned",
}
_OPERATION = {
    "queued -> running",
    "queued -> cancelling",
    "running -> paused",
    "running -> blocked",
    "running -> cancelling",
    "running -> succeeded",
    "running -> failed",
    "running -> cancelled",
    "paused -> running",
    "paused -> cancelling",
    "blocked -> running",
    "blocked -> paused",
    "blocked -> cancelling",
    "blocked -> succeeded",
    "blocked -> failed",
    "blocked -> cancelled",
    "cancelling -> succeeded",
    "cancelling -> failed",
    "cancelling -> cancelled",
}
_STEP = {
    "pending -> started",
    "pending -> skipped",
    "pending -> failed",
    "started -> pending",
    "started -> succeeded",
    "started -> failed",
    "started -> skipped",
}


@pytest.mark.parametrize(
    ("table", "states", "wanted"),
    [
        (HOST_MODES, HostMode, _HOST),
        (OPERATION_STATES, OperationState, _OPERATION),
        (STEP_STATES, StepState, _STEP),
    ],
    ids=["host", "operation", "step"],
)
def test_the_tables_allow_the_transitions_of_the_design_and_no_other(
    table: Mapping[StrEnum, frozenset[StrEnum]], states: type[StrEnum], wanted: set[str]
) -> None:
    assert set(table) == set(states), "a state is missing from its table"
    assert {f"{old} -> {new}" for old in table for new in table[old]} == wanted


@pytest.mark.parametrize(("old", "new"), list(product(HostMode, HostMode)))
def test_a_host_advances_only_along_its_table_and_a_refusal_names_both_modes(
    old: HostMode, new: HostMode
) -> None:
    if f"{old} -> {new}" in _HOST:
        assert may_advance(old, new)
        assert advance(old, new) is new
        return
    assert not may_advance(old, new)
    with pytest.raises(Conflict) as refusal:
        advance(old, new)
    assert refusal.value.code == "state.transition"
    assert old.value in refusal.value.message
    assert new.value in refusal.value.message
    assert refusal.value.remedy


def test_maintenance_is_reached_only_by_entering_and_on_the_way_back_of_an_exit() -> None:
    ways = {old for old in HostMode if may_advance(old, HostMode.MAINTENANCE)}
    assert ways == {HostMode.ENTERING, HostMode.EXITING}


def test_a_host_in_maintenance_can_only_leave_by_exiting() -> None:
    ways = {new for new in HostMode if may_advance(HostMode.MAINTENANCE, new)}
    assert ways == {HostMode.EXITING}


@pytest.mark.parametrize("end", [OperationState.SUCCEEDED, OperationState.FAILED])
def test_an_operation_in_cancelling_may_still_turn_out_otherwise(end: OperationState) -> None:
    assert advance(OperationState.CANCELLING, end) is end


def test_an_operation_being_cancelled_never_runs_again() -> None:
    assert not may_advance(OperationState.CANCELLING, OperationState.RUNNING)


def test_the_final_states_are_exactly_the_ends_of_operations_and_steps() -> None:
    assert [state for state in OperationState if is_final(state)] == [
        OperationState.SUCCEEDED,
        OperationState.FAILED,
        OperationState.CANCELLED,
    ]
    assert [state for state in StepState if is_final(state)] == [
        StepState.SUCCEEDED,
        StepState.FAILED,
        StepState.SKIPPED,
    ]
