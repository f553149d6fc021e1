"""Approving, pausing and putting back from the command line."""

from __future__ import annotations

import pytest

from furlough.client import Client
from tests.api.running import Running, end
from tests.cli.commands import Furlough, complaint

pytestmark = pytest.mark.usefixtures("everything_as_before")


def test_a_plan_is_approved_by_its_hash_and_another_one_is_not(
    furlough: Furlough, client: Client
) -> None:
    asked = furlough("enter", "h1", "--automation", "manual", "--wait")
    assert asked.code == 8
    which = client.operations(active=True)[0].id
    assert f"furlough operation approve {which}" in asked.out
    known = client.operation(which)
    wrong = furlough("operation", "approve", which, "--hash", "0" * 64)
    assert (wrong.code, "no longer the one" in complaint(wrong)) == (9, True)
    nobody = furlough("operation", "approve", which, "--vm", "nobody")
    assert (nobody.code, "nobody" in complaint(nobody)) == (2, True)
    done = furlough("operation", "approve", which, "--hash", known.plan_hash, "--wait")
    assert (done.code, "succeeded" in done.out) == (0, True)


def test_steps_of_one_vm_are_approved_alone(furlough: Furlough, client: Client) -> None:
    assert furlough("enter", "h1", "--automation", "manual", "--wait").code == 8
    operation = client.operations(active=True)[0]
    one = next(step for step in operation.steps if step.vm_name)
    assert furlough("operation", "approve", operation.id, "--vm", one.vm_name).code == 0
    journal = client.journal(operation.id)
    (approved,) = [entry.event for entry in journal if entry.kind == "steps_approved"]
    assert [f"{operation.id}.{number}" for number in approved["steps"]] == [one.id]


def test_what_is_paused_says_how_it_goes_on(
    daemon: Running, furlough: Furlough, client: Client
) -> None:
    daemon.hold("h1")
    which = client.ask("enter", ["h1"], {}).id
    while client.operation(which).state == "queued":
        pass
    paused = furlough("operation", "pause", which)
    assert (paused.code, paused.out.strip()) == (0, f"{which} is paused.")
    shown = furlough("operation", "watch", which)
    assert (shown.code, f"operation resume {which}" in shown.out) == (8, True)
    resumed = furlough("operation", "resume", which, "--json").json
    assert resumed["state"] == "running"
    daemon.let_go("h1")
    assert end(client, which) == "succeeded"


def test_what_a_way_back_would_cost_is_shown_before_it_is_chosen(
    daemon: Running, furlough: Furlough, client: Client
) -> None:
    daemon.hold("h1")
    which = client.ask("enter", ["h1"], {}).id
    shown = furlough("operation", "cancel", which, "--put-back", "--dry-run")
    assert shown.code == 0
    assert f"furlough operation cancel {which} --put-back" in shown.out
    assert "0 migrations" in shown.out
    assert client.operation(which).state != "cancelling"
    both = furlough("operation", "cancel", which, "--put-back", "--finish")
    assert both.code == 2
    nobody = furlough("operation", "cancel", which, "--put-back")
    assert (nobody.code, "nobody is here to say yes" in nobody.err) == (8, True)
    assert client.operation(which).state != "cancelling"
    for option in (("--plan-hash", "0" * 64), ("--yes",), ("--dry-run",)):
        assert furlough("operation", "cancel", which, *option).code == 2
    other = furlough("operation", "cancel", which, "--put-back", "--plan-hash", "0" * 64)
    assert (other.code, "no longer the one" in complaint(other)) == (9, True)
    seen = furlough("operation", "cancel", which, "--put-back", "--dry-run", "--json").json
    assert seen["plan"]["hash"] in shown.out
    words = ("operation", "cancel", which, "--put-back", "--wait")
    assert furlough(*words, "--plan-hash", seen["plan"]["hash"]).code == 5


def test_a_way_back_is_carried_out_with_the_hash_of_the_plan_that_was_shown(
    daemon: Running, furlough: Furlough, client: Client
) -> None:
    daemon.hold("h1")
    which = client.ask("enter", ["h1"], {}).id
    done = furlough("operation", "cancel", which, "--put-back", "--yes", "--wait")
    assert (done.code, "0 migrations" in done.out) == (5, True)
    (word,) = [one.event for one in client.journal(which) if one.kind == "cancel_requested"]
    assert word["plan_hash"] is not None
    assert word["plan_hash"] in done.out
