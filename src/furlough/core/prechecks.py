"""Prechecks of entering maintenance: facts and policy in, findings and dispositions out.

They read and change nothing. Each check is a function of a `Case`; the list at the end is the
order in which people read the result: first the cluster, then the host, then each VM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from furlough.core.capacity import Reservation, rooms
from furlough.core.compatibility import Cause, Obstacle
from furlough.core.findings import Finding, Verdict, finding, verdict
from furlough.core.handover import expected_move, handover_of, unproven
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.placement import Placement, place
from furlough.core.plan import Handover, Method
from furlough.core.policy import EnterOptions
from furlough.core.states import HostMode, Power

# When every target is refused for one and the same cause, the finding says which.
_CODE_OF_CAUSE = {
    Cause.CPU: "vm.cpu",
    Cause.DISK: "vm.disk",
    Cause.NETWORK: "vm.network",
    Cause.DUPLICATE: "vm.duplicate",
    Cause.ROOM: "vm.no_room",
}
_HOSTS_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Disposition:
    """What will happen to one VM: how it leaves, where to, why, how long, with what pause."""

    vm: VmId
    vm_name: str
    method: Method | None
    target: HostName | None
    reason: str
    duration_s: float = 0.0
    downtime_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """The precheck of one host."""

    host: HostName
    findings: tuple[Finding, ...]
    dispositions: tuple[Disposition, ...]

    @property
    def verdict(self) -> Verdict:
        return verdict(self.findings)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Everything one precheck may look at: the host in question, all hosts that leave with it,
    the hosts that could take VMs, and where the VMs would go."""

    inventory: Inventory
    options: EnterOptions
    host: Host
    leaving: frozenset[HostName]
    targets: Sequence[Host]
    placement: Placement

    @property
    def movers(self) -> list[Vm]:
        """The VMs that have to leave the host."""
        return movers(self.inventory, self.host.name)


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """The precheck of all hosts that are to be entered, and the placement it rests on."""

    reports: tuple[Report, ...]
    placement: Placement

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """All that forbids entering."""
        return tuple(
            one
            for report in self.reports
            for one in report.findings
            if verdict([one]) is Verdict.BLOCKED
        )


def movers(inventory: Inventory, host: HostName) -> list[Vm]:
    """The VMs that have to leave a host: those with a process on it. What is still arriving there
    cannot leave yet."""
    return [vm for vm in inventory.vms_on(host) if vm.is_active and not vm.is_arriving]


def arriving(inventory: Inventory, host: HostName) -> list[Vm]:
    """The VMs that incoming migrations are bringing to a host."""
    return [vm for vm in inventory.vms_on(host) if vm.is_arriving]


def candidates(
    inventory: Inventory, leaving: Iterable[HostName], options: EnterOptions
) -> list[Host]:
    """The hosts that may be considered as targets: the same clusters, not leaving themselves,
    and among those the operator named, if any were named."""
    gone = frozenset(leaving)
    clusters = {inventory.host(name).cluster for name in gone}
    wanted = frozenset(options.target_hosts)
    return [
        host
        for host in inventory.hosts
        if host.cluster in clusters
        and host.name not in gone
        and (not wanted or host.name in wanted)
    ]


def assess(
    inventory: Inventory,
    hosts: Sequence[HostName],
    options: EnterOptions,
    reservations: Sequence[Reservation] = (),
) -> Assessment:
    """Check these hosts together. `NotFound` where a host or a named target is unknown."""
    for name in options.target_hosts:
        inventory.host(name)
    targets = candidates(inventory, hosts, options)
    leaving = [vm for name in hosts for vm in movers(inventory, name)]
    placement = place(leaving, targets, rooms(inventory, targets, reservations), inventory)
    reports = []
    for name in hosts:
        case = Case(
            inventory=inventory,
            options=options,
            host=inventory.host(name),
            leaving=frozenset(hosts),
            targets=[one for one in targets if one.cluster == inventory.host(name).cluster],
            placement=placement,
        )
        findings = tuple(one for check in PRECHECKS for one in check(case))
        reports.append(
            Report(host=name, findings=findings, dispositions=tuple(_dispositions(case)))
        )
    return Assessment(reports=tuple(reports), placement=placement)


# --- the cluster ------------------------------------------------------------------------------


def _check_other_hosts_away(case: Case) -> Iterator[Finding]:
    policy = case.inventory.cluster_of(case.host).policy
    mates = case.inventory.hosts_of(case.host.cluster)
    away = [host for host in mates if host.is_away and host.name not in case.leaving]
    together = [host.name for host in mates if host.name in case.leaving]
    if len(away) + len(together) > policy.max_hosts_away:
        names = ", ".join(
            [f"{host.name} is {host.mode.value}" for host in away]
            or [f"{len(together)} hosts are asked for together"]
        )
        yield finding(
            "cluster.host_away",
            case.host.cluster,
            f"Cluster {case.host.cluster} allows {policy.max_hosts_away} host(s) away "
            f"at a time; {names}.",
        )


def _check_other_hosts_silent(case: Case) -> Iterator[Finding]:
    for host in case.inventory.hosts_of(case.host.cluster):
        if host.name not in case.leaving and not host.is_connected:
            yield finding(
                "cluster.host_silent",
                host.name,
                f"Host {host.name} of the same cluster does not answer{_because(host)}.",
            )


def _check_targets_exist(case: Case) -> Iterator[Finding]:
    usable = [
        host for host in case.targets if host.is_connected and host.mode is HostMode.AVAILABLE
    ]
    if case.movers and not usable:
        yield finding(
            "cluster.too_small",
            case.host.cluster,
            f"No available host of cluster {case.host.cluster} could take "
            f"{len(case.movers)} VM(s) of {case.host.name}.",
        )


# --- the host ---------------------------------------------------------------------------------


def _check_host_answers(case: Case) -> Iterator[Finding]:
    if not case.host.is_connected:
        yield finding(
            "host.silent",
            case.host.name,
            f"Host {case.host.name} does not answer{_because(case.host)}.",
        )


def _check_guard_program(case: Case) -> Iterator[Finding]:
    if case.host.is_connected and not case.host.has_guard:
        yield finding(
            "guard.missing",
            case.host.name,
            f"furlough-host does not answer on {case.host.name}, so nothing would keep it empty.",
        )


def _check_host_mode(case: Case) -> Iterator[Finding]:
    if case.host.is_away:
        owner = f" (operation {case.host.operation})" if case.host.operation else ""
        yield finding(
            "host.mode",
            case.host.name,
            f"Host {case.host.name} is {case.host.mode.value} already{owner}.",
        )


# --- its VMs ----------------------------------------------------------------------------------

_POWER_FINDINGS = {
    Power.PAUSED: ("vm.paused", "is paused; it will move and stay paused"),
    Power.ERROR: ("vm.error", "is in error"),
    Power.SUSPENDED: ("vm.suspended", "sleeps (suspended by its guest)"),
}


def _check_vm_power(case: Case) -> Iterator[Finding]:
    for vm in case.movers:
        if vm.power in _POWER_FINDINGS:
            code, what = _POWER_FINDINGS[vm.power]
            yield finding(code, subject_of(vm), f"VM {vm.name} {what}.")


def _check_vm_busy(case: Case) -> Iterator[Finding]:
    for vm in case.movers:
        if vm.busy_with:
            yield finding(
                "vm.busy", subject_of(vm), f"VM {vm.name} is busy: {vm.busy_with} is under way."
            )


def _check_vm_arriving(case: Case) -> Iterator[Finding]:
    for vm in arriving(case.inventory, case.host.name):
        yield finding(
            "vm.arriving",
            subject_of(vm),
            f"VM {vm.name} is being migrated to {case.host.name}; it is sent on once it is there.",
        )


def _check_two_copies(case: Case) -> Iterator[Finding]:
    for vm in case.movers:
        active = [copy.host for copy in case.inventory.running_copies_of(vm.id)]
        if len(active) > 1:
            yield finding(
                "vm.two_copies",
                subject_of(vm),
                f"VM {vm.name} is active on {' and '.join(sorted(active))} at once.",
            )


def _check_vm_devices(case: Case) -> Iterator[Finding]:
    for vm in case.movers:
        if vm.devices:
            yield finding(
                "vm.device",
                subject_of(vm),
                f"VM {vm.name} has passed-through device(s): {', '.join(vm.devices)}.",
            )


def _check_vm_targets(case: Case) -> Iterator[Finding]:
    for vm in case.movers:
        against = case.placement.refusals.get(vm.id)
        if against:
            yield finding(
                _code_for(against.values()),
                subject_of(vm),
                f"VM {vm.name} fits on no host: {_reasons(against)}.",
            )


def _check_handover(case: Case) -> Iterator[Finding]:
    for vm in case.movers:
        if vm.id in case.placement.targets and handover_of(vm, case.inventory) is Handover.HELD:
            yield finding(
                "vm.held_handover",
                subject_of(vm),
                f"VM {vm.name} goes by held handover: {unproven(vm, case.inventory)}.",
            )


PRECHECKS: tuple[Callable[[Case], Iterable[Finding]], ...] = (
    _check_other_hosts_away,
    _check_other_hosts_silent,
    _check_targets_exist,
    _check_host_answers,
    _check_guard_program,
    _check_host_mode,
    _check_vm_power,
    _check_vm_busy,
    _check_vm_arriving,
    _check_two_copies,
    _check_vm_devices,
    _check_vm_targets,
    _check_handover,
)


# --- words and dispositions -------------------------------------------------------------------


def subject_of(vm: Vm) -> str:
    """How a finding names a VM: names may repeat, UUIDs may not be readable."""
    return f"{vm.name} ({vm.id})"


def _dispositions(case: Case) -> Iterator[Disposition]:
    for vm in case.inventory.vms_on(case.host.name):
        targets = case.placement.targets.get(vm.id)
        if not vm.is_active:
            yield _stays(vm, "it is powered off; only running VMs have to leave")
        elif vm.is_arriving:
            yield _stays(vm, "it is just arriving; it is sent on once it is here")
        elif targets is None:
            yield _stays(vm, f"fits on no host: {_reasons(case.placement.refusals[vm.id])}")
        else:
            expected = expected_move(vm, case.inventory.host(targets[0]), case.inventory)
            yield Disposition(
                vm=vm.id,
                vm_name=vm.name,
                method=Method.LIVE,
                target=targets[0],
                reason="levels the memory load best",
                duration_s=expected.duration_s,
                downtime_ms=expected.downtime_ms,
            )


def _stays(vm: Vm, reason: str) -> Disposition:
    return Disposition(vm=vm.id, vm_name=vm.name, method=None, target=None, reason=reason)


def _code_for(against: Iterable[Sequence[Obstacle]]) -> str:
    """The code of the one cause that all hosts share, or the general one."""
    shared: set[Cause] | None = None
    for found in against:
        causes = {obstacle.cause for obstacle in found}
        shared = causes if shared is None else shared & causes
    for cause, code in _CODE_OF_CAUSE.items():
        if shared and cause in shared:
            return code
    return "vm.no_target"


def _reasons(against: Mapping[HostName, Sequence[Obstacle]]) -> str:
    """Per host why it is refused; long lists are summed up by reason."""
    if not against:
        return "there is no other host"
    if len(against) <= _HOSTS_SHOWN:
        return "; ".join(
            f"{name}: {', '.join(one.message for one in found)}"
            for name, found in sorted(against.items())
        )
    counts = Counter(one.message for found in against.values() for one in found)
    return "; ".join(f"{count} hosts: {message}" for message, count in counts.most_common(5))


def _because(host: Host) -> str:
    return f": {host.silent_because}" if host.silent_because else ""
