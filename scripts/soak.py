"""Seeded runs of the simulation, as many as one likes; it goes on where it was stopped.

    python -m scripts.soak run [EVACUATIONS]    until so many evacuations were played (250,000)
    python -m scripts.soak replay SEED          one run again, with the journals of its operations

What was played is remembered in `.soak.json`; remove it to begin anew, and after every change.
The first seed that breaks a promise ends it with exit code 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.seeded_run import SeededRun, play

from furlough.clock import RealClock

MEMORY = Path(".soak.json")
_AT_ONCE = 200


@dataclass(kw_only=True)
class Soaked:
    """What was played so far."""

    next_seed: int = 1
    evacuations: int = 0
    void: int = 0
    faults: dict[str, int] = field(default_factory=dict)

    def add(self, run: SeededRun) -> None:
        """One more run."""
        self.next_seed = run.seed + 1
        self.evacuations += run.evacuations
        self.void += run.is_void
        for kind, count in run.faults.items():
            self.faults[kind] = self.faults.get(kind, 0) + count


def main(arguments: list[str]) -> int:
    """0: no promise was broken; 1: one was."""
    if arguments[:1] == ["replay"]:
        return _replay(int(arguments[1]))
    wanted = int(arguments[1]) if len(arguments) > 1 else 250_000
    soaked = Soaked(**json.loads(MEMORY.read_text("utf-8"))) if MEMORY.exists() else Soaked()
    clock, began_with = RealClock(), soaked.evacuations
    began_s = clock.monotonic()
    for run in _runs(soaked.next_seed, lambda: soaked.evacuations < wanted):
        if run.violations:
            print(f"seed {run.seed} breaks a promise:", *run.violations[:10], sep="\n  ")
            print(f"Again: python -m scripts.soak replay {run.seed}")
            return 1
        soaked.add(run)
        if soaked.next_seed % _AT_ONCE == 0:
            MEMORY.write_text(json.dumps(asdict(soaked)), encoding="utf-8")
            minutes = (clock.monotonic() - began_s) / 60
            rate = (soaked.evacuations - began_with) / minutes
            print(
                f"{soaked.evacuations} evacuations, seeds to {run.seed}, {soaked.void} runs void, "
                f"{rate:.0f} evacuations/minute",
                flush=True,
            )
    MEMORY.write_text(json.dumps(asdict(soaked)), encoding="utf-8")
    print(json.dumps(asdict(soaked), indent=1))
    return 0


def _runs(first: int, wants_more: Callable[[], bool]) -> Iterator[SeededRun]:
    """Runs in the order of their seeds, on all processors."""
    # The order of sets is a part of a run: the same in every process.
    os.environ["PYTHONHASHSEED"] = "0"
    with ProcessPoolExecutor(
        mp_context=get_context("spawn"), initializer=os.nice, initargs=(10,)
    ) as processes:
        while wants_more():
            yield from processes.map(play, range(first, first + _AT_ONCE), chunksize=5)
            first += _AT_ONCE


def _replay(seed: int) -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets is a part of a run, and is chosen when the interpreter starts.
        os.environ["PYTHONHASHSEED"] = "0"
        again = [sys.executable, "-m", "scripts.soak", "replay", str(seed)]
        os.execv(sys.executable, again)  # noqa: S606
    run = play(seed, tell=print)
    print(f"faults: {run.faults}", f"ends: {run.ends}", *run.violations, sep="\n")
    return 1 if run.violations else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
