"""Scheduling: when each of some chosen moves starts, and how long it takes.

    waiting ──(room, rules, slots, a link to fill)──► set up ──► copying, round by round
       ▲                                                             │ the rest fits the pause
       └── parked on a third host, where moves wait for each other ──┴──► finish ──► over

A move starts as soon as everything allows it: its target has room (it is reserved there, and
kept on the source until the move is over), no VM it must be kept apart from is there, slots are
free, and the links of both hosts would not be filled by those in flight already, plus one that is
set up in their shadow. Among those that may start, the host with most left to send comes first,
and on it the largest VM, which bounds the tail.

Links are full duplex and owned by strict priority: whoever started first copies as fast as its
source, its target and one stream allow, the next one gets what is left. Sharing a link would
make every VM write the same pages again and again while it waits for its part.

The outcome is at once the order and the estimate. Everything is counted in the positions of
columns (see `board`), so that thousands of moves cost little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from furlough.core.policy import Limits, Order
from furlough.core.timing import FINISH_S, SET_UP_S, Range
from furlough.planning.link_model import Job, Links

NO_LIMITS = Limits(per_source=2**31, per_target=2**31, per_cluster=2**31)
# What an estimate may be wrong by, even where everything was measured.
_MARGIN = 0.1
# VMs of which nobody knows how much they write: half of their bytes again.
_UNMEASURED = 0.5


@dataclass(frozen=True, kw_only=True)
class Sites:
    """The hosts, in columns: what each has left at the start (below zero if overfull), what its
    link carries in MiB/s, its cluster by position."""

    room_memory_mib: Sequence[int]
    room_vcpus: Sequence[int]
    link_mib_s: Sequence[float]
    clusters: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a schedule has to keep. `stream_mib_s` is what one migration can move however wide the
    link. `apart`: VMs that must never meet on a host, `seats` where those of them that run are now.
    `may_park` says whether a VM may stay on a third host for a while, whatever its room."""

    limits: Limits = NO_LIMITS
    order: Order = Order.SCHEDULE
    stream_mib_s: float = math.inf
    apart: Sequence[Sequence[int]] = ()
    seats: Mapping[int, int] = field(default_factory=dict)
    may_park: Callable[[int, int], bool] = lambda _vm, _host: False


@dataclass(frozen=True, kw_only=True)
class TimedMove:
    """One migration of the schedule. `is_detour`: the target is a third host, where the VM waits
    until its own target can take it."""

    vm: int
    source: int
    target: int
    start_s: float
    duration_s: float
    downtime_ms: int
    sent_mib: int
    is_detour: bool = False

    @property
    def end_s(self) -> float:
        return round(self.start_s + self.duration_s, 2)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """All moves by their start. `stuck`: the jobs for which no moment was found, since each waits
    for another and nowhere is room to park one. `bound_s`: no schedule can be shorter, by the
    bytes over the busiest link and the largest VM over one stream. `eta` with the reasons why it
    is as wide as it is."""

    moves: tuple[TimedMove, ...]
    stuck: tuple[Job, ...]
    makespan_s: float
    bound_s: float
    eta: Range
    reasons: tuple[str, ...]


def schedule(jobs: Sequence[Job], sites: Sites, terms: Terms) -> Schedule:
    """Put these jobs, at most one per VM, in time."""
    run = Run(sites, terms)
    run.add(jobs)
    run.begin_all()
    while run.is_under_way:
        run.pass_time()
        run.begin_all()
    makespan_s = max((move.end_s for move in run.moves), default=0.0)
    bound_s = round(least_time_s(jobs, sites, terms.stream_mib_s), 2)
    eta, reasons = _eta(run, jobs, makespan_s, bound_s)
    return Schedule(
        moves=tuple(sorted(run.moves, key=lambda move: (move.start_s, move.vm))),
        stuck=tuple(run.waiting_jobs()),
        makespan_s=makespan_s,
        bound_s=bound_s,
        eta=eta,
        reasons=tuple(reasons),
    )


def least_time_s(jobs: Sequence[Job], sites: Sites, stream_mib_s: float) -> float:
    """Memory over the busiest link, or the largest VM over one stream, and one set-up that nothing
    can hide."""
    if not jobs:
        return 0.0
    leaving: dict[int, float] = {}
    coming: dict[int, float] = {}
    for job in jobs:
        leaving[job.source] = leaving.get(job.source, 0.0) + job.sends_mib
        coming[job.target] = coming.get(job.target, 0.0) + job.sends_mib
    sums = [*leaving.items(), *coming.items()]
    busiest_s = max(mib / sites.link_mib_s[host] for host, mib in sums)
    longest_s = max(job.sends_mib / _rate(job, sites, stream_mib_s) for job in jobs)
    return max(busiest_s, longest_s) + SET_UP_S + FINISH_S


def _rate(job: Job, sites: Sites, stream_mib_s: float) -> float:
    """What a job can move if it has both links for itself."""
    return min(sites.link_mib_s[job.source], sites.link_mib_s[job.target], stream_mib_s)


def _eta(
    run: Run, jobs: Sequence[Job], makespan_s: float, bound_s: float
) -> tuple[Range, list[str]]:
    """From what cannot be beaten to what is likely not exceeded."""
    if not run.moves:
        return Range(low=0.0, high=0.0), []
    reasons = [f"links and guests vary: {_MARGIN:.0%} on top"]
    slack_s = _MARGIN * makespan_s + SET_UP_S + FINISH_S
    unmeasured = [job for job in jobs if job.dirty_mib_s is None]
    if unmeasured:
        share = sum(job.sends_mib for job in unmeasured) / max(
            1.0, sum(job.sends_mib for job in jobs)
        )
        slack_s += _UNMEASURED * share * makespan_s
        reasons.append(f"nobody measured how much {len(unmeasured)} VM(s) write")
    if run.links.restless:
        reasons.append(
            f"{len(run.links.restless)} VM(s) write about as fast as can be copied, and may need "
            "throttling or post-copy"
        )
        slack_s += 0.5 * makespan_s
    if any(move.is_detour for move in run.moves):
        reasons.append("some VMs wait on a third host until theirs has room")
    low_s = min(bound_s, makespan_s)
    return Range(low=round(low_s, 1), high=round(makespan_s + slack_s, 1)), reasons


class Run:
    """The schedule while it is being made: who waits, who is in flight, who holds what."""

    def __init__(self, sites: Sites, terms: Terms) -> None:
        self.moves: list[TimedMove] = []
        self.links = Links(sites.link_mib_s, terms.stream_mib_s)
        self._sites = sites
        self._terms = terms
        self._memory = list(sites.room_memory_mib)
        self._vcpus = list(sites.room_vcpus)
        self._waiting: dict[int, list[Job]] = {}
        self._left_out: dict[int, float] = {}
        self._left_in: dict[int, float] = {}
        self._outgoing: dict[int, int] = {}
        self._incoming: dict[int, int] = {}
        self._in_cluster: dict[int, int] = {}
        self._detours: set[int] = set()
        self._onward: dict[int, Job] = {}
        self._company = _Company(terms)
        # How urgent the hosts are whose jobs wait, as far as it is known; and by target, the hosts
        # of which that speaks because their next job goes there.
        self._urgencies: dict[int, tuple[float, float, int]] = {}
        self._next_to: dict[int, set[int]] = {}
        # One host of each cluster that anybody leaves.
        self._one_of_each: dict[int, int] = {}

    def add(self, jobs: Sequence[Job]) -> None:
        """Have these wait for their start too. A VM of which a job is not over yet must not come
        again."""
        for job in sorted(jobs, key=_rank):
            self._one_of_each[self._sites.clusters[job.source]] = job.source
            self._enqueue(job)

    @property
    def is_under_way(self) -> bool:
        return self.links.is_busy

    def waiting_jobs(self) -> list[Job]:
        return [job for source in sorted(self._waiting) for job in self._waiting[source]]

    def begin_all(self) -> None:
        """Start whatever may start now; park somebody where otherwise nothing would ever move."""
        while not self._is_full() and self._begin_some():
            pass
        if not self.links.is_busy:
            self._park_one()

    def pass_time(self, until_s: float = math.inf) -> None:
        """Go to the next moment at which a move is over, or to this one if that comes first."""
        for one in self.links.advance(until_s):
            job = one.job
            self._memory[job.source] += job.memory_mib
            self._vcpus[job.source] += job.vcpus
            self._outgoing[job.source] -= 1
            self._incoming[job.target] -= 1
            self._in_cluster[self._sites.clusters[job.source]] -= 1
            self._company.leave(job.vm, job.source)
            if one.is_detour:
                self._enqueue(self._onward.pop(job.vm))
            start_s = round(one.start_s, 2)
            self.moves.append(
                TimedMove(
                    vm=job.vm,
                    source=job.source,
                    target=job.target,
                    start_s=start_s,
                    duration_s=round(round(one.end_s, 2) - start_s, 2),
                    downtime_ms=one.downtime_ms,
                    sent_mib=round(one.sent_mib),
                    is_detour=one.is_detour,
                )
            )

    def _begin_some(self) -> bool:
        """One move from each host that may start one, or the one that is next in order; whether
        anything started."""
        if self._terms.order is Order.MEMORY:
            queues = [sorted(self.waiting_jobs(), key=_rank)]
        else:
            queues = [self._waiting[source] for source in self._most_urgent_first()]
        has_begun = False
        for queue in queues:
            if self._is_full():
                break
            job = self._next_of(queue)
            if job is not None:
                self._dequeue(job)
                self._begin(job, is_detour=False)
                has_begun = True
        return has_begun

    def _is_full(self) -> bool:
        """Whether every cluster has as many in flight as it may have."""
        return not any(map(self._has_slot, self._one_of_each.values()))

    def _next_of(self, queue: Sequence[Job]) -> Job | None:
        """The first of these that may begin. Where all leave one host and that may send no more by
        now, none needs to be asked."""
        if self._terms.order is Order.SCHEDULE and not self._may_send(queue[0].source):
            return None
        return next((one for one in queue if self._may_begin(one)), None)

    def _most_urgent_first(self) -> list[int]:
        """The hosts that have somebody to send. Asked at every event, so what has not changed since
        is remembered."""
        known = self._urgencies
        for source in self._waiting.keys() - known.keys():
            known[source] = self._urgency(source)
        return sorted(self._waiting, key=known.__getitem__)

    def _urgency(self, source: int) -> tuple[float, float, int]:
        """Sort key: first the hosts with most to send over their own link, or whose next target has
        most to receive over its link; among those, the ones with most of their own."""
        rates = self._sites.link_mib_s
        target = self._waiting[source][0].target
        self._next_to.setdefault(target, set()).add(source)
        own_s = self._left_out[source] / rates[source]
        return -max(own_s, self._left_in[target] / rates[target]), -own_s, source

    def _forget_urgencies(self, job: Job) -> None:
        """Those in which this job counts, before or after it has come or gone."""
        self._urgencies.pop(job.source, None)
        for source in self._next_to.pop(job.target, ()):
            self._urgencies.pop(source, None)

    def _may_begin(self, job: Job) -> bool:
        most = max(1, self._terms.limits.per_target)
        return (
            self._incoming.get(job.target, 0) < most
            and self.links.takes_more(job.target)
            and self._may_send(job.source)
            and self._fits(job, job.target)
        )

    def _may_send(self, source: int) -> bool:
        """Whether slots and link allow one more migration out of a host."""
        most = max(1, self._terms.limits.per_source)
        return (
            self._outgoing.get(source, 0) < most
            and self._has_slot(source)
            and self.links.gives_more(source)
        )

    def _has_slot(self, host: int) -> bool:
        """Whether the cluster of a host may have one more in flight."""
        in_flight = self._in_cluster.get(self._sites.clusters[host], 0)
        return in_flight < max(1, self._terms.limits.per_cluster)

    def _fits(self, job: Job, host: int) -> bool:
        return (
            job.memory_mib <= self._memory[host]
            and job.vcpus <= self._vcpus[host]
            and self._company.is_welcome(job.vm, host)
        )

    def _begin(self, job: Job, *, is_detour: bool) -> None:
        self._memory[job.target] -= job.memory_mib
        self._vcpus[job.target] -= job.vcpus
        self._outgoing[job.source] = self._outgoing.get(job.source, 0) + 1
        self._incoming[job.target] = self._incoming.get(job.target, 0) + 1
        cluster = self._sites.clusters[job.source]
        self._in_cluster[cluster] = self._in_cluster.get(cluster, 0) + 1
        self._company.join(job.vm, job.target)
        self.links.begin(job, is_detour=is_detour)

    def _park_one(self) -> None:
        """Break a ring of moves that wait for each other: the cheapest VM whose leaving would let
        another one come goes to a third host, and from there to its target later. Each VM does so
        once at most."""
        wanted = {job.target for job in self.waiting_jobs()}
        for job in sorted(self.waiting_jobs(), key=lambda job: (job.sends_mib, job.vm)):
            if job.source not in wanted or job.vm in self._detours:
                continue
            place = self._parking_place(job)
            if place is not None:
                self._dequeue(job)
                self._detours.add(job.vm)
                self._begin(replace(job, target=place), is_detour=True)
                self._onward[job.vm] = replace(job, source=place)
                return

    def _parking_place(self, job: Job) -> int | None:
        """The host with most room where this VM may wait."""
        places = [
            host
            for host in range(len(self._memory))
            if host not in (job.source, job.target)
            and self._fits(job, host)
            and self._terms.may_park(job.vm, host)
        ]
        return max(places, key=lambda host: (self._memory[host], -host), default=None)

    def _enqueue(self, job: Job) -> None:
        self._forget_urgencies(job)
        self._waiting.setdefault(job.source, []).append(job)
        self._left_out[job.source] = self._left_out.get(job.source, 0.0) + job.sends_mib
        self._left_in[job.target] = self._left_in.get(job.target, 0.0) + job.sends_mib

    def _dequeue(self, job: Job) -> None:
        self._forget_urgencies(job)
        queue = self._waiting[job.source]
        queue.remove(job)
        if not queue:
            del self._waiting[job.source]
        self._left_out[job.source] -= job.sends_mib
        self._left_in[job.target] -= job.sends_mib


def _rank(job: Job) -> tuple[int, int, int]:
    """The largest first; equal ones by who matters more."""
    return (-job.memory_mib, -job.priority, job.vm)


class _Company:
    """Who stands on which host, of those VMs that must not meet. On its way a VM stands on both."""

    def __init__(self, terms: Terms) -> None:
        self._groups: dict[int, list[int]] = {}
        self._on: dict[tuple[int, int], set[int]] = {}
        for group, members in enumerate(terms.apart):
            for vm in members:
                self._groups.setdefault(vm, []).append(group)
        for vm, host in terms.seats.items():
            self.join(vm, host)

    def is_welcome(self, vm: int, host: int) -> bool:
        return all(self._on.get((group, host), set()) <= {vm} for group in self._groups.get(vm, ()))

    def join(self, vm: int, host: int) -> None:
        for group in self._groups.get(vm, ()):
            self._on.setdefault((group, host), set()).add(vm)

    def leave(self, vm: int, host: int) -> None:
        for group in self._groups.get(vm, ()):
            self._on.get((group, host), set()).discard(vm)
