"""Refusals: for a VM that fits nowhere, every reason against every host, in words.

Worked out after everybody else has been placed, and only for those who were not: what stands
against a host in itself, what stands against it for those the VM has to be with, the room that is
short, and who sits there by now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from furlough.core.capacity import Load, load_of
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.planning.bonds import Bonds, Seats
from furlough.planning.causes import Cause
from furlough.planning.compatibility import Judge, Obstacle, huge_pages_of

Against = Mapping[HostName, tuple[Obstacle, ...]]


@dataclass(frozen=True, kw_only=True)
class Afterwards:
    """What is left when everybody who fits has been placed: room, and free huge pages by their
    size in KiB, per host that was asked; `before` and `seats`: where VMs sit without, and with,
    those who were placed."""

    inventory: Inventory
    hosts: Sequence[Host]
    judge: Judge
    bonds: Bonds
    room: Mapping[HostName, Load]
    pages: Mapping[HostName, Mapping[int, int]]
    before: Seats
    seats: Seats

    def refusals(self, unit: Sequence[Vm]) -> Mapping[VmId, Against]:
        """Per VM of those that are placed as one, and were not: what stands against each host."""
        own = {vm.id: self._of_itself(vm) for vm in unit}
        return {vm.id: {name: self._all(vm, name, unit, own) for name in own[vm.id]} for vm in unit}

    def _of_itself(self, vm: Vm) -> Against:
        """What stands against each host of its cluster, whatever its room."""
        cluster = self.inventory.host(vm.host).cluster
        return {
            host.name: (
                *self.judge(vm, host, self.inventory),
                *self._forbidden(vm, host.name, self.before),
            )
            for host in self.hosts
            if host.cluster == cluster
        }

    def _all(
        self, vm: Vm, name: HostName, unit: Sequence[Vm], own: Mapping[VmId, Against]
    ) -> tuple[Obstacle, ...]:
        """Its own obstacles, else those of the others it has to be with, else the room that is
        short, else who sits there by now."""
        mates = [mate for mate in unit if mate.id != vm.id]
        return (
            own[vm.id][name]
            or tuple(_of_mates(mates, name, own))
            or tuple(self._forbidden(vm, name, self.seats))
            or (self._shortage(name, unit),)
        )

    def _forbidden(self, vm: Vm, name: HostName, seats: Seats) -> Iterator[Obstacle]:
        """The hard rules that forbid a host to a VM."""
        if vm.id in self.bonds.by_vm:
            for words in self.bonds.against(vm.id, name, seats):
                yield Obstacle(cause=Cause.RULE, message=words)

    def _shortage(self, name: HostName, unit: Sequence[Vm]) -> Obstacle:
        """Why a host without other obstacles cannot take all of these."""
        need, room = sum((load_of(vm) for vm in unit[1:]), load_of(unit[0])), self.room[name]
        size_kib = self._lacks_pages(name, unit)
        if size_kib is not None:
            return Obstacle(
                cause=Cause.HUGE_PAGES,
                message=f"too few huge pages of {size_kib} KiB are left there",
            )
        if need.fits_in(room):
            return Obstacle(
                cause=Cause.RULE,
                message="rules keep it and those it has to be with from being there",
            )
        group = " with those it has to be with" if len(unit) > 1 else ""
        return Obstacle(
            cause=Cause.ROOM,
            message=f"it has room for {max(0, room.memory_mib)} MiB and {max(0, room.vcpus)} "
            f"vCPUs, {need.memory_mib} MiB and {need.vcpus} are needed{group}",
        )

    def _lacks_pages(self, name: HostName, unit: Sequence[Vm]) -> int | None:
        """The size in KiB of the huge pages that are too few on a host; None if none are."""
        wanted: dict[int, int] = {}
        for vm in unit:
            if vm.huge_page_kib:
                wanted[vm.huge_page_kib] = wanted.get(vm.huge_page_kib, 0) + huge_pages_of(vm)
        free = self.pages[name]
        return next((size for size, count in wanted.items() if count > free.get(size, 0)), None)


def _of_mates(
    mates: Sequence[Vm], name: HostName, own: Mapping[VmId, Against]
) -> Iterator[Obstacle]:
    """What stands against a host for those that a VM has to be with."""
    for mate in mates:
        for one in own[mate.id].get(name, ()):
            yield Obstacle(
                cause=Cause.RULE, message=f"{mate.name}, which it has to be with: {one.message}"
            )
