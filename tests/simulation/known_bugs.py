"""Known bugs: patches that each plant one, and whether the simulation catches it.

    python -m tests.simulation.known_bugs search [NAME ...]   new seeds where none catches it

A patch is applied to a copy of `src`; seeds are played on the copy by a process of its own. The
seeds that are known to catch it stand in the patch's header, so that the test is quick.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATCHES = ROOT / "tests" / "known_bugs"
MOST_SEEDS = int(os.environ.get("FURLOUGH_RUNS", "400"))


@dataclass(frozen=True, kw_only=True)
class KnownBug:
    """One patch: what it breaks, and the seeds that are known to show it."""

    path: Path
    breaks: str
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True, kw_only=True)
class Caught:
    """The first seed that showed a bug, and the promises it broke."""

    seed: int
    violations: tuple[str, ...]


def known_bugs() -> list[KnownBug]:
    """All patches of which a seed is known that catches them, by name."""
    return [_read(path) for path in sorted(PATCHES.glob("*.patch"))]


def unproven_bugs() -> list[KnownBug]:
    """Those for which no seed was found yet: to these the simulation may be blind."""
    return [_read(path) for path in sorted((PATCHES / "unproven").glob("*.patch"))]


def _read(path: Path) -> KnownBug:
    head = dict(line.split(":", 1) for line in path.read_text("utf-8").splitlines()[:2])
    seeds = tuple(int(seed) for seed in head["Seeds"].split())
    return KnownBug(path=path, breaks=head["Breaks"].strip(), seeds=seeds)


@contextmanager
def planted(patch: Path | None) -> Iterator[Path]:
    """A directory with a copy of `src` in which the bug is; without a patch, just the copy."""
    with tempfile.TemporaryDirectory(prefix="furlough-bug-") as name:
        tree = Path(name)
        shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))
        if patch is not None:
            # Beside no repository, so that it is applied to the copy and to nothing else.
            subprocess.run(
                ["git", "apply", str(patch)],  # noqa: S607
                cwd=tree,
                env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)},
                check=True,
                capture_output=True,
            )
        yield tree


def first_caught(tree: Path, seeds: Sequence[int]) -> Caught | None:
    """Play seeds on this tree until one breaks a promise; None if none does."""
    played = subprocess.run(
        [sys.executable, "-m", "tests.simulation.known_bugs", "play", *map(str, seeds)],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": f"{tree / 'src'}{os.pathsep}{ROOT}",
            "PYTHONHASHSEED": "0",
        },
        check=True,
        capture_output=True,
        text=True,
    )
    answer = json.loads(played.stdout.splitlines()[-1])
    if answer is None:
        return None
    return Caught(seed=answer["seed"], violations=tuple(answer["violations"]))


# --- on the command line -------------------------------------------------------------------------


def _play(seeds: Sequence[int]) -> None:
    """In a process of its own: what `first_caught` reads."""
    from tests.simulation.seeded_run import play  # noqa: PLC0415  # of the tree in PYTHONPATH

    for seed in seeds:
        run = play(seed)
        if run.violations:
            print(json.dumps({"seed": seed, "violations": run.violations[:5]}))  # noqa: T201
            return
    print("null")  # noqa: T201


def _search(names: Sequence[str]) -> None:
    for bug in [*known_bugs(), *unproven_bugs()]:
        if names and bug.name not in names:
            continue
        with planted(bug.path) as tree:
            known = first_caught(tree, bug.seeds) if bug.seeds else None
            caught = known or first_caught(tree, range(1, MOST_SEEDS))
        if caught is not None:
            text = bug.path.read_text("utf-8")
            found = re.sub(r"^Seeds:.*$", f"Seeds: {caught.seed}", text, flags=re.MULTILINE)
            bug.path.write_text(found, encoding="utf-8")
        print(bug.name, caught or f"NOT CAUGHT in {MOST_SEEDS} seeds", flush=True)  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1] == "play":
        _play([int(seed) for seed in sys.argv[2:]])
    else:
        _search(sys.argv[2:])
