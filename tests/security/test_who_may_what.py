"""Every route and every role: who is let through and who is not (SEC-07). A route that is not in
the table fails the build."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from furlough.openapi import schema
from furlough.service import Service
from furlough.service.authority import need_of
from tests.api.people import add_user, new_token, person, signed_in
from tests.api.running import Running, running
from tests.api.test_problems import check_problem

SCHEMA: dict[str, Any] = schema()
# What each role may, spelt out: the code's own table is what is tried here.
VIEWER = {"view", "check"}
OPERATOR = VIEWER | {"cordon", "maintain", "cancel_own", "power"}
ADMIN = OPERATOR | {
    "override",
    "cancel_any",
    "manage_hosts",
    "manage_users",
    "read_audit",
}
MAY: dict[str, set[str]] = {
    "nothing": set(),
    "viewer": VIEWER,
    "operator": OPERATOR,
    "admin": ADMIN,
}
# Routes that ask for no privilege: for whoever has shown who they are, and for everybody.
KNOWN, EVERYBODY = "known", "everybody"

_SOME_VM = "{vm}"
_LOGIN = {"name": "nobody-at-all", "password": "not a password"}
_HASH = "0" * 64


@dataclass(frozen=True)
class Row:
    """A route, what it needs, and a request that does little harm where it is let through."""

    method: str
    path: str
    needs: str
    body: Any = None
    names: dict[str, str] = field(default_factory=dict)

    def address(self, vm: str) -> str:
        path = self.path
        names = {"host": "nowhere", "name": "nowhere", "operation": "op-1", "uuid": vm}
        for name, value in {**names, "token": "token-x", "role": "r", **self.names}.items():
            path = path.replace(f"{{{name}}}", value)
        return path


TABLE = [
    Row("get", "/health", EVERYBODY),
    Row("get", "/ready", "view"),
    Row("post", "/session", EVERYBODY, _LOGIN),
    Row("get", "/session", KNOWN),
    Row("delete", "/session", KNOWN),
    Row("post", "/session/password", KNOWN, {"old": "x", "new": "y"}),
    Row("post", "/first-admin", EVERYBODY, {"secret": "x", "name": "x", "password": "x" * 12}),
    Row("get", "/users", "manage_users"),
    Row("post", "/users", "manage_users", {"name": "local"}),
    Row("get", "/users/{name}", "manage_users"),
    Row("patch", "/users/{name}", "manage_users", {}),
    Row("delete", "/users/{name}", "manage_users"),
    Row("post", "/users/{name}/roles", "manage_users", {"role": "viewer"}),
    Row("delete", "/users/{name}/roles/{role}", "manage_users"),
    Row("get", "/roles", "view"),
    Row("put", "/roles/{name}", "manage_users", {"privileges": []}, {"name": "viewer"}),
    Row("delete", "/roles/{name}", "manage_users"),
    Row("get", "/tokens", "view"),
    Row("post", "/tokens", "manage_users", {"owner": "somebody-else"}),
    Row("delete", "/tokens/{token}", "manage_users", names={"token": "{others}"}),
    Row("post", "/apply", "manage_hosts", {}),
    Row("get", "/clusters", "view"),
    Row("post", "/clusters", "manage_hosts", {"name": "sim"}),
    Row("get", "/clusters/{name}", "view", names={"name": "sim"}),
    Row("patch", "/clusters/{name}", "manage_hosts", {}, {"name": "sim"}),
    Row("delete", "/clusters/{name}", "manage_hosts"),
    Row("get", "/datastores", "view"),
    Row(
        "post",
        "/datastores",
        "manage_hosts",
        {"name": "ssd", "cluster": "sim", "kind": "nbd", "address": "192.0.2.9"},
    ),
    Row("delete", "/datastores/{name}", "manage_hosts"),
    Row("get", "/hosts", "view"),
    Row(
        "post",
        "/hosts",
        "manage_hosts",
        {"name": "h1", "cluster": "sim", "address": "192.0.2.9"},
    ),
    Row("get", "/hosts/{host}", "view", names={"host": "h1"}),
    Row("patch", "/hosts/{host}", "manage_hosts", {}, {"host": "h1"}),
    Row("delete", "/hosts/{host}", "manage_hosts"),
    Row("get", "/hosts/{host}/log", "view", names={"host": "h1"}),
    Row("get", "/hosts/{host}/exit-check", "check"),
    Row("get", "/hosts/{host}/record", "view", names={"host": "h1"}),
    Row("post", "/hosts/{host}/record/close", "maintain", {}),
    Row("post", "/hosts/{host}/check", "check", {}),
    Row("post", "/hosts/{host}/plan", "check", {}),
    Row("post", "/hosts/{host}/enter", "maintain", {}),
    Row("post", "/hosts/{host}/exit", "maintain", {}),
    Row("post", "/hosts/{host}/cordon", "cordon", {}),
    Row("post", "/hosts/{host}/uncordon", "cordon", {}),
    Row("post", "/hosts/{host}/reboot", "power", {}),
    Row("post", "/hosts/{host}/power-off", "power", {}),
    Row("post", "/hosts/{host}/apply", "maintain", {"code": "guard.unproven"}),
    Row("post", "/hosts/{host}/undo", "maintain", {}),
    Row("post", "/hosts/{host}/prepare", "manage_hosts"),
    Row("post", "/checks", "check", {"hosts": ["h1"]}),
    Row("post", "/exit-checks", "check", {"hosts": ["h1"]}),
    Row("post", "/plans", "check", {"hosts": ["h1"]}),
    Row("get", "/inventory", "view"),
    Row("get", "/vms", "view"),
    Row("get", "/vms/{uuid}", "view"),
    Row("patch", "/vms/{uuid}", "maintain", {"policy": {"no_such": "setting"}}),
    Row("post", "/vms/{uuid}/start", "power", {}),
    Row("post", "/vms/{uuid}/shut-down", "power", {}),
    Row("post", "/vms/{uuid}/power-off", "power", {}),
    Row("post", "/vms/{uuid}/migrate", "maintain", {"target": "nowhere"}),
    Row("get", "/operations", "view"),
    Row("post", "/operations", "maintain", {"kind": "enter", "hosts": ["nowhere"]}),
    Row("get", "/operations/{operation}", "view"),
    Row("get", "/operations/{operation}/journal", "view"),
    Row("get", "/operations/{operation}/put-back", "check"),
    Row("post", "/operations/{operation}/cancel", "cancel_any", {}),
    Row("post", "/operations/{operation}/approve", "maintain", {}),
    Row("post", "/operations/{operation}/pause", "maintain"),
    Row("post", "/operations/{operation}/resume", "maintain"),
    Row("get", "/events", "view"),
    Row("get", "/audit", "read_audit"),
    Row("post", "/audit/verify", "read_audit", {}),
]


def test_the_table_has_every_route_once_and_no_other() -> None:
    routes = [
        (method, path.removeprefix("/api/v1"))
        for path, known in SCHEMA["paths"].items()
        for method in known
    ]
    assert sorted(routes) == sorted((row.method, row.path) for row in TABLE)


@pytest.fixture(scope="module")
def victim() -> Iterator[Running]:
    """A daemon of its own: what is let through may change something. `op-1` is over."""
    with running() as daemon:
        with daemon.client() as client:
            list(client.events(client.ask("cordon", ["h4"], {}).id))
        yield daemon


@pytest.fixture(scope="module")
def clients(victim: Running) -> Iterator[dict[str, httpx2.Client]]:
    """Somebody of each role, signed in."""
    with ExitStack() as stack:
        found = {}
        for role in MAY:
            add_user(victim, role, *([(role, "all")] if role != "nothing" else []))
            found[role] = stack.enter_context(signed_in(victim, role)).http
        add_user(victim, "somebody-else")
        yield found


def asked(victim: Running, http: httpx2.Client, row: Row, address: str) -> tuple[int, str]:
    """The status of the answer, and what a problem says; a stream is not waited for."""
    with http.stream(row.method.upper(), address, json=row.body) as answer:
        if answer.headers.get("Content-Type", "").startswith("text/event-stream"):
            return answer.status_code, ""
        answer.read()
        return answer.status_code, answer.text


@pytest.mark.parametrize("role", MAY)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.path}")
def test_who_is_let_through(
    victim: Running, clients: dict[str, httpx2.Client], row: Row, role: str
) -> None:
    vm = next(iter(victim.cluster.hosts[next(iter(victim.cluster.hosts))].copies))
    address = row.address(vm)
    if "{others}" in address:
        address = address.replace("{others}", new_token(victim, "somebody-else")["id"])
    http = clients[role]
    if (row.method, row.path) == ("delete", "/session"):
        sign_out_anew(victim, role)
        return
    status, text = asked(victim, http, row, address)
    is_allowed = row.needs in (KNOWN, EVERYBODY) or row.needs in MAY[role]
    if row.path == "/session/password":
        assert "password.wrong" in text  # let through, and the old password is another one
    elif row.path in ("/session", "/first-admin") and row.method == "post":
        assert "caller.wrong" in text or "throttled" in text
    elif is_allowed:
        assert status not in (401, 403), text
        assert status < 500, text
    elif (row.method, row.path) == ("delete", "/tokens/{token}"):
        assert status == 404, text  # whose tokens there are is nobody else's business
    elif role == "nothing" and "access.denied" not in text:
        # Whoever sees nothing is told what is told of things that are not there.
        assert (status, ".unknown" in text) == (404, True), text
    else:
        assert status == 403, text
        assert "access.denied" in text


def sign_out_anew(victim: Running, role: str) -> None:
    """Signing out is for everybody who is in; the session of the other stories stays."""
    with signed_in(victim, role) as someone:
        assert someone.http.delete("/session").status_code == 204


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.path}")
def test_nobody_is_let_through_without_showing_who_they_are(victim: Running, row: Row) -> None:
    with victim.http(token=None) as http:
        status, text = asked(victim, http, row, row.address("x"))
    if row.needs == EVERYBODY:
        assert "caller.unknown" not in text
    else:
        assert (status, "caller.unknown" in text) == (401, True)


# --- per object ----------------------------------------------------------------------------------


def test_a_grant_for_one_host_reaches_that_host_and_hides_the_others(victim: Running) -> None:
    with person(victim, "of-h1", ("operator", "host:h1")) as someone:
        http = someone.http
        assert [one["name"] for one in http.get("/hosts").json()] == ["h1"]
        assert {one["host"] for one in http.get("/vms").json()} == {"h1"}
        assert [one["name"] for one in http.get("/clusters").json()] == ["sim"]
        assert http.post("/hosts/h1/check", json={}).status_code == 200
        known = http.get("/hosts/nowhere").json()
        for method, path in (("GET", "/hosts/h2"), ("POST", "/hosts/h2/cordon")):
            hidden = http.request(method, path, json={} if method == "POST" else None)
            problem = check_problem(hidden, 404, "host.unknown")
            assert problem["detail"].replace("h2", "nowhere") == known["detail"]
        with victim.http() as admin:
            others = [one["uuid"] for one in admin.get("/vms?host=h2").json()]
        check_problem(http.get(f"/vms/{others[0]}"), 404, "vm.unknown")
        check_problem(http.post(f"/vms/{others[0]}/power-off", json={}), 404, "vm.unknown")
        check_problem(http.get("/operations/op-1"), 404, "operation.unknown")
        check_problem(http.post("/operations/op-1/cancel", json={}), 404, "operation.unknown")
        assert "op-1" not in [one["id"] for one in http.get("/operations").json()]
        two = {"kind": "enter", "hosts": ["h1", "h2"]}
        check_problem(http.post("/operations", json=two), 404, "host.unknown")
        mine = next(one["uuid"] for one in http.get("/vms").json())
        there = http.post(f"/vms/{mine}/migrate", json={"target": "h2"})
        check_problem(there, 404, "host.unknown")


def test_a_grant_for_a_cluster_reaches_its_hosts_and_nothing_beyond(victim: Running) -> None:
    with person(victim, "of-sim", ("admin", "cluster:sim")) as someone:
        http = someone.http
        assert len(http.get("/hosts").json()) == 4
        assert http.patch("/hosts/h1", json={}).status_code == 200
        for path in ("/users", "/audit"):
            check_problem(http.get(path), 403, "access.denied")
        new = http.post("/clusters", json={"name": "mine"})
        check_problem(new, 403, "access.denied")
        check_problem(http.post("/users", json={"name": "x1"}), 403, "access.denied")


def test_an_override_takes_a_privilege_of_its_own(victim: Running) -> None:
    body = {"override": ["cluster.no_reserve"], "reason": "I know", "plan_hash": _HASH}
    with person(victim, "op-a", ("operator", "all")) as operator:
        answer = operator.http.post("/hosts/h1/enter", json=body)
        problem = check_problem(answer, 403, "access.denied")
        assert "override" in problem["detail"]
        without = operator.http.post("/hosts/h1/enter", json={"plan_hash": _HASH})
        check_problem(without, 409, "plan.changed")
    with person(victim, "ad-a", ("admin", "all")) as admin:
        check_problem(admin.http.post("/hosts/h1/enter", json=body), 409, "plan.changed")


def test_ones_own_operation_may_be_cancelled_and_that_of_another_not(victim: Running) -> None:
    victim.hold("h1")
    with (
        person(victim, "starter", ("operator", "all")) as starter,
        person(victim, "other", ("operator", "all")) as other,
    ):
        which = starter.http.post("/hosts/h1/enter", json={}).json()["id"]
        refusal = other.http.post(f"/operations/{which}/cancel", json={})
        problem = check_problem(refusal, 403, "access.denied")
        assert "cancel_any" in problem["detail"]
        assert starter.http.post(f"/operations/{which}/cancel", json={}).status_code == 202
    victim.let_go("h1")
    with victim.client() as client:
        list(client.events(which))
        list(client.events(client.ask("uncordon", ["h1"], {}).id))


def test_a_role_of_ones_own_making_gives_what_was_put_into_it(victim: Running) -> None:
    with victim.http() as admin:
        made = admin.put("/roles/planner", json={"privileges": ["view", "check"]})
        assert made.json()["is_built_in"] is False
        with person(victim, "planning", ("planner", "all")) as someone:
            assert someone.http.post("/hosts/h1/plan", json={}).status_code == 200
            check_problem(someone.http.post("/hosts/h1/enter", json={}), 403, "access.denied")
            check_problem(admin.delete("/roles/planner"), 409, "role.in_use")
        assert admin.delete("/roles/planner").status_code == 204
        for request in (admin.put("/roles/admin", json={"privileges": []}),):
            check_problem(request, 409, "role.built_in")


# --- the service itself --------------------------------------------------------------------------

# What may be asked by whoever is let in at all, since it says nothing of any object.
FREE = {
    "of",
    "news",
    "progress",
    "copied",
    "now",
    "authority",
    "desk",
    "enrolling",
    "upkeep",
    "accounts",
    "trail",
}
# They decide by themselves whom they are for: oneself, or whoever manages users.
ONESELF = {"change_password", "add_token", "revoke_token"}


def test_every_use_case_says_what_it_needs(victim: Running) -> None:
    service = victim.controller.service
    parts: list[object] = [
        service,
        service.enrolling,
        service.upkeep,
        service.accounts,
        service.trail,
    ]
    silent = [
        f"{type(part).__name__}.{name}"
        for part in parts
        for name in dir(part)
        if not name.startswith("_")
        and need_of(getattr(part, name)) is None
        and name not in ONESELF | {"authority"}
        and not (isinstance(part, Service) and name in FREE)
    ]
    assert silent == []
