"""Policies of VMs over the API: changed in part, read back from the host, checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from furlough.core.ids import HostName, VmId
from tests.api.running import Running

pytestmark = pytest.mark.usefixtures("everything_as_before")

H1 = HostName("h1")


@pytest.fixture
def vm(daemon: Running, http: httpx2.Client) -> Iterator[str]:
    """A VM of h1, which says nothing of its own before and after."""
    which: str = http.get("/vms?host=h1").json()[0]["uuid"]
    yield which
    # By the API first: what is changed behind the daemon's back it sees only at its next look.
    own = http.get(f"/vms/{which}").json()["own_policy"]
    if own:
        assert patch(http, which, dict.fromkeys(own)).json()["own_policy"] == {}
    for machine in daemon.cluster.hosts.values():
        for copy in machine.copies.values():
            daemon.do(lambda copy=copy: setattr(copy, "own_policy", ()))  # type: ignore[misc]


def patch(http: httpx2.Client, vm: str, policy: Any) -> httpx2.Response:
    # In ASCII, so that anything can be said.
    content = json.dumps({"policy": policy})
    return http.patch(f"/vms/{vm}", content=content, headers={"Content-Type": "application/json"})


def test_what_is_set_is_what_the_host_shows(daemon: Running, http: httpx2.Client, vm: str) -> None:
    answer = patch(
        http,
        vm,
        {
            "on_maintenance": "shut_down",
            "shut_down_grace_s": 90,
            "ha": True,
            "host_affinity": ["h1", "h2"],
            "downtime_budget_ms": "500",
        },
    )
    assert answer.status_code == 200
    seen = answer.json()
    assert seen["own_policy"] == {
        "on_maintenance": "shut_down",
        "shut_down_grace_s": "90",
        "ha": "true",
        "host_affinity": "h1,h2",
        "downtime_budget_ms": "500",
    }
    assert (seen["on_maintenance"], seen["ha"]) == ("shut_down", True)
    policy = seen["policy"]
    assert (policy["shut_down_grace_s"], policy["downtime_budget_ms"]) == (90, 500)
    assert (policy["host_affinity"], policy["needs_agent"]) == (["h1", "h2"], False)
    assert http.get(f"/vms/{vm}").json() == seen
    copy = daemon.cluster.copy(H1, VmId(vm))
    assert copy is not None
    assert dict(copy.own_policy) == seen["own_policy"]


def test_what_is_not_named_stays_and_null_takes_away(http: httpx2.Client, vm: str) -> None:
    patch(http, vm, {"on_maintenance": "ask", "availability_priority": 90})
    seen = patch(http, vm, {"on_maintenance": None, "post_copy": "if_needed"}).json()
    assert seen["own_policy"] == {"availability_priority": "90", "post_copy": "if_needed"}
    assert seen["policy"]["on_maintenance"] == "live"


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ({"on_maintenance": "explode"}, "policy.value"),
        ({"on_maintenance": True}, "policy.value"),
        ({"availability_priority": 101}, "policy.value"),
        ({"affinity_group": "a b"}, "policy.value"),
        ({"colour": "red"}, "policy.unknown"),
        ({"colour": None}, "policy.unknown"),
        ({"ha": "\u0000"}, "policy.value"),
        ({"ha": "\ud800"}, "request.malformed"),
        ({}, "request.malformed"),
        ([], "request.malformed"),
        (None, "request.malformed"),
        ({"ha": {}}, "request.malformed"),
        ({"shut_down_grace_s": 1.5}, "request.malformed"),
        ({"shut_down_grace_s": -1}, "request.malformed"),
        ({"shut_down_grace_s": 2**70}, "request.malformed"),
        ({"host_affinity": ["h1"] * 300}, "request.malformed"),
        ({f"n{number}": "x" for number in range(65)}, "request.malformed"),
    ],
)
def test_what_makes_no_sense_changes_nothing_and_says_what_would(
    http: httpx2.Client, vm: str, policy: Any, code: str
) -> None:
    before = http.get(f"/vms/{vm}").json()
    refused = patch(http, vm, policy)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert refused.json()["remedy"]
    assert http.get(f"/vms/{vm}").json() == before


def test_a_vm_that_is_not_there_or_no_uuid_is_said_so(http: httpx2.Client) -> None:
    nobody = "00000000-0000-4000-8000-000000000000"
    assert patch(http, nobody, {"ha": True}).status_code == 404
    assert patch(http, "web01", {"ha": True}).json()["code"] == "vm.malformed"


def test_a_silent_host_is_refused_and_nothing_is_written(
    daemon: Running, http: httpx2.Client, vm: str
) -> None:
    daemon.do(lambda: setattr(daemon.cluster.hosts[H1], "is_reachable", False))
    try:
        refused = patch(http, vm, {"ha": True}).json()
    finally:
        daemon.do(lambda: setattr(daemon.cluster.hosts[H1], "is_reachable", True))
    assert refused["code"] == "host.silent"
    assert "Bring its management connection back" in refused["remedy"]
    copy = daemon.cluster.copy(H1, VmId(vm))
    assert copy is not None
    assert copy.own_policy == ()


def test_a_vm_that_an_operation_has_is_not_changed(
    daemon: Running, http: httpx2.Client, vm: str
) -> None:
    """What is written while it moves could be written to the copy that goes."""
    daemon.hold("h1")
    moving = http.post(f"/vms/{vm}/migrate", json={}).json()
    refused = patch(http, vm, {"ha": True})
    assert (refused.status_code, refused.json()["code"]) == (409, "vm.owned")
    assert refused.json()["operation"] == moving["id"]


def test_words_of_its_own_that_make_no_sense_are_told_and_do_not_count(
    daemon: Running, http: httpx2.Client, vm: str
) -> None:
    copy = daemon.cluster.copy(H1, VmId(vm))
    assert copy is not None
    daemon.do(lambda: setattr(copy, "own_policy", (("ha", "perhaps"),)))
    http.post("/hosts/h1/check", json={})  # looks anew
    seen = http.get(f"/vms/{vm}").json()
    assert (seen["ha"], seen["own_policy"]) == (False, {"ha": "perhaps"})
    (trouble,) = seen["policy_troubles"]
    assert "perhaps" in trouble
    after = patch(http, vm, {"post_copy": "never"}).json()
    assert (after["own_policy"], after["policy_troubles"]) == ({"post_copy": "never"}, [])
