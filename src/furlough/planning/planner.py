"""Planning: facts and policy in, a plan out. Nothing is left for the engine to choose.

Entering:  raise the guard, move every VM that can move live, then stop, or move cold, those that
           may be, who matters least first, then move those that are off, and confirm the host
           empty.
Exiting:   admit those who come home, bring them home, start those that were stopped, who matters
           most first, and lower the guard (see `restore`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import pstdev

from furlough.core.capacity import NOTHING, Load, limit_of, load_of
from furlough.core.estimate import estimate_save
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.load_after import LoadAfter
from furlough.core.operation import RosterEntry
from furlough.core.plan import (
    NO_LOAD,
    Before,
    Method,
    OperationKind,
    Plan,
    PlannedStep,
    Unplaced,
    numbered,
)
from furlough.core.policy import Order
from furlough.core.timing import NO_TIME, PROOF, SHUT_DOWN_S, START_S
from furlough.planning.assessment import Assessment
from furlough.planning.candidates import movers
from furlough.planning.cold import cold_move
from furlough.planning.dispositions import Disposition
from furlough.planning.handover import handover_of, waives_storage_check
from furlough.planning.live_timetable import put_in_time
from furlough.planning.placement import Placement

# VMs that are shut down or started do so in up to six groups, between the moves and the end; those
# that are off leave after all that runs.
GUARD_WAVE, MOVE_WAVE, FIRST_POWER_WAVE, LAST_POWER_WAVE, REST_WAVE, LAST_WAVE = 0, 1, 2, 7, 8, 9


def plan_enter(
    inventory: Inventory,
    hosts: Sequence[HostName],
    assessment: Assessment,
    order: Order = Order.SCHEDULE,
) -> Plan:
    """The plan that empties these hosts, the moves in this order. VMs that stay where they are,
    since they fit nowhere or are to be left, are in `unplaced`, with reasons; whether that forbids
    the operation is for the prechecks to say."""
    steps: list[PlannedStep] = []
    for host in hosts:
        steps.append(PlannedStep(number=0, method=Method.RAISE_GUARD, host=host))
        steps.extend(departures(inventory, host, assessment))
        steps.append(PlannedStep(number=0, method=Method.CONFIRM_EMPTY, host=host, wave=LAST_WAVE))
    steps = with_room_made(steps, assessment.placement, inventory)
    plan = finished_plan(OperationKind.ENTER, hosts, steps, assessment.placement, inventory, order)
    return replace(plan, unplaced=tuple(_staying(plan, assessment, inventory)))


def departures(inventory: Inventory, host: HostName, assessment: Assessment) -> list[PlannedStep]:
    """What takes every VM off a host that may be taken off it: moves, then stops."""
    chosen = {one.vm: one for one in assessment.dispositions if one.host == host}
    vms = [vm for vm in inventory.vms_on(host) if vm.id in chosen]
    moving = [vm for vm in vms if chosen[vm.id].method is Method.LIVE]
    stopping = [vm for vm in vms if chosen[vm.id].is_power_change]
    going_cold = [vm for vm in vms if chosen[vm.id].method is Method.COLD]
    waves = power_waves(chosen[vm.id].priority for vm in (*stopping, *going_cold) if vm.is_active)
    return [
        *moves_of(moving, assessment.placement, inventory),
        *stops_of(stopping, chosen, waves),
        *_cold_moves(going_cold, chosen, assessment, waves),
    ]


def with_room_made(
    steps: Sequence[PlannedStep], placement: Placement, inventory: Inventory
) -> list[PlannedStep]:
    """The steps with the moves of those who make room on hosts that stay. Each belongs to the first
    host that somebody leaves for its place, and whoever moves to where it was comes after it."""
    if not placement.makers:
        return list(steps)
    made = [
        replace(_move(vm, targets, _host_that_needs(vm.host, steps), inventory), number=number)
        for number, (which, targets) in enumerate(placement.makers.items(), 1)
        for vm in (inventory.vm(which),)
    ]
    numbers: dict[HostName | None, list[int]] = {}
    for step in made:
        numbers.setdefault(step.source, []).append(step.number)
    later = [
        replace(step, number=number, after=tuple(numbers.get(step.targets[0], ())))
        if step.method is Method.LIVE
        else step
        for number, step in enumerate(steps, len(made) + 1)
    ]
    return [*made, *later]


def _host_that_needs(room_on: HostName, steps: Sequence[PlannedStep]) -> HostName:
    comers = (step.host for step in steps if step.targets[:1] == (room_on,))
    return next(comers, steps[0].host)


def _cold_moves(
    vms: Iterable[Vm],
    chosen: Mapping[VmId, Disposition],
    assessment: Assessment,
    waves: Mapping[int, int],
) -> Iterable[PlannedStep]:
    """Those that run among those that are stopped, those that are off after them."""
    for vm in sorted(vms, key=lambda vm: (chosen[vm.id].priority, vm.name, vm.id)):
        wave = waves[chosen[vm.id].priority] if vm.is_active else REST_WAVE
        yield cold_move(vm, assessment.placement.targets[vm.id], vm.host, wave)


def _staying(plan: Plan, assessment: Assessment, inventory: Inventory) -> Iterable[Unplaced]:
    """Those that no step takes away although they have a process, or although all have to leave:
    with the reasons per target, or with the one reason that lies in themselves."""
    handled = {step.vm for step in plan.steps}
    named = {one.vm: one for one in plan.unplaced}
    for one in assessment.dispositions:
        if one.vm in handled:
            continue
        if one.vm in named and one.method is not Method.LEAVE:
            yield named[one.vm]
        elif one.method is Method.LEAVE or _has_to_leave(one, inventory):
            yield Unplaced(vm=one.vm, vm_name=one.vm_name, reasons={one.host: (one.reason,)})


def _has_to_leave(one: Disposition, inventory: Inventory) -> bool:
    return any(vm.id == one.vm for vm in movers(inventory, one.host))


def moves_of(vms: Iterable[Vm], placement: Placement, inventory: Inventory) -> list[PlannedStep]:
    """Live migrations of those VMs that have a target."""
    return [
        _move(vm, placement.targets[vm.id], vm.host, inventory)
        for vm in vms
        if vm.id in placement.targets
    ]


def moves_home(vms: Iterable[Vm], home: Host, inventory: Inventory) -> list[PlannedStep]:
    """Live migrations of VMs back to one host."""
    return [_move(vm, (home.name,), home.name, inventory) for vm in vms]


def stops_of(
    vms: Sequence[Vm], chosen: Mapping[VmId, Disposition], waves: Mapping[int, int]
) -> list[PlannedStep]:
    """Shut-downs and suspends as their dispositions say, who matters least first."""
    return [
        PlannedStep(
            number=0,
            method=one.method or Method.SHUT_DOWN,
            host=vm.host,
            wave=waves[one.priority],
            vm=vm.id,
            vm_name=vm.name,
            source=vm.host,
            load=load_of(vm),
            before=before(vm),
            grace_s=one.grace_s,
            may_power_off=one.may_power_off,
            duration_s=estimate_save(vm) if one.method is Method.SUSPEND else SHUT_DOWN_S,
        )
        for vm in sorted(vms, key=lambda vm: (chosen[vm.id].priority, vm.name, vm.id))
        for one in (chosen[vm.id],)
    ]


def starts_of(vms: Sequence[Vm], was_before: Mapping[VmId, Before]) -> list[PlannedStep]:
    """Starts of VMs that are off, each where it is, who matters most first. `was_before`: what
    each was before it was stopped."""
    waves = power_waves(-vm.policy.availability_priority for vm in vms)
    return [
        PlannedStep(
            number=0,
            method=Method.START,
            host=vm.host,
            wave=waves[-vm.policy.availability_priority],
            vm=vm.id,
            vm_name=vm.name,
            source=vm.host,
            targets=(vm.host,),
            load=load_of(vm),
            before=was_before[vm.id],
            duration_s=START_S,
        )
        for vm in sorted(vms, key=lambda vm: (-vm.policy.availability_priority, vm.name, vm.id))
    ]


def power_waves(ranks: Iterable[int]) -> dict[int, int]:
    """The wave of each rank, the lowest rank first: one of its own for each, or, where there are
    more ranks than waves, neighbours together."""
    found = sorted(set(ranks))
    most = LAST_POWER_WAVE - FIRST_POWER_WAVE + 1
    waves = min(most, len(found))
    return {rank: FIRST_POWER_WAVE + at * waves // len(found) for at, rank in enumerate(found)}


def _move(
    vm: Vm, targets: tuple[HostName, ...], host: HostName, inventory: Inventory
) -> PlannedStep:
    return PlannedStep(
        number=0,
        method=Method.LIVE,
        host=host,
        wave=MOVE_WAVE,
        vm=vm.id,
        vm_name=vm.name,
        source=vm.host,
        targets=targets,
        handover=handover_of(vm, inventory),
        waives_storage_check=waives_storage_check(vm, inventory),
        load=load_of(vm),
        before=before(vm),
    )


def before(vm: Vm) -> Before:
    """What has to be the same after whatever is done to this VM."""
    return Before(power=vm.power, is_persistent=vm.is_persistent, has_autostart=vm.has_autostart)


def roster_of(plan: Plan, inventory: Inventory) -> tuple[RosterEntry, ...]:
    """Every VM that the plan touches, as it is now: once, however many steps it takes."""
    entries: dict[VmId, RosterEntry] = {}
    for step in plan.steps:
        if step.vm is not None and step.source is not None and step.vm not in entries:
            vm = _vm_of(step, inventory)
            entries[vm.id] = RosterEntry(vm=vm.id, name=vm.name, host=vm.host, before=before(vm))
    if plan.kind is OperationKind.ENTER:
        # Those that are left are accounted for as well.
        for left in plan.unplaced:
            vm = next(vm for vm in inventory.copies_of(left.vm) if vm.host in plan.hosts)
            entries[vm.id] = RosterEntry(vm=vm.id, name=vm.name, host=vm.host, before=before(vm))
    return tuple(entries.values())


def _vm_of(step: PlannedStep, inventory: Inventory) -> Vm:
    """The VM of a step as it is now: where the step starts, or where an earlier step starts that
    brings it there."""
    here = (vm for vm in inventory.vms_on(step.source or step.host) if vm.id == step.vm)
    return next(here, None) or inventory.vm(step.vm or VmId(""))


def plan_action(kind: OperationKind, host: HostName, steps: Sequence[PlannedStep]) -> Plan:
    """The plan of a request about one host or one VM, made of these steps."""
    return Plan(kind=kind, hosts=(host,), steps=numbered(tuple(steps)))


_METHOD_OF_KIND = {
    OperationKind.START_VM: Method.START,
    OperationKind.SHUT_DOWN_VM: Method.SHUT_DOWN,
    OperationKind.POWER_OFF_VM: Method.POWER_OFF,
}


def plan_power(kind: OperationKind, vm: Vm) -> Plan:
    """Start, shut down or power off one VM where it is."""
    step = PlannedStep(
        number=1,
        method=_METHOD_OF_KIND[kind],
        host=vm.host,
        vm=vm.id,
        vm_name=vm.name,
        source=vm.host,
        targets=(vm.host,) if kind is OperationKind.START_VM else (),
        load=load_of(vm) if kind is OperationKind.START_VM else NOTHING,
        before=before(vm),
    )
    return plan_action(kind, vm.host, (step,))


def plan_migration(vm: Vm, placement: Placement, inventory: Inventory) -> Plan:
    """Move one VM, as its owner asked for."""
    steps = moves_of([vm], placement, inventory)
    return finished_plan(OperationKind.MIGRATE_VM, (vm.host,), steps, placement, inventory)


def plan_remainder(
    inventory: Inventory,
    host: HostName,
    assessment: Assessment,
    first: int,
    order: Order = Order.SCHEDULE,
) -> tuple[PlannedStep, ...]:
    """Steps for VMs that appeared on a host after its plan was made."""
    timed = put_in_time(departures(inventory, host, assessment), inventory, order)
    return numbered(timed.steps, first=first)


def finished_plan(
    kind: OperationKind,
    hosts: Sequence[HostName],
    steps: Sequence[PlannedStep],
    placement: Placement,
    inventory: Inventory,
    order: Order = Order.SCHEDULE,
) -> Plan:
    """Put the steps in time, and say what the cluster looks like after. To enter a host ends
    with seeing it empty."""
    timed = put_in_time(steps, inventory, order)
    proof = PROOF if kind is OperationKind.ENTER else NO_TIME
    return Plan(
        kind=kind,
        hosts=tuple(hosts),
        steps=timed.steps,
        unplaced=tuple(_unplaced(placement, inventory)),
        eta=timed.eta + proof,
        eta_reasons=timed.reasons,
        bound_s=timed.bound_s,
        load_after=_load_after(
            timed.steps, hosts, inventory, stays=kind is not OperationKind.ENTER
        ),
    )


def _unplaced(placement: Placement, inventory: Inventory) -> Iterable[Unplaced]:
    for vm, against in placement.refusals.items():
        yield Unplaced(
            vm=vm,
            vm_name=inventory.vm(vm).name,
            reasons={host: tuple(one.message for one in found) for host, found in against.items()},
        )


def _load_after(
    steps: Sequence[PlannedStep],
    hosts: Sequence[HostName],
    inventory: Inventory,
    *,
    stays: bool,
) -> LoadAfter:
    """Memory load of the hosts that stay, once everybody is on the first target; whether the
    hosts of the operation `stays` among them is for its kind to say."""
    arriving: dict[HostName, Load] = {}
    departing: set[tuple[HostName | None, VmId | None]] = set()
    for step in steps:
        if step.method in (Method.LIVE, Method.COLD):
            arriving[step.targets[0]] = arriving.get(step.targets[0], NOTHING) + step.load
            if step.source is not None and _is_second_leg(step, steps):
                arriving[step.source] = arriving.get(step.source, NOTHING) - step.load
            departing.add((step.source, step.vm))
    loads = []
    clusters = {inventory.host(name).cluster for name in (*hosts, *arriving)}
    for host in inventory.hosts:
        if host.cluster not in clusters or (host.name in hosts and not stays):
            continue
        size = limit_of(host, inventory.cluster_of(host).policy).memory_mib
        staying = sum(
            (
                load_of(vm)
                for vm in inventory.vms_on(host.name)
                if vm.is_active and (host.name, vm.id) not in departing
            ),
            arriving.get(host.name, NOTHING),
        )
        loads.append(staying.memory_mib / max(1, size))
    if not loads:
        return NO_LOAD
    return LoadAfter(max=round(max(loads), 4), sd=round(pstdev(loads), 4))


def _is_second_leg(step: PlannedStep, steps: Sequence[PlannedStep]) -> bool:
    """Whether another step brings the VM to where this one takes it from."""
    return any(one.vm == step.vm and step.source in one.targets[:1] for one in steps if one.vm)
