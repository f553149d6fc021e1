"""The hook: what keeps an emptied host empty, and never kills a VM that runs."""

from __future__ import annotations

import json

import pytest

from tests.host.machine import VM1, VM2, Machine

REFUSED = ("prepare", "migrate", "restore")
PASSED = ("start", "started", "stopped", "release", "reconnect", "attach", "", "of the future")


@pytest.mark.parametrize("operation", [*REFUSED, *PASSED])
def test_everybody_passes_where_no_host_is_kept_empty(machine: Machine, operation: str) -> None:
    ran = machine.hook(operation)
    assert (ran.code, ran.output, ran.complaint) == (0, "", "")


@pytest.mark.parametrize("operation", REFUSED)
def test_nobody_starts_or_arrives_while_the_marker_is_there(
    machine: Machine, operation: str
) -> None:
    machine.raise_marker()
    ran = machine.hook(operation)
    assert (ran.code, ran.output) == (1, "")
    assert ran.complaint.count("\n") == 1
    assert "op-1" in ran.complaint


@pytest.mark.parametrize("operation", PASSED)
def test_f117_nothing_else_is_ever_refused(machine: Machine, operation: str) -> None:
    """A non-zero answer to `reconnect` would kill a VM that runs."""
    machine.raise_marker()
    assert machine.hook(operation).code == 0
    machine.marker.write_text("{")
    assert machine.hook(operation).code == 0
    machine.marker.unlink()
    machine.marker.mkdir()
    assert machine.hook(operation).code == 0


def test_those_that_come_home_are_admitted_and_nobody_else(machine: Machine) -> None:
    machine.raise_marker(1, "--admit", VM1)
    assert machine.hook("migrate", VM1).code == 0
    assert machine.hook("prepare", VM1.upper()).code == 0
    assert machine.hook("migrate", VM2).code == 1


def test_after_the_marker_is_lowered_everybody_passes_again(machine: Machine) -> None:
    machine.raise_marker()
    machine.lower_marker()
    assert machine.hook("prepare").code == 0


def test_a_proof_refuses_the_probe_and_disturbs_nobody_else(machine: Machine) -> None:
    machine.raise_marker(1, "--only", VM2)
    assert machine.hook("prepare", VM2).code == 1
    assert machine.hook("prepare", VM1).code == 0


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe\x00",
        b'{"operation": "op-1", "epoch": 1}',
        b'{"operation": "op-1", "epoch": "1", "controller": "c1"}',
        b'{"operation": "op-1", "epoch": 1, "controller": "c1", "admit": "%s"}' % VM1.encode(),
        b'{"operation": "op-1", "epoch": 1, "controller": "c1", "admit": [7]}',
        b'{"operation": "op-1", "epoch": 1, "controller": "c1", "only": 7}',
        b"[" * 200_000,
    ],
)
def test_a_damaged_marker_refuses_everybody(machine: Machine, damage: bytes) -> None:
    machine.state.mkdir(parents=True)
    machine.marker.write_bytes(damage)
    ran = machine.hook("prepare")
    assert ran.code == 1
    assert "marker" in ran.complaint


def test_a_marker_that_cannot_be_opened_refuses_everybody(machine: Machine) -> None:
    machine.marker.mkdir(parents=True)
    assert machine.hook("prepare").code == 1


def test_a_marker_of_a_later_version_still_refuses_and_admits(machine: Machine) -> None:
    machine.raise_marker(1, "--admit", VM1)
    marker = json.loads(machine.marker.read_text())
    del marker["raised_at"]
    machine.marker.write_text(json.dumps({**marker, "format": 2, "new": {"a": 1}}))
    assert machine.hook("prepare", VM1).code == 0
    assert machine.hook("prepare", VM2).code == 1


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"\xff\x00",
        b"<domain><name>x</name></domain>",
        b"<domain><uuid>nonsense</uuid></domain>",
        # A user chose this name; libvirt escapes it, so it is no element.
        f"<domain><name>&lt;uuid&gt;{VM1}&lt;/uuid&gt;</name><uuid>{VM2}</uuid></domain>".encode(),
    ],
)
def test_who_cannot_be_told_to_be_admitted_is_not(machine: Machine, xml: bytes) -> None:
    machine.raise_marker(1, "--admit", VM1)
    assert machine.hook("migrate", xml=xml).code == 1


def test_the_uuid_is_the_vms_own_and_not_one_in_its_metadata(machine: Machine) -> None:
    machine.raise_marker(1, "--admit", "99999999-9999-4999-8999-999999999999")
    assert machine.hook("migrate", VM1).code == 1


@pytest.mark.parametrize("name", ["-x", "$(reboot)", "a'b\"c", "\n", "--help", "status"])
def test_a_vms_name_is_only_a_name(machine: Machine, name: str) -> None:
    machine.raise_marker(1, "--admit", VM1)
    process = machine.start(machine.hook_path, name, "prepare", "begin", "-")
    output, _complaint = process.communicate(f"<uuid>{VM2}</uuid>".encode(), timeout=60)
    assert (process.returncode, output) == (1, b"")


def test_called_with_nothing_at_all_it_lets_pass(machine: Machine) -> None:
    process = machine.start(machine.hook_path)
    assert process.communicate(b"", timeout=60) == (b"", b"")
    assert process.returncode == 0


def test_it_is_the_hook_under_whatever_name_it_is_not_its_own(machine: Machine) -> None:
    machine.raise_marker()
    other = machine.hook_path.rename(machine.hook_path.with_name("qemu"))
    machine.hook_path = other
    assert machine.hook("prepare").code == 1


@pytest.mark.parametrize(("is_guarded", "code"), [(True, 1), (False, 0)])
def test_f116_a_hook_that_is_given_no_end_of_its_input_does_not_wait_for_ever(
    machine: Machine, is_guarded: bool, code: int
) -> None:
    text = machine.hook_path.read_text()
    assert text.count("HOOK_WITHIN_S = 10 ") == 1
    machine.hook_path.write_text(text.replace("HOOK_WITHIN_S = 10 ", "HOOK_WITHIN_S = 1 "))
    if is_guarded:
        machine.raise_marker()
    process = machine.start(machine.hook_path, "web01", "prepare", "begin", "-")
    try:
        assert process.wait(timeout=30) == code
        assert process.stderr is not None
        assert (b"no answer within 1 s" in process.stderr.read()) is is_guarded
    finally:
        process.communicate()


def test_f116_a_hook_that_crashes_refuses_starts_and_lets_everything_else_pass(
    machine: Machine,
) -> None:
    text = machine.hook_path.read_text()
    assert text.count("refusal = why_refused(") == 1
    broken = text.replace("refusal = why_refused(", "refusal = no_such_name(")
    machine.hook_path.write_text(broken)
    assert machine.hook("prepare").code == 1
    for operation in PASSED:
        assert machine.hook(operation).code == 0
