"""The remainder of an entering, planned anew: whose plan cannot be carried out any more, and what
is to be done with them by the facts of now.

    a step that waits, and none of its targets would take its VM      -> planned anew
    a step that has failed, and a host it did not know of takes it    -> planned anew, once
    a step that has failed, while the operation waits for its VM      -> whenever facts have changed
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from furlough.core.capacity import NOTHING, Load, Reservation, rooms
from furlough.core.holding import has_failed
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm, with_overflow
from furlough.core.operation import Operation, Step
from furlough.core.plan import Method, PlannedStep
from furlough.core.policy import EnterOptions
from furlough.core.states import HostMode, StepState
from furlough.planning.assessment import Assessment, Report
from furlough.planning.candidates import candidates
from furlough.planning.crossing import place_across
from furlough.planning.dispositions import MOVES_LIVE, Disposition, decide, disposition
from furlough.planning.placement import Placement
from furlough.planning.planner import plan_remainder
from furlough.planning.ties import ties_of

_HA = "vm.ha_shut_down"


# --- whose plan does not hold ------------------------------------------------------------------


def impossible(
    operation: Operation, inventory: Inventory, reservations: Sequence[Reservation]
) -> dict[int, str]:
    """By step number: why no target of a migration that has yet to begin would take its VM now:
    they are gone, closed, silent or full. VMs that are not where the plan has them, and what else
    may be wrong with a target, are for the steps to find out about."""
    present = _active_on(operation.hosts, inventory)
    closed = {host.name: _closed(host) for host in inventory.hosts}
    free = rooms(inventory, inventory.hosts, reservations)
    held = {(one.host, one.vm) for one in reservations if one.operation == operation.id}
    found: dict[int, str] = {}
    for step in operation.steps:
        if not _is_to_depart(step) or (step.planned.host, step.planned.vm) not in present:
            continue
        if not all(operation.step(one).is_final for one in step.planned.after):
            continue  # Its room is not made yet.
        against = {}
        for target in step.planned.targets:
            why = closed.get(target, "it is not enrolled any more")
            has_place = (target, step.planned.vm) in held
            if not why and not _has_room(step, free[target], has_place=has_place):
                why = "it has no room left"
            if not why:
                break
            against[target] = why
        else:
            found[step.number] = "; ".join(f"{host}: {why}" for host, why in against.items())
    return found


def _is_to_depart(step: Step) -> bool:
    return (
        step.state is StepState.PENDING
        and step.method is Method.LIVE
        and step.planned.source == step.planned.host
    )


def _active_on(
    hosts: Iterable[HostName], inventory: Inventory
) -> frozenset[tuple[HostName, VmId | None]]:
    return frozenset(
        (host, vm.id)
        for host in hosts
        for vm in inventory.vms_on(host)
        if vm.is_active and not vm.is_arriving
    )


def _closed(host: Host) -> str:
    """Why a host takes no VM at all now; empty where it does."""
    if host.mode is not HostMode.AVAILABLE:
        return f"it is {host.mode.value}"
    if host.kept_empty_by:
        return f"it is kept empty by {host.kept_empty_by}"
    return "" if host.is_connected else "it does not answer"


def _has_room(step: Step, free: Load, *, has_place: bool) -> bool:
    """Whether a VM fits in what is free beside all that is held; what is held for itself counts
    among that."""
    return NOTHING.fits_in(free) if has_place else step.planned.load.fits_in(free)


def vm_of(step: Step, inventory: Inventory) -> Vm | None:
    """The VM of a step as it is on the host that it is to leave; None where it is not there."""
    here = (
        vm
        for vm in inventory.vms_on(step.planned.host)
        if vm.id == step.planned.vm and vm.is_active and not vm.is_arriving
    )
    return next(here, None)


def failed_steps(operation: Operation) -> tuple[Step, ...]:
    """The steps about VMs that have failed on the way out, and count."""
    return tuple(
        step
        for step in operation.steps
        if has_failed(step)
        and step.planned.vm is not None
        and step.planned.source == step.planned.host
    )


def was_planned_anew(step: Step, operation: Operation) -> bool:
    """Whether an earlier step about the same VM was overtaken already."""
    return any(one.is_overtaken and one.planned.vm == step.planned.vm for one in operation.steps)


Circumstances = tuple[object, ...]


def circumstances(vm: Vm, inventory: Inventory) -> Circumstances:
    """All that decides whether a VM can leave its host: two that are equal give the same plan. What
    changes by itself while a guest runs is left out."""
    still = replace(
        vm, memory_used_mib=None, dirty_mib_s=None, working_set_mib=None, dirty_measured_at=None
    )
    near = with_overflow([inventory.host(vm.host).cluster], inventory.clusters)
    hosts = [host for host in inventory.hosts if host.cluster in near]
    return (still, *(_state_of(host, inventory) for host in hosts))


def _state_of(host: Host, inventory: Inventory) -> Circumstances:
    listed = frozenset(
        (vm.id, vm.name, vm.power, vm.memory_mib, vm.vcpus) for vm in inventory.vms_on(host.name)
    )
    still = replace(host, probe=None, intruders=(), guard_trouble="", operation=None)
    return (still, listed, inventory.cluster_of(host).policy)


# --- what is to be done instead ----------------------------------------------------------------


def fresh_steps(
    operation: Operation,
    vms: Sequence[Vm],
    inventory: Inventory,
    options: EnterOptions,
    reservations: Sequence[Reservation],
) -> tuple[PlannedStep, ...]:
    """Steps that take these VMs, all of one host, off it by the facts of now; nothing about those
    with which nothing can be done. `reservations`: of all others."""
    host = vms[0].host
    untied = [vm for vm in vms if not ties_of(vm)]
    targets = candidates(inventory, operation.hosts, options)
    placement = place_across(untied, targets, inventory, reservations, leaving=operation.hosts)
    fates = tuple(_fate(vm, placement, options) for vm in vms)
    report = Report(host=host, findings=(), dispositions=tuple(one for one in fates if one))
    assessment = Assessment(reports=(report,), placement=placement)
    first = len(operation.steps) + 1
    return plan_remainder(inventory, host, assessment, first=first, order=options.order)


def _fate(vm: Vm, placement: Placement, options: EnterOptions) -> Disposition | None:
    if vm.id in placement.targets:
        return disposition(vm, MOVES_LIVE)
    words = ", ".join(tie.words for tie in ties_of(vm)) or "fits on no host"
    choice = decide(vm, words, options.shut_down)
    found = disposition(vm, choice)
    may_stop = _HA in options.override or not vm.policy.ha
    return found if found.is_power_change and may_stop else None


def differences(
    operation: Operation, replaces: Iterable[int], steps: Sequence[PlannedStep]
) -> tuple[str, ...]:
    """For each VM what was planned and what is planned now, in words."""
    now: Mapping[VmId | None, PlannedStep] = {step.vm: step for step in steps}
    found = []
    for number in replaces:
        old = operation.step(number).planned
        if old.vm in now:
            found.append(f"{old.vm_name}: {_words(old)} -> {_words(now[old.vm])}")
    return tuple(found)


def _words(step: PlannedStep) -> str:
    if step.method is Method.LIVE and step.targets:
        return f"to {step.targets[0]}"
    return step.method.value.replace("_", " ")
