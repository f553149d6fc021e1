"""Domain XML to facts: pure functions of a text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from lxml.etree import _Element as Element

from furlough import hardened_xml
from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.core.enrolment import EnrolledDatastore
from furlough.core.ids import VmId, parse_vm_id
from furlough.core.inventory import Agent, Disk, DiskKind, Nic
from furlough.core.vm_policy import Words
from furlough.drivers.libvirt.hindrances import hindrances
from furlough.drivers.libvirt.vm_metadata import words_in
from furlough.errors import Invalid

_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_UNIT = re.compile(r"([kmgtpe]?)(|i?b|bytes)")
_MIB = 2**20
_WHAT = "a domain's XML"
_END_OF_METADATA = "</metadata>"
# Where a VM asks for huge pages and does not say which: the kernel's usual ones.
_USUAL_HUGE_PAGE_KIB = 2048
_MOST_NODES = 1024
_AGENT = "org.qemu.guest_agent.0"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What the XML says of a VM, whoever runs it. The fields are those of `core.inventory.Vm`;
    `busy_with` names only jobs of its disks, which nothing else tells."""

    id: VmId
    name: str
    vcpus: int
    memory_mib: int
    cpu_model: str | None = None
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    devices: tuple[str, ...] = ()
    busy_with: str = ""
    own_policy: Words = ()
    machine: str = ""
    agent: Agent = Agent.NONE
    has_tpm: bool = False
    has_nvram: bool = False
    boot_files: tuple[str, ...] = ()
    hindrances: tuple[str, ...] = ()
    huge_page_kib: int | None = None
    numa_nodes: frozenset[int] = frozenset()
    has_cpu_pins: bool = False


def parse_definition(text: str, datastores: Iterable[EnrolledDatastore]) -> Definition:
    """The definition in a domain XML. `Invalid` where it is not one. Metadata belongs to the VM's
    owner: where it alone is unreadable, that is told of this VM as an odd word of its policy."""
    try:
        return _definition_in(hardened_xml.parse(text, what=_WHAT), datastores)
    except Invalid:
        rest = _without_metadata(text)
        if rest == text:
            raise
        found = _definition_in(hardened_xml.parse(rest, what=_WHAT), datastores)
        return replace(found, own_policy=(("<unreadable metadata>", ""),))


def root_of(text: str) -> Element:
    """A domain's XML as a tree, without its metadata if that stands in the way."""
    try:
        return hardened_xml.parse(text, what=_WHAT)
    except Invalid:
        return hardened_xml.parse(_without_metadata(text), what=_WHAT)


def _without_metadata(text: str) -> str:
    """A domain's XML has one such element of its own, around all that could be named alike."""
    first, last = text.find("<metadata"), text.rfind(_END_OF_METADATA)
    if first < 0 or last < first:
        return text
    return text[:first] + text[last + len(_END_OF_METADATA) :]


def _definition_in(root: Element, datastores: Iterable[EnrolledDatastore]) -> Definition:
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
        busy_with=_disk_job(root),
        own_policy=words_in(root.find("metadata")),
        machine=_machine(root),
        agent=agent_of(root),
        has_tpm=root.find("devices/tpm/backend[@type='emulator']") is not None,
        has_nvram=_has_nvram(root),
        boot_files=tuple(dict.fromkeys(_boot_files(root))),
        hindrances=tuple(dict.fromkeys(hindrances(root))),
        huge_page_kib=_huge_page_kib(root),
        numa_nodes=_numa_nodes(root),
        has_cpu_pins=_has_cpu_pins(root),
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
        source, place = source_of(disk)
        if source is None:
            continue
        holds = _holder(disk.get("type", ""), source)
        target = disk.find("target")
        yield Disk(
            target="" if target is None else target.get("dev", ""),
            source=place,
            datastore=next((store.name for store in datastores if holds(store)), None),
            is_writable=disk.find("readonly") is None,
            kind=_KINDS.get(disk.get("device", ""), DiskKind.DISK),
            address=_server(disk.get("type", ""), source),
        )


_KINDS = {"cdrom": DiskKind.CDROM, "floppy": DiskKind.FLOPPY}
_EMPTY_WITHOUT = {"file": "file", "block": "dev"}


def source_of(disk: Element) -> tuple[Element | None, str]:
    """Where a disk lies, and that in words; None for an empty drive, which may still say what to
    do without a medium."""
    source, kind = disk.find("source"), disk.get("type", "")
    if source is None or (kind in _EMPTY_WITHOUT and not source.get(_EMPTY_WITHOUT[kind])):
        return None, ""
    if kind == "network":
        protocol, name = source.get("protocol", ""), source.get("name", "")
        return source, f"{protocol}://{','.join(_hosts(source))}/{name}"
    if kind == "file":
        return source, source.get("file", "")
    # Block devices, volumes of pools, vhost-user and the like.
    words = (f"{key!s}={value!s}" for key, value in sorted(source.attrib.items()) if key != "index")
    return source, " ".join((kind, *words))


def _hosts(source: Element) -> list[str]:
    return [host.get("name", "") for host in source.iterfind("host")]


def _server(kind: str, source: Element) -> str:
    """The first server that a network disk names; they all serve the same."""
    return next(filter(None, _hosts(source)), "") if kind == "network" else ""


def _holder(kind: str, source: Element) -> Callable[[EnrolledDatastore], bool]:
    """How to ask a datastore whether a disk is there."""
    if kind == "network":
        protocol, hosts = source.get("protocol", ""), _hosts(source)
        return lambda store: any(store.holds(protocol=protocol, address=host) for host in hosts)
    if kind == "file":
        return lambda store: store.holds(path=source.get("file", ""))
    # A device of the same name on two hosts need not be the same: on no enrolled datastore.
    return lambda _store: False


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
    for port in ("serial", "parallel"):
        for source in root.iterfind(f"devices/{port}[@type='dev']/source"):
            yield f"{port}:{source.get('path', '')}"


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


# --- traits ---------------------------------------------------------------------------------------


def _disk_job(root: Element) -> str:
    """A copy or commit of a disk that is under way or waits to be ended."""
    for disk in root.iterfind("devices/disk"):
        mirror, target = disk.find("mirror"), disk.find("target")
        if mirror is not None:
            which = "" if target is None else target.get("dev", "")
            what = "a block commit" if mirror.get("job") == "active-commit" else "a block copy"
            return f"{what} of disk {which}"
    return ""


def _machine(root: Element) -> str:
    kind = root.find("os/type")
    return "" if kind is None else kind.get("machine", "")


def agent_of(root: Element) -> Agent:
    """Whether a domain has a guest agent, and whether that has opened its channel."""
    found = root.iterfind(f"devices/channel/target[@name='{_AGENT}']")
    states = [target.get("state", "") for target in found]
    if not states:
        return Agent.NONE
    return Agent.CONNECTED if "connected" in states else Agent.SILENT


def _has_nvram(root: Element) -> bool:
    """Whether its firmware keeps variables in a file; libvirt names it at the first start."""
    system = root.find("os")
    if system is None:
        return False
    return system.find("nvram") is not None or system.get("firmware") == "efi"


def _boot_files(root: Element) -> Iterator[str]:
    """Files of the host that its start needs."""
    for tag in ("kernel", "initrd", "dtb", "loader", "acpi/table"):
        for element in root.iterfind(f"os/{tag}"):
            if element.text and element.text.strip():
                yield element.text.strip()
    for element in root.iterfind("devices/*/rom[@file]"):
        yield element.get("file", "")
    for element in root.iterfind("sysinfo[@type='fwcfg']/entry[@file]"):
        yield element.get("file", "")


def _huge_page_kib(root: Element) -> int | None:
    backing = root.find("memoryBacking/hugepages")
    if backing is None:
        return None
    page = backing.find("page")
    if page is None:
        return _USUAL_HUGE_PAGE_KIB
    size = _number(page.get("size", ""), "huge pages") * _bytes_of(page.get("unit", "KiB"))
    return size // 1024


def _numa_nodes(root: Element) -> frozenset[int]:
    """The nodes of the host that its memory is bound to."""
    bound = [*root.iterfind("numatune/memory"), *root.iterfind("numatune/memnode")]
    return frozenset(node for one in bound for node in _numbers(one.get("nodeset", "")))


def _numbers(text: str) -> set[int]:
    """What libvirt writes as 0-3,^2,7."""
    found: set[int] = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        first, _, last = part.removeprefix("^").partition("-")
        span = range(_number(first, "nodes"), _number(last or first, "nodes") + 1)
        if len(span) > _MOST_NODES:
            raise Invalid("domain.malformed", f"A domain's XML has {part[:40]!r} for its nodes.")
        found = found - set(span) if part.startswith("^") else found | set(span)
    return found


def _has_cpu_pins(root: Element) -> bool:
    vcpu = root.find("vcpu")
    if vcpu is not None and vcpu.get("cpuset") and vcpu.get("placement") != "auto":
        return True
    pins = ("vcpupin", "emulatorpin", "iothreadpin")
    return any(root.find(f"cputune/{pin}") is not None for pin in pins)
