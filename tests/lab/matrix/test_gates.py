"""The gate between two daemons, tried without them: what it holds, lets pass and loses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from furlough.lab.patience import wait_until
from tests.lab.matrix.gates import Gate
from tests.lab.matrix.interceptor import HEAD, SIGNS_OF_LIFE, Conversation, Orders, read

LIBVIRT = 0x20008086
CALL, ANSWER = 0, 1


def message(procedure: int, kind: int, program: int = LIBVIRT) -> bytes:
    """One message of libvirt's protocol, with four bytes of content."""
    return HEAD.pack(HEAD.size + 4, program, 1, procedure, kind) + b"abcd"


class Wire:
    """A caller and a daemon, and who stands between them."""

    def __init__(self, directory: Path) -> None:
        self.gate = Gate(directory=directory)
        self.caller, before = socket.socketpair()
        self.daemon, behind = socket.socketpair()
        for one in (self.caller, self.daemon):
            one.settimeout(5)
        self._between = (before, behind)
        Conversation(before, behind, Orders(directory)).begin()

    def close(self) -> None:
        for one in (self.caller, self.daemon):
            one.close()
        for one in self._between:
            one.close()

    def is_quiet(self) -> bool:
        """Whether the caller has nothing to read."""
        self.caller.setblocking(False)
        try:
            return self.caller.recv(1, socket.MSG_PEEK) == b"never"
        except BlockingIOError:
            return True
        finally:
            self.caller.settimeout(5)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path)
    yield wire
    wire.close()


def test_everything_passes_both_ways_in_order(wire: Wire) -> None:
    for procedure in (302, 303):
        wire.caller.sendall(message(procedure, CALL))
        assert read(wire.daemon) == message(procedure, CALL)
        wire.daemon.sendall(message(procedure, ANSWER))
        assert read(wire.caller) == message(procedure, ANSWER)
    assert not wire.gate.is_holding


def test_what_is_held_waits_with_all_behind_it_and_signs_of_life_pass(wire: Wire) -> None:
    wire.gate.close("answer 306")
    alive = message(1, ANSWER, SIGNS_OF_LIFE)
    for one in (message(306, ANSWER), message(14, ANSWER), alive):
        wire.daemon.sendall(one)
    assert read(wire.caller) == alive
    assert wire.gate.is_holding
    assert wire.is_quiet()
    wire.caller.sendall(message(306, CALL))
    assert read(wire.daemon) == message(306, CALL)
    wire.gate.let_go()
    assert read(wire.caller) == message(306, ANSWER)
    assert read(wire.caller) == message(14, ANSWER)


def test_what_is_lost_never_comes_nor_any_answer_after_it(wire: Wire) -> None:
    wire.gate.close("answer 306")
    wire.daemon.sendall(message(306, ANSWER))
    wait_until(lambda: wire.gate.is_holding, "it to be held", timeout_s=5)
    wire.gate.lose()
    wire.gate.let_go()
    wait_until(lambda: wire.gate.has_lost, "it to be lost", timeout_s=5)
    wire.daemon.sendall(message(1, ANSWER, SIGNS_OF_LIFE))
    wire.daemon.sendall(message(14, ANSWER))
    wire.caller.sendall(message(14, CALL))
    assert read(wire.daemon) == message(14, CALL)
    wire.daemon.close()
    # Its end is the first that the caller hears.
    assert read(wire.caller) == b""


def test_when_one_side_ends_the_other_hears_of_it(wire: Wire) -> None:
    wire.gate.close("answer 306")
    wire.daemon.sendall(message(306, ANSWER))
    wait_until(lambda: wire.gate.is_holding, "it to be held", timeout_s=5)
    wire.daemon.close()
    assert read(wire.caller) == b""
