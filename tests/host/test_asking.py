"""Asking furlough-host: verbs, sessions, storage proofs; whatever is asked, it answers in JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.host.machine import OWNER, VM1, Machine

EPOCH = ("--epoch", "1")
TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("destroy",),
        ("status", "--now"),
        ("raise",),
        ("raise", *OWNER),
        ("raise", *OWNER, "--epoch", "one"),
        ("raise", *OWNER, "--epoch", "9" * 5000),
        ("raise", *OWNER, *EPOCH, "--admit", "web01"),
        ("raise", *OWNER, *EPOCH, "--admit", VM1 + "\n"),
        ("raise", *OWNER, *EPOCH, "--admit", "../../etc/passwd"),
        ("raise", "--operation", "op 1; reboot", "--controller", "c1", *EPOCH),
        ("raise", "--operation", "-x", "--controller", "c1", *EPOCH),
        ("raise", "--operation", "o" * 129, "--controller", "c1", *EPOCH),
        ("raise", "--operation", "op-1", "--controller", "", *EPOCH),
        ("act", "reboot", "--vm", VM1, *EPOCH),
        ("act", "resume", "--vm", "--help", *EPOCH),
        ("act", "resume", "--vm", "-x", *EPOCH),
        ("act", "resume", "--vm", VM1),
        ("storage", "format", "--path", "/srv", "--token", TOKEN),
        ("storage", "write", "--path", "srv", "--token", TOKEN),
        ("storage", "write", "--path", "/srv/../etc", "--token", TOKEN),
        ("storage", "write", "--path", "/srv/..", "--token", TOKEN),
        ("storage", "write", "--path", "/", "--token", TOKEN),
        ("storage", "write", "--path", "/srv//vms", "--token", TOKEN),
        ("storage", "write", "--path", "/srv", "--token", "../x"),
        ("storage", "write", "--path", "/srv", "--token", "0123"),
        ("session", "status"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_changes_nothing(
    machine: Machine, words: tuple[str, ...]
) -> None:
    assert machine.ask(*words).refusal == (2, "usage")
    assert not machine.state.exists()


def test_help_is_for_people(machine: Machine) -> None:
    ran = machine.ask("--help")
    assert ran.code == 0
    assert "raise" in ran.output


def test_what_cannot_be_written_is_a_failure_that_says_where(machine: Machine) -> None:
    machine.state.parent.mkdir(parents=True)
    machine.state.write_text("a file, where a directory should be")
    ran = machine.raise_marker(1)
    assert ran.refusal == (1, "failed")
    assert "furlough-host" in ran.complaint


# --- sessions -------------------------------------------------------------------------------------


def in_session(machine: Machine, *lines: bytes) -> list[Any]:
    """What it answers to these lines, one answer each."""
    ran = machine.ask("session", text_in=b"".join(line + b"\n" for line in lines))
    assert ran.code == 0
    return [json.loads(line) for line in ran.output.splitlines()]


def words(*given: str) -> bytes:
    """A request as our driver sends it."""
    return json.dumps(given).encode()


def test_a_session_answers_one_line_with_one_line_in_their_order(machine: Machine) -> None:
    machine.add_process(70, "qemu-system-x86_64", "-uuid", VM1, "-name", "guest=web01")
    raised, status, processes, lowered = in_session(
        machine,
        words("raise", *OWNER, "--epoch", "4"),
        words("status"),
        words("processes"),
        words("lower", *OWNER, "--epoch", "4"),
    )
    assert status["answer"]["marker"] == raised["answer"]
    assert processes["answer"]["processes"][0]["uuid"] == VM1
    assert lowered == {"answer": {"lowered": True}}


def test_a_session_ends_with_its_input(machine: Machine) -> None:
    assert in_session(machine) == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"", 2),
        (b"status", 2),
        (b'"status"', 2),
        (b"null", 2),
        (b"{}", 2),
        (b"[]", 2),
        (b"[7]", 2),
        (b'["status"', 2),
        (b"\xff\xfe", 2),
        (b"[" * 100_000, 2),
        (b'["session"]', 1),
        (b'["--help"]', 2),
        (b'["status", "--help"]', 2),
        (b'["no such verb"]', 2),
        (b'["act", "resume", "--vm", "\\u0000", "--epoch", "1"]', 2),
        (words("lower", *OWNER, "--epoch", "-1"), 3),
    ],
)
def test_whatever_a_line_holds_the_session_goes_on(
    machine: Machine, line: bytes, status: int
) -> None:
    refused, after = in_session(machine, line, words("status"))
    assert refused["status"] == status
    assert refused["code"]
    assert refused["message"]
    assert after["answer"]["epoch"] == 0


def test_a_line_without_end_ends_the_session_and_not_the_machine(machine: Machine) -> None:
    ran = machine.ask("session", text_in=b"x" * (3 << 20))
    assert ran.code == 2
    (told,) = ran.output.splitlines()
    assert json.loads(told)["code"] == "usage"


def test_a_refusal_has_the_same_words_in_a_session_and_out_of_it(machine: Machine) -> None:
    machine.raise_marker(5)
    outside = machine.raise_marker(4)
    (inside,) = in_session(machine, words("raise", *OWNER, "--epoch", "4"))
    assert inside == json.loads(outside.complaint)
    assert outside.refusal == (3, "stale_epoch")


# --- storage proofs -------------------------------------------------------------------------------


def storage(path: Path, act: str) -> bytes:
    return words("storage", act, "--path", str(path), "--token", TOKEN)


def test_two_hosts_that_see_the_same_directory_see_the_same_word(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared, other = tmp_path_factory.mktemp("shared"), tmp_path_factory.mktemp("other")
    wrote, seen, unseen, removed, again = in_session(
        machine,
        storage(shared, "write"),
        storage(shared, "read"),
        storage(other, "read"),
        storage(shared, "remove"),
        storage(shared, "remove"),
    )
    assert wrote == {"answer": {"written": True}}
    assert seen == {"answer": {"seen": True}}
    assert unseen == {"answer": {"seen": False}}
    assert removed == {"answer": {"removed": True}}
    assert again == {"answer": {"removed": False}}
    assert list(shared.iterdir()) == []


def test_a_lock_held_in_one_session_is_not_to_be_had_in_another(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared = tmp_path_factory.mktemp("shared")
    holder = machine.start(machine.program, "session")
    assert holder.stdin is not None
    assert holder.stdout is not None

    def ask_holder(act: str) -> Any:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(storage(shared, act) + b"\n")
        holder.stdin.flush()
        return json.loads(holder.stdout.readline())["answer"]

    ask_holder("write")
    assert ask_holder("hold") == {"locked": True}
    assert in_session(machine, storage(shared, "try")) == [{"answer": {"locked": False}}]
    ask_holder("remove")
    holder.communicate(timeout=60)
    in_session(machine, storage(shared, "write"))
    assert in_session(machine, storage(shared, "try")) == [{"answer": {"locked": True}}]


def test_a_proof_follows_no_link_and_overwrites_nothing(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared, secret = tmp_path_factory.mktemp("shared"), tmp_path_factory.mktemp("s") / "secret"
    secret.write_text("untouched")
    canary = shared / f".furlough-canary-{TOKEN}"
    canary.symlink_to(secret)
    for act in ("write", "read", "hold", "try"):
        (told,) = in_session(machine, storage(shared, act))
        assert told["status"] == 1, act
    assert secret.read_text() == "untouched"
    link = shared.parent / f"{shared.name}-link"
    link.symlink_to(shared)
    (told,) = in_session(machine, storage(link, "read"))
    assert told["status"] == 1


def test_a_directory_that_is_not_there_is_a_failure(machine: Machine, tmp_path: Path) -> None:
    (told,) = in_session(machine, storage(tmp_path / "nowhere", "write"))
    assert (told["status"], told["code"]) == (1, "failed")
