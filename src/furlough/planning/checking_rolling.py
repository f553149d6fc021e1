"""The independent checker of rolling plans: at every instant of all turns nothing is broken.

    end of a move ─► host back ─► host empty ─► turn begins ─► start of a move ─► N+1?

At one instant they come in this order, and then everybody is asked once more: would the VMs of any
host that is lost now find room? A host takes nobody from the beginning of its turn until it is
back. Like the checker of single plans (`checking`) it shares no code with what makes plans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from furlough.planning.checking import Free, Move, Rescue, Terms, World, nonsense, torn
from furlough.planning.inventory_file import Document

_END, _BACK, _EMPTY, _BEGIN, _START = range(5)
_NOTHING = (0, 0)


@dataclass(frozen=True, kw_only=True)
class HostTurn:
    """When a host begins to be emptied, is empty, and is back; seconds from the start of the plan.
    `keeps_reserve`: what the plan says about N+1 from then until the next turn begins."""

    host: str
    start_s: float
    empty_s: float
    back_s: float
    keeps_reserve: bool = True


@dataclass(frozen=True, kw_only=True)
class RollingTerms:
    """What the plan was asked for. `left`: hosts, and `unprotected`: UUIDs of VMs, of which the
    plan says itself that their turn never comes, that they would find no room as it is;
    `most_away`: hosts whose turn may be under way at once, None: any number; `limits`: of moves in
    flight, leaving aside which hosts leave."""

    cluster: str
    service_s: float
    left: frozenset[str] = frozenset()
    unprotected: frozenset[str] = frozenset()
    keeps_reserve: bool = True
    most_away: int | None = None
    limits: Terms = field(default_factory=lambda: Terms(leaving=frozenset()))


def rolling_violations(
    document: Document, turns: Sequence[HostTurn], moves: Sequence[Move], terms: RollingTerms
) -> list[str]:
    """Everything that this rolling plan would break, in the order of time; empty if nothing."""
    world = World(document, terms.limits)
    found = [*nonsense(world, moves), *_odd_turns(world, turns, terms)]
    if found:
        return found
    replay = _Replay(world, terms)
    for at_ms, events in groupby(_events(turns, moves), key=lambda event: event[0]):
        words = [one for _, kind, what in events for one in replay.take(kind, what)]
        found += [f"at {at_ms / 1000:.2f} s: {one}" for one in (*words, *replay.without_reserve())]
    return [*found, *torn(world)]


def _odd_turns(world: World, turns: Sequence[HostTurn], terms: RollingTerms) -> Iterator[str]:
    """Turns that nobody asked for, do not come, or are too short."""
    due = {
        host.name
        for host in world.document.hosts
        if host.cluster == terms.cluster and host.mode == "available"
    } - terms.left
    names = [turn.host for turn in turns]
    yield from (f"{name} has no turn" for name in sorted(due.difference(names)))
    yield from (f"{name} has a turn, and should have none" for name in sorted({*names} - due))
    yield from (f"{name} has several turns" for name in sorted(due) if names.count(name) > 1)
    for turn in turns:
        if not 0 <= turn.start_s <= turn.empty_s:
            yield f"{turn.host} would be empty at {turn.empty_s} s, and begin at {turn.start_s} s"
        if _ms(turn.back_s) <= _ms(turn.start_s):
            yield f"{turn.host} would be back within a millisecond"
        if round(turn.back_s - turn.empty_s, 3) < terms.service_s:
            yield f"{turn.host} is away for less than {terms.service_s} s"


def _events(
    turns: Sequence[HostTurn], moves: Sequence[Move]
) -> list[tuple[int, int, Move | HostTurn]]:
    """What happens, in time (in milliseconds, finer than any plan), at one instant in the order
    in which one makes room for the next."""
    events: list[tuple[int, int, Move | HostTurn]] = []
    for move in moves:
        events += [(_ms(move.end_s), _END, move), (_ms(move.start_s), _START, move)]
    for turn in turns:
        events += [(_ms(turn.start_s), _BEGIN, turn), (_ms(turn.empty_s), _EMPTY, turn)]
        events.append((_ms(turn.back_s), _BACK, turn))
    return sorted(events, key=lambda event: event[:2])


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


class _Replay:
    """The cluster at one instant: who is where, which hosts have their turn, and for each host who
    would go where if it were lost."""

    def __init__(self, world: World, terms: RollingTerms) -> None:
        self._world = world
        self._terms = terms
        self._out: set[str] = set()
        self._promise = terms.keeps_reserve
        self._changed = {
            host.name for host in world.document.hosts if host.cluster == terms.cluster
        }
        self._rescue = Rescue(world, terms.cluster, [])
        self._free: Free = {}
        # Of the host that would be lost: what its VMs would take on which others.
        self._taken: dict[str, Free] = {}
        self._unprotected = {world.places[uuid] for uuid in terms.unprotected}

    def take(self, kind: int, what: Move | HostTurn) -> list[str]:
        """Let something happen; what it breaks by that."""
        if isinstance(what, Move):
            self._changed |= {what.source, what.target}
            if kind == _END:
                self._world.end(what)
                return []
            away = [f"{what.target} is away" for _ in {what.target} & self._out]
            return [*away, *self._world.start(what)]
        self._changed.add(what.host)
        if kind == _BACK:
            self._out.discard(what.host)
            return []
        return list(self._begun(what) if kind == _BEGIN else self._emptied(what))

    def _begun(self, turn: HostTurn) -> Iterator[str]:
        self._out.add(turn.host)
        self._promise = self._terms.keeps_reserve and turn.keeps_reserve
        most = self._terms.most_away
        if most is not None and len(self._out) > most:
            yield f"{len(self._out)} hosts are away, {most} are allowed"

    def _emptied(self, turn: HostTurn) -> Iterator[str]:
        for vm in sorted(self._world.on[turn.host].vms):
            if self._world.is_active(vm):
                yield f"{self._world.name(self._world.vms.uuid[vm])} is still on {turn.host}"

    def without_reserve(self) -> list[str]:
        """The hosts after whose loss at this instant not everybody would find room. Asked again are
        those that something has changed for since they were asked last."""
        changed, self._changed = self._changed, set()
        stale = {name for name in changed if self._world.hosts[name].mode != "maintenance"}
        for name in changed:
            self._free.pop(name, None)
            host = self._world.hosts[name]
            if name not in self._out and host.mode == "available":
                self._free[name] = self._world.free(host)
            stale |= {lost for lost, taken in self._taken.items() if self._lacks(taken, name)}
        if not self._promise:
            # Who keeps none now may promise it later: then all are asked.
            self._changed = changed | stale
            return []
        self._rescue.look(self._free)
        return [
            f"if {lost} were lost, not all of its VMs would find room (N+1)"
            for lost in sorted(stale)
            if not self._survives(lost)
        ]

    def _lacks(self, taken: Free, name: str) -> bool:
        """Whether what is taken on a host is no longer free there."""
        if name not in taken:
            return False
        free, wanted = self._free.get(name, _NOTHING), taken[name]
        return free[0] < wanted[0] or free[1] < wanted[1]

    def _survives(self, lost: str) -> bool:
        """Whether everybody who is only on this host would find room; VMs on their way have a place
        on two."""
        world = self._world
        crew = [
            vm
            for vm in world.on[lost].vms
            if vm not in world.moving and vm not in self._unprotected
        ]
        left = self._rescue.rehoused(lost, crew)
        self._taken.pop(lost, None)
        if left is not None:
            self._taken[lost] = {
                name: (free[0] - left[name][0], free[1] - left[name][1])
                for name, free in self._free.items()
                if name != lost and left[name] != free
            }
        return left is not None
