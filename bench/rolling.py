"""D1, D3, D4: rolling maintenance beside Ganeti's hroller, and plans before the checker.

hroller has no ceiling and no reserve, and has every VM back before the next group; so our plan is
shown twice, by our own rules and by its rules (hosts may be filled, no N+1). Its migrations are
counted both ways, out and back. D4 draws small clusters of all variants, evacuates one or two of
their hosts, puts the moves in time, and has the checker replay every one.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import process_time

from bench.clusters import Recipe, Variant, cluster_document
from bench.figures import Report, Target, median
from bench.hbal import _text as ganeti_text
from furlough.core.policy import Limits, Order
from furlough.planning.board import Board, board_of_file
from furlough.planning.checking import Move, Terms, violations
from furlough.planning.inventory_file import Document, parse
from furlough.planning.packing import Packing, evacuate
from furlough.planning.rolling import RollingPlan, Rules, roll
from furlough.planning.scheduling import Schedule
from furlough.planning.timetable import timetable

RUNS = 5
SEED = 3
_COLUMNS = ("plan", "migrations", "per VM", "waves", "fullest", "N+1 broken", "CPU s")


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """A rolling plan and what it cost, the median of several runs."""

    plan: RollingPlan
    vms: int
    cpu_s: float

    def row(self, name: str) -> Sequence[str]:
        waves = self.plan.waves
        return (
            name,
            str(self.plan.migrations),
            f"{self.plan.migrations / self.vms:.3f}",
            str(len(waves)),
            f"{max(wave.fullest for wave in waves):.3f}",
            str(sum(not wave.keeps_reserve for wave in waves)),
            f"{self.cpu_s:.3f}",
        )


@dataclass(frozen=True, kw_only=True)
class Peer:
    """What hroller says: groups, moves out of hosts, and the CPU seconds it took."""

    groups: int
    moves: int
    cpu_s: float


def rolling_small() -> Report:
    """D1: 64 hosts with 1,000 VMs, ceiling 0.9, N+1, first waves of 4 and 8."""
    eight = _rolled(_board(64, 1_000, 0.9), Rules(first_width=8))
    four = _rolled(_board(64, 1_000, 0.9), Rules(first_width=4))
    filled = _board(64, 1_000, 1.0)
    same = _rolled(filled, Rules(first_width=18, keeps_reserve=False))
    rows = [
        eight.row("furlough, first wave 8, N+1"),
        four.row("furlough, first wave 4, N+1"),
        same.row("furlough, hroller's rules, first wave 18"),
        *_peer_rows(filled),
    ]
    broken = sum(not wave.keeps_reserve for wave in eight.plan.waves)
    return Report(
        id="D1",
        title="rolling maintenance of 64 hosts with 1,000 VMs",
        columns=_COLUMNS,
        rows=rows,
        targets=[
            _target("migrations over the bound", eight.plan.migrations / eight.plan.bound, 1.01),
            _target("waves, first wave 8", len(eight.plan.waves), 8),
            _target("waves that break N+1", broken, 0),
            _target("hosts left out", len(eight.plan.left), 0),
        ],
        notes=_notes(),
        figures={"rows": [list(row) for row in rows], "bound": eight.plan.bound},
    )


def rolling_large() -> Report:
    """D3: 1,000 hosts with 20,000 VMs, first wave of 32; the time from the board to the plan."""
    ours = _rolled(_board(1_000, 20_000, 0.9), Rules(first_width=32))
    filled = _board(1_000, 20_000, 1.0)
    same = _rolled(filled, Rules(first_width=250, keeps_reserve=False))
    rows = [
        ours.row("furlough, first wave 32, N+1"),
        same.row("furlough, hroller's rules, first wave 250"),
        *_peer_rows(filled),
    ]
    return Report(
        id="D3",
        title="rolling maintenance of 1,000 hosts with 20,000 VMs",
        columns=_COLUMNS,
        rows=rows,
        targets=[
            _target("CPU", ours.cpu_s, 2, "s"),
            _target("migrations per VM", ours.plan.migrations / ours.vms, 1.02),
            _target("hosts left out", len(ours.plan.left), 0),
        ],
        notes=_notes(),
        figures={"rows": [list(row) for row in rows], "bound": ours.plan.bound},
    )


def checked_plans(clusters: int = 10_000) -> Report:
    """D4: what the checker says of so many plans for clusters drawn from seeds."""
    moves = unplaced = stuck = detours = 0
    found: list[str] = []
    for seed in range(clusters):
        trial = _trial(seed)
        moves += len(trial.schedule.moves)
        unplaced += len(trial.packing.unplaced)
        stuck += len(trial.schedule.stuck)
        detours += sum(move.is_detour for move in trial.schedule.moves)
        found += [f"seed {seed}: {words}" for words in trial.broken]
    rows = [
        ("clusters", str(clusters)),
        ("moves replayed", str(moves)),
        ("of these, over a third host", str(detours)),
        ("VMs listed as unplaced", str(unplaced)),
        ("VMs for which no moment was found", str(stuck)),
        ("violations", str(len(found))),
    ]
    return Report(
        id="D4",
        title="plans before the independent checker",
        columns=("what", "count"),
        rows=rows,
        targets=[_target("violations", len(found), 0)],
        notes=found[:5],
        figures=dict(rows),
    )


def _target(what: str, measured: float, limit: float, unit: str = "") -> Target:
    return Target(what=what, measured=measured, limit=limit, unit=unit)


def _board(hosts: int, vms: int, ceiling: float) -> Board:
    recipe = Recipe(hosts=hosts, vms=vms, memory_ceiling=ceiling, reserve="n+1")
    return board_of_file(parse(cluster_document(recipe, SEED)))


def _rolled(board: Board, rules: Rules) -> Rolled:
    times, plan = [], None
    for _ in range(RUNS):
        began = process_time()
        plan = roll(board, 0, rules)
        times.append(process_time() - began)
    assert plan is not None
    return Rolled(plan=plan, vms=len(board.vms.uuids), cpu_s=median(times))


# --- hroller --------------------------------------------------------------------------------------


def _notes() -> Sequence[str]:
    ours = "fullest: the fullest host that stays, as a share of what its VMs may take"
    if shutil.which("hroller"):
        return [ours, "hroller does not say how full hosts get nor whether N+1 holds"]
    return [ours, "hroller is not installed (Debian: ganeti-htools): no peer in this run"]


def _peer_rows(board: Board) -> Sequence[Sequence[str]]:
    if not shutil.which("hroller"):
        return []
    peer = _hroller(board)
    both_ways = 2 * peer.moves
    share = both_ways / len(board.vms.uuids)
    return [
        ("hroller", str(both_ways), f"{share:.3f}", str(peer.groups), "-", "-", f"{peer.cpu_s:.3f}")
    ]


def _hroller(board: Board) -> Peer:
    with TemporaryDirectory() as folder:
        source = Path(folder, "cluster")
        source.write_text(ganeti_text(board, board.vms.hosts), encoding="utf-8")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            ["hroller", "-t", source, "--print-moves", "--force"],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = done.stdout.splitlines()
    return Peer(
        groups=sum(bool(re.match(r"host-", line)) for line in lines),
        moves=sum(bool(re.match(r"  \S+ host-", line)) for line in lines),
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


# --- D4 -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Trial:
    packing: Packing
    schedule: Schedule
    broken: list[str]


def _trial(seed: int) -> _Trial:
    """Draw a cluster, evacuate it, and replay the plan."""
    random = Random(f"trial/{seed}")
    hosts = random.randint(3, 10)
    recipe = Recipe(
        hosts=hosts,
        vms=hosts * random.randint(4, 12),
        variant=random.choice(list(Variant)),
        memory_share=random.uniform(0.4, 0.8),
        reserve=random.choice(("none", "n+1")),
        link_mbit_s=random.choice((1_000, 10_000, 25_000, 100_000)),
    )
    document = parse(cluster_document(recipe, seed))
    leaving = random.sample(range(hosts), random.choice((1, 1, 2)))
    slots = random.choice((1, 2, 8))
    limits = Limits(per_source=slots, per_target=slots, per_cluster=random.choice((1, 4, 8)))
    packing = evacuate(board_of_file(document), leaving)
    schedule = timetable(
        packing, limits=limits, order=random.choice(list(Order)), stream_mib_s=3_000.0
    )
    broken = _broken(document, packing, schedule, leaving, limits)
    return _Trial(packing=packing, schedule=schedule, broken=broken)


def _broken(
    document: Document,
    packing: Packing,
    schedule: Schedule,
    leaving: Sequence[int],
    limits: Limits,
) -> list[str]:
    names, uuids = [host.name for host in document.hosts], document.vms.uuid
    moves = [
        Move(
            vm=uuids[move.vm],
            source=names[move.source],
            target=names[move.target],
            start_s=move.start_s,
            end_s=move.end_s,
        )
        for move in schedule.moves
    ]
    staying = [one.vm for one in packing.unplaced] + [job.vm for job in schedule.stuck]
    terms = Terms(
        leaving=frozenset(names[host] for host in leaving),
        staying=frozenset(uuids[vm] for vm in staying),
        per_source=limits.per_source,
        per_target=limits.per_target,
        per_cluster=limits.per_cluster,
        keeps_reserve=not packing.gaps,
    )
    return violations(document, moves, terms)
