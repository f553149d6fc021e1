"""A libvirt for furlough-host's proofs: a virsh that asks the hook before it starts a VM, and a
daemon that looks for hooks only when it starts and when it is told to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.host.machine import Machine

_VIRSH = """\
#!{python} -IS
import os, pathlib, re, subprocess, sys
root = pathlib.Path({root!r})
words = sys.argv[4:]  # without --quiet --connect URI
(root / "virsh.called").open("a").write(" ".join(words) + "\\n")
running = root / "running"
def fail(text):
    sys.exit("error: " + text)
if (root / "virsh.fails").exists():
    fail((root / "virsh.fails").read_text())
if words[0] == "create":
    if (root / "create.fails").exists():
        fail((root / "create.fails").read_text())
    xml = sys.stdin.buffer.read()
    uuid = re.search(rb"<uuid>(.*?)</uuid>", xml).group(1).decode()
    (root / "created.xml").write_bytes(xml)
    if not (root / "hook.ignored").exists():
        for hook in sorted((root / "etc/libvirt/hooks/qemu.d").glob("*")):
            ran = subprocess.run([sys.executable, "-IS", hook, "name", "prepare", "begin", "-"],
                                 input=xml, stderr=subprocess.PIPE,
                                 env={{"FURLOUGH_HOST_ROOT": str(root)}})
            if ran.returncode:
                fail("Hook script execution failed: status 1: " + ran.stderr.decode())
    running.mkdir(exist_ok=True)
    (running / uuid).touch()
    (root / "ran").open("a").write(uuid + "\\n")
elif words[0] == "destroy":
    if not (root / "destroy.fails").exists():
        (running / words[-1]).unlink()
elif words[0] == "list":
    print("\\n".join(os.listdir(running)) if running.exists() else "")
"""

_DAEMON = """\
import os, pathlib, signal, sys
ignored = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGHUP, lambda *_: ignored.unlink(missing_ok=True))
print("ready", flush=True)
while True:
    signal.pause()
"""


class FakeLibvirt:
    """What furlough-host sees of libvirt below a machine's directory."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        virsh = machine.root / "usr/bin/virsh"
        virsh.parent.mkdir(parents=True, exist_ok=True)
        virsh.write_text(_VIRSH.format(python=sys.executable, root=str(machine.root)))
        virsh.chmod(0o755)
        self.ignored = machine.root / "hook.ignored"
        self._process: subprocess.Popen[str] | None = None

    def start_daemon(self) -> int:
        """A process that answers to SIGHUP, and shows in the machine's process list."""
        words = [sys.executable, "-IS", "-c", _DAEMON, str(self.ignored)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        pid = self._process.pid
        shown = self.machine.add_process(pid, "/usr/sbin/libvirtd", "--listen")
        (shown / "stat").write_text((Path("/proc") / str(pid) / "stat").read_text())
        return pid

    def stop_daemon(self) -> None:
        """End it, as a daemon that is started anew."""
        if self._process is None:
            return
        shown = self.machine.root / "proc" / str(self._process.pid)
        for path in shown.iterdir():
            path.unlink()
        shown.rmdir()
        self._process.kill()
        self._process.communicate()
        self._process = None

    def called(self) -> list[str]:
        """Every virsh command so far."""
        path = self.machine.root / "virsh.called"
        return path.read_text().splitlines() if path.exists() else []

    def running(self) -> list[str]:
        """UUIDs of the VMs that run now."""
        path = self.machine.root / "running"
        return sorted(one.name for one in path.iterdir()) if path.exists() else []

    def ran(self) -> list[str]:
        """UUIDs of the VMs that have ever run, in their order."""
        path = self.machine.root / "ran"
        return path.read_text().split() if path.exists() else []

    def proof(self) -> str:
        """What `prove` answers."""
        return str(self.machine.ask("prove").answer["proof"])

    def trouble(self) -> str:
        """What `status` says of the last proof."""
        return str(self.machine.ask("status").answer["proof"])

    def note(self) -> dict[str, object]:
        """What was noted about the last trial."""
        noted: dict[str, object] = json.loads((self.machine.state / "proof.json").read_text())
        return noted
