"""`kill -9` in the middle of a real migration: of our daemon, of the source's and of the target's
libvirtd, each started again. The operation ends by itself, nobody runs twice, nobody is lost."""

from __future__ import annotations

from typing import Any

import pytest

from furlough.lab.patience import unix_now
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.lab_fault, pytest.mark.timeout(600)]


def check_ended_well(fleet: Fleet, operation: Any, since: float) -> None:
    """In maintenance, everybody on one other host, nobody ever on two."""
    assert operation["state"] == "succeeded", operation
    assert fleet.lab.host("h1").vms("--all") == []
    assert {len(hosts) for hosts in fleet.running().values()} == {1}
    assert fleet.modes()["h1"] == "maintenance"
    fleet.check_witness(since, {})


@pytest.mark.lab
def test_f005_our_daemon_is_killed_and_started_again(fleet: Fleet) -> None:
    since = unix_now()
    running = fleet.start("enter", "h1", "--wait", "--json")
    fleet.wait_for_copying("h1")
    fleet.lab.controller.kill()
    fleet.lab.controller.start()
    ran = running.wait()
    assert ran.code == 0, ran.complaint
    # What was in flight went on without us: nobody was migrated a second time.
    for report in fleet.lab.witness(since=since):
        assert len(report.stays) == 2, f"{report.vm} was on {report.stays}"
    check_ended_well(fleet, ran.json, since)


def test_f036_the_sources_libvirtd_is_killed_and_started_again(fleet: Fleet) -> None:
    since = unix_now()
    running = fleet.start("enter", "h1", "--wait", "--json")
    fleet.wait_for_copying("h1")
    fleet.lab.host("h1").kill_daemon()
    fleet.wait_until(lambda: fleet.active_operation()["code"] == "host.silent", "it to be noticed")
    fleet.lab.host("h1").start_daemon()
    ran = running.wait()
    assert ran.code == 0, ran.output
    check_ended_well(fleet, ran.json, since)


def test_f038_the_targets_libvirtd_is_killed_and_started_again(fleet: Fleet) -> None:
    since = unix_now()
    running = fleet.start("enter", "h1", "--wait", "--json")
    vm = fleet.wait_for_copying("h1")
    step = next(s for s in fleet.active_operation()["steps"] if s["vm_name"] == vm)
    fleet.lab.host(step["target"]).kill_daemon()
    # Nobody can say what became of its copy there, so nothing is done about the VM meanwhile.
    fleet.wait_until(lambda: fleet.active_operation()["code"] == "host.silent", "it to be noticed")
    assert fleet.step_of(vm)["attempts"] == 1
    fleet.lab.host(step["target"]).start_daemon()
    ran = running.wait()
    assert ran.code == 0, ran.output
    check_ended_well(fleet, ran.json, since)
