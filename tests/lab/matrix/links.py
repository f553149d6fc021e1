"""Cutting one kind of traffic and leaving all others: rules of routing that know ports.

Dropped without a sign to anybody: a packet for which such a rule speaks finds no way out of its
host, and TCP takes that for a loss. A new connection *from* a host with a rule about what it
sends is refused at once, so streams are silenced where they are answered.
"""

from __future__ import annotations

from furlough.lab.host import Host
from tests.lab.matrix.gates import PORT

FIRST, LAST = 100, 110
FIRST_PORT, LAST_PORT = 49152, 49215
STREAMS = f"{FIRST_PORT}-{LAST_PORT}"


def silence_stream(source: Host, target: Host) -> None:
    """Nothing that the target says to a memory stream from the source gets out."""
    _drop(target, "to", f"{source.address}/32", "ipproto", "tcp", "sport", STREAMS)


def cut_stream(source: Host, target: Host) -> None:
    """The memory stream is reset, both ends are told; there must be one."""
    killed = ""
    for host, peer in ((source, target), (target, source)):
        ports = " or ".join(
            f"( {end} >= :{FIRST_PORT} and {end} <= :{LAST_PORT} )" for end in ("dport", "sport")
        )
        killed += host.run(
            "ss", "--no-header", "--kill", "--tcp", "dst", peer.address, "and", f"( {ports} )"
        )
    assert killed.strip(), "no memory stream was there to be reset"


def silence_daemons(source: Host, target: Host) -> None:
    """The daemons hear nothing of each other any more; the memory stream is as before."""
    _drop(source, "to", f"{target.address}/32", "ipproto", "tcp", "dport", str(PORT))
    _drop(target, "to", f"{source.address}/32", "ipproto", "tcp", "sport", str(PORT))


def silence_controller(host: Host) -> None:
    """The controller hears nothing of this host's daemon any more."""
    outer = f"{host.blueprint.outer_address}/32"
    _drop(host, "to", outer, "ipproto", "tcp", "sport", str(PORT))


def healed(host: Host) -> None:
    """As it was: no rule of ours, no limit."""
    for number in range(FIRST, LAST):
        if f"{number}:" in host.run("ip", "rule", "show"):
            host.run("ip", "rule", "del", "pref", str(number))
    host.set_rate(None)


def _drop(host: Host, *words: str) -> None:
    taken = host.run("ip", "rule", "show")
    number = next(one for one in range(FIRST, LAST) if f"{one}:" not in taken)
    host.run("ip", "rule", "add", "pref", str(number), *words, "blackhole")
