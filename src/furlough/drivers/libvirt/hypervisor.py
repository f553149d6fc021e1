"""The Hypervisor port over libvirt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import libvirt

from furlough.core.enrolment import EnrolledDatastore, EnrolledHost, Enrolment
from furlough.core.ids import HostName, VmId, parse_vm_id
from furlough.core.inventory import Vm
from furlough.core.looks import Look, Presence
from furlough.core.plan import Handover
from furlough.core.probe import Probe
from furlough.core.vm_policy import Words
from furlough.drivers.libvirt import (
    addresses,
    certificates,
    cold,
    cpus,
    dirty_rate,
    guests,
    inventory,
    looking,
    media,
    migration,
    preparing,
    probing,
    storage_proof,
    vm_metadata,
)
from furlough.drivers.libvirt.connection import HostLink
from furlough.drivers.libvirt.program import Answer, HostProgram, marker_of, tls_means_of
from furlough.drivers.libvirt.site import Site
from furlough.errors import FurloughError, NotFound, Refused, Unreachable
from furlough.ports import (
    Clock,
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

T = TypeVar("T")

_MOST_HINTS = 10_000
# `destroy` waits for a process that does not die at once; libvirt gives up after 40 s.
_POWER_OFF_S = 60.0
_NO_PROGRAM = "furlough-host does not answer there"
_SLOW_S = 60.0
# Memory to disk and back, at the pace of whatever disk the host has.
_SAVE_S = 3600.0
_STATISTICS_TRIES, _STATISTICS_PAUSE_S = 20, 0.01
# CPUs stop at the end of a migration: all at once, or for post-copy.
_STOPPED = frozenset(
    {libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY}
)


class LibvirtHypervisor:
    """Implements `ports.Hypervisor`. `ssh_config`: a file that ssh reads on the way to
    furlough-host, instead of the user's own."""

    def __init__(self, clock: Clock, ssh_config: Path | None = None) -> None:
        self._clock = clock
        self._ssh_config = ssh_config
        self._sites: dict[HostName, Site] = {}
        self._datastores: list[EnrolledDatastore] = []
        self._hints: asyncio.Queue[Hint] = asyncio.Queue(_MOST_HINTS)
        self._loop = asyncio.get_running_loop()

    async def enrol(self, enrolment: Enrolment) -> None:
        self._datastores = list(enrolment.datastores)
        wanted = {host.name: host for host in enrolment.hosts}
        for name in list(self._sites):
            if name not in wanted or _moved(self._sites[name].host, wanted[name]):
                self._sites.pop(name).close()
        for name, host in wanted.items():
            if name in self._sites:
                self._sites[name].host = host
            else:
                self._sites[name] = self._site_of(host)

    def _site_of(self, host: EnrolledHost) -> Site:
        def on_domain(vm: str, event: int, detail: int) -> None:
            self._in_loop(self._note_event, host.name, vm, event, detail)

        def on_job(vm: str, stats: dict[str, object]) -> None:
            self._in_loop(self._note_job, host.name, vm, stats)

        link = HostLink(host.name, addresses.control_uri(host), on_domain, on_job)
        return Site(host, link, self._ssh_config)

    async def close(self) -> None:
        sites, self._sites = list(self._sites.values()), {}
        for site in sites:
            site.link.close()
            for program in site.programs:
                await program.end()

    def _in_loop(self, note: Callable[..., None], *what: object) -> None:
        """From libvirt's thread. Events still come while connections close, after our loop."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(note, *what)

    # --- events --------------------------------------------------------------------------------

    def _note_event(self, host: HostName, vm: str, event: int, detail: int) -> None:
        site = self._sites.get(host)
        if site and event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED and detail in _STOPPED:
            site.note_stop(vm, self._clock.monotonic())
        if not self._hints.full():
            self._hints.put_nowait(Hint(host=host, vm=parse_vm_id(vm)))

    def _note_job(self, host: HostName, vm: str, stats: Mapping[str, Any]) -> None:
        site = self._sites.get(host)
        if site is not None:
            site.completed[vm] = stats

    async def hints(self) -> AsyncIterator[Hint]:
        while True:
            yield await self._hints.get()

    # --- looking -------------------------------------------------------------------------------

    async def observe(self, host: HostName) -> HostFacts:
        site = self._site(host)
        models = await _cpu_models(site)

        def read(connection: libvirt.virConnect) -> tuple[inventory.Machine, Any]:
            machine = inventory.read_machine(connection, models)
            return machine, inventory.read_vms(connection, host, self._stores_of(site))

        (machine, vms), status = await asyncio.gather(
            site.link.control(read, what=f"inventory of {host}", within_s=_SLOW_S),
            _status_or_none(site.program),
        )
        interfaces = frozenset(status["interfaces"]) if status else frozenset()
        return HostFacts(
            host=host,
            at=self._clock.now(),
            uuid=machine.uuid,
            cpus=machine.cpus,
            memory_mib=machine.memory_mib,
            cpu_models=machine.cpu_models,
            networks=machine.networks | interfaces,
            devices=frozenset(),
            vms=vms,
            has_guard=status is not None,
            marker=marker_of(status["marker"]) if status else None,
            guard_trouble=str(status["proof"]) if status else _NO_PROGRAM,
            boot_id=str(status["boot_id"]) if status else "",
            machines=machine.machines,
            emulator_version=machine.emulator_version,
            free_huge_pages=machine.free_huge_pages,
            numa_nodes=machine.numa_nodes,
            tls=tls_means_of(status),
        )

    async def probe(self, host: HostName, peers: Sequence[HostName]) -> Probe:
        site = self._site(host)
        others = [self._site(peer).host for peer in peers]
        return await probing.probe(site.host, others, site.errands, self._clock)

    async def misfits(self, host: HostName, vms: Sequence[Vm]) -> Mapping[VmId, str]:
        target = self._site(host)
        sources: dict[HostName, list[VmId]] = {}
        for vm in vms:
            if vm.host != host and vm.host in self._sites:
                sources.setdefault(vm.host, []).append(vm.id)
        models = await _cpu_models(target)
        told = await asyncio.gather(*(self._needs(*source) for source in sources.items()))

        def judge(connection: libvirt.virConnect) -> dict[VmId, str]:
            here = cpus.read_offer(connection)
            said = {
                vm: target.comparison.misfit(connection, need, here, there, models)
                for there, needs in filter(None, told)
                for vm, need in needs.items()
            }
            return {vm: words for vm, words in said.items() if words}

        return await target.link.control(judge, what=f"CPUs of {host}", within_s=_SLOW_S)

    async def _needs(
        self, host: HostName, vms: Sequence[VmId]
    ) -> tuple[cpus.Offer, dict[VmId, cpus.Need]] | None:
        """What VMs need that run on this host; None where it does not answer."""

        def read(connection: libvirt.virConnect) -> tuple[cpus.Offer, dict[VmId, cpus.Need]]:
            found = {vm: cpus.read_need(connection, vm) for vm in vms}
            needs = {vm: need for vm, need in found.items() if need is not None}
            return cpus.read_offer(connection), needs

        try:
            return await self._site(host).link.control(read, what=f"VMs of {host}")
        except Unreachable:
            return None

    async def dirty_rates(
        self, host: HostName, vms: Sequence[VmId], within_s: int
    ) -> Mapping[VmId, float]:
        return await dirty_rate.measure(self._site(host).link, host, vms, within_s, self._clock)

    async def look(self, host: HostName, vm: VmId) -> Look:
        at = self._clock.now()
        try:
            site = self._site(host)
            look, answer = await asyncio.gather(
                site.link.control(
                    lambda connection: looking.look(connection, host, vm, self._clock),
                    what=f"VM {vm} on {host}",
                ),
                _processes_or_none(site.program),
            )
        except FurloughError:
            return Look(host=host, at=at, presence=Presence.SILENT)
        if answer is None:
            return look
        has_process = any(uuid == vm for _pid, uuid, _name in answer.machines)
        return replace(look, has_process=has_process)

    async def occupancy(self, host: HostName) -> Occupancy:
        site = self._site(host)
        at = self._clock.now()
        (active, under_way), answer, status = await asyncio.gather(
            site.link.control(
                lambda connection: inventory.read_active(connection, host, self._stores_of(site)),
                what=f"VMs of {host}",
            ),
            site.program.processes(),
            site.program.status(),
        )
        return Occupancy(
            host=host,
            at=at,
            active=active,
            processes=tuple(f"{pid} ({name})" for pid, _uuid, name in answer.machines),
            provisioning=(*under_way, *answer.provisioning),
            marker=marker_of(status["marker"]),
        )

    async def progress(self, host: HostName, vm: VmId) -> Progress | None:
        try:
            return await self._on_vm(host, vm, looking.progress, "its progress")
        except Refused as refusal:
            if refusal.code != "vm.changed":
                raise
            return None

    # --- migrating -----------------------------------------------------------------------------

    async def migrate_live(self, order: MigrationOrder) -> MigrationReport:
        source, target = self._site(order.source), self._site(order.target)
        what = f"migration of {order.vm} from {order.source} to {order.target}"
        # Opens the connection that brings events, if it was lost: they tell when CPUs stop.
        await source.link.control(lambda connection: connection.isAlive(), what=what)
        source.stopped_at.pop(order.vm, None)
        source.completed.pop(order.vm, None)
        control = addresses.peer_uri(target.host)
        data = addresses.migration_uri(target.host)
        certified = addresses.certificate_name(target.host)
        try:
            notes = await source.link.long_call(
                lambda connection: migration.migrate(connection, order, control, data, certified),
                what=what,
            )
        except Refused as error:
            with suppress(FurloughError):
                await self._on_vm(order.source, order.vm, migration.lift_speed, "lifting its limit")
            raise certificates.advised(error, order, certified) from error
        if order.handover is Handover.NORMAL:
            await self._wait_for_statistics(source, order.vm)
        return migration.report_of(
            source.completed.pop(order.vm, None), source.stopped_at.pop(order.vm, None), notes
        )

    async def _wait_for_statistics(self, site: Site, vm: VmId) -> None:
        """The job's statistics come as an event, perhaps a moment after the call has returned. The
        VM runs, so that moment costs nothing; a held handover does not wait for it."""
        for _ in range(_STATISTICS_TRIES):
            if vm in site.completed:
                return
            await self._clock.sleep(_STATISTICS_PAUSE_S)

    async def abort(self, host: HostName, vm: VmId) -> None:
        await self._on_vm(host, vm, lambda domain: domain.abortJob(), "abort of its migration")

    async def check_cold(self, order: ColdOrder) -> None:
        source, target = self._site(order.source), self._site(order.target)
        await cold.check(order, source, target, self._stores_of(target))

    async def copy_state(self, order: ColdOrder) -> Sequence[str]:
        source, target = self._site(order.source), self._site(order.target)
        return await cold.copy_state(order, source, target, self._stores_of(target))

    async def copy_definition(self, order: ColdOrder) -> None:
        await cold.copy_definition(order, self._site(order.source), self._site(order.target))

    async def set_speed(self, host: HostName, vm: VmId, mib_s: int) -> None:
        await self._on_vm(
            host, vm, lambda domain: migration.set_speed(domain, mib_s), "speed of its migration"
        )

    async def set_downtime_limit(self, host: HostName, vm: VmId, ms: int) -> None:
        await self._on_vm(
            host, vm, lambda domain: domain.migrateSetMaxDowntime(ms), "downtime limit"
        )

    async def start_post_copy(self, host: HostName, vm: VmId) -> None:
        await self._on_vm(
            host, vm, lambda domain: domain.migrateStartPostCopy(), "start of post-copy"
        )

    async def until_stopped(self, host: HostName, vm: VmId) -> None:
        await self._site(host).until_stopped(vm)

    # --- power and definition --------------------------------------------------------------------

    async def start(self, host: HostName, vm: VmId) -> None:
        is_saved = await self._on_vm(host, vm, lambda domain: domain.hasManagedSaveImage(), "start")
        if is_saved:
            await self._long_on_vm(host, vm, lambda domain: domain.create(), "start", _SAVE_S)
        else:
            await self._on_vm(host, vm, lambda domain: domain.create(), "start", _SLOW_S)

    async def shut_down(self, host: HostName, vm: VmId) -> None:
        def quickly(act: guests.Act) -> Awaitable[object]:
            return self._on_vm(host, vm, act, "shutdown")

        def patiently(act: guests.Act) -> Awaitable[object]:
            return self._long_on_vm(host, vm, act, "shutdown", guests.AGENT_S)

        await self._site(host).requests.shut_down(vm, quickly, patiently)

    async def save(self, host: HostName, vm: VmId) -> None:
        await self._long_on_vm(host, vm, lambda domain: domain.managedSave(), "save", _SAVE_S)

    async def set_policy(self, host: HostName, vm: VmId, words: Words) -> None:
        await self._on_vm(host, vm, lambda domain: vm_metadata.write(domain, words), "policy")

    async def change_medium(self, host: HostName, vm: VmId, drive: str, medium: str) -> None:
        what = f"medium in drive {drive}"
        await self._on_vm(host, vm, lambda domain: media.change(domain, drive, medium), what)

    async def power_off(self, host: HostName, vm: VmId, epoch: int) -> None:
        await self._fenced(host, vm, epoch, "power-off", lambda domain: domain.destroy())

    async def suspend(self, host: HostName, vm: VmId) -> None:
        await self._on_vm(host, vm, lambda domain: domain.suspend(), "suspend")

    async def resume(self, host: HostName, vm: VmId, epoch: int) -> None:
        await self._fenced(host, vm, epoch, "resume", lambda domain: domain.resume())

    async def undefine(self, host: HostName, vm: VmId, epoch: int) -> None:
        keep = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        await self._fenced(host, vm, epoch, "undefine", lambda domain: domain.undefineFlags(keep))

    async def _fenced(
        self,
        host: HostName,
        vm: VmId,
        epoch: int,
        what: str,
        act: Callable[[libvirt.virDomain], object],
    ) -> None:
        """What a controller that was overtaken must not do. libvirt knows no epoch, so it goes
        through furlough-host wherever there is one."""
        site = self._site(host)
        if not site.acts.is_enrolled:
            await self._on_vm(host, vm, act, what, _POWER_OFF_S)
            return
        await self._on_vm(host, vm, lambda domain: domain.UUIDString(), what)
        await site.acts.act(what, vm, epoch)

    async def set_autostart(self, host: HostName, vm: VmId, *, on: bool) -> None:
        await self._on_vm(host, vm, lambda domain: domain.setAutostart(int(on)), "autostart")

    async def prove_storage(
        self, datastore: EnrolledDatastore, hosts: Sequence[HostName]
    ) -> StorageProof:
        return await storage_proof.prove(datastore, [self._site(host).program for host in hosts])

    # --- guard -----------------------------------------------------------------------------------

    async def raise_guard(self, host: HostName, marker: Marker) -> None:
        await self._site(host).program.raise_marker(marker)

    async def lower_guard(self, host: HostName, marker: Marker) -> None:
        await self._site(host).program.lower_marker(marker)

    async def prove_guard(self, host: HostName) -> str:
        return await self._site(host).errands.prove()

    async def prepare(self, host: HostName) -> None:
        site = self._site(host)
        await preparing.prepare(site.errands)
        # Sessions that are open run the program that was there before.
        for program in site.programs:
            program.close()

    async def reboot(self, host: HostName, marker: Marker) -> None:
        await self._site(host).errands.switch_power("reboot", marker)

    async def power_off_host(self, host: HostName, marker: Marker) -> None:
        await self._site(host).errands.switch_power("power-off", marker)

    # --- shorthands ------------------------------------------------------------------------------

    def _site(self, host: HostName) -> Site:
        site = self._sites.get(host)
        if site is None:
            raise NotFound("host.unknown", f"There is no host {host!r}.")
        return site

    def _stores_of(self, site: Site) -> list[EnrolledDatastore]:
        """Those of its cluster, and those of others that it sees as well."""
        host = site.host
        return [
            one
            for one in self._datastores
            if one.cluster == host.cluster or one.name in host.datastores
        ]

    async def _on_vm(
        self,
        host: HostName,
        vm: VmId,
        act: Callable[[libvirt.virDomain], T],
        what: str,
        within_s: float = 35.0,
    ) -> T:
        """One call about one VM. A change waits up to 30 s for another job to end."""
        return await self._site(host).link.control(
            lambda connection: act(connection.lookupByUUIDString(vm)),
            what=f"{what} of VM {vm} on {host}",
            within_s=within_s,
        )

    async def _long_on_vm(
        self,
        host: HostName,
        vm: VmId,
        act: Callable[[libvirt.virDomain], object],
        what: str,
        within_s: float,
    ) -> None:
        """One call about one VM that may take long; if we give it up, it goes on."""
        words = f"{what} of VM {vm} on {host}"
        try:
            async with asyncio.timeout(within_s):
                await self._site(host).link.long_call(
                    lambda connection: act(connection.lookupByUUIDString(vm)), what=words
                )
        except TimeoutError as error:
            message = f"{words}: no answer within {within_s:.0f} s."
            raise Unreachable("hypervisor.lost", message) from error


async def _cpu_models(site: Site) -> frozenset[str]:
    """Asked for once: it takes long."""
    if site.cpu_models is None:
        site.cpu_models = await site.link.control(
            inventory.read_cpu_models, what=f"CPU models of {site.host.name}", within_s=_SLOW_S
        )
    return site.cpu_models


def _moved(known: EnrolledHost, wanted: EnrolledHost) -> bool:
    """Whether a host has to be connected to anew."""
    return addresses.control_uri(known) != addresses.control_uri(wanted) or (
        known.program,
        known.namespace,
        known.address,
        known.user,
    ) != (wanted.program, wanted.namespace, wanted.address, wanted.user)


async def _status_or_none(program: HostProgram) -> Mapping[str, Any] | None:
    try:
        return await program.status()
    except (Unreachable, Refused):
        return None


async def _processes_or_none(program: HostProgram) -> Answer | None:
    """None where no way to furlough-host is enrolled; one that does not answer is an error."""
    return await program.processes() if program.is_enrolled else None
