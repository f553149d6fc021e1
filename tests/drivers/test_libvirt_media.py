"""Media in drives: what libvirt is told, and of which of a VM's two descriptions."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from furlough import hardened_xml
from furlough.errors import Refused
from tests.drivers.binding import needing_libvirt

libvirt = needing_libvirt("libvirt")
media = needing_libvirt("furlough.drivers.libvirt.media")

ISO = "/srv/iso/debian.iso"
OTHER = "/srv/iso/other.iso"


def drive(source: str = f"<source file='{ISO}' index='2'/>", kind: str = "file") -> str:
    return (
        f"<disk type='{kind}' device='cdrom'><driver name='qemu' type='raw'/>{source}"
        "<backingStore/><target dev='sda' bus='sata'/><readonly/><alias name='sata0-0-0'/>"
        "<address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>"
    )


EMPTY = drive("")
DISK = "<disk type='file' device='disk'><source file='/a'/><target dev='vda'/></disk>"


@dataclass
class Domain:
    """A VM by its two descriptions; None where it has none of that kind."""

    live: str | None = None
    defined: str | None = None
    changes: list[tuple[int, str, str]] = field(default_factory=list)

    def name(self) -> str:
        return "web01"

    def isActive(self) -> int:  # noqa: N802
        return int(self.live is not None)

    def isPersistent(self) -> int:  # noqa: N802
        return int(self.defined is not None)

    def XMLDesc(self, flags: int) -> str:  # noqa: N802
        devices = self.defined if flags & libvirt.VIR_DOMAIN_XML_INACTIVE else self.live
        return f"<domain><name>web01</name><devices>{DISK}{devices}</devices></domain>"

    def updateDeviceFlags(self, text: str, flags: int) -> None:  # noqa: N802
        disk = hardened_xml.parse(text, what="a device")
        assert disk.find("backingStore") is None
        assert disk.find("alias") is None
        assert disk.find("address") is not None
        source = disk.find("source")
        found = {} if source is None else {str(key): str(at) for key, at in source.attrib.items()}
        words = f"{disk.get('type')} {found}" if found else ""
        target = disk.find("target")
        assert target is not None
        self.changes.append((flags, str(target.get("dev")), words))


LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG


@pytest.mark.parametrize(
    ("domain", "places"),
    [
        (Domain(live=drive(), defined=drive()), [LIVE, CONFIG]),
        (Domain(live=drive()), [LIVE]),
        (Domain(defined=drive()), [CONFIG]),
        # The definition says something else: that is somebody's will.
        (Domain(live=drive(), defined=drive(f"<source file='{OTHER}'/>")), [LIVE]),
        # Of this run only: the definition has no such drive.
        (Domain(live=drive(), defined=""), [LIVE]),
        (Domain(live=EMPTY, defined=EMPTY), []),
        # A first try came only half the way.
        (Domain(live=EMPTY, defined=drive()), [CONFIG]),
    ],
)
def test_a_medium_is_taken_out_wherever_it_is_the_same(domain: Domain, places: list[int]) -> None:
    media.change(domain, "sda", "")
    assert domain.changes == [(place, "sda", "") for place in places]


def test_a_medium_is_put_back_into_both() -> None:
    domain = Domain(live=EMPTY, defined=EMPTY)
    media.change(domain, "sda", ISO)
    words = f"file {{'file': '{ISO}'}}"
    assert domain.changes == [(LIVE, "sda", words), (CONFIG, "sda", words)]


def test_a_drive_of_the_host_comes_back_as_what_it_was() -> None:
    there = drive("<source dev='/dev/sr0' index='3'/>", kind="block")
    root = hardened_xml.parse(there, what="a device")
    _source, words = media.source_of(root)
    domain = Domain(live=drive("", kind="block"), defined=drive("", kind="block"))
    media.change(domain, "sda", words)
    assert [change[2] for change in domain.changes] == ["block {'dev': '/dev/sr0'}"] * 2


@pytest.mark.parametrize("medium", ["debian.iso", "nbd://10.0.0.9/iso", "block dev=sr0", "block"])
def test_what_is_neither_file_nor_device_is_refused(medium: str) -> None:
    domain = Domain(live=EMPTY, defined=EMPTY)
    with pytest.raises(Refused) as refusal:
        media.change(domain, "sda", medium)
    assert (refusal.value.code, domain.changes) == ("vm.changed", [])
    assert refusal.value.remedy


def test_a_medium_from_a_server_is_left_in_since_it_could_not_be_put_back() -> None:
    there = drive(
        "<source protocol='nbd' name='iso'><host name='10.0.0.9'/></source>", kind="network"
    )
    domain = Domain(live=there, defined=there)
    with pytest.raises(Refused):
        media.change(domain, "sda", "")
    assert domain.changes == []


@pytest.mark.parametrize("name", ["vda", "sdb", ""])
def test_a_vm_has_only_the_drives_it_has(name: str) -> None:
    for domain in (Domain(live=drive(), defined=drive()), Domain(defined=drive())):
        with pytest.raises(Refused) as refusal:
            media.change(domain, name, "")
        assert (refusal.value.code, domain.changes) == ("vm.changed", [])
