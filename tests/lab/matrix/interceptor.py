"""Stands between libvirtds: passes every message on, and holds or loses the one it is told to.

Runs alone on a host of the lab, in front of its libvirtd; standard library only:

    python3 -IS interceptor.py ADDRESS PORT PORT_BEHIND DIRECTORY

Files in DIRECTORY are its orders, and its answers:

    hold   "call 306" or "answer 306": a message of this kind waits, and all behind it, as long as
           this file is there. Signs of life pass: who holds an answer is not to seem dead.
    held   is written when one waits.
    lose   as long as this file is there, what was held is dropped and not passed on, and so is
           every later answer of that conversation, signs of life included.
    lost   is written when one was dropped.

A message of libvirt's protocol begins with five numbers of four bytes: length, program, version,
procedure, type. A conversation ends on both sides when one side ends it; what is held then is gone.
"""

import contextlib
import os
import select
import socket
import struct
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

HEAD = struct.Struct(">IIIII")
SIGNS_OF_LIFE = 0x6B656570
TYPES = {0: "call", 1: "answer"}
LOOK_EVERY_S = 0.02
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Orders:
    """What somebody outside wants, and is told."""

    directory: Path

    def holds(self, words: str) -> bool:
        """Whether a message of this kind is to wait now."""
        try:
            return (self.directory / "hold").read_text().strip() == words
        except OSError:
            return False

    def loses(self) -> bool:
        """Whether what was held is to be dropped."""
        return (self.directory / "lose").exists()

    def tell(self, name: str) -> None:
        """Say that it has come about."""
        (self.directory / name).touch()


@dataclass
class Conversation:
    """One connection and the one behind it."""

    caller: socket.socket
    callee: socket.socket
    orders: Orders
    is_deaf: bool = False
    ending: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Both directions, each in a thread of its own."""
        for one, other in ((self.caller, self.callee), (self.callee, self.caller)):
            threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, giver: socket.socket, taker: socket.socket) -> None:
        """Everything that one side says, to the other, until one of them is gone."""
        waiting: deque[bytes] = deque()
        with contextlib.suppress(OSError):
            while True:
                if waiting and not self.orders.holds(words_of(waiting[0])):
                    self.let_go(waiting, taker)
                if waiting and not select.select([giver], [], [], LOOK_EVERY_S)[0]:
                    continue
                message = read(giver)
                if not message:
                    break
                if program_of(message) == SIGNS_OF_LIFE:
                    self.give(message, taker)
                elif waiting:
                    waiting.append(message)
                elif self.orders.holds(words_of(message)):
                    waiting.append(message)
                    self.orders.tell("held")
                else:
                    self.give(message, taker)
        self.end()

    def let_go(self, waiting: "deque[bytes]", taker: socket.socket) -> None:
        """What was held goes on, or is lost."""
        if self.orders.loses():
            self.is_deaf = True
            self.orders.tell("lost")
        while waiting:
            self.give(waiting.popleft(), taker)

    def give(self, message: bytes, taker: socket.socket) -> None:
        """Pass a message on; a caller that is to hear nothing hears nothing."""
        if not (self.is_deaf and taker is self.caller):
            taker.sendall(message)

    def end(self) -> None:
        """Both sides hear of it. A dead daemon's kernel would reset the connection, or close it:
        libvirt takes either for the same."""
        with self.ending:
            for one in (self.caller, self.callee):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


def read(giver: socket.socket) -> bytes:
    """One whole message; nothing at the end of the connection."""
    length = read_exactly(giver, 4)
    if not length:
        return b""
    rest = read_exactly(giver, int.from_bytes(length, "big") - 4)
    return length + rest if rest else b""


def read_exactly(giver: socket.socket, count: int) -> bytes:
    """So many bytes; nothing if the connection ends before."""
    found = bytearray()
    while len(found) < count:
        more = giver.recv(count - len(found))
        if not more:
            return b""
        found += more
    return bytes(found)


def words_of(message: bytes) -> str:
    """What an order calls it: its type and its procedure."""
    if len(message) < HEAD.size:
        return ""
    _length, _program, _version, procedure, kind = HEAD.unpack_from(message)
    return f"{TYPES.get(kind, 'other')} {procedure}"


def program_of(message: bytes) -> int:
    """Which of libvirt's programs it belongs to."""
    return int.from_bytes(message[4:8], "big")


def main() -> int:
    """Serve until killed."""
    address, port, behind, directory = sys.argv[1:]
    listener = socket.create_server((address, int(port)), backlog=64)
    if os.fork():
        return 0
    leave()
    orders = Orders(Path(directory))
    while True:
        caller, _ = listener.accept()
        try:
            callee = socket.create_connection((address, int(behind)), timeout=5)
        except OSError:
            # Nobody behind: whoever calls learns it at once, as from the kernel itself.
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            caller.close()
            continue
        callee.settimeout(None)
        Conversation(caller, callee, orders).begin()


def leave() -> None:
    """Become nobody's child, and let go of the starter's pipes."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


if __name__ == "__main__":
    sys.exit(main())
