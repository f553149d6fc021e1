"""Two plans side by side: who goes elsewhere, who comes, who goes; and files that are no plans."""

from __future__ import annotations

from typing import Any

import pytest

from furlough.errors import Invalid
from furlough.planning.plan_difference import changes

NAMES = ("a.json", "b.json")


def step(vm: str, target: str | None, method: str = "live") -> dict[str, Any]:
    return {"vm_uuid": f"id-{vm}", "vm_name": vm, "method": method, "target": target}


def a_plan(*steps: dict[str, Any], stays: tuple[str, ...] = ()) -> dict[str, Any]:
    unplaced = [{"vm_uuid": f"id-{vm}", "vm_name": vm, "reasons": {}} for vm in stays]
    return {"steps": list(steps), "unplaced": unplaced}


def told(before: object, after: object) -> list[tuple[str, str, str]]:
    return [(one.vm_name, str(one.before), str(one.after)) for one in changes(before, after, NAMES)]


def test_equal_plans_differ_in_nothing() -> None:
    assert told(a_plan(step("x", "h2")), a_plan(step("x", "h2"))) == []


def test_vms_that_go_elsewhere_come_or_go_are_told_by_name() -> None:
    before = a_plan(step("same", "h2"), step("moved", "h2"), step("gone", "h3"))
    after = a_plan(step("same", "h2"), step("moved", "h3"), step("come", "h2"))
    assert told(before, after) == [
        ("come", "None", "to h2"),
        ("gone", "to h3", "None"),
        ("moved", "to h2", "to h3"),
    ]


def test_a_vm_that_stays_or_is_shut_down_instead_is_a_difference() -> None:
    before = a_plan(step("x", "h2"), step("y", "h2"))
    after = a_plan(step("y", None, "shut_down"), stays=("x",))
    assert told(before, after) == [("x", "to h2", "stays"), ("y", "to h2", "shut down")]


def test_of_a_detour_only_its_end_counts() -> None:
    detour = a_plan(step("x", "h3"), step("x", "h2"))
    assert told(detour, a_plan(step("x", "h2"))) == []


def test_steps_about_hosts_are_no_vms_and_a_vm_without_a_name_is_told_by_its_uuid() -> None:
    guard = {"vm_uuid": None, "vm_name": "", "method": "raise_guard", "target": None}
    before = a_plan(guard)
    after = {"steps": [], "unplaced": [{"vm_uuid": "id-1", "reasons": {}}]}
    assert told(before, after) == [("id-1", "None", "stays")]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ([], "b.json is no JSON object"),
        ({}, "b.json: steps is missing or no list"),
        ({"steps": []}, "b.json: unplaced is missing or no list"),
        ({"steps": [3], "unplaced": []}, "b.json: steps[0] is no object"),
        ({"steps": [{"vm_uuid": 3}], "unplaced": []}, "b.json: steps[0].vm_uuid is missing"),
        ({"steps": [{"vm_uuid": "u"}], "unplaced": []}, "b.json: steps[0].vm_name is missing"),
        ({"steps": [], "unplaced": [{}]}, "b.json: unplaced[0].vm_uuid is missing"),
    ],
)
def test_what_is_no_plan_is_told_with_file_and_path(plan: object, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        changes(a_plan(), plan, NAMES)
    assert caught.value.code == "plan.malformed"
    assert words in caught.value.message
    assert "--json" in caught.value.remedy
