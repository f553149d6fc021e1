"""Figures of a benchmark: rows, targets, and whether they were met."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that is not exceeded by `percent` of all; samples must not be empty."""
    ordered = sorted(samples)
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def median(samples: Sequence[float]) -> float:
    """The middle one; samples must not be empty."""
    return statistics.median(samples)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells under their columns, the first one aligned to the left, others to the right."""
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a figure must not exceed."""

    what: str
    measured: float
    limit: float
    unit: str

    @property
    def is_met(self) -> bool:
        return self.measured <= self.limit

    def __str__(self) -> str:
        verdict = "met" if self.is_met else "MISSED"
        return (
            f"{self.what}: {self.measured:.2f} {self.unit}, "
            f"target <= {self.limit:g} {self.unit}: {verdict}"
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one benchmark found. `rows` are cells of a table under `columns`; `peers`: what others
    needed in the same run, each under a name that says what was measured."""

    id: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    targets: Sequence[Target]
    notes: Sequence[str] = ()
    figures: dict[str, object] = field(default_factory=dict)
    peers: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_met(self) -> bool:
        return all(target.is_met for target in self.targets)

    def content(self) -> dict[str, object]:
        """The same for programs."""
        targets = [{**asdict(target), "is_met": target.is_met} for target in self.targets]
        return {"title": self.title, "targets": targets, "figures": self.figures}

    def text(self) -> str:
        """The same for people."""
        shown = table(self.columns, self.rows)
        notes = [f"  {note}" for note in self.notes]
        targets = [f"  {target}" for target in self.targets]
        return "\n".join([f"{self.id}: {self.title}", "", shown, "", *notes, "", *targets])
