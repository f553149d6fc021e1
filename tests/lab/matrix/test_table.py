"""The page of the matrix says what was seen, what was not played and what did not pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.matrix import phases, victims
from tests.lab.matrix.cells import ALL, EXISTING, Cell, Ending
from tests.lab.matrix.table import RESULTS, page, read, record, record_violation

STRUCK = Cell(victim=victims.SOURCE_DAEMON, phase=phases.EARLY)


def ending(
    *, state: str = "succeeded", code: str = "", outcome: str = "moved", attempts: int = 1,
    first_error: str = "", over_s: float = 8.0,
) -> Ending:  # fmt: skip
    return Ending(
        cell=STRUCK, state=state, code=code, waiting_for="", outcome=outcome, host="h2",
        attempts=attempts, first_error=first_error, told="", voids=1, over_s=over_s, gap_ms=120,
    )  # fmt: skip


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which a matrix is collected."""
    path = tmp_path / "results"
    monkeypatch.setenv(RESULTS, str(path))
    return path


def row_of(results: Path) -> list[str]:
    """The columns of the row that was played."""
    told = page(read(results), "libvirt 9", "2026-11-22")
    (line,) = [one for one in told.splitlines() if one.startswith(f"| **{STRUCK.victim.name}**")]
    return [column.strip() for column in line.strip("|").split("|")]


def test_a_cell_tells_every_ending_that_was_seen_and_the_median_of_its_time(results: Path) -> None:
    for over_s in (8.0, 90.0, 9.0):
        record(ending(over_s=over_s, attempts=2, first_error="hypervisor.lost"))
    record(ending(state="blocked", code="migration.stale_target", outcome="stayed"))
    early = 1 + phases.PHASES.index(phases.EARLY)
    assert row_of(results)[early] == (
        "moved 2nd (hypervisor.lost) (3 times), 9 s; asks `migration.stale_target` (1 times), 8 s"
    )


def test_what_was_not_played_is_not_told_as_passed(results: Path) -> None:
    record(ending())
    columns = row_of(results)[1:]
    assert columns.count("not played") == len(phases.PHASES) - 1
    assert "Played 1 times in 1 of" in page(read(results), "libvirt 9", "2026-11-22")


def test_what_did_not_pass_is_marked(results: Path) -> None:
    record_violation(STRUCK, AssertionError("vm1 runs on ['h1', 'h2']"))
    assert row_of(results)[2] == "**VIOLATION** vm1 runs on ['h1', 'h2'], 0 s"


def test_every_cell_exists_or_says_why_it_does_not() -> None:
    assert len(ALL) == len(victims.VICTIMS) * len(phases.PHASES)
    told = page([], "libvirt 9", "2026-11-22")
    for cell in ALL:
        assert cell in EXISTING or cell.why_absent in told
