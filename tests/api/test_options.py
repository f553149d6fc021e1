"""Options of entering over the API: what is said, what the cluster says, what makes no sense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from furlough.client import Client
from tests.api.running import Running

pytestmark = pytest.mark.usefixtures("everything_as_before", "cluster_as_before")


@pytest.fixture
def cluster_as_before(client: Client) -> Iterator[None]:
    """Each story leaves the cluster with the policy it had."""
    before = client.cluster("sim").policy
    yield
    client.change("clusters", "sim", before)


def options_of(http: httpx2.Client, which: str) -> dict[str, Any]:
    journal = http.get(f"/operations/{which}/journal").json()
    found: dict[str, Any] = journal[0]["event"]["options"]
    return found


def test_what_a_request_leaves_open_is_as_the_cluster_says(
    daemon: Running, http: httpx2.Client, client: Client
) -> None:
    daemon.hold("h1")
    client.change("clusters", "sim", {"maintenance": {"order": "memory", "timeout_s": 3600}})
    asked = http.post("/hosts/h1/enter", json={"timeout_s": 7200})
    assert asked.status_code == 202
    kept = options_of(http, asked.json()["id"])
    assert (kept["order"], kept["timeout_s"]) == ("memory", 7200)
    assert (kept["scope"], kept["automation"], kept["left_open"]) == ("running", "automatic", [])


def test_not_to_wait_while_we_move_makes_no_sense(http: httpx2.Client) -> None:
    refused = http.post("/hosts/h1/enter", json={"wait": False})
    assert (refused.status_code, refused.json()["code"]) == (422, "wait.not_off")
    assert "--automation off" in refused.json()["remedy"]


@pytest.mark.parametrize("name", ["scope", "automation", "on_failure", "storage", "order"])
def test_a_word_that_an_option_does_not_know_changes_nothing(
    http: httpx2.Client, name: str
) -> None:
    refused = http.post("/hosts/h1/enter", json={name: "whatever"})
    assert (refused.status_code, refused.json()["code"]) == (422, "request.malformed")
    assert name in refused.json()["detail"]


def test_a_wrong_hash_is_answered_with_the_present_plan(
    http: httpx2.Client, client: Client
) -> None:
    which = http.post("/hosts/h1/enter", json={"automation": "manual"}).json()["id"]
    answer = http.post(f"/operations/{which}/approve", json={"plan_hash": "0" * 64})
    assert (answer.status_code, answer.json()["code"]) == (409, "plan.changed")
    assert answer.json()["plan"]["hash"] == client.operation(which).plan_hash
