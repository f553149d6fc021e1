"""What runs on a host, from its process list alone: libvirt may have lost some of it (rule 6)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.host.machine import VM1, VM2, Machine

QEMU = "/usr/bin/qemu-system-x86_64"


def test_a_host_where_nothing_runs_says_so(machine: Machine) -> None:
    assert machine.ask("processes").answer == {"processes": [], "provisioning": []}


def test_every_vm_process_is_listed_whoever_has_started_it(machine: Machine) -> None:
    machine.add_process(100, "/sbin/init")
    machine.add_process(70, QEMU, "-name", "guest=web01,debug-threads=on", "-uuid", VM1)
    machine.add_process(8, "qemu-kvm", "-uuid", VM2.upper(), "-name", "by hand")
    machine.add_process(900, "/usr/libexec/qemu-system-aarch64", "-nographic")
    assert machine.ask("processes").answer["processes"] == [
        {"pid": 8, "uuid": VM2, "name": "by hand"},
        {"pid": 70, "uuid": VM1, "name": "web01"},
        {"pid": 900, "uuid": None, "name": ""},
    ]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("guest=a,,b,debug-threads=on", "a,b"),
        ("guest=$(reboot) <b>", "$(reboot) <b>"),
        ("guest=", ""),
        ("guest=-x", "-x"),
        ("guest=a\nb", "a\nb"),
        ("guest=ünï ❄", "ünï ❄"),
    ],
)
def test_a_name_is_shown_as_it_was_chosen(machine: Machine, given: str, name: str) -> None:
    machine.add_process(70, QEMU, "-name", given, "-uuid", VM1)
    assert machine.ask("processes").answer["processes"][0]["name"] == name


@pytest.mark.parametrize(
    "words",
    [
        ("/usr/bin/vim", "qemu-system-x86_64"),
        ("qemu-ga", "--daemonize"),
        ("/usr/bin/qemu-system-x86_64-notes",),
        ("grep", "-uuid", VM1),
        (),
        # libvirt asks a QEMU without a machine what it can do.
        (QEMU, "-S", "-no-user-config", "-machine", "none,accel=kvm:tcg", "-qmp", "unix:x"),
    ],
)
def test_what_is_no_vm_is_not_listed(machine: Machine, words: tuple[str, ...]) -> None:
    machine.add_process(70, *words)
    assert machine.ask("processes").answer == {"processes": [], "provisioning": []}


def test_a_process_that_is_gone_or_odd_disturbs_nobody(machine: Machine) -> None:
    (machine.root / "proc/71").mkdir()
    machine.add_process(72, QEMU).joinpath("cmdline").write_bytes(b"\xff\xfe\0" * 10)
    machine.add_process(73, QEMU, "-uuid", "not-a-uuid")
    assert machine.ask("processes").answer["processes"] == [{"pid": 73, "uuid": None, "name": ""}]


# --- provisioning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [(), ("/bin/sh",), ("/usr/bin/python3", "-IS")])
def test_a_start_that_waits_for_a_hook_is_under_way(
    machine: Machine, before: tuple[str, ...]
) -> None:
    hook = str(machine.root / "etc/libvirt/hooks/qemu.d/60-slow")
    machine.add_process(70, *before, hook, "web 01", "prepare", "begin", "-")
    machine.add_process(71, *before, hook, "web02", "release", "end", "-")
    machine.add_process(72, "/usr/bin/vim", hook)
    assert machine.ask("processes").answer == {
        "processes": [],
        "provisioning": [{"pid": 70, "kind": "start", "what": "web 01"}],
    }


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("qemu-img", "convert", "a", "b"), "image"),
        (("/usr/lib/libvirt/libvirt_iohelper", "/srv/vms/a", "0", "0"), "volume"),
    ],
)
def test_a_disk_in_the_making_counts(machine: Machine, words: tuple[str, ...], kind: str) -> None:
    machine.add_process(80, *words)
    (found,) = machine.ask("processes").answer["provisioning"]
    assert (found["pid"], found["kind"]) == (80, kind)
    assert found["what"] == " ".join(words[1:])


def add_descriptor(directory: Path, number: int, target: Path | str, flags: str) -> None:
    """An open file of a process, as /proc shows it."""
    (directory / "fd").mkdir(exist_ok=True)
    (directory / "fdinfo").mkdir(exist_ok=True)
    (directory / "fd" / str(number)).symlink_to(target)
    (directory / "fdinfo" / str(number)).write_text(f"pos:\t0\nflags:\t{flags}\nmnt_id:\t1\n")


def test_a_volume_that_a_daemon_itself_writes_counts_and_one_it_reads_does_not(
    machine: Machine,
) -> None:
    written, read = machine.root / "new.img", machine.root / "old.img"
    written.touch()
    read.touch()
    daemon = machine.add_process(50, "/usr/sbin/libvirtd", "--timeout", "120")
    add_descriptor(daemon, 3, written, "0100001")
    add_descriptor(daemon, 4, read, "0100000")
    add_descriptor(daemon, 5, "/dev/null", "0100002")
    add_descriptor(daemon, 6, machine.root / "gone", "0100002")
    log = machine.root / "vm1.log"
    log.touch()
    add_descriptor(daemon, 7, log, "0100001")
    assert machine.ask("processes").answer["provisioning"] == [
        {"pid": 50, "kind": "volume", "what": str(written)}
    ]


def test_the_files_of_other_programs_are_their_own_business(machine: Machine) -> None:
    written = machine.root / "new.img"
    written.touch()
    add_descriptor(machine.add_process(50, "/usr/bin/rsync"), 3, written, "0100001")
    assert machine.ask("processes").answer["provisioning"] == []


# --- the real process list ------------------------------------------------------------------------


def test_a_real_process_that_no_daemon_knows_is_found(machine: Machine) -> None:
    """A QEMU in name: what is left when a daemon was killed in the middle of a migration."""
    left = subprocess.Popen(
        ["qemu-system-x86_64", "-c", "read word", "-uuid", VM1, "-name", "guest=lost"],  # noqa: S607
        executable="/bin/sh",
        stdin=subprocess.PIPE,
    )
    try:
        for name in ("sys", str(left.pid)):
            path = machine.root / "proc" / name
            if not path.exists():
                path.symlink_to(f"/proc/{name}")
        found = machine.ask("processes").answer["processes"]
        assert found == [{"pid": left.pid, "uuid": VM1, "name": "lost"}]
    finally:
        left.kill()
        left.communicate()
    assert machine.ask("processes").answer["processes"] == []


def test_a_zombie_is_no_vm(machine: Machine) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        (machine.root / "proc" / str(pid)).symlink_to(f"/proc/{pid}")
        assert machine.ask("processes").answer["processes"] == []
    finally:
        os.waitpid(pid, 0)
