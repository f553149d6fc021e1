"""Facts: clusters, hosts and VMs as observed at one instant. Nothing here is a wish.

    Cluster ──< Host ──< Vm ──< Disk, Nic
       └──────< Datastore

All memory is in MiB, all rates say their unit in their name. A VM that two hosts list is kept
twice: hiding that would hide the worst that can happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from furlough.core.affinity import Rule
from furlough.core.encryption import ABLE, MigrationTls, TlsMeans
from furlough.core.ids import ClusterName, HostName, OperationId, VmId
from furlough.core.link_speed import LinkSpeed
from furlough.core.policy import ClusterPolicy
from furlough.core.probe import Probe
from furlough.core.states import Guard, HostMode, Power, Reachability
from furlough.core.vm_policy import DEFAULT, VmPolicy, Words
from furlough.errors import NotFound


class Proof(StrEnum):
    """How we know a thing about a datastore."""

    PROVEN = "proven"
    DECLARED = "declared"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Hosts among which a VM may be moved, with the policy they share. `vm_defaults`: what holds
    for its VMs that say nothing else."""

    name: ClusterName
    policy: ClusterPolicy = field(default_factory=ClusterPolicy)
    vm_defaults: Words = ()
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Datastore:
    """Where disks lie. `path`: the directory that its hosts mount, empty if it is none. `shared`:
    every host that lists it sees the same images. `locked`: an
    image that is open for writing on one host cannot be opened for writing on another."""

    name: str
    path: str = ""
    shared: Proof = Proof.UNKNOWN
    locked: Proof = Proof.UNKNOWN


class DiskKind(StrEnum):
    """What a drive is to its guest. Only media can be taken out of a drive."""

    DISK = "disk"
    CDROM = "cdrom"
    FLOPPY = "floppy"


@dataclass(frozen=True, kw_only=True)
class Disk:
    """One disk of a VM. `datastore` is None where no enrolled datastore holds its `source`.
    `address`: the server it is read from over the network, empty if none."""

    target: str
    source: str
    datastore: str | None
    is_writable: bool = True
    size_mib: int = 0
    kind: DiskKind = DiskKind.DISK
    address: str = ""

    @property
    def is_medium(self) -> bool:
        """Whether it can be taken out of its drive while the VM runs."""
        return self.kind is not DiskKind.DISK


@dataclass(frozen=True, kw_only=True)
class Nic:
    """One network interface: the network or bridge it hangs on, and its address."""

    network: str
    mac: str = ""


class Agent(StrEnum):
    """The guest agent: there is no channel for one; there is, and nobody answers; it answers."""

    NONE = "none"
    SILENT = "silent"
    CONNECTED = "connected"


@dataclass(frozen=True, kw_only=True)
class Vm:
    """One VM as its host describes it.

    `busy_with` names a job that runs on it (a migration, a backup, a block copy), empty if
    none. `is_arriving`: it is the copy that an incoming migration fills, and runs elsewhere.
    `dirty_mib_s` and `working_set_mib` are None where nobody measured them; `dirty_measured_at`
    says when somebody did.

    `has_io_error`: it is in error because its storage failed.

    `own_policy` is what travels with it, `policy` what holds for it with the defaults of its
    cluster, `policy_troubles` what of its own words makes no sense. `hindrances`: traits that the
    hypervisor refuses to migrate live, in words. `boot_files`: paths of its kernel, firmware and
    the like, which its target needs too. `huge_page_kib`: the size of the huge pages that hold
    its memory, None if ordinary ones do; `numa_nodes`: the nodes of the host it is bound to.
    """

    id: VmId
    name: str
    host: HostName
    power: Power
    vcpus: int
    memory_mib: int
    memory_used_mib: int | None = None
    cpu_model: str | None = None
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    devices: tuple[str, ...] = ()
    is_persistent: bool = True
    has_autostart: bool = False
    busy_with: str = ""
    is_arriving: bool = False
    has_io_error: bool = False
    dirty_mib_s: float | None = None
    working_set_mib: int | None = None
    dirty_measured_at: datetime | None = None
    own_policy: Words = ()
    policy: VmPolicy = DEFAULT
    policy_troubles: tuple[str, ...] = ()
    machine: str = ""
    agent: Agent = Agent.NONE
    snapshots: int = 0
    checkpoints: int = 0
    has_managed_save: bool = False
    has_tpm: bool = False
    has_nvram: bool = False
    boot_files: tuple[str, ...] = ()
    hindrances: tuple[str, ...] = ()
    huge_page_kib: int | None = None
    numa_nodes: frozenset[int] = frozenset()
    has_cpu_pins: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it has a process on its host and holds memory there."""
        return self.power is not Power.SHUT_OFF


@dataclass(frozen=True, kw_only=True)
class Intruder:
    """Something that is on a host in maintenance and may not be: a VM or a process, in words."""

    what: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host: what it is, what it can give, and how we stand with it.

    `has_guard`: furlough-host answers there; `guard_trouble`: why its hook cannot be relied on,
    empty once it was seen to refuse. `probe`: what the last probe found, None before the first.
    `addresses`: everything under which it is reached. `emulator_version`: major * 1,000,000 +
    minor * 1,000 + release, 0 where unknown. `free_huge_pages`: by size in KiB.
    `has_other_way_in`: besides the network there is a BMC or, as the operator says, another way.
    `intruders`: what violates its maintenance. `kept_empty_by`: who keeps it empty without us, in
    words. `boot_id`: another one after every boot. `migration_tls`: whether migrations out of it
    and into it are encrypted, `tls`: what it has for that.
    """

    name: HostName
    uuid: str
    cluster: ClusterName
    mode: HostMode
    reachability: Reachability = Reachability.CONNECTED
    guard: Guard = Guard.LOWERED
    operation: OperationId | None = None
    cpus: int = 1
    memory_mib: int = 0
    reserved_memory_mib: int = 0
    cpu_models: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    datastores: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    link_mbit_s: int = 1000
    has_guard: bool = True
    silent_because: str = ""
    guard_trouble: str = ""
    probe: Probe | None = None
    addresses: frozenset[str] = frozenset()
    machines: frozenset[str] = frozenset()
    emulator_version: int = 0
    free_huge_pages: Mapping[int, int] = field(default_factory=dict)
    numa_nodes: frozenset[int] = frozenset()
    has_other_way_in: bool = True
    intruders: tuple[Intruder, ...] = ()
    kept_empty_by: str = ""
    boot_id: str = ""
    migration_tls: MigrationTls = MigrationTls.WHEN_POSSIBLE
    tls: TlsMeans = ABLE

    @property
    def is_connected(self) -> bool:
        return self.reachability is Reachability.CONNECTED

    @property
    def is_away(self) -> bool:
        """Whether it is in maintenance or on the way in or out."""
        return self.mode in (HostMode.ENTERING, HostMode.MAINTENANCE, HostMode.EXITING)


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """All facts at one instant, with the look-ups everybody needs. `misfits`: what a host's own
    hypervisor says against running a VM as it runs now, where it was asked and said something.
    `site_findings`: what the site's own probe commands say, as (code, subject, message).
    `link_speeds`: what migrations have shown, by source and target."""

    taken_at: datetime
    clusters: Sequence[Cluster]
    hosts: Sequence[Host]
    vms: Sequence[Vm]
    datastores: Sequence[Datastore] = ()
    misfits: Mapping[tuple[HostName, VmId], str] = field(default_factory=dict)
    site_findings: Sequence[tuple[str, str, str]] = ()
    link_speeds: Mapping[tuple[HostName, HostName], LinkSpeed] = field(default_factory=dict)

    def host(self, name: HostName) -> Host:
        """The host of this name; `NotFound` where there is none."""
        found = self._hosts.get(name)
        if found is None:
            raise NotFound(
                "host.unknown", f"There is no host {name!r}.", remedy="See: furlough host list."
            )
        return found

    def cluster_of(self, host: Host) -> Cluster:
        """The cluster a host belongs to."""
        return self._clusters[host.cluster]

    def may_cross(self, source: Host, target: Host) -> bool:
        """Whether VMs that find no place in the source's cluster may move to the target's."""
        return target.cluster in self.cluster_of(source).policy.overflow_clusters

    def hosts_of(self, cluster: ClusterName) -> list[Host]:
        """The hosts of a cluster, in the order of enrolment."""
        return [host for host in self.hosts if host.cluster == cluster]

    def vms_on(self, host: HostName) -> list[Vm]:
        """Every VM that this host lists, powered off ones included."""
        return self._vms_by_host.get(host, [])

    def copies_of(self, vm: VmId) -> list[Vm]:
        """Each host's view of this VM: one, or several where hosts disagree."""
        return self._vms_by_id.get(vm, [])

    def vms_named(self, name: str) -> list[Vm]:
        """Every VM of this name, whatever host lists it: names need not be unique."""
        return self._vms_by_name.get(name, [])

    def running_copies_of(self, vm: VmId) -> list[Vm]:
        """Those with a process; the copy that a migration is filling is none yet."""
        return [one for one in self.copies_of(vm) if one.is_active and not one.is_arriving]

    def vm(self, vm: VmId) -> Vm:
        """The VM with this id: the active copy where there is one. `NotFound` if nobody has it."""
        copies = self.copies_of(vm)
        if not copies:
            raise NotFound("vm.unknown", f"There is no VM {vm}.", remedy="See: furlough vm list.")
        running = self.running_copies_of(vm)
        return running[0] if running else copies[0]

    def datastore(self, name: str) -> Datastore:
        """The datastore of this name; an unknown one is proven in nothing."""
        return self._datastores.get(name, Datastore(name=name))

    @cached_property
    def _hosts(self) -> dict[HostName, Host]:
        return {host.name: host for host in self.hosts}

    @cached_property
    def _clusters(self) -> dict[ClusterName, Cluster]:
        return {cluster.name: cluster for cluster in self.clusters}

    @cached_property
    def _datastores(self) -> dict[str, Datastore]:
        return {datastore.name: datastore for datastore in self.datastores}

    @cached_property
    def _vms_by_host(self) -> dict[HostName, list[Vm]]:
        found: dict[HostName, list[Vm]] = {}
        for vm in self.vms:
            found.setdefault(vm.host, []).append(vm)
        return found

    @cached_property
    def _vms_by_id(self) -> dict[VmId, list[Vm]]:
        found: dict[VmId, list[Vm]] = {}
        for vm in self.vms:
            found.setdefault(vm.id, []).append(vm)
        return found

    @cached_property
    def _vms_by_name(self) -> dict[str, list[Vm]]:
        found: dict[str, list[Vm]] = {}
        for vm in self.vms:
            found.setdefault(vm.name, []).append(vm)
        return found


def with_overflow(names: Iterable[ClusterName], clusters: Sequence[Cluster]) -> set[ClusterName]:
    """These clusters, and those whose hosts may take their VMs."""
    found = set(names)
    for cluster in clusters:
        if cluster.name in names:
            found.update(cluster.policy.overflow_clusters)
    return found


def with_neighbours(name: ClusterName, clusters: Sequence[Cluster]) -> set[ClusterName]:
    """A cluster, and every other one that exchanges VMs with it: where one of its VMs may be."""
    senders = {one.name for one in clusters if name in one.policy.overflow_clusters}
    return with_overflow([name], clusters) | senders
