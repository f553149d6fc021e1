"""The course of each benchmark: one line of JSON per run in `bench/history/ID.jsonl`, in the
repository, so that a figure can be seen to rise before it misses its target.

A line says when and at which commit (`+`: with changes that are not in it), what was measured
against which target, what a peer needed in the same run, and on what: processors, Python, and how
many processes wanted a processor when it began (`load`: beyond the number of processors times are
longer than they would be on a quiet machine).
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import Report, table

FOLDER = Path(__file__).parent / "history"
_COLUMNS = ("id", "at", "commit", "what", "figure", "target", "", "peers", "on", "load")


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """When and on what a benchmark was run; taken before it begins. `load`: of the last minute."""

    at: datetime
    commit: str
    processors: int
    python: str
    load: float


def circumstances(now: datetime) -> Circumstances:
    """Those of this process at this time."""
    return Circumstances(
        at=now.astimezone(UTC),
        commit=commit_now(),
        processors=os.cpu_count() or 1,
        python=platform.python_version(),
        load=round(os.getloadavg()[0], 1),
    )


def commit_now() -> str:
    """The commit of the working copy, `unknown` outside of one."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],  # noqa: S607
        cwd=Path(__file__).parent,
        capture_output=True,
        check=False,
        text=True,
    )
    return described.stdout.strip() or "unknown"


def line(report: Report, when: Circumstances) -> str:
    """What is kept of a run."""
    return json.dumps(
        {
            "at": when.at.isoformat(timespec="seconds"),
            "commit": when.commit,
            "id": report.id,
            "figures": [
                {
                    "what": target.what,
                    "measured": round(target.measured, 4),
                    "unit": target.unit,
                    "target": target.limit,
                    "is_met": target.is_met,
                }
                for target in report.targets
            ],
            "peers": dict(report.peers),
            "processors": when.processors,
            "python": when.python,
            "load": when.load,
        }
    )


def append(report: Report, when: Circumstances, folder: Path = FOLDER) -> Path:
    """Add a run to the history of its benchmark; the file that it is in."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{report.id}.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(line(report, when) + "\n")
    return path


def course(ids: Sequence[str], folder: Path = FOLDER) -> str:
    """The history of these benchmarks, of all where none is named, as a table: oldest first."""
    paths = [folder / f"{one}.jsonl" for one in ids] if ids else sorted(folder.glob("*.jsonl"))
    rows = [row for path in paths if path.exists() for row in _rows(path)]
    return table(_COLUMNS, rows) if rows else "No run of that is in the history."


def _rows(path: Path) -> Iterator[Sequence[str]]:
    for text in path.read_text(encoding="utf-8").splitlines():
        run = json.loads(text)
        for number, figure in enumerate(run["figures"]):
            yield (
                run["id"],
                run["at"][:16],
                run["commit"],
                figure["what"],
                f"{figure['measured']:g} {figure['unit']}".rstrip(),
                f"{figure['target']:g}",
                "met" if figure["is_met"] else "MISSED",
                _peers(run["peers"]) if number == 0 else "",
                f"{run['processors']} processors, {run['python']}",
                f"{run['load']:g}",
            )


def _peers(peers: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {figure:g}" for name, figure in peers.items())
