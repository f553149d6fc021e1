"""The proof: a hook counts only if it was seen to refuse, by this daemon, as it is now."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator

import pytest

from tests.host.hypervisor import FakeLibvirt
from tests.host.machine import OWNER, VM1, Machine


@pytest.fixture
def libvirt(machine: Machine) -> Iterator[FakeLibvirt]:
    """A libvirt whose daemon runs."""
    libvirt = FakeLibvirt(machine)
    libvirt.start_daemon()
    try:
        yield libvirt
    finally:
        libvirt.stop_daemon()


def test_a_hook_that_refuses_the_one_and_lets_the_other_pass_is_proven(
    libvirt: FakeLibvirt,
) -> None:
    assert libvirt.trouble() == "its hook was never tried"
    assert libvirt.proof() == ""
    assert libvirt.trouble() == ""
    (passed,) = libvirt.ran()
    created = [call for call in libvirt.called() if call.startswith("create")]
    assert created == ["create /dev/stdin --paused"] * 2
    xml = (libvirt.machine.root / "created.xml").read_text()
    assert passed in xml
    assert "<memory unit='MiB'>16</memory>" in xml
    assert "<disk" not in xml


def test_a_proof_leaves_nothing_but_its_note(libvirt: FakeLibvirt) -> None:
    libvirt.proof()
    assert libvirt.running() == []
    left = {path.name for path in libvirt.machine.state.iterdir()}
    assert left == {"lock", "trial.lock", "proof.json"}


def test_f113_a_hook_that_is_not_there_is_said_to_be_missing(libvirt: FakeLibvirt) -> None:
    libvirt.machine.hook_path.unlink()
    assert libvirt.trouble() == "its hook is not installed"
    assert libvirt.proof() == "its hook is not installed"
    assert libvirt.ran() == []


def test_f114_a_daemon_that_does_not_know_the_hook_yet_is_reloaded_and_asked_again(
    libvirt: FakeLibvirt,
) -> None:
    libvirt.ignored.touch()
    assert libvirt.proof() == ""
    assert not libvirt.ignored.exists()
    refused, passed = libvirt.ran()
    assert refused != passed
    assert libvirt.running() == []


def test_f114_a_hook_that_stays_ignored_is_not_proven_and_says_so(libvirt: FakeLibvirt) -> None:
    libvirt.ignored.mkdir()  # Which no reload takes away.
    assert "ignored by libvirt's daemon" in libvirt.proof()
    assert "ignored by libvirt's daemon" in libvirt.trouble()
    assert libvirt.running() == []
    assert not libvirt.machine.marker.exists()


def test_a_proof_ends_with_the_daemon_that_gave_it(libvirt: FakeLibvirt) -> None:
    libvirt.proof()
    libvirt.stop_daemon()
    assert libvirt.trouble() == "libvirt's daemon does not run"
    libvirt.start_daemon()
    assert libvirt.trouble() == "its hook was not tried since libvirt's daemon started"
    assert libvirt.proof() == ""


def test_a_child_of_the_daemon_is_not_taken_for_it(libvirt: FakeLibvirt) -> None:
    libvirt.proof()
    child = libvirt.machine.add_process(999_999, "/usr/sbin/libvirtd", "--listen")
    fields = ["0"] * 50
    fields[19] = str(1 << 60)  # It started much later.
    (child / "stat").write_text(f"999999 (libvirtd) {' '.join(fields)}")
    assert libvirt.trouble() == ""


def test_f053_a_proof_ends_with_the_boot_that_gave_it(libvirt: FakeLibvirt) -> None:
    libvirt.proof()
    (libvirt.machine.root / "proc/sys/kernel/random/boot_id").write_text("another\n")
    assert libvirt.trouble() == "its hook was not tried since libvirt's daemon started"


def test_a_hook_that_was_changed_has_to_be_tried_again(libvirt: FakeLibvirt) -> None:
    libvirt.proof()
    hook = libvirt.machine.hook_path
    hook.write_text(hook.read_text() + "# changed\n")
    assert libvirt.trouble() == "its hook was changed since it was tried"
    assert libvirt.proof() == ""


def test_a_note_that_is_damaged_proves_nothing(libvirt: FakeLibvirt) -> None:
    libvirt.proof()
    for damage in ("", "[]", "{", "null", "{}", '{"why": ""}'):
        (libvirt.machine.state / "proof.json").write_text(damage)
        assert libvirt.trouble() != "", damage


def test_while_an_operation_keeps_the_host_empty_only_the_refusal_is_tried(
    libvirt: FakeLibvirt,
) -> None:
    libvirt.machine.raise_marker(4, "--admit", VM1)
    before = libvirt.machine.marker.read_bytes()
    assert libvirt.proof() == ""
    assert libvirt.ran() == []
    assert libvirt.machine.marker.read_bytes() == before


def test_a_trial_that_fails_for_another_reason_proves_nothing_and_tells_it(
    libvirt: FakeLibvirt,
) -> None:
    (libvirt.machine.root / "create.fails").write_text("no emulator was found")
    assert "no emulator was found" in libvirt.proof()
    assert "no emulator was found" in libvirt.trouble()
    assert not libvirt.machine.marker.exists()


def test_a_daemon_that_does_not_answer_proves_nothing(libvirt: FakeLibvirt) -> None:
    libvirt.proof()
    (libvirt.machine.root / "virsh.fails").write_text("failed to connect to the hypervisor")
    assert "does not answer: failed to connect" in libvirt.proof()
    assert "does not answer" in libvirt.trouble()


def test_a_hook_that_refuses_everybody_is_not_proven(libvirt: FakeLibvirt) -> None:
    other = libvirt.machine.hook_path.with_name("60-other")
    other.write_text(
        "import sys\nsys.stderr.write('furlough: refused, whoever it is')\nsys.exit(1)\n"
    )
    assert libvirt.proof() == "its hook refuses VMs that no marker forbids"


def test_what_a_broken_trial_has_left_is_cleared_away(libvirt: FakeLibvirt) -> None:
    machine = libvirt.machine
    stuck = machine.root / "destroy.fails"
    stuck.touch()
    libvirt.proof()
    (left,) = libvirt.running()
    assert left in (machine.state / "trial.json").read_text()
    machine.raise_marker(1, "--only", left, owner=("--operation", "x", "--controller", "c1"))
    marker = json.loads(machine.marker.read_text())
    # As a trial's marker is left behind when the power goes away in the middle of it.
    machine.marker.write_text(json.dumps({**marker, "controller": "furlough-host"}))
    stuck.unlink()
    assert machine.ask("status").answer["marker"] is None
    assert libvirt.proof() == ""
    assert libvirt.running() == []
    assert not machine.marker.exists()


def test_a_trial_never_ends_a_vm_that_is_not_its_own(libvirt: FakeLibvirt) -> None:
    running = libvirt.machine.root / "running"
    running.mkdir()
    (running / VM1).touch()
    libvirt.machine.state.mkdir(parents=True)
    (libvirt.machine.state / "trial.json").write_text('["-x", 7, null]')
    assert libvirt.proof() == ""
    assert libvirt.running() == [VM1]


def test_an_operation_takes_the_host_while_a_trial_is_under_way(machine: Machine) -> None:
    machine.raise_marker(1, "--only", VM1)
    marker = json.loads(machine.marker.read_text())
    machine.marker.write_text(json.dumps({**marker, "controller": "furlough-host"}))
    assert machine.lower_marker(2).answer == {"lowered": False}
    assert machine.marker.exists()
    raised = machine.raise_marker(3, owner=OWNER).answer
    assert raised["only"] is None
    assert machine.ask("status").answer["marker"] == raised


def test_two_proofs_at_once_are_refused(libvirt: FakeLibvirt) -> None:
    libvirt.machine.state.mkdir(parents=True)
    with (libvirt.machine.state / "trial.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert libvirt.machine.ask("prove").refusal == (3, "busy")
    assert libvirt.ran() == []


def test_a_daemon_that_is_started_by_need_is_woken(machine: Machine) -> None:
    libvirt = FakeLibvirt(machine)
    libvirt.proof()
    assert libvirt.called()[0] == "list --all --uuid"
    assert libvirt.note()["daemon"] is None
    assert libvirt.trouble() == "libvirt's daemon does not run"
