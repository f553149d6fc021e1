"""Rolling maintenance of a whole cluster, told in names: which hosts are away when, who moves
before that, and what no plan could do with less.

    Document ─► board ─► rolling, rolling_pipeline ─► RollingWaves ─► JSON, table

With `hroller_rules` the ceiling is 1 and nothing is kept for a host that is lost: the rules of
Ganeti's hroller, for comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from furlough.core.policy import Limits, Reserve
from furlough.errors import NotFound
from furlough.planning.board import Board, board_of_file
from furlough.planning.inventory_file import Document
from furlough.planning.rolling import Rules, roll
from furlough.planning.rolling_pipeline import Pace, TimedRolling, Turn, pipelined, timed_waves
from furlough.planning.scheduling import TimedMove


@dataclass(frozen=True, kw_only=True)
class RollingWishes:
    """What is asked for. `width`: hosts of the first wave; later ones are as wide as there is
    room; `most_away`: hosts whose turn may be under way at once, None: any number; `is_pipeline`:
    no waves, but the next hosts are emptied the moment one is back; `service_s`: how long each host
    is away once it is empty; `limits`: of migrations in flight, by default those that clusters
    have."""

    cluster: str
    width: int = 1
    most_away: int | None = None
    hroller_rules: bool = False
    is_pipeline: bool = False
    service_s: float = 600.0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class NamedMove:
    """One migration; `start_s` counts from the start of the plan."""

    vm_uuid: str
    vm_name: str
    source: str
    target: str
    start_s: float
    duration_s: float
    downtime_ms: int


@dataclass(frozen=True, kw_only=True)
class NamedTurn:
    """One host: from `start_s` it is emptied, by `empty_s` it is and is serviced, at `back_s` it
    takes VMs again; seconds from the start of the plan."""

    host: str
    start_s: float
    empty_s: float
    back_s: float
    keeps_reserve: bool
    moves: tuple[NamedMove, ...]


@dataclass(frozen=True, kw_only=True)
class NamedWave:
    """Hosts whose turns begin together. `fullest`: the memory load of the fullest host that stays,
    once they are empty; `keeps_reserve`: the VMs of any of those would find room on the others."""

    turns: tuple[NamedTurn, ...]
    fullest: float

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(turn.host for turn in self.turns)

    @property
    def moves(self) -> tuple[NamedMove, ...]:
        return tuple(move for turn in self.turns for move in turn.moves)

    @property
    def keeps_reserve(self) -> bool:
        return all(turn.keeps_reserve for turn in self.turns)

    @property
    def start_s(self) -> float:
        return self.turns[0].start_s

    @property
    def end_s(self) -> float:
        return max(turn.back_s for turn in self.turns)


@dataclass(frozen=True, kw_only=True)
class RollingWaves:
    """The plan. `left`: hosts whose turn never comes, with the VM that finds no other host;
    `unprotected`: UUIDs and names of VMs that would find no room if their host were lost now;
    `bound`: no plan with such a first wave has fewer migrations; `bound_s`: none at all is over
    sooner."""

    wishes: RollingWishes
    waves: tuple[NamedWave, ...]
    left: tuple[tuple[str, str], ...]
    unprotected: tuple[tuple[str, str], ...]
    migrations: int
    bound: int
    makespan_s: float
    bound_s: float

    @property
    def turns(self) -> tuple[NamedTurn, ...]:
        return tuple(turn for wave in self.waves for turn in wave.turns)

    def content(self) -> dict[str, object]:
        """The plan as JSON has it."""
        return {
            "cluster": self.wishes.cluster,
            "width": self.wishes.width,
            "most_away": self.wishes.most_away,
            "hroller_rules": self.wishes.hroller_rules,
            "pipeline": self.wishes.is_pipeline,
            "service_s": self.wishes.service_s,
            "waves": [_wave_content(wave) for wave in self.waves],
            "left": [{"host": host, "vm_name": vm} for host, vm in self.left],
            "unprotected": [name for _, name in self.unprotected],
            "migrations": self.migrations,
            "makespan_s": self.makespan_s,
            "bounds": {"migrations": self.bound, "makespan_s": self.bound_s},
        }


def _wave_content(wave: NamedWave) -> dict[str, object]:
    return {
        "hosts": list(wave.hosts),
        "start_s": wave.start_s,
        "end_s": wave.end_s,
        "turns": [
            {"host": turn.host, "start_s": turn.start_s, "empty_s": turn.empty_s,
             "back_s": turn.back_s}
            for turn in wave.turns
        ],
        "moves": [
            {"vm_uuid": move.vm_uuid, "vm_name": move.vm_name, "source": move.source,
             "target": move.target, "start_s": move.start_s, "duration_s": move.duration_s,
             "downtime_ms": move.downtime_ms}
            for move in wave.moves
        ],
        "fullest": wave.fullest,
        "keeps_reserve": wave.keeps_reserve,
    }  # fmt: skip


def rolling_waves(document: Document, wishes: RollingWishes) -> RollingWaves:
    """The plan for all available hosts of a cluster. `NotFound` where the file has none of that
    name."""
    names = [one.name for one in document.clusters]
    if wishes.cluster not in names:
        raise NotFound(
            "cluster.unknown",
            f"There is no cluster {wishes.cluster!r} in this inventory file.",
            remedy=f"It has: {', '.join(names) or 'none'}.",
        )
    at = names.index(wishes.cluster)
    board = board_of_file(ruled(document, wishes))
    rules = Rules(
        first_width=wishes.width,
        most_width=wishes.most_away,
        keeps_reserve=_keeps(document, wishes),
    )
    pace = Pace(service_s=wishes.service_s, limits=wishes.limits)
    if wishes.is_pipeline:
        plan = pipelined(board, at, rules, pace)
    else:
        plan = timed_waves(board, at, roll(board, at, rules), pace)
    return _named(board, at, plan, wishes)


def ruled(document: Document, wishes: RollingWishes) -> Document:
    """The document by whose limits such a plan is made."""
    if not wishes.hroller_rules:
        return document
    clusters = [replace(one, memory_ceiling=1.0) for one in document.clusters]
    return replace(document, clusters=clusters)


def _keeps(document: Document, wishes: RollingWishes) -> bool:
    """Whether N+1 has to be kept."""
    asked = any(
        one.name == wishes.cluster and one.reserve == Reserve.N_PLUS_1 for one in document.clusters
    )
    return asked and not wishes.hroller_rules


def _named(board: Board, cluster: int, plan: TimedRolling, wishes: RollingWishes) -> RollingWaves:
    hosts, vms = board.hosts.names, board.vms
    waves = [list(turns) for _, turns in groupby(plan.turns, key=lambda turn: turn.start_s)]
    return RollingWaves(
        wishes=wishes,
        waves=tuple(
            NamedWave(turns=tuple(_turn(board, turn) for turn in turns), fullest=fullest)
            for turns, fullest in zip(waves, _fullest(board, cluster, waves), strict=True)
        ),
        left=tuple((hosts[host], vms.names[vm]) for host, vm in plan.left),
        unprotected=tuple((vms.uuids[vm], vms.names[vm]) for vm in plan.unprotected),
        migrations=plan.migrations,
        bound=plan.bound,
        makespan_s=plan.makespan_s,
        bound_s=plan.bound_s,
    )


def _turn(board: Board, turn: Turn) -> NamedTurn:
    return NamedTurn(
        host=board.hosts.names[turn.host],
        start_s=turn.start_s,
        empty_s=turn.empty_s,
        back_s=turn.back_s,
        keeps_reserve=turn.keeps_reserve,
        moves=tuple(_move(board, move) for move in turn.moves),
    )


def _move(board: Board, move: TimedMove) -> NamedMove:
    return NamedMove(
        vm_uuid=board.vms.uuids[move.vm],
        vm_name=board.vms.names[move.vm],
        source=board.hosts.names[move.source],
        target=board.hosts.names[move.target],
        start_s=move.start_s,
        duration_s=move.duration_s,
        downtime_ms=move.downtime_ms,
    )


def _fullest(board: Board, cluster: int, waves: Sequence[Sequence[Turn]]) -> Iterator[float]:
    """After the moves of each wave, how full the fullest host is that is not away then."""
    hosts, vms = board.hosts, board.vms
    weights = vms.memory_mib * vms.is_on
    taken = np.bincount(vms.hosts, weights=weights, minlength=len(hosts.names))
    taken += hosts.held_memory_mib
    back_s = np.zeros(len(hosts.names))
    for turns in waves:
        for turn in turns:
            back_s[turn.host] = turn.back_s
            for move in turn.moves:
                taken[move.source] -= weights[move.vm]
                taken[move.target] += weights[move.vm]
        stays = hosts.is_open & (hosts.clusters == cluster) & (back_s <= turns[0].start_s)
        load = (taken / np.maximum(1, hosts.memory_mib))[stays]
        yield round(float(load.max(initial=0.0)), 4)
