"""A machine for furlough-host: a directory tree with the program, its hook, and processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

SOURCE = Path(str(resources.files("furlough.host").joinpath("furlough_host.py")))
VM1 = "11111111-1111-4111-8111-111111111111"
VM2 = "22222222-2222-4222-8222-222222222222"
OWNER = ("--operation", "op-1", "--controller", "c1")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one run of the program came to."""

    code: int
    output: str
    complaint: str

    @property
    def answer(self) -> Any:
        """What it answered; only where it succeeded."""
        assert (self.code, self.complaint) == (0, "")
        return json.loads(self.output)

    @property
    def refusal(self) -> tuple[int, str]:
        """Exit status and code of its error document."""
        assert self.output == ""
        told = json.loads(self.complaint.splitlines()[-1])
        assert told["status"] == self.code
        assert told["message"]
        return self.code, told["code"]


class Machine:
    """The tree below one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "var/lib/furlough-host"
        self.marker = self.state / "marker.json"
        self.program = self._install(root / "usr/local/sbin/furlough-host")
        self.hook_path = self._install(root / "etc/libvirt/hooks/qemu.d/50-furlough")
        boot = root / "proc/sys/kernel/random/boot_id"
        boot.parent.mkdir(parents=True)
        boot.write_text("a-boot\n")

    @staticmethod
    def _install(path: Path) -> Path:
        path.parent.mkdir(parents=True)
        path.write_bytes(SOURCE.read_bytes())
        path.chmod(0o755)
        return path

    @property
    def environment(self) -> dict[str, str]:
        """What the program is started with: nothing of ours but the tree to work on."""
        return {"FURLOUGH_HOST_ROOT": str(self.root), "PATH": os.environ["PATH"]}

    def start(self, program: Path, *words: str) -> subprocess.Popen[bytes]:
        """The program, beside us."""
        return subprocess.Popen(
            [sys.executable, "-IS", str(program), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )

    def ask(self, *words: str, text_in: bytes = b"") -> Ran:
        """One verb, and what came of it."""
        return self._finish(self.start(self.program, *words), text_in)

    def hook(self, operation: str, uuid: str = VM1, *, xml: bytes | None = None) -> Ran:
        """The hook as libvirt calls it, with a domain's XML on its input."""
        words = ("web01", operation, "begin", "-")
        given = domain_xml(uuid) if xml is None else xml
        return self._finish(self.start(self.hook_path, *words), given)

    @staticmethod
    def _finish(process: subprocess.Popen[bytes], text_in: bytes) -> Ran:
        output, complaint = process.communicate(text_in, timeout=60)
        assert b"Traceback" not in complaint, complaint.decode()
        return Ran(code=process.returncode, output=output.decode(), complaint=complaint.decode())

    def raise_marker(self, epoch: int = 1, *more: str, owner: Sequence[str] = OWNER) -> Ran:
        """Ask it to keep the host empty."""
        return self.ask("raise", *owner, "--epoch", str(epoch), *more)

    def lower_marker(self, epoch: int = 1, *, owner: Sequence[str] = OWNER) -> Ran:
        """Ask it to let VMs start again."""
        return self.ask("lower", *owner, "--epoch", str(epoch))

    def add_process(self, pid: int, *words: str) -> Path:
        """A process in the tree's /proc, by its command line."""
        directory = self.root / "proc" / str(pid)
        directory.mkdir()
        (directory / "cmdline").write_bytes("".join(word + "\0" for word in words).encode())
        return directory

    def add_virsh(self, script: str) -> Path:
        """A virsh that notes how it is called, and then does this. Returns its notes."""
        path, notes = self.root / "usr/bin/virsh", self.root / "virsh.called"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "$*" >> {notes}\n{script}\n')
        path.chmod(0o755)
        return notes


def domain_xml(uuid: str) -> bytes:
    """What libvirt shows a hook."""
    return (
        f"<domain type='kvm' id='3'>\n  <name>web01</name>\n  <uuid>{uuid}</uuid>\n"
        "  <metadata><x:o xmlns:x='urn:x'><uuid>99999999-9999-4999-8999-999999999999</uuid></x:o>"
        "</metadata>\n</domain>\n"
    ).encode()
