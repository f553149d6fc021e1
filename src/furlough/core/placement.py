"""Choosing targets: which host each of several VMs goes to, and which ones come next.

A VM never leaves its cluster. All VMs are placed jointly, the hardest first: those with the
fewest hosts to choose from, then the largest. Each goes where the sum over hosts and resources of
used²/size rises least, which levels the load in proportion to the hosts' sizes. VMs that fit
nowhere are named, with every reason against every host.

This is the seam for a stronger planner: it takes and returns nothing but data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from furlough.core.capacity import NOTHING, Load, limit_of, load_of
from furlough.core.compatibility import Cause, Obstacle, obstacles
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm

# Memory is what runs out and what kills; processors only get slower.
_VCPU_WEIGHT = 0.25

Judge = Callable[[Vm, Host, Inventory], Sequence[Obstacle]]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """`targets`: per placed VM its hosts, the chosen one first, then those a retry may take.
    `refusals`: per VM that fits nowhere, the obstacles on every host that was tried."""

    targets: Mapping[VmId, tuple[HostName, ...]]
    refusals: Mapping[VmId, Mapping[HostName, tuple[Obstacle, ...]]]


def place(
    vms: Sequence[Vm],
    hosts: Sequence[Host],
    room: Mapping[HostName, Load],
    inventory: Inventory,
    judge: Judge = obstacles,
) -> Placement:
    """Place these VMs on these hosts. `room` is what each host has left (see `capacity.rooms`);
    `judge` says what stands against a host whatever its room."""
    against = {
        vm.id: {
            host.name: tuple(judge(vm, host, inventory))
            for host in hosts
            if host.cluster == inventory.host(vm.host).cluster
        }
        for vm in vms
    }
    board = _Board(hosts, room, inventory)
    chosen: dict[VmId, HostName] = {}
    refusals: dict[VmId, dict[HostName, tuple[Obstacle, ...]]] = {}
    for vm in sorted(vms, key=lambda vm: _hardness(vm, against[vm.id])):
        fitting = board.rank(load_of(vm), _open_hosts(against[vm.id]))
        if fitting:
            chosen[vm.id] = fitting[0]
            board.add(fitting[0], load_of(vm))
        else:
            refusals[vm.id] = {
                name: found or (board.shortage(name, load_of(vm)),)
                for name, found in against[vm.id].items()
            }
    targets = {
        vm.id: _ranked(chosen[vm.id], board.rank(load_of(vm), _open_hosts(against[vm.id])))
        for vm in vms
        if vm.id in chosen
    }
    return Placement(targets=targets, refusals=refusals)


def _hardness(vm: Vm, against: Mapping[HostName, Sequence[Obstacle]]) -> tuple[int, int, int, str]:
    """Sort key: few hosts first, then much memory, then many vCPUs; the UUID breaks ties."""
    return (len(_open_hosts(against)), -vm.memory_mib, -vm.vcpus, vm.id)


def _open_hosts(against: Mapping[HostName, Sequence[Obstacle]]) -> list[HostName]:
    return [name for name, found in against.items() if not found]


def _ranked(first: HostName, ranking: Sequence[HostName]) -> tuple[HostName, ...]:
    """The chosen host, then the others that still have room once everybody is placed."""
    return (first, *(name for name in ranking if name != first))


class _Board:
    """The hosts' loads while VMs are being placed one after another."""

    def __init__(
        self, hosts: Sequence[Host], room: Mapping[HostName, Load], inventory: Inventory
    ) -> None:
        self._room = {host.name: room[host.name] for host in hosts}
        self._size = {
            host.name: limit_of(host, inventory.cluster_of(host).policy) for host in hosts
        }
        total = sum(self._size.values(), NOTHING)
        self._weight_memory = 1 / max(1, total.memory_mib)
        self._weight_vcpus = _VCPU_WEIGHT / max(1, total.vcpus)

    def rank(self, load: Load, names: Sequence[HostName]) -> list[HostName]:
        """Those of these hosts that have room for the load, best first."""
        fitting = [name for name in names if load.fits_in(self._room[name])]
        return sorted(fitting, key=lambda name: (self._rise(name, load), name))

    def add(self, name: HostName, load: Load) -> None:
        self._room[name] -= load

    def shortage(self, name: HostName, load: Load) -> Obstacle:
        """Why a host without other obstacles cannot take this load."""
        room = self._room[name]
        return Obstacle(
            cause=Cause.ROOM,
            message=f"it has room for {max(0, room.memory_mib)} MiB and {max(0, room.vcpus)} "
            f"vCPUs, {load.memory_mib} MiB and {load.vcpus} are needed",
        )

    def _rise(self, name: HostName, load: Load) -> float:
        """By how much the weighted sum of used²/size grows if this host takes the load."""
        size, used = self._size[name], self._size[name] - self._room[name]
        return self._weight_memory * _rise_of(
            used.memory_mib, load.memory_mib, size.memory_mib
        ) + self._weight_vcpus * _rise_of(used.vcpus, load.vcpus, size.vcpus)


def _rise_of(used: int, more: int, size: int) -> float:
    return (2 * used * more + more * more) / max(1, size)
