"""A1 to A7: how fast VMs are placed, and how well, beside hbal and CP-SAT where installed.

    A1, A3, A4   the whole command `furlough plan --inventory`, from its start to printed JSON
    A2, A7       four of 64 hosts on twenty seeds: load, and hbal's own score
    A5           distance to CP-SAT's bound
    A6           fragmented clusters: hosts that CP-SAT proves can be emptied

Each function returns a report. CPU seconds count, of the whole process where a target says so; on a
machine that does other work they come out higher than on a quiet one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import cast

import numpy as np

from bench import exact, hbal
from bench.clusters import Recipe, Row, Variant, cluster_document
from bench.figures import Report, Target, median
from furlough.planning import inventory_file
from furlough.planning.board import Board, IntArray, board_of_file
from furlough.planning.packing import Packing, evacuate

_RUNS = 5
_SEEDS = range(1, 21)
# A process counts the memory of the one it was forked from as its own peak: so a small one starts
# the command, and says what it used.
_LAUNCHER = """
import json, os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(pid, 0)
usage = {"cpu_s": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024}
sys.stderr.write(json.dumps(usage))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def a1() -> Report:
    """One of 1,000 hosts with 20,000 VMs."""
    return _whole("A1", "one of 1,000 hosts", Recipe(hosts=1000, vms=20_000), 1, 0.5, 100)


def a3() -> Report:
    """Sixty of 1,000 hosts with 20,000 VMs."""
    return _whole("A3", "60 of 1,000 hosts", Recipe(hosts=1000, vms=20_000), 60, 1.0, None)


def a4() -> Report:
    """One of 5,000 hosts with 30,000 VMs, and one in twenty."""
    recipe = Recipe(hosts=5000, vms=30_000)
    one = _whole("A4", "one of 5,000 hosts", recipe, 1, 3.0, None)
    many = _whole("A4", "250 of 5,000 hosts", recipe, 250, 10.0, None)
    return Report(
        id="A4",
        title="5,000 hosts and 30,000 VMs",
        columns=one.columns,
        rows=[*one.rows, *many.rows],
        targets=[*one.targets, *many.targets],
        figures={"one": one.figures, "many": many.figures},
    )


def _whole(
    name: str, what: str, recipe: Recipe, leaving: int, limit_s: float, limit_mib: float | None
) -> Report:
    document = cluster_document(recipe, seed=1)
    hosts = [str(host["name"]) for host in cast("list[Row]", document["hosts"])[:leaving]]
    with TemporaryDirectory() as folder:
        path = Path(folder, "inventory.json")
        path.write_text(json.dumps(document), encoding="utf-8")
        # Once for nothing: an installed command finds its modules compiled.
        runs = [_command(path, hosts) for _ in range(1 + _RUNS)][1:]
    cpu_s, mib = median([one["cpu_s"] for one in runs]), median([one["mib"] for one in runs])
    targets = [Target(what=f"{what}, whole command", measured=cpu_s, limit=limit_s, unit="CPU s")]
    if limit_mib is not None:
        targets.append(Target(what="peak memory", measured=mib, limit=limit_mib, unit="MiB"))
    counts = [f"{runs[0][key]:.0f}" for key in ("migrations", "bound", "unplaced")]
    return Report(
        id=name,
        title=what,
        columns=("case", "CPU s", "MiB", "migrations", "bound", "unplaced"),
        rows=[(what, f"{cpu_s:.2f}", f"{mib:.0f}", *counts)],
        targets=targets,
        figures={"runs": runs},
    )


def _command(path: Path, hosts: Sequence[str]) -> dict[str, float]:
    """Run the command as a user does; what it used, and what it says."""
    words = [word for host in hosts for word in ("--host", host)]
    argv = [sys.executable, "-m", "furlough", "plan", "--inventory", str(path), "--json", *words]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(path.parent / "compiled")
    answer = path.with_suffix(".plan")
    with answer.open("wb") as out:
        launched = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, *argv], stdout=out, env=env, check=True,
            stderr=subprocess.PIPE,
        )  # fmt: skip
    used = json.loads(launched.stderr)
    plan = json.loads(answer.read_bytes())
    return {
        **used,
        "migrations": plan["migrations"],
        "bound": plan["bounds"]["migrations"],
        "unplaced": len(plan["unplaced"]),
    }


# --- beside hbal ---------------------------------------------------------------------------------


def a2(seeds: Sequence[int] = _SEEDS) -> Report:
    """Four of 64 hosts: time, and how level the others are."""
    rows, ours_s, peer_s, worse_max, worse_sd = [], [], [], 0, 0
    for seed in seeds:
        ours, cpu_s = _ours(seed)
        most, sd = _load(ours.board, ours.seats)
        ours_s.append(cpu_s)
        row = [str(seed), f"{cpu_s * 1000:.0f}", f"{most:.4f}", f"{sd:.5f}"]
        if hbal.is_installed():
            theirs = _theirs(seed)
            peer_most, peer_sd = _load(ours.board, theirs.seats)
            peer_s.append(theirs.cpu_s)
            worse_max += most > peer_most + 1e-9
            worse_sd += sd > peer_sd + 1e-9
            row += [f"{theirs.cpu_s * 1000:.0f}", f"{peer_most:.4f}", f"{peer_sd:.5f}"]
        rows.append(row)
    targets = []
    if peer_s:
        targets = [
            Target(what="seeds with a larger maximum", measured=worse_max, limit=0, unit="seeds"),
            Target(what="seeds with a larger deviation", measured=worse_sd, limit=0, unit="seeds"),
            Target(
                what="our CPU time as a share of hbal's",
                measured=100 * median(ours_s) / median(peer_s),
                limit=1.0,
                unit="%",
            ),
        ]
    targets.append(
        Target(what="in process", measured=1000 * median(ours_s), limit=50, unit="CPU ms")
    )
    return Report(
        id="A2",
        title="four of 64 hosts, 1,000 VMs",
        columns=("seed", "ms", "max", "sd", "hbal ms", "hbal max", "hbal sd"),
        rows=rows,
        targets=targets,
        peers={"hbal CPU ms": round(1000 * median(peer_s), 1)} if peer_s else {},
        notes=() if peer_s else ("hbal is not installed: nothing is compared",),
    )


def a7(seeds: Sequence[int] = _SEEDS) -> Report:
    """hbal's own score of both placements of A2."""
    rows, lost = [], 0
    for seed in seeds if hbal.is_installed() else ():
        ours, _ = _ours(seed)
        mine = hbal.score(ours.board, ours.seats, _LEAVING)
        theirs = hbal.score(ours.board, _theirs(seed).seats, _LEAVING)
        lost += mine > theirs + 1e-9
        rows.append((str(seed), f"{mine:.5f}", f"{theirs:.5f}", f"{mine / theirs:.3f}"))
    target = Target(
        what="share of seeds that hbal wins", measured=100 * lost / max(1, len(rows)), limit=5,
        unit="%",
    )  # fmt: skip
    return Report(
        id="A7",
        title="hbal's own score, less is better",
        columns=("seed", "ours", "hbal", "ratio"),
        rows=rows,
        targets=[target] if rows else [],
        notes=() if rows else ("hbal is not installed: nothing is compared",),
    )


_LEAVING = range(4)


@lru_cache(maxsize=32)
def _ours(seed: int) -> tuple[Packing, float]:
    board = _board(Recipe(hosts=64, vms=1000), seed)
    evacuate(board, _LEAVING)
    began = process_time()
    packing = evacuate(board, _LEAVING)
    return packing, process_time() - began


@lru_cache(maxsize=32)
def _theirs(seed: int) -> hbal.Answer:
    return hbal.evacuate(_ours(seed)[0].board, _LEAVING)


def _board(recipe: Recipe, seed: int) -> Board:
    return board_of_file(inventory_file.parse(cluster_document(recipe, seed)))


def _load(board: Board, seats: IntArray) -> tuple[float, float]:
    """The largest memory load of the hosts that stay, and the standard deviation."""
    on = board.vms.is_on
    taken = np.bincount(
        seats[on], weights=board.vms.memory_mib[on], minlength=len(board.hosts.names)
    )
    load = np.delete(taken / board.hosts.memory_mib, list(_LEAVING))
    return float(load.max()), float(load.std())


# --- beside CP-SAT -------------------------------------------------------------------------------


def a5(seeds: Sequence[int] = _SEEDS, limit_s: float = 20.0) -> Report:
    """How far above the bound our tension is: CP-SAT's, or the fluid one where that is higher."""
    rows, gaps = [], []
    for hosts, vms in ((16, 200), (64, 1000)) if exact.is_installed() else ():
        for seed in seeds:
            board = _board(Recipe(hosts=hosts, vms=vms), seed)
            packing = evacuate(board, [0])
            bound = max(exact.least_tension(board, [0], limit_s), packing.bounds.tension)
            gap = 100 * (packing.tension / bound - 1)
            gaps.append(gap)
            rows.append((f"{hosts}", f"{seed}", f"{packing.tension:.6f}", f"{gap:.4f}"))
    targets = []
    if gaps:
        targets = [
            Target(what="mean distance", measured=float(np.mean(gaps)), limit=0.1, unit="%"),
            Target(what="worst distance", measured=max(gaps), limit=1.0, unit="%"),
        ]
    return Report(
        id="A5",
        title="distance to the bound",
        columns=("hosts", "seed", "tension", "% above"),
        rows=rows,
        targets=targets,
        notes=() if gaps else ("OR-tools is not installed: nothing is compared",),
        figures={"gaps_percent": gaps},
    )


def a6(seeds: Sequence[int] = range(1, 8)) -> Report:
    """Every host of small fragmented clusters in turn. Where nobody is left and nobody makes room
    there is nothing to prove; the other cases go to CP-SAT."""
    cases, missed, unproven, extra, least = 0, 0, 0, 0, 0.0
    for seed in seeds:
        board = _board(Recipe(hosts=16, vms=200, variant=Variant.FRAGMENTED), seed)
        for host in range(16):
            cases += 1
            packing = evacuate(board, [host])
            if not (packing.unplaced or packing.extra) or not exact.is_installed():
                continue
            proof = exact.least_extra(board, [host])
            unproven += proof.can is None
            missed += bool(proof.can) and bool(packing.unplaced)
            if proof.can and not packing.unplaced:
                extra += len(packing.extra)
                least += proof.value
    share = extra / least if least else 1.0
    return Report(
        id="A6",
        title="fragmented clusters of 16 hosts, each host in turn",
        peers={"CP-SAT extra moves": least} if exact.is_installed() else {},
        columns=("hosts", "missed", "not settled", "extra", "CP-SAT's extra"),
        rows=[(str(cases), str(missed), str(unproven), str(extra), f"{least:.0f}")],
        targets=[
            Target(what="hosts that could be emptied and were not", measured=missed, limit=0,
                   unit="hosts"),
            Target(what="extra moves, as a share of the fewest", measured=share, limit=1.1,
                   unit=""),
        ] if exact.is_installed() else [],
        notes=() if exact.is_installed() else ("OR-tools is not installed: nothing is proved",),
    )  # fmt: skip
