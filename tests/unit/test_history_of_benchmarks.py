"""The history of benchmarks: each run adds a line, and all of them can be looked at."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import Report, Target
from bench.history import append, circumstances, course

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def _report(measured: float, peers: dict[str, float] | None = None) -> Report:
    target = Target(what="whole command", measured=measured, limit=0.5, unit="CPU s")
    return Report(
        id="A1", title="one host", columns=(), rows=(), targets=[target], peers=peers or {}
    )


def test_each_run_adds_a_line_with_its_figure_its_target_and_what_it_ran_on(tmp_path: Path) -> None:
    for measured in (0.4, 0.6):
        path = append(_report(measured, {"hbal CPU s": 427.0}), circumstances(NOON), tmp_path)
    assert path == tmp_path / "A1.jsonl"
    first, second = [json.loads(line) for line in path.read_text().splitlines()]
    assert (first["at"], first["id"]) == ("2026-11-22T12:00:00+00:00", "A1")
    assert first["figures"] == [
        {"what": "whole command", "measured": 0.4, "unit": "CPU s", "target": 0.5, "is_met": True}
    ]
    assert not second["figures"][0]["is_met"]
    assert first["peers"] == {"hbal CPU s": 427.0}
    assert first["processors"] >= 1
    assert first["load"] >= 0


def test_the_course_is_a_table_of_all_runs_or_of_those_asked_for(tmp_path: Path) -> None:
    append(_report(0.4), circumstances(NOON), tmp_path)
    append(_report(0.6), circumstances(NOON), tmp_path)
    header, *rows = course([], tmp_path).splitlines()
    assert header.split()[:3] == ["id", "at", "commit"]
    assert ["MISSED" in row for row in rows] == [False, True]
    assert course(["A1"], tmp_path) == course([], tmp_path)
    assert course(["A2"], tmp_path) == "No run of that is in the history."


def test_a_line_names_neither_paths_nor_hosts(tmp_path: Path) -> None:
    text = append(_report(0.4), circumstances(NOON), tmp_path).read_text()
    assert set(json.loads(text)) == {
        "at", "commit", "id", "figures", "peers", "processors", "python", "load",
    }  # fmt: skip
    assert "/" not in text
