"""Prechecks of entering maintenance: facts and policy in, findings and dispositions out.

They read and change nothing. Each check is a function of a `Case`; the lists of checks are in
the order in which people read the result: first the cluster, then the host, then its VMs.

    ties of each VM ─► placement of the rest ─► method of each VM ─► findings ─► their weight
                                                       └─► placement of those that go cold
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from furlough.core.capacity import Reservation, load_of
from furlough.core.findings import Finding
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.plan import Method
from furlough.core.policy import EnterOptions, OnFailure, Scope
from furlough.planning.assessment import Assessment, Report
from furlough.planning.bonds import bonds_of
from furlough.planning.candidates import candidates, movers
from furlough.planning.cold import Resting, cold_obstacles, settle_resting
from furlough.planning.compatibility import Obstacle
from furlough.planning.crossing import place_across
from furlough.planning.dispositions import (
    Choice,
    Disposition,
    cold_disposition,
    decide,
    disposition,
    disposition_of_resting,
)
from furlough.planning.handover import expected_move
from furlough.planning.placement import Placement
from furlough.planning.ties import Tie, ties_of
from furlough.prechecks.cases import Case, reasons
from furlough.prechecks.cluster import CLUSTER_PRECHECKS
from furlough.prechecks.host import HOST_PRECHECKS
from furlough.prechecks.vm import VM_PRECHECKS
from furlough.prechecks.weighing import Weights

PRECHECKS: tuple[Callable[[Case], Iterable[Finding]], ...] = (
    *CLUSTER_PRECHECKS,
    *HOST_PRECHECKS,
    *VM_PRECHECKS,
)


@dataclass(frozen=True, kw_only=True)
class _Fates:
    """What is to become of each VM that has to leave, and why (see `Case`)."""

    choices: Mapping[VmId, Choice]
    ties: Mapping[VmId, Sequence[Tie]]
    placement: Placement
    refusals: Mapping[VmId, Mapping[HostName, tuple[Obstacle, ...]]]
    resting: Mapping[tuple[HostName, VmId], Resting]


def assess(
    inventory: Inventory,
    hosts: Sequence[HostName],
    options: EnterOptions,
    reservations: Sequence[Reservation] = (),
) -> Assessment:
    """Check these hosts together. `NotFound` where a host or a named target is unknown. The
    options are settled (see `requests.settled`)."""
    for name in options.target_hosts:
        inventory.host(name)
    targets = candidates(inventory, hosts, options)
    leaving = [vm for name in hosts for vm in movers(inventory, name)]
    fates = _fates(leaving, hosts, targets, inventory, options, reservations)
    fates = _with_cold(fates, leaving, hosts, targets, inventory, reservations)
    if options.scope is Scope.ALL:
        fates = _with_resting(fates, settle_resting(inventory, hosts, targets))
    reports = tuple(_report(case) for case in _cases(inventory, hosts, targets, options, fates))
    return Assessment(reports=reports, placement=fates.placement)


def _fates(
    vms: Sequence[Vm],
    hosts: Sequence[HostName],
    targets: Sequence[Host],
    inventory: Inventory,
    options: EnterOptions,
    reservations: Sequence[Reservation],
) -> _Fates:
    """Decide about every VM. Who fits nowhere and may be stopped instead makes way: others of
    its group may then find a place without it."""
    ties = {vm.id: ties_of(vm) for vm in vms}
    choices = {vm.id: decide(vm, _words(ties[vm.id]), options.shut_down) for vm in vms}
    refusals: dict[VmId, Mapping[HostName, tuple[Obstacle, ...]]] = {}
    while True:
        live = [vm for vm in vms if choices[vm.id].method is Method.LIVE]
        placement = place_across(
            live,
            targets,
            inventory,
            reservations,
            leaving=hosts,
            # One that waits for whoever cannot leave would wait for those who make room too.
            moves_others=options.on_failure is not OnFailure.WAIT,
        )
        refused = [vm for vm in live if vm.id in placement.refusals]
        instead = {
            vm.id: decide(
                vm, f"fits on no host: {reasons(placement.refusals[vm.id])}", options.shut_down
            )
            for vm in refused
        }
        stopped = {vm for vm, choice in instead.items() if choice.method is not None}
        if not stopped or len(stopped) == len(refused):
            choices |= instead
            refusals |= placement.refusals
            break
        choices |= {vm: instead[vm] for vm in stopped}
        refusals |= {vm: placement.refusals[vm] for vm in stopped}
    left = {vm: found for vm, found in refusals.items() if choices[vm].method is None}
    return _Fates(
        choices=choices,
        ties=ties,
        placement=replace(placement, refusals=left),
        refusals=refusals,
        resting={},
    )


def _with_cold(
    fates: _Fates,
    vms: Sequence[Vm],
    hosts: Sequence[HostName],
    targets: Sequence[Host],
    inventory: Inventory,
    reservations: Sequence[Reservation],
) -> _Fates:
    """With targets for those that run and go cold, beside those who move live. Who finds none
    stays."""
    cold = [vm for vm in vms if fates.choices[vm.id].method is Method.COLD]
    if not cold:
        return fates
    load = {vm.id: load_of(vm) for vm in vms}
    held = [
        Reservation(operation=OperationId(""), vm=vm, host=ranked[0], load=load[vm])
        for vm, ranked in fates.placement.targets.items()
    ]
    held += [
        Reservation(
            operation=OperationId(""), vm=vm, host=ranked[0], load=load_of(inventory.vm(vm))
        )
        for vm, ranked in fates.placement.makers.items()
    ]
    found = place_across(
        cold, targets, inventory, [*reservations, *held], judge=cold_obstacles, leaving=hosts
    )
    choices = dict(fates.choices)
    for vm, against in found.refusals.items():
        trouble = f"nor does it fit on a host cold: {reasons(against)}"
        choices[vm] = Choice(method=None, reason=choices[vm].reason, trouble=trouble)
    placement = replace(
        fates.placement,
        targets={**fates.placement.targets, **found.targets},
        broken={**fates.placement.broken, **found.broken},
        gaps={**fates.placement.gaps, **found.gaps},
        crossing={**fates.placement.crossing, **found.crossing},
    )
    return replace(fates, choices=choices, placement=placement)


def _with_resting(fates: _Fates, found: Mapping[tuple[HostName, VmId], Resting]) -> _Fates:
    """With what becomes of those that are off."""
    targets = {vm: one.targets for (_, vm), one in found.items() if one.targets}
    placement = replace(fates.placement, targets={**fates.placement.targets, **targets})
    return replace(fates, resting=found, placement=placement)


def _words(ties: Iterable[Tie]) -> str:
    return ", ".join(tie.words for tie in ties)


def _cases(
    inventory: Inventory,
    hosts: Sequence[HostName],
    targets: Sequence[Host],
    options: EnterOptions,
    fates: _Fates,
) -> Iterator[Case]:
    bonds = bonds_of(inventory, {inventory.host(name).cluster for name in hosts})
    for name in hosts:
        host = inventory.host(name)
        yield Case(
            inventory=inventory,
            options=options,
            host=host,
            leaving=frozenset(hosts),
            targets=_targets_of(host, targets, inventory, fates.placement),
            placement=fates.placement,
            choices=fates.choices,
            ties=fates.ties,
            refusals=fates.refusals,
            bonds=bonds,
            resting={vm: one for (at, vm), one in fates.resting.items() if at == name},
        )


def _targets_of(
    host: Host, targets: Sequence[Host], inventory: Inventory, placement: Placement
) -> list[Host]:
    """The hosts that concern whoever leaves this one: of its own cluster, and those of others to
    which somebody crosses."""
    leaving = (vm.id for vm in inventory.vms_on(host.name))
    used = {name for vm in leaving for name in placement.targets.get(vm, ())}
    return [one for one in targets if one.cluster == host.cluster or one.name in used]


def _report(case: Case) -> Report:
    weights = Weights(policy=case.inventory.cluster_of(case.host).policy, options=case.options)
    return Report(
        host=case.host.name,
        findings=tuple(weights.weigh(one) for check in PRECHECKS for one in check(case)),
        dispositions=tuple(_dispositions(case)),
    )


def _dispositions(case: Case) -> Iterator[Disposition]:
    for vm in case.inventory.vms_on(case.host.name):
        if not vm.is_active and vm.id in case.resting:
            yield disposition_of_resting(case.resting[vm.id])
        elif not vm.is_active:
            yield _stays(vm, "it is powered off; only running VMs have to leave")
        elif vm.is_arriving:
            yield _stays(vm, "it is just arriving; it is sent on once it is here")
        elif case.method_of(vm) is Method.LIVE:
            yield _moves(vm, case)
        elif case.method_of(vm) is Method.COLD:
            target = case.placement.targets[vm.id][0]
            yield cold_disposition(vm, case.choices[vm.id], target)
        else:
            yield disposition(vm, case.choices[vm.id])


def _moves(vm: Vm, case: Case) -> Disposition:
    target = case.placement.targets[vm.id][0]
    expected = expected_move(vm, case.inventory.host(target), case.inventory)
    return replace(
        disposition(vm, case.choices[vm.id]),
        target=target,
        duration_s=expected.duration_s,
        downtime_ms=expected.downtime_ms,
    )


def _stays(vm: Vm, why: str) -> Disposition:
    return disposition(vm, Choice(method=None, reason=why))
