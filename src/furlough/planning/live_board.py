"""The board of live facts: what the hosts and their hypervisors say now.

Rows come from `compatibility`, so that a plan made here and a precheck say the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from furlough.core.affinity import RuleKind
from furlough.core.capacity import Reservation, limit_of, used_by, used_on
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import HOST_PASSTHROUGH, Host, Inventory, Vm
from furlough.core.policy import Reserve
from furlough.core.states import HostMode
from furlough.planning.board import (
    CODE_OF,
    ELSEWHERE,
    STAYING,
    Board,
    Group,
    Hosts,
    IntArray,
    Row,
    Vms,
    ints,
    link_rates,
    remembered,
)
from furlough.planning.bonds import Bond, bonds_of
from furlough.planning.compatibility import Cause, Obstacle, obstacles, obstacles_of_kind
from furlough.planning.placement import Judge
from furlough.planning.ties import ties_of


def board_of_live(inventory: Inventory, reservations: Sequence[Reservation] = ()) -> Board:
    """The board of what hosts and hypervisors say now, with the room that others hold. A VM's row
    knows all that `compatibility` knows; a class knows only what lies in the two machines."""
    cluster_at = {one.name: place for place, one in enumerate(inventory.clusters)}
    host_at = {one.name: place for place, one in enumerate(inventory.hosts)}
    bonds = _all_bonds(inventory)
    rows = _LiveRows(inventory=inventory, bonds=_by_member(bonds))
    classes, firsts = rows.classes()
    vm_at = {vm.id: place for place, vm in enumerate(inventory.vms) if vm.is_active}
    return Board(
        clusters=tuple(cluster_at),
        keeps_reserve=np.array(
            [one.policy.reserve is Reserve.N_PLUS_1 for one in inventory.clusters], dtype=np.bool_
        ),
        hosts=_live_hosts(inventory, reservations, cluster_at),
        vms=_live_vms(inventory.vms, [host_at[vm.host] for vm in inventory.vms], classes),
        groups=tuple(_live_groups(bonds, vm_at, host_at)),
        row_of_kind=remembered(lambda vm: rows.row(inventory.vms[vm], obstacles)),
        row_of_class=remembered(
            lambda number: rows.row(inventory.vms[firsts[number]], _obstacles_to_failover)
        ),
    )


def _live_hosts(
    inventory: Inventory, reservations: Sequence[Reservation], cluster_at: Mapping[ClusterName, int]
) -> Hosts:
    hosts = inventory.hosts
    limits = [limit_of(host, inventory.cluster_of(host).policy) for host in hosts]
    held = [
        used_on(inventory, host.name, reservations) - used_by(inventory.vms_on(host.name))
        for host in hosts
    ]
    return Hosts(
        names=tuple(host.name for host in hosts),
        clusters=ints(cluster_at[host.cluster] for host in hosts),
        is_open=np.array(
            [host.mode is HostMode.AVAILABLE and host.is_connected for host in hosts],
            dtype=np.bool_,
        ),
        memory_mib=ints(one.memory_mib for one in limits),
        vcpus=ints(one.vcpus for one in limits),
        held_memory_mib=ints(one.memory_mib for one in held),
        held_vcpus=ints(one.vcpus for one in held),
        link_mib_s=link_rates(host.link_mbit_s for host in hosts),
        racks=np.full(len(hosts), -1, dtype=np.int64),
    )


def _live_vms(vms: Sequence[Vm], at: Sequence[int], classes: IntArray) -> Vms:
    return Vms(
        uuids=[vm.id for vm in vms],
        names=[vm.name for vm in vms],
        hosts=ints(at),
        is_on=np.array([vm.is_active for vm in vms], dtype=np.bool_),
        may_move=np.array([_may_move(vm) for vm in vms], dtype=np.bool_),
        memory_mib=ints(vm.memory_mib for vm in vms),
        vcpus=ints(vm.vcpus for vm in vms),
        sends_mib=ints(_known(vm.memory_used_mib, vm.memory_mib) for vm in vms),
        dirty_mib_s=np.array([vm.dirty_mib_s or 0.0 for vm in vms], dtype=np.float64),
        working_set_mib=np.array(
            [_known(vm.working_set_mib, vm.memory_mib) for vm in vms], dtype=np.float64
        ),
        priority=ints(vm.policy.availability_priority for vm in vms),
        ha=np.array([vm.policy.ha for vm in vms], dtype=np.bool_),
        on_maintenance=[vm.policy.on_maintenance for vm in vms],
        kinds=np.arange(len(vms), dtype=np.int64),
        classes=classes,
    )


def _may_move(vm: Vm) -> bool:
    """Whether it can be moved live and may be."""
    if vm.policy.on_maintenance in STAYING or vm.busy_with or vm.is_arriving:
        return False
    return vm.is_active and not ties_of(vm)


@dataclass(frozen=True, kw_only=True)
class _LiveRows:
    """Makes the rows of live VMs. `bonds`: the hard host affinity of each VM that has any."""

    inventory: Inventory
    bonds: Mapping[VmId, Sequence[Bond]]

    def row(self, vm: Vm, judge: Judge) -> Row:
        """What stands against a VM on each host, as `judge` says, then by host affinity."""
        cluster = self.inventory.host(vm.host).cluster
        allowed = [bond.hosts for bond in self.bonds.get(vm.id, ())]
        row = np.zeros(len(self.inventory.hosts), dtype=np.int8)
        for place, host in enumerate(self.inventory.hosts):
            if host.cluster != cluster:
                row[place] = ELSEWHERE
            elif found := judge(vm, host, self.inventory):
                row[place] = CODE_OF[found[0].cause]
            elif not all(host.name in names for names in allowed):
                row[place] = CODE_OF[Cause.RULE]
        return row

    def classes(self) -> tuple[IntArray, list[int]]:
        """The class of each VM, as a number, and the first VM of each class."""
        odd = {vm for _, vm in self.inventory.misfits}
        found: dict[tuple[object, ...], int] = {}
        firsts: list[int] = []
        numbers = []
        for place, vm in enumerate(self.inventory.vms):
            number = found.setdefault(self._class_of(vm, odd), len(firsts))
            if number == len(firsts):
                firsts.append(place)
            numbers.append(number)
        return ints(numbers), firsts

    def _class_of(self, vm: Vm, odd: Collection[VmId]) -> tuple[object, ...]:
        """All that `obstacles_of_kind` looks at."""
        source = self.inventory.host(vm.host)
        return (
            source.cluster,
            vm.cpu_model,
            source.cpu_models if vm.cpu_model == HOST_PASSTHROUGH else (),
            source.emulator_version,
            vm.machine,
            frozenset(disk.datastore for disk in vm.disks if disk.source or not disk.is_medium),
            frozenset(nic.network for nic in vm.nics),
            vm.devices,
            vm.numa_nodes,
            tuple(bond.hosts for bond in self.bonds.get(vm.id, ())),
            vm.id if vm.id in odd else "",
        )


def _obstacles_to_failover(vm: Vm, host: Host, inventory: Inventory) -> list[Obstacle]:
    """What stands against starting a VM on a host if its own is lost."""
    if host.mode is not HostMode.AVAILABLE or not host.is_connected:
        return [Obstacle(cause=Cause.MODE, message=f"it is {host.mode.value} or does not answer")]
    return obstacles_of_kind(vm, host, inventory)


def _all_bonds(inventory: Inventory) -> list[Bond]:
    bonds = bonds_of(inventory, [one.name for one in inventory.clusters])
    found: dict[int, Bond] = {id(bond): bond for own in bonds.by_vm.values() for bond in own}
    return list(found.values())


def _by_member(bonds: Iterable[Bond]) -> Mapping[VmId, list[Bond]]:
    found: dict[VmId, list[Bond]] = {}
    for bond in bonds:
        if bond.kind is RuleKind.HOST_AFFINITY and bond.is_hard:
            for member in sorted(bond.members):
                found.setdefault(member, []).append(bond)
    return found


def _live_groups(
    bonds: Iterable[Bond], vm_at: Mapping[VmId, int], host_at: Mapping[HostName, int]
) -> Iterator[Group]:
    """The bonds that no row holds. Sorted, since sets have no order that repeats."""
    for bond in bonds:
        members = tuple(sorted(vm_at[one] for one in bond.members if one in vm_at))
        is_on_hosts = bond.kind is RuleKind.HOST_AFFINITY
        if (is_on_hosts and bond.is_hard) or len(members) < (1 if is_on_hosts else 2):
            continue
        yield Group(
            name=bond.name,
            kind=bond.kind,
            members=members,
            is_hard=bond.is_hard,
            hosts=frozenset(host_at[name] for name in bond.hosts if name in host_at),
        )


def _known(measured: int | None, otherwise: int) -> int:
    return otherwise if measured is None else measured
