"""What libvirt or QEMU refuse to migrate live, as a domain's XML shows it: pure functions.

Only what is refused for certain is named. Devices that are passed through and the host's own
directories are not here (`domain_xml.Definition.devices`), nor what the XML does not show:
snapshots are counted, jobs are asked for, and QEMU's own last word comes when it is told to go.
"""

from __future__ import annotations

from collections.abc import Iterator

from lxml.etree import _Element as Element


def hindrances(root: Element) -> Iterator[str]:
    """Each in words that begin with what it is."""
    yield from _of_disks(root)
    yield from _of_devices(root)
    yield from _of_memory(root)
    yield from _of_processor(root)
    yield from _of_secrecy(root)


def _of_disks(root: Element) -> Iterator[str]:
    for disk in root.iterfind("devices/disk"):
        if disk.find("transient") is not None:
            yield f"the transient disk {_target(disk)}, whose changes are thrown away at the end"


def _target(disk: Element) -> str:
    target = disk.find("target")
    return "" if target is None else target.get("dev", "")


def _of_devices(root: Element) -> Iterator[str]:
    for device in root.iterfind("devices/shmem"):
        if device.get("role") != "master":
            yield f"shared memory {device.get('name', '')!r} of which it is not the master"
    for filesystem in root.iterfind("devices/filesystem"):
        driver = filesystem.find("driver")
        if driver is not None and driver.get("type") == "virtiofs":
            source = filesystem.find("source")
            place = "" if source is None else source.get("dir") or source.get("socket") or ""
            yield f"a virtiofs share of {place or 'its host'}"
    for _card in root.iterfind("devices/smartcard[@mode='host']"):
        yield "a smart card reader of its host"


def _of_memory(root: Element) -> Iterator[str]:
    for memory in root.iterfind("devices/memory"):
        model = memory.get("model", "")
        if model == "sgx-epc":
            yield "memory of an SGX enclave"
        # Only a VM that runs has its addresses: those of one that is off come with its start.
        elif model in ("dimm", "nvdimm") and root.get("id") and not _has_base(memory):
            yield "a memory module without a fixed address"


def _has_base(memory: Element) -> bool:
    address = memory.find("address")
    return address is not None and address.get("base") is not None


def _of_processor(root: Element) -> Iterator[str]:
    cpu = root.find("cpu")
    if cpu is None:
        return
    if cpu.get("migratable") == "off":
        yield "a CPU that is declared not migratable"
    required = [
        feature
        for feature in cpu.iterfind("feature[@name='invtsc']")
        if feature.get("policy", "require") in ("require", "force")
    ]
    if required and not _has_fixed_frequency(root):
        yield "an invariant clock counter (invtsc) without a fixed frequency"


def _has_fixed_frequency(root: Element) -> bool:
    timers = root.iterfind("clock/timer[@name='tsc']")
    return any(timer.get("frequency") for timer in timers)


def _of_secrecy(root: Element) -> Iterator[str]:
    for security in root.iterfind("launchSecurity"):
        yield f"memory that its host cannot read ({security.get('type', '')})"
