"""Domain XML to facts: pure functions of a text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lxml.etree import _Element as Element

from furlough import hardened_xml
from furlough.core.enrolment import EnrolledDatastore
from furlough.core.ids import VmId, parse_vm_id
from furlough.core.inventory import HOST_PASSTHROUGH, Disk, Nic
from furlough.errors import Invalid

_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_UNIT = re.compile(r"([kmgtpe]?)(|i?b|bytes)")
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What the XML says of a VM, whoever runs it."""

    id: VmId
    name: str
    vcpus: int
    memory_mib: int
    cpu_model: str | None
    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...]
    devices: tuple[str, ...]


def parse_definition(text: str, datastores: Iterable[EnrolledDatastore]) -> Definition:
    """The definition in a domain XML. `Invalid` where it is not one."""
    root = hardened_xml.parse(text, what="a domain's XML")
    stores = list(datastores)
    return Definition(
        id=parse_vm_id(root.findtext("uuid", "")),
        name=root.findtext("name", ""),
        vcpus=_vcpus(root),
        memory_mib=_memory_mib(root),
        cpu_model=_cpu_model(root),
        disks=tuple(_disks(root, stores)),
        nics=tuple(_nics(root)),
        devices=tuple(_devices(root)),
    )


def _vcpus(root: Element) -> int:
    vcpu = root.find("vcpu")
    if vcpu is None or vcpu.text is None:
        return 1
    return _number(vcpu.get("current") or vcpu.text, "vcpu")


def _memory_mib(root: Element) -> int:
    """The most memory the VM can hold; rounded up."""
    memory = root.find("memory")
    if memory is None or memory.text is None:
        return 0
    size = _number(memory.text, "memory") * _bytes_of(memory.get("unit", "KiB"))
    return math.ceil(size / _MIB)


def _bytes_of(unit: str) -> int:
    """What libvirt means by a unit: KB is 1000 bytes, K and KiB are 1024, b and bytes are one."""
    found = _UNIT.fullmatch(unit.lower())
    if found is None or (not found[1] and found[2] not in ("b", "bytes")):
        raise Invalid("domain.malformed", f"A domain's XML has memory in {unit!r}.")
    return int((1000 if found[1] and found[2] == "b" else 1024) ** _POWER[found[1]])


def _number(text: str, what: str) -> int:
    """A whole number that is not negative."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise Invalid("domain.malformed", f"A domain's XML has {digits[:40]!r} for its {what}.")
    return int(digits)


def _cpu_model(root: Element) -> str | None:
    """The CPU model the VM needs, `host-passthrough` for a copy of the host's; None where it
    takes what the emulator gives."""
    cpu = root.find("cpu")
    if cpu is None:
        return None
    if cpu.get("mode") in (HOST_PASSTHROUGH, "maximum"):
        return HOST_PASSTHROUGH
    # `host-model` of a VM that is off has an empty one: it is chosen at the next start.
    return cpu.findtext("model") or None


def _disks(root: Element, datastores: list[EnrolledDatastore]) -> Iterator[Disk]:
    for disk in root.iterfind("devices/disk"):
        source = disk.find("source")
        if source is None or (disk.get("type") == "file" and not source.get("file")):
            continue  # An empty drive, which may still say what to do without a medium.
        place, holds = _place_of(disk.get("type", ""), source)
        target = disk.find("target")
        yield Disk(
            target="" if target is None else target.get("dev", ""),
            source=place,
            datastore=next((store.name for store in datastores if holds(store)), None),
            is_writable=disk.find("readonly") is None,
        )


def _place_of(kind: str, source: Element) -> tuple[str, Callable[[EnrolledDatastore], bool]]:
    """Where a disk lies, in words, and how to ask a datastore whether it is there."""
    if kind == "network":
        protocol, name = source.get("protocol", ""), source.get("name", "")
        hosts = [host.get("name", "") for host in source.iterfind("host")]
        return (
            f"{protocol}://{','.join(hosts)}/{name}",
            lambda store: any(store.holds(protocol=protocol, address=host) for host in hosts),
        )
    if kind == "file":
        path = source.get("file", "")
        return path, lambda store: store.holds(path=path)
    # Block devices, volumes of pools, vhost-user and the like: on no enrolled datastore.
    words = " ".join(f"{key!s}={value!s}" for key, value in sorted(source.attrib.items()))
    return f"{kind} {words}", lambda _store: False


def _nics(root: Element) -> Iterator[Nic]:
    for interface in root.iterfind("devices/interface"):
        source, mac = interface.find("source"), interface.find("mac")
        if source is None:
            continue  # User-mode networking hangs on nothing of the host.
        network = source.get("network") or source.get("bridge") or source.get("dev")
        if network:  # Others are devices, or sockets of programs of the host.
            yield Nic(network=network, mac="" if mac is None else mac.get("address", ""))


def _devices(root: Element) -> Iterator[str]:
    """What ties the VM to this very host, as the XML names it: devices that are passed through,
    but for those of a failover pair, which libvirt unplugs for the journey; directories of the
    host; a TPM that is the host's own (an emulated one travels along)."""
    for device in root.iterfind("devices/hostdev"):
        if not _is_transient(device):
            yield _device_name("hostdev", device)
    for interface in root.iterfind("devices/interface[@type='hostdev']"):
        if not _is_transient(interface):
            yield _device_name("interface", interface)
    for filesystem in root.iterfind("devices/filesystem"):
        source = filesystem.find("source")
        yield f"filesystem:{'' if source is None else source.get('dir', '')}"
    for backend in root.iterfind("devices/tpm/backend[@type='passthrough']/device"):
        yield f"tpm:{backend.get('path', '')}"


def _is_transient(device: Element) -> bool:
    teaming = device.find("teaming")
    return teaming is not None and teaming.get("type") == "transient"


_ADDRESS = ("uuid", "domain", "bus", "slot", "function", "target", "unit", "device")


def _device_name(tag: str, device: Element) -> str:
    address = device.find("source/address")
    kind = device.get("type", tag)
    if address is None:
        vendor, product = device.find("source/vendor"), device.find("source/product")
        if vendor is not None and product is not None:
            return f"{kind}:{vendor.get('id')}:{product.get('id')}"
        return kind
    parts = [address.get(key, "") for key in _ADDRESS]
    return f"{kind}:" + ":".join(part.removeprefix("0x") for part in parts if part)
