"""How live migrations go that share links: what is expected of each, and of all.

    waiting ──a slot──► set up ──► round 1: memory in use ──► round n: what was written meanwhile
                                                                 │ fits into the downtime limit
                               the slot is free ◄── finish ◄── pause: the rest is sent

Links are owned by strict priority, as `bandwidth` has it: whoever began first copies as fast as its
links and one stream allow, the next one gets what that leaves, or a trickle. A guest that rewrites
more than half of what was sent is throttled, more with every such round, as the hypervisor is asked
to.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from furlough.core.bandwidth import STREAM_MIB_S, TRICKLE_MIB_S
from furlough.core.ids import ClusterName, HostName
from furlough.core.policy import Limits
from furlough.core.timing import DOWNTIME_LIMIT_S

MOST_ROUNDS = 100
# A little over a half, so that a half is none.
_TOO_MUCH = 0.5 + 1e-9
_THROTTLE_FIRST, _THROTTLE_MORE, _THROTTLE_MOST = 0.2, 0.1, 0.99
_FASTER, _HARDLY_BEGUN = 2.0, 0.5
_NOTHING_MIB = 1e-6
_NOTHING_S = 1e-9
_NO_LIMITS: Mapping[ClusterName, Limits] = {}


@dataclass(frozen=True, kw_only=True)
class Move:
    """One migration. `memory_mib` is sent at first; `dirty_mib_s` is rewritten each second, at most
    `working_set_mib`. `pace`: what it gets of its part of the links, 1 if they carry what they
    should; `stream_mib_s`: what it moves at most however wide they are. `set_up_s` and `finish_s`
    send nothing; the finish ends the pause of the guest. `after`: places of the moves that must be
    over before."""

    source: HostName
    target: HostName
    cluster: ClusterName
    memory_mib: float
    dirty_mib_s: float = 0.0
    working_set_mib: float = math.inf
    pace: float = 1.0
    stream_mib_s: float = STREAM_MIB_S
    set_up_s: float = 0.0
    finish_s: float = 0.0
    after: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a migration is expected to go, in seconds since all of them might begin. `pause_s` is
    without the finish."""

    start_s: float
    end_s: float
    pause_s: float
    sent_mib: float


def forecast(
    moves: Sequence[Move],
    link_mib_s: Mapping[HostName, float],
    limits: Mapping[ClusterName, Limits] = _NO_LIMITS,
) -> list[Course]:
    """The course of each of these, which begin in their order as far as the limits of their
    clusters allow (none where a cluster has none)."""
    return _Run(moves, link_mib_s, limits).courses()


@dataclass(eq=False)
class _Flight:
    """A migration under way; times are absolute."""

    number: int
    move: Move
    start_s: float
    copies_from_s: float
    left_mib: float
    round_mib: float
    round_s: float
    rounds: int = 1
    throttle: float = 0.0
    is_pause: bool = False
    pause_s: float = 0.0
    sent_mib: float = 0.0
    rate_mib_s: float = 0.0
    end_s: float = math.inf

    def is_copying(self, now_s: float) -> bool:
        return self.copies_from_s <= now_s and self.end_s == math.inf


@dataclass(eq=False)
class _Run:
    """Time passing, from one moment at which something changes to the next."""

    moves: Sequence[Move]
    link_mib_s: Mapping[HostName, float]
    limits: Mapping[ClusterName, Limits]
    now_s: float = 0.0
    flights: list[_Flight] = field(default_factory=list)
    waiting: list[tuple[int, Move]] = field(default_factory=list)
    done: dict[int, Course] = field(default_factory=dict)

    def courses(self) -> list[Course]:
        """Of all, once they are over."""
        self.waiting = list(enumerate(self.moves))
        self._begin()
        while self.flights:
            self._pass_time()
        return [self.done[number] for number in range(len(self.moves))]

    def _begin(self) -> None:
        """Start whoever has a slot, in their order."""
        out = Counter(one.move.source for one in self.flights)
        into = Counter(one.move.target for one in self.flights)
        within = Counter(one.move.cluster for one in self.flights)
        still = []
        for number, move in self.waiting:
            limits = self.limits.get(move.cluster)
            if any(one not in self.done for one in move.after):
                still.append((number, move))
                continue
            if limits is not None and (
                out[move.source] >= max(1, limits.per_source)
                or into[move.target] >= max(1, limits.per_target)
                or within[move.cluster] >= max(1, limits.per_cluster)
            ):
                still.append((number, move))
                continue
            out[move.source] += 1
            into[move.target] += 1
            within[move.cluster] += 1
            self.flights.append(self._flight(number, move))
        self.waiting = still

    def _flight(self, number: int, move: Move) -> _Flight:
        copies_from_s = self.now_s + move.set_up_s
        return _Flight(
            number=number,
            move=move,
            start_s=self.now_s,
            copies_from_s=copies_from_s,
            left_mib=move.memory_mib,
            round_mib=move.memory_mib,
            round_s=copies_from_s,
        )

    def _pass_time(self) -> None:
        """To the next moment at which a migration begins to copy, ends a round, or is over."""
        copying = [one for one in self.flights if one.is_copying(self.now_s)]
        rates = self._rates(copying)
        moments = [one.left_mib / rates[one.number] + self.now_s for one in copying]
        moments += [
            one.copies_from_s if one.end_s == math.inf else one.end_s
            for one in self.flights
            if one.number not in rates
        ]
        before_s, self.now_s = self.now_s, max(self.now_s, min(moments))
        for one in copying:
            rate = rates[one.number]
            moved = min(one.left_mib, rate * (self.now_s - before_s))
            one.left_mib -= moved
            one.sent_mib += moved
            # Late in a long forecast, the rest of a round may be too short to be a later moment.
            is_instant = self.now_s + one.left_mib / rate <= self.now_s
            if is_instant or one.left_mib <= max(_NOTHING_MIB, rate * _NOTHING_S):
                self._end_round(one, rate)
        self._let_go()

    def _rates(self, copying: Sequence[_Flight]) -> dict[int, float]:
        """MiB/s of each that copies: its pace times what those before it leave of its links."""
        free_out, free_into = dict(self.link_mib_s), dict(self.link_mib_s)
        rates = {}
        for one in sorted(copying, key=lambda one: one.number):
            source, target = one.move.source, one.move.target
            rate = min(free_out[source], free_into[target], one.move.stream_mib_s)
            rates[one.number] = one.move.pace * max(TRICKLE_MIB_S, rate)
            free_out[source] -= rate
            free_into[target] -= rate
            self._let_loose(one, rates[one.number])
        return rates

    def _let_loose(self, one: _Flight, rate: float) -> None:
        """One that has waited at a trickle had hardly anything copied that can be rewritten."""
        if rate > _FASTER * one.rate_mib_s and one.left_mib > _HARDLY_BEGUN * one.round_mib:
            one.round_s = self.now_s
        one.rate_mib_s = rate

    def _end_round(self, one: _Flight, rate: float) -> None:
        """The next round is what was rewritten in this one, and the last if it fits the pause."""
        move, took_s = one.move, self.now_s - one.round_s
        if one.is_pause:
            one.pause_s = took_s
            one.end_s = self.now_s + move.finish_s
            return
        written = move.dirty_mib_s * took_s * (1 - one.throttle)
        rest = min(move.working_set_mib, move.memory_mib, written)
        if rest > _TOO_MUCH * one.round_mib:
            more = one.throttle + _THROTTLE_MORE if one.throttle else _THROTTLE_FIRST
            one.throttle = min(_THROTTLE_MOST, more)
        one.is_pause = rest / rate <= DOWNTIME_LIMIT_S or one.rounds >= MOST_ROUNDS
        one.rounds += 1
        one.left_mib = one.round_mib = rest
        one.round_s = self.now_s

    def _let_go(self) -> None:
        """Slots of those that are over are free for others."""
        over = [one for one in self.flights if one.end_s <= self.now_s]
        for one in over:
            self.done[one.number] = Course(
                start_s=one.start_s, end_s=one.end_s, pause_s=one.pause_s, sent_mib=one.sent_mib
            )
        if over:
            self.flights = [one for one in self.flights if one.end_s > self.now_s]
            self._begin()
