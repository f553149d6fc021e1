"""VMs that do not do as they are told, or of which others make something else meanwhile."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from furlough.lab.host import Host
from furlough.lab.patience import unix_now
from tests.lab.adversary import (
    deaf,
    define,
    forget,
    original_xml,
    redefined,
    usb_on,
    with_usb_device,
)
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.timeout(600)]


def deaf_and_tied(xml: str) -> str:
    """A VM that cannot move and whose guest does not hear that it shall shut down."""
    return deaf(with_usb_device(xml))


def test_f075_a_guest_that_ignores_the_request_keeps_running_unless_policy_says_otherwise(
    fleet: Fleet,
) -> None:
    host = fleet.lab.host("h1")
    with usb_on(host), redefined(fleet, {"vm1": deaf_and_tied}):
        words = ("--on-maintenance", "shut_down", "--shut-down-grace", "5s")
        fleet.check(fleet.furlough("vm", "set", "vm1", *words))
        kept = fleet.furlough("enter", "h1", "--wait", "--json")
        assert kept.code == 1, kept.output
        assert kept.json["code"] == "guest.ignored"
        assert host.vms() == ["vm1"]
        assert fleet.modes()["h1"] == "cordoned"
        fleet.check(fleet.furlough("vm", "set", "vm1", "--if-ignored", "power_off"))
        entered = fleet.furlough("enter", "h1", "--wait", "--json")
        assert entered.code == 0, entered.output
        assert host.vms() == []
        fleet.check(fleet.furlough("exit", "h1", "--wait"))
        assert "vm1" in host.vms()


def test_f079_a_paused_vm_moves_and_stays_paused_and_is_never_moved_into_a_crash(
    fleet: Fleet,
) -> None:
    host = fleet.lab.host("h1")
    host.virsh("suspend", "vm1")
    try:
        entered = fleet.furlough("enter", "h1", "--wait", "--json")
        assert entered.code == 0, entered.output
        (vm,) = [one for one in entered.json["vms"] if one["name"] == "vm1"]
        assert vm["power"] == "paused"
        where = fleet.lab.host(vm["host"])
        assert where.virsh("domstate", "vm1").strip() == "paused"
        # QEMU before 10.0 would abort on the way back: it has not run since it arrived.
        fleet.check(fleet.furlough("exit", "h1", "--wait"))
        assert where.virsh("domstate", "vm1").strip() == "paused"
        refused = fleet.furlough("vm", "migrate", "vm1", "--to", "h1", "--wait")
        assert refused.code == 3, refused.output
        assert "has not run since" in refused.complaint
        where.virsh("resume", "vm1")
        fleet.wait_until(lambda: has_run(where, "vm1"), "vm1 to run for a moment")
        where.virsh("suspend", "vm1")
        fleet.check(fleet.furlough("vm", "migrate", "vm1", "--to", "h1", "--wait"))
        assert host.virsh("domstate", "vm1").strip() == "paused"
    finally:
        fleet.lab.host(fleet.running()["vm1"][0]).virsh("resume", "vm1")


def has_run(host: Host, vm: str) -> bool:
    """Whether its processor has used any time."""
    return "vcpu.0.time=0\n" not in host.virsh("domstats", vm, "--vcpu") + "\n"


def test_f081_a_transient_vm_moves_and_is_never_shut_down(fleet: Fleet) -> None:
    host = fleet.lab.host("h1")
    xml = original_xml(fleet.lab, "vm1")
    bus = ExitStack()
    try:
        bus.enter_context(usb_on(host))
        forget(host, "vm1")
        path = host.directory / "witness" / "vm1.xml"
        path.write_text(with_usb_device(xml), encoding="utf-8")
        host.virsh("create", str(path))
        refused = fleet.furlough("enter", "h1", "--shut-down", "vm1", "--wait")
        assert refused.code == 3, refused.output
        assert "vm1" in host.vms()
        forget(host, "vm1")
        path.write_text(xml, encoding="utf-8")
        host.virsh("create", str(path))
        fleet.check(fleet.furlough("enter", "h1", "--wait"))
        fleet.check(fleet.furlough("exit", "h1", "--wait"))
        assert "vm1" in host.vms("--transient")
    finally:
        bus.close()
        forget(host, "vm1")
        define(host, "vm1", xml)
        host.virsh("start", "vm1")


def test_f065_a_target_with_another_vm_of_that_name_is_passed_over(fleet: Fleet) -> None:
    h2 = fleet.lab.host("h2")
    xml = original_xml(fleet.lab, "vm1")
    uuid = next(vm.uuid for vm in fleet.lab.blueprint.vms if vm.name == "vm1")
    define(h2, "vm1", xml.replace(uuid, "00000000-0000-4000-8000-00000000beef"))
    try:
        entered = fleet.furlough("enter", "h1", "--wait", "--json")
        assert entered.code == 0, entered.output
        assert fleet.running()["vm1"] == ["h3"]
        fleet.check(fleet.furlough("exit", "h1", "--wait"))
    finally:
        forget(h2, "vm1")


def test_f067_a_definition_of_the_same_vm_on_a_target_is_never_replaced_unseen(
    fleet: Fleet,
) -> None:
    h2, h3 = fleet.lab.host("h2"), fleet.lab.host("h3")
    xml = original_xml(fleet.lab, "vm1")
    for host in (h2, h3):
        define(host, "vm1", xml)
    try:
        refused = fleet.furlough("enter", "h1", "--wait")
        assert refused.code == 3, refused.output
        (report,) = fleet.furlough("check", "h1", "--json").json
        (one,) = [f for f in report["findings"] if f["subject"].startswith("vm1 ")
                  and f["severity"] == "blocker"]  # fmt: skip
        assert "UUID" in one["message"] or "definition" in one["message"]
        h3.virsh("undefine", "vm1")
        fleet.check(fleet.furlough("enter", "h1", "--wait"))
        assert fleet.running()["vm1"] == ["h3"]
        fleet.check(fleet.furlough("exit", "h1", "--wait"))
    finally:
        h2.virsh("undefine", "vm1")


def test_f057_storage_that_is_gone_on_one_target_sends_the_vm_to_another(fleet: Fleet) -> None:
    h2 = fleet.lab.host("h2")
    storage = fleet.lab.blueprint.switch_address
    h2.run("ip", "route", "add", "unreachable", f"{storage}/32")
    try:
        entered = fleet.furlough("enter", "h1", "--wait", "--json")
        assert entered.code == 0, entered.output
        assert set(fleet.lab.placement()["h3"]) == set(fleet.lab.vm_names)
        fleet.check(fleet.furlough("exit", "h1", "--wait"))
    finally:
        h2.run("ip", "route", "del", "unreachable", f"{storage}/32")


def test_f066_autostart_and_definition_are_as_before_after_the_way_there_and_back(
    fleet: Fleet,
) -> None:
    host = fleet.lab.host("h1")
    autostart, defined = host.vms("--all", "--autostart"), host.vms("--all", "--persistent")
    fleet.check(fleet.furlough("enter", "h1", "--wait"))
    assert host.vms("--all") == []
    fleet.check(fleet.furlough("exit", "h1", "--wait"))
    assert host.vms("--all", "--autostart") == autostart
    assert host.vms("--all", "--persistent") == defined


def test_f089_a_vm_that_somebody_migrates_now_is_waited_for(fleet: Fleet) -> None:
    h1, h3 = fleet.lab.host("h1"), fleet.lab.host("h3")
    slowly = fleet.start_on(
        "h1",
        "virsh migrate --live --p2p --persistent --undefinesource --bandwidth 1 vm1 "
        f"qemu+tcp://{h3.address}/system tcp://{h3.address}",
    )
    fleet.wait_for_copying("h1")
    refused = fleet.furlough("enter", "h1")
    assert refused.code == 3, refused.output
    assert "vm1" in refused.output + refused.complaint
    h1.virsh("migrate-setspeed", "vm1", "1000")
    assert slowly.wait().code == 0
    entered = fleet.furlough("enter", "h1", "--wait", "--json")
    assert entered.code == 0, entered.output
    assert {len(hosts) for hosts in fleet.running().values()} == {1}


def test_f090_a_migration_that_somebody_aborts_is_tried_again(fleet: Fleet) -> None:
    h1, since = fleet.lab.host("h1"), unix_now()
    h1.set_rate(60)
    try:
        running = fleet.start("enter", "h1", "--wait", "--json")
        vm = fleet.wait_for_copying("h1")
        h1.virsh("domjobabort", vm)
        fleet.wait_until(lambda: fleet.step_of(vm)["attempts"] >= 1, "the attempt to be over")
    finally:
        h1.restore_link()
    ended = running.wait()
    assert ended.code == 0, ended.output
    (step,) = [one for one in ended.json["steps"] if one["vm_name"] == vm]
    assert step["attempts"] == 2, step
    assert h1.vms() == []
    fleet.check_witness(since, {})


def test_f051_a_host_that_answers_as_another_is_no_target(fleet: Fleet) -> None:
    h3 = fleet.lab.host("h3")
    right = fleet.lab.host("h2").address
    fleet.check(fleet.furlough("host", "set", "h2", "--address", h3.address))
    try:
        shown = fleet.furlough("host", "show", "h2", "--json").json
        assert shown["reachability"] == "silent"
        assert "h3" in shown["silent_because"], shown
        (report,) = fleet.furlough("check", "h1", "--json").json
        assert "h2" not in {vm["target"] for vm in report["vms"]}
    finally:
        fleet.check(fleet.furlough("host", "set", "h2", "--address", right))
    assert fleet.furlough("host", "show", "h2", "--json").json["reachability"] == "connected"


def test_f085_a_start_under_way_when_the_guard_is_raised_delays_maintenance(fleet: Fleet) -> None:
    host = fleet.lab.host("h1")
    host.virsh("shutdown", "vm4")
    fleet.wait_until(lambda: "vm4" not in host.vms(), "vm4 to be off")
    slow = host.directory / "etc-libvirt" / "hooks" / "qemu.d" / "60-slow"
    slow.write_text(
        "#!/bin/sh\n"
        'if [ "$1 $2" = "vm4 prepare" ]; then\n'
        "  touch /run/furlough-witness/started\n"
        "  until test -e /run/vm4-may-start; do sleep 0.2; done\n"
        "fi\n"
    )
    slow.chmod(0o755)
    starting = fleet.start_on("h1", "virsh start vm4")
    try:
        fleet.wait_until(
            (host.directory / "witness" / "started").exists, "vm4's start to wait for the hook"
        )
        running = fleet.start("enter", "h1", "--wait", "--json")
        # Meanwhile libvirt answers nobody who asks for its list, so nobody may call h1 empty.
        since = unix_now()
        fleet.wait_until(lambda: unix_now() - since > 15, "a while to pass")
        assert fleet.modes()["h1"] in ("available", "entering")
    finally:
        host.run("touch", "/run/vm4-may-start")
        starting.wait()
        slow.unlink()
    ended = running.wait()
    if ended.code == 3:
        assert "does not answer" in ended.complaint, ended.complaint
        ended = fleet.furlough("enter", "h1", "--wait", "--json")
    assert ended.code == 0, ended.output
    assert host.vms() == []
    assert fleet.running()["vm4"] in (["h2"], ["h3"])
