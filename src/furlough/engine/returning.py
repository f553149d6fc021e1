"""Once more before an exit or a restore ends: who had no room at home may have it now, since others
have left meanwhile. Asked again after every such addition, until nothing comes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from furlough.core.admission import Terms, terms_of
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory
from furlough.core.journal import PlanExtended
from furlough.core.not_home import RETURN_STEPS, RETURNS, not_home, return_steps
from furlough.core.operation import Operation
from furlough.core.plan import Method, OperationKind, Plan, WhyStays, numbered
from furlough.core.policy import ExitOptions
from furlough.core.states import OperationState, StepState
from furlough.engine.work import Work
from furlough.planning.planner import roster_of
from furlough.planning.restore import plan_exit

# A VM that failed otherwise has had its attempts; for room to be made, it is worth one more round.
_FOR_ROOM = "target.no_room"
_MOST_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Latecomers:
    """More steps for an operation that was about to end, and what room for them rests on."""

    event: PlanExtended
    terms: Terms


async def latecomers(work: Work, operation: Operation) -> Latecomers | None:
    """Those of the record who could not come home before and can now; None where there are none.
    An operation that is being cancelled brings nobody any more."""
    if operation.kind not in RETURNS or operation.state is OperationState.CANCELLING:
        return None
    wanted = _left_for_want_of_room(operation)
    homes = [host for host in operation.hosts if _is_open(operation, host)]
    if not wanted or not homes or not isinstance(operation.options, ExitOptions):
        return None
    await work.observer.refresh()
    inventory = await work.observer.inventory()
    record = [one for one in await work.store.away() if one.vm in wanted]
    reservations = await work.store.reservations()
    plan, _ = plan_exit(inventory, homes, record, operation.options, reservations)
    steps = tuple(step for step in plan.steps if step.method in RETURN_STEPS)
    if not steps:
        return None
    more = numbered(steps, first=len(operation.steps) + 1)
    return _added(operation, replace(plan, steps=more), inventory)


def _left_for_want_of_room(operation: Operation) -> set[VmId]:
    """Who was meant to come and was not, or failed only since room was wanting."""
    tried = return_steps(operation)
    found = set()
    for one in not_home(operation):
        steps = tried.get(one.vm, [])
        failure = steps[-1].failure if steps else None
        waits_for_room = failure is not None and failure.code == _FOR_ROOM
        if one.stays is WhyStays.HINDERED and (not steps or waits_for_room):
            found.add(one.vm)
    return {vm for vm in found if len(tried.get(vm, [])) < _MOST_ROUNDS}


def _is_open(operation: Operation, host: HostName) -> bool:
    """Whether VMs may come to a host of the operation: no guard keeps them off any more."""
    return operation.kind is OperationKind.RESTORE or any(
        step.method is Method.LOWER_GUARD
        and step.planned.host == host
        and step.state is StepState.SUCCEEDED
        for step in operation.steps
    )


def _added(operation: Operation, plan: Plan, inventory: Inventory) -> Latecomers:
    known = {entry.vm for entry in operation.roster}
    roster = roster_of(plan, inventory)
    return Latecomers(
        event=PlanExtended(
            steps=plan.steps,
            roster=tuple(entry for entry in roster if entry.vm not in known),
            why="there is room now for VMs that had none before",
        ),
        terms=terms_of(inventory, {step.targets[0] for step in plan.steps}),
    )
