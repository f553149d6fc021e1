"""Bringing VMs home: who is away, who may come back now, and the plan that does it.

The record of an evacuation is the list of VMs that it moved away or stopped. An exit brings back
exactly those, minus the ones that were moved, stopped, started or deleted by others since: what
their owners did is not ours to undo.

    moved, runs where it was left  -> moved home        moved on, or off since      -> stays
    stopped, off where it was      -> started           runs, or is gone from there -> stays
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from furlough.core.capacity import NOTHING, Load, Reservation, load_of
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.operation import Operation
from furlough.core.plan import Before, Method, OperationKind, Plan, PlannedStep
from furlough.core.policy import RestoreMode
from furlough.core.states import StepState
from furlough.planning.compatibility import Cause, Obstacle, obstacles_at_home
from furlough.planning.placement import Placement, place
from furlough.planning.planner import GUARD_WAVE, LAST_WAVE, finished_plan, moves_home, starts_of
from furlough.planning.remedies import Remedied, inserts
from furlough.planning.ties import ties_of


@dataclass(frozen=True, kw_only=True)
class Away:
    """A VM that an evacuation took away from its home host, and where it was left.

    `was_stopped`: it was shut down or suspended on `left_on`, by `method`, and is started there
    when that host is back; `load`: what it took then. A VM that was away already when it was
    stopped keeps its home.
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


class Homecoming(StrEnum):
    """What an exit will do about a VM that is away."""

    LIVE = "live"
    START = "start"
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
    judged = [_judge(inventory, one, home, mode) for one in record]
    coming = [*_movers(inventory, judged), *_starters(inventory, judged)]
    placement = place(
        coming, [inventory.host(home)], inventory, reservations, judge=_obstacles_on_return
    )
    settled = tuple(_after_placement(one, placement, home) for one in judged)
    return settled, placement


def plan_exit(
    inventory: Inventory,
    homes: Sequence[HostName],
    record: Sequence[Away],
    mode: RestoreMode,
    reservations: Sequence[Reservation] = (),
    remedied: Sequence[Remedied] = (),
) -> tuple[Plan, tuple[Return, ...]]:
    """The plan that brings the VMs of the record home, puts back what remedies took out of their
    drives, and puts the hosts back into service."""
    steps: list[PlannedStep] = []
    decided: list[Return] = []
    refusals: dict[VmId, Mapping[HostName, tuple[Obstacle, ...]]] = {}
    for home in homes:
        mine = [one for one in record if one.concerns(home)]
        judged, placement = returns(inventory, home, mine, mode, reservations)
        steps.extend(_steps_home(inventory, home, judged))
        comers = {one.away.vm for one in judged if _comes(one)}
        steps.extend(inserts(inventory, home, remedied, comers))
        decided.extend(judged)
        refusals.update(placement.refusals)
    unplaced = Placement(targets={}, refusals=refusals)
    return finished_plan(OperationKind.EXIT, homes, steps, unplaced, inventory), tuple(decided)


def _steps_home(
    inventory: Inventory, home: HostName, judged: Sequence[Return]
) -> Iterator[PlannedStep]:
    """Admit those who come, bring them, start those who were stopped, lower the guard."""
    movers, starters = _movers(inventory, judged), _starters(inventory, judged)
    if movers or starters:
        yield PlannedStep(
            number=0,
            method=Method.RAISE_GUARD,
            host=home,
            wave=GUARD_WAVE,
            admit=tuple(sorted(vm.id for vm in (*movers, *starters))),
        )
    yield from moves_home(movers, inventory.host(home), inventory)
    was_before = {one.away.vm: one.away.before for one in judged}
    yield from starts_of(starters, was_before)
    yield PlannedStep(number=0, method=Method.LOWER_GUARD, host=home, wave=LAST_WAVE)


def _judge(inventory: Inventory, away: Away, home: HostName, mode: RestoreMode) -> Return:
    """What the exit of `home` does about one VM, before room is considered."""
    copies = inventory.copies_of(away.vm)
    if not copies:
        return _stays(away, None, "no host lists it any more; it was deleted or its host is silent")
    if away.was_stopped:
        return _judge_stopped(inventory, away, home, mode)
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


def _judge_stopped(inventory: Inventory, away: Away, home: HostName, mode: RestoreMode) -> Return:
    """The same for a VM that was stopped: it is started where it was, unless somebody has done
    anything about it since."""
    active = sorted(copy.host for copy in inventory.running_copies_of(away.vm))
    if away.left_on in active:
        return Return(
            away=away, now_on=away.left_on, homecoming=Homecoming.AT_HOME, reason="it runs already"
        )
    if active:
        return _stays(away, active[0], "somebody started it elsewhere since")
    vm = _stopped_copy(inventory, away)
    if vm is None:
        return _stays(away, inventory.vm(away.vm).host, f"it is not on {away.left_on} any more")
    if away.left_on != home:
        return _stays(away, vm.host, f"it was stopped there; the exit of {vm.host} starts it")
    if mode is not RestoreMode.RECORDED:
        by_hand = f"start it by hand when wanted: furlough vm start {vm.id}"
        return _stays(away, vm.host, f"it was {_how(away)} and is not to be started; {by_hand}")
    reason = f"it was {_how(away)} by {away.operation}{_differences(away, vm)}"
    return Return(away=away, now_on=vm.host, homecoming=Homecoming.START, reason=reason)


def _how(away: Away) -> str:
    return "suspended" if away.method is Method.SUSPEND else "shut down"


def _differences(away: Away, vm: Vm) -> str:
    """What its owner has changed about it meanwhile; it starts as it is now."""
    now, then = load_of(vm), away.load
    if away.method is Method.SUSPEND and not vm.has_managed_save:
        return "; its saved memory is gone since, so it boots"
    if then not in (NOTHING, now):
        return (
            f"; it was changed since, from {then.vcpus} vCPUs and {then.memory_mib} MiB to "
            f"{now.vcpus} and {now.memory_mib}, and starts as it is now"
        )
    return ""


def _obstacles_on_return(vm: Vm, home: Host, inventory: Inventory) -> list[Obstacle]:
    """What stands against moving this VM back to this host, or starting it there."""
    if not vm.is_active:
        return []
    return [*_of_state(vm, inventory), *obstacles_at_home(vm, home, inventory)]


def _of_state(vm: Vm, inventory: Inventory) -> Iterator[Obstacle]:
    """Why the VM itself cannot move at present; on the way out these are findings."""
    active = sorted(copy.host for copy in inventory.running_copies_of(vm.id))
    if len(active) > 1:
        yield Obstacle(cause=Cause.STATE, message=f"it is active on {' and '.join(active)} at once")
    for tie in ties_of(vm):
        yield Obstacle(cause=Cause.STATE, message=f"it {tie.words}")
    if vm.busy_with:
        yield Obstacle(cause=Cause.STATE, message=f"{vm.busy_with} is under way in it")


def _after_placement(one: Return, placement: Placement, home: HostName) -> Return:
    """The same, unless its home host cannot take it back."""
    against = placement.refusals.get(one.away.vm)
    if not _comes(one) or against is None:
        return one
    found = ", ".join(obstacle.message for obstacle in against.get(home, ()))
    reasons = found or "it is in another cluster now"
    return _stays(one.away, one.now_on, f"{home} cannot take it back: {reasons}")


def _stays(away: Away, now_on: HostName | None, reason: str) -> Return:
    return Return(away=away, now_on=now_on, homecoming=Homecoming.STAYS, reason=reason)


def _comes(one: Return) -> bool:
    return one.homecoming in (Homecoming.LIVE, Homecoming.START)


def _movers(inventory: Inventory, judged: Sequence[Return]) -> list[Vm]:
    """The active copies of those who are moved home."""
    return [inventory.vm(one.away.vm) for one in judged if one.homecoming is Homecoming.LIVE]


def _starters(inventory: Inventory, judged: Sequence[Return]) -> list[Vm]:
    """Those who are started, as they are defined where they were stopped."""
    return [
        vm
        for one in judged
        if one.homecoming is Homecoming.START
        and (vm := _stopped_copy(inventory, one.away)) is not None
    ]


def _stopped_copy(inventory: Inventory, away: Away) -> Vm | None:
    here = (vm for vm in inventory.copies_of(away.vm) if vm.host == away.left_on)
    return next(here, None)


def is_closed_by(operation: Operation, away: Away) -> bool:
    """Whether an exit that has ended closes the record of this VM: the host that brings it back
    is in service again, and the VM was not to be brought. One that was and could not stays on
    record."""
    lowered = any(
        step.method is Method.LOWER_GUARD
        and step.planned.host == away.awaits
        and step.state is StepState.SUCCEEDED
        for step in operation.steps
    )
    wanted = any(
        step.planned.vm == away.vm
        and step.method is not Method.INSERT
        and step.state is not StepState.SUCCEEDED
        for step in operation.steps
    )
    left = any(one.vm == away.vm for one in operation.plan.unplaced)
    return lowered and not wanted and not left
