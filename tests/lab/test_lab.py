"""The lab itself, on real hosts: it is what it says it is, and adversaries can play in it."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from furlough.cli.lab import app
from furlough.errors import Invalid, NotFound, Refused, Unreachable
from furlough.lab.blueprint import Options
from furlough.lab.command import run
from furlough.lab.construction import construct
from furlough.lab.host import Host
from furlough.lab.lab import Lab
from furlough.lab.patience import wait_until

pytestmark = pytest.mark.lab

MARKER = ("--operation", "test", "--epoch", "1", "--controller", "test")


def can_connect(host: Host) -> bool:
    """Whether its libvirtd can be reached over the network within a second."""
    try:
        socket.create_connection((host.address, 16509), timeout=1).close()
    except OSError:
        return False
    return True


def counter_of(lab: Lab, vm: str) -> int:
    """The last number a VM has printed."""
    return [line.counter for line in lab.sightings() if line.vm == vm][-1]


def wait_for_lines(lab: Lab, vm: str, count: int = 5) -> None:
    """Wait until a VM has printed some more lines."""
    since = time.time()
    wait_until(
        lambda: next(r for r in lab.witness(since=since) if r.vm == vm).lines >= count,
        f"{vm} to count",
        timeout_s=20,
    )


# --- what it is -----------------------------------------------------------------------------


def test_each_host_is_a_machine_of_its_own(lab: Lab) -> None:
    assert [host.run("hostname").strip() for host in lab.hosts] == ["h1", "h2", "h3"]
    boots = {host.run("cat", "/proc/sys/kernel/random/boot_id") for host in lab.hosts}
    uuids = {host.virsh("capabilities").partition("<uuid>")[2][:36] for host in lab.hosts}
    assert (len(boots), len(uuids)) == (3, 3)
    for host in lab.hosts:
        programs = host.run("sh", "-c", "cat /proc/[0-9]*/comm").splitlines()
        assert programs.count("libvirtd") == 1
        assert programs.count("qemu-system-x86") == len(host.vms())
        assert "10.213." in host.run("getent", "hosts", "h3")


def test_furlough_host_answers_through_the_namespaces_of_the_noted_pid(lab: Lab) -> None:
    for host in lab.hosts:
        pid = (Path("/run/furlough-lab") / lab.name / host.name / "init.pid").read_text().strip()
        entering = ["nsenter", "--target", pid, "--all", "--", "/usr/bin/python3", "-IS"]
        command = [*entering, "/usr/local/sbin/furlough-host"]
        answer = json.loads(run([*command, "status"]))
        assert (answer["hostname"], answer["hook_installed"]) == (host.name, True)
        answer = json.loads(run([*command, "processes"]))
        assert sorted(machine["name"] for machine in answer["processes"]) == host.vms()


def test_every_guest_counts_ten_times_a_second(lab: Lab) -> None:
    since = time.time()
    wait_for_lines(lab, "vm1", count=20)
    for report in lab.witness(since=since):
        assert report.lines >= 15, report
        assert report.longest_gap is not None
        assert report.longest_gap.milliseconds < 1000, report


def test_vms_are_persistent_and_only_some_start_by_themselves(lab: Lab) -> None:
    persistent = sorted(vm for host in lab.hosts for vm in host.vms("--all", "--persistent"))
    assert persistent == ["vm1", "vm2", "vm3", "vm4"]
    autostarted = sorted(vm for host in lab.hosts for vm in host.vms("--all", "--autostart"))
    assert autostarted == ["vm1", "vm4"]


def test_status_says_what_runs_where(lab: Lab) -> None:
    shown = CliRunner().invoke(app, ["status", "--name", lab.name, "--json"])
    state = json.loads(shown.stdout)
    assert state["storage"] == "nbd"
    assert [host["daemon"] for host in state["hosts"]] == ["running"] * 3
    assert {host["name"]: host["vms"] for host in state["hosts"]} == lab.placement()
    assert {vm["name"] for vm in state["vms"]} == {"vm1", "vm2", "vm3", "vm4"}


def test_a_command_runs_on_a_host_and_its_exit_status_is_ours(lab: Lab) -> None:
    program = [sys.executable, "-c", "from furlough.cli.lab import app; app()"]
    words = ["shell", "h2", "--name", lab.name, "--", "sh", "-c", "hostname; exit 3"]
    done = subprocess.run([*program, *words], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("h2\n", 3)


def test_a_lab_that_is_up_is_not_built_again(lab: Lab) -> None:
    with pytest.raises(Refused, match="is up") as refusal:
        construct(lab.name, Options(vms=0), has_daemon=False)
    assert refusal.value.remedy == f"Take it down: furlough lab down --name {lab.name}"
    assert lab.host("h1").vms()


# --- VMs move -------------------------------------------------------------------------------


def test_a_vm_moves_round_and_round_without_a_gap_or_a_double(lab: Lab) -> None:
    h1, h2, h3 = lab.hosts
    since, longest_downtime_ms = time.time(), 0
    for source, target in ((h1, h2), (h2, h3), (h3, h1), (h1, h2), (h2, h1)):
        source.migrate("vm1", target)
        assert "vm1" in target.vms("--all", "--persistent")
        assert "vm1" not in source.vms("--all")
        told = target.virsh("domjobinfo", "vm1", "--completed", "--keep-completed")
        downtime = next(line for line in told.splitlines() if "Total downtime" in line)
        longest_downtime_ms = max(longest_downtime_ms, int(downtime.split()[2]))
        wait_for_lines(lab, "vm1", count=3)
    report = lab.witness(since=since)[0]
    assert [stay.host for stay in report.stays] == ["h1", "h2", "h3", "h1", "h2", "h1"]
    assert report.doubles == ()
    assert report.longest_gap is not None
    assert report.longest_gap.milliseconds <= longest_downtime_ms + 1000


def test_a_limited_link_makes_a_migration_take_longer(lab: Lab) -> None:
    h1, h2, _ = lab.hosts
    told = CliRunner().invoke(app, ["link", "h2", "--rate", "200", "--name", lab.name])
    assert told.stdout == "link of h2: up, 200 Mbit/s\n"
    started = time.monotonic()
    h2.migrate("vm2", h1)
    limited = time.monotonic() - started
    h2.restore_link()
    assert h2.link().rate_mbit_s is None
    h1.migrate("vm2", h2)
    # Some 60 MiB of kernel and initramfs are sent; at 200 Mbit/s they need 2.5 s.
    assert 2 < limited < 20


def test_two_copies_of_one_vm_do_not_escape_the_witness(lab: Lab) -> None:
    """Restored on two hosts from one saved image: both count on from the same number."""
    h2, h3 = lab.host("h2"), lab.host("h3")
    image = str(lab.site.disks / "vm3.saved")
    since = time.time()
    h3.virsh("save", "vm3", image)
    h3.virsh("restore", image)
    h2.virsh("restore", image)
    wait_for_lines(lab, "vm3", count=20)
    told = CliRunner().invoke(app, ["witness", "--name", lab.name, "--json", "--since", f"{since}"])
    h2.virsh("destroy", "vm3")
    assert told.exit_code == 1
    report = next(vm for vm in json.loads(told.stdout) if vm["vm"] == "vm3")
    assert [double["hosts"] for double in report["doubles"]] == [["h2", "h3"]]
    assert report["doubles"][0]["until"] - report["doubles"][0]["since"] > 0.5


# --- the guard ------------------------------------------------------------------------------


def test_the_hook_refuses_starts_and_incoming_vms_and_lets_both_through_again(lab: Lab) -> None:
    h1, h2, _ = lab.hosts
    h2.virsh("destroy", "vm2")
    h2.run("furlough-host", "raise", *MARKER)
    with pytest.raises(Refused, match="host is kept empty by operation test"):
        h2.virsh("start", "vm2")
    with pytest.raises(Refused, match="host is kept empty by operation test"):
        h1.migrate("vm1", h2)
    assert h2.vms() == []
    assert "vm1" in h1.vms()
    h2.run("furlough-host", "lower", *MARKER)
    h2.virsh("start", "vm2")
    h1.migrate("vm1", h2)
    h2.migrate("vm1", h1)
    wait_for_lines(lab, "vm2")


# --- adversaries ----------------------------------------------------------------------------


def test_vms_outlive_a_killed_libvirtd_and_are_found_again(lab: Lab) -> None:
    h1 = lab.host("h1")
    before, since = h1.vms(), time.time()
    h1.kill_daemon()
    assert h1.daemon_state() == "stopped"
    wait_for_lines(lab, "vm1", count=3)
    h1.start_daemon()
    assert h1.vms() == before
    report = lab.witness(since=since)[0]
    assert report.longest_gap is not None
    assert report.longest_gap.milliseconds < 1000


def test_a_frozen_libvirtd_accepts_and_does_not_answer(lab: Lab) -> None:
    h1 = lab.host("h1")
    h1.freeze_daemon()
    try:
        assert h1.daemon_state() == "frozen"
        assert can_connect(h1)
        with pytest.raises(Unreachable):
            h1.virsh("list", timeout_s=1)
    finally:
        h1.thaw_daemon()
    assert "vm1" in h1.vms()


def test_a_libvirtd_is_stopped_started_and_restarted_by_the_command(lab: Lab) -> None:
    for act, state in (("freeze", "frozen"), ("stop", "stopped"), ("restart", "running")):
        told = CliRunner().invoke(app, ["daemon", "h3", act, "--name", lab.name])
        assert told.stdout == f"libvirtd of h3: {state}\n"
    with pytest.raises(Refused, match="runs already"):
        lab.host("h3").start_daemon()


@pytest.mark.parametrize("act", ["--cut", "--silent"])
def test_a_broken_link_shuts_the_host_off_until_it_is_restored(lab: Lab, act: str) -> None:
    h3 = lab.host("h3")
    told = CliRunner().invoke(app, ["link", "h3", act, "--name", lab.name])
    assert told.stdout == f"link of h3: {act.removeprefix('--')}\n"
    assert not can_connect(h3)
    assert h3.vms() == ["vm3"], "the side door works all the same"
    told = CliRunner().invoke(app, ["link", "h3", "--restore", "--name", lab.name])
    assert told.stdout == "link of h3: up\n"
    assert can_connect(h3)


def test_a_guest_shuts_down_when_asked(lab: Lab) -> None:
    h3 = lab.host("h3")
    h3.virsh("shutdown", "vm3")
    wait_until(lambda: h3.vms() == [], "vm3 to shut down", timeout_s=20)
    h3.virsh("start", "vm3")
    wait_for_lines(lab, "vm3")


def test_a_host_comes_back_from_a_power_cut_with_the_vms_that_start_by_themselves(
    lab: Lab,
) -> None:
    h1 = lab.host("h1")
    boot = h1.run("cat", "/proc/sys/kernel/random/boot_id")
    h1.virsh("autostart", "vm1")
    h1.virsh("autostart", "vm4", "--disable")
    h1.power_off()
    assert h1.processes() == []
    assert lab.status()["hosts"][0]["pid"] is None
    h1.boot()
    wait_for_lines(lab, "vm1")
    assert h1.vms() == ["vm1"]
    assert h1.run("cat", "/proc/sys/kernel/random/boot_id") != boot
    h1.virsh("start", "vm4")


def test_a_link_is_given_one_order_at_a_time(lab: Lab) -> None:
    for words in ([], ["--cut", "--silent"]):
        told = CliRunner().invoke(app, ["link", "h1", "--name", lab.name, *words])
        assert isinstance(told.exception, Invalid)
    assert lab.host("h1").link().state == "up"


def test_unknown_labs_and_hosts_are_named(lab: Lab) -> None:
    with pytest.raises(NotFound, match="no lab called nobody"):
        Lab.load("nobody")
    with pytest.raises(NotFound, match="has no host h9: it has h1, h2, h3"):
        lab.host("h9")


# --- a shared directory ---------------------------------------------------------------------


def test_an_image_in_use_is_locked_against_every_other_host(directory_lab: Lab) -> None:
    h1, h2 = directory_lab.hosts
    definition = directory_lab.site.directory / "copy.xml"
    definition.write_text(h1.virsh("dumpxml", "vm1", "--inactive"))
    h2.virsh("define", str(definition))
    with pytest.raises(Refused, match='Failed to get "write" lock'):
        h2.virsh("start", "vm1")
    h2.virsh("undefine", "vm1")


def test_a_shared_directory_needs_the_unsafe_flag(directory_lab: Lab) -> None:
    h1, h2 = directory_lab.hosts
    since = time.time()
    with pytest.raises(Refused, match="Migration without shared storage is unsafe"):
        h1.virsh("migrate", "--live", "--p2p", "vm2", h2.uri, f"tcp://{h2.address}")
    h1.migrate("vm2", h2)
    h2.migrate("vm2", h1)
    wait_for_lines(directory_lab, "vm2")
    assert [stay.host for stay in directory_lab.witness(since=since)[1].stays] == ["h1", "h2", "h1"]
    assert directory_lab.witness(since=since)[1].doubles == ()


def test_two_labs_are_up_at_once_and_do_not_meet(lab: Lab, directory_lab: Lab) -> None:
    assert lab.blueprint.network != directory_lab.blueprint.network
    assert lab.host("h1").run("hostname") == directory_lab.host("h1").run("hostname")
    with pytest.raises(Refused):
        lab.host("h1").run("ip", "route", "get", directory_lab.host("h1").address)
