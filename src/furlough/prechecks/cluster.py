"""Prechecks of the cluster that a host belongs to: who else is away, whether room is left, what
the storage and its proofs say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from furlough.core.findings import CODES, Finding, Severity, finding
from furlough.core.inventory import Proof, with_overflow
from furlough.core.policy import Reserve
from furlough.core.states import HostMode
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
    gaps = {
        lost: [case.inventory.vm(vm) for vm in vms]
        for lost, vms in case.placement.gaps.items()
        if case.inventory.host(lost).cluster == cluster.name
    }
    if not gaps:
        return
    # One such host is enough, the worst; with hundreds of them nobody would read on.
    lost = min(gaps, key=lambda name: (-sum(vm.memory_mib for vm in gaps[name]), name))
    without = gaps[lost]
    names = ", ".join(subject_of(vm) for vm in without[:_VMS_NAMED])
    more = f" and {len(without) - _VMS_NAMED} more" if len(without) > _VMS_NAMED else ""
    keeps = cluster.policy.reserve is Reserve.N_PLUS_1
    yield finding(
        "cluster.no_reserve",
        cluster.name,
        f"If {lost} of cluster {cluster.name} were lost after the evacuation, no room would be "
        f"left for {names}{more}.",
        severity=None if keeps else Severity.WARNING,
    )


def _check_rules(case: Case) -> Iterator[Finding]:
    """Names in rules that nobody bears."""
    cluster = case.inventory.cluster_of(case.host)
    near = with_overflow([cluster.name], case.inventory.clusters)
    hosts = {host.name for host in case.inventory.hosts if host.cluster in near}
    known = {word for vm in case.inventory.vms for word in (vm.id, vm.name)}
    for rule in cluster.rules:
        strangers = [f"VM {one}" for one in rule.vms if one not in known]
        strangers += [f"host {one}" for one in rule.hosts if one not in hosts]
        if strangers:
            yield finding(
                "cluster.rule_unknown",
                cluster.name,
                f"Rule {rule.name} of cluster {cluster.name} names {', '.join(strangers)}, "
                "which is unknown.",
            )
    for vm in case.movers:
        nowhere = [host for host in vm.policy.host_affinity if host not in hosts]
        if nowhere:
            yield finding(
                "cluster.rule_unknown",
                subject_of(vm),
                f"The host_affinity of VM {vm.name} names {', '.join(nowhere)}: no host of "
                f"cluster {cluster.name}.",
            )


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
    _check_rules,
    _check_storage_repair,
    _check_site_probes,
    _check_storage_proofs,
)
