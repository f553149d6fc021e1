"""What if these hosts were emptied: the answer to that from an inventory file alone.

    Document ─► board ─► packing ─► timetable ─► WhatIf ─► JSON, table, pictures

VMs whose policy keeps them where they are stay, and are listed as unplaced with that reason, as are
those that fit nowhere. VMs that are off stay too, and nobody has to be told: a host is empty when
nothing runs on it. Nothing here knows a clock: times count from the start of the plan.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from furlough.core.load_after import LoadAfter
from furlough.core.policy import Limits, Order
from furlough.core.timing import Range
from furlough.errors import NotFound
from furlough.planning.board import Board, FloatArray, IntArray, board_of_file
from furlough.planning.inventory_file import Document
from furlough.planning.packing import Packing, evacuate
from furlough.planning.scheduling import Schedule, TimedMove
from furlough.planning.timetable import timetable
from furlough.planning.unplaced import StayingVm, staying_vms

_SHOWN_HOSTS = 8


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the plan is asked for. `targets`: the only hosts that may take VMs, none: all that are
    available; `limits`: of migrations in flight, by default those of clusters; `is_polished`:
    an exact search (the extra `solver`) tries to better the placement."""

    hosts: tuple[str, ...]
    targets: tuple[str, ...] = ()
    order: Order = Order.SCHEDULE
    limits: Limits = field(default_factory=Limits)
    is_polished: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """One live migration. Steps of one `wave` overlap in time, and each step of a later one starts
    after some step of the wave before is over. `is_detour`: the target is a third host, where the
    VM waits until its own has room."""

    vm_uuid: str
    vm_name: str
    source: str
    target: str
    wave: int
    start_s: float
    duration_s: float
    downtime_ms: int
    is_detour: bool

    @property
    def end_s(self) -> float:
        return round(self.start_s + self.duration_s, 2)


@dataclass(frozen=True, kw_only=True)
class HostLoad:
    """The memory that VMs take on a host, as a share of what they may take there."""

    host: str
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """The plan. `bound_s`, `bound_migrations`: no plan can be below; `loads`: of all hosts of the
    clusters concerned; `broken`: VMs by the rule that had to give; `gaps`: by host, the VMs that
    would find no room if it were lost afterwards too (N+1)."""

    taken_at: datetime
    wishes: Wishes
    steps: tuple[Step, ...]
    unplaced: tuple[StayingVm, ...]
    makespan_s: float
    eta: Range
    eta_reasons: tuple[str, ...]
    bound_s: float
    bound_migrations: int
    loads: tuple[HostLoad, ...]
    load_after: LoadAfter
    broken: Mapping[str, tuple[str, ...]]
    gaps: Mapping[str, tuple[str, ...]]

    @property
    def hash(self) -> str:
        """SHA-256 of what is decided: who goes where in which order, and who stays."""
        steps = [[one.vm_uuid, one.source, one.target, one.wave] for one in self.steps]
        decided = [self.wishes.hosts, steps, [one.vm_uuid for one in self.unplaced]]
        return hashlib.sha256(json.dumps(decided, separators=(",", ":")).encode()).hexdigest()

    @property
    def id(self) -> str:
        """A short name, the same for equal plans."""
        return f"plan-{self.hash[:12]}"

    def content(self) -> dict[str, object]:
        """The plan as JSON has it: what a plan of live hosts has, and what only we can know."""
        return {
            "id": self.id,
            "hash": self.hash,
            "hosts": list(self.wishes.hosts),
            "steps": [_step_content(step) for step in self.steps],
            "unplaced": [
                {"vm_uuid": one.vm_uuid, "vm_name": one.vm_name, "why": one.why,
                 "reasons": {host: list(words) for host, words in one.reasons.items()}}
                for one in self.unplaced
            ],
            "eta_s": {"low": self.eta.low, "high": self.eta.high},
            "eta_reasons": list(self.eta_reasons),
            "makespan_s": self.makespan_s,
            "bounds": {"makespan_s": self.bound_s, "migrations": self.bound_migrations},
            "migrations": len(self.steps),
            "load_after": {"max": self.load_after.max, "sd": self.load_after.sd},
            "loads": [
                {"host": one.host, "before": one.before, "after": one.after} for one in self.loads
            ],
            "broken_rules": {rule: list(vms) for rule, vms in self.broken.items()},
            "reserve_gaps": {host: list(vms) for host, vms in self.gaps.items()},
            "taken_at": self.taken_at.isoformat(),
        }  # fmt: skip


def what_if(document: Document, wishes: Wishes) -> WhatIf:
    """The plan that empties these hosts. `NotFound` where the file has no such host."""
    hosts = tuple(dict.fromkeys(wishes.hosts))
    _check_known(document, (*hosts, *wishes.targets))
    board = board_of_file(document)
    leaving = board.places(hosts)
    packing = evacuate(board, leaving, targets=_open_targets(board, wishes))
    if wishes.is_polished:
        packing = _polished(packing, leaving)
    schedule = timetable(packing, limits=wishes.limits, order=wishes.order)
    seats = _seats(packing, schedule)
    loads = loads_of((board, board.vms.hosts), (board, seats), leaving)
    return WhatIf(
        taken_at=document.taken_at,
        wishes=replace(wishes, hosts=hosts),
        steps=tuple(_steps(board, schedule.moves)),
        unplaced=tuple(staying_vms(document, packing, schedule, leaving)),
        makespan_s=schedule.makespan_s,
        eta=schedule.eta,
        eta_reasons=(*schedule.reasons, _limits_in_words(wishes.limits)),
        bound_s=schedule.bound_s,
        bound_migrations=packing.bounds.migrations,
        loads=loads,
        load_after=load_of_the_rest(loads, hosts),
        broken={
            rule: tuple(board.vms.names[vm] for vm in vms) for rule, vms in packing.broken.items()
        },
        gaps={
            board.hosts.names[gap.lost]: tuple(board.vms.names[vm] for vm in gap.vms)
            for gap in packing.gaps
        },
    )


def _polished(packing: Packing, leaving: Sequence[int]) -> Packing:
    # Only who asks for it pays for what it loads.
    from furlough.planning.polishing import polish  # noqa: PLC0415

    return polish(packing, leaving)


def _open_targets(board: Board, wishes: Wishes) -> Sequence[int] | None:
    if not wishes.targets:
        return None
    return [place for place in board.places(wishes.targets) if board.hosts.is_open[place]]


def _check_known(document: Document, names: Iterable[str]) -> None:
    known = [host.name for host in document.hosts]
    unknown = [name for name in names if name not in known]
    if unknown:
        some = ", ".join(known[:_SHOWN_HOSTS]) + (", …" if len(known) > _SHOWN_HOSTS else "")
        raise NotFound(
            "host.unknown",
            f"There is no host {unknown[0]!r} in this inventory file.",
            remedy=f"It has {len(known)} host(s): {some}." if known else "It has no hosts at all.",
        )


def _limits_in_words(limits: Limits) -> str:
    return (
        f"at once at most {limits.per_source} migrations leave a host, {limits.per_target} arrive "
        f"on one, and {limits.per_cluster} are in flight in a cluster"
    )


def _seats(packing: Packing, schedule: Schedule) -> IntArray:
    """Where everybody is when the last move is over."""
    seats = packing.seats.copy()
    for job in schedule.stuck:
        seats[job.vm] = job.source
    return seats


# --- steps ---------------------------------------------------------------------------------------


def _steps(board: Board, moves: Sequence[TimedMove]) -> Iterable[Step]:
    """The moves by their start, each with its wave."""
    waves = waves_of([(move.start_s, move.end_s) for move in moves])
    names = board.hosts.names
    for move, wave in zip(moves, waves, strict=True):
        yield Step(
            vm_uuid=board.vms.uuids[move.vm],
            vm_name=board.vms.names[move.vm],
            source=names[move.source],
            target=names[move.target],
            wave=wave,
            start_s=move.start_s,
            duration_s=move.duration_s,
            downtime_ms=move.downtime_ms,
            is_detour=move.is_detour,
        )


def waves_of(spans: Sequence[tuple[float, float]]) -> list[int]:
    """The wave of each span (start, end), which come by their start: one more than the highest
    wave of a span that is over by then. So spans of one wave overlap."""
    waves: list[int] = []
    # The first end of each wave: once that is over, the next wave may be begun.
    first_ends: list[float] = []
    for start_s, end_s in spans:
        # They rise: who is in a wave starts after the first end of the wave before.
        wave = bisect_right(first_ends, start_s)
        if wave == len(first_ends):
            first_ends.append(end_s)
        else:
            first_ends[wave] = min(first_ends[wave], end_s)
        waves.append(wave)
    return waves


def _step_content(step: Step) -> dict[str, object]:
    return {
        "vm_uuid": step.vm_uuid,
        "vm_name": step.vm_name,
        "method": "live",
        "source": step.source,
        "target": step.target,
        "wave": step.wave,
        "start_s": step.start_s,
        "duration_s": step.duration_s,
        "downtime_ms": step.downtime_ms,
        "is_detour": step.is_detour,
    }


# --- load ----------------------------------------------------------------------------------------


def loads_of(
    now: tuple[Board, IntArray], then: tuple[Board, IntArray], leaving: Sequence[int]
) -> tuple[HostLoad, ...]:
    """The load of the hosts of the clusters concerned, before and after: each a board of the same
    hosts and VMs, and where its VMs are."""
    board = now[0]
    is_concerned = np.zeros(len(board.clusters), dtype=np.bool_)
    is_concerned[board.hosts.clusters[list(leaving)]] = True
    before, after = _load(*now), _load(*then)
    return tuple(
        HostLoad(
            host=board.hosts.names[place],
            before=round(float(before[place]), 4),
            after=round(float(after[place]), 4),
        )
        for place in np.flatnonzero(is_concerned[board.hosts.clusters]).tolist()
    )


def _load(board: Board, seats: IntArray) -> FloatArray:
    taken_mib = np.bincount(
        seats, weights=board.vms.memory_mib * board.vms.is_on, minlength=len(board.hosts.names)
    )
    load: FloatArray = taken_mib / np.maximum(1, board.hosts.memory_mib)
    return load


def load_of_the_rest(loads: Iterable[HostLoad], leaving: Sequence[str]) -> LoadAfter:
    """Of the hosts that stay."""
    after = np.array([one.after for one in loads if one.host not in leaving])
    if not len(after):
        return LoadAfter(max=0.0, sd=0.0)
    return LoadAfter(max=round(float(after.max()), 4), sd=round(float(after.std()), 4))
