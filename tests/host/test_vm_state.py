"""What a VM that is off keeps on its host beside its definition: read on one host, written on the
other under another name, and there only once it is whole (F072)."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from tests.host.machine import VM1, VM2, Machine

NVRAM, TPM = "nvram/web01_VARS.fd", "tpm/tpm2/tpm2-00.permall"
CONTENT = bytes(range(256)) * 8


def place_of(machine: Machine, part: str) -> Path:
    """Where a part lies."""
    kind, rest = part.split("/", 1)
    libvirt = machine.root / "var/lib/libvirt"
    return libvirt / "qemu/nvram" / rest if kind == "nvram" else libvirt / "swtpm" / VM1 / rest


def put(machine: Machine, part: str, content: bytes = CONTENT) -> Path:
    """A part that is there."""
    path = place_of(machine, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def told(content: bytes) -> str:
    """As it is told to the program."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def checksum(content: bytes = CONTENT) -> str:
    return hashlib.sha256(content).hexdigest()


def ask(machine: Machine, act: str, part: str = "", *words: str) -> object:
    """What one act answers."""
    about = ("--part", part) if part else ()
    return machine.ask("vm-state", act, "--vm", VM1, *about, *words).answer


def keep(machine: Machine, part: str, content: bytes = CONTENT, epoch: int = 1) -> object:
    return ask(machine, "keep", part, "--sha256", checksum(content), "--epoch", str(epoch))


def test_both_kinds_of_state_are_listed_with_their_checksums(machine: Machine) -> None:
    put(machine, NVRAM)
    put(machine, TPM, b"sealed")
    put(machine, "tpm/tpm2/.lock", b"")
    put(machine, "tpm/tpm2/old.furlough-part", b"half")
    found = machine.ask("vm-state", "list", "--vm", VM1, "--nvram", "web01_VARS.fd").answer
    assert found["parts"] == [
        {"part": NVRAM, "size": len(CONTENT), "sha256": checksum()},
        {"part": TPM, "size": 6, "sha256": checksum(b"sealed")},
    ]


def test_what_is_not_there_is_not_listed(machine: Machine) -> None:
    assert machine.ask("vm-state", "list", "--vm", VM1, "--nvram", "no.fd").answer == {"parts": []}


@pytest.mark.parametrize("part", [NVRAM, TPM])
def test_what_was_read_on_one_host_is_written_on_the_other(machine: Machine, part: str) -> None:
    source = put(machine, part)
    first = ask(machine, "read", part)
    assert isinstance(first, dict)
    assert base64.urlsafe_b64decode(first["data"] + "==") == CONTENT
    assert ask(machine, "read", part, "--offset", str(len(CONTENT))) == {"data": ""}
    source.unlink()
    ask(machine, "write", part, f"--data={told(CONTENT[:1000])}")
    ask(machine, "write", part, "--offset", "1000", f"--data={told(CONTENT[1000:])}")
    assert not source.exists(), "half of it would be taken for all of it"
    assert keep(machine, part) == {"kept": part}
    assert source.read_bytes() == CONTENT
    assert keep(machine, part) == {"kept": part}, "twice is harmless"
    assert [one.name for one in source.parent.iterdir()] == [source.name]


def test_a_copy_that_was_broken_off_begins_anew(machine: Machine) -> None:
    ask(machine, "write", NVRAM, f"--data={told(b'x' * 3000)}")
    ask(machine, "write", NVRAM, f"--data={told(CONTENT)}")
    keep(machine, NVRAM)
    assert place_of(machine, NVRAM).read_bytes() == CONTENT


def test_what_is_not_whole_gets_no_name(machine: Machine) -> None:
    known = put(machine, NVRAM, b"before")
    ask(machine, "write", NVRAM, f"--data={told(CONTENT[:1000])}")
    words = ("vm-state", "keep", "--vm", VM1, "--part", NVRAM, "--sha256", checksum())
    assert machine.ask(*words).refusal == (1, "failed")
    assert known.read_bytes() == b"before"


def test_another_file_of_that_name_is_kept_beside_it(machine: Machine) -> None:
    known = put(machine, NVRAM, b"of another VM")
    ask(machine, "write", NVRAM, f"--data={told(CONTENT)}")
    keep(machine, NVRAM)
    assert known.read_bytes() == CONTENT
    aside = known.with_name(f"{known.name}.before-{checksum(b'of another VM')[:8]}")
    assert aside.read_bytes() == b"of another VM"


def test_nothing_of_a_vm_with_a_process_here_is_touched(machine: Machine) -> None:
    put(machine, NVRAM)
    machine.add_process(70, "/usr/bin/qemu-system-x86_64", "-uuid", VM1)
    for act in ("list", "read", "write", "keep"):
        words = ("vm-state", act, "--vm", VM1, "--part", NVRAM)
        assert machine.ask(*words).refusal == (3, "vm_active")
    assert machine.ask("vm-state", "list", "--vm", VM2).answer == {"parts": []}


def test_an_overtaken_controller_gives_nothing_its_name(machine: Machine) -> None:
    ask(machine, "write", NVRAM, f"--data={told(CONTENT)}")
    machine.ask("act", "fence", "--vm", VM1, "--epoch", "9")
    words = ("vm-state", "keep", "--vm", VM1, "--part", NVRAM, "--sha256", checksum())
    assert machine.ask(*words, "--epoch", "8").refusal == (3, "stale_epoch")
    assert not place_of(machine, NVRAM).exists()
    assert machine.ask("act", "fence", "--vm", VM1, "--epoch", "8").refusal == (3, "stale_epoch")


def test_no_link_is_followed(machine: Machine) -> None:
    secret = machine.root / "secret"
    secret.write_bytes(b"of the host")
    path = place_of(machine, NVRAM)
    path.parent.mkdir(parents=True)
    path.symlink_to(secret)
    words = ("vm-state", "read", "--vm", VM1, "--part", NVRAM)
    assert machine.ask(*words).refusal == (1, "failed")
    home = place_of(machine, TPM).parent
    home.parent.mkdir(parents=True)
    home.symlink_to(machine.root)
    write = machine.ask("vm-state", "write", "--vm", VM1, "--part", TPM, f"--data={told(b'x')}")
    assert write.refusal == (1, "failed")
    assert secret.read_bytes() == b"of the host"


@pytest.mark.parametrize(
    "words",
    [
        ("read", "--vm", VM1, "--part", "nvram/../../../etc/shadow"),
        ("read", "--vm", VM1, "--part", "/etc/shadow"),
        ("read", "--vm", VM1, "--part", "tpm/tpm3/x"),
        ("read", "--vm", "../x", "--part", NVRAM),
        ("read", "--vm", VM1, "--part", NVRAM, "--offset", "-1"),
        ("write", "--vm", VM1, "--part", NVRAM, "--data", "a b"),
        ("keep", "--vm", VM1, "--part", NVRAM, "--sha256", "abc"),
        ("list", "--vm", VM1, "--nvram", "../x"),
        ("erase", "--vm", VM1, "--part", NVRAM),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(machine: Machine, words: tuple[str, ...]) -> None:
    assert machine.ask("vm-state", *words).refusal == (2, "usage")


def test_an_act_about_one_part_has_to_name_it(machine: Machine) -> None:
    assert machine.ask("vm-state", "read", "--vm", VM1).refusal == (1, "failed")


def test_a_large_piece_passes_through_a_session(machine: Machine) -> None:
    content = CONTENT * 192
    data = told(content)
    request = json.dumps(["vm-state", "write", "--vm", VM1, "--part", NVRAM, f"--data={data}"])
    ran = machine.ask("session", text_in=request.encode() + b"\n")
    assert json.loads(ran.output) == {"answer": {"written": len(content)}}
    keep(machine, NVRAM, content)
    assert place_of(machine, NVRAM).read_bytes() == content
