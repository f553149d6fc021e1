"""Options of entering on real hosts: approval, people who move, VMs that are off, what follows when
a VM cannot leave, and the ways to stop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from furlough.lab.blueprint import Keepalive, Options
from furlough.lab.patience import unix_now
from tests.lab.adversary import deaf, redefined, usb_on, with_usb_device
from tests.lab.conftest import driven, own_name
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.timeout(600), pytest.mark.lab_fault]


@pytest.fixture(scope="module")
def unhurried(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts and a daemon; three VMs on the first, each on its way for seconds."""
    options = Options(
        vms=3, on="h1", memory_mib=160, fill_percent=60, rate_mbit_s=150,
        keepalive=Keepalive(interval_s=1, count=3),
    )  # fmt: skip
    one_by_one = tmp_path_factory.mktemp("enrolment") / "furlough.toml"
    for fleet in driven(own_name("o"), options, tmp_path_factory):
        limits = f'[[cluster]]\nname = "{fleet.lab.name}"\n[cluster.limits]\nper_source = 1\n'
        one_by_one.write_text(limits)
        fleet.check(fleet.furlough("apply", str(one_by_one)))
        yield fleet


@pytest.fixture
def fleet(unhurried: Fleet) -> Fleet:
    """That fleet with everybody at home and in service, whatever the test before has left."""
    unhurried.bring_home("h1")
    return unhurried


def deaf_and_tied(xml: str) -> str:
    """A VM that cannot move and whose guest does not hear that it shall shut down."""
    return deaf(with_usb_device(xml))


def started(fleet: Fleet, *words: str) -> str:
    """Entering h1, accepted; its id."""
    asked = fleet.furlough("enter", "h1", *words, "--json")
    assert asked.code == 0, asked.complaint
    return str(asked.json["id"])


def until_code(fleet: Fleet, which: str, code: str) -> Any:
    """The operation once it waits, for the reason with this code."""
    fleet.wait_until(lambda: fleet.operation(which)["code"] == code, f"{which} to say {code}", 120)
    return fleet.operation(which)


def until_moved(fleet: Fleet, which: str, count: int) -> Any:
    """The operation once so many VMs have moved."""

    def moved() -> int:
        steps = fleet.operation(which)["steps"]
        return sum(1 for one in steps if one["vm_uuid"] and one["state"] == "succeeded")

    fleet.wait_until(lambda: moved() >= count, f"{count} VM(s) to move", timeout_s=120)
    return fleet.operation(which)


def check_accounted(fleet: Fleet, operation: Any) -> None:
    """Every VM of the operation is where it says, and by no more than one host."""
    seen = fleet.running()
    for vm in operation["vms"]:
        expected = [vm["host"]] if vm["power"] == "running" else []
        assert seen[vm["name"]] == expected, (vm, seen)


# --- who moves -----------------------------------------------------------------------------------


def test_nobody_moves_before_somebody_approves_a_step_or_the_whole_plan(fleet: Fleet) -> None:
    since, everybody = unix_now(), {vm: ["h1"] for vm in fleet.lab.vm_names}
    which = started(fleet, "--automation", "manual")
    waiting = until_code(fleet, which, "awaiting_approval")
    assert fleet.running() == everybody
    assert fleet.modes()["h1"] == "entering"
    wrong = fleet.furlough("operation", "approve", which, "--hash", "0" * 64)
    assert wrong.code == 9

    fleet.check(fleet.furlough("operation", "approve", which, "--vm", "vm2"))
    until_moved(fleet, which, 1)
    until_code(fleet, which, "awaiting_approval")
    still = [vm for vm, hosts in fleet.running().items() if hosts == ["h1"]]
    assert still == ["vm1", "vm3"]

    words = ("operation", "approve", which, "--hash", waiting["plan_hash"], "--wait", "--json")
    done = fleet.furlough(*words)
    assert done.code == 0, done.output
    assert fleet.modes()["h1"] == "maintenance"
    check_accounted(fleet, done.json)
    fleet.check(fleet.furlough("exit", "h1", "--wait"))
    assert fleet.running() == everybody
    fleet.check_witness(since, {})


def test_with_automation_off_people_move_and_it_ends_once_they_have(fleet: Fleet) -> None:
    since = unix_now()
    which = started(fleet, "--automation", "off")
    until_code(fleet, which, "awaiting_empty")
    assert fleet.running() == {vm: ["h1"] for vm in fleet.lab.vm_names}
    fleet.check(fleet.furlough("vm", "migrate", "vm1", "--to", "h2", "--wait"))
    # Another hand than ours.
    fleet.lab.host("h1").run(
        "virsh", "migrate", "--live", "--p2p", "--persistent", "--undefinesource", "vm2",
        f"qemu+tcp://{fleet.lab.host('h3').address}/system",
        f"tcp://{fleet.lab.host('h3').address}",
    )  # fmt: skip
    fleet.check(fleet.furlough("vm", "shut-down", "vm3", "--wait"))
    fleet.wait_until(lambda: fleet.operation(which)["state"] == "succeeded", "the end", 120)
    assert fleet.modes()["h1"] == "maintenance"
    fleet.check(fleet.furlough("exit", "h1", "--wait"))
    # Who was moved by people is not on record.
    assert fleet.running() == {"vm1": ["h2"], "vm2": ["h3"], "vm3": []}
    fleet.check(fleet.furlough("vm", "start", "vm3", "--wait"))
    fleet.check_witness(since, {})


# --- what must be gone ---------------------------------------------------------------------------


def test_with_scope_all_a_vm_that_is_off_leaves_and_comes_home_off(fleet: Fleet) -> None:
    host = fleet.lab.host("h1")
    fleet.check(fleet.furlough("vm", "shut-down", "vm3", "--wait"))
    assert host.vms("--all", "--autostart") == ["vm1"]
    entered = fleet.furlough("enter", "h1", "--scope", "all", "--wait", "--json")
    assert entered.code == 0, entered.complaint
    assert host.vms("--all") == []
    (vm,) = [one for one in entered.json["vms"] if one["name"] == "vm3"]
    assert (vm["power"], vm["outcome"]) == ("shut_off", "moved")
    assert "vm3" in fleet.lab.host(vm["host"]).vms("--all")
    assert "vm3" not in fleet.lab.host(vm["host"]).vms()
    fleet.check(fleet.furlough("exit", "h1", "--wait"))
    assert sorted(host.vms("--all")) == ["vm1", "vm2", "vm3"]
    assert sorted(host.vms()) == ["vm1", "vm2"]
    fleet.check(fleet.furlough("vm", "start", "vm3", "--wait"))


# --- when a VM cannot leave ----------------------------------------------------------------------


def test_after_a_failure_those_that_have_moved_are_put_back(fleet: Fleet) -> None:
    since, host = unix_now(), fleet.lab.host("h1")
    with usb_on(host), redefined(fleet, {"vm1": deaf_and_tied}):
        words = ("--on-maintenance", "shut_down", "--shut-down-grace", "5s")
        fleet.check(fleet.furlough("vm", "set", "vm1", *words))
        ended = fleet.furlough("enter", "h1", "--on-failure", "put_back", "--wait", "--json")
        assert (ended.code, ended.json["code"]) == (1, "guest.ignored"), ended.output
        assert {vm["outcome"] for vm in ended.json["vms"]} == {"put_back", "stayed"}
        assert fleet.running() == {vm: ["h1"] for vm in fleet.lab.vm_names}
        assert fleet.modes()["h1"] == "cordoned"
        check_accounted(fleet, ended.json)
    fleet.check_witness(since, {})


def test_a_vm_that_cannot_leave_is_waited_for_until_it_can(fleet: Fleet) -> None:
    host = fleet.lab.host("h1")
    with usb_on(host), redefined(fleet, {"vm1": with_usb_device}):
        which = started(fleet, "--on-failure", "wait")
        waiting = until_code(fleet, which, "vm.cannot_leave")
        assert "vm1" in waiting["waiting_for"]
        until_moved(fleet, which, 2)
        assert fleet.running()["vm1"] == ["h1"]
        fleet.check(fleet.furlough("vm", "shut-down", "vm1", "--wait"))
        fleet.wait_until(lambda: fleet.operation(which)["state"] == "succeeded", "the end", 120)
        assert host.vms() == []
        fleet.check(fleet.furlough("exit", "h1", "--wait"))


# --- ways to stop --------------------------------------------------------------------------------


def test_a_cancel_that_lets_finish_ends_with_the_one_in_flight_moved(fleet: Fleet) -> None:
    since = unix_now()
    which = started(fleet)
    flying = fleet.wait_for_copying("h1")
    ended = fleet.furlough("operation", "cancel", which, "--finish", "--wait", "--json")
    assert ended.code == 5, ended.output
    outcomes = {vm["name"]: vm["outcome"] for vm in ended.json["vms"]}
    assert outcomes == {vm: "moved" if vm == flying else "stayed" for vm in fleet.lab.vm_names}
    assert fleet.modes()["h1"] == "cordoned"
    check_accounted(fleet, ended.json)
    fleet.check_witness(since, {})


def test_a_cancel_that_puts_back_carries_out_the_plan_that_was_shown(fleet: Fleet) -> None:
    since = unix_now()
    which = started(fleet)
    until_moved(fleet, which, 1)
    early = fleet.furlough("operation", "cancel", which, "--put-back", "--dry-run", "--json").json
    fleet.check(fleet.furlough("operation", "pause", which))
    until_moved(fleet, which, 2)
    words = ("operation", "cancel", which, "--put-back", "--wait", "--json")
    refused = fleet.furlough(*words, "--plan-hash", early["plan"]["hash"])
    assert (refused.code, "no longer the one" in refused.complaint) == (9, True), refused.output
    seen = fleet.furlough("operation", "cancel", which, "--put-back", "--dry-run", "--json").json
    assert len(seen["vms"]) == 2
    ended = fleet.furlough(*words, "--plan-hash", seen["plan"]["hash"])
    assert ended.code == 5, ended.output
    assert fleet.running() == {vm: ["h1"] for vm in fleet.lab.vm_names}
    assert fleet.modes()["h1"] == "cordoned"
    check_accounted(fleet, ended.json)
    fleet.check_witness(since, {})
