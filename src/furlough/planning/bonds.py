"""Bonds: the rules of clusters and the groups in VMs' own policies, as one thing that placement
can ask.

A bond joins VMs of one cluster: together on a host, apart, or only on some hosts. `seats` says
where VMs run, or will; a VM that has no seat yet is no argument for or against a host.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from furlough.core.affinity import RuleKind
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Cluster, Inventory, Vm

Seats = Mapping[VmId, HostName]


@dataclass(frozen=True, kw_only=True)
class Bond:
    """One rule about these VMs. `hosts`: those they may use, only with host affinity."""

    name: str
    kind: RuleKind
    members: frozenset[VmId]
    hosts: frozenset[HostName] = frozenset()
    is_hard: bool = True


@dataclass(frozen=True, kw_only=True)
class Bonds:
    """All bonds of some clusters: by VM, with the names of their members, and where each of
    these runs now."""

    by_vm: Mapping[VmId, tuple[Bond, ...]]
    names: Mapping[VmId, str]
    seats: Seats

    def of(self, vm: VmId, *kinds: RuleKind) -> Iterator[Bond]:
        """The bonds of these kinds that a VM has."""
        return (bond for bond in self.by_vm.get(vm, ()) if bond.kind in kinds)

    def against(self, vm: VmId, host: HostName, seats: Seats) -> Iterator[str]:
        """Which hard rules forbid a host to a VM, in words. Mates that run elsewhere forbid
        nothing: who is apart already is torn no further."""
        for bond in self.of(vm, RuleKind.HOST_AFFINITY, RuleKind.ANTI_AFFINITY):
            if bond.is_hard and not self._is_held(bond, vm, host, seats):
                yield self._words(bond, vm, host, seats)

    def _is_held(self, bond: Bond, vm: VmId, host: HostName, seats: Seats) -> bool:
        if bond.kind is RuleKind.HOST_AFFINITY:
            return host in bond.hosts
        return all(seats.get(one) != host for one in bond.members if one != vm)

    def _words(self, bond: Bond, vm: VmId, host: HostName, seats: Seats) -> str:
        if bond.kind is RuleKind.HOST_AFFINITY:
            return f"{bond.name} allows only {', '.join(sorted(bond.hosts)) or 'no host'}"
        others = sorted(
            self.names[one] for one in bond.members if one != vm and seats.get(one) == host
        )
        return f"{bond.name} keeps it apart from {', '.join(others)} there"


def bonds_of(inventory: Inventory, clusters: Collection[ClusterName]) -> Bonds:
    """The bonds of the VMs with a process in these clusters."""
    running: dict[ClusterName, list[Vm]] = {name: [] for name in clusters}
    for host in inventory.hosts:
        if host.cluster in running:
            running[host.cluster] += [
                vm for vm in inventory.vms_on(host.name) if vm.is_active and not vm.is_arriving
            ]
    bonds: list[Bond] = []
    for cluster in inventory.clusters:
        if cluster.name in running:
            bonds += [
                *_of_rules(cluster, running[cluster.name]),
                *_of_groups(running[cluster.name]),
            ]
    by_vm: dict[VmId, list[Bond]] = {}
    for bond in bonds:
        for member in bond.members:
            by_vm.setdefault(member, []).append(bond)
    joined = [vm for vms in running.values() for vm in vms if vm.id in by_vm]
    return Bonds(
        by_vm={vm: tuple(found) for vm, found in by_vm.items()},
        names={vm.id: vm.name for vm in joined},
        seats={vm.id: vm.host for vm in joined},
    )


def _of_rules(cluster: Cluster, vms: Sequence[Vm]) -> Iterator[Bond]:
    """The rules of a cluster, with its VMs found by name or UUID."""
    if not cluster.rules:
        return
    found: dict[str, set[VmId]] = {}
    for vm in vms:
        found.setdefault(vm.name, set()).add(vm.id)
        found.setdefault(vm.id, set()).add(vm.id)
    for rule in cluster.rules:
        yield Bond(
            name=f"rule {rule.name}",
            kind=rule.kind,
            members=frozenset(vm for word in rule.vms for vm in found.get(word, ())),
            hosts=frozenset(rule.hosts),
            is_hard=rule.is_hard,
        )


def _of_groups(vms: Iterable[Vm]) -> Iterator[Bond]:
    """The groups that VMs name themselves in, and the hosts that they allow."""
    groups: dict[tuple[RuleKind, str], set[VmId]] = {}
    for vm in vms:
        policy = vm.policy
        if policy.affinity_group:
            groups.setdefault((RuleKind.AFFINITY, policy.affinity_group), set()).add(vm.id)
        if policy.anti_affinity_group:
            key = (RuleKind.ANTI_AFFINITY, policy.anti_affinity_group)
            groups.setdefault(key, set()).add(vm.id)
        if policy.host_affinity:
            yield Bond(
                name="its host affinity",
                kind=RuleKind.HOST_AFFINITY,
                members=frozenset({vm.id}),
                hosts=frozenset(policy.host_affinity),
            )
    for (kind, name), members in groups.items():
        words = "affinity" if kind is RuleKind.AFFINITY else "anti-affinity"
        yield Bond(name=f"{words} group {name}", kind=kind, members=frozenset(members))
