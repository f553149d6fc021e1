"""Rolling maintenance in time: when each host is emptied, serviced, and back.

    decide ─► emptying: its VMs leave over the links ─► service ─► back: it takes VMs for good
       ▲                                                              │
       └── waves: when all are back; pipeline: the moment one is ─────┘

Both move the same way (see `rolling`): the first hosts land on hosts whose turn is yet to come,
all others on hosts that are serviced. Waves are easy to follow, and wait for the slowest host each
time. The pipeline never waits: whenever a host comes back it looks who can be emptied onto what is
free now. Room is taken when a host's turn begins, for all of its VMs at once; so ceiling and N+1
that hold then hold at every instant until the next turn begins.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from furlough.core.policy import Limits
from furlough.planning.board import Board
from furlough.planning.rolling import Departure, Rolling, RollingPlan, Rules, least_migrations
from furlough.planning.scheduling import NO_LIMITS, Run, Terms, TimedMove
from furlough.planning.timetable import apart_on, job_of, seats_of, sites_of

# Who is emptied next, with hosts that must not be yet: theirs may still arrive.
_Choice = Callable[[frozenset[int]], tuple[Sequence[Departure], bool]]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """`service_s`: how long each host is away once it is empty; `limits` of migrations in flight;
    `stream_mib_s`: what one migration can move."""

    service_s: float = 600.0
    limits: Limits = field(default_factory=lambda: NO_LIMITS)
    stream_mib_s: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One host's turn, in seconds from the start of the plan: from `start_s` it takes nobody and is
    emptied by these moves, by `empty_s` it is empty and serviced, at `back_s` it takes VMs again.
    `keeps_reserve`: the VMs of any host that stays would find room all the while."""

    host: int
    moves: tuple[TimedMove, ...]
    start_s: float
    empty_s: float
    back_s: float
    keeps_reserve: bool


@dataclass(frozen=True, kw_only=True)
class TimedRolling:
    """All turns, by their start. `left` and `unprotected` as in `RollingPlan`; `bound`: with as
    many hosts in the first wave no plan that empties every host has fewer migrations; `bound_s`:
    none of any kind is over sooner, since hosts can be away together only as far as the memory of
    all others holds all VMs."""

    turns: tuple[Turn, ...]
    left: tuple[tuple[int, int], ...]
    unprotected: tuple[int, ...]
    migrations: int
    bound: int
    makespan_s: float
    bound_s: float


def timed_waves(board: Board, cluster: int, plan: RollingPlan, pace: Pace) -> TimedRolling:
    """The waves of a plan one after the other: the next begins when all hosts of one are back."""
    waves = iter(plan.waves)
    line = _Line(board, pace)

    def next_wave(_not_yet: frozenset[int]) -> tuple[Sequence[Departure], bool]:
        wave = None if line.is_under_way else next(waves, None)
        if wave is None:
            return (), True
        return [
            Departure(host=host, moves=[move for move in wave.moves if move[1] == host])
            for host in wave.hosts
        ], wave.keeps_reserve

    line.run(next_wave, lambda _hosts: None)
    return line.outcome(cluster, plan.left, plan.unprotected, plan.bound)


def pipelined(board: Board, cluster: int, rules: Rules, pace: Pace) -> TimedRolling:
    """A plan of its own, without waves: whenever hosts come back, the next are emptied. `rules`:
    `most_width` is how many hosts may be away at once, those that are being emptied among them."""
    rolling = Rolling(board, cluster)
    counts = [len(rolling.on[host]) for host in rolling.due]
    rolling.find_unprotected()
    line = _Line(board, pace)
    first = 0

    def next_hosts(not_yet: frozenset[int]) -> tuple[Sequence[Departure], bool]:
        nonlocal first
        most = None if rules.most_width is None else max(0, rules.most_width - len(rolling.away))
        if not line.turns:
            most = rules.first_width
        departures, keeps = rolling.depart(rules, most, not_yet=not_yet)
        first = first or len(departures)
        return departures, keeps

    line.run(next_hosts, rolling.come_back)
    left, unprotected = tuple(rolling.left), tuple(sorted(rolling.unprotected))
    return line.outcome(cluster, left, unprotected, least_migrations(counts, first))


@dataclass(kw_only=True)
class _Open:
    """A turn that is not over. `waits_for`: VMs that have not left yet."""

    departure: Departure
    start_s: float
    keeps_reserve: bool
    waits_for: set[int]
    moves: list[TimedMove] = field(default_factory=list)


class _Line:
    """What is under way: hosts that are being emptied, hosts in service."""

    def __init__(self, board: Board, pace: Pace) -> None:
        apart = apart_on(board)
        terms = Terms(
            limits=pace.limits,
            stream_mib_s=pace.stream_mib_s,
            apart=apart,
            seats=seats_of(board, apart),
        )
        self.turns: list[Turn] = []
        self._board = board
        self._pace = pace
        self._run = Run(sites_of(board), terms)
        self._seen = 0
        self._emptying: dict[int, _Open] = {}
        self._returns: list[tuple[float, int]] = []

    @property
    def is_under_way(self) -> bool:
        return bool(self._emptying or self._returns)

    def run(self, choose: _Choice, tell_back: Callable[[Sequence[int]], None]) -> None:
        """Begin turns whenever hosts are back, until nobody is left to be emptied."""
        self._begin(choose)
        while self.is_under_way:
            self._run.begin_all()
            self._run.pass_time(self._returns[0][0] if self._returns else math.inf)
            self._note_departed()
            back = self._hosts_back()
            if back:
                tell_back(back)
                self._begin(choose)

    def _begin(self, choose: _Choice) -> None:
        now_s = round(self._run.links.now_s, 2)
        awaited = {move[2] for one in self._emptying.values() for move in one.departure.moves}
        departures, keeps = choose(frozenset(awaited))
        for one in departures:
            self._emptying[one.host] = _Open(
                departure=one,
                start_s=now_s,
                keeps_reserve=keeps,
                waits_for={vm for vm, _, _ in one.moves},
            )
            self._end_if_empty(one.host, now_s)
        self._run.add([job_of(self._board, *move) for one in departures for move in one.moves])

    def _note_departed(self) -> None:
        """Moves that are over; a host that nobody is on any more goes into service."""
        fresh, self._seen = self._run.moves[self._seen :], len(self._run.moves)
        for move in fresh:
            turn = self._emptying[move.source]
            turn.waits_for.remove(move.vm)
            turn.moves.append(move)
            self._end_if_empty(move.source, max(one.end_s for one in turn.moves))

    def _end_if_empty(self, host: int, empty_s: float) -> None:
        turn = self._emptying[host]
        if turn.waits_for:
            return
        del self._emptying[host]
        back_s = round(empty_s + self._pace.service_s, 2)
        heapq.heappush(self._returns, (back_s, host))
        self.turns.append(
            Turn(
                host=host,
                moves=tuple(turn.moves),
                start_s=turn.start_s,
                empty_s=empty_s,
                back_s=back_s,
                keeps_reserve=turn.keeps_reserve,
            )
        )

    def _hosts_back(self) -> list[int]:
        back = []
        while self._returns and self._returns[0][0] <= self._run.links.now_s:
            back.append(heapq.heappop(self._returns)[1])
        return back

    def outcome(
        self,
        cluster: int,
        left: tuple[tuple[int, int], ...],
        unprotected: tuple[int, ...],
        bound: int,
    ) -> TimedRolling:
        """What has come of it all."""
        turns = sorted(self.turns, key=lambda turn: (turn.start_s, turn.empty_s, turn.host))
        return TimedRolling(
            turns=tuple(turns),
            left=left,
            unprotected=unprotected,
            migrations=sum(len(turn.moves) for turn in turns),
            bound=bound,
            makespan_s=max((turn.back_s for turn in turns), default=0.0),
            bound_s=_least_s(self._board, cluster, turns, self._pace),
        )


def _least_s(board: Board, cluster: int, turns: Sequence[Turn], pace: Pace) -> float:
    """While hosts are serviced the memory of all others holds all VMs. So memory times time that
    is away is at most what is free at one instant times the length of the whole."""
    if not turns:
        return 0.0
    hosts, vms = board.hosts, board.vms
    usable = hosts.is_open & (hosts.clusters == cluster)
    room_mib = np.where(usable, hosts.memory_mib - hosts.held_memory_mib, 0).clip(min=0)
    used_mib = int(vms.memory_mib[vms.is_on & usable[vms.hosts]].sum())
    free_mib = int(room_mib.sum()) - used_mib
    away_mib = int(room_mib[[turn.host for turn in turns]].sum())
    area_s = pace.service_s * away_mib / free_mib if free_mib > 0 else 0.0
    return round(max(pace.service_s, area_s), 2)
