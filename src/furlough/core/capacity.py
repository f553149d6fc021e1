"""What fits where: loads, limits, and the room that observation and reservations leave.

A VM counts on a host once: either because it was seen there, or because a reservation holds
its place. So nothing is lost, and nothing counted twice, while it moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.policy import ClusterPolicy


@dataclass(frozen=True, kw_only=True)
class Load:
    """Memory and vCPUs: of a VM, of a host's VMs, or what a host has left (then maybe < 0)."""

    memory_mib: int
    vcpus: int

    def __add__(self, other: Load) -> Load:
        return Load(memory_mib=self.memory_mib + other.memory_mib, vcpus=self.vcpus + other.vcpus)

    def __sub__(self, other: Load) -> Load:
        return Load(memory_mib=self.memory_mib - other.memory_mib, vcpus=self.vcpus - other.vcpus)

    def fits_in(self, room: Load) -> bool:
        """Whether a host with this room can take it."""
        return self.memory_mib <= room.memory_mib and self.vcpus <= room.vcpus


NOTHING = Load(memory_mib=0, vcpus=0)


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Room held on a target for a VM by an operation, until that operation is final."""

    operation: OperationId
    vm: VmId
    host: HostName
    load: Load


def load_of(vm: Vm) -> Load:
    """What a VM takes on its host when it runs."""
    return Load(memory_mib=vm.memory_mib, vcpus=vm.vcpus)


def limit_of(host: Host, policy: ClusterPolicy) -> Load:
    """What the VMs of a host may take together."""
    for_vms = max(0, host.memory_mib - host.reserved_memory_mib)
    return Load(
        memory_mib=int(for_vms * policy.memory_ceiling),
        vcpus=int(host.cpus * policy.vcpu_overcommit),
    )


def used_by(vms: Iterable[Vm]) -> Load:
    """What the active ones among these VMs take."""
    return sum((load_of(vm) for vm in vms if vm.is_active), NOTHING)


def used_on(inventory: Inventory, host: HostName, reservations: Iterable[Reservation]) -> Load:
    """What is taken on a host: the active VMs seen there, and the places held for others."""
    seen = inventory.vms_on(host)
    active = {vm.id for vm in seen if vm.is_active}
    held = {one.vm: one.load for one in reservations if one.host == host}
    return used_by(seen) + sum((load for vm, load in held.items() if vm not in active), NOTHING)


def room_on(inventory: Inventory, host: Host, reservations: Iterable[Reservation] = ()) -> Load:
    """What a host has left for more VMs by its cluster's policy; below zero if overfull."""
    policy = inventory.cluster_of(host).policy
    return limit_of(host, policy) - used_on(inventory, host.name, reservations)


def rooms(
    inventory: Inventory, hosts: Iterable[Host], reservations: Iterable[Reservation] = ()
) -> Mapping[HostName, Load]:
    """The room left on each of these hosts."""
    by_host: dict[HostName, list[Reservation]] = {}
    for one in reservations:
        by_host.setdefault(one.host, []).append(one)
    return {host.name: room_on(inventory, host, by_host.get(host.name, ())) for host in hosts}
