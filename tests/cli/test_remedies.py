"""`furlough check --apply`, `--undo` and `furlough host prepare`: told first, done after a yes."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from furlough.core.ids import HostName
from furlough.core.inventory import Disk, DiskKind
from furlough.sim.cluster import Copy
from tests.api.running import Running, end
from tests.cli.commands import Furlough, complaint, environment, start

pytestmark = pytest.mark.usefixtures("everything_as_before")

H1 = HostName("h1")
ISO = "/root/debian.iso"
CDROM = Disk(target="sda", source=ISO, datastore=None, is_writable=False, kind=DiskKind.CDROM)
LIMIT_S = 60
APPLY = ("check", "h1", "--apply", "vm.local_media")


@pytest.fixture
def drive(daemon: Running) -> Iterator[Copy]:
    """A VM of h1 that holds a medium which only h1 has; at last it has none."""
    copy = next(iter(daemon.cluster.hosts[H1].copies.values()))
    plain = copy.vm
    daemon.do(lambda: setattr(copy, "vm", replace(plain, disks=(*plain.disks, CDROM))))
    yield copy

    def tidy() -> None:
        for machine in daemon.cluster.hosts.values():
            machine.lost_files.clear()
            for one in machine.copies.values():
                if one.vm.id == plain.id:
                    one.vm, one.empty_drives = plain, {}

    daemon.do(tidy)
    with daemon.client() as client:
        undone = client.undo_remedies("h1", dry_run=False)
        if undone.operation is not None:
            end(client, undone.operation.id)


def media(daemon: Running, copy: Copy) -> list[str]:
    """What the drives of this VM hold, wherever it is."""
    return [
        disk.source
        for machine in daemon.cluster.hosts.values()
        for one in machine.copies.values()
        if one.vm.id == copy.vm.id
        for disk in one.vm.disks
        if disk.is_medium
    ]


def test_nothing_is_changed_where_nobody_is_there_to_say_yes(
    daemon: Running, furlough: Furlough, drive: Copy
) -> None:
    result = furlough(*APPLY)
    assert (result.code, result.out) == (8, "")
    assert f"h1: Take {ISO} out of drive sda of VM {drive.vm.name}." in result.err
    assert "put back when the host exits maintenance" in result.err
    assert "--yes" in result.err
    assert media(daemon, drive) == [ISO]


@pytest.mark.parametrize(
    ("answer", "code", "held"), [("y\n", 0, []), ("n\n", 5, [ISO]), ("\n", 5, [ISO])]
)
def test_a_person_at_a_terminal_is_asked(
    daemon: Running, drive: Copy, tmp_path: Path, answer: str, code: int, held: list[str]
) -> None:
    ours, theirs = pty.openpty()
    env = environment(daemon.context, tmp_path)
    with start(*APPLY, env=env, stdin=theirs, stderr=theirs) as command:
        os.write(ours, answer.encode())  # the terminal keeps it until it is read
        out, _ = command.communicate(timeout=LIMIT_S)
    asked = os.read(ours, 10_000).decode()
    os.close(theirs)
    os.close(ours)
    assert "Do this? [y/N]" in asked
    assert command.returncode == code
    assert media(daemon, drive) == held
    assert out.startswith("h1: ") == (code == 0)


def test_with_a_yes_it_is_done_and_the_new_precheck_is_shown(
    daemon: Running, furlough: Furlough, drive: Copy
) -> None:
    assert furlough("check", "h1").code == 3
    result = furlough(*APPLY, "--yes")
    assert result.code == 0
    assert f"Take {ISO} out of drive sda" in result.err
    assert "succeeded" in result.err
    assert result.out.startswith("h1: ")
    assert "vm.local_media" not in result.out
    assert media(daemon, drive) == []


def test_what_programs_read_is_the_new_precheck_and_nothing_else(
    furlough: Furlough, drive: Copy
) -> None:
    (report,) = furlough(*APPLY, "--yes", "--json").json
    assert "vm.local_media" not in {one["code"] for one in report["findings"]}
    assert drive.vm.id in {vm["uuid"] for vm in report["vms"]}
    again = furlough(*APPLY, "--yes", "--json")
    assert again.code == 0
    assert "h1: no finding vm.local_media that could be mended." in again.err


def test_the_whole_journey_brings_the_medium_back(
    daemon: Running, furlough: Furlough, drive: Copy
) -> None:
    assert furlough(*APPLY, "-y").code == 0
    assert furlough("enter", "h1", "--wait").code == 0
    shown = furlough("exit", "h1", "--check").out
    assert f"{drive.vm.name}: what a remedy took out of its drive is put back" in shown
    exited = furlough("exit", "h1", "--wait", "--json")
    assert exited.code == 0
    (vm,) = [one for one in exited.json["vms"] if one["uuid"] == drive.vm.id]
    assert vm["outcome"] == "moved"
    assert media(daemon, drive) == [ISO]


def test_a_medium_that_cannot_be_put_back_is_named_and_the_host_serves_again(
    daemon: Running, furlough: Furlough, drive: Copy
) -> None:
    furlough(*APPLY, "-y")
    assert furlough("enter", "h1", "--wait").code == 0
    daemon.do(lambda: daemon.cluster.hosts[H1].lost_files.add(ISO))
    result = furlough("exit", "h1", "--wait")
    assert result.code == 1
    assert f"{drive.vm.name}: Cannot access storage file '{ISO}'" in result.out
    assert "furlough check h1 --undo" in result.out
    assert furlough("host", "show", "h1", "--json").json["mode"] == "available"


def test_undo_puts_it_back_where_entering_never_followed(
    daemon: Running, furlough: Furlough, drive: Copy
) -> None:
    furlough(*APPLY, "-y")
    waiting = furlough("check", "h1", "--undo")
    assert waiting.code == 8
    assert f"Put {ISO} back into drive sda" in waiting.err
    undone = furlough("check", "h1", "--undo", "--yes")
    assert undone.code == 3  # the medium stands in the way again
    assert media(daemon, drive) == [ISO]
    assert "h1: nothing to be put back." in furlough("check", "h1", "--undo").err


def test_a_code_without_a_remedy_and_two_wishes_at_once_are_refused(furlough: Furlough) -> None:
    none = furlough("check", "h1", "--apply", "vm.device")
    assert none.code == 2
    assert "vm.local_media" in complaint(none)
    both = furlough("check", "h1", "--apply", "vm.local_media", "--undo")
    assert both.code == 2
    assert "at once" in complaint(both)


def test_a_host_is_prepared_and_its_guard_proven(daemon: Running, furlough: Furlough) -> None:
    machine = daemon.cluster.hosts[H1]
    daemon.do(lambda: setattr(machine, "has_hook", False))
    result = furlough("host", "prepare", "h1")
    assert result.code == 0
    assert "it was seen to refuse" in result.out
    assert furlough("host", "prepare", "h1", "--json").json["is_proven"] is True


def test_an_unproven_guard_is_mended_as_a_remedy(daemon: Running, furlough: Furlough) -> None:
    machine = daemon.cluster.hosts[H1]

    def unhook() -> None:
        machine.has_hook, machine.guard_trouble = False, "its hook is not installed"

    daemon.do(unhook)
    assert "guard.unproven" in furlough("check", "h1").out
    result = furlough("check", "h1", "--apply", "guard.unproven", "--yes")
    assert result.code == 0
    assert "guard.unproven" not in result.out
    assert "h1: done." in result.err
