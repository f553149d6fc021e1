#!/usr/bin/python3 -IS
"""What rebooting and switching off mean on a host of the lab, which has no kernel of its own.

    lab-power reboot    every process ends, /run/libvirt is emptied, the boot id changes, libvirtd
                        starts and with it the VMs that start by themselves
    lab-power off       every process ends; `furlough lab power HOST on` starts the host again

It runs on the host, as /etc/furlough-host.json says. Standard library only. The witness goes on: it
belongs to the lab and not to the host.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

PROC = Path("/proc")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
RUN = Path("/run/libvirt")
DAEMON = ["/usr/local/sbin/libvirtd", "--daemon", "--listen"]
DAEMON += ["--pid-file", "/run/libvirt/libvirtd.pid"]
HOLDER, WITNESS = "sleep infinity", "collector.py"
ENDS_WITHIN_MS = 10_000


def main(words: list[str]) -> int:
    """Do what is asked for."""
    if words == ["off"]:
        # The first process ends with the one that it waits for, and everybody else with it.
        for pid in processes():
            if command_of(pid) == HOLDER:
                os.kill(pid, signal.SIGKILL)
        return 0
    if words != ["reboot"]:
        sys.stderr.write("usage: lab-power reboot|off\n")
        return 2
    for pid in processes():
        if command_of(pid) != HOLDER and WITNESS not in command_of(pid):
            end(pid)
    for path in RUN.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    BOOT_ID.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
    return subprocess.run(DAEMON, env=first_environment(), check=False).returncode


def processes() -> list[int]:
    """Everybody on this host but the first process and this one."""
    found = [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]
    return [pid for pid in found if pid not in (1, os.getpid())]


def command_of(pid: int) -> str:
    """Its command line; empty if it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").replace(
            "\0", " "
        ).strip()  # fmt: skip
    except OSError:
        return ""


def end(pid: int) -> None:
    """Kill it and wait until it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        waiting.poll(ENDS_WITHIN_MS)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def first_environment() -> dict[str, str]:
    """The environment of the first process: it says which lab this is."""
    words = (PROC / "1" / "environ").read_bytes().decode(errors="replace").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
