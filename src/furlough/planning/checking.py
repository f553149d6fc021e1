"""The independent checker: it replays a plan in time and says what the plan breaks.

It shares no code with what makes plans, on purpose: a mistake in how room is counted would
otherwise be made twice and never be seen. It takes an inventory file's document (see
`inventory_export` for live facts) and a list of moves, and it believes neither.

    document ─► world ─┬─ end of a move:    the source lets go
                       ├─ start of a move:  may it start? the target reserves, the source keeps
                       └─ after the last:   who is left, who is torn apart, is there a reserve?

A host only ever gains VMs when a move starts, so what holds at every start holds at every instant.
Hosts that were overfull before are not the plan's fault: only arrivals are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from furlough.planning.inventory_file import Document, HostRow

# How many placements the search for a reserve tries before it gives up on a lost host.
_MOST_TRIALS = 20_000
_MOST_SEARCHED = 300
_NO_ROOM = (-1, -1)

Free = dict[str, tuple[int, int]]
_Choice = Callable[[int, Free], str | None]


@dataclass(frozen=True, kw_only=True)
class Move:
    """One migration: VM by UUID, hosts by name, seconds from the start of the plan."""

    vm: str
    source: str
    target: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the plan was asked for. `leaving`: hosts to be emptied; `staying`: UUIDs of VMs that
    the plan says it leaves, or stops; `target_hosts`: the only ones allowed, empty: all; limits of
    moves in flight, None: no limit. `keeps_reserve` is False where the plan says itself that it
    cannot keep N+1."""

    leaving: frozenset[str]
    staying: frozenset[str] = frozenset()
    target_hosts: frozenset[str] = frozenset()
    per_source: int | None = None
    per_target: int | None = None
    per_cluster: int | None = None
    keeps_reserve: bool = True


def violations(document: Document, moves: Sequence[Move], terms: Terms) -> list[str]:
    """Everything that carrying out these moves would break, in the order of time; empty if
    nothing. Each says when, what and by how much."""
    world = World(document, terms)
    found = [*nonsense(world, moves)]
    if found:
        return found
    for at_s, is_start, move in _events(moves):
        if is_start:
            found += [f"at {at_s:.2f} s: {words}" for words in world.start(move)]
        else:
            world.end(move)
    return [*found, *_ends(world)]


def _events(moves: Sequence[Move]) -> list[tuple[float, bool, Move]]:
    """Starts and ends in time. At one instant ends come first: a place that one move leaves is
    free for the next. Times are compared in milliseconds, which is finer than any plan."""
    events = [(move.end_s, False, move) for move in moves]
    events += [(move.start_s, True, move) for move in moves]
    return sorted(events, key=lambda event: (round(event[0], 3), event[1]))


def nonsense(world: World, moves: Sequence[Move]) -> Iterator[str]:
    """Moves that cannot even be replayed."""
    for move in moves:
        if move.vm not in world.places:
            yield f"there is no VM {move.vm}"
        elif missing := {move.source, move.target} - set(world.hosts):
            yield f"there is no host {', '.join(sorted(missing))}"
        elif not 0 <= move.start_s < move.end_s:
            yield f"{world.name(move.vm)} would move from {move.start_s} s to {move.end_s} s"
        elif round(move.start_s, 3) == round(move.end_s, 3):
            yield f"{world.name(move.vm)} would move within a millisecond"


@dataclass(kw_only=True)
class _Place:
    """What stands on a host: VMs by their place in the columns, and what they take. A VM on its way
    stands on both of its hosts."""

    vms: set[int] = field(default_factory=set)
    memory_mib: int = 0
    vcpus: int = 0
    outgoing: int = 0
    incoming: int = 0


class World:
    """Who is where, at one instant of the replay."""

    def __init__(self, document: Document, terms: Terms) -> None:
        self.terms = terms
        self.document = document
        self.vms = document.vms
        self.hosts = {host.name: host for host in document.hosts}
        self.clusters = {cluster.name: cluster for cluster in document.clusters}
        self.places = {uuid: at for at, uuid in enumerate(self.vms.uuid)}
        self.at = list(self.vms.host)
        self.moving: dict[int, Move] = {}
        self.on = {name: _Place() for name in self.hosts}
        self.in_flight = dict.fromkeys(self.clusters, 0)
        for vm in range(len(self.vms)):
            self._add(vm, self.on[self.at[vm]])

    def name(self, uuid: str) -> str:
        return f"VM {self.vms.name[self.places[uuid]]} ({uuid})"

    def is_active(self, vm: int) -> bool:
        """Whether it takes memory and vCPUs."""
        return self.vms.power[vm] != "shut_off"

    def limits(self, host: HostRow) -> tuple[int, int]:
        """The memory in MiB and the vCPUs that VMs may take on a host."""
        cluster = self.clusters[host.cluster]
        free_mib = max(host.memory_mib - host.reserved_memory_mib, 0)
        return int(free_mib * cluster.memory_ceiling), int(host.cpus * cluster.vcpu_overcommit)

    def free(self, host: HostRow) -> tuple[int, int]:
        """The memory in MiB and the vCPUs that VMs may still take on a host."""
        (memory_mib, vcpus), place = self.limits(host), self.on[host.name]
        return memory_mib - place.memory_mib, vcpus - place.vcpus

    def start(self, move: Move) -> list[str]:
        """Let a move begin; what it breaks by that."""
        vm = self.places[move.vm]
        found = [*self._objections(vm, move)]
        self._add(vm, self.on[move.target])
        source, target = self.on[move.source], self.on[move.target]
        source.outgoing += 1
        target.incoming += 1
        cluster = self.hosts[move.source].cluster
        self.in_flight[cluster] += 1
        self.moving[vm] = move
        target_host = self.hosts[move.target]
        found += [*_excess(target, self.limits(target_host)), *self._too_many(move, cluster)]
        return [f"{self.name(move.vm)} to {move.target}: {words}" for words in found]

    def end(self, move: Move) -> None:
        """Let it arrive: only now does the source let go."""
        vm = self.places[move.vm]
        source = self.on[move.source]
        source.outgoing -= 1
        self.on[move.target].incoming -= 1
        self.in_flight[self.hosts[move.source].cluster] -= 1
        self.moving.pop(vm, None)
        self.at[vm] = move.target
        if vm in source.vms:
            source.vms.discard(vm)
            source.memory_mib -= self.vms.memory_mib[vm] * self.is_active(vm)
            source.vcpus -= self.vms.vcpus[vm] * self.is_active(vm)

    def _add(self, vm: int, place: _Place) -> None:
        if vm not in place.vms:
            place.vms.add(vm)
            place.memory_mib += self.vms.memory_mib[vm] * self.is_active(vm)
            place.vcpus += self.vms.vcpus[vm] * self.is_active(vm)

    def _objections(self, vm: int, move: Move) -> Iterator[str]:
        """What forbids a move whatever room there is."""
        source, target = self.hosts[move.source], self.hosts[move.target]
        if vm in self.moving:
            yield "it is on its way already"
        elif self.at[vm] != move.source:
            yield f"it is on {self.at[vm]}, not on {move.source}"
        if move.source == move.target:
            yield "it is there already"
        if source.cluster != target.cluster:
            yield f"that host belongs to cluster {target.cluster}"
        if target.mode != "available" or target.name in self.terms.leaving:
            yield f"that host is {target.mode if target.mode != 'available' else 'leaving'}"
        if self.terms.target_hosts and target.name not in self.terms.target_hosts:
            yield "that host is not among the targets asked for"
        if self.vms.on_maintenance[vm] == "leave":
            yield "its policy is to be left where it is"
        yield from misfits(self.document, vm, self.hosts[self.vms.host[vm]], target)
        yield from self._unwanted_company(vm, target)

    def _unwanted_company(self, vm: int, target: HostRow) -> Iterator[str]:
        groups = set(self.vms.anti_affinity_groups[vm])
        if not groups:
            return
        for other in self.on[target.name].vms:
            common = groups.intersection(self.vms.anti_affinity_groups[other])
            if other != vm and common and self.is_active(other):
                words = ", ".join(sorted(common))
                yield f"{self.vms.name[other]}, of its anti-affinity group {words}, is there"

    def _too_many(self, move: Move, cluster: str) -> Iterator[str]:
        terms = self.terms
        for count, most, words in (
            (self.on[move.source].outgoing, terms.per_source, f"moves leave {move.source}"),
            (self.on[move.target].incoming, terms.per_target, "moves go there"),
            (self.in_flight[cluster], terms.per_cluster, f"moves are in flight in {cluster}"),
        ):
            if most is not None and count > most:
                yield f"{count} {words} at once, {most} are allowed"


def misfits(document: Document, vm: int, home: HostRow, host: HostRow) -> list[str]:
    """Why a host could not run a VM (by its place in the columns), however idle it were. `home`:
    the host it runs on, whose CPU a VM with host-passthrough needs again."""
    vms = document.vms
    found = []
    model = vms.cpu_model[vm]
    if model == "host-passthrough":
        if sorted(host.cpu_models) != sorted(home.cpu_models):
            found.append(f"its CPU is not that of {home.name} (host-passthrough)")
    elif model is not None and model not in host.cpu_models:
        found.append(f"it cannot give CPU model {model}")
    found += [f"it has no network {one}" for one in vms.networks[vm] if one not in host.networks]
    found += [f"it has no device {one}" for one in vms.devices[vm] if one not in host.devices]
    for disk in vms.disks[vm]:
        if disk.is_local and host.name != home.name:
            found.append(f"a disk of the VM is local to {home.name}")
        elif disk.datastore is not None and disk.datastore not in host.datastores:
            found.append(f"it does not reach datastore {disk.datastore}")
    if vms.host_affinity[vm] and host.name not in vms.host_affinity[vm]:
        found.append("the VM's host affinity does not name it")
    return found


def _excess(place: _Place, limits: tuple[int, int]) -> Iterator[str]:
    memory_mib, vcpus = limits
    if place.memory_mib > memory_mib:
        yield f"{place.memory_mib} MiB taken there, {memory_mib} MiB are allowed"
    if place.vcpus > vcpus:
        yield f"{place.vcpus} vCPUs taken there, {vcpus} are allowed"


# --- at the end ---------------------------------------------------------------------------------


def _ends(world: World) -> Iterator[str]:
    """What must hold when nothing moves any more."""
    for vm, host in enumerate(world.at):
        uuid = world.vms.uuid[vm]
        if host in world.terms.leaving and world.is_active(vm) and uuid not in world.terms.staying:
            yield f"at the end: {world.name(uuid)} is still on {host} and not listed as staying"
    yield from torn(world)
    if world.terms.keeps_reserve:
        for cluster in world.document.clusters:
            if cluster.reserve == "n+1":
                yield from _without_reserve(world, cluster.name)


def torn(world: World) -> Iterator[str]:
    """VMs of an affinity group that were on one host before, and are on several now. Those who
    were apart before are nobody's fault."""
    together: dict[tuple[str, str], set[str]] = {}
    for vm, groups in enumerate(world.vms.affinity_groups):
        # The plan itself says of those that stay that they do.
        is_judged = world.is_active(vm) and world.vms.uuid[vm] not in world.terms.staying
        for group in groups if is_judged else ():
            together.setdefault((world.vms.host[vm], group), set()).add(world.at[vm])
    for (home, group), hosts in together.items():
        if len(hosts) > 1:
            words = ", ".join(sorted(hosts))
            yield f"at the end: affinity group {group}, together on {home} before, is on {words}"


def _without_reserve(world: World, cluster: str) -> Iterator[str]:
    """The hosts of a cluster after whose loss not everybody would find room. VMs that could run on
    one host only are lost with it, whatever room there is."""
    staying = [
        host
        for host in world.document.hosts
        if host.cluster == cluster and host.name not in world.terms.leaving
    ]
    rescue = Rescue(world, cluster, [host for host in staying if host.mode == "available"])
    for lost in staying:
        if lost.mode in ("available", "cordoned") and not rescue.survives(lost.name):
            yield f"at the end: if {lost.name} were lost, not all of its VMs would find room (N+1)"


class Rescue:
    """Whether the VMs of a lost host find room on these hosts: first by simple rules, which find a
    place nearly always, then by a search that is given up after a number of trials."""

    def __init__(self, world: World, cluster: str, hosts: Sequence[HostRow]) -> None:
        self._world = world
        self._mates = [host for host in world.document.hosts if host.cluster == cluster]
        self._suited: dict[tuple[object, ...], frozenset[str]] = {}
        self._trials = 0
        self.look({host.name: world.free(host) for host in hosts})

    def look(self, free: Free) -> None:
        """What these hosts have free from now on; others take nobody."""
        self._free = free
        self._emptiest_first = sorted(free, key=lambda name: (-free[name][0], name))

    def survives(self, lost: str) -> bool:
        """Whether everybody on this host would find room elsewhere."""
        return self.rehoused(lost, self._world.on[lost].vms) is not None

    def rehoused(self, lost: str, vms: Iterable[int]) -> Free | None:
        """What would be left free if this host were lost, and these of its VMs that could run
        anywhere else were there; None where not all find room."""
        world, columns = self._world, self._world.vms
        crew = [vm for vm in vms if world.is_active(vm) and self._suited_to(vm) - {lost}]
        crew.sort(key=lambda vm: (-columns.memory_mib[vm], -columns.vcpus[vm], vm))
        free = {name: room for name, room in self._free.items() if name != lost}
        left = self._by_rules(crew, free)
        if left is None:
            # Those with the fewest places to go to, before others have taken these.
            crew.sort(key=lambda vm: len(self._suited_to(vm)))
            left = self._by_rules(crew, free)
        self._trials = _MOST_TRIALS
        # A search goes as deep as there are VMs; of so many some are small enough for rules.
        if left is None and len(crew) <= _MOST_SEARCHED and self._finds(crew, free):
            left = free
        return left

    def _by_rules(self, crew: Sequence[int], free: Free) -> Free | None:
        for choose in (self._first, self._tight):
            left = dict(free)
            if self._fills(crew, left, choose):
                return left
        return None

    def _fills(self, crew: Sequence[int], free: Free, choose: _Choice) -> bool:
        for vm in crew:
            name = choose(vm, free)
            if name is None:
                return False
            self._take(vm, name, free)
        return True

    def _first(self, vm: int, free: Free) -> str | None:
        return next(self._fitting(vm, free), None)

    def _tight(self, vm: int, free: Free) -> str | None:
        return min(self._fitting(vm, free), key=lambda name: free[name][0], default=None)

    def _finds(self, crew: Sequence[int], free: Free) -> bool:
        if not crew:
            return True
        vm, *others = crew
        for name in sorted(self._fitting(vm, free), key=lambda name: free[name][0]):
            if self._trials == 0:
                return False
            self._trials -= 1
            before = free[name]
            self._take(vm, name, free)
            if self._finds(others, free):
                return True
            free[name] = before
        return False

    def _fitting(self, vm: int, free: Free) -> Iterator[str]:
        vms, suited = self._world.vms, self._suited_to(vm)
        for name in self._emptiest_first:
            room = free.get(name, _NO_ROOM)
            if vms.memory_mib[vm] <= room[0] and vms.vcpus[vm] <= room[1] and name in suited:
                yield name

    def _take(self, vm: int, name: str, free: Free) -> None:
        memory_mib, vcpus = free[name]
        vms = self._world.vms
        free[name] = (memory_mib - vms.memory_mib[vm], vcpus - vms.vcpus[vm])

    def _suited_to(self, vm: int) -> frozenset[str]:
        """The hosts of the cluster that could run a VM; the same for all that ask for the same."""
        vms = self._world.vms
        stores = frozenset((disk.datastore, disk.is_local) for disk in vms.disks[vm])
        is_bound = vms.cpu_model[vm] == "host-passthrough" or any(local for _, local in stores)
        home = self._world.hosts[vms.host[vm]]
        asked = (
            vms.cpu_model[vm],
            vms.networks[vm],
            vms.devices[vm],
            vms.host_affinity[vm],
            stores,
            home.name if is_bound else "",
        )
        if asked not in self._suited:
            self._suited[asked] = frozenset(
                host.name
                for host in self._mates
                if not misfits(self._world.document, vm, home, host)
            )
        return self._suited[asked]
