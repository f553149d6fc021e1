"""Reboot, power off and what violates a maintenance, as clients see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from furlough.client import Client
from furlough.clock import pause
from furlough.core.ids import HostName, OperationId
from furlough.ports import Marker
from furlough.scenario.stage import plain_vm, vm_id
from tests.api.running import Running, end

pytestmark = pytest.mark.usefixtures("everything_as_before")
H1 = HostName("h1")


def eventually(look: Callable[[], Any]) -> Any:
    """What a look shows as soon as it shows anything; the daemon's time is a hundred times ours."""
    for _ in range(500):
        if found := look():
            return found
        pause(0.01)
    raise AssertionError("it was never seen")


def serve(client: Client, host: str = "h1") -> None:
    """The host is in maintenance."""
    assert end(client, client.ask("enter", [host], {}).id) == "succeeded"


def test_a_reboot_is_an_operation_that_leaves_the_host_in_maintenance(
    client: Client, http: httpx2.Client
) -> None:
    serve(client)
    before = client.host("h1")
    asked = http.post("/hosts/h1/reboot", json={"reason": "firmware"})
    assert asked.status_code == 202
    assert asked.json()["kind"] == "reboot_host"
    assert end(client, asked.json()["id"]) == "succeeded"
    after = client.host("h1")
    assert (before.mode, after.mode) == ("maintenance", "maintenance")
    assert before.boot_id
    assert before.boot_id != after.boot_id


def test_a_host_is_switched_off_by_the_general_route_as_well(
    daemon: Running, client: Client
) -> None:
    serve(client, "h2")
    try:
        asked = client.ask("power_off_host", ["h2"], {})
        assert asked.kind == "power_off_host"
        assert end(client, asked.id) == "succeeded"
        host = client.host("h2")
        assert (host.mode, host.reachability) == ("maintenance", "silent")
    finally:
        daemon.do(lambda: daemon.cluster.boot(HostName("h2")))
        eventually(lambda: client.host("h2").reachability == "connected")


@pytest.mark.parametrize("act", ["reboot", "power-off"])
def test_a_host_in_service_is_not_switched(http: httpx2.Client, act: str) -> None:
    refusal = http.post(f"/hosts/h1/{act}", json={})
    problem = refusal.json()
    assert refusal.status_code == 409
    assert problem["code"] == "host.not_in_maintenance"
    assert "furlough enter h1" in problem["remedy"]


def test_what_violates_a_maintenance_is_shown_with_what_and_since_when(
    daemon: Running, client: Client, http: httpx2.Client
) -> None:
    serve(client)
    daemon.do(lambda: daemon.cluster.put(H1, plain_vm(99)))
    try:
        (seen,) = eventually(lambda: client.host("h1").violations)
        assert seen.what == f"VM vm99 ({vm_id(99)})"
        shown = http.get("/hosts/h1").json()["violations"]
        assert set(shown[0]) == {"what", "since"}
        refusal = http.post("/hosts/h1/reboot", json={})
        assert refusal.json()["code"] == "maintenance.violated"
        lines = [line for line in client.host_log("h1", 1000) if line.operation is None]
        assert (lines[-1].level, lines[-1].at) == ("error", seen.since)
    finally:
        daemon.do(lambda: daemon.cluster.remove(H1, vm_id(99)))
    eventually(lambda: not client.host("h1").violations)


def test_a_person_who_keeps_a_host_empty_is_shown(daemon: Running, client: Client) -> None:
    persons = Marker(operation=OperationId("local"), epoch=0, controller="local")
    machine = daemon.cluster.hosts[HostName("h4")]
    daemon.do(lambda: setattr(machine, "marker", persons))
    try:
        kept = eventually(lambda: client.host("h4").kept_empty_by)
        assert kept == "a person at the host"
        (report,) = client.check(["h4"], {})
        assert "host.kept_by_person" in {one.code for one in report.findings}
    finally:
        daemon.do(lambda: setattr(machine, "marker", None))
    eventually(lambda: client.host("h4").kept_empty_by == "")
