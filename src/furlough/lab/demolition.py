"""Taking a lab down, whatever state it is in: nothing of it stays behind.

Works from the lab's name alone. Half-built, crashed, damaged or already gone is all the same.
"""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

from furlough.errors import FurloughError, Refused, Unreachable
from furlough.lab import processes, requirements
from furlough.lab.command import run
from furlough.lab.controller import Controller
from furlough.lab.namespaces import Namespaces
from furlough.lab.network import has_link
from furlough.lab.patience import wait_until
from furlough.lab.site import Site


def demolish(site: Site) -> bool:
    """Remove processes, namespaces, links and files of a lab; False if there was nothing.

    Refused, before anything is removed, if somebody mounted something under its directories.
    """
    requirements.check_user(os.geteuid())
    refuse_mounts(site)
    members = processes.marked(site.mark)
    found = bool(members) or site.directory.exists() or site.disks.exists()
    controller = Controller(site=site)
    controller.stop()
    controller.forget()
    for pid_file in sorted(site.directory.glob("*/init.pid")):
        Namespaces(directory=pid_file.parent, mark=site.mark).destroy()
    # Whoever was started and not noted down, because `up` died in between.
    if not processes.kill_all(lambda: processes.marked(site.mark)):
        raise Unreachable(
            "lab.processes_stay",
            f"Processes of lab {site.name} do not die.",
            remedy="Look for processes in state D, then take the lab down again.",
        )
    wait_for_burial(members)
    remove_link(site)
    for directory in (site.directory, site.disks):
        shutil.rmtree(directory, ignore_errors=True)
        remove_if_empty(directory.parent)
    return found


def refuse_mounts(site: Site) -> None:
    """Removing files must not reach into what somebody else mounted there."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    for place in (line.split()[4] for line in lines):
        if any(Path(place).is_relative_to(root) for root in (site.directory, site.disks)):
            raise Refused(
                "lab.mounted",
                f"Something is mounted at {place}, and not by the lab.",
                remedy=f"umount {place}",
            )


def wait_for_burial(members: list[processes.Process]) -> None:
    """Give the machine's own first process a moment to reap the dead: some take a second."""
    places = [Path("/proc", str(process.pid)) for process in members]
    with contextlib.suppress(Unreachable):
        wait_until(lambda: not any(p.exists() for p in places), "reaping", timeout_s=3)


def remove_link(site: Site) -> None:
    """The kernel removes it with the switch, but in its own time."""
    if has_link(site.link):
        # Gone between the look and the removal is as good.
        with contextlib.suppress(FurloughError):
            run(["ip", "link", "del", site.link])


def remove_if_empty(directory: Path) -> None:
    """The directory of all labs goes with the last one, and not while another one is claimed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            directory.rmdir()
        finally:
            os.close(descriptor)
