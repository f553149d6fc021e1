"""What an operator may add to a precheck, a plan and an entering: VMs that may be shut down,
findings that are accepted, findings that are to count more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from furlough.core.ids import HostName
from furlough.sim.cluster import Copy
from tests.api.running import Running
from tests.cli.commands import Furlough, Result, complaint

pytestmark = pytest.mark.usefixtures("everything_as_before")

H1 = HostName("h1")


@pytest.fixture
def tied(daemon: Running) -> Iterator[Copy]:
    """A VM of h1 with a device, which cannot move live."""
    copy = next(iter(daemon.cluster.hosts[H1].copies.values()))
    plain = copy.vm
    daemon.do(lambda: setattr(copy, "vm", replace(plain, devices=("gpu",))))
    yield copy
    daemon.do(lambda: setattr(copy, "vm", plain))


@pytest.fixture
def unproven(daemon: Running) -> Iterator[None]:
    """h1 has lost its hook."""
    machine = daemon.cluster.hosts[H1]

    def unhook() -> None:
        machine.has_hook, machine.guard_trouble = False, "its hook is not installed"

    def hook() -> None:
        machine.has_hook, machine.guard_trouble = True, ""

    daemon.do(unhook)
    yield
    daemon.do(hook)


def severities(result: Result, code: str) -> set[str]:
    """How much findings of this code weigh in a precheck."""
    return {
        one["severity"]
        for report in result.json
        for one in report["findings"]
        if one["code"] == code
    }


def method(result: Result, copy: Copy) -> str:
    """What a precheck says will be done with a VM."""
    (found,) = [vm for report in result.json for vm in report["vms"] if vm["uuid"] == copy.vm.id]
    return str(found["method"])


def test_a_vm_that_cannot_move_may_be_shut_down_when_it_is_named(
    furlough: Furlough, tied: Copy
) -> None:
    result = furlough("check", "h1", "--json")
    assert (result.code, severities(result, "vm.device")) == (3, {"blocker"})
    for name in (tied.vm.name, tied.vm.id, tied.vm.id.upper()):
        allowed = furlough("check", "h1", "--shut-down", name, "--json")
        assert (allowed.code, severities(allowed, "vm.device")) == (0, {"info"})
        assert method(allowed, tied) == "shut_down"
    steps = furlough("plan", "h1", "--shut-down", tied.vm.name, "--json").json["steps"]
    assert [one["vm_uuid"] for one in steps if one["method"] == "shut_down"] == [tied.vm.id]


def test_it_is_shut_down_on_the_way_in_and_runs_again_after_the_way_out(
    furlough: Furlough, tied: Copy
) -> None:
    refused = furlough("enter", "h1", "--wait")
    assert refused.code == 3
    assert "vm.device" in complaint(refused)
    entered = furlough("enter", "h1", "--shut-down", tied.vm.name, "--wait", "--json")
    assert (entered.code, entered.json["state"]) == (0, "succeeded")
    assert furlough("vm", "show", tied.vm.id, "--json").json["power"] == "shut_off"
    assert furlough("exit", "h1", "--wait").code == 0
    assert furlough("vm", "show", tied.vm.id, "--json").json["power"] == "running"


def test_a_vm_that_is_not_on_the_hosts_is_not_shut_down(furlough: Furlough) -> None:
    (elsewhere, *_) = furlough("vm", "list", "--host", "h2", "--json").json
    for command in ("check", "plan", "enter"):
        result = furlough(command, "h1", "--shut-down", elsewhere["name"])
        assert result.code == 2
        assert f"'{elsewhere['name']}' is to be shut down, and is not on h1" in complaint(result)


def test_a_name_that_two_vms_have_is_refused_with_both_uuids(
    daemon: Running, furlough: Furlough
) -> None:
    one, two = list(daemon.cluster.hosts[H1].copies.values())[:2]
    plain = two.vm
    daemon.do(lambda: setattr(two, "vm", replace(plain, name=one.vm.name)))
    try:
        said = complaint(furlough("check", "h1", "--shut-down", one.vm.name))
    finally:
        daemon.do(lambda: setattr(two, "vm", plain))
    assert one.vm.id in said
    assert two.vm.id in said


@pytest.mark.usefixtures("unproven")
def test_a_blocker_that_is_accepted_with_a_reason_is_shown_as_such(furlough: Furlough) -> None:
    blocked = furlough("check", "h1", "--json")
    assert (blocked.code, severities(blocked, "guard.unproven")) == (3, {"blocker"})
    words = ("--override", "guard.unproven", "--reason", "disk is dying")
    accepted = furlough("check", "h1", *words, "--json")
    assert (accepted.code, severities(accepted, "guard.unproven")) == (0, {"warning"})
    assert "accepted: disk is dying" in furlough("check", "h1", *words).out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--override", "guard.unproven"), "takes a reason"),
        (("--override", "guard.missing", "--reason", "r"), "cannot be overridden"),
        (("--override", "no.such", "--reason", "r"), "no finding 'no.such'"),
        (("--strict", "no.such"), "no finding 'no.such'"),
    ],
)
def test_an_override_that_makes_no_sense_is_said_so(
    furlough: Furlough, words: tuple[str, ...], why: str
) -> None:
    for command in ("check", "plan", "enter"):
        result = furlough(command, "h1", *words)
        assert result.code == 2
        assert why in complaint(result)


def test_a_finding_may_be_made_to_count_more(daemon: Running, furlough: Furlough) -> None:
    machine = daemon.cluster.hosts[H1].surroundings
    daemon.do(lambda: setattr(machine, "starts_guests_at_boot", True))
    try:
        assert severities(furlough("check", "h1", "--json"), "host.starts_guests") == {"warning"}
        strict = furlough("check", "h1", "--strict", "host.starts_guests", "--json")
    finally:
        daemon.do(lambda: setattr(machine, "starts_guests_at_boot", False))
    assert (strict.code, severities(strict, "host.starts_guests")) == (3, {"blocker"})


def test_findings_stand_by_their_weight_with_what_to_do_and_then_every_vm(
    furlough: Furlough, tied: Copy
) -> None:
    shown = furlough("check", "h1").out
    lines = shown.splitlines()
    assert lines[0] == "h1: blocked"
    assert lines[1] == "  forbids entering:"
    assert lines[2].startswith("    vm.device: ")
    assert "gpu" in lines[2]
    assert lines[3].startswith("      -> ")
    table = next(line for line in lines if line.startswith("VM "))
    assert table.split() == ["VM", "METHOD", "TARGET", "SECONDS", "DOWNTIME", "REASON"]
    rows = lines[lines.index(table) + 1 :]
    assert len([row for row in rows if row]) == 6
    assert any(row.startswith(tied.vm.name) for row in rows)
