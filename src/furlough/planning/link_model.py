"""How migrations share links: each host has one full-duplex link, owned by strict priority.

Whoever started first copies as fast as its source, its target and one stream allow; the next one
gets what is left, maybe nothing, until somebody before it is done.

    set up (no bytes) ─► round 1: memory in use ─► round n: what was written meanwhile ─► pause
                         (as long as the last part) ─► finish (no bytes)

A held handover adds the time in which the source's end is awaited, to the pause and to the whole.
Orders of all plans come from it, and the times of plans from files. How long the moves of live
plans take is told by `core/forecast`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from furlough.core.timing import DOWNTIME_LIMIT_S, FINISH_S, SET_UP_S

_MOST_ROUNDS = 30
# A round that is hardly shorter than the one before: the guest writes as fast as is copied.
_RESTLESS = 0.9


@dataclass(frozen=True, kw_only=True)
class Job:
    """A move that has been decided. Hosts and VM by position. `memory_mib` and `vcpus` are what it
    takes on a host; `sends_mib` what has to be copied at least, at most `working_set_mib` of which
    is written again, `dirty_mib_s` each second (None: nobody measured). `held_s`: what its handover
    adds to the pause."""

    vm: int
    source: int
    target: int
    memory_mib: int
    vcpus: int
    sends_mib: float
    dirty_mib_s: float | None = None
    working_set_mib: float | None = None
    priority: int = 50
    held_s: float = 0.0


@dataclass(kw_only=True)
class Flight:
    """A migration under way. `left_mib` of the present round of `round_mib`, which began to be
    copied at `round_s`; `event` counts what was foreseen for it, so that a later foresight makes
    an earlier one void."""

    job: Job
    start_s: float
    is_detour: bool
    most_mib_s: float
    left_mib: float
    round_mib: float
    round_s: float = 0.0
    rounds: int = 1
    is_last: bool = False
    rate_mib_s: float = 0.0
    since_s: float = 0.0
    sent_mib: float = 0.0
    pause_s: float = 0.0
    end_s: float = 0.0
    event: int = 0

    @property
    def downtime_ms(self) -> int:
        return round(1000 * (self.pause_s + self.job.held_s)) + 100


class Links:
    """The links of all hosts, and the migrations on them, at `now_s`. `restless`: VMs that write
    about as fast as they are copied."""

    def __init__(self, link_mib_s: Sequence[float], stream_mib_s: float) -> None:
        self.restless: set[int] = set()
        self._link = [float(rate) for rate in link_mib_s]
        self._stream = stream_mib_s
        self.now_s = 0.0
        self._events: list[tuple[float, int, int]] = []
        self._flights: dict[int, Flight] = {}
        self._copying: dict[int, Flight] = {}
        self._begun = 0
        self._wanted_out = [0.0] * len(self._link)
        self._wanted_in = [0.0] * len(self._link)

    @property
    def is_busy(self) -> bool:
        return bool(self._flights)

    def gives_more(self, source: int) -> bool:
        """Whether a link has a use for one more migration out of its host: as many as fill it, and
        one that is set up meanwhile."""
        return self._wanted_out[source] < self._filled(source)

    def takes_more(self, target: int) -> bool:
        """The same for one more into its host."""
        return self._wanted_in[target] < self._filled(target)

    def _filled(self, host: int) -> float:
        return self._link[host] + min(self._stream, self._link[host])

    def begin(self, job: Job, *, is_detour: bool) -> None:
        """Start a migration now."""
        most = min(self._link[job.source], self._link[job.target], self._stream)
        flight = Flight(
            job=job,
            start_s=self.now_s,
            is_detour=is_detour,
            most_mib_s=most,
            left_mib=job.sends_mib,
            round_mib=job.sends_mib,
        )
        self._wanted_out[job.source] += most
        self._wanted_in[job.target] += most
        self._begun += 1
        self._flights[self._begun] = flight
        self._foresee(self._begun, flight, self.now_s + SET_UP_S)

    def advance(self, until_s: float = math.inf) -> list[Flight]:
        """Let time pass until at least one migration is over, or this moment has come; those that
        are over then."""
        over: list[Flight] = []
        while not over:
            if until_s < (self._events[0][0] if self._events else math.inf):
                self.now_s = until_s
                break
            self.now_s = self._events[0][0]
            while self._events and self._events[0][0] <= self.now_s:
                _, number, event = heapq.heappop(self._events)
                flight = self._flights.get(number)
                if flight is not None and flight.event == event:
                    over += self._come_about(number, flight)
        return over

    def _come_about(self, number: int, flight: Flight) -> list[Flight]:
        """What was foreseen for a migration happens: it is set up, a round is over, or all is."""
        if flight.end_s:
            del self._flights[number]
            return [flight]
        if number not in self._copying:
            self._copying[number] = flight
            self._share_out()
            return []
        flight.sent_mib += flight.round_mib
        if flight.is_last:
            self._let_go(number, flight)
            return []
        self._next_round(number, flight)
        return []

    def _next_round(self, number: int, flight: Flight) -> None:
        """What the guest wrote while the last round was copied is the next one, and the last one if
        it fits into the pause."""
        job, length_s = flight.job, self.now_s - flight.round_s
        working_set_mib = job.sends_mib if job.working_set_mib is None else job.working_set_mib
        rewritten_mib = min(working_set_mib, (job.dirty_mib_s or 0.0) * length_s)
        flight.is_last = (
            rewritten_mib <= DOWNTIME_LIMIT_S * flight.rate_mib_s or flight.rounds >= _MOST_ROUNDS
        )
        if flight.rounds > 1 and rewritten_mib > _RESTLESS * flight.round_mib:
            self.restless.add(job.vm)
        flight.rounds += 1
        flight.round_mib = flight.left_mib = rewritten_mib
        flight.round_s = flight.since_s = self.now_s
        if flight.is_last:
            flight.pause_s = rewritten_mib / flight.rate_mib_s
        self._foresee(number, flight, self.now_s + rewritten_mib / flight.rate_mib_s)

    def _let_go(self, number: int, flight: Flight) -> None:
        """Everything is copied: the link is the next one's, and only the finish is left."""
        del self._copying[number]
        self._wanted_out[flight.job.source] -= flight.most_mib_s
        self._wanted_in[flight.job.target] -= flight.most_mib_s
        flight.end_s = self.now_s + FINISH_S + flight.job.held_s
        self._foresee(number, flight, flight.end_s)
        self._share_out()

    def _share_out(self) -> None:
        """Give the links to those who copy, in the order in which they started."""
        free_out: dict[int, float] = {}
        free_in: dict[int, float] = {}
        for number in sorted(self._copying):
            flight = self._copying[number]
            source, target = flight.job.source, flight.job.target
            out = free_out.get(source, self._link[source])
            into = free_in.get(target, self._link[target])
            rate = min(out, into, flight.most_mib_s)
            free_out[source], free_in[target] = out - rate, into - rate
            if rate != flight.rate_mib_s:
                self._set_rate(number, flight, rate)

    def _set_rate(self, number: int, flight: Flight, rate: float) -> None:
        flight.left_mib -= flight.rate_mib_s * (self.now_s - flight.since_s)
        if flight.left_mib >= flight.round_mib:
            flight.round_s = self.now_s  # nothing of this round was sent so far
        flight.rate_mib_s, flight.since_s = rate, self.now_s
        left_s = max(0.0, flight.left_mib) / rate if rate > 0 else math.inf
        self._foresee(number, flight, self.now_s + left_s)

    def _foresee(self, number: int, flight: Flight, at_s: float) -> None:
        flight.event += 1
        if at_s < math.inf:
            heapq.heappush(self._events, (at_s, number, flight.event))
