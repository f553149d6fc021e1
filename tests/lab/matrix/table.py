"""The table of the matrix: what every cell came to, written to docs/kill-matrix.md.

Every cell that was played adds a line to the file that `FURLOUGH_MATRIX` names; this makes the page
of all of them, so that a matrix may be played in several goes:

    python -m tests.lab.matrix.table RESULTS PAGE
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from furlough.lab.command import run
from tests.lab.matrix.cells import ALL, EXISTING, Cell, Ending, NeverHit
from tests.lab.matrix.phases import MISSING, PHASES
from tests.lab.matrix.victims import VICTIMS

RESULTS = "FURLOUGH_MATRIX"
HEAD = """\
# The kill matrix

What real hosts with real VMs did when something was broken in the middle of a migration. Written by
`make lab-matrix`, not by hand. Rows: what was broken; columns: the phase that the migration was
seen to be in at that moment. A host with one VM enters maintenance, two others could take it; disks
without locks, so the handover is held; daemons give a silent peer up after four seconds.

A cell passes with one copy of the VM at the most (by what the guest itself wrote and by looks at
every host), with the VM accounted for in `furlough operation show`, and with the operation over or
saying what it waits for. What did not pass is marked VIOLATION. A cell in which the fault did not
hit its phase is void and played again; void three times in a row, it is `not hit`.

"""
LEGEND = """
* **moved**: in maintenance, the VM on another host; `2nd` or `3rd` is the attempt that did it.
* **stayed**: the operation failed, the VM runs where it was. **died**: the VM is off, and the
  operation says so, with what to do. **asks**: the operation waits for a person, with the code.
* The code in brackets is why the first attempt did not come through; then the seconds from the
  fault to the end, the median where a cell was played more than once. After the loss of a daemon's
  answer the next attempt waits a minute; **cancelled**: instead of waiting for it, somebody
  cancelled once it was certain what had become of the first.
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the file: which cell, and what came of it."""

    victim: str
    phase: str
    words: str
    over_s: float
    voids: int
    gap_ms: int | None


def record(ending: Ending) -> None:
    """Add a line about a cell that passed, if somebody collects them."""
    write(line_of(ending))


def record_violation(cell: Cell, error: Exception) -> None:
    """Add a line about one that did not."""
    said = " ".join(str(error).split())[:120].replace("|", "/")
    write({
        "victim": cell.victim.name, "phase": cell.phase.name,
        "words": "not hit" if isinstance(error, NeverHit) else f"**VIOLATION** {said}",
        "over_s": 0.0, "voids": 0, "gap_ms": None,
    })  # fmt: skip


def write(line: dict[str, Any]) -> None:
    """Where `FURLOUGH_MATRIX` says."""
    path = os.environ.get(RESULTS)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def line_of(ending: Ending) -> dict[str, Any]:
    """What is kept of an ending."""
    return {
        "victim": ending.cell.victim.name, "phase": ending.cell.phase.name,
        "words": words_of(ending), "over_s": round(ending.over_s, 1), "voids": ending.voids,
        "gap_ms": ending.gap_ms, "told": ending.told, "waiting_for": ending.waiting_for,
    }  # fmt: skip


def words_of(ending: Ending) -> str:
    """How it ended, in a few words."""
    why = f" ({ending.first_error})" if ending.first_error else ""
    if ending.state == "blocked":
        return f"asks `{ending.code}`"
    if ending.outcome == "moved":
        which = {1: "", 2: " 2nd", 3: " 3rd"}.get(ending.attempts, f" {ending.attempts}th")
        return f"moved{which}{why}"
    then = ", cancelled" if ending.state == "cancelled" else ""
    return f"{ending.outcome.replace('_', ' ')}{why or f' ({ending.code})'}{then}"


def read(path: Path) -> list[Result]:
    """All lines of a file of results."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        known = json.loads(line)
        names = ("victim", "phase", "words", "over_s", "voids", "gap_ms")
        found.append(Result(**{name: known[name] for name in names}))
    return found


def page(results: Iterable[Result], versions: str, day: str) -> str:
    """The whole page."""
    by_cell: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_cell.setdefault((result.victim, result.phase), []).append(result)
    played = sum(len(some) for some in by_cell.values())
    columns = [phase.name for phase in PHASES]
    lines = [
        f"Played {played} times in {len(by_cell)} of {len(EXISTING)} cells, {day}, {versions}.\n",
        f"| | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for victim in VICTIMS:
        cells = [cell for cell in ALL if cell.victim is victim]
        told = [told_of(cell, by_cell.get((victim.name, cell.phase.name), [])) for cell in cells]
        lines.append(f"| **{victim.name}** | {' | '.join(told)} |")
    lines += ["", *(f"There is no column for {name}: {why}." for name, why in MISSING.items())]
    lines += ["", "What there is no cell for, and why:", ""]
    lines += [f"* {words}" for words in absences()]
    voids = sum(result.voids for some in by_cell.values() for result in some)
    lines += ["", f"Void and played again: {voids}."]
    return HEAD + "\n".join(lines) + "\n" + LEGEND


def told_of(cell: Cell, results: list[Result]) -> str:
    """What stands in a cell: every ending that was seen, how often, and how long it took."""
    if cell.why_absent:
        return "-"
    if not results:
        return "not played"
    told = []
    for words, times in Counter(result.words for result in results).most_common():
        spans = sorted(result.over_s for result in results if result.words == words)
        often = f" ({times} times)" if len(results) > 1 else ""
        told.append(f"{words}{often}, {spans[len(spans) // 2]:.0f} s")
    return "; ".join(told)


def absences() -> list[str]:
    """Cells that there are not, by the reason."""
    found = []
    for victim in VICTIMS:
        by_reason: dict[str, list[str]] = {}
        for phase, why in victim.absent.items():
            by_reason.setdefault(why, []).append(phase.name)
        found += [
            f"{victim.name}, in {', '.join(names)}: {why}" for why, names in by_reason.items()
        ]
    return found


def versions() -> str:
    """Of what played."""
    libvirt = run(["libvirtd", "--version"]).split()[-1]
    qemu = run(["qemu-system-x86_64", "--version"]).split()[3]
    kernel = os.uname().release.split("-")[0]
    return f"libvirt {libvirt}, QEMU {qemu} (TCG), Linux {kernel}"


def main() -> int:
    """Write the page of all results."""
    results, target = Path(sys.argv[1]), Path(sys.argv[2])
    day = run(["date", "-u", "-r", str(results), "+%Y-%m-%d"]).strip()
    target.write_text(page(read(results), versions(), day), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
