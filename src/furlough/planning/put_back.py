"""Bringing back the VMs that an entering has taken off its host, where it is not to be entered
after all. A plan of its own, which runs behind whatever else the operation has done:

    admit those who come ─► move them back, start those that were stopped ─► admit nobody any more

What their owners have done with them since is not undone, as at an exit (see `restore`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from furlough.core.agenda import CLOSING_WAVE, has_left, is_closing
from furlough.core.capacity import Reservation
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory
from furlough.core.operation import Operation, Outcome
from furlough.core.plan import Method, OperationKind, Plan, PlannedStep, numbered
from furlough.core.policy import ExitOptions
from furlough.planning.homecoming import Return
from furlough.planning.planner import LAST_WAVE
from furlough.planning.record import Away
from furlough.planning.restore import plan_exit


def departed(operation: Operation, hosts: Sequence[HostName]) -> tuple[Away, ...]:
    """Who has left these hosts by the steps of this operation, and has not come back by them."""
    back = {
        step.planned.vm
        for step in operation.steps
        if is_closing(step) and step.outcome in (Outcome.MOVED, Outcome.STARTED)
    }
    last = {
        step.planned.vm: step
        for step in operation.steps
        if has_left(step) and step.planned.host in hosts
    }
    return tuple(
        Away(
            vm=vm,
            name=step.planned.vm_name,
            home=step.planned.host,
            left_on=step.where,
            operation=operation.id,
            since=step.ended_at or operation.created_at,
            before=step.planned.before,
            was_stopped=step.outcome is Outcome.STOPPED,
            method=step.method,
            load=step.planned.load,
        )
        for vm, step in last.items()
        if vm is not None and step.where is not None and vm not in back
    )


def plan_put_back(
    operation: Operation,
    inventory: Inventory,
    hosts: Sequence[HostName],
    reservations: Sequence[Reservation] = (),
) -> tuple[Plan, tuple[Return, ...]]:
    """The plan that brings back who has left these hosts, its steps numbered behind those that the
    operation has, and what becomes of each of these VMs."""
    record = departed(operation, hosts)
    home, returns = plan_exit(inventory, hosts, record, ExitOptions(), reservations)
    steps = [
        replace(step, wave=CLOSING_WAVE + step.wave)
        for step in home.steps
        if step.method is not Method.LOWER_GUARD
    ]
    steps += [_last_word(host) for host in hosts]
    ordered = tuple(sorted(steps, key=lambda step: step.wave))
    plan = replace(
        home,
        kind=OperationKind.ENTER,
        steps=numbered(ordered, first=len(operation.steps) + 1),
    )
    return plan, returns


def _last_word(host: HostName) -> PlannedStep:
    """The guard stays, as after every entering that did not come through, and admits nobody."""
    return PlannedStep(
        number=0, method=Method.RAISE_GUARD, host=host, wave=CLOSING_WAVE + LAST_WAVE
    )
