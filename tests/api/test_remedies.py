"""Remedies and the preparation of hosts over the API: a dry run first, then an operation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from furlough.client import Client
from furlough.core.ids import HostName
from furlough.core.inventory import Disk, DiskKind
from furlough.sim.cluster import Copy
from tests.api.running import Running, end

pytestmark = pytest.mark.usefixtures("everything_as_before")

H1 = HostName("h1")
ISO = "/root/debian.iso"
CDROM = Disk(target="sda", source=ISO, datastore=None, is_writable=False, kind=DiskKind.CDROM)


@pytest.fixture
def drive(daemon: Running) -> Iterator[Copy]:
    """A VM of h1 that holds a medium which only h1 has; at last it has none."""
    copy = next(iter(daemon.cluster.hosts[H1].copies.values()))
    plain = copy.vm
    daemon.do(lambda: setattr(copy, "vm", replace(plain, disks=(*plain.disks, CDROM))))
    yield copy

    def tidy() -> None:
        for machine in daemon.cluster.hosts.values():
            for one in machine.copies.values():
                if one.vm.id == plain.id:
                    one.vm, one.empty_drives = plain, {}

    daemon.do(tidy)
    with daemon.client() as client:
        undone = client.undo_remedies("h1", dry_run=False)
        if undone.operation is not None:
            end(client, undone.operation.id)


def media(copy: Copy) -> list[str]:
    return [disk.source for disk in copy.vm.disks if disk.is_medium]


def apply(http: httpx2.Client, **body: Any) -> httpx2.Response:
    return http.post("/hosts/h1/apply", json={"code": "vm.local_media", **body})


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    http: httpx2.Client, drive: Copy
) -> None:
    told = apply(http, dry_run=True)
    assert told.status_code == 200
    (change,) = told.json()["changes"]
    assert (change["vm_uuid"], change["drive"], change["medium"]) == (drive.vm.id, "sda", ISO)
    assert (change["remedy"], told.json()["operation"]) == ("eject", None)
    assert media(drive) == [ISO]
    assert http.get("/operations?active=true").json() == []


def test_applying_is_an_operation_and_undoing_another(
    client: Client, http: httpx2.Client, drive: Copy
) -> None:
    asked = apply(http)
    assert asked.status_code == 202
    operation = asked.json()["operation"]
    assert (operation["kind"], operation["hosts"]) == ("remedy_vm", ["h1"])
    assert end(client, operation["id"]) == "succeeded"
    assert media(drive) == []
    assert apply(http).json() == {"changes": [], "operation": None, "trouble": ""}
    log = [line["message"] for line in http.get("/hosts/h1/log").json()]
    assert "a medium is taken out of its drive" in log

    told = http.post("/hosts/h1/undo", json={"dry_run": True}).json()
    assert [one["medium"] for one in told["changes"]] == [ISO]
    back = http.post("/hosts/h1/undo", json={})
    assert back.status_code == 202
    assert end(client, back.json()["operation"]["id"]) == "succeeded"
    assert media(drive) == [ISO]


def test_the_same_request_under_the_same_key_is_one_operation(
    client: Client, http: httpx2.Client, drive: Copy
) -> None:
    body, key = {"code": "vm.local_media"}, {"Idempotency-Key": "eject-once"}
    answers = [http.post("/hosts/h1/apply", json=body, headers=key).json() for _ in range(2)]
    which = {answer["operation"]["id"] for answer in answers}
    assert len(which) == 1
    assert end(client, which.pop()) == "succeeded"
    assert media(drive) == []


def test_a_precheck_names_the_remedy_and_passes_after_it(
    client: Client, http: httpx2.Client, drive: Copy
) -> None:
    before = http.post("/hosts/h1/check", json={}).json()
    (blocker,) = [one for one in before["findings"] if one["severity"] == "blocker"]
    assert blocker["code"] == "vm.local_media"
    assert "--apply vm.local_media" in blocker["remedy"]
    assert end(client, apply(http).json()["operation"]["id"]) == "succeeded"
    after = http.post("/hosts/h1/check", json={}).json()
    assert "blocker" not in {one["severity"] for one in after["findings"]}
    assert drive.vm.id in {vm["uuid"] for vm in after["vms"] if vm["method"] == "live"}


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("h1/apply", {"code": "vm.device"}, 422, "remedy.none"),
        ("h1/apply", {"code": "no.such"}, 422, "remedy.none"),
        ("h1/apply", {"code": ""}, 422, "request.malformed"),
        ("h1/apply", {}, 422, "request.malformed"),
        ("h1/apply", {"code": "vm.local_media", "force": True}, 422, "request.malformed"),
        ("h9/apply", {"code": "vm.local_media"}, 404, "host.unknown"),
        ("h1/apply", {"code": "vm.local_media", "options": {"strict": ["x"]}}, 422, "strict.code"),
        ("-x/undo", {}, 422, "name.malformed"),
        ("h9/undo", {}, 404, "host.unknown"),
        ("h1/undo", {"dry_run": "perhaps"}, 422, "request.malformed"),
        ("h9/prepare", None, 404, "host.unknown"),
    ],
)
def test_what_makes_no_sense_is_a_problem_document(
    http: httpx2.Client, path: str, body: Any, status: int, code: str
) -> None:
    refused = http.post(f"/hosts/{path}", json=body)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_a_host_is_prepared_and_its_guard_proven(daemon: Running, http: httpx2.Client) -> None:
    machine = daemon.cluster.hosts[H1]
    daemon.do(lambda: setattr(machine, "has_guard", False))
    daemon.do(lambda: setattr(machine, "has_hook", False))
    prepared = http.post("/hosts/h1/prepare")
    assert prepared.json() == {"host": "h1", "is_proven": True, "trouble": "", "remedy": ""}
    assert machine.has_guard
    assert machine.has_hook


def test_an_unproven_guard_is_proven_as_a_remedy_and_needs_no_operation(
    daemon: Running, http: httpx2.Client
) -> None:
    machine = daemon.cluster.hosts[H1]

    def unhook() -> None:
        machine.has_hook, machine.guard_trouble = False, "its hook is not installed"

    daemon.do(unhook)
    applied = http.post("/hosts/h1/apply", json={"code": "guard.unproven"})
    assert (applied.status_code, applied.json()["operation"]) == (200, None)
    assert [one["remedy"] for one in applied.json()["changes"]] == ["prepare"]
    assert (machine.has_hook, machine.guard_trouble) == (True, "")


def test_a_host_that_an_operation_has_is_not_prepared(daemon: Running, http: httpx2.Client) -> None:
    daemon.hold("h1")
    entering = http.post("/hosts/h1/enter", json={}).json()
    refused = http.post("/hosts/h1/prepare")
    assert (refused.status_code, refused.json()["code"]) == (409, "host.busy")
    assert refused.json()["operation"] == entering["id"]
