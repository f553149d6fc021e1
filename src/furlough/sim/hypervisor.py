"""The Hypervisor port over the simulated cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from random import Random
from typing import Any

from furlough.core.enrolment import EnrolledDatastore, Enrolment
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Vm
from furlough.core.looks import Job, Look, Presence, Why
from furlough.core.probe import Probe
from furlough.core.vm_policy import Words
from furlough.errors import FurloughError, Refused, Unreachable
from furlough.ports import (
    ColdOrder,
    Hint,
    HostFacts,
    Marker,
    MigrationOrder,
    MigrationReport,
    Occupancy,
    Progress,
    StorageProof,
)
from furlough.sim import cold
from furlough.sim.cluster import NOT_PROVEN, Copy, SimCluster, SimHost
from furlough.sim.facts import facts_of, misfit, probe_of, rewritten_mib_s, vm_of
from furlough.sim.faults import Faults
from furlough.sim.media import exchange
from furlough.sim.migration import SimMigration, Timing

_SAVES_MIB_S = 500.0
_LOOKS_AGAIN_S = 0.05


class SimHypervisor:
    """Implements `ports.Hypervisor`. Reads are never lost by a fault, only by a silent host."""

    def __init__(
        self, cluster: SimCluster, faults: Faults | None = None, timing: Timing | None = None
    ) -> None:
        self._cluster = cluster
        self._faults = faults or Faults(random=Random(0))  # noqa: S311  # faults, not secrets
        self._timing = timing or Timing()
        self._being_watched: set[VmId] = set()

    async def enrol(self, enrolment: Enrolment) -> None:
        """The simulated hosts are those that are there."""

    async def close(self) -> None:
        """Nothing is held."""

    # --- looking -------------------------------------------------------------------------------

    async def observe(self, host: HostName) -> HostFacts:
        return facts_of(self._cluster.check_answers(host), self._cluster.clock.now())

    async def probe(self, host: HostName, peers: Sequence[HostName]) -> Probe:
        machine = self._cluster.hosts.get(host)
        if machine is None or not (machine.is_up and machine.is_reachable):
            raise Unreachable("host.silent", f"{host} does not answer.")
        _check_guard_program(machine)
        known = [self._cluster.hosts[peer] for peer in peers if peer in self._cluster.hosts]
        return probe_of(machine, known, self._cluster.clock.now())

    async def misfits(self, host: HostName, vms: Sequence[Vm]) -> Mapping[VmId, str]:
        target = self._cluster.check_answers(host)
        found = {}
        for vm in vms:
            source = self._cluster.hosts.get(vm.host)
            copy = None if source is None else source.copies.get(vm.id)
            if source is None or copy is None or not copy.has_process or source is target:
                continue
            if words := misfit(copy, source, target):
                found[vm.id] = words
        return found

    async def dirty_rates(
        self, host: HostName, vms: Sequence[VmId], within_s: int
    ) -> Mapping[VmId, float]:
        machine = self._cluster.check_answers(host)
        # As with QEMU: who is being watched already is not watched a second time.
        watched = [
            copy
            for vm in vms
            if (copy := machine.copies.get(vm))
            and _is_watchable(copy)
            and vm not in self._being_watched
        ]
        if not watched:
            return {}
        mine = {copy.vm.id for copy in watched}
        self._being_watched |= mine
        try:
            await self._cluster.clock.sleep(within_s)
        finally:
            self._being_watched -= mine
        self._cluster.check_answers(host)
        return {
            copy.vm.id: rewritten_mib_s(copy.vm, within_s)
            for copy in watched
            if machine.copies.get(copy.vm.id) is copy and _is_watchable(copy)
        }

    async def look(self, host: HostName, vm: VmId) -> Look:
        now = self._cluster.clock.now()
        try:
            machine = self._cluster.check_answers(host)
        except Unreachable:
            return Look(host=host, at=now, presence=Presence.SILENT)
        copy = machine.copies.get(vm)
        if copy is None:
            return Look(host=host, at=now, presence=Presence.ABSENT)
        return Look(
            host=host,
            at=now,
            presence=copy.presence,
            why=copy.why,
            job=copy.job,
            has_process=copy.has_process,
            is_persistent=copy.is_persistent,
            has_autostart=copy.has_autostart,
            has_managed_save=copy.has_managed_save,
        )

    async def occupancy(self, host: HostName) -> Occupancy:
        machine = self._cluster.check_answers(host)
        _check_guard_program(machine)
        active = [copy for copy in machine.copies.values() if copy.has_process]
        return Occupancy(
            host=host,
            at=self._cluster.clock.now(),
            active=tuple(vm_of(copy, host) for copy in active),
            processes=(*(f"- {copy.vm.name}" for copy in active), *machine.strays),
            provisioning=(*machine.provisioning, *_arriving(machine)),
            marker=machine.marker,
        )

    async def progress(self, host: HostName, vm: VmId) -> Progress | None:
        self._cluster.check_answers(host)
        ongoing = self._cluster.migrations.get(vm)
        if not isinstance(ongoing, SimMigration) or ongoing.source != host:
            return None
        return ongoing.progress

    async def hints(self) -> AsyncIterator[Hint]:
        await asyncio.Event().wait()
        yield Hint(host=HostName(""))

    # --- migrating -------------------------------------------------------------------------------

    async def migrate_live(self, order: MigrationOrder) -> MigrationReport:
        self._cluster.check_answers(order.source)

        async def migrate() -> MigrationReport:
            self._faults.check_refusal()
            migration = SimMigration(
                self._cluster,
                order,
                self._timing,
                loses_finish_answer=self._faults.happens("lost_finish"),
            )
            migration.start()
            return await asyncio.shield(migration.result)

        return await self._faults.call(migrate)

    async def abort(self, host: HostName, vm: VmId) -> None:
        self._ongoing(host, vm).abort()

    async def set_speed(self, host: HostName, vm: VmId, mib_s: int) -> None:
        self._ongoing(host, vm).set_speed(mib_s)

    async def set_downtime_limit(self, host: HostName, vm: VmId, ms: int) -> None:
        self._ongoing(host, vm).set_downtime_limit(ms)

    async def start_post_copy(self, host: HostName, vm: VmId) -> None:
        async def act() -> None:
            self._ongoing(host, vm).start_post_copy()

        await self._faults.call(act)

    async def until_stopped(self, host: HostName, vm: VmId) -> None:
        while True:
            ongoing = self._cluster.migrations.get(vm)
            if isinstance(ongoing, SimMigration) and ongoing.source == host:
                await ongoing.stopped.wait()
                return
            await self._cluster.clock.sleep(_LOOKS_AGAIN_S)

    def _ongoing(self, host: HostName, vm: VmId) -> SimMigration:
        self._cluster.check_answers(host)
        self._known(host, vm)
        ongoing = self._cluster.migrations.get(vm)
        if not isinstance(ongoing, SimMigration) or ongoing.source != host:
            raise Refused("hypervisor.failed", "no job is active on the domain")
        return ongoing

    async def check_cold(self, order: ColdOrder) -> None:
        cold.check(self._cluster, order)

    async def copy_state(self, order: ColdOrder) -> Sequence[str]:
        async def act() -> Sequence[str]:
            return await cold.copy_state(self._cluster, order)

        return await self._faults.call(act)

    async def copy_definition(self, order: ColdOrder) -> None:
        self._check_epoch(order.target, order.vm, order.epoch)

        async def act() -> None:
            cold.copy_definition(self._cluster, order)

        await self._faults.call(act)

    # --- power -----------------------------------------------------------------------------------

    async def start(self, host: HostName, vm: VmId) -> None:
        self._cluster.check_answers(host)

        async def act() -> None:
            self._cluster.start(host, vm)

        await self._faults.call(act)

    async def shut_down(self, host: HostName, vm: VmId) -> None:
        copy = self._active(host, vm)
        if copy.presence is not Presence.RUNNING:
            raise Refused("hypervisor.failed", "domain is not running")
        if copy.reboots_instead:
            copy.boots += 1
        elif not copy.ignores_shutdown:
            self._cluster.spawn(self._obey(host, copy))

    async def _obey(self, host: HostName, asked: Copy) -> None:
        boot = asked.boots
        await self._cluster.clock.sleep(asked.shutdown_takes_s)
        copy = self._cluster.copy(host, asked.vm.id)
        # What was asked of one boot is no wish of the next one.
        if copy is not None and copy.presence is Presence.RUNNING and copy.boots == boot:
            self._cluster.stop(host, copy.vm.id, Why.SHUTDOWN)

    async def power_off(self, host: HostName, vm: VmId, epoch: int) -> None:
        self._active(host, vm)
        self._check_epoch(host, vm, epoch)

        async def act() -> None:
            self._cluster.stop(host, vm, Why.DESTROYED)

        await self._faults.call(act)

    async def suspend(self, host: HostName, vm: VmId) -> None:
        copy = self._active(host, vm)
        why = Why.MIGRATION if copy.job is Job.OUTGOING else Why.USER
        self._cluster.set_presence(copy, Presence.PAUSED, why)
        ongoing = self._cluster.migrations.get(vm)
        if isinstance(ongoing, SimMigration) and ongoing.source == host:
            ongoing.source_paused()

    async def resume(self, host: HostName, vm: VmId, epoch: int) -> None:
        copy = self._active(host, vm)
        self._check_epoch(host, vm, epoch)
        if copy.presence is Presence.RUNNING:
            raise Refused("hypervisor.failed", "domain is already running")

        async def act() -> None:
            others = [name for name in self._cluster.running_on(vm) if name != host]
            if others and self._cluster.is_locked(copy.vm):
                raise Refused("hypervisor.failed", 'Failed to get "write" lock')
            self._cluster.let_run(host, copy, Why.UNKNOWN)

        await self._faults.call(act)

    async def undefine(self, host: HostName, vm: VmId, epoch: int) -> None:
        copy = self._known(host, vm)
        self._check_epoch(host, vm, epoch)
        if not copy.is_persistent:
            raise Refused("hypervisor.failed", "cannot undefine transient domain")
        if copy.has_managed_save:
            raise Refused("hypervisor.failed", "it has a managed save image")
        if copy.has_process:
            copy.is_persistent = False
        else:
            self._cluster.remove(host, vm)

    async def save(self, host: HostName, vm: VmId) -> None:
        copy = self._active(host, vm)
        if not copy.is_persistent:
            raise Refused("hypervisor.failed", "cannot do managed save for transient domain")
        if copy.job is not Job.NONE:
            raise Refused("hypervisor.busy", "another job has the VM")

        async def act() -> None:
            await self._outlive(self._save(host, copy))

        await self._faults.call(act)

    async def _save(self, host: HostName, copy: Copy) -> None:
        copy.job, was_paused = Job.OTHER, copy.presence is Presence.PAUSED
        self._cluster.set_presence(copy, Presence.PAUSED, Why.UNKNOWN)
        await self._cluster.clock.sleep(copy.vm.memory_to_send_mib / _SAVES_MIB_S)
        self._check_saved(host, copy, was_paused)
        copy.has_managed_save, copy.was_paused_when_saved = True, was_paused
        self._cluster.stop(host, copy.vm.id, Why.SAVED)

    def _check_saved(self, host: HostName, copy: Copy, was_paused: bool) -> None:
        """A daemon that dies leaves the VM as it was; a VM that was stopped has nothing to save."""
        if copy.has_process and not self._cluster.hosts[host].has_daemon:
            copy.job = Job.NONE
            presence = Presence.PAUSED if was_paused else Presence.RUNNING
            self._cluster.set_presence(copy, presence, Why.USER if was_paused else Why.UNKNOWN)
            raise Unreachable("host.silent", f"{host} does not answer.")
        if not copy.has_process:
            raise Refused("hypervisor.failed", "domain is no longer running")

    async def _outlive(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that goes on if whoever has asked for it is gone."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            try:
                await work
            except FurloughError as error:
                done.set_exception(error)
                done.exception()  # Nobody may be there to fetch it.
            else:
                done.set_result(None)

        self._cluster.spawn(run())
        await asyncio.shield(done)

    async def set_policy(self, host: HostName, vm: VmId, words: Words) -> None:
        copy = self._known(host, vm)

        async def act() -> None:
            copy.own_policy = tuple(sorted(words))
            self._cluster.changed()

        await self._faults.call(act)

    async def change_medium(self, host: HostName, vm: VmId, drive: str, medium: str) -> None:
        copy = self._known(host, vm)
        held = next((one for one in copy.vm.disks if one.target == drive), None)
        if held is not None and not held.is_medium:
            raise Refused("vm.changed", f"{drive} of VM {copy.vm.name} is no drive for media.")
        if held is None and drive not in copy.empty_drives:
            raise Refused("vm.changed", f"VM {copy.vm.name} has no drive {drive}.")
        if medium in self._cluster.hosts[host].lost_files:
            raise Refused("hypervisor.failed", f"Cannot access storage file {medium!r}")

        async def act() -> None:
            exchange(copy, drive, medium)
            self._cluster.changed()

        await self._faults.call(act)

    async def set_autostart(self, host: HostName, vm: VmId, *, on: bool) -> None:
        copy = self._known(host, vm)
        if not copy.is_persistent:
            raise Refused("hypervisor.failed", "cannot set autostart for transient domain")
        copy.has_autostart = on

    async def prove_storage(
        self, datastore: EnrolledDatastore, hosts: Sequence[HostName]
    ) -> StorageProof:
        for host in hosts:
            self._cluster.check_answers(host)
        is_locked = datastore.name in self._cluster.locked_datastores
        because = "" if is_locked else f"{datastore.name} has no locks"
        return StorageProof(is_shared=True, is_locked=is_locked, because=because)

    # --- guard -----------------------------------------------------------------------------------

    async def raise_guard(self, host: HostName, marker: Marker) -> None:
        machine = self._check_marker(host, marker)

        async def act() -> None:
            machine.marker, machine.epoch = marker, marker.epoch

        await self._faults.call(act)

    async def lower_guard(self, host: HostName, marker: Marker) -> None:
        machine = self._check_marker(host, marker)

        async def act() -> None:
            machine.marker, machine.epoch = None, marker.epoch

        await self._faults.call(act)

    async def prove_guard(self, host: HostName) -> str:
        machine = self._cluster.check_answers(host)
        _check_guard_program(machine)
        if not machine.has_hook:
            machine.guard_trouble = "its hook is not installed"
        elif not machine.sees_hook:
            machine.guard_trouble = "its daemon does not know of the hook: reload it"
        else:
            machine.guard_trouble = ""
        return machine.guard_trouble

    async def prepare(self, host: HostName) -> None:
        machine = self._cluster.check_answers(host)

        async def act() -> None:
            machine.has_guard = machine.has_hook = machine.sees_hook = True
            machine.guard_trouble = NOT_PROVEN

        await self._faults.call(act)

    async def reboot(self, host: HostName, marker: Marker) -> None:
        await self._switch(host, marker, self._cluster.reboot)

    async def power_off_host(self, host: HostName, marker: Marker) -> None:
        await self._switch(host, marker, self._cluster.switch_off)

    async def _switch(
        self,
        host: HostName,
        marker: Marker,
        work: Callable[[HostName], Coroutine[Any, Any, None]],
    ) -> None:
        """What may be done only to a host that this marker keeps empty, and that is empty."""
        machine = self._check_marker(host, marker)
        if machine.marker is None or machine.marker.operation != marker.operation:
            raise Refused("guard.refused", f"{host} is not kept empty by {marker.operation}")
        is_in_use = machine.provisioning or machine.strays
        if is_in_use or any(one.has_process for one in machine.copies.values()):
            raise Refused("guard.refused", f"{host} is not empty")

        async def act() -> None:
            self._cluster.spawn(work(host))

        await self._faults.call(act)

    def _check_marker(self, host: HostName, marker: Marker) -> SimHost:
        machine = self._cluster.check_answers(host)
        _check_guard_program(machine)
        if marker.epoch < machine.epoch:
            raise Refused("guard.refused", f"epoch {marker.epoch} is below {machine.epoch}")
        known = machine.marker
        if known is not None and known.controller != marker.controller:
            raise Refused("guard.refused", f"the marker is of controller {known.controller}")
        return machine

    def _check_epoch(self, host: HostName, vm: VmId, epoch: int) -> None:
        """furlough-host remembers the epoch of the last act on each VM, where there is one."""
        machine = self._cluster.check_answers(host)
        if not machine.has_guard:
            return
        if epoch < machine.acts.get(vm, 0):
            raise Refused("guard.refused", f"epoch {epoch} is stale for VM {vm} on {host}")
        machine.acts[vm] = epoch

    def _known(self, host: HostName, vm: VmId) -> Copy:
        self._cluster.check_answers(host)
        copy = self._cluster.copy(host, vm)
        if copy is None:
            raise Refused("vm.changed", f"{host} does not know VM {vm}.")
        return copy

    def _active(self, host: HostName, vm: VmId) -> Copy:
        copy = self._known(host, vm)
        if not copy.has_process:
            raise Refused("hypervisor.failed", "domain is not running")
        return copy


def _arriving(machine: SimHost) -> list[str]:
    return [
        f"an incoming migration of VM {copy.vm.name}"
        for copy in machine.copies.values()
        if copy.job is Job.INCOMING
    ]


def _is_watchable(copy: Copy) -> bool:
    """A process whose CPUs run, and that no job has."""
    return copy.presence is Presence.RUNNING and copy.job is Job.NONE


def _check_guard_program(machine: SimHost) -> None:
    if not machine.has_guard:
        raise Unreachable("guard.missing", f"furlough-host does not answer on {machine.name}.")
