"""The outside world, as the engine sees it: four protocols and the values they exchange.

    Hypervisor   the software on the hosts: libvirt, or the simulator
    Store        rows, journal, leases: SQLite or PostgreSQL
    Clock        time
    Notifier     wakes whoever waits for news of an operation

Every call of a `Hypervisor` has three outcomes: it returns (done), it raises `Refused` (nothing
happened; its code is a class of `core.retry.REFUSALS`), or it raises `Unreachable` (in doubt: only
a look can tell). Every call ends within a deadline of the driver's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from furlough.access_ports import AccessStore
from furlough.core.admission import Standing, Terms
from furlough.core.audit import Deed
from furlough.core.capacity import Reservation
from furlough.core.drift import HostNote
from furlough.core.encryption import ABLE, TlsMeans
from furlough.core.enrolment import EnrolledDatastore, Enrolment
from furlough.core.ids import ClusterName, HostName, OperationId, VmId
from furlough.core.inventory import Vm
from furlough.core.journal import Entry, Event, HostModeChanged, OperationAccepted
from furlough.core.link_speed import LinkSpeed
from furlough.core.looks import Look
from furlough.core.operation import Operation
from furlough.core.plan import Handover
from furlough.core.probe import Probe
from furlough.core.vm_policy import Words
from furlough.planning.record import Away
from furlough.planning.remedies import Remedied

# --- the hypervisor ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Marker:
    """What keeps a host empty: whose it is, under which epoch, and which VMs it lets pass.

    `raised_at`: since when, in the host's own words; told by the host, never to it, and no part
    of what a marker is.
    """

    operation: OperationId
    epoch: int
    controller: str
    admit: tuple[VmId, ...] = ()
    raised_at: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """What one host says of itself and its VMs at one instant.

    `has_guard`: whether furlough-host answers there. `marker`: the marker it holds, if any.
    `guard_trouble`: why its hook cannot be relied on; empty once it was seen to refuse, by this
    daemon, since it started. `boot_id`: another one after every boot of the host. `tls`: what it
    has for encrypting migrations.
    """

    host: HostName
    at: datetime
    uuid: str
    cpus: int
    memory_mib: int
    cpu_models: frozenset[str]
    networks: frozenset[str]
    devices: frozenset[str]
    vms: tuple[Vm, ...]
    has_guard: bool
    marker: Marker | None
    guard_trouble: str = ""
    boot_id: str = ""
    machines: frozenset[str] = frozenset()
    emulator_version: int = 0
    free_huge_pages: Mapping[int, int] = field(default_factory=dict)
    numa_nodes: frozenset[int] = frozenset()
    tls: TlsMeans = ABLE


@dataclass(frozen=True, kw_only=True)
class Occupancy:
    """Whether a host is empty, by the hypervisor's list and by the process list.

    `active`: VMs that the hypervisor lists with a process. `processes`: VM processes found, known
    to the hypervisor or not, as "pid name". `provisioning`: what is under way that would become
    a VM or a disk (a start, an incoming migration, an upload), in words.
    """

    host: HostName
    at: datetime
    active: tuple[Vm, ...]
    processes: tuple[str, ...]
    provisioning: tuple[str, ...]
    marker: Marker | None

    @property
    def is_empty(self) -> bool:
        return not (self.active or self.processes or self.provisioning)

    @property
    def words(self) -> str:
        """What is left on the host, for people."""
        parts = [f"VM {vm.name} is {vm.power.value}" for vm in self.active]
        parts += [f"process {process}" for process in self.processes]
        parts += list(self.provisioning)
        return f"{self.host} is not empty: {'; '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class MigrationOrder:
    """One live migration, with nothing left to choose. `carries_definition`: the VM is persistent,
    so its definition goes along and leaves the source. `is_encrypted`: never in clear, even where
    it fails for that. `speed_mib_s`: what it may send at first, 0 for no limit; `connections`: over
    how many it sends, 0 for one as usual; `may_post_copy`: begin it so that it can go over to
    post-copy; `resumes_post_copy`: it did, its link broke, and it is to go on."""

    vm: VmId
    source: HostName
    target: HostName
    handover: Handover
    carries_definition: bool
    waives_storage_check: bool
    operation: OperationId
    epoch: int
    is_encrypted: bool = False
    speed_mib_s: int = 0
    connections: int = 0
    may_post_copy: bool = False
    resumes_post_copy: bool = False


@dataclass(frozen=True, kw_only=True)
class ColdOrder:
    """One VM that is off, and that is to be defined on another host as it is on this one."""

    vm: VmId
    source: HostName
    target: HostName
    operation: OperationId
    epoch: int


@dataclass(frozen=True, kw_only=True)
class MigrationReport:
    """What the hypervisor said of a migration that it calls done.

    `copying_s`: how long memory was being sent, without setting up and finishing. `stopped_at` is
    the instant on our monotonic clock at which the source's CPUs stopped, where
    an event told us; it makes the pause of a held handover measurable.
    """

    sent_mib: int | None = None
    downtime_ms: int | None = None
    copying_s: float | None = None
    stopped_at: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a migration is: memory only, in MiB and MiB/s. `throttle_percent`: by how much the
    hypervisor slows the VM's CPUs."""

    total_mib: int
    sent_mib: int
    remaining_mib: int
    rate_mib_s: float
    rounds: int
    throttle_percent: int = 0


@dataclass(frozen=True, kw_only=True)
class StorageProof:
    """What an attempt to prove a datastore has shown, in words where it has not."""

    is_shared: bool
    is_locked: bool
    because: str = ""


@dataclass(frozen=True, kw_only=True)
class Hint:
    """Something happened to a VM or a host: a reason to look, never a record."""

    host: HostName
    vm: VmId | None = None


class Hypervisor(Protocol):
    """The software on the hosts."""

    async def enrol(self, enrolment: Enrolment) -> None:
        """From now on these are the hosts. Never blocks on a host."""

    async def close(self) -> None:
        """Let go of all hosts; what runs there goes on."""

    async def observe(self, host: HostName) -> HostFacts: ...

    async def probe(self, host: HostName, peers: Sequence[HostName]) -> Probe:
        """What only furlough-host can find out, and how the host reaches these peers."""

    async def misfits(self, host: HostName, vms: Sequence[Vm]) -> Mapping[VmId, str]:
        """What this host's hypervisor has against running these VMs of other hosts as they run
        now (CPU, machine type), in words; those it would take are left out."""

    async def dirty_rates(
        self, host: HostName, vms: Sequence[VmId], within_s: int
    ) -> Mapping[VmId, float]:
        """Memory that these VMs of a host rewrite while they are watched for `within_s` seconds,
        in MiB/s, a page that is written twice counted once. Those that cannot be watched (off, in
        a job, an emulator that cannot) are left out."""

    async def look(self, host: HostName, vm: VmId) -> Look:
        """The host's present answer about one VM, or a silent one. Never raises."""

    async def occupancy(self, host: HostName) -> Occupancy: ...

    async def migrate_live(self, order: MigrationOrder) -> MigrationReport:
        """Returns when the hypervisor calls it over. It goes on if this call is given up."""

    async def check_cold(self, order: ColdOrder) -> None:
        """`Refused` where what a VM keeps beside its definition could not be copied, whatever the
        VM does now: asked before its guest is shut down for it. Changes nothing."""

    async def copy_state(self, order: ColdOrder) -> Sequence[str]:
        """Copy what a VM that is off keeps on its host beside its definition (UEFI variables, the
        state of its TPM): whole or not at all, durable when it returns. Twice is harmless. Returns
        what was copied, in words, with its checksum."""

    async def copy_definition(self, order: ColdOrder) -> None:
        """Define a VM on the target as it is defined on the source, where it stays defined. Twice
        is harmless; it does not start anything, and sets no autostart."""

    async def progress(self, host: HostName, vm: VmId) -> Progress | None:
        """How far the migration out of this host is; None where there is none."""

    async def abort(self, host: HostName, vm: VmId) -> None:
        """Ask for the end of a migration out of this host. It may win against us. `Refused` in
        post-copy, where there is no way back."""

    async def set_speed(self, host: HostName, vm: VmId, mib_s: int) -> None:
        """What the migration out of this host may send from now on, 0 for no limit. `Refused`
        unless memory is being copied: set earlier, it might not last."""

    async def set_downtime_limit(self, host: HostName, vm: VmId, ms: int) -> None:
        """How long the VM may pause at the end of the migration out of this host."""

    async def start_post_copy(self, host: HostName, vm: VmId) -> None:
        """Let the VM run on the target from now on, and fetch the rest of its memory there."""

    async def until_stopped(self, host: HostName, vm: VmId) -> None:
        """Returns when the CPUs of a VM stop on the host that it leaves. A hint: it may come late,
        or never."""

    async def start(self, host: HostName, vm: VmId) -> None: ...

    async def shut_down(self, host: HostName, vm: VmId) -> None:
        """Ask the guest, once. It may ignore us."""

    async def power_off(self, host: HostName, vm: VmId, epoch: int) -> None: ...

    async def suspend(self, host: HostName, vm: VmId) -> None: ...

    async def resume(self, host: HostName, vm: VmId, epoch: int) -> None: ...

    async def undefine(self, host: HostName, vm: VmId, epoch: int) -> None:
        """Remove the definition of a VM that is off; its disks stay."""

    async def save(self, host: HostName, vm: VmId) -> None:
        """Suspend a VM to a save image on its host; its next start goes on from there."""

    async def set_policy(self, host: HostName, vm: VmId, words: Words) -> None:
        """Write the policy that travels with a VM; the one that was there is replaced."""

    async def change_medium(self, host: HostName, vm: VmId, drive: str, medium: str) -> None:
        """Put a medium into a drive of a VM; an empty one takes out what is there."""

    async def set_autostart(self, host: HostName, vm: VmId, *, on: bool) -> None: ...

    async def prove_storage(
        self, datastore: EnrolledDatastore, hosts: Sequence[HostName]
    ) -> StorageProof:
        """Whether these hosts see the same files there, and whether a lock held on one of them
        stops the others."""

    async def raise_guard(self, host: HostName, marker: Marker) -> None:
        """Durable on the host when it returns. Twice is harmless; a lower epoch is `Refused`."""

    async def lower_guard(self, host: HostName, marker: Marker) -> None: ...

    async def prove_guard(self, host: HostName) -> str:
        """Try whether the host's hook refuses a VM made for that, and lets another one pass where
        no marker forbids it. Why it cannot be relied on, empty if it can."""

    async def prepare(self, host: HostName) -> None:
        """Install furlough-host and its hook there, beside whatever hook is there already."""

    async def reboot(self, host: HostName, marker: Marker) -> None:
        """Reboot the machine; furlough-host refuses unless it is guarded by this marker's
        operation's maintenance, empty, and the epoch is not stale."""

    async def power_off_host(self, host: HostName, marker: Marker) -> None:
        """Switch the machine off, under the same conditions."""

    def hints(self) -> AsyncIterator[Hint]: ...


class SiteProbes(Protocol):
    """What the site itself can tell before a host is entered."""

    async def ask(self, vms: Sequence[Vm]) -> Sequence[tuple[str, str, str]]:
        """Findings (code, subject, message) about the site's storage, and about these VMs. Never
        raises, and ends within a deadline of its own."""


# --- the store ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class IdempotencyKey:
    """A client's own name for a request, bound to the caller and to the request's content."""

    principal: str
    key: str
    content: str


class Store(Protocol):
    """Rows that survive us. Every write is one transaction.

    `append` and `accept` refuse with `Stale` what was decided on an older state of the operation
    (or under an older epoch), with `Conflict` or `Refused` what stands against other operations.
    A write that takes a deed puts its line into the audit trail in the same transaction.
    """

    @property
    def access(self) -> AccessStore:
        """Users, tokens, roles, sessions, and the audit trail."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def controller_id(self) -> str:
        """The name of this installation, made at the first start."""

    async def enrolment(self) -> Enrolment: ...

    async def enrol(
        self, additions: Enrolment, deed: Deed | None = None, based_on: Enrolment | None = None
    ) -> None:
        """Create or change all of these, or none; what is not named stays as it is. `Stale` where
        one of them is no longer what it was in `based_on`."""

    async def remove_cluster(self, name: ClusterName, deed: Deed | None = None) -> None: ...

    async def remove_datastore(self, name: str, deed: Deed | None = None) -> None: ...

    async def remove_host(self, name: HostName, deed: Deed | None = None) -> None: ...

    async def standings(self) -> Mapping[HostName, Standing]: ...

    async def reservations(self) -> Sequence[Reservation]: ...

    async def away(self) -> Sequence[Away]: ...

    async def remedies(self) -> Sequence[Remedied]:
        """Every medium that a remedy took out of a drive and that is to be put back."""

    async def repeat_of(self, key: IdempotencyKey) -> Operation | None:
        """The operation that this key has made, if any. `Invalid` where it was for another
        request."""

    async def accept(
        self,
        event: OperationAccepted,
        modes: Sequence[HostModeChanged],
        terms: Terms,
        key: IdempotencyKey | None = None,
        deed: Deed | None = None,
    ) -> Operation: ...

    async def append(
        self,
        operation: Operation,
        events: Sequence[Event],
        terms: Terms | None = None,
        deed: Deed | None = None,
    ) -> Operation: ...

    async def claim(self, owner: str, lease_s: float) -> Sequence[Operation]:
        """Take every operation that is not final and that nobody live owns."""

    async def renew(self, owner: str, lease_s: float) -> Sequence[OperationId]:
        """Keep the leases of this owner; returns the operations it still owns."""

    async def void_leases(self) -> None:
        """Nobody else lives (the data directory is locked): all leases end now."""

    async def operation(self, operation: OperationId) -> Operation: ...

    async def operations(
        self,
        *,
        active: bool = False,
        host: HostName | None = None,
        limit: int = 100,
        before: OperationId | None = None,
    ) -> Sequence[Operation]:
        """Newest first; `before`: only those that are older than this one."""

    async def journal(self, operation: OperationId) -> Sequence[Entry]: ...

    async def entries(self, after: int, limit: int) -> Sequence[Entry]:
        """Events of all operations, in their order, after this sequence number."""

    async def last_sequence(self) -> int: ...

    async def note_host(self, notes: Sequence[HostNote]) -> None:
        """Add to the logs of hosts. A note that says what the newest one about the same thing
        says already is left out: so nothing is told twice, whoever tells it."""

    async def host_notes(self, host: HostName, limit: int) -> Sequence[HostNote]:
        """The newest notes about a host, the newest first."""

    async def open_notes(self) -> Sequence[HostNote]:
        """Of all hosts: what has begun and is not over, in the order of its beginning."""

    async def learn_link_speed(self, speed: LinkSpeed) -> LinkSpeed:
        """Add what one migration says of the links between two hosts; returns what is known of
        them now. A host that is removed takes what was learned along."""

    async def link_speeds(self) -> Sequence[LinkSpeed]:
        """What is known of the links, by source and target."""


# --- time and news -----------------------------------------------------------------------------


class Clock(Protocol):
    """Time. Nobody else reads a clock or sleeps."""

    def now(self) -> datetime:
        """The instant, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never jump, from an arbitrary start."""

    async def sleep(self, duration_s: float) -> None: ...


class Notifier(Protocol):
    """Wakes those who wait for news. What the news is stands in the store."""

    def notify(self) -> None:
        """Something was written."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """News from now on; several at once count as one."""
