"""The board of live facts: one cluster as its hosts and their hypervisors describe it now.

What two machines are decides most of a row, and is worked out once for each two kinds of VM and
host (`traits_of_vm`, `traits_of_host`); the rest, which changes from hour to hour, is asked of
`compatibility` for the hosts that are left, so that a plan made here and a precheck say the same.
Hosts and VMs stand in the order of their names and ids: in which order facts came decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from furlough.core.affinity import RuleKind
from furlough.core.capacity import Load, Reservation, limit_of
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.policy import Reserve
from furlough.core.states import HostMode
from furlough.core.vm_policy import OnMaintenance
from furlough.planning.board import (
    CODE_OF,
    FREE,
    Board,
    BoolArray,
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
from furlough.planning.causes import Cause
from furlough.planning.compatibility import (
    Judge,
    huge_pages_of,
    obstacles,
    obstacles_of_kind,
    obstacles_of_moment,
    traits_of_host,
    traits_of_vm,
)
from furlough.planning.ties import ties_of
from furlough.planning.wires import must_encrypt


@dataclass(frozen=True, kw_only=True)
class Asked:
    """For whom places are sought. `vms` move, whatever else is said of them, and nobody else on
    their hosts does; `judge` says what stands against each of `targets` (none named: against each
    of the cluster's hosts). None of a cluster's VMs: whoever could move may."""

    vms: Sequence[Vm] = ()
    judge: Judge = obstacles
    targets: frozenset[HostName] = frozenset()


def board_of_live(
    inventory: Inventory,
    cluster: ClusterName,
    reservations: Iterable[Reservation] = (),
    asked: Asked | None = None,
) -> Board:
    """The board of one cluster, with the room that operations hold. A VM's row knows all that
    the judge knows; a class knows only what lies in the two machines."""
    hosts = sorted(inventory.hosts_of(cluster), key=lambda host: host.name)
    asked = asked or Asked()
    is_kept = any(
        one.policy.reserve is Reserve.N_PLUS_1 for one in inventory.clusters if one.name == cluster
    )
    rows = _rows(inventory, cluster, hosts, asked)
    return Board(
        clusters=(cluster,),
        keeps_reserve=np.array([is_kept], dtype=np.bool_),
        hosts=_live_hosts(inventory, hosts, reservations),
        vms=_live_vms(rows, asked),
        groups=tuple(_live_groups(rows.bonds, _seats(rows.vms, asked), rows.host_at)),
        row_of_kind=remembered(lambda vm: rows.row(vm, asked)),
        row_of_class=rows.class_rows,
    )


def _rows(
    inventory: Inventory,
    cluster: ClusterName,
    hosts: Sequence[Host],
    asked: Asked,
) -> _LiveRows:
    vms = [vm for host in hosts for vm in inventory.vms_on(host.name)]
    vms.sort(key=lambda vm: (vm.id, vm.host))
    bonds = bonds_of(inventory, [cluster])
    found: dict[int, Bond] = {id(bond): bond for own in bonds.by_vm.values() for bond in own}
    return _LiveRows(
        inventory=inventory,
        hosts=hosts,
        vms=vms,
        moving=frozenset((vm.id, vm.host) for vm in asked.vms),
        bonds=sorted(found.values(), key=lambda bond: (bond.name, sorted(bond.members))),
    )


def _live_hosts(
    inventory: Inventory, hosts: Sequence[Host], reservations: Iterable[Reservation]
) -> Hosts:
    limits = [limit_of(host, inventory.cluster_of(host).policy) for host in hosts]
    held = _held(inventory, hosts, reservations)
    sizes = sorted({size for host in hosts for size in host.free_huge_pages})
    return Hosts(
        names=tuple(host.name for host in hosts),
        clusters=np.zeros(len(hosts), dtype=np.int64),
        is_open=np.array(
            [
                host.mode is HostMode.AVAILABLE and host.is_connected and not host.kept_empty_by
                for host in hosts
            ],
            dtype=np.bool_,
        ),
        memory_mib=ints(one.memory_mib for one in limits),
        vcpus=ints(one.vcpus for one in limits),
        held_memory_mib=ints(sum(one.memory_mib for one in own) for own in held),
        held_vcpus=ints(sum(one.vcpus for one in own) for own in held),
        link_mib_s=link_rates(host.link_mbit_s for host in hosts),
        racks=np.full(len(hosts), -1, dtype=np.int64),
        free_pages={
            size: ints(host.free_huge_pages.get(size, 0) for host in hosts) for size in sizes
        },
    )


def _held(
    inventory: Inventory, hosts: Sequence[Host], reservations: Iterable[Reservation]
) -> list[list[Load]]:
    """Per host the places held there for VMs that are not active on it."""
    by_host: dict[HostName, dict[VmId, Load]] = {}
    for one in reservations:
        by_host.setdefault(one.host, {})[one.vm] = one.load
    found = []
    for host in hosts:
        own = by_host.get(host.name, {})
        active = {vm.id for vm in inventory.vms_on(host.name) if vm.is_active} if own else ()
        found.append([load for vm, load in own.items() if vm not in active])
    return found


def _live_vms(rows: _LiveRows, asked: Asked) -> Vms:
    vms = rows.vms
    moving = rows.moving
    emptied = {vm.host for vm in asked.vms}
    is_asked = [(vm.id, vm.host) in moving for vm in vms]
    return Vms(
        uuids=[vm.id for vm in vms],
        names=[vm.name for vm in vms],
        hosts=ints(rows.host_at[vm.host] for vm in vms),
        is_on=np.array(
            [vm.is_active or mine for vm, mine in zip(vms, is_asked, strict=True)], dtype=np.bool_
        ),
        may_move=np.array(
            [
                mine or (vm.host not in emptied and _may_move(vm, rows.inventory))
                for vm, mine in zip(vms, is_asked, strict=True)
            ],
            dtype=np.bool_,
        ),
        memory_mib=ints(vm.memory_mib for vm in vms),
        vcpus=ints(vm.vcpus for vm in vms),
        # Not what was measured, which is another thing a second later: between equal hosts that
        # would decide, and a plan that was approved would not be made again.
        sends_mib=ints(vm.memory_mib for vm in vms),
        dirty_mib_s=np.zeros(len(vms), dtype=np.float64),
        working_set_mib=np.zeros(len(vms), dtype=np.float64),
        priority=ints(vm.policy.availability_priority for vm in vms),
        ha=np.array([vm.policy.ha for vm in vms], dtype=np.bool_),
        on_maintenance=[vm.policy.on_maintenance for vm in vms],
        kinds=np.arange(len(vms), dtype=np.int64),
        classes=rows.classes,
        pages={
            place: (vm.huge_page_kib, huge_pages_of(vm))
            for place, vm in enumerate(vms)
            if vm.huge_page_kib
        },
    )


def _may_move(vm: Vm, inventory: Inventory) -> bool:
    """Whether it can be moved live and may be, to make room for another one. One that runs twice
    is for a person to look at."""
    stays = vm.policy.on_maintenance in (OnMaintenance.LEAVE, OnMaintenance.ASK)
    if stays or vm.busy_with or vm.is_arriving:
        return False
    is_alone = vm.is_active and len(inventory.running_copies_of(vm.id)) == 1
    return is_alone and not ties_of(vm)


@dataclass(frozen=True, kw_only=True)
class _LiveRows:
    """Makes the rows of live VMs. `bonds`: all of the cluster, in an order that repeats; `moving`:
    those asked for, as (VM, host)."""

    inventory: Inventory
    hosts: Sequence[Host]
    vms: Sequence[Vm]
    bonds: Sequence[Bond]
    moving: frozenset[tuple[VmId, HostName]]
    _firsts: list[int] = field(default_factory=list)

    @cached_property
    def host_at(self) -> Mapping[HostName, int]:
        """The place of each host."""
        return {host.name: place for place, host in enumerate(self.hosts)}

    @cached_property
    def classes(self) -> IntArray:
        """The class of each VM, as a number."""
        odd = {vm for _, vm in self.inventory.misfits}
        found: dict[object, int] = {}
        numbers = []
        for place, vm in enumerate(self.vms):
            allowed = tuple(bond.hosts for bond in self._host_bonds.get(vm.id, ()))
            traits = traits_of_vm(vm, self.inventory)
            key = (traits, allowed, vm.id if vm.id in odd else "")
            number = found.setdefault(key, len(found))
            if number == len(self._firsts):
                self._firsts.append(place)
            numbers.append(number)
        return ints(numbers)

    def row(self, place: int, asked: Asked) -> Row:
        """What stands against a VM on each host: what the two are, then what the judge says. One
        that is off is not moved: it starts where it is."""
        vm, judge = self.vms[place], asked.judge
        if vm.is_active:
            row = self.class_rows(int(self.classes[place])).copy()
        else:
            row = np.zeros(len(self.hosts), dtype=np.int8)
        is_in_doubt = row == FREE
        if judge is obstacles:
            judge = obstacles_of_moment
            is_in_doubt &= self._may_hinder(vm)
        if asked.targets:  # No other host is asked: nobody goes there.
            is_in_doubt &= np.array([host.name in asked.targets for host in self.hosts])
        for at in np.flatnonzero(is_in_doubt).tolist():
            found = judge(vm, self.hosts[at], self.inventory)
            if found:
                row[at] = CODE_OF[found[0].cause]
        return row

    def _may_hinder(self, vm: Vm) -> BoolArray:
        """The hosts against which something may stand for this VM besides what the two are: most
        hosts of a large cluster need not be asked."""
        is_asked = not self.moving or (vm.id, vm.host) in self.moving
        source = self.inventory.host(vm.host)
        has_more = vm.huge_page_kib is not None or source.probe is not None or must_encrypt(source)
        if has_more or not is_asked:
            return np.ones(len(self.hosts), dtype=np.bool_)
        found = self._is_odd.copy()
        found[[*self._twins.get(vm.id, ()), *self._twins.get(vm.name, ())]] = True
        return found

    @cached_property
    def _twins(self) -> Mapping[str, Sequence[int]]:
        """By the ids and names of those who may move: the hosts of all that are called so."""
        wanted: set[str] = set()
        for vm in self.vms:
            if not self.moving or (vm.id, vm.host) in self.moving:
                wanted.update((vm.id, vm.name))
        found: dict[str, list[int]] = {}
        for vm in self.vms:
            for word in (vm.id, vm.name):
                if word in wanted:
                    found.setdefault(word, []).append(self.host_at[vm.host])
        return found

    @cached_property
    def _is_odd(self) -> BoolArray:
        """The hosts of which more is to be said than that they are there for all."""
        return np.array(
            [
                host.mode is not HostMode.AVAILABLE
                or not host.is_connected
                or bool(host.kept_empty_by)
                or host.probe is not None
                or must_encrypt(host)
                for host in self.hosts
            ],
            dtype=np.bool_,
        )

    @cached_property
    def class_rows(self) -> Callable[[int], Row]:
        """The row of each class by its number, worked out once."""
        return remembered(self._row_of_class)

    def _row_of_class(self, number: int) -> Row:
        """What stands against the VMs of a class on each host, because of what both are."""
        vm = self.vms[self._firsts[number]]
        codes: dict[object, int] = {}
        row = np.zeros(len(self.hosts), dtype=np.int8)
        allowed = [bond.hosts for bond in self._host_bonds.get(vm.id, ())]
        for place, host in enumerate(self.hosts):
            kind = self._host_kinds[place]
            key = (kind, host.name) if (host.name, vm.id) in self.inventory.misfits else kind
            if key not in codes:
                found = obstacles_of_kind(vm, host, self.inventory)
                codes[key] = CODE_OF[found[0].cause] if found else FREE
            row[place] = codes[key]
            if row[place] == FREE and not all(host.name in names for names in allowed):
                row[place] = CODE_OF[Cause.RULE]
        return row

    @cached_property
    def _host_kinds(self) -> Sequence[int]:
        numbers: dict[object, int] = {}
        return [numbers.setdefault(traits_of_host(host), len(numbers)) for host in self.hosts]

    @cached_property
    def _host_bonds(self) -> Mapping[VmId, Sequence[Bond]]:
        """The hard host affinity of each VM that has any."""
        found: dict[VmId, list[Bond]] = {}
        for bond in self.bonds:
            if bond.kind is RuleKind.HOST_AFFINITY and bond.is_hard:
                for member in bond.members:
                    found.setdefault(member, []).append(bond)
        return found


def _seats(vms: Sequence[Vm], asked: Asked) -> Mapping[VmId, int]:
    """The place of each VM that rules are about: of several copies the one that is asked for, and
    never the one that a migration is filling."""
    found = {vm.id: place for place, vm in enumerate(vms) if vm.is_active and not vm.is_arriving}
    moving = {(vm.id, vm.host) for vm in asked.vms if vm.is_active}
    found.update({vm.id: place for place, vm in enumerate(vms) if (vm.id, vm.host) in moving})
    return found


def _live_groups(
    bonds: Iterable[Bond], vm_at: Mapping[VmId, int], host_at: Mapping[HostName, int]
) -> Iterator[Group]:
    """The bonds that no row holds."""
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
