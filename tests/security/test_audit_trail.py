"""The audit trail: every change and every refusal, in a chain that shows what was done to it
(SEC-21)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Connection, delete, select, update

from furlough.core.audit import Checkpoint
from furlough.store.access_tables import audit
from tests.api.people import PASSWORD, person, sign_in
from tests.api.running import Running, running

pytestmark = pytest.mark.usefixtures("everything_as_before")


def newest(daemon: Running, action: str) -> dict[str, Any]:
    """The newest line about this."""
    with daemon.http() as http:
        lines = http.get("/audit", params={"limit": 1000}).json()
    found: dict[str, Any] = next(line for line in lines if line["action"] == action)
    return found


def test_an_operation_is_on_the_trail_with_who_from_where_and_what(daemon: Running) -> None:
    with person(daemon, "carol", ("operator", "all")) as carol:
        answer = carol.http.post("/hosts/h3/cordon", json={"reason": "fans"})
        line = newest(daemon, "cordon")
        assert (line["principal"], line["kind"]) == ("carol", "session")
        assert (line["address"], line["subject"]) == ("127.0.0.1", "host h3")
        assert line["result"] == "done"
        assert line["request"] == answer.headers["X-Request-Id"]
        assert line["credential"].startswith("session-")
        after = json.loads(line["after"])
        assert after["operation"] == answer.json()["id"]
        assert after["options"]["reason"] == "fans"


def test_what_is_repeated_with_its_key_is_one_deed(daemon: Running) -> None:
    with daemon.http() as http:
        for _ in range(3):
            http.post("/hosts/h3/cordon", json={}, headers={"Idempotency-Key": "audited-once"})
        lines = http.get("/audit", params={"limit": 20}).json()
        which = json.loads(lines[0]["after"])["operation"]
    assert len([one for one in lines if which in one["after"]]) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "action", "result"),
    [
        ("POST", "/hosts/h1/cordon", {}, "cordon", "access.denied"),
        ("POST", "/hosts/h1/enter", {"override": ["x"]}, "enter", "access.denied"),
        ("DELETE", "/hosts/h1", None, "remove_host", "access.denied"),
        ("POST", "/users", {"name": "evil"}, "add_user", "access.denied"),
        ("POST", "/tokens", {"owner": "local"}, "add_token", "access.denied"),
        ("GET", "/audit", None, "newest", "access.denied"),
    ],
)
def test_what_was_not_allowed_is_on_the_trail(
    daemon: Running, method: str, path: str, body: object, action: str, result: str
) -> None:
    with person(daemon, "mallory", ("viewer", "all")) as mallory:
        assert mallory.http.request(method, path, json=body).status_code == 403
        line = newest(daemon, action)
        assert (line["principal"], line["result"]) == ("mallory", result)


def test_what_was_refused_for_another_reason_is_on_the_trail(daemon: Running) -> None:
    with daemon.http() as http:
        assert http.post("/hosts/h1/uncordon", json={}).status_code == 409
    line = newest(daemon, "uncordon")
    assert (line["principal"], line["subject"], line["result"]) == ("local", "host h1", "host.mode")


def test_a_change_of_what_is_enrolled_says_what_it_was_before(daemon: Running) -> None:
    with daemon.http() as http:
        before = http.get("/clusters/sim").json()["policy"]["max_hosts_away"]
        http.patch("/clusters/sim", json={"max_hosts_away": before + 1})
        line = newest(daemon, "enrol")
        http.patch("/clusters/sim", json={"max_hosts_away": before})
    old, new = json.loads(line["before"]), json.loads(line["after"])
    assert list(old) == list(new) == ["cluster sim"]
    assert old["cluster sim"]["policy"]["max_hosts_away"] == before
    assert new["cluster sim"]["policy"]["max_hosts_away"] == before + 1


def test_a_policy_of_a_vm_is_announced_before_and_confirmed_after(daemon: Running) -> None:
    with daemon.http() as http:
        vm = http.get("/vms").json()[0]["uuid"]
        assert http.patch(f"/vms/{vm}", json={"policy": {"ha": True}}).is_success
        lines = http.get("/audit", params={"limit": 2}).json()
        http.patch(f"/vms/{vm}", json={"policy": {"ha": None}})
    assert [(one["action"], one["result"]) for one in lines] == [
        ("set_policy", "done"),
        ("set_policy", "begun"),
    ]
    assert json.loads(lines[0]["after"]) == {"ha": "true"}
    assert json.loads(lines[0]["before"]) == {}


def test_signing_in_and_failing_to_are_on_the_trail_without_the_password(daemon: Running) -> None:
    with person(daemon, "dave"):
        http, _ = sign_in(daemon, "dave", "not his password")
        http.close()
        wrong = newest(daemon, "sign_in")
        assert (wrong["principal"], wrong["result"]) == ("dave (not shown)", "caller.wrong")
    with daemon.http() as http:
        text = http.get("/audit", params={"limit": 1000}).text
    assert PASSWORD not in text
    assert "not his password" not in text
    assert "argon2" not in text


def test_pages_of_the_trail_leave_nothing_out(daemon: Running) -> None:
    with daemon.http() as http:
        whole = http.get("/audit", params={"limit": 1000}).json()
        older = http.get("/audit", params={"limit": 3, "before": whole[4]["number"]}).json()
        assert older == whole[5:8]
        newer = http.get("/audit", params={"after": whole[4]["number"]}).json()
        assert newer == list(reversed(whole[:4]))
        mine = http.get("/audit", params={"principal": "local"}).json()
        assert {one["principal"] for one in mine} == {"local"}


# --- the chain -----------------------------------------------------------------------------------


def tampered(daemon: Running, *statements: Any) -> None:
    """Somebody changes rows behind the program's back."""

    def act(connection: Connection) -> None:
        for statement in statements:
            assert connection.execute(statement).rowcount >= 1

    daemon.run(daemon.controller.work.store._database.write(act))  # type: ignore[attr-defined]


def faults(daemon: Running, *checkpoints: Checkpoint) -> list[tuple[int, str]]:
    body = [{"number": one.number, "hash": one.hash} for one in checkpoints]
    with daemon.http() as http:
        found = http.post("/audit/verify", json={"checkpoints": body}).json()
    assert found["is_intact"] is not bool(found["faults"])
    return [(one["number"], one["why"]) for one in found["faults"]]


def test_whatever_is_done_to_the_rows_is_found_and_named() -> None:
    with running() as daemon, daemon.http() as http:
        for _ in range(9):
            http.post("/hosts/h1/uncordon", json={})
        assert faults(daemon) == []
        kept = daemon.run(daemon.controller.work.store.access.checkpoint())
        assert faults(daemon, kept) == []
        tampered(daemon, update(audit).where(audit.c.number == 3).values(principal="somebody"))
        assert [number for number, _ in faults(daemon)] == [3]
        tampered(daemon, update(audit).where(audit.c.number == 3).values(principal="local"))
        assert faults(daemon) == []
        tampered(daemon, delete(audit).where(audit.c.number == 5))
        ((number, why),) = faults(daemon)
        assert (number, why) == (5, "line 5 is missing")
        tampered(daemon, delete(audit).where(audit.c.number >= 5))
        assert faults(daemon) == []  # without its tail the chain is whole,
        ((number, why),) = faults(daemon, kept)  # but the checkpoint knows better
        assert number == kept.number
        assert "gone" in why


def test_a_line_is_there_if_and_only_if_its_change_is(daemon: Running) -> None:
    """The database fails in the middle of a write: neither is there."""
    store = daemon.controller.work.store

    def count(connection: Connection) -> int:
        return len(connection.execute(select(audit.c.number)).all())

    before = daemon.run(store._database.read(count))  # type: ignore[attr-defined]
    with daemon.http() as http:
        operations = len(http.get("/operations").json())
        taken = http.post("/hosts/h1/enter", json={"plan_hash": "0" * 64})
        assert taken.status_code == 409
        assert len(http.get("/operations").json()) == operations
        line = http.get("/audit", params={"limit": 1}).json()[0]
    assert (line["action"], line["result"]) == ("enter", "plan.changed")
    assert daemon.run(store._database.read(count)) == before + 1  # type: ignore[attr-defined]
