"""The way home where homes have filled with each other's VMs: who leaves first, and who waits on a
third host on its way.

    room at home now                        -> goes at once
    room once another one has left          -> goes after that one
    each waits for the other (a ring)       -> the smallest waits on a third host, the rest follows
    no order makes room                     -> stays, and nobody moves for its sake

Nobody but the VMs asked about is moved. The order is found by `scheduling`, as in plans from files,
and written down as what each move has to come after; who may be parked where is judged as for any
target, and nobody is parked whom a hard rule keeps with others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from furlough.core.affinity import RuleKind
from furlough.core.capacity import NOTHING, Load, Reservation, load_of, rooms
from furlough.core.estimate import link_mib_s
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.planning.bonds import Bonds, bonds_of
from furlough.planning.compatibility import obstacles
from furlough.planning.handover import job_of
from furlough.planning.link_model import Job
from furlough.planning.scheduling import Schedule, Sites, Terms, TimedMove, schedule


@dataclass(frozen=True, kw_only=True)
class Trip:
    """A VM and the home that it goes to."""

    vm: Vm
    home: HostName


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One migration on a VM's way home. `after`: places in the list of legs of those that must
    have succeeded before. `is_detour`: the target is a third host, where the VM waits."""

    vm: Vm
    home: HostName
    source: HostName
    target: HostName
    after: tuple[int, ...]
    is_detour: bool


def legs_home(
    inventory: Inventory,
    sure: Sequence[Trip],
    waiting: Sequence[Trip],
    taken: Mapping[HostName, Load],
    reservations: Sequence[Reservation] = (),
) -> tuple[Leg, ...]:
    """The way home of those who are `sure` to have room there, and of as many as possible of those
    `waiting` for some. `taken`: what will be started on hosts besides."""
    found: list[Leg] = []
    trips = [*sure, *waiting]
    for cluster in dict.fromkeys(inventory.host(one.home).cluster for one in trips):
        yard = _yard(inventory, cluster, taken, reservations)
        legs = _in_cluster(yard, _of(sure, cluster, inventory), _of(waiting, cluster, inventory))
        found += [
            replace(one, after=tuple(len(found) + place for place in one.after)) for one in legs
        ]
    return tuple(found)


def _of(trips: Sequence[Trip], cluster: ClusterName, inventory: Inventory) -> list[Trip]:
    return [one for one in trips if inventory.host(one.home).cluster == cluster]


@dataclass(frozen=True, kw_only=True)
class _Yard:
    """The hosts of a cluster, in columns, the room they have, and who must not meet on them."""

    inventory: Inventory
    hosts: Sequence[Host]
    room: Sequence[Load]
    bonds: Bonds

    def place(self, name: HostName) -> int:
        return next(place for place, host in enumerate(self.hosts) if host.name == name)


def _yard(
    inventory: Inventory,
    cluster: ClusterName,
    taken: Mapping[HostName, Load],
    reservations: Sequence[Reservation],
) -> _Yard:
    hosts = sorted(inventory.hosts_of(cluster), key=lambda host: host.name)
    free = rooms(inventory, hosts, reservations)
    return _Yard(
        inventory=inventory,
        hosts=hosts,
        room=[free[host.name] - taken.get(host.name, NOTHING) for host in hosts],
        bonds=bonds_of(inventory, [cluster]),
    )


def _in_cluster(yard: _Yard, sure: Sequence[Trip], waiting: Sequence[Trip]) -> list[Leg]:
    """The legs once everybody on the list gets home: who does not is left out, the smallest first
    where only those get stuck who were sure to have room."""
    left = sorted(waiting, key=lambda one: (-one.vm.memory_mib, one.vm.name, one.vm.id))
    while True:
        trips = [*sure, *left]
        found = _scheduled(yard, trips)
        stuck = {trips[job.vm].vm.id for job in found.stuck}
        if not stuck or not left:
            return _legs(yard, trips, found.moves)
        left = [one for one in left if one.vm.id not in stuck] if stuck & _ids(left) else left[:-1]


def _ids(trips: Sequence[Trip]) -> set[VmId]:
    return {one.vm.id for one in trips}


def _scheduled(yard: _Yard, trips: Sequence[Trip]) -> Schedule:
    """Moves in time, VMs being places in `trips`."""
    apart, seats = _company(yard, trips)
    policy = yard.inventory.cluster_of(yard.hosts[0]).policy

    def may_park(place: int, host: int) -> bool:
        return _may_park(yard, trips[place].vm, yard.hosts[host])

    terms = Terms(limits=policy.limits, apart=apart, seats=seats, may_park=may_park)
    return schedule(
        [_job(yard, place, one) for place, one in enumerate(trips)], _sites(yard), terms
    )


def _job(yard: _Yard, place: int, trip: Trip) -> Job:
    source, home = yard.place(trip.vm.host), yard.place(trip.home)
    return replace(job_of(trip.vm, source, home, yard.inventory), vm=place)


def _sites(yard: _Yard) -> Sites:
    return Sites(
        room_memory_mib=[one.memory_mib for one in yard.room],
        room_vcpus=[one.vcpus for one in yard.room],
        link_mib_s=[link_mib_s(host) for host in yard.hosts],
        clusters=[0] * len(yard.hosts),
    )


def _company(
    yard: _Yard, trips: Sequence[Trip]
) -> tuple[Sequence[Sequence[int]], Mapping[int, int]]:
    """Who must never meet, as places in `trips` and, for VMs that do not move, as numbers after
    these; and the host where each of them runs now."""
    numbers = {one.vm.id: place for place, one in enumerate(trips)}
    groups = []
    seats: dict[int, int] = {}
    for bond in _apart(yard, trips):
        for member in sorted(bond):
            number = numbers.setdefault(member, len(numbers))
            seats[number] = yard.place(yard.bonds.seats[member])
        groups.append([numbers[member] for member in sorted(bond)])
    return groups, seats


def _apart(yard: _Yard, trips: Sequence[Trip]) -> list[frozenset[VmId]]:
    """The members of every hard rule that keeps one of these apart from others."""
    found = [
        bond.members
        for one in trips
        for bond in yard.bonds.of(one.vm.id, RuleKind.ANTI_AFFINITY)
        if bond.is_hard
    ]
    return list(dict.fromkeys(found))


def _may_park(yard: _Yard, vm: Vm, host: Host) -> bool:
    """Whether a VM may wait on this host for a while, whatever its room."""
    return may_ever_be_on(host.name, vm.id, yard.bonds) and not obstacles(vm, host, yard.inventory)


def may_ever_be_on(host: HostName, vm: VmId, bonds: Bonds) -> bool:
    """Whether no hard rule forbids a host to a VM whoever else is there; never to one that has to
    stay with others, which travels with them or not at all."""
    together, places = RuleKind.AFFINITY, RuleKind.HOST_AFFINITY
    hard = [bond for bond in bonds.of(vm, together, places) if bond.is_hard]
    return all(bond.kind is places and host in bond.hosts for bond in hard)


# --- what comes after what -----------------------------------------------------------------------


def _legs(yard: _Yard, trips: Sequence[Trip], moves: Sequence[TimedMove]) -> list[Leg]:
    apart = _apart(yard, trips)
    return [
        Leg(
            vm=trips[move.vm].vm,
            home=trips[move.vm].home,
            source=yard.hosts[move.source].name,
            target=yard.hosts[move.target].name,
            after=tuple(sorted(set(_before(place, moves, trips, yard, apart)))),
            is_detour=move.is_detour,
        )
        for place, move in enumerate(moves)
    ]


def _before(
    place: int,
    moves: Sequence[TimedMove],
    trips: Sequence[Trip],
    yard: _Yard,
    apart: Sequence[frozenset[VmId]],
) -> Iterator[int]:
    """The moves without which this one could not begin: those that make its room, that take away
    who must not meet its VM, and that brought its VM to where it starts."""
    mine = moves[place]
    yield from (at for at in range(place) if moves[at].vm == mine.vm)
    gone = [
        at
        for at, one in enumerate(moves)
        if one.source == mine.target and one.end_s <= mine.start_s
    ]
    foes = {vm for members in apart if trips[mine.vm].vm.id in members for vm in members}
    yield from (at for at in gone if trips[moves[at].vm].vm.id in foes and moves[at].vm != mine.vm)
    come = [one for one in moves[: place + 1] if one.target == mine.target]
    lacking = sum((load_of(trips[one.vm].vm) for one in come), NOTHING)
    for at in sorted(gone, key=lambda at: (moves[at].end_s, moves[at].vm)):
        if lacking.fits_in(yard.room[mine.target]):
            return
        lacking -= load_of(trips[moves[at].vm].vm)
        yield at
