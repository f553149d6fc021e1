"""Admission control: whether an operation, or one of its steps, may start beside all the others.

Pure judgements on rows that the store reads in the same transaction in which it writes the
answer, so that two operations never get the same room, slot, host or VM.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from furlough.core.capacity import Load, Reservation, limit_of, used_by
from furlough.core.ids import ClusterName, HostName, OperationId, VmId
from furlough.core.inventory import Inventory
from furlough.core.operation import RosterEntry
from furlough.core.plan import OperationKind
from furlough.core.policy import Automation, EnterOptions, Limits, Options
from furlough.core.states import HostMode
from furlough.errors import Conflict, NotFound, Refused

OWNS_HOSTS = frozenset(
    {
        OperationKind.ENTER,
        OperationKind.EXIT,
        OperationKind.RESTORE,
        OperationKind.CLOSE_RECORD,
        OperationKind.CORDON,
        OperationKind.UNCORDON,
        OperationKind.REBOOT_HOST,
        OperationKind.POWER_OFF_HOST,
    }
)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A host as the store knows it: its cluster, its mode, the operation that owns it."""

    host: HostName
    cluster: ClusterName
    mode: HostMode
    operation: OperationId | None


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a target had left when it was last observed, and the VMs seen active there: the
    reservations of others come on top, except for VMs that have arrived."""

    free: Load
    seen: frozenset[VmId] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Flight:
    """One live migration in flight. `cluster`: its source's; `into`: its target's, where that is
    another one."""

    source: HostName
    target: HostName
    cluster: ClusterName
    into: ClusterName | None = None

    @property
    def clusters(self) -> tuple[ClusterName, ...]:
        """Those in which it takes a slot: one, or two."""
        return (self.cluster,) if self.into in (None, self.cluster) else (self.cluster, self.into)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the decision rested on outside the store: room as observed, and limits."""

    rooms: Mapping[HostName, Room] = field(default_factory=dict)
    limits: Mapping[ClusterName, Limits] = field(default_factory=dict)
    most_away: Mapping[ClusterName, int] = field(default_factory=dict)


def terms_of(inventory: Inventory, targets: Iterable[HostName] = ()) -> Terms:
    """The terms that an inventory gives for using these targets."""
    rooms = {}
    for name in targets:
        host = inventory.host(name)
        active = [vm for vm in inventory.vms_on(name) if vm.is_active]
        limit = limit_of(host, inventory.cluster_of(host).policy)
        rooms[name] = Room(free=limit - used_by(active), seen=frozenset(vm.id for vm in active))
    return Terms(
        rooms=rooms,
        limits={one.name: one.policy.limits for one in inventory.clusters},
        most_away={one.name: one.policy.max_hosts_away for one in inventory.clusters},
    )


def check_hosts_known(hosts: Iterable[HostName], standings: Mapping[HostName, Standing]) -> None:
    """`NotFound` where a host was removed since the request was made."""
    for host in hosts:
        if host not in standings:
            raise NotFound(
                "host.unknown", f"There is no host {host!r}.", remedy="See: furlough host list."
            )


def check_hosts_free(hosts: Iterable[HostName], standings: Mapping[HostName, Standing]) -> None:
    """`Conflict`, naming the operation, where a host is owned already (S4)."""
    for host in hosts:
        owner = standings[host].operation
        if owner is not None:
            raise Conflict(
                "host.busy",
                f"Host {host} belongs to operation {owner}, which is not over.",
                remedy=f"Follow it: furlough operation watch {owner}; or cancel it.",
                operation=owner,
            )


def owned(options: Options, roster: Iterable[RosterEntry]) -> tuple[VmId, ...]:
    """The VMs that an operation has for itself: none where people move them, since people need
    operations for that."""
    if isinstance(options, EnterOptions) and options.automation is Automation.OFF:
        return ()
    return tuple(entry.vm for entry in roster)


def check_vms_free(vms: Iterable[VmId], owners: Mapping[VmId, OperationId]) -> None:
    """`Conflict`, naming the operation, where a VM is owned already (S4)."""
    for vm in vms:
        if vm in owners:
            raise Conflict(
                "vm.owned",
                f"VM {vm} belongs to operation {owners[vm]}, which is not over.",
                remedy=f"Follow it: furlough operation watch {owners[vm]}; or cancel it.",
                operation=owners[vm],
            )


def check_most_away(
    hosts: Iterable[HostName],
    standings: Mapping[HostName, Standing],
    most_away: Mapping[ClusterName, int],
) -> None:
    """`Conflict` where more hosts of a cluster would be away than its policy allows."""
    asked = set(hosts)
    for cluster in {standings[host].cluster for host in asked}:
        away = {
            one.host
            for one in standings.values()
            if one.cluster == cluster
            and one.mode in (HostMode.ENTERING, HostMode.MAINTENANCE, HostMode.EXITING)
        }
        mine = {host for host in asked if standings[host].cluster == cluster}
        if len(away | mine) > most_away.get(cluster, 1):
            raise Conflict(
                "cluster.host_away",
                f"Cluster {cluster} allows {most_away.get(cluster, 1)} host(s) away at a time; "
                f"away: {', '.join(sorted(away - mine)) or 'none'}.",
                remedy="Exit maintenance there first, or raise max_hosts_away of the cluster.",
            )


def check_target(
    kind: OperationKind,
    hosts: Collection[HostName],
    target: HostName,
    standings: Mapping[HostName, Standing],
    *,
    home: HostName | None = None,
) -> None:
    """`Refused` where an operation of this kind about these hosts may not send a migration or a
    start to the target (S12). `home`: the host that the step is about; a put-back of an entering
    goes there."""
    mode = standings[target].mode if target in standings else None
    comes_home = kind is OperationKind.EXIT and target in hosts
    is_put_back = kind is OperationKind.ENTER and target in hosts and target == home
    if mode is HostMode.AVAILABLE or (comes_home and mode is HostMode.EXITING):
        return
    if is_put_back and mode is HostMode.ENTERING:
        return
    raise Refused(
        "target.not_available",
        f"Target {target} is {mode.value if mode else 'not enrolled any more'}.",
        remedy="Another target is tried where the plan has one; else make a new plan.",
    )


def check_room(
    vm: VmId, target: HostName, load: Load, room: Room, reservations: Iterable[Reservation]
) -> None:
    """`Refused` where the target has no room beside what is seen and held there (S11)."""
    held = {
        one.vm: one.load
        for one in reservations
        if one.host == target and one.vm != vm and one.vm not in room.seen
    }
    free = room.free - Load(
        memory_mib=sum(load.memory_mib for load in held.values()),
        vcpus=sum(load.vcpus for load in held.values()),
    )
    if vm not in room.seen and not load.fits_in(free):
        raise Refused(
            "target.no_room",
            f"Target {target} has {max(0, free.memory_mib)} MiB and {max(0, free.vcpus)} vCPUs "
            f"left, {load.memory_mib} MiB and {load.vcpus} are needed.",
            remedy="Free memory there, or name other targets.",
        )


def has_slot(
    flight: Flight, flying: Iterable[Flight], limits: Mapping[ClusterName, Limits]
) -> bool:
    """Whether one more migration may start beside those in flight: as its source's cluster says of
    sources, its target's of targets, and both of all that begins or ends in them."""
    others = list(flying)
    here, there = flight.clusters[0], flight.clusters[-1]
    into_target = sum(1 for one in others if one.target == flight.target)
    return (
        not is_full(flight.source, others, limits.get(here, Limits()))
        and into_target < limits.get(there, Limits()).per_target
        and all(
            sum(1 for one in others if cluster in one.clusters)
            < limits.get(cluster, Limits()).per_cluster
            for cluster in flight.clusters
        )
    )


def is_full(source: HostName, flying: Iterable[Flight], limits: Limits) -> bool:
    """Whether as many migrations leave a host as may."""
    return sum(1 for one in flying if one.source == source) >= limits.per_source
