"""Bringing VMs home: who is away, who may come back now, and the plan that does it.

The record of an evacuation is the list of VMs that are away from their home host. An exit moves
exactly those, minus the ones that were moved, stopped or deleted by others since: what their
owners did is not ours to undo.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from furlough.core.capacity import Reservation, room_on
from furlough.core.compatibility import Cause, Obstacle, obstacles_at_home
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.operation import Operation
from furlough.core.placement import Placement, place
from furlough.core.plan import Before, Method, OperationKind, Plan, PlannedStep
from furlough.core.planner import GUARD_WAVE, LAST_WAVE, finished_plan, moves_home
from furlough.core.policy import RestoreMode
from furlough.core.states import Power, StepState


@dataclass(frozen=True, kw_only=True)
class Away:
    """A VM that an evacuation took away from its home host, and where it was left."""

    vm: VmId
    name: str
    home: HostName
    left_on: HostName
    operation: OperationId
    since: datetime
    before: Before


class Homecoming(StrEnum):
    """What an exit will do about a VM that is away."""

    LIVE = "live"
    STAYS = "stays"
    AT_HOME = "at_home"


@dataclass(frozen=True, kw_only=True)
class Return:
    """One VM of the record: where it is now, what will be done, and why."""

    away: Away
    now_on: HostName | None
    homecoming: Homecoming
    reason: str


def returns(
    inventory: Inventory,
    home: HostName,
    record: Sequence[Away],
    mode: RestoreMode,
    reservations: Sequence[Reservation] = (),
) -> tuple[tuple[Return, ...], Placement]:
    """What becomes of every VM of the record, and the placement of those who come home."""
    judged = [_judge(inventory, one, mode) for one in record]
    comers = [_active_copy(inventory, one.away) for one in judged if _comes(one)]
    host = inventory.host(home)
    room = {home: room_on(inventory, host, reservations)}
    placement = place(
        [vm for vm in comers if vm is not None], [host], room, inventory, _obstacles_on_return
    )
    settled = tuple(_after_placement(one, placement, home) for one in judged)
    return settled, placement


def plan_exit(
    inventory: Inventory,
    homes: Sequence[HostName],
    record: Sequence[Away],
    mode: RestoreMode,
    reservations: Sequence[Reservation] = (),
) -> tuple[Plan, tuple[Return, ...]]:
    """The plan that brings the VMs of the record home and puts the hosts back into service."""
    steps: list[PlannedStep] = []
    decided: list[Return] = []
    refusals: dict[VmId, Mapping[HostName, tuple[Obstacle, ...]]] = {}
    for home in homes:
        mine = [one for one in record if one.home == home]
        judged, placement = returns(inventory, home, mine, mode, reservations)
        steps.extend(_steps_home(inventory, home, judged))
        decided.extend(judged)
        refusals.update(placement.refusals)
    unplaced = Placement(targets={}, refusals=refusals)
    return finished_plan(OperationKind.EXIT, homes, steps, unplaced, inventory), tuple(decided)


def _steps_home(
    inventory: Inventory, home: HostName, judged: Sequence[Return]
) -> Iterator[PlannedStep]:
    """Admit those who come, bring them, lower the guard."""
    comers = [
        vm
        for one in judged
        if _comes(one) and (vm := _active_copy(inventory, one.away)) is not None
    ]
    if comers:
        yield PlannedStep(
            number=0,
            method=Method.RAISE_GUARD,
            host=home,
            wave=GUARD_WAVE,
            admit=tuple(sorted(vm.id for vm in comers)),
        )
    yield from moves_home(comers, inventory.host(home), inventory)
    yield PlannedStep(number=0, method=Method.LOWER_GUARD, host=home, wave=LAST_WAVE)


def _judge(inventory: Inventory, away: Away, mode: RestoreMode) -> Return:
    """What to do about one VM, before room is considered."""
    copies = inventory.copies_of(away.vm)
    if not copies:
        return _stays(away, None, "no host lists it any more; it was deleted or its host is silent")
    vm = inventory.vm(away.vm)
    if vm.host == away.home:
        return Return(
            away=away, now_on=vm.host, homecoming=Homecoming.AT_HOME, reason="it is home already"
        )
    if mode is RestoreMode.NONE:
        return _stays(away, vm.host, "nothing was to be brought home")
    if not vm.is_active:
        return _stays(away, vm.host, "its owner or its guest has shut it down since")
    if vm.host != away.left_on:
        return _stays(away, vm.host, f"somebody moved it from {away.left_on} since")
    return Return(
        away=away,
        now_on=vm.host,
        homecoming=Homecoming.LIVE,
        reason=f"it was evacuated by {away.operation}",
    )


def _obstacles_on_return(vm: Vm, home: Host, inventory: Inventory) -> list[Obstacle]:
    """What stands against moving this VM back to this host."""
    return [*_of_state(vm, inventory), *obstacles_at_home(vm, home, inventory)]


def _of_state(vm: Vm, inventory: Inventory) -> Iterator[Obstacle]:
    """Why the VM itself cannot move at present; on the way out these are findings."""
    active = sorted(copy.host for copy in inventory.running_copies_of(vm.id))
    if len(active) > 1:
        yield Obstacle(cause=Cause.STATE, message=f"it is active on {' and '.join(active)} at once")
    if vm.power is Power.SUSPENDED:
        yield Obstacle(cause=Cause.STATE, message="it sleeps, suspended by its guest")
    if vm.power is Power.ERROR:
        yield Obstacle(cause=Cause.STATE, message="it is in error")
    if vm.busy_with:
        yield Obstacle(cause=Cause.STATE, message=f"{vm.busy_with} is under way in it")


def _after_placement(one: Return, placement: Placement, home: HostName) -> Return:
    """The same, unless its home host cannot take it back."""
    against = placement.refusals.get(one.away.vm)
    if not _comes(one) or against is None:
        return one
    reasons = ", ".join(obstacle.message for obstacle in against[home])
    return _stays(one.away, one.now_on, f"{home} cannot take it back: {reasons}")


def _stays(away: Away, now_on: HostName | None, reason: str) -> Return:
    return Return(away=away, now_on=now_on, homecoming=Homecoming.STAYS, reason=reason)


def _comes(one: Return) -> bool:
    return one.homecoming is Homecoming.LIVE


def _active_copy(inventory: Inventory, away: Away) -> Vm | None:
    return next(iter(inventory.running_copies_of(away.vm)), None)


def is_closed_by(operation: Operation, away: Away) -> bool:
    """Whether an exit that has ended closes the record of this VM: its home host is back in
    service, and the VM was not to come home. One that was and could not stays on record."""
    lowered = any(
        step.method is Method.LOWER_GUARD
        and step.planned.host == away.home
        and step.state is StepState.SUCCEEDED
        for step in operation.steps
    )
    wanted = any(
        step.planned.vm == away.vm and step.state is not StepState.SUCCEEDED
        for step in operation.steps
    )
    left = any(one.vm == away.vm for one in operation.plan.unplaced)
    return lowered and not wanted and not left
