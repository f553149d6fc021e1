"""D1, D2, D3: rolling maintenance beside Ganeti's hroller: how many moves, and how long.

hroller has no ceiling and no reserve, and has every VM back before the next group; so our plan is
shown twice, by our own rules and by its rules (hosts may be filled, no N+1). Its migrations are
counted both ways, out and back. D2 puts the same plans in time, by waves and as a pipeline, with
ten minutes of service for each host; the checker replays each of them.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

from bench.clusters import Recipe, cluster_document
from bench.figures import Report, Target, median
from bench.hbal import _text as ganeti_text
from furlough.cli.rolling import violations_of
from furlough.core.policy import Limits
from furlough.planning.board import Board, board_of_file
from furlough.planning.inventory_file import Document, parse
from furlough.planning.rolling import RollingPlan, Rules, roll
from furlough.planning.rolling_plan import RollingWaves, RollingWishes, rolling_waves
from furlough.planning.scheduling import NO_LIMITS

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
    peer = _hroller(filled)
    rows = [
        eight.row("furlough, first wave 8, N+1"),
        four.row("furlough, first wave 4, N+1"),
        same.row("furlough, hroller's rules, first wave 18"),
        *_peer_rows(filled, peer),
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
        peers=_peer_figures(peer),
        figures={"rows": [list(row) for row in rows], "bound": eight.plan.bound},
    )


def rolling_in_time() -> Report:
    """D2: the plans of D1 over links of 25 Gb/s. Without limits of migrations in flight, which
    hroller does not know; and with those that clusters have by default."""
    eight = RollingWishes(cluster="bench", width=8, limits=NO_LIMITS)
    filled = RollingWishes(cluster="bench", width=18, limits=NO_LIMITS, hroller_rules=True)
    document = _document(64, 1_000, 0.9)
    timed: dict[str, tuple[RollingWaves, int]] = {}
    for name, wishes in (("N+1, first wave 8", eight), ("hroller's rules, first wave 18", filled)):
        for limits, in_flight in ((NO_LIMITS, ""), (Limits(), ", limits 2, 2, 8")):
            for is_pipeline, kind in ((False, "waves"), (True, "pipeline")):
                asked = replace(wishes, limits=limits, is_pipeline=is_pipeline)
                plan = rolling_waves(document, asked)
                timed[f"{kind}, {name}{in_flight}"] = plan, len(violations_of(document, plan))
    rows = [
        (name, str(plan.migrations), str(len(plan.waves)), f"{plan.makespan_s / 3600:.3f}",
         f"{plan.bound_s / 3600:.3f}", str(broken))
        for name, (plan, broken) in timed.items()
    ]  # fmt: skip
    kept, same = (timed[f"pipeline, {name}"][0] for name in (
        "N+1, first wave 8", "hroller's rules, first wave 18"
    ))  # fmt: skip
    unkept = sum(not turn.keeps_reserve for turn in kept.turns)
    return Report(
        id="D2",
        title="how long rolling maintenance of 64 hosts takes, 10 minutes for each",
        columns=("plan", "migrations", "starts", "hours", "bound", "violations"),
        rows=rows,
        targets=[
            _target("N+1 kept, ceiling 0.9", kept.makespan_s / 3600, 1.3, "h"),
            _target("hroller's rules", same.makespan_s / 3600, 0.76, "h"),
            _target("turns that break N+1", unkept, 0),
            _target("violations", sum(broken for _, broken in timed.values()), 0),
        ],
        notes=["bound: by memory and time alone; starts: moments at which turns begin"],
        figures={"rows": [list(row) for row in rows]},
    )


def rolling_large() -> Report:
    """D3: 1,000 hosts with 20,000 VMs, first wave of 32; the time from the board to the plan."""
    ours = _rolled(_board(1_000, 20_000, 0.9), Rules(first_width=32))
    filled = _board(1_000, 20_000, 1.0)
    same = _rolled(filled, Rules(first_width=250, keeps_reserve=False))
    peer = _hroller(filled)
    rows = [
        ours.row("furlough, first wave 32, N+1"),
        same.row("furlough, hroller's rules, first wave 250"),
        *_peer_rows(filled, peer),
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
        peers=_peer_figures(peer),
        figures={"rows": [list(row) for row in rows], "bound": ours.plan.bound},
    )


def _target(what: str, measured: float, limit: float, unit: str = "") -> Target:
    return Target(what=what, measured=measured, limit=limit, unit=unit)


def _board(hosts: int, vms: int, ceiling: float) -> Board:
    return board_of_file(_document(hosts, vms, ceiling))


def _document(hosts: int, vms: int, ceiling: float) -> Document:
    recipe = Recipe(hosts=hosts, vms=vms, memory_ceiling=ceiling, reserve="n+1")
    return parse(cluster_document(recipe, SEED))


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


def _peer_figures(peer: Peer | None) -> dict[str, float]:
    if peer is None:
        return {}
    return {
        "hroller migrations": 2 * peer.moves,
        "hroller groups": peer.groups,
        "hroller CPU s": round(peer.cpu_s, 2),
    }


def _peer_rows(board: Board, peer: Peer | None) -> Sequence[Sequence[str]]:
    if peer is None:
        return []
    both_ways = 2 * peer.moves
    share = both_ways / len(board.vms.uuids)
    return [
        ("hroller", str(both_ways), f"{share:.3f}", str(peer.groups), "-", "-", f"{peer.cpu_s:.3f}")
    ]


def _hroller(board: Board) -> Peer | None:
    """What it says of this cluster; None where it is not installed."""
    if not shutil.which("hroller"):
        return None
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
