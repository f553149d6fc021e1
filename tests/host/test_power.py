"""Rebooting the machine and switching it off: only empty, only kept empty, only by its keeper."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.host.machine import OWNER, VM1, Machine

EPOCH = ("--epoch", "3")
FOREIGN = ("--operation", "op-1", "--controller", "c2")


def allow(machine: Machine, settings: object = None) -> Path:
    """A command that leaves a note instead of rebooting; where that note will be."""
    note, command = machine.root / "rebooted", machine.root / "reboot"
    command.write_text(f'#!/bin/sh\necho "$@" > {note}.new && mv {note}.new {note}\n')
    command.chmod(0o755)
    told = settings or {"reboot": [str(command), "now"], "power_off": [str(command), "off"]}
    path = machine.root / "etc/furlough-host.json"
    path.write_text(json.dumps(told))
    path.chmod(0o644)
    return note


def wait_for(path: Path) -> str:
    """What it will say; the command runs a second after the answer, beside us."""
    ends = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < ends, f"{path} did not appear"
        time.sleep(0.05)
    return path.read_text().strip()


@pytest.mark.parametrize(("verb", "word"), [("reboot", "now"), ("power-off", "off")])
def test_an_empty_host_in_maintenance_obeys_after_it_has_answered(
    machine: Machine, verb: str, word: str
) -> None:
    note = allow(machine)
    machine.raise_marker(3)
    answer = machine.ask(verb, *OWNER, *EPOCH).answer
    assert (answer["done"], answer["boot_id"]) == (verb, "a-boot")
    assert not note.exists()
    assert wait_for(note) == word


def test_s13_a_host_that_nobody_keeps_empty_is_left_alone(machine: Machine) -> None:
    note = allow(machine)
    assert machine.ask("reboot", *OWNER, *EPOCH).refusal == (3, "not_guarded")
    machine.raise_marker(1, "--only", VM1)
    assert machine.ask("reboot", *OWNER, *EPOCH).refusal == (3, "not_guarded")
    assert not note.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("qemu-system-x86_64", "-uuid", VM1, "-name", "guest=web01"),
        ("qemu-img", "convert", "a", "b"),
    ],
)
def test_s13_a_host_on_which_anything_is_left_is_not_rebooted(
    machine: Machine, words: tuple[str, ...]
) -> None:
    allow(machine)
    machine.raise_marker(3)
    machine.add_process(70, *words)
    ran = machine.ask("power-off", *OWNER, *EPOCH)
    assert ran.refusal == (3, "not_empty")
    assert "web01" in ran.complaint or "convert" in ran.complaint


def test_an_overtaken_controller_and_a_foreign_one_reboot_nothing(machine: Machine) -> None:
    allow(machine)
    machine.raise_marker(4)
    assert machine.ask("reboot", *OWNER, *EPOCH).refusal == (3, "stale_epoch")
    assert machine.ask("reboot", *FOREIGN, "--epoch", "5").refusal == (3, "foreign_marker")
    assert machine.ask("status").answer["epoch"] == 4


def test_an_epoch_that_has_rebooted_is_the_highest(machine: Machine) -> None:
    note = allow(machine)
    machine.raise_marker(3)
    assert machine.ask("reboot", *OWNER, "--epoch", "8").code == 0
    assert machine.lower_marker(7).refusal == (3, "stale_epoch")
    wait_for(note)


@pytest.mark.parametrize(
    "settings",
    [
        ["/bin/true"],
        {"reboot": "/bin/true"},
        {"reboot": []},
        {"reboot": ["true"]},
        {"reboot": ["/bin/true", 7]},
        {"reboot": ["/no/such/program"]},
        {"shell": ["/bin/true"]},
    ],
)
def test_settings_that_make_no_sense_run_nothing(machine: Machine, settings: object) -> None:
    allow(machine, settings)
    machine.raise_marker(3)
    ran = machine.ask("reboot", *OWNER, *EPOCH)
    assert ran.refusal == (1, "failed")


def test_settings_that_others_may_write_are_not_followed(machine: Machine) -> None:
    allow(machine)
    machine.raise_marker(3)
    (machine.root / "etc/furlough-host.json").chmod(0o666)
    ran = machine.ask("reboot", *OWNER, *EPOCH)
    assert ran.refusal == (1, "failed")
    assert "only root may write" in ran.complaint
