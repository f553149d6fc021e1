"""Ties: what keeps a VM from moving live to any host, because of what it is or does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from furlough.core.inventory import Vm
from furlough.core.states import Power


@dataclass(frozen=True, kw_only=True)
class Tie:
    """One such trait: the code of its finding, and what is said of the VM ("has …")."""

    code: str
    words: str


def ties_of(vm: Vm) -> list[Tie]:
    """Everything that ties a VM to its host. What passes by itself, a job for instance, does
    not count: the VM can move once it is over."""
    return [*_of_power(vm), *_of_traits(vm), *_of_disks(vm)]


def _of_power(vm: Vm) -> Iterator[Tie]:
    if vm.power is Power.ERROR and vm.has_io_error:
        yield Tie(code="vm.io_error", words="was stopped by an I/O error")
    elif vm.power is Power.ERROR:
        yield Tie(code="vm.error", words="is in error")
    elif vm.power is Power.SUSPENDED:
        yield Tie(code="vm.suspended", words="sleeps (suspended by its guest)")


def _of_traits(vm: Vm) -> Iterator[Tie]:
    if vm.devices:
        yield Tie(code="vm.device", words=f"has passed-through device(s): {', '.join(vm.devices)}")
    if vm.hindrances:
        yield Tie(code="vm.hindrance", words=f"cannot be migrated live: {', '.join(vm.hindrances)}")
    if vm.snapshots:
        yield Tie(code="vm.snapshot", words=f"has {vm.snapshots} snapshot(s)")


def _of_disks(vm: Vm) -> Iterator[Tie]:
    for disk in vm.disks:
        if disk.datastore is not None or (disk.is_medium and not disk.source):
            continue
        if disk.is_medium:
            yield Tie(
                code="vm.local_media",
                words=f"has local media in drive {disk.target}: {disk.source}",
            )
        else:
            yield Tie(code="vm.local_disk", words=f"has local disk {disk.target}: {disk.source}")
