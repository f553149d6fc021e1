"""The record of maintenances: who is away from home because of one, until it is home again, has
been taken over by others, or a person closes the record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from furlough.core.capacity import NOTHING, Load
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.operation import Operation
from furlough.core.plan import (
    Before,
    Method,
    OperationKind,
    Plan,
    PlannedStep,
    Unplaced,
    WhyStays,
)
from furlough.core.states import OperationState, StepState


@dataclass(frozen=True, kw_only=True)
class Away:
    """A VM that an evacuation took away from its home host, and where it was left.

    `was_stopped`: it was shut down or suspended on `left_on`, by `method`, and is started there
    when that host is back; else `method` is how it was moved. `load`: what it took then. A VM that
    was away already when it was stopped keeps its home.
    """

    vm: VmId
    name: str
    home: HostName
    left_on: HostName
    operation: OperationId
    since: datetime
    before: Before
    was_stopped: bool = False
    method: Method = Method.LIVE
    load: Load = NOTHING

    @property
    def awaits(self) -> HostName:
        """The host whose exit brings it back."""
        return self.left_on if self.was_stopped else self.home

    def concerns(self, host: HostName) -> bool:
        """Whether the exit of this host has to say something about it."""
        return host in (self.home, self.awaits)


def record_of(record: Iterable[Away], host: HostName) -> tuple[Away, ...]:
    """Those whom the exit of this host brings back, by name."""
    mine = [one for one in record if one.awaits == host]
    return tuple(sorted(mine, key=lambda one: (one.name, one.vm)))


def plan_closing(host: HostName, record: Sequence[Away]) -> Plan:
    """The plan, without a step, that takes these off the record of a host."""
    words = ("a person closed the record",)
    return Plan(
        kind=OperationKind.CLOSE_RECORD,
        hosts=(host,),
        steps=(),
        unplaced=tuple(
            Unplaced(vm=one.vm, vm_name=one.name, reasons={one.awaits: words}, why=WhyStays.LET_GO)
            for one in record
        ),
    )


def is_closed_by(operation: Operation, away: Away) -> bool:
    """Whether the end of an operation takes a VM off the record: others have decided about it
    since, it was seen to be home, or a person closed the record. Whoever was meant to come and
    could not, and whoever was not meant to come this time, stays on record."""
    if not _is_about(operation, away):
        return False
    left = [one.why for one in operation.plan.unplaced if one.vm == away.vm]
    if operation.kind is OperationKind.CLOSE_RECORD:
        return bool(left)
    if any(_is_outstanding(step.planned, step.state, away) for step in operation.steps):
        return False
    return all(why is WhyStays.LET_GO for why in left)


def _is_about(operation: Operation, away: Away) -> bool:
    """Whether the operation is one that brings this VM back, and has put its host into service or
    found it there."""
    if away.awaits not in operation.hosts:
        return False
    if operation.kind is OperationKind.EXIT:
        return any(
            step.method is Method.LOWER_GUARD
            and step.planned.host == away.awaits
            and step.state is StepState.SUCCEEDED
            for step in operation.steps
        )
    is_over = operation.state in (OperationState.SUCCEEDED, OperationState.FAILED)
    return is_over and operation.kind in (OperationKind.RESTORE, OperationKind.CLOSE_RECORD)


def _is_outstanding(planned: PlannedStep, state: StepState, away: Away) -> bool:
    """A medium that was not put back keeps nobody away."""
    mine = planned.vm == away.vm and planned.method is not Method.INSERT
    return mine and state is not StepState.SUCCEEDED
