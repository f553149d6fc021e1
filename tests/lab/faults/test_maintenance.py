"""In maintenance, with virsh as the adversary: nothing starts on the host, what gets there all the
same is told at once, and the host can be rebooted and comes back empty and guarded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from furlough.errors import FurloughError
from furlough.lab.host import Host
from furlough.lab.patience import unix_now
from tests.lab.adversary import define, forget, original_xml, refusal_of
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.timeout(600)]

OUR_LINE = "furlough: refused, host is kept empty by operation"
GUEST = "intruder"


@pytest.fixture
def kept(fleet: Fleet) -> Iterator[Fleet]:
    """That fleet with h1 in maintenance, and a VM defined there that would start by itself."""
    host = fleet.lab.host("h1")
    fleet.check(fleet.furlough("enter", "h1", "--wait"))
    define(host, GUEST, intruder_xml(fleet))
    host.virsh("autostart", GUEST)
    try:
        yield fleet
    finally:
        forget(host, GUEST)


def intruder_xml(fleet: Fleet) -> str:
    """A VM that nobody knows."""
    plan = fleet.lab.blueprint.vms[0]
    xml = original_xml(fleet.lab, plan.name).replace(plan.uuid, str_uuid(0xBAD))
    return xml.replace(f"<name>{plan.name}</name>", f"<name>{GUEST}</name>")


def str_uuid(number: int) -> str:
    """A UUID of nobody else's."""
    return f"00000000-0000-4000-8000-{number:012x}"


def shown(fleet: Fleet, host: str = "h1") -> Any:
    """A host as `host show --json` has it."""
    return fleet.furlough("host", "show", host, "--json").json


@pytest.mark.lab
def test_nothing_gets_onto_the_host_and_after_it_everything_works_as_before(kept: Fleet) -> None:
    host, h2 = kept.lab.host("h1"), kept.lab.host("h2")
    path = host.directory / "witness" / f"{GUEST}.xml"
    assert shown(kept)["guard"] == "raised"
    assert OUR_LINE in refusal_of(host, "start", GUEST)
    host.virsh("undefine", GUEST)
    assert OUR_LINE in refusal_of(host, "create", str(path))
    define(host, GUEST, path.read_text())
    host.virsh("autostart", GUEST)

    guest = h2.vms()[0]
    with pytest.raises(FurloughError) as refused:
        h2.migrate(guest, host)
    assert OUR_LINE in refused.value.message
    assert guest in h2.vms()

    h2.virsh("save", guest, "/srv/saved")
    saved = h2.directory.parent / "h1" / "witness" / "saved"
    try:
        saved.write_bytes(read_from(kept, "h2", "/srv/saved"))
        assert OUR_LINE in refusal_of(host, "restore", "/run/furlough-witness/saved")
    finally:
        saved.unlink()
        h2.virsh("restore", "/srv/saved")

    failures = autostart_failures(host)
    host.kill_daemon()
    forget_autostart(host)
    host.start_daemon()
    assert autostart_failures(host) > failures
    assert host.vms() == []

    host.virsh("undefine", GUEST)
    kept.check(kept.furlough("exit", "h1", "--wait"))
    define(host, GUEST, path.read_text())
    host.virsh("start", GUEST)
    assert GUEST in host.vms()


def forget_autostart(host: Host) -> None:
    """libvirt starts VMs by itself once after each boot, and marks that it has: without the mark
    its next start is the first one."""
    host.run("rm", "/run/libvirt/qemu/autostarted")


def autostart_failures(host: Host) -> int:
    """How often libvirt's own log says that a VM could not be started by itself."""
    log = host.directory / "var-log-libvirt" / "libvirtd.log"
    return log.read_text(encoding="utf-8", errors="replace").count("ailed to autostart VM")


def read_from(fleet: Fleet, host: str, path: str) -> bytes:
    """A file of a host, through the directory that this machine sees as well."""
    where = fleet.lab.host(host)
    where.run("cp", path, "/run/furlough-witness/copied")
    copied = where.directory / "witness" / "copied"
    try:
        return copied.read_bytes()
    finally:
        copied.unlink()


def test_f117_a_daemon_that_starts_again_while_the_host_is_emptied_kills_nobody(
    fleet: Fleet,
) -> None:
    host, since = fleet.lab.host("h1"), unix_now()
    host.set_rate(60)
    try:
        running = fleet.start("enter", "h1", "--wait", "--json")
        fleet.wait_for_copying("h1")
        before = set(host.vms())
        host.kill_daemon()
        forget_autostart(host)
        host.start_daemon()
        left = set(host.vms())
        assert left, before
    finally:
        host.restore_link()
    ended = running.wait()
    assert ended.code == 0, ended.output
    assert {vm["outcome"] for vm in ended.json["vms"]} == {"moved"}
    fleet.check_witness(since, {})


@pytest.mark.lab
def test_f086_a_vm_that_appears_in_maintenance_is_told_at_once_and_forbids_power(
    kept: Fleet,
) -> None:
    host = kept.lab.host("h1")
    hook = host.directory / "etc-libvirt" / "hooks" / "qemu.d" / "50-furlough"
    program = hook.read_bytes()
    hook.unlink()
    since = unix_now()
    try:
        host.virsh("start", GUEST)
        kept.wait_until(lambda: shown(kept)["violations"] != [], "the violation", timeout_s=30)
        assert unix_now() - since < 30
        told = " ".join(one["what"] for one in shown(kept)["violations"])
        assert GUEST in told
        assert all(one["since"] for one in shown(kept)["violations"])
        assert GUEST in kept.furlough("host", "log", "h1").output
        for verb in ("reboot", "power-off"):
            refused = kept.furlough("host", verb, "h1", "--wait")
            assert refused.code == 3, refused.output
            assert GUEST in refused.complaint + refused.output
        host.virsh("destroy", GUEST)
    finally:
        hook.write_bytes(program)
        hook.chmod(0o755)
    kept.wait_until(lambda: shown(kept)["violations"] == [], "its end", timeout_s=30)
    kept.wait_until(lambda: shown(kept)["guard"] == "raised", "the proof", timeout_s=90)


def test_f053_a_host_that_reboots_in_maintenance_comes_back_empty_and_guarded(kept: Fleet) -> None:
    host = kept.lab.host("h1")
    boot = host.run("cat", "/proc/sys/kernel/random/boot_id")
    rebooted = kept.furlough("host", "reboot", "h1", "--wait", "--json")
    assert rebooted.code == 0, rebooted.output + rebooted.complaint
    assert host.run("cat", "/proc/sys/kernel/random/boot_id") != boot
    assert host.vms() == []
    assert GUEST in host.vms("--all", "--autostart")
    assert kept.modes()["h1"] == "maintenance"
    assert shown(kept)["guard"] == "raised"


def test_a_host_that_is_switched_off_stays_in_maintenance_and_comes_back_guarded(
    kept: Fleet,
) -> None:
    host = kept.lab.host("h1")
    # One power command a minute is the most, and another test may just have sent one.
    kept.wait_until(
        lambda: kept.furlough("host", "power-off", "h1").code == 0, "the command to be taken", 90
    )
    kept.check(kept.furlough("operation", "watch", kept.active_operation()["id"]))
    assert host.inside.first() is None, "nothing of it runs"
    assert kept.modes()["h1"] == "maintenance"
    kept.wait_until(lambda: shown(kept)["reachability"] == "silent", "its silence")
    host.boot()
    kept.wait_until(lambda: shown(kept)["reachability"] == "connected", "its return")
    kept.wait_until(lambda: shown(kept)["guard"] == "raised", "the proof of its guard", 120)
    assert host.vms() == []
    assert OUR_LINE in refusal_of(host, "start", GUEST)


def test_outside_maintenance_a_host_is_not_rebooted(fleet: Fleet) -> None:
    before = fleet.running()
    for verb in ("reboot", "power-off"):
        refused = fleet.furlough("host", verb, "h1")
        assert refused.code in (3, 9), refused.output
        assert "maintenance" in refused.complaint
    assert fleet.running() == before


def test_our_own_commands_start_nothing_there_either(kept: Fleet) -> None:
    refused = kept.furlough("vm", "start", str_uuid(0xBAD), "--wait")
    assert refused.code == 3, refused.output
    assert "maintenance" in refused.complaint
    guest = kept.lab.host("h2").vms()[0]
    refused = kept.furlough("vm", "migrate", guest, "--to", "h1", "--wait")
    assert refused.code == 3, refused.output
    assert kept.lab.host("h1").vms() == []
