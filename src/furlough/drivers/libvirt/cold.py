"""A cold move, as libvirt is asked for it: the definition of a VM that is off is copied, and what
the VM keeps on its host beside it.

libvirt's own offline migration would carry the definition alone, and drop the source's and with it
the state of a TPM in one go; so it is not used. Here nothing is removed: that is another act, made
only after the target was seen to have the VM (docs/decisions/0031).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import libvirt
from lxml.etree import _Element as Element

from furlough.core.enrolment import DatastoreKind, EnrolledDatastore, EnrolledHost
from furlough.core.ids import VmId
from furlough.drivers.libvirt import errors
from furlough.drivers.libvirt.domain_xml import root_of
from furlough.drivers.libvirt.program import HostProgram
from furlough.drivers.libvirt.site import Site
from furlough.errors import Refused, Unreachable
from furlough.ports import ColdOrder

_NVRAM_DIRECTORY = PurePosixPath("/var/lib/libvirt/qemu/nvram")
_MOST_PIECES = 1024
_WITHIN_S = 35.0


@dataclass(frozen=True, kw_only=True)
class Baggage:
    """What a VM keeps on its host: the path of its UEFI variables, empty if none are kept in a
    file; whether it has a TPM that the host emulates."""

    nvram: str
    has_tpm: bool


def baggage_of(root: Element) -> Baggage:
    """What a definition says of it. Variables that libvirt has not named a file for yet are
    nowhere; those on a network disk are not on the host."""
    nvram, path = root.find("os/nvram"), ""
    if nvram is not None and nvram.get("type", "file") == "file":
        path = nvram.findtext("source") or (nvram.text or "").strip()
        source = nvram.find("source")
        if source is not None:
            path = source.get("file", path)
    elif nvram is not None and nvram.get("type") == "block":
        source = nvram.find("source")
        path = "" if source is None else source.get("dev", "")
    has_tpm = root.find("devices/tpm/backend[@type='emulator']") is not None
    return Baggage(nvram=path, has_tpm=has_tpm)


async def check(
    order: ColdOrder, source: Site, target: Site, datastores: Sequence[EnrolledDatastore]
) -> None:
    """See `ports.Hypervisor.check_cold`."""
    text = await source.link.control(
        lambda connection: str(
            connection.lookupByUUIDString(order.vm).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        ),
        what=f"definition of VM {order.vm} on {order.source}",
    )
    _to_copy(order, text, source, target, datastores)


async def copy_state(
    order: ColdOrder, source: Site, target: Site, datastores: Sequence[EnrolledDatastore]
) -> Sequence[str]:
    """See `ports.Hypervisor`."""
    text = await _definition(order, source)
    wanted = _to_copy(order, text, source, target, datastores)
    if wanted is None:
        return ()
    parts = await _parts(source.acts, order.vm, wanted)
    for part in parts:
        await _copy_part(order, part, source.acts, target.acts)
    if await _parts(source.acts, order.vm, wanted) != parts:
        raise Unreachable(
            "hypervisor.lost", f"The state of VM {order.vm} changed while it was copied."
        )
    return tuple(f"{one['part']}: sha256 {one['sha256']}" for one in parts)


def _to_copy(
    order: ColdOrder,
    text: str,
    source: Site,
    target: Site,
    datastores: Sequence[EnrolledDatastore],
) -> str | None:
    """The name of the file with its variables, empty if those are not to be copied; None where
    nothing is. `Refused` where it cannot be done."""
    baggage = baggage_of(root_of(text))
    nvram = nvram_to_copy(baggage, target.host, datastores)
    if not nvram and not baggage.has_tpm:
        return None
    for site in (source, target):
        if not site.acts.is_enrolled:
            raise Refused(
                "vm.immovable",
                f"The firmware variables or TPM of VM {order.vm} cannot be copied: there is no "
                f"furlough-host on {site.host.name}.",
                remedy=f"Install it: furlough host prepare {site.host.name}.",
            )
    return nvram


def nvram_to_copy(
    baggage: Baggage, target: EnrolledHost, datastores: Sequence[EnrolledDatastore]
) -> str:
    """The name of the file that has to be copied; empty if there is none, or if the target sees
    the same file. `Refused` where it lies where we copy nothing."""
    path = PurePosixPath(baggage.nvram)
    if not baggage.nvram or _is_shared(baggage.nvram, target, datastores):
        return ""
    if path.parent == _NVRAM_DIRECTORY:
        return path.name
    raise Refused(
        "vm.immovable",
        f"Its UEFI variables are in {baggage.nvram}, which {target.name} does not share.",
        remedy=f"Keep them in {_NVRAM_DIRECTORY} or on shared storage.",
    )


def _is_shared(path: str, target: EnrolledHost, datastores: Sequence[EnrolledDatastore]) -> bool:
    return any(
        store.kind is DatastoreKind.DIRECTORY
        and store.name in target.datastores
        and store.holds(path=path)
        for store in datastores
    )


async def _parts(program: HostProgram, vm: VmId, nvram: str) -> Sequence[Mapping[str, Any]]:
    words = ("--nvram", nvram) if nvram else ()
    answer = await program.vm_state("list", vm, *words)
    parts: Sequence[Mapping[str, Any]] = answer["parts"]
    return parts


async def _copy_part(
    order: ColdOrder, part: Mapping[str, Any], source: HostProgram, target: HostProgram
) -> None:
    """One file, piece by piece; it bears its name once all of it is there and safe."""
    about, offset = ("--part", str(part["part"])), 0
    for _ in range(_MOST_PIECES):
        piece = await source.vm_state("read", order.vm, *about, "--offset", str(offset))
        data = str(piece["data"])
        if not data and offset:
            break
        # With an equals sign: a piece may begin with a dash.
        written = await target.vm_state(
            "write", order.vm, *about, "--offset", str(offset), f"--data={data}"
        )
        offset += int(written["written"])
        if offset >= int(part["size"]):
            break
    checksum = ("--sha256", str(part["sha256"]), "--epoch", str(order.epoch))
    await target.vm_state("keep", order.vm, *about, *checksum)


async def copy_definition(order: ColdOrder, source: Site, target: Site) -> None:
    """See `ports.Hypervisor`."""
    text = await _definition(order, source)
    if target.acts.is_enrolled:
        await target.acts.act("fence", order.vm, order.epoch)

    def define(connection: libvirt.virConnect) -> None:
        if not _is_known(connection, order.vm):
            connection.defineXML(text)

    what = f"definition of VM {order.vm} on {order.target}"
    await target.link.control(define, what=what, within_s=_WITHIN_S)


def _is_known(connection: libvirt.virConnect, vm: VmId) -> bool:
    """Whether the target has it already: from the same move, since nobody begins one otherwise."""
    try:
        domain = connection.lookupByUUIDString(vm)
    except libvirt.libvirtError as error:
        if errors.is_absent(error):
            return False
        raise
    if domain.isActive():
        raise Refused("vm.changed", f"VM {domain.name()} is active on the target already.")
    return True


async def _definition(order: ColdOrder, source: Site) -> str:
    """The definition that its next start uses, secrets included. `Refused` where it is not off,
    or goes on from a save image, which would be left behind."""

    def read(connection: libvirt.virConnect) -> str:
        domain = connection.lookupByUUIDString(order.vm)
        if domain.isActive():
            raise Refused("vm.changed", f"VM {domain.name()} is not off on {order.source}.")
        if domain.hasManagedSaveImage():
            raise Refused(
                "vm.managed_save",
                f"VM {domain.name()} was saved on {order.source}; its memory would be lost.",
                remedy=f"Start it and shut it down, or: virsh managedsave-remove {order.vm}.",
            )
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        return str(domain.XMLDesc(flags))

    what = f"definition of VM {order.vm} on {order.source}"
    return await source.link.control(read, what=what, within_s=_WITHIN_S)
