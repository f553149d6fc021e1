"""Cold moves: which VMs can be moved while they are off, where to, and the steps that do it.

    off, scope all      ─► left, with the reason │ moved, after all that runs
    runs, policy cold   ─► shut down, moved, started on its target

What a migration needs of the guest's memory, CPU and devices does not count here; what its next
start needs of the target does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from furlough.core.capacity import NOTHING, load_of
from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.plan import Before, Method, PlannedStep
from furlough.core.timing import REDEFINE_S, SHUT_DOWN_S, START_S
from furlough.core.vm_policy import IfIgnored, OnMaintenance
from furlough.planning.causes import Cause
from furlough.planning.compatibility import (
    Obstacle,
    of_devices,
    of_disks,
    of_machine_type,
    of_mode,
    of_names,
    of_networks,
    of_numa,
    of_silence,
)


def cold_obstacles(vm: Vm, host: Host, inventory: Inventory) -> list[Obstacle]:
    """Everything that stands against `vm` being moved cold to `host`, and started there."""
    return [*of_mode(host), *cold_obstacles_at_home(vm, host, inventory)]


def cold_obstacles_at_home(vm: Vm, host: Host, inventory: Inventory) -> list[Obstacle]:
    """The same for the way back, when the host is on its way out of maintenance."""
    return [
        *of_silence(host),
        *_of_cpu(vm, host),
        *of_machine_type(vm, host),
        *of_disks(vm, host),
        *of_networks(vm, host),
        *of_devices(vm, host),
        *of_numa(vm, host),
        *of_names(vm, host, inventory),
    ]


def _of_cpu(vm: Vm, host: Host) -> Iterator[Obstacle]:
    """A copy of the host's own CPU is made anew at the next start, whatever that is."""
    if vm.cpu_model not in (None, HOST_PASSTHROUGH) and vm.cpu_model not in host.cpu_models:
        yield Obstacle(cause=Cause.CPU, message=f"it cannot give CPU model {vm.cpu_model}")


def trouble_with_cold(vm: Vm) -> str:
    """Why this VM cannot be moved cold wherever to, in words; empty if it can."""
    if vm.snapshots:
        return f"it has {vm.snapshots} snapshot(s), whose records stay behind"
    if vm.checkpoints:
        return f"it has {vm.checkpoints} checkpoint(s), whose records stay behind"
    if vm.has_managed_save:
        return "its saved memory would stay behind; start it and shut it down first"
    return ""


# --- those that are off --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Resting:
    """What becomes of a VM that is off when all have to leave: its ranked targets, or why it
    stays."""

    vm: Vm
    targets: tuple[HostName, ...] = ()
    stays_because: str = ""


def resting(inventory: Inventory, host: HostName) -> list[Vm]:
    """The VMs that a host has and that are off."""
    return [vm for vm in inventory.vms_on(host) if not vm.is_active and not vm.is_arriving]


def settle_resting(
    inventory: Inventory, hosts: Iterable[HostName], targets: Sequence[Host]
) -> Mapping[tuple[HostName, VmId], Resting]:
    """What becomes of each VM that is off on these hosts, by host and VM. One takes no memory, so
    they are spread by their number; in other clusters only where no host of their own takes
    them."""
    counts = Counter({host.name: len(inventory.vms_on(host.name)) for host in targets})
    found: dict[tuple[HostName, VmId], Resting] = {}
    for name in hosts:
        cluster = inventory.host(name).cluster
        near = [host for host in targets if host.cluster == cluster]
        far = [one for one in targets if inventory.may_cross(inventory.host(name), one)]
        for vm in sorted(resting(inventory, name), key=lambda vm: (vm.name, vm.id)):
            found[name, vm.id] = _settle(vm, near, inventory, counts)
            if far and not found[name, vm.id].targets:
                found[name, vm.id] = _settle(vm, [*near, *far], inventory, counts)
            counts.update(found[name, vm.id].targets[:1])
    return found


def _settle(
    vm: Vm, targets: Sequence[Host], inventory: Inventory, counts: Mapping[HostName, int]
) -> Resting:
    because = _keeps_off(vm, inventory)
    if because:
        return Resting(vm=vm, stays_because=because)
    against = {host.name: _against(vm, host, inventory) for host in targets}
    fitting = [host for host, found in against.items() if not found]
    if not fitting:
        words = "; ".join(
            f"{host}: {', '.join(one.message for one in found)}"
            for host, found in sorted(against.items())
        )
        return Resting(vm=vm, stays_because=f"no host takes it: {words or 'there is no other'}")
    ranked = sorted(fitting, key=lambda host: (counts[host], host))
    return Resting(vm=vm, targets=tuple(ranked[:3]))


def _keeps_off(vm: Vm, inventory: Inventory) -> str:
    """Why it is not moved wherever to."""
    if vm.policy.on_maintenance is OnMaintenance.LEAVE:
        return "its policy says leave"
    others = [one for one in inventory.copies_of(vm.id) if one.host != vm.host]
    if others:
        return f"{others[0].host} has it too, {others[0].power.value}: this may be a left-over"
    if vm.busy_with:
        return f"{vm.busy_with} is under way in it"
    return trouble_with_cold(vm)


def _against(vm: Vm, host: Host, inventory: Inventory) -> list[Obstacle]:
    found = cold_obstacles(vm, host, inventory)
    allowed = vm.policy.host_affinity
    if allowed and host.name not in allowed:
        words = f"its host affinity allows only {', '.join(sorted(allowed))}"
        found.append(Obstacle(cause=Cause.RULE, message=words))
    return found


# --- steps ---------------------------------------------------------------------------------------


def cold_move(vm: Vm, targets: tuple[HostName, ...], host: HostName, wave: int) -> PlannedStep:
    """The step that moves this VM, which runs or is off, cold from where it is. `host`: the one
    whose maintenance it is about: the VM's own, or the one that it comes home to."""
    runs = vm.is_active
    return PlannedStep(
        number=0,
        method=Method.COLD,
        host=host,
        wave=wave,
        vm=vm.id,
        vm_name=vm.name,
        source=vm.host,
        targets=targets,
        load=load_of(vm) if runs else NOTHING,
        before=Before(
            power=vm.power, is_persistent=vm.is_persistent, has_autostart=vm.has_autostart
        ),
        grace_s=float(vm.policy.shut_down_grace_s) if runs else 0.0,
        may_power_off=runs and vm.policy.if_ignored is IfIgnored.POWER_OFF,
        duration_s=duration_s(vm),
        downtime_ms=downtime_ms(vm),
    )


def duration_s(vm: Vm) -> float:
    """How long a cold move of this VM should take, in seconds."""
    return SHUT_DOWN_S + REDEFINE_S + START_S if vm.is_active else REDEFINE_S


def downtime_ms(vm: Vm) -> int:
    """How long its guest is off for it; 0 if it was off anyway."""
    return round(1000 * (REDEFINE_S + START_S)) if vm.is_active else 0
