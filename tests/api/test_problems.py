"""Whatever is asked wrongly gets a problem document that says what, why and what to do; never a
500, and nothing is changed."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2
import pytest

from furlough.api.app import LARGEST_BODY, create_app
from furlough.client import Client
from furlough.service import Service
from tests.api.running import TOKEN, Running, close_record

VM = "00000000-0000-4000-8000-00000000dead"
JSON = {"Content-Type": "application/json"}
CLUSTER = {"name": "c9"}
DATASTORE = {"name": "ds9", "cluster": "sim", "kind": "nbd", "address": "192.0.2.9"}
DIRECTORY = {"name": "ds9", "cluster": "sim", "kind": "directory"}
HOST = {"name": "h9", "cluster": "sim", "address": "192.0.2.9"}
LONE_SURROGATE = b'"\\ud800"'


def check_problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """RFC 9457, and our own promise: a code for programs, a remedy for people."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:furlough:problem:{code}"
    assert problem["kind"]
    assert problem["title"]
    assert problem["detail"]
    assert problem["remedy"]
    assert "Traceback" not in answer.text
    return problem


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/hosts/nowhere", "host.unknown"),
        ("PATCH", "/hosts/nowhere", "host.unknown"),
        ("DELETE", "/hosts/nowhere", "host.unknown"),
        ("POST", "/hosts/nowhere/check", "host.unknown"),
        ("POST", "/hosts/nowhere/plan", "host.unknown"),
        ("POST", "/hosts/nowhere/enter", "host.unknown"),
        ("POST", "/hosts/nowhere/exit", "host.unknown"),
        ("POST", "/hosts/nowhere/cordon", "host.unknown"),
        ("POST", "/hosts/nowhere/uncordon", "host.unknown"),
        ("GET", "/hosts/nowhere/exit-check", "host.unknown"),
        ("GET", "/vms?host=nowhere", "host.unknown"),
        ("GET", f"/vms/{VM}", "vm.unknown"),
        ("POST", f"/vms/{VM}/start", "vm.unknown"),
        ("POST", f"/vms/{VM}/shut-down", "vm.unknown"),
        ("POST", f"/vms/{VM}/power-off", "vm.unknown"),
        ("POST", f"/vms/{VM}/migrate", "vm.unknown"),
        ("GET", "/operations/op-404", "operation.unknown"),
        ("GET", "/operations/op-404/journal", "operation.unknown"),
        ("POST", "/operations/op-404/cancel", "operation.unknown"),
        ("POST", "/operations/op-404/resume", "operation.unknown"),
        ("GET", "/events?operation=op-404", "operation.unknown"),
        ("GET", "/clusters/nowhere", "cluster.unknown"),
        ("PATCH", "/clusters/nowhere", "cluster.unknown"),
        ("DELETE", "/clusters/nowhere", "cluster.unknown"),
        ("DELETE", "/datastores/nowhere", "datastore.unknown"),
        ("GET", "/no/such/route", "http.404"),
    ],
)
def test_what_is_not_known_is_404(http: httpx2.Client, method: str, path: str, code: str) -> None:
    body: dict[str, Any] | None = {} if method in ("POST", "PATCH") else None
    problem = check_problem(http.request(method, path, json=body), 404, code)
    assert problem["kind"] == "not_found"


def test_unknown_things_in_a_body_are_404_as_well(http: httpx2.Client) -> None:
    for path in ("/checks", "/plans"):
        check_problem(http.post(path, json={"hosts": ["nowhere"]}), 404, "host.unknown")
    enter = {"kind": "enter", "hosts": ["h1", "nowhere"]}
    check_problem(http.post("/operations", json=enter), 404, "host.unknown")
    there = {"kind": "enter", "hosts": ["h1"], "options": {"target_hosts": ["nowhere"]}}
    check_problem(http.post("/operations", json=there), 404, "host.unknown")
    lost = {"host": [{**HOST, "cluster": "nowhere"}]}
    check_problem(http.post("/apply", json=lost), 404, "cluster.unknown")


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/hosts"), ("DELETE", "/hosts"), ("POST", "/events"), ("GET", "/hosts/h1/enter")],
)
def test_another_method_is_405_and_the_answer_names_the_right_ones(
    http: httpx2.Client, method: str, path: str
) -> None:
    answer = http.request(method, path)
    check_problem(answer, 405, "http.405")
    assert answer.headers["Allow"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/hosts/-oProxyCommand=x", "name.malformed"),
        ("/hosts/%00", "name.malformed"),
        ("/hosts/h1%0a", "name.malformed"),
        ("/hosts/%ED%A0%80", "name.malformed"),
        ("/hosts/" + "h" * 64, "name.malformed"),
        ("/clusters/%C3%A9", "name.malformed"),
        ("/vms/not-a-uuid", "vm.malformed"),
        ("/vms/%00", "vm.malformed"),
        ("/operations/17", "operation.malformed"),
        ("/operations/op-0", "operation.malformed"),
        ("/operations/op-" + "9" * 400, "operation.malformed"),
        ("/operations?limit=0", "request.malformed"),
        ("/operations?limit=" + "9" * 40, "request.malformed"),
        ("/operations?active=perhaps", "request.malformed"),
        ("/operations?host=%00", "name.malformed"),
        ("/hosts/h1/exit-check?restore=everything", "request.malformed"),
        ("/events?operation=%F0%9F%92%A5", "operation.malformed"),
    ],
)
def test_addresses_that_make_no_sense_are_422(http: httpx2.Client, path: str, code: str) -> None:
    check_problem(http.get(path), 422, code)


@pytest.mark.parametrize("value", ["-1", "x", "9" * 30, "1.5", str(2**63)])
def test_a_last_event_id_that_is_none_is_422(http: httpx2.Client, value: str) -> None:
    check_problem(http.get("/events", headers={"Last-Event-ID": value}), 422, "request.malformed")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "body"),
        (b"{", "JSON"),
        (b"nonsense", "JSON"),
        (b'{"hosts": ["h1"],}', "JSON"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b'{"hosts": ["\xe9"]}', "UTF-8"),
        (b'{"hosts": ["h1"], "hosts": ["h2"]}', "'hosts' stands twice"),
        (b'{"hosts": ["h1"], "options": {"timeout_s": NaN}}', "NaN"),
        (b'{"hosts": ["h1"], "options": {"timeout_s": -Infinity}}', "Infinity"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b'{"hosts": ' + b"9" * 5_000 + b"}", "number"),
    ],
)
def test_a_body_that_is_no_json_of_ours_is_refused_with_the_reason(
    http: httpx2.Client, content: bytes, why: str
) -> None:
    answer = http.post("/checks", content=content, headers=JSON)
    problem = check_problem(answer, 400 if content else 422, "request.malformed")
    assert why in problem["detail"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_json_under_another_name_is_not_read(http: httpx2.Client, content_type: str) -> None:
    answer = http.post("/hosts/h1/cordon", content=b"{}", headers={"Content-Type": content_type})
    check_problem(answer, 422, "request.malformed")


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "h1",
        17,
        {},
        {"kind": "enter"},
        {"kind": "destroy", "hosts": ["h1"]},
        {"kind": "enter", "hosts": []},
        {"kind": "enter", "hosts": "h1"},
        {"kind": "enter", "hosts": [1]},
        {"kind": "enter", "hosts": [""]},
        {"kind": "enter", "hosts": ["h" * 64]},
        {"kind": "enter", "hosts": ["h1"], "surprise": 1},
        {"kind": "enter", "hosts": ["h1"], "options": {"surprise": 1}},
        {"kind": "enter", "hosts": ["h1"], "options": {"timeout_s": "soon"}},
        {"kind": "enter", "hosts": ["h1"], "options": {"timeout_s": 10**400}},
        {"kind": "enter", "hosts": ["h1"], "options": {"reason": "x" * 1001}},
        {"kind": "enter", "hosts": ["h1"], "plan_hash": "0" * 65},
        {"kind": "exit", "hosts": ["h1"], "options": {"restore": "everything"}},
        {"kind": "cordon", "hosts": ["h1", "h2"]},
        {"kind": "cordon", "hosts": ["h1"], "options": {"timeout_s": 1e300}},
        {"kind": "cordon", "hosts": ["h1"], "options": {"grace_s": 0}},
    ],
)
def test_bodies_of_the_wrong_shape_are_422_with_every_place_named(
    http: httpx2.Client, body: object
) -> None:
    problem = check_problem(http.post("/operations", json=body), 422, "request.malformed")
    assert problem["errors"]
    assert all(one["path"] and one["message"] for one in problem["errors"])
    assert problem["errors"][0]["path"] in problem["detail"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"kind": "enter", "hosts": ["h1", "h1"]}, "hosts.repeated"),
        ({"kind": "enter", "hosts": ["h1\x00"]}, "name.malformed"),
        ({"kind": "enter", "hosts": ["h1\n"]}, "name.malformed"),
        ({"kind": "enter", "hosts": ["../h1"]}, "name.malformed"),
        ({"kind": "enter", "hosts": ["h1"], "options": {"timeout_s": 1e300}}, "timeout.absurd"),
    ],
)
def test_bodies_that_mean_nothing_are_422(
    http: httpx2.Client, body: dict[str, Any], code: str
) -> None:
    check_problem(http.post("/operations", json=body), 422, code)


@pytest.mark.parametrize(
    "content",
    [
        b'{"kind": "enter", "hosts": [%s]}' % LONE_SURROGATE,
        b'{"kind": "enter", "hosts": ["h1"], "options": {"reason": %s}}' % LONE_SURROGATE,
        b'{"kind": %s, "hosts": ["h1"]}' % LONE_SURROGATE,
        b'{%s: 1, "kind": "enter", "hosts": ["h1"]}' % LONE_SURROGATE,
    ],
)
def test_lone_surrogates_are_422_wherever_they_stand(http: httpx2.Client, content: bytes) -> None:
    answer = http.post("/operations", content=content, headers=JSON)
    check_problem(answer, 422, "request.malformed")


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("/hosts/h1", b"{%s: 1}" % LONE_SURROGATE),
        ("/hosts/h1", b'{"address": %s}' % LONE_SURROGATE),
        ("/hosts/h1", b'{"link_mbit_s": 1e999}'),
        ("/hosts/h1", b'{"link_mbit_s": 9223372036854775808}'),
        ("/hosts/h1", b'{"uuid": "00000000-0000-4000-8000-000000000000"}'),
        ("/hosts/h1", b'{"datastores": [null]}'),
        ("/hosts/h1", b'{"transport": "carrier-pigeon"}'),
        ("/clusters/sim", b'{"memory_ceiling": 1.5}'),
        ("/clusters/sim", b'{"memory_ceiling": "NaN"}'),
        ("/clusters/sim", b'{"limits": {"per_source": 0}}'),
        ("/clusters/sim", b'{"limits": 7}'),
        ("/clusters/sim", b"[]"),
    ],
)
def test_changes_that_make_no_sense_are_422(http: httpx2.Client, path: str, changes: bytes) -> None:
    before = http.get(path).json()
    check_problem(http.patch(path, content=changes, headers=JSON), 422, "request.malformed")
    assert http.get(path).json() == before


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("clusters", {"name": "-x"}, 422, "name.malformed"),
        ("clusters", {"name": "c\x00"}, 422, "name.malformed"),
        ("clusters", {"name": "sim"}, 409, "cluster.exists"),
        ("datastores", {**DATASTORE, "name": "a/b"}, 422, "request.malformed"),
        ("datastores", {**DATASTORE, "name": "a\x00"}, 422, "request.malformed"),
        ("datastores", {**DATASTORE, "name": ".."}, 422, "request.malformed"),
        ("datastores", {**DATASTORE, "name": "ssd"}, 409, "datastore.exists"),
        ("datastores", {**DATASTORE, "shared": "proven"}, 422, "request.malformed"),
        ("datastores", {**DATASTORE, "shared": "declared"}, 422, "datastore.reason"),
        (
            "datastores",
            {**DATASTORE, "kind": "directory", "path": "/a\x00b"},
            422,
            "request.malformed",
        ),
        (
            "datastores",
            {**DATASTORE, "kind": "directory", "path": "/a/../b"},
            422,
            "datastore.path",
        ),
        ("hosts", {**HOST, "name": "h1"}, 409, "host.exists"),
        ("hosts", {**HOST, "address": "qemu+ssh://x/system?command=id"}, 422, "address.malformed"),
        ("hosts", {**HOST, "user": "-oProxyCommand=id"}, 422, "host.user"),
        ("hosts", {**HOST, "cluster": "nowhere"}, 404, "cluster.unknown"),
        ("hosts", {**HOST, "link_mbit_s": 0}, 422, "request.malformed"),
    ],
)
def test_nothing_that_makes_no_sense_is_enrolled(
    http: httpx2.Client, kind: str, body: dict[str, Any], status: int, code: str
) -> None:
    before = http.get(f"/{kind}").json()
    check_problem(http.post(f"/{kind}", json=body), status, code)
    assert http.get(f"/{kind}").json() == before


def test_one_mistake_in_a_file_applies_none_of_it(http: httpx2.Client) -> None:
    before = [http.get(f"/{kind}").json() for kind in ("clusters", "datastores", "hosts")]
    for hosts, status, code in (
        (
            [{**HOST, "cluster": "c9"}, {**HOST, "name": "h8", "cluster": "c7"}],
            404,
            "cluster.unknown",
        ),
        ([{**HOST, "cluster": "c9"}, {**HOST, "cluster": "sim"}], 422, "name.repeated"),
    ):
        tables = {"cluster": [CLUSTER], "datastore": [DATASTORE], "host": hosts}
        check_problem(http.post("/apply", json=tables), status, code)
    after = [http.get(f"/{kind}").json() for kind in ("clusters", "datastores", "hosts")]
    assert after == before


def test_a_name_stays_and_what_is_in_use_stays(http: httpx2.Client) -> None:
    check_problem(http.patch("/hosts/h1", json={"name": "h9"}), 422, "name.fixed")
    check_problem(http.delete("/clusters/sim"), 409, "cluster.not_empty")
    check_problem(http.delete("/datastores/ssd"), 409, "datastore.in_use")


def test_a_host_or_vm_in_the_wrong_state_is_409(http: httpx2.Client, client: Client) -> None:
    close_record(client, "h1")
    before = http.get("/operations").json()
    running = http.get("/vms").json()[0]["uuid"]
    check_problem(http.post(f"/vms/{running}/start", json={}), 409, "vm.changed")
    check_problem(http.post("/hosts/h1/exit", json={}), 409, "host.mode")
    check_problem(http.post("/hosts/h1/uncordon", json={}), 409, "host.mode")
    assert http.get("/operations").json() == before


def test_a_plan_that_nobody_approved_is_not_carried_out(http: httpx2.Client) -> None:
    answer = http.post("/hosts/h1/enter", json={"plan_hash": "0" * 64})
    check_problem(answer, 409, "plan.changed")
    assert http.get("/hosts/h1").json()["mode"] == "available"


def test_a_refused_entering_lists_its_findings(daemon: Running, http: httpx2.Client) -> None:
    daemon.do(lambda: _set_guard(daemon, has_guard=False))
    try:
        problem = check_problem(http.post("/hosts/h2/enter", json={}), 409, "precheck.blocked")
    finally:
        daemon.do(lambda: _set_guard(daemon, has_guard=True))
    assert problem["kind"] == "refused"
    assert "guard.missing" in [one["code"] for one in problem["findings"]]
    assert all(one["message"] and one["remedy"] for one in problem["findings"])


def _set_guard(daemon: Running, *, has_guard: bool) -> None:
    for host in daemon.cluster.hosts.values():
        host.has_guard = has_guard


def test_a_body_that_says_it_is_huge_is_413_before_it_is_sent(daemon: Running) -> None:
    parts = urlsplit(daemon.url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=10) as raw:
        raw.sendall(
            b"POST /api/v1/apply HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"
            b"Content-Length: 100000000\r\n\r\n"
        )
        answer = raw.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer


def test_a_body_that_does_not_say_how_huge_it_is_is_413_where_it_becomes_so(
    http: httpx2.Client,
) -> None:
    chunks = (b" " * 1_000_000 for _ in range(LARGEST_BODY // 1_000_000 + 2))
    answer = http.post("/apply", content=chunks, headers=JSON)
    check_problem(answer, 413, "http.413")


def test_a_bug_is_500_without_its_innards() -> None:
    """The service is missing here, which no request can bring about."""
    app = create_app(cast("Service", None), TOKEN)

    async def asked() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://furlough") as http:
            return await http.get("/api/v1/hosts", headers={"Authorization": f"Bearer {TOKEN}"})

    problem = check_problem(asyncio.run(asked()), 500, "bug")
    assert problem["kind"] == "bug"
    assert "NoneType" not in str(problem)
