"""The simulation finds what it is there to find: bugs that are planted are caught."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator

import pytest

from tests.simulation.known_bugs import (
    ROOT,
    KnownBug,
    first_caught,
    known_bugs,
    planted,
    unproven_bugs,
)

BUGS = known_bugs()


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 15


@pytest.mark.parametrize("bug", [*BUGS, *unproven_bugs()], ids=lambda bug: bug.name)
def test_every_patch_still_applies(bug: KnownBug) -> None:
    with planted(bug.path) as tree:
        changed = filecmp.dircmp(ROOT / "src", tree / "src", ignore=["__pycache__"])
        assert list(_different(changed))


def _different(compared: filecmp.dircmp[str]) -> Iterator[str]:
    yield from compared.diff_files
    for below in compared.subdirs.values():
        yield from _different(below)


@pytest.mark.long
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_known_bug_is_caught(bug: KnownBug) -> None:
    with planted(bug.path) as tree:
        caught = first_caught(tree, bug.seeds)
    assert caught is not None, (
        f"{bug.name} is not caught any more by seeds {bug.seeds}; look for others:\n"
        f"  python -m tests.simulation.known_bugs search {bug.name}"
    )


@pytest.mark.long
def test_without_a_bug_the_same_seeds_break_nothing() -> None:
    """Else a catch would prove nothing."""
    seeds = sorted({seed for bug in BUGS for seed in bug.seeds})
    with planted(None) as tree:
        assert first_caught(tree, seeds) is None
