"""One probe of a host: what furlough-host answers, in our words, and what we try from here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from furlough.core.enrolment import EnrolledHost, Transport, bmc_of
from furlough.core.ids import HostName
from furlough.core.probe import Link, Probe, Reach
from furlough.drivers.libvirt.program import HostProgram
from furlough.errors import FurloughError
from furlough.ports import Clock

_BMC_WITHIN_S = 3.0
_PORTS = {
    Transport.SSH: 22,
    Transport.LOCAL: 22,  # Local to us; other hosts reach it by ssh.
    Transport.TLS: 16514,
    Transport.TCP: 16509,
}


async def probe(
    host: EnrolledHost, peers: Sequence[EnrolledHost], program: HostProgram, clock: Clock
) -> Probe:
    """Probe a host. Raises `Unreachable` where furlough-host does not answer."""
    offset_s = await _clock_offset_s(program, clock)
    bmc_answers, found = await asyncio.gather(
        _bmc_answers(host), program.probe([way for peer in peers for way in _ways(peer)])
    )
    link = found["link"]
    return Probe(
        at=clock.now(),
        clock_offset_s=offset_s,
        repairs=tuple(found["repairs"] or ()),
        peers={peer.name: _reach(peer, found["peers"]) for peer in peers},
        link=Link(**link) if link else None,
        starts_guests_at_boot=bool(found["guests_at_boot"]),
        bmc_answers=bmc_answers,
        open_ports=tuple(found["open_ports"] or ()),
        troubles=tuple(found["troubles"]),
    )


async def _clock_offset_s(program: HostProgram, clock: Clock) -> float:
    """Its clock minus ours. It read its clock about half-way through the question; the question
    before has opened the session, which takes longer one way than the other."""
    await program.status()
    asked, began_s = clock.now(), clock.monotonic()
    told_s = float((await program.status())["clock_s"])
    half_s = (clock.monotonic() - began_s) / 2
    return told_s - _seconds(asked) - half_s


def _seconds(instant: datetime) -> float:
    return instant.timestamp()


def _ways(peer: EnrolledHost) -> list[tuple[str, str, int]]:
    """Where a peer has to be reached: its daemon, and its address for migrations if that is
    another one. Nobody listens there before a migration begins, so any answer will do. That one
    comes first: the link that is told of is the one towards the first address."""
    port = _PORTS[peer.transport]
    ways = [(_control(peer.name), peer.address, port)]
    if peer.migration_address not in ("", peer.address):
        ways.insert(0, (_data(peer.name), peer.migration_address, port))
    return ways


def _control(name: HostName) -> str:
    return f"c.{name}"


def _data(name: HostName) -> str:
    return f"d.{name}"


def _reach(peer: EnrolledHost, found: Mapping[str, Any]) -> Reach:
    """The worse of both ways."""
    control, data = found[_control(peer.name)], found.get(_data(peer.name))
    if control["because"]:
        return Reach(because=control["because"])
    if data is None:
        return Reach(latency_ms=control["latency_ms"])
    if data["because"] and not data["is_refused"]:
        return Reach(because=f"migrations: {data['because']}")
    return Reach(latency_ms=data["latency_ms"])


async def _bmc_answers(host: EnrolledHost) -> bool | None:
    """Whether somebody takes a connection at the enrolled address; None where none is enrolled."""
    if not host.bmc:
        return None
    try:
        address, port = bmc_of(host)
        async with asyncio.timeout(_BMC_WITHIN_S):
            _reader, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError, FurloughError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
