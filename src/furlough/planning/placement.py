"""Choosing targets: which host each of several VMs goes to, and which ones come next.

A VM never leaves its cluster. All VMs are placed jointly, the hardest first: those with the
fewest hosts to choose from, then the largest; VMs that a hard rule keeps together count as one.
Each goes where the fewest rules are broken and, among those hosts, where the sum over hosts and
resources of used²/size rises least, which levels the load in proportion to the hosts' sizes. VMs
that fit nowhere are named, with every reason against every host.

This is the seam for a stronger planner: it takes and returns nothing but data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from furlough.core.capacity import NOTHING, Load, limit_of, load_of
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.planning.bonds import Bonds, Seats, bonds_of
from furlough.planning.compatibility import Cause, Obstacle, huge_pages_of, obstacles

# Memory is what runs out and what kills; processors only get slower.
_VCPU_WEIGHT = 0.25

Judge = Callable[[Vm, Host, Inventory], Sequence[Obstacle]]
Unit = tuple[Vm, ...]
Against = Mapping[HostName, tuple[Obstacle, ...]]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """`targets`: per placed VM its hosts, the chosen one first, then those a retry may take.
    `refusals`: per VM that fits nowhere, the obstacles on every host that was tried."""

    targets: Mapping[VmId, tuple[HostName, ...]]
    refusals: Mapping[VmId, Against]


def place(
    vms: Sequence[Vm],
    hosts: Sequence[Host],
    room: Mapping[HostName, Load],
    inventory: Inventory,
    judge: Judge = obstacles,
) -> Placement:
    """Place these VMs on these hosts. `room` is what each host has left (see `capacity.rooms`);
    `judge` says what stands against a host whatever its room and whatever the rules."""
    bonds = bonds_of(inventory, {inventory.host(vm.host).cluster for vm in vms})
    placed = {vm.id for vm in vms}
    seats = {vm: host for vm, host in bonds.seats.items() if vm not in placed}
    board = _Board(hosts, room, inventory, bonds, seats)
    against = {
        vm.id: {
            host.name: (*judge(vm, host, inventory), *board.forbidden(vm, host.name))
            for host in hosts
            if host.cluster == inventory.host(vm.host).cluster
        }
        for vm in vms
    }
    chosen: dict[VmId, HostName] = {}
    refusals: dict[VmId, Against] = {}
    units = sorted(bonds.units(vms), key=lambda unit: _hardness(unit, _open_to(unit, against)))
    for unit in units:
        target = board.best(unit, _open_to(unit, against))
        if target is None:
            refusals.update({vm.id: board.refusals(vm, unit, against) for vm in unit})
            continue
        board.add(target, unit)
        chosen.update(dict.fromkeys((vm.id for vm in unit), target))
    targets = {}
    for unit in units:
        for vm in unit if unit[0].id in chosen else ():
            # Who belongs to others retries where they went, or not at all.
            rest = board.rank(vm, _open_to(unit, against)) if len(unit) == 1 else []
            first = chosen[vm.id]
            targets[vm.id] = (first, *(name for name in rest if name != first))
    return Placement(
        targets={vm.id: targets[vm.id] for vm in vms if vm.id in targets}, refusals=refusals
    )


def _hardness(unit: Unit, hosts: Sequence[HostName]) -> tuple[int, int, int, str]:
    """Sort key: few hosts first, then much memory, then many vCPUs; the UUID breaks ties."""
    load = _load_of(unit)
    return (len(hosts), -load.memory_mib, -load.vcpus, unit[0].id)


def _load_of(unit: Unit) -> Load:
    return sum((load_of(vm) for vm in unit[1:]), load_of(unit[0]))


def _open_to(unit: Unit, against: Mapping[VmId, Against]) -> list[HostName]:
    """The hosts that nothing stands against but their room, for all of a unit."""
    first, *others = unit
    return [
        name
        for name, found in against[first.id].items()
        if not found and not any(against[vm.id].get(name, True) for vm in others)
    ]


@dataclass(frozen=True, kw_only=True)
class _Want:
    """What a unit asks of a host: room, huge pages by their size in KiB, and to hold the rules of
    those of it that have any."""

    load: Load
    pages: Mapping[int, int]
    bound: tuple[VmId, ...]


class _Board:
    """The hosts' loads and who sits where while VMs are being placed one after another."""

    def __init__(
        self,
        hosts: Sequence[Host],
        room: Mapping[HostName, Load],
        inventory: Inventory,
        bonds: Bonds,
        seats: Seats,
    ) -> None:
        self._bonds = bonds
        self._seats = dict(seats)
        self._room = {host.name: room[host.name] for host in hosts}
        self._pages = {host.name: dict(host.free_huge_pages) for host in hosts}
        self._size = {
            host.name: limit_of(host, inventory.cluster_of(host).policy) for host in hosts
        }
        total = sum(self._size.values(), NOTHING)
        self._weight_memory = 1 / max(1, total.memory_mib)
        self._weight_vcpus = _VCPU_WEIGHT / max(1, total.vcpus)

    def forbidden(self, vm: Vm, name: HostName) -> list[Obstacle]:
        """The hard rules that forbid a host to a VM, as everybody sits now."""
        if vm.id not in self._bonds.by_vm:
            return []
        return [
            Obstacle(cause=Cause.RULE, message=words)
            for words in self._bonds.against(vm.id, name, self._seats)
        ]

    def best(self, unit: Unit, names: Sequence[HostName]) -> HostName | None:
        """The one of these hosts that suits a unit best; None if none has room for all of it."""
        want = self._want(unit)
        fitting = (name for name in names if self._fits(want, name))
        return min(fitting, key=lambda name: self._cost(want, name), default=None)

    def rank(self, vm: Vm, names: Sequence[HostName]) -> list[HostName]:
        """Those of these hosts that have room for one more such VM, best first."""
        want = self._want((vm,))
        fitting = (name for name in names if self._fits(want, name))
        return sorted(fitting, key=lambda name: self._cost(want, name))

    def add(self, name: HostName, unit: Unit) -> None:
        self._room[name] -= _load_of(unit)
        for vm in unit:
            self._seats[vm.id] = name
            if vm.huge_page_kib:
                self._pages[name][vm.huge_page_kib] -= huge_pages_of(vm)

    def refusals(self, vm: Vm, unit: Unit, against: Mapping[VmId, Against]) -> Against:
        """Why no host takes a VM of a unit: its own obstacles on each, else those of the others
        it has to be with, else the room that is short, else who sits there by now."""
        mates = [mate for mate in unit if mate.id != vm.id]
        return {
            name: own
            or _of_mates(mates, name, against)
            or tuple(self.forbidden(vm, name))
            or (self._shortage(name, unit),)
            for name, own in against[vm.id].items()
        }

    def _want(self, unit: Unit) -> _Want:
        pages: dict[int, int] = {}
        for vm in unit:
            if vm.huge_page_kib:
                pages[vm.huge_page_kib] = pages.get(vm.huge_page_kib, 0) + huge_pages_of(vm)
        bound = tuple(vm.id for vm in unit if vm.id in self._bonds.by_vm)
        return _Want(load=_load_of(unit), pages=pages, bound=bound)

    def _fits(self, want: _Want, name: HostName) -> bool:
        if not want.load.fits_in(self._room[name]):
            return False
        if want.pages and self._lacks_pages(want, name) is not None:
            return False
        if not want.bound:
            return True
        seats = self._seats | dict.fromkeys(want.bound, name)
        return not any(True for vm in want.bound for _ in self._bonds.against(vm, name, seats))

    def _lacks_pages(self, want: _Want, name: HostName) -> int | None:
        """The size in KiB of the huge pages that are too few on a host; None if none are."""
        free = self._pages[name]
        return next((size for size, count in want.pages.items() if count > free.get(size, 0)), None)

    def _shortage(self, name: HostName, unit: Unit) -> Obstacle:
        """Why a host without other obstacles cannot take this unit."""
        want, room = self._want(unit), self._room[name]
        size_kib = self._lacks_pages(want, name)
        if size_kib is not None:
            return Obstacle(
                cause=Cause.HUGE_PAGES,
                message=f"too few huge pages of {size_kib} KiB are left there",
            )
        if want.load.fits_in(room):
            return Obstacle(
                cause=Cause.RULE,
                message="rules keep it and those it has to be with from being there",
            )
        group = " with those it has to be with" if len(unit) > 1 else ""
        return Obstacle(
            cause=Cause.ROOM,
            message=f"it has room for {max(0, room.memory_mib)} MiB and {max(0, room.vcpus)} "
            f"vCPUs, {want.load.memory_mib} MiB and {want.load.vcpus} are needed{group}",
        )

    def _cost(self, want: _Want, name: HostName) -> tuple[int, float, str]:
        """Sort key: broken rules first, then the rise of the load; the name breaks ties."""
        broken = sum(self._bonds.broken(vm, name, self._seats) for vm in want.bound)
        return (broken, self._rise(name, want.load), name)

    def _rise(self, name: HostName, load: Load) -> float:
        """By how much the weighted sum of used²/size grows if this host takes the load."""
        size, room = self._size[name], self._room[name]
        memory = _rise_of(size.memory_mib - room.memory_mib, load.memory_mib, size.memory_mib)
        vcpus = _rise_of(size.vcpus - room.vcpus, load.vcpus, size.vcpus)
        return self._weight_memory * memory + self._weight_vcpus * vcpus


def _of_mates(
    mates: Sequence[Vm], name: HostName, against: Mapping[VmId, Against]
) -> tuple[Obstacle, ...]:
    """What stands against a host for those that a VM has to be with."""
    return tuple(
        Obstacle(cause=Cause.RULE, message=f"{mate.name}, which it has to be with: {one.message}")
        for mate in mates
        for one in against[mate.id].get(name, ())
    )


def _rise_of(used: int, more: int, size: int) -> float:
    return (2 * used * more + more * more) / max(1, size)
