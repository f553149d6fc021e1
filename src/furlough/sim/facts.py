"""What simulated hosts tell of themselves and of their VMs: pure, nothing here changes anything."""

from __future__ import annotations

from datetime import datetime

from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.core.ids import HostName
from furlough.core.inventory import Vm
from furlough.core.looks import Job, Presence, Why
from furlough.core.probe import Probe, Reach
from furlough.core.states import Power
from furlough.ports import HostFacts
from furlough.sim.cluster import Copy, SimHost, SimVm

_POWER = {
    Presence.RUNNING: Power.RUNNING,
    Presence.PAUSED: Power.PAUSED,
    Presence.SHUT_OFF: Power.SHUT_OFF,
}
_ERRORS = (Why.IO_ERROR, Why.CRASHED)


def facts_of(machine: SimHost, at: datetime) -> HostFacts:
    """All that one look at a host brings."""
    return HostFacts(
        host=machine.name,
        at=at,
        uuid=machine.uuid,
        cpus=machine.cpus,
        memory_mib=machine.memory_mib,
        cpu_models=machine.cpu_models,
        networks=machine.networks,
        devices=machine.devices,
        vms=tuple(vm_of(copy, machine.name) for copy in machine.copies.values()),
        has_guard=machine.has_guard,
        marker=machine.marker,
        guard_trouble=machine.guard_trouble,
        boot_id=machine.boot_id if machine.has_guard else "",
        machines=machine.machines,
        emulator_version=machine.emulator_version,
        free_huge_pages=dict(machine.free_huge_pages),
        numa_nodes=machine.numa_nodes,
        tls=machine.tls,
    )


def vm_of(copy: Copy, host: HostName) -> Vm:
    """A VM as this host describes it."""
    vm = copy.vm
    return Vm(
        id=vm.id,
        name=vm.name,
        host=host,
        power=_power_of(copy),
        vcpus=vm.vcpus,
        memory_mib=vm.memory_mib,
        memory_used_mib=vm.memory_used_mib,
        cpu_model=vm.cpu_model,
        disks=vm.disks,
        nics=vm.nics,
        devices=vm.devices,
        is_persistent=copy.is_persistent,
        has_autostart=copy.has_autostart,
        busy_with=_job_words(copy.job),
        is_arriving=copy.job is Job.INCOMING,
        has_io_error=copy.has_process and copy.why is Why.IO_ERROR,
        own_policy=copy.own_policy,
        machine=vm.machine,
        agent=vm.agent,
        snapshots=vm.snapshots,
        checkpoints=vm.checkpoints,
        has_managed_save=copy.has_managed_save,
        has_tpm=vm.has_tpm,
        has_nvram=vm.has_nvram,
        boot_files=vm.boot_files,
        hindrances=_hindrances(copy),
        huge_page_kib=vm.huge_page_kib,
        numa_nodes=vm.numa_nodes,
        has_cpu_pins=vm.has_cpu_pins,
    )


def rewritten_mib_s(vm: SimVm, within_s: int) -> float:
    """What an emulator would count in so many seconds: pages, not writes, in whole MiB/s."""
    return float(int(min(vm.working_set_mib, vm.dirty_mib_s * within_s) / within_s))


def _power_of(copy: Copy) -> Power:
    if copy.has_process and copy.presence is Presence.PAUSED and copy.why in _ERRORS:
        return Power.ERROR
    if copy.presence is Presence.PAUSED and copy.why is Why.ASLEEP:
        return Power.SUSPENDED
    return _POWER[copy.presence]


def _job_words(job: Job) -> str:
    if job is Job.NONE:
        return ""
    return "a job" if job is Job.OTHER else f"{job.value} migration"


def probe_of(machine: SimHost, peers: list[SimHost], at: datetime) -> Probe:
    """What furlough-host finds out there."""
    found = machine.surroundings
    return Probe(
        at=at,
        clock_offset_s=found.clock_offset_s,
        repairs=found.repairs,
        peers={peer.name: _reach(machine, peer) for peer in peers},
        link=found.link,
        starts_guests_at_boot=found.starts_guests_at_boot,
        bmc_answers=found.bmc_answers,
        open_ports=found.open_ports,
        troubles=found.troubles,
    )


def _reach(machine: SimHost, peer: SimHost) -> Reach:
    because = machine.surroundings.unreached.get(peer.name, "")
    if not because and not (peer.is_up and peer.has_daemon):
        because = "nobody answers there"
    return Reach(because=because, latency_ms=None if because else machine.surroundings.latency_ms)


def misfit(copy: Copy, source: SimHost, target: SimHost) -> str:
    """What the target's hypervisor has against running this VM as it runs now; empty: nothing."""
    if copy.vm.id in target.refusals:
        return target.refusals[copy.vm.id]
    if 0 < target.emulator_version // 1000 < source.emulator_version // 1000:
        return f"its emulator is older than that of {source.name}"
    if target.machines and copy.vm.machine and copy.vm.machine not in target.machines:
        return f"its emulator has no machine {copy.vm.machine}"
    if copy.vm.cpu_model == HOST_PASSTHROUGH and source.cpu_models != target.cpu_models:
        return f"its CPU is not that of {source.name}, which the VM sees as its own"
    return ""


def _hindrances(copy: Copy) -> tuple[str, ...]:
    """What the hypervisor refuses to migrate, and what it would crash of."""
    if copy.presence is Presence.PAUSED and not copy.has_run and copy.job is Job.NONE:
        return (*copy.vm.hindrances, "it was brought here paused and has not run since")
    return copy.vm.hindrances
