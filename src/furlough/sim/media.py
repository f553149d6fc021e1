"""What is in the drives of simulated VMs."""

from __future__ import annotations

from dataclasses import replace

from furlough.core.inventory import Disk
from furlough.sim.cluster import Copy


def exchange(copy: Copy, drive: str, medium: str) -> None:
    """What is in a drive of a VM; an empty medium takes it out."""
    others = tuple(one for one in copy.vm.disks if one.target != drive)
    held = next((one for one in copy.vm.disks if one.target == drive), None)
    known = held or copy.empty_drives.pop(drive)
    if not medium:
        copy.empty_drives[drive] = known
        copy.vm = replace(copy.vm, disks=others)
        return
    copy.empty_drives.pop(drive, None)
    copy.vm = replace(copy.vm, disks=(*others, _filled(known, medium)))


def _filled(drive: Disk, medium: str) -> Disk:
    """The drive with this medium; where a medium lies is known only of the one that was in it."""
    return drive if drive.source == medium else replace(drive, source=medium, datastore=None)
