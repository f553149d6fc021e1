"""Maintenance by a person at the host, in our words and in those of ESXi."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.host.machine import VM1, Machine

CONTROLLER = ("--operation", "op-7", "--controller", "c1")


@pytest.fixture
def esxcli(machine: Machine) -> Path:
    """The program under its other name."""
    path = machine.program.with_name("esxcli")
    path.symlink_to("furlough-host")
    return path


def say(machine: Machine, *words: str, program: Path | None = None) -> tuple[int, str, str]:
    """Exit status, what is printed, what is complained of."""
    process = machine.start(program or machine.program, *words)
    output, complaint = process.communicate(timeout=60)
    assert b"Traceback" not in complaint, complaint.decode()
    return process.returncode, output.decode(), complaint.decode()


def test_an_empty_host_is_in_maintenance_at_once_and_nobody_starts_there(machine: Machine) -> None:
    code, told, _ = say(machine, "maintenance", "enter")
    assert (code, told.splitlines()[-1]) == (0, "In maintenance.")
    assert machine.hook("prepare").code == 1
    marker = machine.ask("status").answer["marker"]
    assert (marker["operation"], marker["controller"]) == ("local", "local")
    _, standing, _ = say(machine, "maintenance", "get")
    assert standing.startswith("maintenance: by a person at the host, since 20")


def test_f119_the_marker_says_who_and_when(machine: Machine) -> None:
    machine.raise_marker(3, owner=CONTROLLER)
    _, standing, _ = say(machine, "maintenance", "get")
    raised_at = json.loads(machine.marker.read_text())["raised_at"]
    assert standing == (f"maintenance: by operation op-7 of controller c1, since {raised_at}\n")


def test_f119_a_marker_that_was_left_over_goes_with_the_one_line_that_is_told(
    machine: Machine,
) -> None:
    machine.raise_marker(3, owner=CONTROLLER)
    code, _, complaint = say(machine, "maintenance", "exit")
    assert code == 3
    line = complaint[complaint.index("rm ") :].strip().rstrip(".")
    subprocess.run(line.split(), check=True)
    assert machine.hook("prepare").code == 0
    assert say(machine, "maintenance", "get")[1] == "available: VMs may start here\n"


def test_a_person_is_told_who_has_to_be_moved_and_the_wait_ends_by_its_limit(
    machine: Machine,
) -> None:
    machine.add_process(70, "qemu-system-x86_64", "-uuid", VM1, "-name", "guest=web01")
    code, told, _ = say(machine, "maintenance", "enter", "--timeout", "0.1")
    assert code == 1
    assert "Waiting for you to move or stop: VM web01 (pid 70)" in told
    assert told.splitlines()[-1].startswith("Not empty after 0.1 s. No VM starts here until")
    assert machine.hook("prepare").code == 1, "it stays guarded"
    assert "entering" in say(machine, "maintenance", "get")[1]


def test_whoever_waits_sees_the_last_vm_leave(machine: Machine) -> None:
    shown = machine.add_process(70, "qemu-system-x86_64", "-uuid", VM1, "-name", "guest=web01")
    process = machine.start(machine.program, "maintenance", "enter")
    assert process.stdout is not None
    while b"web01" not in process.stdout.readline():
        pass
    (shown / "cmdline").write_bytes(b"")
    told, _ = process.communicate(timeout=60)
    assert (process.returncode, told) == (0, b"In maintenance.\n")


def test_ctrl_c_leaves_the_host_guarded_and_says_how_it_ends(machine: Machine) -> None:
    machine.add_process(70, "qemu-system-x86_64", "-uuid", VM1, "-name", "guest=web01")
    process = machine.start(machine.program, "maintenance", "enter")
    assert process.stdout is not None
    while b"web01" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"furlough-host maintenance exit" in told
    assert machine.marker.exists()


def test_an_unproven_hook_is_warned_of(machine: Machine) -> None:
    machine.hook_path.unlink()
    _, told, _ = say(machine, "maintenance", "enter")
    assert "Warning: VMs might start all the same: its hook is not installed" in told


def test_after_exit_vms_start_again(machine: Machine) -> None:
    say(machine, "maintenance", "enter")
    assert say(machine, "maintenance", "exit") == (0, "VMs may start here again.\n", "")
    assert machine.hook("prepare").code == 0
    assert say(machine, "maintenance", "exit")[1] == "This host was not in maintenance.\n"


def test_a_controller_is_told_that_a_person_has_the_host(machine: Machine) -> None:
    machine.raise_marker(5)
    machine.lower_marker(5)
    say(machine, "maintenance", "enter")
    ran = machine.raise_marker(6)
    assert ran.refusal == (3, "foreign_marker")
    assert "a person at the host" in ran.complaint
    assert "furlough-host maintenance exit" in ran.complaint


def test_a_person_does_not_take_a_host_from_a_controller(machine: Machine) -> None:
    machine.raise_marker(5, owner=CONTROLLER)
    for act in ("enter", "exit"):
        code, _, complaint = say(machine, "maintenance", act)
        assert code == 3
        assert "controller c1" in complaint
    assert machine.ask("status").answer["marker"]["operation"] == "op-7"


# --- ESXi's words ---------------------------------------------------------------------------------

MODE = ("system", "maintenanceMode")


def test_a_script_for_esxi_enters_and_exits_and_reads_what_it_knows(
    machine: Machine, esxcli: Path
) -> None:
    assert say(machine, *MODE, "get", program=esxcli) == (0, "Disabled\n", "")
    code, told, _ = say(machine, *MODE, "set", "-e", "true", program=esxcli)
    assert (code, told) == (0, "")
    assert say(machine, *MODE, "get", program=esxcli)[1] == "Enabled\n"
    code, told, _ = say(machine, *MODE, "set", "--enable", "false", program=esxcli)
    assert (code, told) == (0, "")
    assert say(machine, *MODE, "get", program=esxcli)[1] == "Disabled\n"


def test_a_host_that_is_not_empty_yet_is_not_in_maintenance(machine: Machine, esxcli: Path) -> None:
    machine.add_process(70, "qemu-system-x86_64", "-uuid", VM1, "-name", "guest=web01")
    code, told, complaint = say(machine, *MODE, "set", "-e", "true", "-t", "0.1", program=esxcli)
    assert (code, told) == (1, "")
    assert "web01" in complaint
    assert say(machine, *MODE, "get", program=esxcli)[1] == "Disabled\n"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("system",),
        (*MODE, "set"),
        (*MODE, "set", "-e", "maybe"),
        ("network", "ip", "interface", "list"),
        (*MODE, "get", "; reboot"),
    ],
)
def test_anything_else_of_esxi_is_refused(
    machine: Machine, esxcli: Path, words: tuple[str, ...]
) -> None:
    code, told, _ = say(machine, *words, program=esxcli)
    assert (code, told) == (2, "")
    assert not machine.state.exists()
