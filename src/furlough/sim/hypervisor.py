"""The Hypervisor port over the simulated cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random

from furlough.core.enrolment import EnrolledDatastore, Enrolment
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Vm
from furlough.core.looks import Job, Look, Presence, Why
from furlough.core.states import Power
from furlough.errors import Refused, Unreachable
from furlough.ports import (
    Hint,
    HostFacts,
    Marker,
    MigrationOrder,
    MigrationReport,
    Occupancy,
    Progress,
    StorageProof,
)
from furlough.sim.cluster import Copy, SimCluster, SimHost
from furlough.sim.faults import Faults
from furlough.sim.migration import SimMigration, Timing

_POWER = {
    Presence.RUNNING: Power.RUNNING,
    Presence.PAUSED: Power.PAUSED,
    Presence.SHUT_OFF: Power.SHUT_OFF,
}
_SHUT_DOWN_TAKES_S = 3.0


class SimHypervisor:
    """Implements `ports.Hypervisor`. Reads are never lost by a fault, only by a silent host."""

    def __init__(
        self, cluster: SimCluster, faults: Faults | None = None, timing: Timing | None = None
    ) -> None:
        self._cluster = cluster
        self._faults = faults or Faults(random=Random(0))  # noqa: S311  # faults, not secrets
        self._timing = timing or Timing()

    async def enrol(self, enrolment: Enrolment) -> None:
        """The simulated hosts are those that are there."""

    async def close(self) -> None:
        """Nothing is held."""

    # --- looking -------------------------------------------------------------------------------

    async def observe(self, host: HostName) -> HostFacts:
        machine = self._cluster.check_answers(host)
        return HostFacts(
            host=host,
            at=self._cluster.clock.now(),
            uuid=machine.uuid,
            cpus=machine.cpus,
            memory_mib=machine.memory_mib,
            cpu_models=machine.cpu_models,
            networks=machine.networks,
            devices=machine.devices,
            vms=tuple(_vm_of(copy, host) for copy in machine.copies.values()),
            has_guard=machine.has_guard,
            marker=machine.marker,
        )

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
        )

    async def occupancy(self, host: HostName) -> Occupancy:
        machine = self._cluster.check_answers(host)
        _check_guard_program(machine)
        active = [copy for copy in machine.copies.values() if copy.has_process]
        return Occupancy(
            host=host,
            at=self._cluster.clock.now(),
            active=tuple(_vm_of(copy, host) for copy in active),
            processes=tuple(f"- {copy.vm.name}" for copy in active),
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
        self._cluster.check_answers(host)
        self._known(host, vm)
        ongoing = self._cluster.migrations.get(vm)
        if not isinstance(ongoing, SimMigration) or ongoing.source != host:
            raise Refused("hypervisor.failed", "no job is active on the domain")
        ongoing.abort()

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
        if not copy.ignores_shutdown:
            self._cluster.spawn(self._obey(host, vm))

    async def _obey(self, host: HostName, vm: VmId) -> None:
        await self._cluster.clock.sleep(_SHUT_DOWN_TAKES_S)
        copy = self._cluster.copy(host, vm)
        if copy is not None and copy.presence is Presence.RUNNING:
            self._cluster.stop(host, vm, Why.SHUTDOWN)

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

    async def resume(self, host: HostName, vm: VmId, epoch: int) -> None:
        copy = self._active(host, vm)
        self._check_epoch(host, vm, epoch)
        if copy.presence is Presence.RUNNING:
            raise Refused("hypervisor.failed", "domain is already running")

        async def act() -> None:
            others = [name for name in self._cluster.running_on(vm) if name != host]
            if others and self._cluster.is_locked(copy.vm):
                raise Refused("hypervisor.failed", 'Failed to get "write" lock')
            self._cluster.set_presence(copy, Presence.RUNNING, Why.UNKNOWN)

        await self._faults.call(act)

    async def undefine(self, host: HostName, vm: VmId, epoch: int) -> None:
        copy = self._known(host, vm)
        self._check_epoch(host, vm, epoch)
        if not copy.is_persistent:
            raise Refused("hypervisor.failed", "cannot undefine transient domain")
        if copy.has_process:
            copy.is_persistent = False
        else:
            self._cluster.remove(host, vm)

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


def _check_guard_program(machine: SimHost) -> None:
    if not machine.has_guard:
        raise Unreachable("guard.missing", f"furlough-host does not answer on {machine.name}.")


def _vm_of(copy: Copy, host: HostName) -> Vm:
    return Vm(
        id=copy.vm.id,
        name=copy.vm.name,
        host=host,
        power=_POWER[copy.presence],
        vcpus=copy.vm.vcpus,
        memory_mib=copy.vm.memory_mib,
        memory_used_mib=copy.vm.memory_used_mib,
        cpu_model=copy.vm.cpu_model,
        disks=copy.vm.disks,
        nics=copy.vm.nics,
        devices=copy.vm.devices,
        is_persistent=copy.is_persistent,
        has_autostart=copy.has_autostart,
        busy_with="" if copy.job is Job.NONE else f"{copy.job.value} migration",
        is_arriving=copy.job is Job.INCOMING,
        dirty_mib_s=copy.vm.dirty_mib_s,
        working_set_mib=copy.vm.working_set_mib,
    )
