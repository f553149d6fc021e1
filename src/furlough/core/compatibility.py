"""Which hosts could run a VM at all, whatever else is placed there: one reason per obstacle.

Room is not judged here (see `capacity`), since it depends on what else moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from furlough.core.inventory import HOST_PASSTHROUGH, Host, Inventory, Vm
from furlough.core.states import HostMode


class Cause(StrEnum):
    """Why a host cannot take a VM."""

    SILENT = "silent"
    MODE = "mode"
    CPU = "cpu"
    DISK = "disk"
    NETWORK = "network"
    DEVICE = "device"
    DUPLICATE = "duplicate"
    ROOM = "room"
    STATE = "state"


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """One reason against one host, for people and for programs."""

    cause: Cause
    message: str


def obstacles(vm: Vm, host: Host, inventory: Inventory) -> list[Obstacle]:
    """Everything that stands against `vm` moving to `host`; empty if nothing does."""
    return [*_of_mode(host), *obstacles_at_home(vm, host, inventory)]


def obstacles_at_home(vm: Vm, host: Host, inventory: Inventory) -> list[Obstacle]:
    """The same for the way back, when the host is on its way out of maintenance."""
    return [
        *_of_silence(host),
        *_of_cpu(vm, host, inventory),
        *_of_disks(vm, host),
        *_of_networks(vm, host),
        *_of_devices(vm, host),
        *_of_names(vm, host, inventory),
    ]


def _of_mode(host: Host) -> Iterator[Obstacle]:
    if host.mode is not HostMode.AVAILABLE:
        yield Obstacle(cause=Cause.MODE, message=f"it is {host.mode.value}")


def _of_silence(host: Host) -> Iterator[Obstacle]:
    if not host.is_connected:
        yield Obstacle(cause=Cause.SILENT, message="it does not answer")


def _of_cpu(vm: Vm, host: Host, inventory: Inventory) -> Iterator[Obstacle]:
    if vm.cpu_model is None:
        return
    if vm.cpu_model == HOST_PASSTHROUGH:
        if host.cpu_models != inventory.host(vm.host).cpu_models:
            yield Obstacle(
                cause=Cause.CPU, message=f"its CPU differs from {vm.host}'s (host-passthrough)"
            )
    elif vm.cpu_model not in host.cpu_models:
        yield Obstacle(cause=Cause.CPU, message=f"it cannot give CPU model {vm.cpu_model}")


def _of_disks(vm: Vm, host: Host) -> Iterator[Obstacle]:
    for disk in vm.disks:
        if disk.datastore is None:
            yield Obstacle(cause=Cause.DISK, message=f"disk {disk.target} ({disk.source}) is local")
        elif disk.datastore not in host.datastores:
            yield Obstacle(
                cause=Cause.DISK,
                message=f"it does not reach datastore {disk.datastore} of disk {disk.target}",
            )


def _of_networks(vm: Vm, host: Host) -> Iterator[Obstacle]:
    for network in sorted({nic.network for nic in vm.nics} - host.networks):
        yield Obstacle(cause=Cause.NETWORK, message=f"it has no network {network}")


def _of_devices(vm: Vm, host: Host) -> Iterator[Obstacle]:
    for device in sorted(set(vm.devices) - host.devices):
        yield Obstacle(cause=Cause.DEVICE, message=f"it has no device {device}")


def _of_names(vm: Vm, host: Host, inventory: Inventory) -> Iterator[Obstacle]:
    if vm.host == host.name:
        return
    for other in inventory.vms_on(host.name):
        if other.id == vm.id:
            yield Obstacle(
                cause=Cause.DUPLICATE, message=f"it has a VM with this UUID, {other.power.value}"
            )
        elif other.name == vm.name:
            yield Obstacle(
                cause=Cause.DUPLICATE, message=f"it has another VM named {vm.name} ({other.id})"
            )
