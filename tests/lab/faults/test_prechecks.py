"""Before entering: every VM that cannot leave is named, with the reason and the remedy; nothing
moves; after the remedy, or with its owner's consent, the host is entered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from furlough.lab.blueprint import Options
from tests.lab.adversary import (
    bridge_on,
    file_on,
    record_snapshot,
    redefined,
    usb_on,
    uuid_of,
    with_bridge,
    with_cdrom,
    with_cpu,
    with_file_disk,
    with_usb_device,
)
from tests.lab.conftest import driven, own_name
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def crowd(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts and a daemon; nine small VMs on the first."""
    for fleet in driven(own_name("p"), Options(vms=9, on="h1"), tmp_path_factory):
        # Nine VMs on a machine of two processors, three times.
        fleet.check(fleet.furlough("cluster", "set", fleet.lab.name, "--vcpu-overcommit", "10"))
        yield fleet


@pytest.fixture
def fleet(crowd: Fleet) -> Fleet:
    """That fleet with everybody at home and in service, whatever the test before has left."""
    crowd.bring_home("h1")
    return crowd


@contextmanager
def obstacles(fleet: Fleet) -> Iterator[dict[str, str]]:
    """Eight VMs of h1 with an obstacle each, and the code of the finding that names it."""
    host = fleet.lab.host("h1")
    with ExitStack() as stack:
        stack.enter_context(file_on(host, "/srv/local.img", "16M"))
        stack.enter_context(file_on(host, "/srv/tools.iso"))
        stack.enter_context(bridge_on(host, "lonely0"))
        stack.enter_context(usb_on(host))
        edits = {
            "vm1": with_usb_device,
            "vm2": with_cpu("Icelake-Server"),
            "vm3": with_file_disk("/srv/local.img"),
            "vm4": with_bridge("lonely0"),
            "vm6": with_cdrom("/srv/tools.iso"),
        }
        stack.enter_context(redefined(fleet, edits))
        record_snapshot(host, "vm5", "before")
        stack.callback(host.virsh, "snapshot-delete", "vm5", "before", "--metadata")
        host.virsh("suspend", "vm7")
        stack.callback(resume, fleet, "vm7")
        yield {
            "vm1": "vm.device",
            "vm2": "vm.cpu",
            "vm3": "vm.local_disk",
            "vm4": "vm.network",
            "vm5": "vm.snapshot",
            "vm6": "vm.local_media",
            "vm7": "vm.paused",
        }


def resume(fleet: Fleet, vm: str) -> None:
    """Let a paused VM run, wherever it is by now."""
    (where,) = fleet.running()[vm]
    fleet.lab.host(where).virsh("resume", vm)


def findings_by_vm(report: Any) -> dict[str, dict[str, Any]]:
    """Findings of a check, by VM name and code."""
    found: dict[str, dict[str, Any]] = {}
    for one in report["findings"]:
        found.setdefault(one["subject"].split(" ")[0], {})[one["code"]] = one
    return found


@pytest.mark.lab
def test_f073_every_obstacle_is_named_and_nothing_moves(fleet: Fleet) -> None:
    with obstacles(fleet) as expected:
        before = fleet.running()
        checked = fleet.furlough("check", "h1", "--json")
        assert checked.code == 3, checked.output
        (report,) = checked.json
        assert report["verdict"] == "blocked"
        found = findings_by_vm(report)
        for vm, code in expected.items():
            one = found[vm][code]
            assert one["severity"] == ("info" if code == "vm.paused" else "blocker"), one
            assert one["message"], one
            assert one["remedy"], one
        assert "vm8" not in {
            vm
            for vm, codes in found.items()
            if any(one["severity"] == "blocker" for one in codes.values())
        }
        spoken = fleet.furlough("check", "h1")
        assert all(code in spoken.output for code in expected.values()), spoken.output
        refused = fleet.furlough("enter", "h1", "--wait")
        assert refused.code == 3, refused.output
        assert fleet.running() == before
        assert fleet.modes()["h1"] == "available"
    entered = fleet.furlough("enter", "h1", "--wait")
    assert entered.code == 0, entered.complaint


def test_a_group_waits_for_a_member_that_is_migrating(fleet: Fleet) -> None:
    for vm in ("vm8", "vm9"):
        fleet.check(fleet.furlough("vm", "set", vm, "--affinity-group", "pair"))
    fleet.check(fleet.furlough("vm", "migrate", "vm9", "--to", "h2", "--wait"))
    h2, h3 = fleet.lab.host("h2"), fleet.lab.host("h3")
    slowly = fleet.start_on(
        "h2",
        "virsh migrate --live --p2p --persistent --undefinesource --bandwidth 1 vm9 "
        f"qemu+tcp://{h3.address}/system tcp://{h3.address}",
    )
    try:
        fleet.wait_for_copying("h2")
        refused = fleet.furlough("enter", "h1", "--wait")
        assert refused.code == 3, refused.output
        assert "vm9" in refused.complaint + refused.output
        (report,) = fleet.furlough("check", "h1", "--json").json
        codes = {one["code"] for one in report["findings"]}
        assert "vm.group_busy" in codes, codes
    finally:
        h2.virsh("domjobabort", "vm9")
        slowly.wait()
        for vm in ("vm8", "vm9"):
            fleet.check(fleet.furlough("vm", "set", vm, "--unset", "affinity_group"))


def test_those_that_cannot_move_are_shut_down_by_consent_and_exactly_those_start_again(
    fleet: Fleet,
) -> None:
    host = fleet.lab.host("h1")
    with obstacles(fleet):
        stopped = ("vm1", "vm2", "vm3", "vm4", "vm5", "vm6")
        for priority, vm in enumerate(stopped):
            fleet.check(
                fleet.furlough(
                    "vm", "set", vm, "--on-maintenance", "shut_down",
                    "--availability-priority", str(10 * priority),
                )
            )  # fmt: skip
        host.virsh("shutdown", "vm9")
        fleet.wait_until(lambda: "vm9" not in host.vms(), "vm9 to be off")
        entered = fleet.furlough("enter", "h1", "--wait", "--json")
        assert entered.code == 0, entered.output
        outcomes = {vm["name"]: vm["outcome"] for vm in entered.json["vms"]}
        assert {vm for vm, outcome in outcomes.items() if outcome == "stopped"} == set(stopped)
        assert outcomes["vm7"] == outcomes["vm8"] == "moved"
        assert host.vms() == []
        lines = fleet.furlough("host", "log", "h1", "--json").json
        begun = [
            line["vm_name"] for line in lines
            if line["operation"] == entered.json["id"] and "being shut down" in line["message"]
        ]  # fmt: skip
        assert begun == list(stopped), begun

        exited = fleet.furlough("exit", "h1", "--wait", "--json")
        assert exited.code == 0, exited.output
        # One that arrived paused stays until it has run: its emulator would crash on the way.
        assert set(host.vms()) == {*stopped, "vm8"}
        assert host.virsh("domstate", "vm9").strip() == "shut off"
        host.virsh("start", "vm9")


def test_media_of_the_host_are_taken_out_by_request_and_put_back_at_exit(fleet: Fleet) -> None:
    host = fleet.lab.host("h1")
    with file_on(host, "/srv/tools.iso"), redefined(fleet, {"vm6": with_cdrom("/srv/tools.iso")}):
        assert fleet.furlough("check", "h1").code == 3
        unasked = fleet.furlough("check", "h1", "--apply", "vm.local_media")
        assert unasked.code == 8, unasked.output
        assert "/srv/tools.iso" in unasked.output + unasked.complaint
        assert "/srv/tools.iso" in host.virsh("domblklist", "vm6")
        applied = fleet.furlough("check", "h1", "--apply", "vm.local_media", "--yes")
        assert applied.code == 0, applied.output + applied.complaint
        assert "/srv/tools.iso" not in host.virsh("domblklist", "vm6")
        fleet.check(fleet.furlough("enter", "h1", "--wait"))
        fleet.check(fleet.furlough("exit", "h1", "--wait"))
        assert "/srv/tools.iso" in host.virsh("domblklist", "vm6")


def test_policies_travel_with_the_vm(fleet: Fleet) -> None:
    words = ("--on-maintenance", "shut_down", "--availability-priority", "80", "--ha")
    fleet.check(fleet.furlough("vm", "set", "vm1", *words))
    uuid = uuid_of(fleet.lab, "vm1")

    def policy() -> Any:
        shown = fleet.furlough("vm", "show", uuid, "--json").json["policy"]
        return (shown["on_maintenance"], shown["availability_priority"], shown["ha"])

    assert policy() == ("shut_down", 80, True)
    fleet.check(fleet.furlough("vm", "migrate", "vm1", "--to", "h2", "--wait"))
    assert policy() == ("shut_down", 80, True)
    host = fleet.lab.host("h2")
    host.virsh("destroy", "vm1")
    host.virsh("start", "vm1")
    assert policy() == ("shut_down", 80, True)
    edited = host.virsh("dumpxml", "--inactive", "vm1").replace("utc", "localtime")
    (host.directory / "witness" / "again.xml").write_text(edited, encoding="utf-8")
    host.run("virsh", "define", "/run/furlough-witness/again.xml")
    assert policy() == ("shut_down", 80, True)
    host.virsh("metadata", "vm1", "urn:furlough:vm:1", "--key", "furlough", "--live", "--config",
               "--set", "<policy on_maintenance='fly'/>")  # fmt: skip
    (report,) = fleet.furlough("check", "h2", "--json").json
    assert "vm.policy" in {one["code"] for one in report["findings"]}
    host.virsh("metadata", "vm1", "urn:furlough:vm:1", "--live", "--config", "--remove")
