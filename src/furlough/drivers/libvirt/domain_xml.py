"""Domain XML to facts: pure functions of a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lxml.etree import _Element as Element

from furlough import hardened_xml
from furlough.core.enrolment import EnrolledDatastore
from furlough.core.ids import VmId, parse_vm_id
from furlough.core.inventory import HOST_PASSTHROUGH, Disk, Nic

_MIB_OF_UNIT = {
    "b": 1 / 2**20, "bytes": 1 / 2**20, "KB": 1e3 / 2**20, "KiB": 1 / 2**10, "k": 1 / 2**10,
    "MB": 1e6 / 2**20, "MiB": 1.0, "M": 1.0, "GB": 1e9 / 2**20, "GiB": 2.0**10, "G": 2.0**10,
    "TB": 1e12 / 2**20, "TiB": 2.0**20, "T": 2.0**20,
}  # fmt: skip

# What a device's presence means for a live migration: it is tied to this very host.
_HOST_DEVICES = ("hostdev", "redirdev")


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
    return int(vcpu.get("current") or vcpu.text)


def _memory_mib(root: Element) -> int:
    """The most memory the VM can hold; rounded up."""
    memory = root.find("memory")
    if memory is None or memory.text is None:
        return 0
    return -int(-int(memory.text) * _MIB_OF_UNIT.get(memory.get("unit", "KiB"), 1 / 2**10) // 1)


def _cpu_model(root: Element) -> str | None:
    """The CPU model the VM needs, `host-passthrough` for a copy of the host's; None where it
    takes what the emulator gives."""
    cpu = root.find("cpu")
    if cpu is None:
        return None
    if cpu.get("mode") in (HOST_PASSTHROUGH, "maximum"):
        return HOST_PASSTHROUGH
    return cpu.findtext("model")


def _disks(root: Element, datastores: list[EnrolledDatastore]) -> Iterator[Disk]:
    for disk in root.iterfind("devices/disk"):
        source = disk.find("source")
        if source is None:
            continue  # An empty drive.
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
        network = source.get("network") or source.get("bridge") or source.get("dev") or ""
        yield Nic(network=network, mac="" if mac is None else mac.get("address", ""))


def _devices(root: Element) -> Iterator[str]:
    """Devices of the host that are passed through, as the XML names them."""
    for tag in _HOST_DEVICES:
        for device in root.iterfind(f"devices/{tag}"):
            yield _device_name(tag, device)
    for interface in root.iterfind("devices/interface[@type='hostdev']"):
        teaming = interface.find("teaming")
        if teaming is None or teaming.get("type") != "transient":
            yield _device_name("interface", interface)


def _device_name(tag: str, device: Element) -> str:
    address = device.find("source/address")
    kind = device.get("type", tag)
    if address is None:
        vendor, product = device.find("source/vendor"), device.find("source/product")
        if vendor is not None and product is not None:
            return f"{kind}:{vendor.get('id')}:{product.get('id')}"
        return kind
    parts = [address.get(key, "") for key in ("uuid", "domain", "bus", "slot", "function")]
    return f"{kind}:" + ":".join(part.removeprefix("0x") for part in parts if part)
