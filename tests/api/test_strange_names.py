"""Names of VMs are chosen by strangers: the API gives them as they are, in JSON, and goes by UUID.
Numbers are those of the fault catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import httpx2
import pytest

from furlough.client import Client
from tests.api.running import Running, end
from tests.api.strange import FORGED, NAMES, SECOND, TWICE, id_of, running_with_strange_names


@pytest.fixture(scope="module")
def daemon() -> Iterator[Running]:
    with running_with_strange_names() as daemon:
        yield daemon


def _names(shapes: list[dict[str, str]], key: str, name: str) -> dict[str, str]:
    return {one[key]: one[name] for one in shapes if one.get(key)}


EVERYBODY = {id_of(number): name for number, name in enumerate((*NAMES, TWICE), start=1)}


def test_f084_every_vm_is_listed_and_found_by_its_uuid_under_its_own_name(
    http: httpx2.Client,
) -> None:
    listed = http.get("/vms?host=h1")
    assert listed.headers["content-type"].startswith("application/json")
    assert _names(listed.json(), "uuid", "name") == EVERYBODY
    for uuid, name in EVERYBODY.items():
        assert http.get(f"/vms/{uuid}").json()["name"] == name
    assert http.get(f"/vms/{SECOND}").json()["host"] == "h2"
    for name in NAMES:
        # A name is no address: whoever asks by it is told so, in JSON.
        refused = http.get(f"/vms/{quote(name, safe='')}")
        assert refused.status_code in (404, 422), refused.text
        assert refused.headers["content-type"] == "application/problem+json"


def test_f084_all_of_them_leave_and_come_home_and_every_account_names_them(
    http: httpx2.Client, client: Client
) -> None:
    (report,) = http.post("/checks", json={"hosts": ["h1"]}).json()
    assert _names(report["vms"], "uuid", "name") == EVERYBODY
    entered = http.post("/hosts/h1/enter", json={}).json()
    assert end(client, entered["id"]) == "succeeded"
    operation = http.get(f"/operations/{entered['id']}").json()
    assert _names(operation["vms"], "uuid", "name") == EVERYBODY
    assert _names(operation["steps"], "vm_uuid", "vm_name") == EVERYBODY
    assert {vm["outcome"] for vm in operation["vms"]} == {"moved"}
    lines = http.get("/hosts/h1/log?limit=1000").json()
    assert set(EVERYBODY.values()) <= {line["vm_name"] for line in lines}
    # Two of one name on one host is what no hypervisor takes.
    assert http.get(f"/vms/{id_of(len(NAMES) + 1)}").json()["host"] not in ("h1", "h2")
    asked = http.post("/hosts/h1/exit", json={}).json()
    assert end(client, asked["id"]) == "succeeded"
    assert _names(http.get("/vms?host=h1").json(), "uuid", "name") == EVERYBODY


def test_f084_a_name_that_several_have_is_asked_back_and_a_uuid_is_taken(
    http: httpx2.Client,
) -> None:
    body = {"hosts": ["h1"], "options": {"shut_down": [FORGED, str(id_of(4))]}}
    assert http.post("/plans", json=body).status_code == 200
    unknown = http.post("/plans", json={"hosts": ["h1"], "options": {"shut_down": ["-y"]}})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "vm.not_here")
    both = http.post("/plans", json={"hosts": ["h1", "h2"], "options": {"shut_down": [TWICE]}})
    assert both.json()["code"] == "vm.ambiguous"
    assert str(SECOND) in both.json()["detail"]


def test_f084_the_inventory_file_and_the_operation_of_one_vm_carry_its_name_as_it_is(
    http: httpx2.Client, client: Client
) -> None:
    asked = http.post(f"/vms/{id_of(7)}/migrate", json={"target": "h3"}).json()
    assert end(client, asked["id"]) == "succeeded"
    (step,) = http.get(f"/operations/{asked['id']}").json()["steps"]
    assert step["vm_name"] == FORGED
    found = json.loads(client.inventory_file())
    assert _names(found["vms"], "uuid", "name").items() >= EVERYBODY.items()
    back = http.post(f"/vms/{id_of(7)}/migrate", json={"target": "h1"}).json()
    assert end(client, back["id"]) == "succeeded"
