"""The two grounds on which the stories about the Hypervisor port are told: the simulated cluster,
and libvirt on two real hosts of a lab. Each has two hosts and two running VMs on the first."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from furlough.clock import RealClock
from furlough.core.enrolment import (
    DatastoreKind,
    EnrolledDatastore,
    EnrolledHost,
    Enrolment,
    Program,
    Transport,
)
from furlough.core.ids import ClusterName, HostName, OperationId, VmId
from furlough.core.inventory import Agent, Cluster, Disk, DiskKind, Nic
from furlough.core.looks import Look, Why
from furlough.core.plan import Handover
from furlough.errors import FurloughError
from furlough.lab.blueprint import Options, VmPlan
from furlough.lab.domain_xml import (
    AGENT_CHANNEL,
    AGENT_HANGS,
    CDROM,
    IGNORES_SHUTDOWN,
    REBOOTS_INSTEAD,
    with_device,
    with_words,
)
from furlough.lab.host import Host
from furlough.lab.lab import Lab
from furlough.lab.patience import unix_now
from furlough.ports import Clock, ColdOrder, Hypervisor, Marker, MigrationOrder
from furlough.sim.clock import VirtualClock, run_virtually
from furlough.sim.cluster import SimCluster, SimHost, SimVm
from furlough.sim.hypervisor import SimHypervisor

CLUSTER = ClusterName("c1")
H1, H2 = HostName("h1"), HostName("h2")
NOBODY = VmId("00000000-0000-4000-8000-000000000000")
OPTIONS = Options(hosts=2, vms=2, on="h1", memory_mib=128, fill_percent=80)
HOT_MIB, HOT_MIB_S = 12, 60
DRIVE, MEDIUM = "hdc", "/var/lib/libvirt/medium.iso"
DATASTORE = EnrolledDatastore(
    name="vms", cluster=CLUSTER, kind=DatastoreKind.NBD, address="10.0.0.1"
)


class Trait(StrEnum):
    """What a VM may be made with, besides what it has."""

    DRIVE = "a drive with a medium that only H1 has"
    AGENT = "a channel for a guest agent, and none that opens it"
    HANGING_AGENT = "an agent that is connected and never answers"
    IGNORES = "a guest that does not care when it is asked to shut down"
    REBOOTS = "a guest that reboots when it is asked to shut down"
    WRITES = "a guest that rewrites HOT_MIB of its memory several times a second"


@dataclass(kw_only=True)
class Ground(ABC):
    """Hosts H1 and H2, with `vm` and `other` running on H1, and what may happen to them."""

    hypervisor: Hypervisor
    clock: Clock
    vm: VmId
    other: VmId
    epoch: int = 10

    @abstractmethod
    def slow_down(self, host: HostName) -> None:
        """From now on this host sends so slowly that a migration takes a minute or more."""

    @abstractmethod
    def speed_up(self, host: HostName) -> None:
        """The link is as it was."""

    @abstractmethod
    def kill_daemon(self, host: HostName) -> None:
        """The hypervisor's daemon dies; VMs live on."""

    @abstractmethod
    def freeze_daemon(self, host: HostName) -> None:
        """It is there, takes what it is sent, and never answers."""

    @abstractmethod
    def revive_daemon(self, host: HostName) -> None:
        """It answers again, killed or frozen."""

    @abstractmethod
    def make_transient(self) -> None:
        """`vm` runs on without a definition."""

    @abstractmethod
    async def boot(self) -> None:
        """Until the guests hear what they are asked."""

    @abstractmethod
    def remake(self, *traits: Trait) -> None:
        """`vm` is powered off, made anew with these traits, and started."""

    @abstractmethod
    def boot_number(self) -> str:
        """Which boot of its guest `vm` is in: another one after every boot."""

    @abstractmethod
    def take_snapshot(self) -> None:
        """`vm` has one snapshot."""

    @abstractmethod
    def remove_hook(self, host: HostName) -> None:
        """Somebody has removed our hook from this host."""

    @abstractmethod
    def lay_down(self, state: str = "") -> None:
        """`vm` is off; with a state, that is what its firmware has written."""

    @abstractmethod
    def state_on(self, host: HostName) -> str:
        """What this host has of that; empty if nothing."""

    # --- what stories ask for --------------------------------------------------------------

    def order(
        self, *, handover: Handover = Handover.NORMAL, carries_definition: bool = True
    ) -> MigrationOrder:
        """`vm` from H1 to H2."""
        return MigrationOrder(
            vm=self.vm,
            source=H1,
            target=H2,
            handover=handover,
            carries_definition=carries_definition,
            waives_storage_check=False,
            operation=OperationId("op-1"),
            epoch=self.epoch,
        )

    def marker(
        self, *admit: VmId, epoch: int | None = None, controller: str = "conformance"
    ) -> Marker:
        """A marker of ours."""
        return Marker(
            operation=OperationId("op-1"),
            epoch=self.epoch if epoch is None else epoch,
            controller=controller,
            admit=admit,
        )

    def cold_order(self, source: HostName = H1, target: HostName = H2) -> ColdOrder:
        """`vm` from one host to the other, cold."""
        return ColdOrder(
            vm=self.vm,
            source=source,
            target=target,
            operation=OperationId("op-1"),
            epoch=self.epoch,
        )

    async def look(self, host: HostName, vm: VmId | None = None) -> Look:
        """What this host says of `vm`."""
        return await self.hypervisor.look(host, vm or self.vm)

    async def until(
        self, holds: Callable[[], Awaitable[bool]], what: str, timeout_s: float = 60
    ) -> None:
        """Ask until it is so."""
        began = self.clock.monotonic()
        while not await holds():
            assert self.clock.monotonic() - began < timeout_s, f"in vain waited for {what}"
            await self.clock.sleep(0.05)

    @asynccontextmanager
    async def migrating(self, order: MigrationOrder) -> AsyncIterator[asyncio.Task[object]]:
        """A migration that is copying memory, over a slow link; aborted at the end, if need be."""
        self.slow_down(order.source)
        call: asyncio.Task[object] = asyncio.create_task(self.hypervisor.migrate_live(order))

        async def copies() -> bool:
            assert not call.done(), call.result()
            return await self.hypervisor.progress(order.source, order.vm) is not None

        try:
            await self.until(copies, "memory to be copied")
            yield call
        finally:
            self.speed_up(order.source)
            with suppress(FurloughError):
                if not call.done():
                    await self.hypervisor.abort(order.source, order.vm)
                if not call.cancelled():
                    await call


Story = Callable[[Ground], Awaitable[None]]
Teller = Callable[[Story], None]


# --- the simulator -------------------------------------------------------------------------------


@dataclass(kw_only=True)
class SimulatedGround(Ground):
    """Nothing is real, time least of all."""

    cluster: SimCluster

    def slow_down(self, host: HostName) -> None:
        self.cluster.slow_down(host, factor=0.0001)

    def speed_up(self, host: HostName) -> None:
        self.cluster.slow_down(host, factor=1.0)

    def kill_daemon(self, host: HostName) -> None:
        self.cluster.kill_daemon(host)

    def freeze_daemon(self, host: HostName) -> None:
        self.cluster.hosts[host].is_reachable = False

    def revive_daemon(self, host: HostName) -> None:
        self.cluster.hosts[host].is_reachable = True
        if not self.cluster.hosts[host].has_daemon:
            self.cluster.start_daemon(host)

    def make_transient(self) -> None:
        self.cluster.hosts[H1].copies[self.vm].is_persistent = False

    async def boot(self) -> None:
        """They heard from the first moment."""

    def remake(self, *traits: Trait) -> None:
        known = self.cluster.hosts[H1].copies[self.vm]
        vm = known.vm
        if Trait.DRIVE in traits:
            medium = Disk(
                target=DRIVE,
                source=MEDIUM,
                datastore=None,
                is_writable=False,
                kind=DiskKind.CDROM,
            )
            vm = replace(vm, disks=(*vm.disks, medium))
        if Trait.AGENT in traits:
            vm = replace(vm, agent=Agent.SILENT)
        if Trait.HANGING_AGENT in traits:
            vm = replace(vm, agent=Agent.CONNECTED)
        if Trait.WRITES in traits:
            vm = replace(vm, dirty_mib_s=HOT_MIB_S, working_set_mib=HOT_MIB)
        self.cluster.put(
            H1,
            vm,
            ignores_shutdown=Trait.IGNORES in traits,
            reboots_instead=Trait.REBOOTS in traits,
        )

    def boot_number(self) -> str:
        return str(self.cluster.hosts[H1].copies[self.vm].boots)

    def take_snapshot(self) -> None:
        copy = self.cluster.hosts[H1].copies[self.vm]
        copy.vm = replace(copy.vm, snapshots=1)

    def remove_hook(self, host: HostName) -> None:
        self.cluster.hosts[host].has_hook = False

    def lay_down(self, state: str = "") -> None:
        self.cluster.stop(H1, self.vm, Why.SHUTDOWN)
        copy = self.cluster.hosts[H1].copies[self.vm]
        copy.vm = replace(copy.vm, has_nvram=bool(state))
        if state:
            self.cluster.hosts[H1].vm_state[self.vm] = state

    def state_on(self, host: HostName) -> str:
        return self.cluster.hosts[host].vm_state.get(self.vm, "")


def tell_on_simulator(story: Story) -> None:
    """A fresh cluster for every story."""

    async def play() -> None:
        clock = VirtualClock()
        hosts = [
            SimHost(
                name=name,
                uuid=f"uuid-of-{name}",
                networks=frozenset({"vms"}),
                machines=frozenset({"pc-i440fx-7.2"}),
                emulator_version=7_002_000,
                numa_nodes=frozenset({0}),
            )
            for name in (H1, H2)
        ]
        cluster = SimCluster(clock, hosts)
        vms = [_simulated_vm(number) for number in (1, 2)]
        for vm in vms:
            cluster.put(H1, vm)
        try:
            await story(
                SimulatedGround(
                    hypervisor=SimHypervisor(cluster),
                    clock=clock,
                    vm=vms[0].id,
                    other=vms[1].id,
                    cluster=cluster,
                )
            )
        finally:
            await cluster.stop_background()

    run_virtually(play())


def _simulated_vm(number: int) -> SimVm:
    return SimVm(
        id=VmId(f"{number}0000000-0000-4000-8000-000000000000"),
        name=f"vm{number}",
        memory_mib=OPTIONS.memory_mib,
        memory_used_mib=100,
        disks=(Disk(target="vda", source=f"nbd://10.0.0.1/vm{number}", datastore="vms"),),
        nics=(Nic(network="vms"),),
        machine="pc-i440fx-7.2",
        boot_files=("/boot/vmlinuz",),
    )


# --- libvirt in a lab -----------------------------------------------------------------------------

_SLOW_MBIT_S = 6


@dataclass(kw_only=True)
class LabGround(Ground):
    """Real QEMU under two real libvirtds."""

    lab: Lab
    started: float

    def slow_down(self, host: HostName) -> None:
        self.lab.host(host).set_rate(_SLOW_MBIT_S)

    def speed_up(self, host: HostName) -> None:
        self.lab.host(host).set_rate(None)

    def kill_daemon(self, host: HostName) -> None:
        self.lab.host(host).kill_daemon()

    def freeze_daemon(self, host: HostName) -> None:
        self.lab.host(host).freeze_daemon()

    def revive_daemon(self, host: HostName) -> None:
        _revive(self.lab.host(host))

    def make_transient(self) -> None:
        self.lab.host(H1).virsh("undefine", self.vm)

    async def boot(self) -> None:
        await asyncio.to_thread(self.lab.wait_for_guests, since=self.started)

    def remake(self, *traits: Trait) -> None:
        h1, plan = self.lab.host(H1), self._plan
        definition = (h1.directory / f"{plan.name}.xml").read_text()
        if Trait.DRIVE in traits:
            (h1.directory / "var-lib-libvirt" / Path(MEDIUM).name).write_bytes(bytes(1 << 20))
            definition = with_device(definition, CDROM.format(medium=MEDIUM))
        if Trait.AGENT in traits or Trait.HANGING_AGENT in traits:
            definition = with_device(definition, AGENT_CHANNEL)
        words = {
            Trait.HANGING_AGENT: AGENT_HANGS,
            Trait.IGNORES: IGNORES_SHUTDOWN,
            Trait.REBOOTS: REBOOTS_INSTEAD,
            Trait.WRITES: f"furlough_hot_mib={HOT_MIB} furlough_hot_mib_s={HOT_MIB_S}",
        }
        definition = with_words(definition, *(words[one] for one in traits if one in words))
        path = h1.directory / "remade.xml"
        path.write_text(definition)
        h1.virsh("destroy", plan.name)
        h1.virsh("define", str(path))
        self.started = unix_now()
        h1.virsh("start", plan.name)

    @property
    def _plan(self) -> VmPlan:
        return next(plan for plan in self.lab.blueprint.vms if plan.uuid == self.vm)

    def boot_number(self) -> str:
        seen = re.findall(r"@([0-9a-f]{8}) [0-9]{10}\.", self.lab.host(H1).serial(self._plan.name))
        return str(seen[-1])

    def take_snapshot(self) -> None:
        """Its record only: disks of the lab's kind cannot be snapshotted."""
        h1, name = self.lab.host(H1), self._plan.name
        path = h1.directory / "snapshot.xml"
        definition = h1.virsh("dumpxml", "--inactive", name)
        path.write_text(
            "<domainsnapshot><name>before</name><state>shutoff</state>"
            f"<creationTime>1</creationTime>{definition}</domainsnapshot>"
        )
        h1.virsh("snapshot-create", name, str(path), "--redefine")

    def remove_hook(self, host: HostName) -> None:
        for path in _hooks(self.lab.host(host)):
            path.unlink()

    def lay_down(self, state: str = "") -> None:
        h1, plan = self.lab.host(H1), self._plan
        h1.virsh("destroy", plan.name)
        if state:
            definition = (h1.directory / f"{plan.name}.xml").read_text()
            variables = f"<loader readonly='yes' type='pflash'>/firmware</loader>{_NVRAM}"
            path = h1.directory / "remade.xml"
            path.write_text(definition.replace("<kernel>", f"{variables}<kernel>"))
            h1.virsh("define", str(path))
            self._variables(H1).parent.mkdir(parents=True, exist_ok=True)
            self._variables(H1).write_text(state)

    def state_on(self, host: HostName) -> str:
        path = self._variables(host)
        return path.read_text() if path.exists() else ""

    def _variables(self, host: HostName) -> Path:
        return self.lab.host(host).directory / "var-lib-libvirt/qemu/nvram/vars.fd"


def teller_in(lab: Lab) -> Teller:
    """Tells stories in this lab, one after another; each begins as the first one did."""

    def tell(story: Story) -> None:
        asyncio.run(_play(lab, story))

    return tell


async def _play(lab: Lab, story: Story) -> None:
    # Imported where it is needed: libvirt's Python binding is an extra.
    from furlough.drivers.libvirt.hypervisor import LibvirtHypervisor  # noqa: PLC0415

    started = unix_now()
    await asyncio.to_thread(put_back, lab)
    clock = RealClock()
    hypervisor = LibvirtHypervisor(clock)
    await hypervisor.enrol(_enrolment(lab))
    vms = [VmId(plan.uuid) for plan in lab.blueprint.vms]
    try:
        await story(
            LabGround(
                hypervisor=hypervisor,
                clock=clock,
                vm=vms[0],
                other=vms[1],
                lab=lab,
                started=started,
            )
        )
    finally:
        for host in lab.hosts:
            await asyncio.to_thread(_revive, host)
        await hypervisor.close()


def put_back(lab: Lab) -> None:
    """Both VMs running on H1 and nowhere else, defined there, without autostart; no guard, no
    memory of epochs; links and daemons well."""
    h1, h2 = lab.host(H1), lab.host(H2)
    for host in (h1, h2):
        _revive(host)
        if not _hooks(host):
            host.install_guard()
        host.restore_link()
        for path in (host.directory / "furlough-host").glob("*"):
            path.unlink()
        for path in (host.directory / "var-lib-libvirt/qemu/nvram").glob("*"):
            path.unlink()
    for vm in h2.vms("--all"):
        _erase(h2, vm)
    for plan in lab.blueprint.vms:
        if plan.name in h1.vms("--all"):
            _make_plain(h1, plan.name)
        h1.virsh("define", str(h1.directory / f"{plan.name}.xml"))
        h1.virsh("autostart", "--disable", plan.name)
        if h1.virsh("domstate", "--reason", plan.name).split()[0] == "paused":
            h1.virsh("destroy", plan.name)
        if plan.name not in h1.vms():
            h1.virsh("start", plan.name)


_NVRAM = "<nvram>/var/lib/libvirt/qemu/nvram/vars.fd</nvram>"
_MARKS = (
    "<nvram>",
    "cdrom",
    "org.qemu.guest_agent",
    "furlough_shutdown",
    "urn:furlough:vm",
    f"furlough_hot_mib={HOT_MIB} ",
)


def _make_plain(host: Host, vm: str) -> None:
    """Nothing of what stories make of a VM is left of it."""
    if vm in host.vms("--all", "--with-managed-save"):
        host.virsh("managedsave-remove", vm)
    for snapshot in host.virsh("snapshot-list", "--name", vm).split():
        host.virsh("snapshot-delete", vm, snapshot, "--metadata")
    if vm in host.vms() and any(mark in host.virsh("dumpxml", vm) for mark in _MARKS):
        host.virsh("destroy", vm)


def _hooks(host: Host) -> list[Path]:
    """Our hook there, if it is there."""
    return sorted((host.directory / "etc-libvirt" / "hooks" / "qemu.d").glob("*furlough*"))


def _revive(host: Host) -> None:
    host.thaw_daemon()
    if not host.daemon():
        host.start_daemon()


def _erase(host: Host, vm: str) -> None:
    if vm in host.vms():
        host.virsh("destroy", vm)
    if vm in host.vms("--all"):
        host.virsh("undefine", vm, "--managed-save", "--snapshots-metadata", "--nvram")


def _enrolment(lab: Lab) -> Enrolment:
    """What the lab's own configuration says."""
    return Enrolment(
        clusters=[Cluster(name=CLUSTER)],
        datastores=[
            EnrolledDatastore(
                name="vms",
                cluster=CLUSTER,
                kind=DatastoreKind.NBD,
                address=lab.blueprint.switch_address,
            )
        ],
        hosts=[
            EnrolledHost(
                name=HostName(host.name),
                cluster=CLUSTER,
                address=host.address,
                transport=Transport.TCP,
                migration_address=host.address,
                datastores=("vms",),
                program=Program.NAMESPACE,
                namespace=f"{lab.name}/{host.name}",
            )
            for host in lab.hosts
        ],
    )
