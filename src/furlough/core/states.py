"""States and their transition tables. Diagrams in the docs are made from these tables.

    host       available ─► cordoned ─► entering ─► maintenance ─► exiting ─► available
    operation  queued ─► running ─► succeeded | failed | cancelled   (paused, blocked, cancelling)
    step       pending ─► started ─► succeeded | failed | skipped

Failure of an operation is not a state of a host: a failed evacuation leaves a cordoned host.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from furlough.errors import Conflict


class HostMode(StrEnum):
    """What a host is for at present."""

    AVAILABLE = "available"
    CORDONED = "cordoned"
    ENTERING = "entering"
    MAINTENANCE = "maintenance"
    EXITING = "exiting"


class Reachability(StrEnum):
    """Whether a host answers us."""

    CONNECTED = "connected"
    SILENT = "silent"


class Guard(StrEnum):
    """What keeps new VMs off a host: nothing, a marker with a proven hook, an unproven one."""

    LOWERED = "lowered"
    RAISED = "raised"
    UNPROVEN = "unproven"


class Power(StrEnum):
    """What a VM does. Only `shut_off` holds no memory on its host."""

    RUNNING = "running"
    PAUSED = "paused"
    SHUT_OFF = "shut_off"
    SUSPENDED = "suspended"
    ERROR = "error"


class OperationState(StrEnum):
    """Where an operation stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    BLOCKED = "blocked"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    """Where a step stands. `started` seen after a restart means: in doubt."""

    PENDING = "pending"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


HOST_MODES: Mapping[HostMode, frozenset[HostMode]] = {
    HostMode.AVAILABLE: frozenset({HostMode.CORDONED}),
    HostMode.CORDONED: frozenset({HostMode.ENTERING, HostMode.AVAILABLE}),
    HostMode.ENTERING: frozenset({HostMode.MAINTENANCE, HostMode.CORDONED}),
    HostMode.MAINTENANCE: frozenset({HostMode.EXITING}),
    HostMode.EXITING: frozenset({HostMode.AVAILABLE, HostMode.MAINTENANCE, HostMode.CORDONED}),
}

_ENDS = {OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED}

OPERATION_STATES: Mapping[OperationState, frozenset[OperationState]] = {
    OperationState.QUEUED: frozenset({OperationState.RUNNING, OperationState.CANCELLING}),
    OperationState.RUNNING: frozenset(
        {OperationState.PAUSED, OperationState.BLOCKED, OperationState.CANCELLING}
    )
    | _ENDS,
    OperationState.PAUSED: frozenset({OperationState.RUNNING, OperationState.CANCELLING}),
    # To an end: the last step came to its end by itself before what was waited for had come.
    OperationState.BLOCKED: frozenset(
        {OperationState.RUNNING, OperationState.PAUSED, OperationState.CANCELLING}
    )
    | _ENDS,
    OperationState.CANCELLING: frozenset(_ENDS),
    OperationState.SUCCEEDED: frozenset(),
    OperationState.FAILED: frozenset(),
    OperationState.CANCELLED: frozenset(),
}

STEP_STATES: Mapping[StepState, frozenset[StepState]] = {
    # Failed without having started: no target would take it.
    StepState.PENDING: frozenset({StepState.STARTED, StepState.SKIPPED, StepState.FAILED}),
    # Back to pending: the attempt failed and the VM has attempts left.
    StepState.STARTED: frozenset(
        {StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED, StepState.PENDING}
    ),
    StepState.SUCCEEDED: frozenset(),
    StepState.FAILED: frozenset(),
    StepState.SKIPPED: frozenset(),
}

S = TypeVar("S", HostMode, OperationState, StepState)
_TABLES: Mapping[type, Mapping[StrEnum, frozenset[StrEnum]]] = {
    HostMode: HOST_MODES,  # type: ignore[dict-item]  # each table maps its own enum to itself
    OperationState: OPERATION_STATES,  # type: ignore[dict-item]
    StepState: STEP_STATES,  # type: ignore[dict-item]
}


def may_advance(state: S, new: S) -> bool:
    """Whether the table allows this transition."""
    return new in _TABLES[type(state)][state]


def advance(state: S, new: S) -> S:
    """The new state, if the table allows the step to it; else `Conflict`."""
    if not may_advance(state, new):
        raise Conflict(
            "state.transition",
            f"It is {state.value}, which cannot become {new.value}.",
            remedy="Look at the present state and at the operation that owns it.",
        )
    return new


def is_final(state: OperationState | StepState) -> bool:
    """Whether nothing follows this state."""
    return not _TABLES[type(state)][state]
