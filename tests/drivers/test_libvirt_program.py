"""The way to furlough-host: what is run where, and that nothing of ours is ever a shell's word; and
what its answers to a probe mean."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from furlough.clock import RealClock
from furlough.core.encryption import TlsMeans
from furlough.core.enrolment import EnrolledHost, Program, Transport
from furlough.core.ids import ClusterName, HostName
from furlough.core.probe import Reach
from furlough.errors import Invalid, Refused, Unreachable
from tests.drivers.binding import needing_libvirt

PATH = "/usr/local/sbin/furlough-host"
preparing = needing_libvirt("furlough.drivers.libvirt.preparing")
probing = needing_libvirt("furlough.drivers.libvirt.probing")
program = needing_libvirt("furlough.drivers.libvirt.program")

HOST = EnrolledHost(
    name=HostName("h1"), cluster=ClusterName("c"), address="2001:db8::7", program=Program.SSH
)
PEER = replace(
    HOST, name=HostName("h2"), address="10.0.0.2", migration_address="10.9.0.2",
    transport=Transport.TLS,
)  # fmt: skip


def test_ssh_is_given_a_fixed_line_and_no_way_to_ask_or_to_forward() -> None:
    words = program.HostProgram(HOST).way(PATH, "session")
    assert words[0] == "ssh"
    assert words[-3:] == ("--", "2001:db8::7", "/usr/local/sbin/furlough-host session")
    assert words[words.index("-l") + 1] == "root"
    for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", "ClearAllForwardings=yes"):
        assert words[words.index(option) - 1] == "-o"


@pytest.mark.parametrize(
    "changes", [{"address": "-oProxyCommand=reboot"}, {"address": "h1;reboot"}, {"user": "-l"}]
)
def test_an_address_or_a_user_that_is_none_never_gets_to_ssh(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        program.HostProgram(replace(HOST, **changes)).way(PATH, "session")


def test_the_machine_itself_needs_no_way_and_a_host_without_one_is_silent() -> None:
    local = program.HostProgram(replace(HOST, program=Program.LOCAL))
    assert local.way(PATH, "session") == (PATH, "session")
    with pytest.raises(Unreachable, match="no way to it is enrolled"):
        program.HostProgram(replace(HOST, program=Program.NONE)).way(PATH, "session")


# --- preparing ------------------------------------------------------------------------------------


@dataclass
class Elsewhere:
    """A host on which a program of ours stands for whatever ssh runs there."""

    answers: str
    name: HostName = HOST.name

    def way(self, *command: str) -> Sequence[str]:
        assert command == ("/usr/bin/python3", "-IS", "-")
        return (sys.executable, "-c", self.answers)


def prepared(answers: str) -> Sequence[str]:
    changed: Sequence[str] = asyncio.run(preparing.prepare(Elsewhere(answers)))
    return changed


def test_a_host_that_was_prepared_says_what_it_has_changed(tmp_path: Path) -> None:
    given = tmp_path / "given"
    answers = (
        f"import sys; open({str(given)!r}, 'w').write(sys.stdin.read());"
        """print('{"changed": ["hook x"]}')"""
    )
    assert prepared(answers) == ["hook x"]
    compile(given.read_text(), "the script", "exec")


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ("import sys; sys.exit('no /etc/libvirt')", Refused, "no /etc/libvirt"),
        ("""print('{"status": 2, "code": "usage"}')""", Refused, "something else"),
        ("print('Welcome!')", Refused, "something else"),
        ("import sys; print('no route', file=sys.stderr); sys.exit(255)", Unreachable, "no route"),
    ],
)
def test_a_host_that_will_not_have_it_or_is_not_reached_says_why(
    answers: str, error: type[Refused | Unreachable], words: str
) -> None:
    with pytest.raises(error, match=words):
        prepared(answers)


# --- probing --------------------------------------------------------------------------------------


@dataclass
class Told:
    """A furlough-host whose answers are given."""

    found: dict[str, Any]
    ahead_s: float = 0.0
    asked: Sequence[tuple[str, str, int]] = ()

    async def status(self) -> dict[str, Any]:
        return {"clock_s": RealClock().now().timestamp() + self.ahead_s}

    async def probe(self, peers: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
        self.asked = peers
        return self.found


def way(because: str = "", *, is_refused: bool = False, latency_ms: float = 0.5) -> dict[str, Any]:
    return {"because": because, "is_refused": is_refused, "latency_ms": latency_ms, "address": "x"}


def found(control: dict[str, Any], data: dict[str, Any], **parts: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "repairs": [], "link": None, "open_ports": [], "guests_at_boot": [], "troubles": [],
    }  # fmt: skip
    return {**nothing, "peers": {"c.h2": control, "d.h2": data}, **parts}


def probed(told: Told) -> Any:
    return asyncio.run(probing.probe(HOST, [PEER], told, RealClock()))


def test_a_peer_is_asked_for_at_its_daemon_and_at_its_address_for_migrations() -> None:
    told = Told(found(way(), way("nobody listens", is_refused=True, latency_ms=0.2)))
    probe = probed(told)
    assert told.asked == [("d.h2", "10.9.0.2", 16514), ("c.h2", "10.0.0.2", 16514)]
    # Nobody listens there before a migration begins.
    assert probe.peers == {PEER.name: Reach(latency_ms=0.2)}


@pytest.mark.parametrize(
    ("control", "data", "because"),
    [
        (way("timed out"), way(), "timed out"),
        (way("nobody listens", is_refused=True), way(), "nobody listens"),
        (way(), way("timed out"), "migrations: timed out"),
    ],
)
def test_a_peer_that_is_missed_on_either_way_is_not_reached(
    control: dict[str, Any], data: dict[str, Any], because: str
) -> None:
    assert probed(Told(found(control, data))).peers == {PEER.name: Reach(because=because)}


def test_a_clock_that_is_ahead_is_ahead_by_about_as_much() -> None:
    assert probed(Told(found(way(), way()), ahead_s=90.0)).clock_offset_s == pytest.approx(
        90, abs=1
    )


def test_parts_that_failed_are_troubles_and_not_good_news() -> None:
    parts = {"repairs": None, "open_ports": None, "troubles": ["repairs: no"]}
    probe = probed(Told(json.loads(json.dumps(found(way(), way(), **parts)))))
    assert (probe.repairs, probe.open_ports, probe.troubles) == ((), (), ("repairs: no",))


def test_what_is_not_known_of_certificates_counts_as_missing() -> None:
    assert "does not answer" in program.tls_means_of(None).trouble
    assert "too old" in program.tls_means_of({"hostname": "h1"}).trouble
    told = {"migration_tls": {"trouble": "", "authorities": ["ab", "cd"]}}
    assert program.tls_means_of(told) == TlsMeans(authorities=frozenset({"ab", "cd"}))
