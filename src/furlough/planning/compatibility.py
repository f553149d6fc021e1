"""Which hosts could run a VM at all, whatever else is placed there: one reason per obstacle.

Room is not judged here (see `capacity`), since it depends on what else moves.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.states import HostMode
from furlough.planning.causes import Cause
from furlough.planning.wires import wire_of

# What an older probe said of the network may have changed since.
_PROBE_HOLDS = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """One reason against one host, for people and for programs."""

    cause: Cause
    message: str


# What stands against a VM on a host, as whoever asks wants it judged.
Judge = Callable[[Vm, Host, Inventory], Sequence[Obstacle]]


def obstacles(vm: Vm, host: Host, inventory: Inventory) -> list[Obstacle]:
    """Everything that stands against `vm` moving to `host`; empty if nothing does."""
    return [*of_mode(host), *obstacles_at_home(vm, host, inventory)]


def obstacles_at_home(vm: Vm, host: Host, inventory: Inventory) -> list[Obstacle]:
    """The same for the way back, when the host is on its way out of maintenance."""
    return [
        *of_silence(host),
        *_of_path(vm, host, inventory),
        *obstacles_of_kind(vm, host, inventory),
        *_of_huge_pages(vm, host),
        *of_names(vm, host, inventory),
    ]


def obstacles_of_moment(vm: Vm, host: Host, inventory: Inventory) -> list[Obstacle]:
    """What stands against it besides what the two are: all of `obstacles` but those of kind. In a
    large cluster most is asked of hosts against which there is nothing."""
    found = [*of_names(vm, host, inventory)]
    if host.mode is not HostMode.AVAILABLE or host.kept_empty_by or not host.is_connected:
        found += [*of_mode(host), *of_silence(host)]
    if vm.huge_page_kib is not None:
        found += _of_huge_pages(vm, host)
    return [*found, *_of_path(vm, host, inventory)]


def obstacles_of_kind(vm: Vm, host: Host, inventory: Inventory) -> list[Obstacle]:
    """What stands against it because of what the two are, however idle and well connected."""
    return [
        *_of_cpu(vm, host, inventory),
        *_of_machine(vm, host, inventory),
        *of_disks(vm, host),
        *of_networks(vm, host),
        *of_devices(vm, host),
        *of_numa(vm, host),
    ]


def traits_of_vm(vm: Vm, inventory: Inventory) -> tuple[Hashable, ...]:
    """All of a VM that `obstacles_of_kind` looks at, but for misfits: two VMs of which this is
    the same have the same obstacles."""
    source = inventory.host(vm.host)
    return (
        vm.cpu_model,
        source.cpu_models if vm.cpu_model == HOST_PASSTHROUGH else None,
        vm.machine,
        source.emulator_version,
        tuple((disk.datastore, bool(disk.source) or not disk.is_medium) for disk in vm.disks),
        tuple(nic.network for nic in vm.nics),
        vm.devices,
        vm.numa_nodes,
    )


def traits_of_host(host: Host) -> tuple[Hashable, ...]:
    """The same of a host."""
    return (
        host.cpu_models,
        host.machines,
        host.emulator_version,
        host.datastores,
        host.networks,
        host.devices,
        host.numa_nodes,
    )


def unreachable(source: Host, target: Host, inventory: Inventory) -> str:
    """Why migrations cannot pass between two hosts, as far as fresh probes tell; empty if
    nothing is known against it."""
    for one, other in ((source, target), (target, source)):
        if one.probe is None or inventory.taken_at - one.probe.at > _PROBE_HOLDS:
            continue
        reach = one.probe.peers.get(other.name)
        if reach is not None and not reach.is_there:
            return f"{one.name} does not reach {other.name} for migrations: {reach.because}"
    return ""


def of_mode(host: Host) -> Iterator[Obstacle]:
    """What stands against using the host at all now."""
    if host.mode is not HostMode.AVAILABLE:
        yield Obstacle(cause=Cause.MODE, message=f"it is {host.mode.value}")
    elif host.kept_empty_by:
        yield Obstacle(cause=Cause.MODE, message=f"it is kept empty by {host.kept_empty_by}")


def of_silence(host: Host) -> Iterator[Obstacle]:
    """Whether the host answers."""
    if not host.is_connected:
        yield Obstacle(cause=Cause.SILENT, message="it does not answer")


def _of_path(vm: Vm, host: Host, inventory: Inventory) -> Iterator[Obstacle]:
    source = inventory.host(vm.host)
    wire = wire_of(source, host)
    if not wire.is_allowed:
        message = f"memory may not pass in clear: {wire.because}"
        yield Obstacle(cause=Cause.TLS, message=message)
    if source.probe is None and host.probe is None:
        return
    because = unreachable(source, host, inventory)
    if because:
        yield Obstacle(cause=Cause.PATH, message=because)


def _of_cpu(vm: Vm, host: Host, inventory: Inventory) -> Iterator[Obstacle]:
    misfit = inventory.misfits.get((host.name, vm.id))
    if misfit:
        yield Obstacle(cause=Cause.CPU, message=f"its hypervisor says: {misfit}")
    if vm.cpu_model is None:
        return
    if vm.cpu_model == HOST_PASSTHROUGH:
        if host.cpu_models != inventory.host(vm.host).cpu_models:
            yield Obstacle(
                cause=Cause.CPU, message=f"its CPU differs from {vm.host}'s (host-passthrough)"
            )
    elif vm.cpu_model not in host.cpu_models:
        yield Obstacle(cause=Cause.CPU, message=f"it cannot give CPU model {vm.cpu_model}")


def _of_machine(vm: Vm, host: Host, inventory: Inventory) -> Iterator[Obstacle]:
    """What is unknown of either side is no obstacle."""
    yield from of_machine_type(vm, host)
    source = inventory.host(vm.host)
    # By release line: a fix that one host already has and the other has not yet is no obstacle.
    if 0 < host.emulator_version // 1000 < source.emulator_version // 1000:
        yield Obstacle(
            cause=Cause.MACHINE,
            message=f"its emulator {_version(host)} is older than {_version(source)}",
        )


def of_machine_type(vm: Vm, host: Host) -> Iterator[Obstacle]:
    """What stands against the VM's next start there."""
    if vm.machine and host.machines and vm.machine not in host.machines:
        yield Obstacle(cause=Cause.MACHINE, message=f"it does not know machine type {vm.machine}")


def _version(host: Host) -> str:
    number = host.emulator_version
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def of_disks(vm: Vm, host: Host) -> Iterator[Obstacle]:
    """Disks that the host does not reach."""
    for disk in vm.disks:
        if disk.is_medium and not disk.source:
            continue  # an empty drive
        if disk.datastore is None:
            yield Obstacle(cause=Cause.DISK, message=f"disk {disk.target} ({disk.source}) is local")
        elif disk.datastore not in host.datastores:
            yield Obstacle(
                cause=Cause.DISK,
                message=f"it does not reach datastore {disk.datastore} of disk {disk.target}",
            )


def _of_huge_pages(vm: Vm, host: Host) -> Iterator[Obstacle]:
    """Its own need; what else goes there is for placement."""
    size_kib = vm.huge_page_kib
    if size_kib is None:
        return
    pages, free = huge_pages_of(vm), host.free_huge_pages.get(size_kib, 0)
    if pages > free:
        yield Obstacle(
            cause=Cause.HUGE_PAGES,
            message=f"it has {free} free huge pages of {size_kib} KiB, {pages} are needed",
        )


def huge_pages_of(vm: Vm) -> int:
    """How many huge pages of its size hold a VM's memory; 0 if ordinary ones do."""
    return -(-vm.memory_mib * 1024 // vm.huge_page_kib) if vm.huge_page_kib else 0


def of_numa(vm: Vm, host: Host) -> Iterator[Obstacle]:
    """NUMA nodes that the host does not have."""
    if not (vm.numa_nodes and host.numa_nodes):
        return  # unbound, or nothing is known of the host
    missing = sorted(vm.numa_nodes - host.numa_nodes)
    if missing:
        nodes = ", ".join(str(node) for node in missing)
        yield Obstacle(cause=Cause.NUMA, message=f"it has no NUMA node {nodes}")


def of_networks(vm: Vm, host: Host) -> Iterator[Obstacle]:
    """Networks that the host does not have."""
    if all(nic.network in host.networks for nic in vm.nics):
        return  # the usual case, asked very often
    for network in sorted({nic.network for nic in vm.nics} - host.networks):
        yield Obstacle(cause=Cause.NETWORK, message=f"it has no network {network}")


def of_devices(vm: Vm, host: Host) -> Iterator[Obstacle]:
    """Devices that the host does not have."""
    for device in sorted(set(vm.devices) - host.devices) if vm.devices else ():
        yield Obstacle(cause=Cause.DEVICE, message=f"it has no device {device}")


def of_names(vm: Vm, host: Host, inventory: Inventory) -> Iterator[Obstacle]:
    """What the host has already under the same name or UUID."""
    if vm.host == host.name:
        return
    for other in inventory.copies_of(vm.id):
        if other.host == host.name:
            yield Obstacle(
                cause=Cause.DUPLICATE, message=f"it has a VM with this UUID, {other.power.value}"
            )
    for other in inventory.vms_named(vm.name):
        if other.host == host.name and other.id != vm.id:
            yield Obstacle(
                cause=Cause.DUPLICATE, message=f"it has another VM named {vm.name} ({other.id})"
            )
