"""Bringing VMs home: who may come back now, in which order, and the plan that does it.

The record of an evacuation is the list of VMs that it moved away or stopped. An exit brings back
exactly those, as far as the operator wants it and minus the ones that were moved, stopped, started
or deleted by others since. What becomes of each is judged in `homecoming`, without a look at room;
here those who come are given their room at home, and their order where room has to be made first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from furlough.core.capacity import NOTHING, Load, Reservation, load_of
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.plan import Method, OperationKind, Plan, PlannedStep, Unplaced
from furlough.core.policy import ExitOptions
from furlough.core.states import HostMode
from furlough.planning.bonds import bonds_of
from furlough.planning.causes import Cause
from furlough.planning.cold import cold_move, cold_obstacles_at_home
from furlough.planning.compatibility import Obstacle, obstacles_at_home
from furlough.planning.crossing import lent
from furlough.planning.homecoming import Homecoming, Return, judged, stays, stopped_copy
from furlough.planning.placement import Placement, place
from furlough.planning.planner import (
    GUARD_WAVE,
    LAST_WAVE,
    MOVE_WAVE,
    finished_plan,
    moves_home,
    starts_of,
)
from furlough.planning.record import Away
from furlough.planning.remedies import Remedied, inserts
from furlough.planning.swaps import Leg, Trip, legs_home, may_ever_be_on
from furlough.planning.ties import ties_of


@dataclass(frozen=True, kw_only=True)
class _Home:
    """One host that takes its VMs back: what becomes of each of them, and who of them was refused
    only because of who else is there."""

    name: HostName
    returns: tuple[Return, ...]
    waiting: tuple[Vm, ...] = ()
    placement: Placement = field(default_factory=lambda: Placement(targets={}, refusals={}))


def plan_exit(
    inventory: Inventory,
    homes: Sequence[HostName],
    record: Sequence[Away],
    options: ExitOptions,
    reservations: Sequence[Reservation] = (),
    remedied: Sequence[Remedied] = (),
) -> tuple[Plan, tuple[Return, ...]]:
    """The plan that brings the VMs of the record home, puts back what remedies took out of their
    drives, and puts the hosts back into service; for hosts that are in service, only the former.
    Who stays is in `unplaced`, with the reason and what follows from it."""
    found = [
        _home(inventory, home, [one for one in record if one.concerns(home)], options, reservations)
        for home in homes
    ]
    legs = _legs(inventory, found, reservations)
    found = [_after_swaps(one, legs) for one in found]
    is_in_service = all(inventory.host(home).mode is HostMode.AVAILABLE for home in homes)
    steps: list[PlannedStep] = []
    for home in found:
        steps.extend(_steps_home(inventory, home, legs, is_guarded=not is_in_service))
        comers = {one.away.vm for one in home.returns if one.comes}
        steps.extend(inserts(inventory, home.name, remedied, comers))
    decided = _hinting(found, record)
    kind = OperationKind.RESTORE if is_in_service else OperationKind.EXIT
    nobody = Placement(targets={}, refusals={})
    plan = finished_plan(kind, homes, steps, nobody, inventory)
    return replace(plan, unplaced=tuple(_staying(decided, homes, found))), decided


def _home(
    inventory: Inventory,
    home: HostName,
    record: Sequence[Away],
    options: ExitOptions,
    reservations: Sequence[Reservation],
) -> _Home:
    """What becomes of every VM that concerns a host, as far as it alone can say."""
    found = [judged(inventory, one, home, options) for one in record]
    colds = [vm for vm in _colds(inventory, found) if vm.is_active]
    coming = [*_movers(inventory, found), *_starters(inventory, found), *colds]
    host = inventory.host(home)

    def judge(vm: Vm, target: Host, facts: Inventory) -> list[Obstacle]:
        way = cold_obstacles_at_home if vm in colds else _obstacles_on_return
        return way(vm, target, facts)

    far = {vm.host for vm in coming if not _is_near(vm, home, inventory)}
    facts = lent(inventory, {vm.id for vm in coming}, far, host.cluster)
    placement = place(coming, [host], facts, reservations, judge=judge)
    settled = tuple(_after_placement(one, placement, inventory, host) for one in found)
    return _Home(
        name=home,
        returns=settled,
        waiting=tuple(
            vm
            for vm in _movers(inventory, found)
            if _may_pass(placement.refusals.get(vm.id, {}).get(home, ()))
        ),
        placement=placement,
    )


def _may_pass(found: Iterable[Obstacle]) -> bool:
    """Whether all that stands against a VM lies in who else is there, and may leave."""
    causes = {one.cause for one in found}
    return bool(causes) and causes <= {Cause.ROOM, Cause.RULE}


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


def _after_placement(one: Return, placement: Placement, inventory: Inventory, home: Host) -> Return:
    """The same, unless its home host cannot take it back."""
    if one.homecoming is Homecoming.COLD and not inventory.vm(one.away.vm).is_active:
        against = cold_obstacles_at_home(inventory.vm(one.away.vm), home, inventory)
    else:
        refusal = placement.refusals.get(one.away.vm)
        if not one.comes or refusal is None:
            return one
        against = list(refusal[home.name])
    if not against:
        return one
    reasons = ", ".join(obstacle.message for obstacle in against)
    refused = stays(one.away, one.now_on, f"{home.name} cannot take it back: {reasons}")
    return replace(refused, changed=one.changed)


# --- room that has to be made --------------------------------------------------------------------


def _legs(
    inventory: Inventory, homes: Sequence[_Home], reservations: Sequence[Reservation]
) -> tuple[Leg, ...]:
    """The ways home where some have to be made room for; none where all that can come have it."""
    bonds = bonds_of(inventory, {inventory.host(one.name).cluster for one in homes})
    waiting = [
        Trip(vm=vm, home=home.name)
        for home in homes
        for vm in home.waiting
        if may_ever_be_on(home.name, vm.id, bonds) and _is_near(vm, home.name, inventory)
    ]
    if not waiting:
        return ()
    movers = [(home, vm) for home in homes for vm in _movers(inventory, home.returns)]
    sure = [
        Trip(vm=vm, home=home.name) for home, vm in movers if _is_near(vm, home.name, inventory)
    ]
    taken: dict[HostName, Load] = {}
    for home in homes:
        far = [vm for one, vm in movers if one is home and not _is_near(vm, home.name, inventory)]
        for vm in (*_starters(inventory, home.returns), *far):
            taken[home.name] = taken.get(home.name, NOTHING) + load_of(vm)
    return legs_home(inventory, sure, waiting, taken, reservations)


def _is_near(vm: Vm, home: HostName, inventory: Inventory) -> bool:
    """Whether a VM is in the cluster of its home: only there places are swapped."""
    return inventory.host(vm.host).cluster == inventory.host(home).cluster


def _after_swaps(home: _Home, legs: Sequence[Leg]) -> _Home:
    """The same, with those who come once room has been made for them."""
    waiting = {vm.id for vm in home.waiting}
    arrives = {leg.vm.id for leg in legs if leg.home == home.name and not leg.is_detour}
    parked = {leg.vm.id: leg.target for leg in legs if leg.is_detour}
    return replace(
        home,
        returns=tuple(
            _swapped(one, parked.get(one.away.vm), one.away.vm in waiting)
            if one.away.vm in arrives
            else one
            for one in home.returns
        ),
    )


def _swapped(one: Return, parked: HostName | None, had_to_wait: bool) -> Return:
    """A VM that comes, maybe after others, maybe by way of a third host."""
    words = f"it was evacuated by {one.away.operation}"
    if parked is not None:
        words += f"; it waits on {parked} until {one.away.home} has room"
    elif had_to_wait:
        words += "; it comes once others have left"
    return Return(
        away=one.away,
        now_on=one.now_on,
        homecoming=Homecoming.LIVE,
        reason=words,
        changed=one.changed,
        by_way_of=parked,
    )


def _hinting(found: Sequence[_Home], record: Sequence[Away]) -> tuple[Return, ...]:
    """All returns; where a home is full and VMs of another host's record are on it, that is
    told."""
    homes = [home.name for home in found]
    others: dict[HostName, set[HostName]] = {}
    for one in record:
        if one.awaits not in homes and not one.was_stopped:
            others.setdefault(one.left_on, set()).add(one.home)
    return tuple(
        _with_hint(one, homes, others.get(home.name, set()))
        if one.stays is not None and one.away.vm in {vm.id for vm in home.waiting}
        else one
        for home in found
        for one in home.returns
    )


def _with_hint(one: Return, homes: Sequence[HostName], others: set[HostName]) -> Return:
    if not others:
        return one
    together = " ".join(sorted({*homes, *others}))
    words = f"VMs of {' and '.join(sorted(others))} are there; together they may all come home"
    return replace(one, reason=f"{one.reason} ({words}: furlough exit {together})")


def _staying(
    decided: Iterable[Return], homes: Sequence[HostName], found: Sequence[_Home]
) -> Iterator[Unplaced]:
    """Everybody who stays, once: under the host that brings it back where that is one of these."""
    told: dict[VmId, Unplaced] = {}
    for one in decided:
        if one.stays is not None:
            host = one.away.awaits if one.away.awaits in homes else one.away.home
            left = Unplaced(
                vm=one.away.vm, vm_name=one.away.name, reasons={host: (one.reason,)}, why=one.stays
            )
            if one.away.awaits in homes or one.away.vm not in told:
                told[one.away.vm] = left
    comers = {one.away.vm for home in found for one in home.returns if one.comes}
    yield from (left for vm, left in told.items() if vm not in comers)


# --- steps ---------------------------------------------------------------------------------------


def _steps_home(
    inventory: Inventory, home: _Home, legs: Sequence[Leg], *, is_guarded: bool
) -> Iterator[PlannedStep]:
    """Admit those who come, bring them, start those who were stopped, lower the guard; no guard
    where the host is in service already."""
    movers, starters = _movers(inventory, home.returns), _starters(inventory, home.returns)
    colds = _colds(inventory, home.returns)
    if is_guarded and (movers or starters or colds):
        yield PlannedStep(
            number=0,
            method=Method.RAISE_GUARD,
            host=home.name,
            wave=GUARD_WAVE,
            admit=tuple(sorted(vm.id for vm in (*movers, *starters, *colds))),
        )
    host = inventory.host(home.name)
    led = {leg.vm.id for leg in legs}
    yield from _moves_by(legs, host, inventory)
    yield from moves_home([vm for vm in movers if vm.id not in led], host, inventory)
    for vm in colds:
        yield cold_move(vm, (home.name,), home.name, MOVE_WAVE)
    was_before = {one.away.vm: one.away.before for one in home.returns}
    yield from starts_of(starters, was_before)
    if is_guarded:
        yield PlannedStep(number=0, method=Method.LOWER_GUARD, host=home.name, wave=LAST_WAVE)


def _moves_by(legs: Sequence[Leg], home: Host, inventory: Inventory) -> Iterator[PlannedStep]:
    """The moves of one host's VMs, numbered by the places of all legs until the plan is whole."""
    for number, leg in enumerate(legs, _FIRST_LEG):
        if leg.home != home.name:
            continue
        (step,) = moves_home([leg.vm], home, inventory)
        yield replace(
            step,
            number=number,
            wave=MOVE_WAVE,
            source=leg.source,
            targets=(leg.target,),
            after=tuple(_FIRST_LEG + one for one in leg.after),
        )


# Before a plan is numbered, all its steps have number 0; those that others come after do not.
_FIRST_LEG = 1


def _movers(inventory: Inventory, found: Iterable[Return]) -> list[Vm]:
    """The active copies of those who are moved home."""
    return [inventory.vm(one.away.vm) for one in found if one.homecoming is Homecoming.LIVE]


def _colds(inventory: Inventory, found: Iterable[Return]) -> list[Vm]:
    """Those who are moved home cold: off as they are, or shut down for it and started again."""
    return [inventory.vm(one.away.vm) for one in found if one.homecoming is Homecoming.COLD]


def _starters(inventory: Inventory, found: Iterable[Return]) -> list[Vm]:
    """Those who are started, as they are defined where they were stopped."""
    return [
        vm
        for one in found
        if one.homecoming is Homecoming.START
        and (vm := stopped_copy(inventory, one.away)) is not None
    ]
