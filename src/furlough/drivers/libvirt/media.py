"""Media in drives: put in and taken out of a VM that runs, and of its definition where that said
the same. Nothing is remembered here; what was taken out is put back by its name.
"""

from __future__ import annotations

import copy
import re

import libvirt
from lxml import etree
from lxml.etree import _Element as Element

from furlough.drivers.libvirt.domain_xml import root_of, source_of
from furlough.errors import Refused

_DRIVES = ("cdrom", "floppy")
_DEVICE = re.compile(r"block (?:\S+ )*dev=(/\S+)(?: \S+)*")
_TRANSIENT = ("alias", "backingStore", "mirror")


def change(domain: libvirt.virDomain, drive: str, medium: str) -> None:
    """Put `medium` (a path, or `block dev=PATH`) into a drive, or take out what is there with an
    empty one. Twice is harmless. `Refused` where there is no such drive or no such medium."""
    is_active, is_persistent = bool(domain.isActive()), bool(domain.isPersistent())
    before = None
    if is_active:
        disk = _drive(domain, 0, drive)
        before = source_of(disk)[1]
        if before != medium:
            _update(domain, disk, medium, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    if is_persistent:
        _change_definition(domain, drive, medium, before)


def _change_definition(
    domain: libvirt.virDomain, drive: str, medium: str, before: str | None
) -> None:
    """The definition follows where it said the same as the running VM; `before`: what was in the
    running VM's drive, None if it is off."""
    try:
        disk = _drive(domain, libvirt.VIR_DOMAIN_XML_INACTIVE, drive)
    except Refused:
        if before is None:
            raise
        return  # A drive of this run only.
    defined = source_of(disk)[1]
    if defined != medium and before in (None, defined, medium):
        _update(domain, disk, medium, libvirt.VIR_DOMAIN_AFFECT_CONFIG)


def _drive(domain: libvirt.virDomain, flags: int, drive: str) -> Element:
    root = root_of(domain.XMLDesc(flags))
    for disk in root.iterfind("devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("dev") == drive and disk.get("device") in _DRIVES:
            return disk
    raise Refused(
        "vm.changed",
        f"VM {domain.name()} has no drive {drive!r} for media.",
        remedy="Look at its drives: virsh domblklist --details.",
    )


def _update(domain: libvirt.virDomain, disk: Element, medium: str, place: int) -> None:
    wanted = with_medium(disk, medium)
    domain.updateDeviceFlags(etree.tostring(wanted, encoding="unicode"), place)


def with_medium(disk: Element, medium: str) -> Element:
    """The same drive with another medium, or with none. `Refused` for a medium that is served over
    a network: it could not be put back by its name."""
    wanted = copy.deepcopy(disk)
    for tag in ("source", *_TRANSIENT):
        for element in wanted.findall(tag):
            wanted.remove(element)
    if disk.get("type") not in ("file", "block"):
        raise Refused(
            "vm.changed",
            f"The medium in the drive is of kind {disk.get('type')!r}, which is not exchanged.",
            remedy="Exchange it with virsh change-media.",
        )
    if not medium:
        return wanted
    device = _DEVICE.fullmatch(medium)
    if device is None and not medium.startswith("/"):
        raise Refused(
            "vm.changed",
            f"{medium[:64]!r} is neither a file nor a device of the host.",
            remedy="Put it in with virsh change-media.",
        )
    wanted.set("type", "block" if device else "file")
    source = etree.SubElement(wanted, "source")
    source.set("dev" if device else "file", device[1] if device else medium)
    return wanted
