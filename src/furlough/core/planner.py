"""Planning: facts and policy in, a plan out. Nothing is left for the engine to choose.

Entering:  raise the guard, move every VM with a process on the host, confirm it empty.
Exiting:   admit those who come home, bring them home, lower the guard (see `restore`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import pstdev

from furlough.core.capacity import NOTHING, Load, limit_of, load_of
from furlough.core.estimate import (
    FINISH_S,
    SET_UP_S,
    Range,
    makespan,
    rate_mib_s,
)
from furlough.core.handover import expected_move, handover_of, waives_storage_check
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.placement import Placement
from furlough.core.plan import (
    NO_LOAD,
    Before,
    LoadAfter,
    Method,
    OperationKind,
    Plan,
    PlannedStep,
    Unplaced,
    numbered,
)
from furlough.core.prechecks import Assessment, movers

# VMs that are shut down or started do so in up to seven groups, between the moves and the end.
GUARD_WAVE, MOVE_WAVE, FIRST_POWER_WAVE, LAST_POWER_WAVE, LAST_WAVE = 0, 1, 2, 8, 9


def plan_enter(inventory: Inventory, hosts: Sequence[HostName], assessment: Assessment) -> Plan:
    """The plan that empties these hosts. VMs that fit nowhere are in `unplaced`, with reasons;
    whether that forbids the operation is for the prechecks to say."""
    steps: list[PlannedStep] = []
    for host in hosts:
        steps.append(PlannedStep(number=0, method=Method.RAISE_GUARD, host=host))
        steps.extend(moves_of(movers(inventory, host), assessment.placement, inventory))
        steps.append(PlannedStep(number=0, method=Method.CONFIRM_EMPTY, host=host, wave=LAST_WAVE))
    return finished_plan(OperationKind.ENTER, hosts, steps, assessment.placement, inventory)


def moves_of(vms: Iterable[Vm], placement: Placement, inventory: Inventory) -> list[PlannedStep]:
    """Live migrations of those VMs that have a target, the largest first."""
    placed = [vm for vm in vms if vm.id in placement.targets]
    return [
        _move(vm, placement.targets[vm.id], vm.host, inventory)
        for vm in sorted(placed, key=lambda vm: (-vm.memory_mib, vm.name, vm.id))
    ]


def moves_home(vms: Iterable[Vm], home: Host, inventory: Inventory) -> list[PlannedStep]:
    """Live migrations of VMs back to one host, the largest first."""
    return [
        _move(vm, (home.name,), home.name, inventory)
        for vm in sorted(vms, key=lambda vm: (-vm.memory_mib, vm.name, vm.id))
    ]


def _move(
    vm: Vm, targets: tuple[HostName, ...], host: HostName, inventory: Inventory
) -> PlannedStep:
    expected = expected_move(vm, inventory.host(targets[0]), inventory)
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
        duration_s=expected.duration_s,
        downtime_ms=expected.downtime_ms,
        sent_mib=expected.sent_mib,
    )


def before(vm: Vm) -> Before:
    """What has to be the same after whatever is done to this VM."""
    return Before(power=vm.power, is_persistent=vm.is_persistent, has_autostart=vm.has_autostart)


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
    inventory: Inventory, newcomers: Sequence[Vm], placement: Placement, first: int
) -> tuple[PlannedStep, ...]:
    """Steps for VMs that appeared on a host after its plan was made."""
    return numbered(tuple(moves_of(newcomers, placement, inventory)), first=first)


def finished_plan(
    kind: OperationKind,
    hosts: Sequence[HostName],
    steps: Sequence[PlannedStep],
    placement: Placement,
    inventory: Inventory,
) -> Plan:
    """Number the steps, put estimates on them, and say what the cluster looks like after."""
    timed, eta = _timed(numbered(tuple(steps)), hosts, kind, inventory)
    return Plan(
        kind=kind,
        hosts=tuple(hosts),
        steps=timed,
        unplaced=tuple(_unplaced(placement, inventory)),
        eta=eta,
        load_after=_load_after(timed, hosts, inventory, stays=kind is not OperationKind.ENTER),
    )


def _timed(
    steps: tuple[PlannedStep, ...],
    hosts: Sequence[HostName],
    kind: OperationKind,
    inventory: Inventory,
) -> tuple[tuple[PlannedStep, ...], Range]:
    """Start times and a range, as if the moves of each host of the operation followed one
    another on its link; set-ups hide behind the copying of others, as far as slots allow."""
    timed: list[PlannedStep] = []
    moves: dict[HostName, list[PlannedStep]] = {host: [] for host in hosts}
    for step in steps:
        shared = step.host if kind is OperationKind.EXIT else step.source
        if step.method is not Method.LIVE or shared is None:
            timed.append(step)
            continue
        earlier = moves[shared]
        copying_s = sum(one.sent_mib / _rate_of(one, inventory) for one in earlier)
        turns = len(earlier) // _at_once(shared, kind, inventory)
        start_s = max(copying_s, turns * (SET_UP_S + FINISH_S))
        timed.append(replace(step, start_s=round(start_s, 2)))
        earlier.append(step)
    ranges = [
        makespan(
            [step.sent_mib for step in one],
            min(_rate_of(step, inventory) for step in one),
            _at_once(host, kind, inventory),
        )
        for host, one in moves.items()
        if one
    ]
    return tuple(timed), Range(
        low=max((one.low for one in ranges), default=0.0),
        high=max((one.high for one in ranges), default=0.0),
    )


def _rate_of(step: PlannedStep, inventory: Inventory) -> float:
    """What a planned migration can move in a second, in MiB."""
    source = inventory.host(step.source or step.host)
    return rate_mib_s(source, inventory.host(step.targets[0]))


def _at_once(host: HostName, kind: OperationKind, inventory: Inventory) -> int:
    """How many moves out of this host, or back to it, may be in flight."""
    limits = inventory.cluster_of(inventory.host(host)).policy.limits
    return max(1, limits.per_target if kind is OperationKind.EXIT else limits.per_source)


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
        if step.method is Method.LIVE:
            arriving[step.targets[0]] = arriving.get(step.targets[0], NOTHING) + step.load
            departing.add((step.source, step.vm))
    loads = []
    clusters = {inventory.host(name).cluster for name in hosts}
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
