"""The journey on real hosts with real VMs; `virsh` and the guests themselves are the witnesses."""

from __future__ import annotations

import pytest

from furlough.lab.patience import unix_now
from tests.lab.fleet import Fleet, downtimes

pytestmark = [pytest.mark.timeout(600)]


def autostarts(fleet: Fleet, host: str) -> set[str]:
    return set(fleet.lab.host(host).vms("--all", "--autostart"))


@pytest.mark.lab
def test_a_host_is_emptied_and_everybody_comes_home_as_before(fleet: Fleet) -> None:
    since = unix_now()
    before = autostarts(fleet, "h1")
    assert 0 < len(before) < 4
    entered = fleet.furlough("enter", "h1", "--wait", "--json")
    assert entered.code == 0, entered.complaint
    assert fleet.lab.host("h1").vms("--all") == []
    assert {len(hosts) for hosts in fleet.running().values()} == {1}
    assert sorted(len(vms) for vms in fleet.lab.placement().values()) == [0, 2, 2]
    assert fleet.modes()["h1"] == "maintenance"
    assert autostarts(fleet, "h2") | autostarts(fleet, "h3") == before

    exited = fleet.furlough("exit", "h1", "--restore", "recorded", "--wait", "--json")
    assert exited.code == 0, exited.complaint
    assert fleet.running() == {vm: ["h1"] for vm in fleet.lab.vm_names}
    assert autostarts(fleet, "h1") == before
    assert set(fleet.lab.host("h1").vms("--all", "--persistent")) == set(fleet.lab.vm_names)
    assert fleet.modes() == {"h1": "available", "h2": "available", "h3": "available"}
    longest = {
        vm: max(one[vm] or 0 for one in (downtimes(entered.json), downtimes(exited.json)))
        for vm in fleet.lab.vm_names
    }
    fleet.check_witness(since, dict(longest))


@pytest.mark.lab_fault
def test_a_second_enter_is_told_which_operation_runs(fleet: Fleet) -> None:
    running = fleet.start("enter", "h1", "--wait")
    fleet.wait_for_copying("h1")
    again = fleet.furlough("enter", "h1")
    assert again.code == 9
    operation = fleet.furlough("operation", "list", "--active", "--json").json[0]
    assert operation["id"] in again.complaint
    assert running.wait().code == 0


@pytest.mark.lab_fault
def test_when_time_is_over_every_vm_is_accounted_for(fleet: Fleet) -> None:
    ran = fleet.furlough("enter", "h1", "--timeout", "3s", "--wait", "--json")
    assert ran.code == 4, ran.complaint
    assert ran.json["code"] == "timed_out"
    seen = fleet.running()
    for vm in ran.json["vms"]:
        assert seen[vm["name"]] == [vm["host"]]
        assert vm["power"] == "running"
        assert vm["outcome"] in ("moved", "stayed")
    assert len(ran.json["vms"]) == 4
    assert fleet.modes()["h1"] == "cordoned"


@pytest.mark.lab
def test_a_cancel_in_the_middle_ends_soon_and_says_who_moved(fleet: Fleet) -> None:
    running = fleet.start("enter", "h1", "--wait", "--json")
    fleet.wait_for_copying("h1")
    operation = fleet.furlough("operation", "list", "--active", "--json").json[0]["id"]
    since = unix_now()
    cancelled = fleet.furlough("operation", "cancel", operation, "--wait", "--json")
    assert cancelled.code == 5
    assert unix_now() - since < 90
    assert running.wait().code == 5
    seen = fleet.running()
    assert {vm["name"]: [vm["host"]] for vm in cancelled.json["vms"]} == seen


@pytest.mark.lab_fault
def test_an_upload_under_way_delays_maintenance(fleet: Fleet) -> None:
    host = fleet.lab.host("h1")
    host.run("mkdir", "-p", "/srv/pool")
    host.virsh("pool-create-as", "pool", "dir", "--target", "/srv/pool")
    host.virsh("vol-create-as", "pool", "new.img", "64M")
    slowly = "until test -e /run/uploaded; do sleep 0.2; done"
    upload = fleet.start_on("h1", f"({slowly}) | virsh vol-upload new.img /dev/stdin --pool pool")
    try:
        running = fleet.start("enter", "h1", "--wait")
        fleet.wait_until(lambda: host.vms() == [], "h1 to run no VM", timeout_s=120)
        fleet.wait_until(
            lambda: "new.img" in str(fleet.active_operation()["waiting_for"]),
            "the operation to say what it waits for",
        )
        assert fleet.modes()["h1"] == "entering"
    finally:
        host.run("touch", "/run/uploaded")
        assert upload.wait().code == 0
    assert running.wait().code == 0
    assert fleet.modes()["h1"] == "maintenance"
    host.virsh("pool-destroy", "pool")


@pytest.mark.lab_fault
def test_a_migration_that_was_on_its_way_here_is_taken_in_and_sent_on(fleet: Fleet) -> None:
    fleet.check(fleet.furlough("vm", "migrate", "vm4", "--to", "h2", "--wait"))
    h1, h2 = fleet.lab.host("h1"), fleet.lab.host("h2")
    arriving = fleet.start_on(
        "h2",
        "virsh migrate --live --p2p --persistent --undefinesource vm4 "
        f"qemu+tcp://{h1.address}/system tcp://{h1.address}",
    )
    fleet.wait_for_copying("h2")
    entered = fleet.furlough("enter", "h1", "--wait", "--json")
    arriving.stop()
    assert entered.code == 0, entered.output
    assert h1.vms() == []
    assert "vm4" in {vm["name"] for vm in entered.json["vms"]} or h2.vms() != []
    assert {len(hosts) for hosts in fleet.running().values()} == {1}


@pytest.mark.lab
def test_shared_and_locked_storage_is_proven_and_the_pause_is_short(
    directory_fleet: Fleet,
) -> None:
    fleet, since = directory_fleet, unix_now()
    entered = fleet.furlough("enter", "h1", "--wait", "--json")
    assert entered.code == 0, entered.complaint
    assert fleet.lab.host("h1").vms() == []
    for step in entered.json["steps"]:
        if step["vm_uuid"]:
            assert any("proven by us" in note for note in step["notes"])
            assert step["downtime_ms"] is not None
            assert step["downtime_ms"] < 500
    assert fleet.furlough("exit", "h1", "--wait").code == 0
    assert fleet.running() == {vm: ["h1"] for vm in fleet.lab.vm_names}
    fleet.check_witness(since, {})
