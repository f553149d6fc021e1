"""The simulated machines: hosts with their daemons and markers, VMs, and the copies of a VM that
hosts hold. Here is only what is so; how it changes during a migration is in `migration`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from furlough.core.encryption import ABLE, TlsMeans
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Agent, Disk, Nic
from furlough.core.looks import Job, Presence, Why
from furlough.core.probe import Link
from furlough.core.timing import LINK_EFFICIENCY
from furlough.core.vm_policy import Words
from furlough.errors import Refused, Unreachable
from furlough.ports import Clock, Marker
from furlough.sim.wire import Wire

_MIB_PER_MBIT = 1e6 / 8 / 2**20
_GOES_DOWN_IN_S, _BOOTS_IN_S = 2.0, 30.0
NOT_PROVEN = "its hook was not seen to refuse since its daemon started"


@dataclass(frozen=True, kw_only=True)
class SimVm:
    """A VM's own traits, the same wherever it is. `defies_throttling`: its memory is rewritten
    as fast however slow its CPUs are."""

    id: VmId
    name: str
    vcpus: int = 1
    memory_mib: int = 1024
    memory_used_mib: int | None = None
    dirty_mib_s: float = 0.0
    working_set_mib: int = 0
    defies_throttling: bool = False
    cpu_model: str | None = None
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    devices: tuple[str, ...] = ()
    machine: str = ""
    agent: Agent = Agent.NONE
    snapshots: int = 0
    checkpoints: int = 0
    has_tpm: bool = False
    has_nvram: bool = False
    boot_files: tuple[str, ...] = ()
    hindrances: tuple[str, ...] = ()
    huge_page_kib: int | None = None
    numa_nodes: frozenset[int] = frozenset()
    has_cpu_pins: bool = False

    @property
    def memory_to_send_mib(self) -> int:
        return self.memory_mib if self.memory_used_mib is None else self.memory_used_mib


@dataclass(kw_only=True)
class Copy:
    """What one host holds of a VM: a definition, a process, or both.

    `is_orphan`: its daemon died while it waited for a migration's data, and will kill it when it
    starts again. `reboots_instead`: asked to shut down, its guest boots anew; `boots` counts that.
    `was_paused_when_saved`: its next start goes on from a save image as it was then.
    `empty_drives`: what was in drives from which somebody has taken the medium.
    `broken_post_copy_mib`: what the target still wants of it, the link to which has broken.
    """

    vm: SimVm
    presence: Presence
    why: Why = Why.UNKNOWN
    job: Job = Job.NONE
    has_process: bool = False
    is_persistent: bool = True
    has_autostart: bool = False
    is_orphan: bool = False
    has_run: bool = True
    ignores_shutdown: bool = False
    reboots_instead: bool = False
    shutdown_takes_s: float = 3.0
    boots: int = 1
    own_policy: Words = ()
    has_managed_save: bool = False
    was_paused_when_saved: bool = False
    empty_drives: dict[str, Disk] = field(default_factory=dict)
    broken_post_copy_mib: float = 0.0


@dataclass(kw_only=True)
class Surroundings:
    """What a probe of a host finds. `unreached`: peers that it cannot reach, and why."""

    clock_offset_s: float | None = 0.0
    repairs: tuple[str, ...] = ()
    unreached: dict[HostName, str] = field(default_factory=dict)
    latency_ms: float = 0.2
    link: Link | None = None
    starts_guests_at_boot: bool = False
    bmc_answers: bool | None = None
    open_ports: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


@dataclass(kw_only=True)
class SimHost:
    """One machine.

    `is_up`: it has power; `has_daemon`: its hypervisor's daemon runs; `is_reachable`: the
    controller's packets get there and back. `has_guard`: furlough-host answers; `has_hook`: its
    hook is installed; `sees_hook`: the daemon knows of it, which it does from its next start on;
    `guard_trouble`: what stands against relying on it. `refusals`: VMs that its hypervisor would
    not run, and why; `lost_files`: paths at which there is nothing any more; `lost_datastores`:
    what of its storage it reaches no longer; `migration_ports`: how many incoming migrations its
    daemon has ports for; `tls`: what it has for encrypting migrations; `vm_state`: what firmware
    and TPMs of VMs have written there; `fails_starts`: its emulator ends at every start;
    `strays`: processes of VMs that its hypervisor knows nothing of, with the moment (monotonic, s)
    since which they are there.
    """

    name: HostName
    uuid: str
    cpus: int = 16
    memory_mib: int = 65536
    link_mbit_s: int = 10_000
    cpu_models: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    is_up: bool = True
    has_daemon: bool = True
    is_reachable: bool = True
    has_guard: bool = True
    has_hook: bool = True
    sees_hook: bool = True
    guard_trouble: str = ""
    boots: int = 1
    machines: frozenset[str] = frozenset()
    emulator_version: int = 0
    free_huge_pages: dict[int, int] = field(default_factory=dict)
    numa_nodes: frozenset[int] = frozenset()
    tls: TlsMeans = ABLE
    refusals: dict[VmId, str] = field(default_factory=dict)
    surroundings: Surroundings = field(default_factory=Surroundings)
    marker: Marker | None = None
    epoch: int = 0
    acts: dict[VmId, int] = field(default_factory=dict)
    provisioning: list[str] = field(default_factory=list)
    copies: dict[VmId, Copy] = field(default_factory=dict)
    lost_files: set[str] = field(default_factory=set)
    lost_datastores: set[str] = field(default_factory=set)
    migration_ports: int = 64
    vm_state: dict[VmId, str] = field(default_factory=dict)
    fails_starts: bool = False
    strays: dict[str, float] = field(default_factory=dict)

    @property
    def boot_id(self) -> str:
        """Another one after every boot."""
        return f"{self.name}-boot-{self.boots}"

    @property
    def refuses(self) -> bool:
        """Whether its hook refuses anybody."""
        return self.marker is not None and self.has_hook and self.sees_hook


class Ongoing(Protocol):
    """A migration in flight, as far as accidents concern it."""

    source: HostName
    target: HostName

    def source_daemon_died(self) -> None: ...

    def target_daemon_died(self) -> None: ...

    def source_host_died(self) -> None: ...

    def target_host_died(self) -> None: ...

    def data_link_broke(self) -> None: ...

    def vm_stopped(self) -> None: ...

    def target_copy_stopped(self) -> None: ...


class SimCluster:
    """All machines. `watchers` are called after every change of a copy.

    What was not ours is kept apart: `touched` are the VMs that people or guests have changed, with
    what they did; `victims` those that were on a host when it crashed; `upset` the hosts whose load
    changed by either.
    """

    def __init__(self, clock: Clock, hosts: list[SimHost]) -> None:
        self.clock = clock
        self.hosts = {host.name: host for host in hosts}
        self.wire = Wire(clock, {})
        for host in hosts:
            self.slow_down(host.name, factor=1.0)
        self.locked_datastores: set[str] = set()
        self.watchers: list[Callable[[], None]] = []
        self.migrations: dict[VmId, Ongoing] = {}
        self.touched: dict[VmId, str] = {}
        self.victims: set[VmId] = set()
        self.upset: set[HostName] = set()
        self._background: set[asyncio.Task[None]] = set()

    def slow_down(self, host: HostName, *, factor: float) -> None:
        """From now on the link of a host carries this share of its rate."""
        rate = self.hosts[host].link_mbit_s * _MIB_PER_MBIT * LINK_EFFICIENCY
        self.wire.set_capacity(host, rate * factor)

    # --- placing and finding -----------------------------------------------------------------

    def put(self, host: HostName, vm: SimVm, **traits: Any) -> Copy:
        """A VM on a host, running unless `traits` say otherwise."""
        defaults: dict[str, Any] = {"presence": Presence.RUNNING, "has_process": True}
        copy = Copy(vm=vm, **{**defaults, **traits})
        self.hosts[host].copies[vm.id] = copy
        if vm.has_nvram or vm.has_tpm:
            self.hosts[host].vm_state.setdefault(vm.id, f"state of {vm.name}")
        return copy

    def copy(self, host: HostName, vm: VmId) -> Copy | None:
        return self.hosts[host].copies.get(vm)

    def running_on(self, vm: VmId) -> list[HostName]:
        """Every host on which the CPUs of this VM run. More than one is the worst there is."""
        return [
            name
            for name, host in self.hosts.items()
            if (copy := host.copies.get(vm)) is not None and copy.presence is Presence.RUNNING
        ]

    def is_locked(self, vm: SimVm) -> bool:
        """Whether storage would stop a second copy of this VM."""
        writable = [disk for disk in vm.disks if disk.is_writable]
        return bool(writable) and all(disk.datastore in self.locked_datastores for disk in writable)

    # --- changing ----------------------------------------------------------------------------

    def changed(self) -> None:
        """Tell the watchers."""
        for watcher in self.watchers:
            watcher()

    def set_presence(self, copy: Copy, presence: Presence, why: Why) -> None:
        """Change what a copy does, and its process with it."""
        copy.presence, copy.why = presence, why
        copy.has_process = presence in (Presence.RUNNING, Presence.PAUSED)
        copy.has_run = copy.has_run or presence is Presence.RUNNING
        self.changed()

    def let_run(self, host: HostName, copy: Copy, why: Why) -> None:
        """Its CPUs start, and stop at once where its host does not reach its storage."""
        if self.lost_disk(host, copy.vm):
            self.set_presence(copy, Presence.PAUSED, Why.IO_ERROR)
        else:
            self.set_presence(copy, Presence.RUNNING, why)

    def lost_disk(self, host: HostName, vm: SimVm) -> str:
        """A disk of a VM that a host does not reach any more; empty if it reaches all."""
        lost = self.hosts[host].lost_datastores
        return next((disk.source for disk in vm.disks if disk.datastore in lost), "")

    def lose_storage(self, host: HostName, datastore: str) -> None:
        """A host reaches a datastore no longer: what runs there on it stands still."""
        machine = self.hosts[host]
        machine.lost_datastores.add(datastore)
        for copy in list(machine.copies.values()):
            if copy.presence is Presence.RUNNING and self.lost_disk(host, copy.vm):
                self.set_presence(copy, Presence.PAUSED, Why.IO_ERROR)

    def stop(self, host: HostName, vm: VmId, why: Why) -> None:
        """The process of a copy ends; a VM without a definition is gone with it."""
        copy = self.hosts[host].copies[vm]
        ongoing = self.migrations.get(vm)
        if ongoing is not None and ongoing.source == host:
            ongoing.vm_stopped()
        elif ongoing is not None and ongoing.target == host:
            ongoing.target_copy_stopped()
        copy.job = Job.NONE
        if copy.is_persistent:
            self.set_presence(copy, Presence.SHUT_OFF, why)
        else:
            self.remove(host, vm)

    def remove(self, host: HostName, vm: VmId) -> None:
        """Nothing of the VM is left on this host."""
        self.hosts[host].copies.pop(vm, None)
        self.changed()

    def start(self, host: HostName, vm: VmId) -> None:
        """Start a VM, as anybody at the host could; refused by the hook while guarded."""
        copy = self.hosts[host].copies.get(vm)
        if copy is None:
            raise Refused("vm.changed", f"{host} does not know VM {vm}.")
        if copy.presence is not Presence.SHUT_OFF:
            raise Refused("hypervisor.failed", f"VM {copy.vm.name} is already running")
        self.check_hook(host, vm)
        if self.is_locked(copy.vm) and self.running_on(vm):
            raise Refused("hypervisor.failed", 'Failed to get "write" lock')
        if self.hosts[host].fails_starts:
            raise Refused("hypervisor.failed", "qemu unexpectedly closed the monitor")
        if disk := self.lost_disk(host, copy.vm):
            raise Refused("hypervisor.failed", f"Cannot access storage file {disk!r}")
        if copy.vm.has_nvram or copy.vm.has_tpm:
            # What is missing is made anew from its template: the guest's own is lost then.
            self.hosts[host].vm_state.setdefault(vm, "made anew")
        was_paused = copy.has_managed_save and copy.was_paused_when_saved
        if not copy.has_managed_save:
            copy.boots += 1
        copy.has_managed_save = False
        if was_paused:
            self.set_presence(copy, Presence.PAUSED, Why.USER)
        else:
            self.set_presence(copy, Presence.RUNNING, Why.UNKNOWN)

    def check_hook(self, host: HostName, vm: VmId) -> None:
        """What libvirt's hook answers to a start or an incoming migration."""
        machine = self.hosts[host]
        if machine.refuses and machine.marker is not None and vm not in machine.marker.admit:
            raise Refused("target.refused", f"Hook script execution failed: {host} is kept empty.")

    # --- machines ------------------------------------------------------------------------------

    def check_answers(self, host: HostName) -> SimHost:
        """The host, if a call of ours gets through to its daemon; else `Unreachable`."""
        machine = self.hosts.get(host)
        if machine is None or not (machine.is_up and machine.has_daemon and machine.is_reachable):
            raise Unreachable("host.silent", f"{host} does not answer.")
        return machine

    def kill_daemon(self, host: HostName) -> None:
        """The daemon dies; VM processes live on."""
        self.hosts[host].has_daemon = False
        for ongoing in list(self.migrations.values()):
            if ongoing.source == host:
                ongoing.source_daemon_died()
            elif ongoing.target == host:
                ongoing.target_daemon_died()

    def start_daemon(self, host: HostName) -> None:
        """The daemon is back: it finds its VMs again and kills what waits for data in vain."""
        machine = self.hosts[host]
        if not machine.is_up:
            return
        machine.has_daemon = True
        machine.sees_hook = machine.has_hook
        machine.guard_trouble = NOT_PROVEN
        for vm, copy in list(machine.copies.items()):
            if copy.is_orphan:
                self.remove(host, vm)

    def crash(self, host: HostName) -> None:
        """The power goes: every process there is gone."""
        machine = self.hosts[host]
        machine.is_up = machine.has_daemon = False
        machine.provisioning.clear()
        machine.strays.clear()
        self.victims.update(vm for vm, copy in machine.copies.items() if copy.has_process)
        self.upset.add(host)
        for ongoing in list(self.migrations.values()):
            if ongoing.source == host:
                ongoing.source_host_died()
            elif ongoing.target == host:
                ongoing.target_host_died()
        for vm in list(machine.copies):
            if machine.copies[vm].has_process:
                self.stop(host, vm, Why.UNKNOWN)
        self.changed()

    def break_link(self, host: HostName) -> None:
        """Every connection that carries memory from or to a host is reset, and comes about again
        only when the link does: see `slow_down`."""
        self.wire.set_capacity(host, 0.0)
        for ongoing in list(self.migrations.values()):
            if host in (ongoing.source, ongoing.target):
                ongoing.data_link_broke()

    def boot(self, host: HostName) -> None:
        """The power is back: the daemon starts, and with it what has autostart and may start."""
        self.hosts[host].is_up = True
        self.hosts[host].boots += 1
        self.start_daemon(host)
        for vm, copy in list(self.hosts[host].copies.items()):
            if copy.has_autostart and copy.presence is Presence.SHUT_OFF:
                with suppress(Refused):
                    self.start(host, vm)

    async def reboot(self, host: HostName) -> None:
        """It goes down in good order, and is back after a while."""
        await self.switch_off(host)
        await self.clock.sleep(_BOOTS_IN_S)
        self.boot(host)

    async def switch_off(self, host: HostName) -> None:
        """It goes down in good order."""
        await self.clock.sleep(_GOES_DOWN_IN_S)
        self.crash(host)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Something that goes on in the cluster whatever becomes of the controller."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def stop_background(self) -> None:
        """End of the simulation."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
