"""VMs that stand still: stopped by an I/O error, asleep, crashed, being saved. Each is named with
its reason, none of them moves, and once it runs again the host is entered."""

from __future__ import annotations

from typing import Any

import pytest

from furlough.errors import FurloughError
from furlough.lab.host import Host
from tests.lab.adversary import (
    original_xml,
    panicking,
    redefined,
    restart,
    sleepy,
    storage_gone_from,
    writing,
)
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.timeout(600)]


def state_of(host: Host, vm: str) -> str:
    """Its state and the reason, in virsh's words."""
    return host.virsh("domstate", vm, "--reason").strip()


def wait_for_state(fleet: Fleet, vm: str, state: str) -> None:
    """Until virsh says so of a VM of h1."""
    host = fleet.lab.host("h1")
    fleet.wait_until(lambda: state_of(host, vm) == state, f"{vm} to be {state}")


def refused_for(fleet: Fleet, vm: str, code: str) -> Any:
    """h1 is not entered because of this VM, and nothing moves; the finding that says so."""
    before = fleet.lab.placement()
    refused = fleet.furlough("enter", "h1", "--wait")
    assert refused.code == 3, refused.output
    assert vm in refused.complaint
    assert fleet.lab.placement() == before
    assert fleet.modes()["h1"] == "available"
    (report,) = fleet.furlough("check", "h1", "--json").json
    found = [one for one in report["findings"]
             if one["code"] == code and one["subject"].startswith(f"{vm} ")]  # fmt: skip
    assert [one["severity"] for one in found] == ["blocker"], report["findings"]
    assert found[0]["remedy"]
    return found[0]


def until_pressed(fleet: Fleet, vm: str, state: str) -> None:
    """Press the power button until the VM is in that state."""
    host = fleet.lab.host("h1")

    def pressed() -> bool:
        if state_of(host, vm).startswith("running"):
            host.virsh("shutdown", vm)
        return state_of(host, vm).startswith(state)

    fleet.wait_until(pressed, f"{vm} to be {state}")


def test_f056_a_vm_that_lost_its_storage_is_named_and_nothing_moves(fleet: Fleet) -> None:
    host = fleet.lab.host("h1")
    with redefined(fleet, {"vm1": writing}):
        fleet.wait_until(lambda: wrote(host, "vm1"), "vm1 to write to its disk")
        with storage_gone_from(host, fleet.lab.blueprint.switch_address):
            wait_for_state(fleet, "vm1", "paused (I/O error)")
            found = refused_for(fleet, "vm1", "vm.io_error")
            assert "I/O error" in found["message"]
    for vm in fleet.lab.vm_names:
        # Their emulators do not take up a connection again that was cut.
        restart(fleet.lab, vm, "h1", original_xml(fleet.lab, vm))
    fleet.check(fleet.furlough("enter", "h1", "--wait"))
    fleet.check(fleet.furlough("exit", "h1", "--wait"))


def wrote(host: Host, vm: str) -> bool:
    """Whether its disk has been written to."""
    return "vda wr_bytes 0\n" not in host.virsh("domblkstat", vm, "vda") + "\n"


def test_f056_storage_that_goes_while_the_host_is_emptied_holds_the_operation_up(
    fleet: Fleet,
) -> None:
    host = fleet.lab.host("h1")
    with redefined(fleet, dict.fromkeys(fleet.lab.vm_names, writing)):
        fleet.wait_until(
            lambda: all(wrote(host, vm) for vm in fleet.lab.vm_names), "every VM to write"
        )
        host.set_rate(60)
        try:
            running = fleet.start("enter", "h1", "--wait", "--json")
            fleet.wait_for_copying("h1")
            with storage_gone_from(host, fleet.lab.blueprint.switch_address):
                fleet.wait_until(lambda: all_stopped(host), "every VM of h1 to be stopped")
        finally:
            host.restore_link()
        stopped = host.vms()
        assert len(stopped) >= 2, "those whose turn had not come"
        held_up = running.wait()
        assert held_up.code == 8, held_up.output
        assert fleet.modes()["h1"] == "entering"
        assert "I/O error" in held_up.output + held_up.complaint
        # Nothing but its end helps a VM whose connection to its disk is lost.
        for vm in stopped:
            host.virsh("destroy", vm)
        which = fleet.active_operation()["id"]
        fleet.check(fleet.furlough("operation", "watch", which))
        assert fleet.modes()["h1"] == "maintenance"
        assert all(len(hosts) == (vm not in stopped) for vm, hosts in fleet.running().items())
        fleet.check(fleet.furlough("exit", "h1", "--wait"))


def all_stopped(host: Host) -> bool:
    """Whether I/O errors have stopped every VM of a host, and no migration is under way there."""
    try:
        return all(
            "I/O error" in state_of(host, vm) and "None" in host.virsh("domjobinfo", vm)
            for vm in host.vms()
        )
    except FurloughError:
        return False  # One has just gone.


def test_f080_a_vm_that_sleeps_or_has_crashed_is_named_and_does_not_move(fleet: Fleet) -> None:
    host = fleet.lab.host("h1")
    with redefined(fleet, {"vm1": sleepy, "vm2": panicking}):
        until_pressed(fleet, "vm1", "pmsuspended")
        until_pressed(fleet, "vm2", "crashed")
        assert "sleeps" in refused_for(fleet, "vm1", "vm.suspended")["message"]
        assert refused_for(fleet, "vm2", "vm.error")["message"]
        host.virsh("dompmwakeup", "vm1")
        wait_for_state(fleet, "vm1", "running (event wakeup)")
        host.virsh("destroy", "vm2")
        host.virsh("start", "vm2")
        fleet.check(fleet.furlough("enter", "h1", "--wait"))
        assert host.vms() == []
        fleet.check(fleet.furlough("exit", "h1", "--wait"))


# libvirt opens what it saves to more than once, so the reader holds the pipe open all the time.
READER = """\
exec 3<>/srv/pipe
until test -e /run/read-on; do sleep 0.2; done
cat <&3 >/dev/null &
until test -e /run/read-enough; do sleep 0.2; done
kill $!
"""


def test_f080_a_vm_that_is_being_saved_is_named_and_does_not_move(fleet: Fleet) -> None:
    host = fleet.lab.host("h1")
    # Nobody reads yet what is saved, so the saving lasts.
    host.run("mkfifo", "/srv/pipe")
    reading = fleet.start_on("h1", READER)
    saving = fleet.start_on("h1", "virsh save vm1 /srv/pipe")
    try:
        fleet.wait_until(lambda: "Save" in host.virsh("domjobinfo", "vm1"), "vm1 to be saved")
        assert "save" in refused_for(fleet, "vm1", "vm.busy")["message"]
    finally:
        host.run("touch", "/run/read-on")
        saving.wait()
        host.run("touch", "/run/read-enough")
        reading.wait()
        host.run("rm", "-f", "/srv/pipe", "/run/read-on", "/run/read-enough")
    # It is off now, as its owner wanted; what is off does not keep a host from being entered.
    fleet.check(fleet.furlough("enter", "h1", "--wait"))
    fleet.check(fleet.furlough("exit", "h1", "--wait"))
    assert "vm1" not in host.vms()
    host.virsh("start", "vm1")
