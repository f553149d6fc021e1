"""The marker and the epochs: durable, all or nothing, and closed to whoever was overtaken (S5)."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys

import pytest

from tests.host.machine import OWNER, SOURCE, VM1, VM2, Machine

OTHER = ("--operation", "op-2", "--controller", "c1")
FOREIGN = ("--operation", "op-1", "--controller", "c2")


def test_it_is_written_in_the_language_of_the_oldest_hosts() -> None:
    ast.parse(SOURCE.read_text(), feature_version=(3, 9))


def test_it_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(SOURCE.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
                for alias in node.names}  # fmt: skip
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
    assert "json" in imported


# --- raising and lowering -------------------------------------------------------------------------


def test_a_fresh_host_has_no_marker_and_has_seen_no_epoch(machine: Machine) -> None:
    status = machine.ask("status").answer
    assert (status["marker"], status["epoch"]) == (None, 0)
    assert status["hook_installed"] is True
    assert status["boot_id"] == "a-boot"
    assert "lo" in status["interfaces"]


def test_a_hook_that_is_not_there_or_cannot_run_is_not_installed(machine: Machine) -> None:
    machine.hook_path.chmod(0o644)
    assert machine.ask("status").answer["hook_installed"] is False
    machine.hook_path.unlink()
    assert machine.ask("status").answer["hook_installed"] is False


def test_a_raised_marker_says_whose_it_is_and_whom_it_admits(machine: Machine) -> None:
    raised = machine.raise_marker(7, "--admit", VM2, "--admit", VM1).answer
    status = machine.ask("status").answer
    assert status["marker"] == raised
    assert raised["operation"] == "op-1"
    assert (raised["epoch"], raised["controller"]) == (7, "c1")
    assert raised["admit"] == [VM1, VM2]
    assert status["epoch"] == 7


def test_raising_twice_is_harmless_and_the_later_list_counts(machine: Machine) -> None:
    machine.raise_marker(3, "--admit", VM1)
    assert machine.raise_marker(3).answer["admit"] == []
    assert machine.ask("status").answer["marker"]["admit"] == []


def test_lowering_twice_is_harmless(machine: Machine) -> None:
    machine.raise_marker(3)
    assert machine.lower_marker(3).answer == {"lowered": True}
    assert machine.lower_marker(3).answer == {"lowered": False}
    assert machine.ask("status").answer["marker"] is None


def test_f012_who_was_overtaken_can_neither_raise_nor_lower(machine: Machine) -> None:
    machine.raise_marker(5)
    assert machine.raise_marker(4, "--admit", VM1).refusal == (3, "stale_epoch")
    assert machine.lower_marker(4).refusal == (3, "stale_epoch")
    assert machine.ask("status").answer["marker"]["admit"] == []


def test_an_epoch_outlives_the_marker(machine: Machine) -> None:
    machine.raise_marker(5)
    machine.lower_marker(6)
    assert machine.ask("status").answer["epoch"] == 6
    assert machine.raise_marker(5).refusal == (3, "stale_epoch")


def test_a_later_operation_of_the_same_controller_takes_the_marker_over(machine: Machine) -> None:
    machine.raise_marker(5)
    assert machine.raise_marker(6, owner=OTHER).answer["operation"] == "op-2"


def test_f025_another_controllers_marker_is_left_alone_whatever_its_epoch(
    machine: Machine,
) -> None:
    machine.raise_marker(5)
    assert machine.raise_marker(9, owner=FOREIGN).refusal == (3, "foreign_marker")
    assert machine.lower_marker(9, owner=FOREIGN).refusal == (3, "foreign_marker")
    assert machine.ask("status").answer["epoch"] == 5
    # The operation that raised it is not shut out by what the other one tried.
    assert machine.lower_marker(5).answer == {"lowered": True}


def test_f119_when_the_controller_is_gone_for_good_one_line_is_enough(machine: Machine) -> None:
    machine.raise_marker(5)
    machine.marker.unlink()
    assert machine.hook("prepare").code == 0
    assert machine.raise_marker(6, owner=FOREIGN).code == 0


def test_a_proof_does_not_replace_the_marker_of_an_operation(machine: Machine) -> None:
    machine.raise_marker(5)
    assert machine.raise_marker(6, "--only", VM1, owner=OTHER).refusal == (3, "marker_in_use")
    assert machine.ask("status").answer["marker"]["only"] is None
    machine.lower_marker(6)
    assert machine.raise_marker(6, "--only", VM1).answer["only"] == VM1
    assert machine.raise_marker(7).answer["only"] is None


# --- crashes --------------------------------------------------------------------------------------

DIE_AT = """
import os, runpy, sys
count = int(sys.argv[1])
def dying(call):
    def counted(*arguments, **named):
        global count
        if count == 0:
            os._exit(99)
        count -= 1
        return call(*arguments, **named)
    return counted
for name in ("fsync", "rename", "unlink", "open", "makedirs"):
    setattr(os, name, dying(getattr(os, name)))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def killed_at(machine: Machine, moment: int, *words: str) -> int:
    """The exit status of a run that dies at its n-th call to the file system, from 0 on."""
    command = [sys.executable, "-IS", "-c", DIE_AT, str(moment), str(machine.program), *words]
    ran = subprocess.run(command, env=machine.environment, capture_output=True, check=False)
    assert b"Traceback" not in ran.stderr
    return ran.returncode


@pytest.mark.parametrize("is_lowered", [False, True])
def test_a_power_cut_leaves_the_old_marker_or_the_new_one(
    machine: Machine, is_lowered: bool
) -> None:
    words = ("lower",) if is_lowered else ("raise", "--admit", VM1)
    seen = set()
    for moment in range(100):
        machine.marker.unlink(missing_ok=True)
        epoch = 2 * moment + 1
        assert machine.raise_marker(epoch, "--admit", VM2).code == 0
        code = killed_at(machine, moment, *words, *OWNER, "--epoch", str(epoch + 1))
        marker = machine.ask("status").answer["marker"]
        seen.add(None if marker is None else (marker["epoch"] - epoch, tuple(marker["admit"])))
        assert machine.ask("status").answer["epoch"] in (epoch, epoch + 1)
        if code == 0:
            break
        assert code == 99
    else:
        pytest.fail("it never got through")
    assert seen == {(0, (VM2,)), None if is_lowered else (1, (VM1,))}
    assert moment >= 4  # It was killed at as many moments.


def test_what_a_crash_has_left_does_not_stop_the_next_one(machine: Machine) -> None:
    machine.raise_marker(1)
    machine.marker.with_name("marker.json.new").write_text('{"half')
    assert machine.raise_marker(2, "--admit", VM1).answer["admit"] == [VM1]
    assert not machine.marker.with_name("marker.json.new").exists()


@pytest.mark.parametrize("name", ["marker.json", "epoch", "acts.json"])
def test_a_damaged_file_stops_whoever_would_rely_on_it_and_is_named(
    machine: Machine, name: str
) -> None:
    machine.add_virsh("exit 0")
    machine.raise_marker(1)
    (machine.state / name).write_text("rubbish")
    if name == "acts.json":
        ran = machine.ask("act", "resume", "--vm", VM1, "--epoch", "9")
    else:
        ran = machine.raise_marker(2)
    assert ran.refusal == (1, "failed")
    assert name in ran.complaint


def test_two_at_once_come_one_after_the_other(machine: Machine) -> None:
    started = [
        machine.start(machine.program, "raise", *OWNER, "--epoch", str(epoch))
        for epoch in (3, 4, 5, 6)
    ]
    codes = [process.wait(60) for process in started]
    for process in started:
        process.communicate()
    assert set(codes) <= {0, 3}
    assert codes[-1] == 0
    marker = json.loads(machine.marker.read_text())
    assert (marker["epoch"], machine.ask("status").answer["epoch"]) == (6, 6)


def test_only_its_owner_may_change_the_state(machine: Machine) -> None:
    machine.raise_marker(1)
    for path in (machine.state, machine.marker, machine.state / "epoch"):
        assert not path.stat().st_mode & 0o022, path


# --- acts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("resume", "resume"),
        ("power-off", "destroy"),
        ("undefine", "undefine --keep-nvram"),
    ],
)
def test_an_act_is_carried_out_by_virsh_with_the_vms_uuid(
    machine: Machine, what: str, asked: str
) -> None:
    notes = machine.add_virsh("exit 0")
    assert machine.ask("act", what, "--vm", VM1, "--epoch", "4").answer == {"done": what}
    assert notes.read_text() == f"--quiet --connect qemu:///system {asked} --domain {VM1}\n"


def test_f012_who_was_overtaken_cannot_act_on_that_vm_any_more(machine: Machine) -> None:
    notes = machine.add_virsh("exit 0")
    act = ("act", "resume", "--vm", VM1, "--epoch")
    assert machine.ask(*act, "5").code == 0
    assert machine.ask(*act, "5").code == 0
    assert machine.ask(*act, "4").refusal == (3, "stale_epoch")
    assert machine.ask("act", "power-off", "--vm", VM1, "--epoch", "4").refusal[0] == 3
    assert len(notes.read_text().splitlines()) == 2


def test_operations_side_by_side_do_not_shut_each_other_out(machine: Machine) -> None:
    """Epochs are of operations: a younger one may have been here about another VM."""
    machine.add_virsh("exit 0")
    assert machine.raise_marker(9).code == 0
    assert machine.ask("act", "resume", "--vm", VM2, "--epoch", "8").code == 0
    assert machine.ask("act", "resume", "--vm", VM1, "--epoch", "7").code == 0


def test_what_libvirt_says_against_it_is_passed_on(machine: Machine) -> None:
    machine.add_virsh('echo "error: Failed to resume domain" >&2\necho "error: no" >&2\nexit 1')
    ran = machine.ask("act", "resume", "--vm", VM1, "--epoch", "4")
    assert ran.refusal == (1, "failed")
    assert json.loads(ran.complaint)["message"] == "Failed to resume domain no"


def test_without_virsh_an_act_fails_and_says_so(machine: Machine) -> None:
    ran = machine.ask("act", "resume", "--vm", VM1, "--epoch", "4")
    assert ran.refusal == (1, "failed")
    assert "virsh" in ran.complaint


def test_virsh_is_given_none_of_our_environment(machine: Machine) -> None:
    machine.add_virsh(f"env > {machine.root}/env")
    machine.ask("act", "resume", "--vm", VM1, "--epoch", "4")
    names = {line.split("=")[0] for line in (machine.root / "env").read_text().splitlines()}
    assert names <= {"PATH", "LC_ALL", "PWD", "SHLVL", "_", "OLDPWD"}
    assert os.environ.keys() - names
