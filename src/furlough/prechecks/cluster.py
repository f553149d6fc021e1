"""Prechecks of the cluster that a host belongs to: who else is away, whether room is left, what
the storage and its proofs say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from furlough.core.capacity import NOTHING, Load, homeless, load_of, rooms
from furlough.core.findings import CODES, Finding, Severity, finding
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Proof, Vm
from furlough.core.policy import EnterOptions, Reserve
from furlough.core.states import HostMode
from furlough.planning.candidates import candidates
from furlough.planning.compatibility import obstacles_of_kind, traits_of_host, traits_of_vm
from furlough.prechecks.cases import Case, because, subject_of

_VMS_NAMED = 5


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
                f"Host {host.name} of the same cluster does not answer{because(host)}.",
            )


def _check_targets_exist(case: Case) -> Iterator[Finding]:
    usable = [
        host for host in case.targets if host.is_connected and host.mode is HostMode.AVAILABLE
    ]
    if case.live_or_stuck and not usable:
        yield finding(
            "cluster.too_small",
            case.host.cluster,
            f"No available host of cluster {case.host.cluster} could take "
            f"{len(case.live_or_stuck)} VM(s) of {case.host.name}.",
        )


def _check_reserve(case: Case) -> Iterator[Finding]:
    """Whether everybody who has to would find room again if one more host were lost then."""
    cluster = case.inventory.cluster_of(case.host)
    counts_all = cluster.policy.reserve is Reserve.N_PLUS_1
    for lost, without in _without_room(case, counts_all=counts_all):
        names = ", ".join(subject_of(vm) for vm in without[:_VMS_NAMED])
        more = f" and {len(without) - _VMS_NAMED} more" if len(without) > _VMS_NAMED else ""
        yield finding(
            "cluster.no_reserve",
            cluster.name,
            f"If {lost} of cluster {cluster.name} were lost after the evacuation, no room would "
            f"be left for {names}{more}.",
            severity=None if counts_all else Severity.WARNING,
        )
        return  # One such host is enough; with hundreds of them nobody would read on.


def _without_room(case: Case, *, counts_all: bool) -> Iterator[tuple[HostName, list[Vm]]]:
    """Per host that could be lost next, the VMs for which no room would be found."""
    staying = [
        host
        for host in candidates(case.inventory, case.leaving, EnterOptions())
        if host.cluster == case.host.cluster
    ]
    takers = [host for host in staying if host.is_connected and host.mode is HostMode.AVAILABLE]
    crews = {host.name: _crew(case, host, counts_all=counts_all) for host in staying}
    if not any(crews.values()):
        return
    after, may_run = _rooms_after(case, takers), _may_run(case)
    cluster = [host.name for host in case.inventory.hosts_of(case.host.cluster)]
    for name in sorted(crews, key=lambda name: -sum(vm.memory_mib for vm in crews[name])):
        without = [
            vm
            for vm in homeless(crews[name], after, may_run, lost=name)
            # One that is tied to its host dies with it, whatever room there is.
            if vm.policy.ha or any(may_run(vm, other) for other in cluster if other != name)
        ]
        if without:
            yield name, without


def _crew(case: Case, host: Host, *, counts_all: bool) -> list[Vm]:
    """Who runs on a host after the evacuation and counts."""
    return [
        vm
        for vm in (*case.inventory.vms_on(host.name), *case.coming.get(host.name, ()))
        if vm.is_active and (counts_all or vm.policy.ha)
    ]


def _rooms_after(case: Case, hosts: Iterable[Host]) -> dict[HostName, Load]:
    """What these hosts have left once everybody is placed."""
    left = rooms(case.inventory, hosts, case.reservations)
    return {
        name: room - sum((load_of(vm) for vm in case.coming.get(name, ())), NOTHING)
        for name, room in left.items()
    }


def _may_run(case: Case) -> Callable[[Vm, HostName], bool]:
    """Whether a host is of a kind that can run a VM. Asked for every VM of a cluster, so it is
    worked out once for each two kinds."""
    inventory, bonds = case.inventory, case.bonds
    numbers: dict[object, int] = {}
    known: dict[tuple[int, int], bool] = {}
    kind_of_host: dict[HostName, int] = {}
    kind_of_vm: dict[VmId, int] = {}

    def may_run(vm: Vm, name: HostName) -> bool:
        if vm.id not in kind_of_vm:
            kind_of_vm[vm.id] = numbers.setdefault(traits_of_vm(vm, inventory), len(numbers))
        if name not in kind_of_host:
            traits = traits_of_host(inventory.host(name))
            kind_of_host[name] = numbers.setdefault(traits, len(numbers))
        if (name, vm.id) in inventory.misfits:
            return False
        if vm.id in bonds.by_vm and any(bonds.against(vm.id, name, {})):
            return False
        kinds = kind_of_vm[vm.id], kind_of_host[name]
        if kinds not in known:
            known[kinds] = not obstacles_of_kind(vm, inventory.host(name), inventory)
        return known[kinds]

    return may_run


def _check_storage_repair(case: Case) -> Iterator[Finding]:
    for host in case.inventory.hosts_of(case.host.cluster):
        for repair in host.probe.repairs if host.is_connected and host.probe else ():
            yield finding(
                "cluster.storage_repair", host.name, f"Storage repair on {host.name}: {repair}."
            )


def _check_site_probes(case: Case) -> Iterator[Finding]:
    """What the site's own commands say: of VMs only those that leave."""
    subjects = {subject_of(vm) for vm in case.movers}
    for code, subject, message in case.inventory.site_findings:
        if code in CODES and (code != "vm.no_backup" or subject in subjects):
            yield finding(code, subject, message)


def _check_storage_proofs(case: Case) -> Iterator[Finding]:
    used = {
        disk.datastore
        for vm in case.live_movers
        for disk in vm.disks
        if disk.datastore is not None and disk.is_writable
    }
    for name in sorted(used):
        store = case.inventory.datastore(name)
        if store.shared is Proof.UNKNOWN:
            yield finding(
                "storage.unproven",
                name,
                f"Nothing shows that all hosts of datastore {name} see the same files.",
                severity=Severity.WARNING,
            )
        elif store.locked is not Proof.PROVEN:
            yield finding(
                "storage.unproven",
                name,
                f"No lock is proven for datastore {name} ({store.locked.value}).",
            )


CLUSTER_PRECHECKS: tuple[Callable[[Case], Iterable[Finding]], ...] = (
    _check_other_hosts_away,
    _check_other_hosts_silent,
    _check_targets_exist,
    _check_reserve,
    _check_storage_repair,
    _check_site_probes,
    _check_storage_proofs,
)
