"""What others do to the VMs of a lab behind our back, with virsh; and how it is undone.

Every change is a context: what it changed is as before when it ends, whatever happened in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from furlough.errors import FurloughError
from furlough.lab import domain_xml, requirements
from furlough.lab.blueprint import NBD_PORT
from furlough.lab.command import run
from furlough.lab.host import Host
from furlough.lab.lab import Lab
from tests.lab.fleet import Fleet

Edit = Callable[[str], str]


def the_kernel() -> Path:
    """The kernel that the lab's guests run."""
    kernel = requirements.kernel()
    assert kernel is not None
    return kernel


def original_xml(lab: Lab, vm: str) -> str:
    """A VM as the lab has defined it."""
    plan = next(one for one in lab.blueprint.vms if one.name == vm)
    return domain_xml.domain(lab.blueprint, plan, the_kernel())


def uuid_of(lab: Lab, vm: str) -> str:
    """A VM's UUID."""
    return next(one.uuid for one in lab.blueprint.vms if one.name == vm)


@contextmanager
def redefined(fleet: Fleet, edits: dict[str, Edit], host: str = "h1") -> Iterator[None]:
    """These VMs run on this host with another definition; afterwards with their own again."""
    try:
        for vm, edit in edits.items():
            restart(fleet.lab, vm, host, edit(original_xml(fleet.lab, vm)))
        yield
    finally:
        for vm in edits:
            restart(fleet.lab, vm, host, original_xml(fleet.lab, vm))


def restart(lab: Lab, vm: str, host: str, xml: str) -> None:
    """A VM runs with this definition on this host, and nowhere else is anything of it."""
    for one in lab.hosts:
        forget(one, vm)
    where = lab.host(host)
    define(where, vm, xml)
    where.virsh("start", vm)


def forget(host: Host, vm: str) -> None:
    """Nothing of the VM is left on this host."""
    with suppress(FurloughError):
        host.virsh("destroy", vm)
    with suppress(FurloughError):
        host.virsh("undefine", vm, "--managed-save", "--snapshots-metadata", "--nvram")


def define(host: Host, vm: str, xml: str) -> None:
    """Define a VM from a text; virsh reads files of the host alone."""
    path = host.directory / "witness" / f"{vm}.xml"
    path.write_text(xml, encoding="utf-8")
    host.virsh("define", str(path))


def with_device(xml: str, device: str) -> str:
    """The definition with one more device."""
    return xml.replace("  </devices>", f"{device}\n  </devices>")


def with_usb_device(xml: str) -> str:
    """A USB device of the host passed through, which may be missing."""
    return with_device(
        xml.replace("<controller type='usb' model='none'/>", "<controller type='usb'/>"),
        "<hostdev mode='subsystem' type='usb'><source startupPolicy='optional'>"
        "<vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>",
    )


def with_cpu(model: str) -> Edit:
    """Another CPU model, whether or not the host can give all of it."""
    return lambda xml: xml.replace(
        "<model fallback='forbid'>qemu64</model>", f"<model fallback='forbid'>{model}</model>"
    )


def with_file_disk(path: str) -> Edit:
    """A second disk: a file of the host."""
    return lambda xml: with_device(
        xml,
        "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/>"
        f"<source file='{path}'/><target dev='vdb' bus='virtio'/></disk>",
    )


def with_cdrom(path: str) -> Edit:
    """A CD-ROM drive with a file of the host in it."""
    return lambda xml: with_device(
        xml,
        "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
        f"<source file='{path}'/><target dev='hda' bus='ide'/><readonly/></disk>",
    )


def with_block_disk(path: str) -> Edit:
    """A second disk: a block device of the host."""
    return lambda xml: with_device(
        xml,
        "<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none'/>"
        f"<source dev='{path}'/><target dev='vdb' bus='virtio'/></disk>",
    )


def with_bridge(bridge: str) -> Edit:
    """Its network interface hangs on a bridge of the host."""
    return lambda xml: xml.replace(
        "<interface type='network'>", "<interface type='bridge'>"
    ).replace(f"<source network='{domain_xml.NETWORK_NAME}'/>", f"<source bridge='{bridge}'/>")


def writing(xml: str) -> str:
    """A guest that writes to its disk all the time, and is stopped when that fails."""
    xml = domain_xml.with_words(xml, domain_xml.WRITES_TO_DISK)
    return xml.replace("cache='none'/>", "cache='none' error_policy='stop'/>")


def sleepy(xml: str) -> str:
    """A guest that falls asleep when its power button is pressed."""
    xml = domain_xml.with_words(xml, domain_xml.SLEEPS_INSTEAD)
    return xml.replace("<on_poweroff>", "<pm><suspend-to-mem enabled='yes'/></pm><on_poweroff>")


def panicking(xml: str) -> str:
    """A guest that panics when its power button is pressed, and is kept for a post-mortem."""
    xml = domain_xml.with_words(xml, domain_xml.PANICS_INSTEAD)
    return with_device(
        xml.replace("<on_crash>destroy<", "<on_crash>preserve<"), "<panic model='isa'/>"
    )


def deaf(xml: str) -> str:
    """A guest that does not hear its power button: without ACPI there is none."""
    return xml.replace("<acpi/>", "")


def record_snapshot(host: Host, vm: str, name: str) -> None:
    """A snapshot of a VM by its record alone: disks of the lab's kind cannot be snapshotted."""
    path = host.directory / "witness" / "snapshot.xml"
    path.write_text(
        f"<domainsnapshot><name>{name}</name><state>shutoff</state>"
        f"<creationTime>1</creationTime>{host.virsh('dumpxml', vm)}</domainsnapshot>",
        encoding="utf-8",
    )
    host.virsh("snapshot-create", vm, str(path), "--redefine")


@contextmanager
def file_on(host: Host, path: str, size: str = "1M") -> Iterator[str]:
    """A file of the host's own."""
    host.run("sh", "-c", f"mkdir -p $(dirname {path}) && truncate -s {size} {path}")
    try:
        yield path
    finally:
        host.run("rm", "-f", path)


@contextmanager
def block_device_on(host: Host, path: str, content: bytes) -> Iterator[str]:
    """A block device of the host's own, with this at its beginning; at least 16 MiB."""
    image = host.directory / "witness" / "block.img"
    image.write_bytes(content.ljust(16 << 20, b"\0"))
    device = run(["losetup", "--find", "--show", image]).strip()
    try:
        number = Path(device).stat().st_rdev
        # The folders of a lab's host have no devices; a file system of its own has.
        host.run("mkdir", "-p", str(Path(path).parent))
        host.run("mount", "-t", "tmpfs", "none", str(Path(path).parent))
        host.run("mknod", path, "b", str(os.major(number)), str(os.minor(number)))
        yield path
    finally:
        with suppress(FurloughError):
            host.run("umount", str(Path(path).parent))
        run(["losetup", "--detach", device])
        image.unlink()


@contextmanager
def storage_gone_from(host: Host, server: str) -> Iterator[None]:
    """A host that has lost its network storage: no way there, and open connections are cut."""
    host.run("ip", "route", "add", "unreachable", f"{server}/32")
    try:
        host.run("ss", "--kill", "dst", server, "dport", "=", str(NBD_PORT))
        yield
    finally:
        host.run("ip", "route", "del", "unreachable", f"{server}/32")


@contextmanager
def usb_on(host: Host) -> Iterator[None]:
    """A USB bus without devices, for a host whose kernel has none: without it libvirt starts no
    VM that may have one of them."""
    host.run("sh", "-c", "mount -t tmpfs none /sys/bus && mkdir -p /sys/bus/usb/devices")
    try:
        yield
    finally:
        host.run("umount", "/sys/bus")


@contextmanager
def bridge_on(host: Host, name: str) -> Iterator[str]:
    """A bridge that no other host has."""
    host.run("ip", "link", "add", name, "type", "bridge")
    host.run("ip", "link", "set", name, "up")
    try:
        yield name
    finally:
        host.run("ip", "link", "delete", name)


def refusal_of(host: Host, *words: str) -> str:
    """What virsh says when the host refuses; fails if it does not refuse."""
    try:
        host.virsh(*words)
    except FurloughError as refusal:
        return refusal.message
    raise AssertionError(f"{host.name} did not refuse: virsh {' '.join(words)}")
