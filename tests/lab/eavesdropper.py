"""Somebody on the wire between hosts of a lab: hears all that migrations carry over a host's link.

A program of its own, run in the host's namespaces with nothing but the standard library. It hears
until its input ends, writes what TCP carried to and from libvirt's migration ports to a file, and
says how much that was and how many packets it has missed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from furlough.lab.host import WITNESS_DIRECTORY, Host

PROGRAM = """
import json, select, socket, struct, sys

SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 263, 6, 33
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
wire.bind(("eth0", 0))
print("hears", flush=True)
heard = 0
with open(sys.argv[1], "wb") as file:
    over = False
    while True:
        # What is in the buffer is heard out.
        left = ([wire], 0) if over else ([wire, sys.stdin], None)
        ready, _, _ = select.select(left[0], [], [], left[1])
        if sys.stdin in ready:
            over = True
        if wire not in ready:
            if over:
                break
            continue
        frame = wire.recv(1 << 18)
        if frame[12:14] != b"\\x08\\x00" or frame[23] != socket.IPPROTO_TCP:
            continue
        tcp = 14 + (frame[14] & 15) * 4
        ports = struct.unpack_from("!HH", frame, tcp)
        if not any(49152 <= port <= 49215 for port in ports):
            continue
        end = 14 + struct.unpack_from("!H", frame, 16)[0]
        payload = frame[tcp + (frame[tcp + 12] >> 4) * 4 : end]
        heard += len(payload)
        file.write(payload)
_packets, missed = struct.unpack("II", wire.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
print(json.dumps({"heard": heard, "missed": missed}), flush=True)
"""


@dataclass(kw_only=True)
class Heard:
    """What was heard: all of it one after the other, and how many packets were missed."""

    payload: bytes = b""
    missed_packets: int = field(default=-1)

    @property
    def mib(self) -> float:
        """How much that was."""
        return len(self.payload) / 2**20


@contextmanager
def eavesdropping(host: Host) -> Iterator[Heard]:
    """Listen at a host's link meanwhile; what was heard is there at the end."""
    heard, name = Heard(), "heard.bin"
    place = host.directory / "witness" / name
    words = ["python3", "-IS", "-c", PROGRAM, f"{WITNESS_DIRECTORY}/{name}"]
    process = subprocess.Popen(
        host.inside.entering(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "hears\n"
        yield heard
        said, _ = process.communicate(timeout=60)
        heard.payload = place.read_bytes()
        found = json.loads(said)
        assert found["heard"] == len(heard.payload)
        heard.missed_packets = found["missed"]
    finally:
        process.kill()
        process.wait()
        Path(place).unlink(missing_ok=True)
