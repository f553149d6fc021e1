"""Asking for operations: twice, under a key, and while another one is under way."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from furlough.client import Client
from tests.api.running import Running, end

pytestmark = pytest.mark.usefixtures("everything_as_before")


def post(
    http: httpx2.Client, path: str, body: dict[str, Any], key: str | None = None
) -> httpx2.Response:
    return http.post(path, json=body, headers={} if key is None else {"Idempotency-Key": key})


def test_a_second_entering_is_refused_and_names_the_first(
    daemon: Running, http: httpx2.Client
) -> None:
    daemon.hold("h1")
    first = post(http, "/hosts/h1/enter", {})
    assert first.status_code == 202
    for path, body in (
        ("/hosts/h1/enter", {}),
        ("/hosts/h1/exit", {}),
        ("/hosts/h1/cordon", {}),
        ("/hosts/h1/uncordon", {}),
        ("/operations", {"kind": "enter", "hosts": ["h2", "h1"]}),
    ):
        second = post(http, path, body)
        problem = second.json()
        assert second.status_code == 409
        assert problem["code"] == "host.busy"
        assert problem["operation"] == first.json()["id"]
        assert first.json()["id"] in problem["detail"]
        assert f"furlough operation watch {first.json()['id']}" in problem["remedy"]
    assert len(http.get("/operations?active=true").json()) == 1


def test_f092_no_host_that_an_operation_needs_is_removed_and_the_refusal_names_it(
    daemon: Running, http: httpx2.Client
) -> None:
    daemon.hold("h1")
    asked = post(http, "/hosts/h1/enter", {"target_hosts": ["h2", "h3"]})
    assert asked.status_code == 202
    first = asked.json()
    for host in ("h1", "h2", "h3"):
        removed = http.delete(f"/hosts/{host}")
        assert removed.status_code == 409
        assert removed.json()["code"] == "host.busy"
        assert removed.json()["operation"] == first["id"]
        assert first["id"] in removed.json()["detail"]
    assert len(http.get("/hosts").json()) == 4


def test_a_vm_that_is_being_moved_is_asked_nothing_else(
    daemon: Running, http: httpx2.Client
) -> None:
    daemon.hold("h1")
    moving = http.get("/vms?host=h1").json()[0]["uuid"]
    first = post(http, f"/vms/{moving}/migrate", {"target": "h2"}).json()
    assert post(http, f"/vms/{moving}/migrate", {}).status_code == 409
    for act in ("power-off", "shut-down"):
        refused = post(http, f"/vms/{moving}/{act}", {})
        assert refused.status_code == 409
        assert refused.json()["code"] == "vm.owned"
        assert refused.json()["operation"] == first["id"]


def test_the_same_request_under_the_same_key_is_one_operation(
    daemon: Running, http: httpx2.Client
) -> None:
    daemon.hold("h1")
    body = {"kind": "enter", "hosts": ["h1"], "options": {"reason": "fans"}}
    answers = [post(http, "/operations", body, key="mine") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(http.get("/operations?active=true").json()) == 1


def test_a_key_still_names_its_operation_when_that_is_over(
    client: Client, http: httpx2.Client
) -> None:
    first = post(http, "/hosts/h4/cordon", {}, key="cordon-once").json()["id"]
    assert end(client, first) == "succeeded"
    again = post(http, "/hosts/h4/cordon", {}, key="cordon-once")
    assert again.status_code == 202
    assert (again.json()["id"], again.json()["state"]) == (first, "succeeded")
    without = post(http, "/hosts/h4/cordon", {})
    assert (without.status_code, without.json()["code"]) == (409, "host.mode")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/hosts/h1/cordon", {"reason": "another"}),
        ("/hosts/h2/cordon", {"reason": "one"}),
        ("/hosts/h1/enter", {"reason": "one"}),
    ],
)
def test_a_key_is_bound_to_what_was_asked_under_it(
    http: httpx2.Client, path: str, body: dict[str, Any]
) -> None:
    key = f"bound to one, not {path} {body}"
    assert post(http, "/hosts/h1/cordon", {"reason": "one"}, key=key).status_code == 202
    other = post(http, path, body, key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency.mismatch")
    assert "new key" in other.json()["remedy"]


def test_a_refused_request_does_not_use_up_its_key(
    daemon: Running, client: Client, http: httpx2.Client
) -> None:
    daemon.hold("h1")
    first = post(http, "/hosts/h1/enter", {}).json()["id"]
    assert post(http, "/hosts/h1/cordon", {}, key="later").status_code == 409
    client.cancel(first, "stop")
    assert end(client, first) == "cancelled"
    uncordoned = client.ask("uncordon", ["h1"], {})
    assert end(client, uncordoned.id) == "succeeded"
    assert post(http, "/hosts/h1/cordon", {}, key="later").status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_none_is_422(http: httpx2.Client, key: str) -> None:
    answer = post(http, "/hosts/h1/cordon", {}, key=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "request.malformed")


def test_cancelling_twice_is_cancelling_once_and_what_is_over_cannot_be_cancelled(
    daemon: Running, client: Client, http: httpx2.Client
) -> None:
    daemon.hold("h1")
    which = post(http, "/hosts/h1/enter", {}).json()["id"]
    for _ in range(2):
        answer = post(http, f"/operations/{which}/cancel", {"mode": "stop"})
        assert answer.status_code in (202, 409)
    assert end(client, which) == "cancelled"
    over = post(http, f"/operations/{which}/cancel", {})
    assert (over.status_code, over.json()["code"]) == (409, "operation.final")
    resumed = http.post(f"/operations/{which}/resume")
    assert (resumed.status_code, resumed.json()["code"]) == (409, "operation.not_blocked")


def test_the_plan_that_was_approved_is_the_one_that_is_carried_out(
    client: Client, http: httpx2.Client
) -> None:
    plan = http.post("/hosts/h3/plan", json={}).json()
    accepted = post(http, "/hosts/h3/enter", {"plan_hash": plan["hash"]})
    assert accepted.status_code == 202, accepted.text
    assert accepted.json()["plan_hash"] == plan["hash"]
    assert end(client, accepted.json()["id"]) == "succeeded"
    moved = {(one["vm_uuid"], one["target"]) for one in plan["steps"] if one["vm_uuid"]}
    where = {one["uuid"]: one["host"] for one in http.get("/vms").json()}
    assert {(vm, where[vm]) for vm, _ in moved} == moved


def test_every_vm_of_an_operation_is_accounted_for(client: Client, http: httpx2.Client) -> None:
    before = {one["uuid"] for one in http.get("/vms?host=h2").json()}
    which = post(http, "/hosts/h2/enter", {"reason": "fans", "timeout_s": 3600}).json()["id"]
    assert end(client, which) == "succeeded"
    final = http.get(f"/operations/{which}").json()
    assert {one["uuid"] for one in final["vms"]} == before
    assert {one["outcome"] for one in final["vms"]} == {"moved"}
    assert final["progress_percent"] == 100
    exited = post(http, "/hosts/h2/exit", {"restore": "recorded"}).json()["id"]
    assert end(client, exited) == "succeeded"
    assert {one["uuid"] for one in http.get("/vms?host=h2").json()} == before


def test_a_timeout_ends_an_operation_that_gets_nowhere(
    daemon: Running, client: Client, http: httpx2.Client
) -> None:
    daemon.hold("h1")
    which = post(http, "/hosts/h1/enter", {"timeout_s": 5}).json()["id"]
    assert end(client, which) == "failed"
    final = http.get(f"/operations/{which}").json()
    assert final["code"] == "timed_out"
    assert {one["host"] for one in final["vms"]} >= {"h1"}


def test_the_log_of_a_host_tells_each_machine_and_ends_in_maintenance_mode(
    http: httpx2.Client, client: Client
) -> None:
    names = {vm["name"] for vm in http.get("/vms?host=h1").json() if vm["power"] != "shut_off"}
    entered = post(http, "/hosts/h1/enter", {}).json()["id"]
    assert end(client, entered) == "succeeded"
    lines = [one for one in http.get("/hosts/h1/log").json() if one["operation"] == entered]
    assert lines[0]["message"].startswith("enter requested by")
    assert "Maintenance Mode" in [one["message"] for one in lines[-3:]]
    moved = [one["vm_name"] for one in lines if one["message"].startswith("now on")]
    assert sorted(moved) == sorted(names)
    assert [one["at"] for one in lines] == sorted(one["at"] for one in lines)
    assert http.get("/hosts/h1/log?limit=2").json() == lines[-2:]
    assert http.get("/hosts/h2/log?limit=0").status_code == 422
    assert http.get("/hosts/nowhere/log").status_code == 404
