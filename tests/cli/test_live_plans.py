"""Plans of live hosts: drawn, checked by the checker of plans from files, and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from furlough.core.policy import Limits
from tests.cli.commands import Furlough, complaint


def test_a_plan_of_live_hosts_is_checked_independently(furlough: Furlough) -> None:
    result = furlough("plan", "h1", "h2", "--verify")
    assert result.code == 0, result.err
    assert "Verified: at every moment all limits, rules and reserves are kept." in result.out
    assert furlough("plan", "h1", "h2", "--verify", "--json").json["violations"] == []
    assert "violations" not in furlough("plan", "h1", "--json").json


def test_a_live_plan_that_would_break_something_fails(
    furlough: Furlough, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No plan of ours is known that the checker complains of, so it is told of limits that are
    narrower than those that the plan was made for."""
    narrow = Limits(per_source=1, per_target=1, per_cluster=1)
    monkeypatch.setattr("furlough.cli.live_plan._limits", lambda *_: narrow)
    result = furlough("plan", "h1", "--verify")
    assert result.code == 1
    assert "would break something" in result.err
    assert "are allowed" in result.err
    as_json = furlough("plan", "h1", "--verify", "--json")
    assert as_json.code == 1
    assert as_json.json["violations"]


def test_a_plan_of_live_hosts_is_drawn(furlough: Furlough, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    result = furlough("plan", "h1", "--html", str(page))
    assert (result.code, result.err) == (0, f"Written to {page}.\n")
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 2
    planned = furlough("plan", "h1", "--json").json
    moves = [step for step in planned["steps"] if step["method"] == "live"]
    assert moves
    for step in moves:
        assert f"{step['vm_name']}: h1 to {step['target']}" in text
    assert "h1: " in text
    assert "0.0% after" in text, "h1 is empty afterwards"
    assert planned["hash"] in text


def test_plans_are_compared_as_one_would_say_it(furlough: Furlough, tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, words in zip(paths, ((), ("--target", "h3")), strict=True):
        path.write_text(furlough("plan", "h1", "--json", *words).out, encoding="utf-8")
    said = furlough("plan", "diff", *map(str, paths))
    assert (said.code, said.out) == (0, furlough("plan-diff", *map(str, paths)).out)
    assert "to h3" in said.out
    assert "There is no host 'diff'" in complaint(furlough("plan", "--", "diff"))


def test_the_way_back_is_shown_when_asked_for(furlough: Furlough) -> None:
    found = furlough("plan", "h1", "--restore", "--json").json
    went = {one["vm_uuid"]: one["target"] for one in found["steps"] if one["method"] == "live"}
    back = {one["vm_uuid"]: one for one in found["restore"]["steps"] if one["method"] == "live"}
    assert went
    assert {vm: one["source"] for vm, one in back.items()} == went
    assert {one["target"] for one in back.values()} == {"h1"}
    assert "The way back, as it would be right after:" in furlough("plan", "h1", "--restore").out
    assert furlough("plan", "h1", "--json").json["restore"] is None
