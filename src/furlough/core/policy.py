"""What the operator wants and allows: of a cluster, of one request to enter or to exit."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from furlough.core.encryption import MigrationTls
from furlough.core.ids import ClusterName, HostName, VmId


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Live migrations in flight at once: out of one host, into one host, in the cluster."""

    per_source: int = 2
    per_target: int = 2
    per_cluster: int = 8


class Reserve(StrEnum):
    """Room that has to be left in a cluster: none, or as much as losing one more host takes."""

    NONE = "none"
    N_PLUS_1 = "n+1"


class Order(StrEnum):
    """Who moves first among those that may: as fills the links best, or most memory first and then
    higher availability priority."""

    SCHEDULE = "schedule"
    MEMORY = "memory"


class Scope(StrEnum):
    """What must be gone: `running`: no VM may run on the host. `all`: powered-off VMs leave too,
    but those that no other host takes and those whose policy says leave; each is named."""

    RUNNING = "running"
    ALL = "all"


class Automation(StrEnum):
    """Who moves what must be gone: we; we, once the plan or single steps are approved; people."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"
    OFF = "off"


class OnFailure(StrEnum):
    """What follows when a VM cannot leave: `wait` for changed facts or a person, `stop` and stay
    cordoned, or `put_back` those that have moved, by a plan of its own."""

    WAIT = "wait"
    STOP = "stop"
    PUT_BACK = "put_back"


class StorageMode(StrEnum):
    """What becomes of local disks: those of VMs that keep running move along
    (`keep_accessible`); every volume leaves; none does. No disk is copied yet, so the first does
    what the last does, and the second is refused (`core.doors.check_sense`)."""

    KEEP_ACCESSIBLE = "keep_accessible"
    EVACUATE_ALL = "evacuate_all"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class EnterDefaults:
    """What holds for options of entering that a request leaves open. None: nothing is said here,
    so whoever is asked next says it (see `core.doors`)."""

    timeout_s: float | None = None
    scope: Scope | None = None
    automation: Automation | None = None
    on_failure: OnFailure | None = None
    storage: StorageMode | None = None
    order: Order | None = None


@dataclass(frozen=True, kw_only=True)
class ClusterPolicy:
    """How full the hosts of a cluster may be, and how many may be away at once.

    `memory_ceiling` is the share of a host's memory, less what is reserved for the host itself,
    that VMs may hold; `vcpu_overcommit` the vCPUs promised per processor; `max_hosts_away` the
    hosts that may be entering, in maintenance or exiting at the same time. `trusts_own_proofs`
    waives the hypervisor's storage check where our own two proofs hold for every disk. `severity`:
    finding codes that weigh more or less here than usual, as (code, severity). `migration_tls`:
    whether migrations are encrypted, for hosts that say nothing else. `overflow_clusters`: whose
    hosts may take VMs of this one that find no place in it, the first one first. `maintenance`:
    what holds for options of entering that a request leaves open.
    """

    memory_ceiling: float = 0.9
    vcpu_overcommit: float = 4.0
    max_hosts_away: int = 1
    trusts_own_proofs: bool = False
    limits: Limits = field(default_factory=Limits)
    reserve: Reserve = Reserve.NONE
    severity: tuple[tuple[str, str], ...] = ()
    migration_tls: MigrationTls = MigrationTls.WHEN_POSSIBLE
    overflow_clusters: tuple[ClusterName, ...] = ()
    maintenance: EnterDefaults = field(default_factory=EnterDefaults)


class CancelMode(StrEnum):
    """What happens to migrations in flight: `stop` aborts them, `finish` lets them end; `put_back`
    aborts them and brings back the VMs that have left, by a plan."""

    STOP = "stop"
    FINISH = "finish"
    PUT_BACK = "put_back"


class RestoreMode(StrEnum):
    """What an exit brings back: nothing; the VMs that moved; all that the record names; those of
    the record that the operator names."""

    NONE = "none"
    MOVED = "moved"
    RECORDED = "recorded"
    SELECTED = "selected"


@dataclass(frozen=True, kw_only=True)
class EnterOptions:
    """How to enter maintenance. `timeout_s` of 0 or less: no timeout, None: the default one; no
    targets: any host. `shut_down`: VMs that may be shut down where they cannot move live;
    `override`: codes of blockers that the operator accepts, which takes a `reason`; `strict`:
    codes that are blockers for whoever asks, whatever they are usually; `order`: of the moves;
    `wait`: false only with `automation` off: the operation ends once the host is guarded;
    `within_cluster`: nobody moves to another cluster, whatever the cluster allows;
    `left_open`: names of the options that the request does not say, which defaults may change."""

    timeout_s: float | None = None
    target_hosts: tuple[HostName, ...] = ()
    shut_down: tuple[VmId, ...] = ()
    override: tuple[str, ...] = ()
    strict: tuple[str, ...] = ()
    order: Order = Order.SCHEDULE
    scope: Scope = Scope.RUNNING
    automation: Automation = Automation.AUTOMATIC
    on_failure: OnFailure = OnFailure.STOP
    storage: StorageMode = StorageMode.KEEP_ACCESSIBLE
    wait: bool = True
    within_cluster: bool = False
    reason: str = ""
    ticket: str = ""
    purpose: str = ""
    left_open: tuple[str, ...] = ()
    kind: Literal["enter"] = "enter"


@dataclass(frozen=True, kw_only=True)
class ExitOptions:
    """How to exit maintenance. Only with `restore` selected: VMs of the record to `power_on` where
    they were stopped, and to bring home live or cold."""

    restore: RestoreMode = RestoreMode.RECORDED
    power_on: tuple[VmId, ...] = ()
    live_migrate_back: tuple[VmId, ...] = ()
    cold_migrate_back: tuple[VmId, ...] = ()
    timeout_s: float = 0
    reason: str = ""
    ticket: str = ""
    kind: Literal["exit"] = "exit"


@dataclass(frozen=True, kw_only=True)
class ActionOptions:
    """How to carry out a request about one host or one VM (cordon, start, migrate, ...).

    `target` is the host to migrate to or to start on, where that is a choice; `grace_s` how
    long a guest may take to shut down.
    """

    target: HostName | None = None
    grace_s: float = 120
    timeout_s: float = 0
    reason: str = ""
    kind: Literal["action"] = "action"


Options = EnterOptions | ExitOptions | ActionOptions
