"""The site's own commands: their exit status is the verdict; whatever else they do is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from furlough.site_probes import Commands
from tests.core.builders import a_vm, vm_id


def _command(tmp_path: Path, script: str) -> tuple[str, ...]:
    path = tmp_path / "probe"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    path.chmod(0o755)
    return (str(path), "--site")


def _asked(
    storage: tuple[str, ...] = (), backup: tuple[str, ...] = (), *, within_s: float = 20.0
) -> list[tuple[str, str, str]]:
    commands = Commands(storage, backup, within_s)
    return list(asyncio.run(commands.ask([a_vm(1, name="db; rm -rf /")])))


def test_without_commands_nothing_is_asked() -> None:
    assert _asked() == []


def test_a_command_that_ends_well_says_nothing(tmp_path: Path) -> None:
    fine = _command(tmp_path, "echo all is well")
    assert _asked(fine, fine) == []


def test_status_1_says_that_storage_is_under_repair_and_the_first_line_what(
    tmp_path: Path,
) -> None:
    storage = _command(tmp_path, 'echo "osd.3 is recovering."; echo more; exit 1')
    assert _asked(storage) == [
        ("cluster.storage_repair", "site", "Storage repair at the site: osd.3 is recovering.")
    ]
    silent = _command(tmp_path, "exit 1")
    assert _asked(silent)[0][2].endswith("the site's storage probe says so.")


def test_a_vm_without_a_backup_is_named_by_uuid_and_name_as_single_words(tmp_path: Path) -> None:
    backup = _command(tmp_path, 'echo "$#,$1,$2,$3"; exit 1')
    ((code, subject, message),) = _asked(backup=backup)
    assert code == "vm.no_backup"
    assert subject == f"db; rm -rf / ({vm_id(1)})"
    assert message == (f"VM db; rm -rf / has no recent backup: 3,--site,{vm_id(1)},db; rm -rf /.")
    ((_, _, message),) = _asked(backup=_command(tmp_path, "exit 1"))
    assert message == "VM db; rm -rf / has no recent backup."


@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("exit 3", "it ended with status 3."),
        ("echo no database; exit 2", "it ended with status 2: no database."),
        ("kill -9 $$", "it ended with status -9."),
    ],
)
def test_any_other_end_is_no_verdict(tmp_path: Path, script: str, how: str) -> None:
    command = _command(tmp_path, script)
    first, second = _asked(command, command)
    assert first[:2] == ("probe.failed", "site")
    assert first[2] == f"Probe {command[0]} gave no verdict about the site: {how}"
    assert second[1].startswith("db; rm -rf / (")


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    ((code, _, message),) = _asked((str(tmp_path / "gone"),))
    assert code == "probe.failed"
    assert "it cannot be run" in message
    assert "No such file" in message


def test_a_command_that_never_answers_is_given_up_and_killed(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    command = _command(tmp_path, f"echo $$ > {mark}; exec sleep 600")
    ((code, _, message),) = _asked(command, within_s=0.5)
    assert (code, "no answer within 0.5 s" in message) == ("probe.failed", True)
    assert not Path(f"/proc/{mark.read_text(encoding='ascii').strip()}").exists()


def test_endless_output_fills_no_memory_and_control_characters_are_dropped(
    tmp_path: Path,
) -> None:
    command = _command(tmp_path, r"printf '\033[31mred'; head -c 3000000 /dev/zero; exit 1")
    ((_, _, message),) = _asked(command)
    assert message == "Storage repair at the site: [31mred."
