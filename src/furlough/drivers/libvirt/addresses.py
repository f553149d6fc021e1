"""libvirt URIs, always built from enrolled parts: a URI from outside could run programs here."""

from __future__ import annotations

from urllib.parse import quote

from furlough.core.enrolment import EnrolledHost, Transport, certified_name, check_host


def control_uri(host: EnrolledHost) -> str:
    """Where we speak to this host's daemon."""
    if host.transport is Transport.LOCAL:
        check_host(host)
        return "qemu:///system"
    return peer_uri(host)


def peer_uri(host: EnrolledHost) -> str:
    """Where the daemon of another host speaks to this host's daemon. One that is local to us is
    not local to that other one: it is reached by SSH, as hosts are unless told otherwise."""
    check_host(host)
    address = _bracketed(host.address)
    if host.transport in (Transport.SSH, Transport.LOCAL):
        return f"qemu+ssh://{quote(host.user, safe='')}@{address}/system"
    return f"qemu+{host.transport.value}://{address}/system"


def migration_uri(host: EnrolledHost) -> str:
    """Where the memory of VMs goes that move to this host. Always given explicitly: without it
    libvirt takes the host's own idea of its name."""
    check_host(host)
    return f"tcp://{_bracketed(host.migration_address or host.address)}"


def certificate_name(host: EnrolledHost) -> str:
    """The name that the target of an encrypted migration has to prove: the address to which
    memory goes is seldom the name in its certificate."""
    check_host(host)
    return certified_name(host)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else quote(address, safe="")
