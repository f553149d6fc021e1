"""Exits over the API: three lists beforehand, VMs by choice, the record until it is closed."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from furlough.client import Client
from tests.api.running import end
from tests.api.test_operations import post

pytestmark = pytest.mark.usefixtures("everything_as_before")
HOST = "/hosts/h2"


@pytest.fixture
def evacuated(client: Client, http: httpx2.Client) -> list[dict[str, Any]]:
    """The VMs of h2, which is in maintenance."""
    vms: list[dict[str, Any]] = http.get("/vms?host=h2").json()
    assert len(vms) > 2
    which = post(http, f"{HOST}/enter", {"reason": "fans"}).json()["id"]
    assert end(client, which) == "succeeded"
    return vms


def _names(found: dict[str, Any]) -> list[str]:
    return sorted(one["name"] for one in found["vms"])


def test_the_precheck_of_an_exit_has_three_lists_and_says_who_comes_from_where(
    http: httpx2.Client, evacuated: list[dict[str, Any]]
) -> None:
    found = http.get(f"{HOST}/exit-check").json()
    assert (found["hosts"], found["verdict"]) == (["h2"], "ok")
    assert {one["uuid"] for one in found["live_migrate_back"]} == {one["uuid"] for one in evacuated}
    for one in found["live_migrate_back"]:
        assert (one["action"], one["target"], one["home"], one["was"]) == (
            "live",
            "h2",
            "h2",
            "moved",
        )
        assert (one["changed"], one["change"], one["stays"]) == (False, "", None)
        assert one["now_on"] != "h2"
        assert one["power"] == "running"
    assert (found["power_on"], found["cold_migrate_back"]) == ([], [])
    none = http.get(f"{HOST}/exit-check?restore=none").json()
    assert {(one["action"], one["stays"]) for one in none["live_migrate_back"]} == {
        ("stays", "postponed")
    }
    name = evacuated[0]["name"]
    options = {"restore": "selected", "live_migrate_back": [name]}
    chosen = http.post("/exit-checks", json={"hosts": ["h2"], "options": options}).json()
    assert [one["name"] for one in chosen["live_migrate_back"] if one["target"]] == [name]
    assert chosen["plan"]["migrations"] == 1


def test_the_selected_come_home_the_rest_later_and_the_record_knows(
    client: Client, http: httpx2.Client, evacuated: list[dict[str, Any]]
) -> None:
    names = sorted(one["name"] for one in evacuated)
    kept = http.get(f"{HOST}/record").json()
    assert (kept["is_open"], kept["mode"], _names(kept)) == (True, "maintenance", names)
    body = {"restore": "selected", "live_migrate_back": [names[0]]}
    which = post(http, f"{HOST}/exit", body).json()["id"]
    assert end(client, which) == "succeeded"
    final = http.get(f"/operations/{which}").json()
    told = {one["name"]: one for one in final["vms"]}
    assert sorted(told) == names, "everybody of the record is accounted for"
    assert told[names[0]]["host"] == "h2"
    assert "It stays on record" in told[names[1]]["remedy"]
    assert _names(http.get(f"{HOST}/record").json()) == names[1:]
    again = post(http, f"{HOST}/exit", {}).json()
    assert again["kind"] == "restore"
    assert end(client, again["id"]) == "succeeded"
    assert http.get(f"{HOST}/record").json() == {
        "host": "h2",
        "mode": "available",
        "is_open": False,
        "vms": [],
    }


def test_a_record_is_closed_by_a_person_and_its_vms_stay(
    client: Client, http: httpx2.Client, evacuated: list[dict[str, Any]]
) -> None:
    which = post(http, f"{HOST}/exit", {"restore": "none"}).json()["id"]
    assert end(client, which) == "succeeded"
    closed = post(http, f"{HOST}/record/close", {"reason": "they stay"}).json()
    assert closed["kind"] == "close_record"
    assert end(client, closed["id"]) == "succeeded"
    assert not http.get(f"{HOST}/record").json()["is_open"]
    assert http.get("/vms?host=h2").json() == []
    refused = post(http, f"{HOST}/record/close", {})
    assert (refused.status_code, refused.json()["code"]) == (409, "vm.changed")
    for one in evacuated:  # As before, for the stories that follow.
        moved = post(http, f"/vms/{one['uuid']}/migrate", {"target": "h2"})
        assert end(client, moved.json()["id"]) == "succeeded"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"live_migrate_back": ["web01"]}, 422, "restore.lists"),
        ({"restore": "selected", "power_on": ["nobody"]}, 409, "restore.not_recorded"),
    ],
)
def test_lists_that_make_no_sense_are_refused(
    http: httpx2.Client,
    evacuated: list[dict[str, Any]],
    body: dict[str, Any],
    status: int,
    code: str,
) -> None:
    assert evacuated
    for refused in (
        post(http, f"{HOST}/exit", body),
        http.post("/exit-checks", json={"hosts": ["h2"], "options": body}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert refused.json()["remedy"]
