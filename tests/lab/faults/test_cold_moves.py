"""VMs that cannot move live and may move cold: shut down, defined on a target, started there."""

from __future__ import annotations

import pytest

from furlough.lab.patience import unix_now
from tests.lab.adversary import redefined, with_device
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.timeout(600)]

COLD = ("--on-maintenance", "cold", "--shut-down-grace", "90s")


def with_shared_memory(xml: str) -> str:
    """Memory that it shares with others of its host: it cannot move live, and starts anywhere."""
    return with_device(
        xml,
        "<shmem name='furlough'><model type='ivshmem-plain'/><size unit='M'>1</size></shmem>",
    )


def defined_on(fleet: Fleet, vm: str) -> list[str]:
    """The hosts that have a definition of it."""
    return [host.name for host in fleet.lab.hosts if vm in host.vms("--all")]


def test_a_vm_that_may_move_cold_runs_on_its_target_with_all_that_was_set(fleet: Fleet) -> None:
    host = fleet.lab.host("h1")
    with redefined(fleet, {"vm1": with_shared_memory}):
        fleet.lab.wait_for_guests(since=unix_now())
        host.virsh("autostart", "vm1")
        refused = fleet.furlough("enter", "h1", "--wait")
        assert refused.code == 3, refused.output
        fleet.check(fleet.furlough("vm", "set", "vm1", *COLD))
        began = unix_now()
        entered = fleet.furlough("enter", "h1", "--wait", "--json")
        assert entered.code == 0, entered.output
        (step,) = [one for one in entered.json["steps"] if one["vm_name"] == "vm1"]
        assert step["method"] == "cold"
        assert fleet.modes()["h1"] == "maintenance"
        assert fleet.running()["vm1"] == defined_on(fleet, "vm1") == [step["target"]]
        where = fleet.lab.host(step["target"])
        assert "vm1" in where.vms("--all", "--autostart")
        assert step["downtime_ms"] > 0
        fleet.lab.wait_for_guests(since=unix_now())
        for report in fleet.lab.witness(since=began):
            assert report.doubles == (), f"{report.vm} ran twice at once: {report.doubles}"
        fleet.check(fleet.furlough("exit", "h1", "--restore", "none", "--wait"))


def test_f071_our_daemon_is_killed_while_the_vm_is_off(fleet: Fleet) -> None:
    with redefined(fleet, {"vm1": with_shared_memory}):
        fleet.lab.wait_for_guests(since=unix_now())
        fleet.check(fleet.furlough("vm", "set", "vm1", *COLD))
        entering = fleet.start("enter", "h1", "--wait")
        fleet.wait_until(
            lambda: "vm1" not in fleet.lab.host("h1").vms(), "vm1 to be off at home", 120
        )
        fleet.lab.controller.kill()
        entering.stop()
        assert defined_on(fleet, "vm1")
        fleet.lab.controller.start()
        fleet.wait_until(lambda: fleet.modes()["h1"] == "maintenance", "h1 to be empty", 180)
        (where,) = fleet.running()["vm1"]
        assert where != "h1"
        assert defined_on(fleet, "vm1") == [where]
        fleet.check(fleet.furlough("exit", "h1", "--restore", "none", "--wait"))
