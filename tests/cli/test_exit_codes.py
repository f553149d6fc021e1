"""What a script is told: one exit code per kind of end, as the design lists them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from furlough.client import Client
from furlough.core.ids import OperationId
from furlough.core.journal import OperationBlocked
from furlough.core.operation import Operation
from furlough.sim.faults import Odds
from tests.api.running import Running, end
from tests.cli.commands import Furlough, Result, complaint, start

pytestmark = pytest.mark.usefixtures("everything_as_before")

UNKNOWN_VM = "00000000-0000-4000-8000-00000000dead"


def test_0_when_it_is_done(furlough: Furlough) -> None:
    assert furlough("enter", "h1", "--wait").code == 0
    assert furlough("exit", "h1", "--check").code == 0
    assert furlough("exit", "h1", "--wait").code == 0
    assert furlough("check", "h1").code == 0
    assert furlough("plan", "h1").code == 0
    assert furlough("operation", "list").code == 0
    assert furlough("version").code == 0


def test_0_when_an_operation_is_accepted_and_nobody_waits(furlough: Furlough) -> None:
    accepted = furlough("host", "cordon", "h4")
    assert accepted.code == 0
    assert "furlough operation watch op-" in accepted.out


def test_1_when_the_operation_fails(daemon: Running, furlough: Furlough) -> None:
    daemon.faults.odds = Odds(refused=1.0)
    failed = furlough("enter", "h1", "--wait")
    assert failed.code == 1
    assert "(enter h1) failed [target.refused]" in failed.out
    assert "  -> Enter again: furlough enter h1" in failed.out
    assert "furlough host uncordon h1" in failed.out


@pytest.mark.parametrize(
    "words",
    [
        ("host", "show", "nowhere"),
        ("host", "show", ""),
        ("host", "show", "a/b"),
        ("host", "show", "../vms"),
        ("host", "show", "h1?x"),
        ("host", "cordon", "nowhere"),
        ("host", "set", "nowhere", "--user", "root"),
        ("host", "remove", "nowhere"),
        ("host", "remove", "../clusters/sim"),
        ("cluster", "show", "nowhere"),
        ("cluster", "show", "%2e%2e"),
        ("cluster", "remove", "nowhere"),
        ("vm", "show", "nobody"),
        ("vm", "show", UNKNOWN_VM),
        ("vm", "start", "nobody"),
        ("vm", "list", "--host", "nowhere"),
        ("check", "nowhere"),
        ("plan", "h1", "nowhere"),
        ("enter", "nowhere"),
        ("enter", "h1", "--target-host", "nowhere"),
        ("exit", "nowhere"),
        ("exit", "nowhere", "--check"),
        ("operation", "show", "op-404"),
        ("operation", "show", "17"),
        ("operation", "show", "op-404", "--journal"),
        ("operation", "watch", "../hosts"),
        ("operation", "cancel", "op-404"),
        ("operation", "resume", "op-0"),
    ],
)
def test_2_when_there_is_no_such_thing(furlough: Furlough, words: tuple[str, ...]) -> None:
    result = furlough(*words)
    assert result.code == 2
    complaint(result)


@pytest.mark.parametrize(
    "words",
    [
        ("enter", "h1", "--timeout", "soon"),
        ("enter", "h1", "--timeout", "-5s"),
        ("enter", "h1", "--timeout", "5 minutes"),
        ("enter", "h1", "--timeout", "1e3"),
        ("enter", "h1", "--timeout", "9" * 400),
        ("enter", "h1", "--timeout", "367d"),
        ("enter", "h1", "--timeout", "nan"),
        ("enter", "h1", "--reason", "x" * 1001),
        ("exit", "h1", "--timeout", ""),
        ("vm", "shut-down", "web01", "--grace", "0"),
        ("vm", "shut-down", "web01", "--grace", "2d"),
        ("vm", "migrate", "web01", "--to", "../h2"),
        ("cluster", "set", "sim", "--memory-ceiling", "nan"),
        ("cluster", "set", "sim", "--memory-ceiling", "inf"),
        ("cluster", "set", "sim", "--memory-ceiling", "7"),
        ("cluster", "set", "sim", "--max-hosts-away", "9" * 30),
        ("cluster", "add", "-x-"),
        ("host", "set", "h1", "--link-mbit-s", "0"),
        ("host", "add", "h9", "--cluster", "sim", "--address", "qemu+ssh://h9/system"),
        ("enter", "h1\udcff"),
        ("enter", "h1", "--reason", "\udcff"),
        ("vm", "list", "--host", "\udcff"),
        ("vm", "show", "\udcff"),
        ("operation", "list", "--host", "\udcff"),
        ("operation", "show", "\udcff"),
    ],
)
def test_2_when_a_value_makes_no_sense(furlough: Furlough, words: tuple[str, ...]) -> None:
    if words[:2] == ("cluster", "add"):
        words = ("cluster", "add", "--", "-x-")
    result = furlough(*words)
    assert result.code == 2
    complaint(result)


@pytest.mark.parametrize(
    "words",
    [
        ("enter",),
        ("enter", "h1", "--surprise"),
        ("enter", "h1", "--timeout"),
        ("exit", "h1", "--restore", "everything"),
        ("host", "add", "h9"),
        ("host", "set", "h1", "--transport", "carrier-pigeon"),
        ("host", "set", "h1", "--link-mbit-s", "fast"),
        ("host", "surprise"),
        ("surprise",),
    ],
)
def test_2_when_it_is_used_wrongly(furlough: Furlough, words: tuple[str, ...]) -> None:
    result = furlough(*words)
    assert result.code == 2
    assert result.out == ""
    assert "Error: " in result.err


def test_3_when_findings_forbid_it(daemon: Running, furlough: Furlough) -> None:
    daemon.do(lambda: _set_guard(daemon, has_guard=False))
    try:
        checked = furlough("check", "h1")
        entered = furlough("enter", "h1")
    finally:
        daemon.do(lambda: _set_guard(daemon, has_guard=True))
    assert checked.code == 3
    assert "guard.missing" in checked.out
    assert entered.code == 3
    assert "guard.missing" in complaint(entered)
    assert furlough("operation", "list", "--active", "--json").json == []


def _set_guard(daemon: Running, *, has_guard: bool) -> None:
    for host in daemon.cluster.hosts.values():
        host.has_guard = has_guard


def test_3_when_the_present_state_forbids_it(furlough: Furlough) -> None:
    refused = furlough("vm", "start", "web01")
    assert refused.code == 3
    assert "running already" in complaint(refused)


def test_4_when_time_runs_out(daemon: Running, furlough: Furlough) -> None:
    daemon.hold("h1")
    result = furlough("enter", "h1", "--timeout", "5s", "--wait")
    assert result.code == 4
    assert "timed_out" in result.out


def test_5_when_somebody_cancelled_it(daemon: Running, furlough: Furlough) -> None:
    daemon.hold("h1")
    which = furlough("enter", "h1", "--json").json["id"]
    cancelled = furlough("operation", "cancel", which, "--wait")
    assert cancelled.code == 5
    assert furlough("operation", "watch", which).code == 5
    assert furlough("operation", "show", which).code == 0


def test_6_when_no_daemon_answers(alone: Furlough, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = alone("host", "list")
    assert unknown.code == 6
    assert "furlough serve" in complaint(unknown)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setenv("FURLOUGH_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("FURLOUGH_TOKEN", "furlough_whatever")
    for words in (("host", "list"), ("enter", "h1"), ("operation", "watch", "op-1")):
        gone = alone(*words)
        assert gone.code == 6
        assert f"127.0.0.1:{port}" in complaint(gone)


def test_7_when_the_token_is_not_the_right_one(
    furlough: Furlough, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FURLOUGH_TOKEN", "furlough_of_yesterday")
    for words in (("host", "list"), ("enter", "h1"), ("operation", "watch", "op-1")):
        result = furlough(*words)
        assert result.code == 7
        assert "FURLOUGH_TOKEN" in complaint(result)


@pytest.mark.parametrize("code", ["bug", "crash_loop", "migration.stray_copy", "vm.two_copies"])
def test_8_when_it_waits_for_a_person_and_nobody_watches(
    daemon: Running, furlough: Furlough, code: str
) -> None:
    daemon.hold("h1")
    which = furlough("enter", "h1", "--json").json["id"]

    async def block() -> Operation:
        store = daemon.controller.work.store
        while True:
            known = await store.operation(OperationId(which))
            if any(step.attempts for step in known.steps):
                break
            await daemon.controller.work.clock.sleep(0.1)
        return await store.append(
            known, [OperationBlocked(code=code, waiting_for="somebody to look at web01")]
        )

    daemon.run(block())
    watched = furlough("operation", "watch", which)
    assert watched.code == 8
    assert "somebody to look at web01" in watched.out
    assert f"furlough operation resume {which}" in watched.out
    quiet = furlough("operation", "watch", which, "--json")
    assert quiet.code == 8
    assert quiet.json["state"] == "blocked"


def test_9_when_something_else_is_under_way(
    daemon: Running, client: Client, furlough: Furlough
) -> None:
    daemon.hold("h1")
    which = furlough("enter", "h1", "--json").json["id"]
    for words in (
        ("enter", "h1"),
        ("exit", "h1"),
        ("host", "cordon", "h1"),
        ("host", "remove", "h1"),
    ):
        busy = furlough(*words)
        assert busy.code == 9
        assert which in complaint(busy)
    client.cancel(which, "stop")
    end(client, which)
    over = furlough("operation", "cancel", which)
    assert over.code == 9
    assert "already" in complaint(over)
    resumed = furlough("operation", "resume", which)
    assert resumed.code == 9
    complaint(resumed)


def test_9_when_the_name_is_taken_or_the_thing_in_use(furlough: Furlough) -> None:
    for words in (("cluster", "add", "sim"), ("cluster", "remove", "sim")):
        result = furlough(*words)
        assert result.code == 9
        complaint(result)


def test_a_daemon_whose_settings_are_not_there_says_so(alone: Furlough) -> None:
    result = alone("serve", "--simulate", "--config", "/no/such/file")
    assert result.code == 2
    assert "/no/such/file" in complaint(result)


def test_a_daemon_that_cannot_start_says_why(tmp_path: Path) -> None:
    """In processes of their own: a daemon keeps what it logs to."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "file").write_text("no directory", encoding="utf-8")
        tried = [
            (start("serve", "--simulate", "--data-dir", str(tmp_path / name), *more, env=env), code)
            for name, more, code in (
                ("data", ("--listen", port), 9),
                ("file/d", (), 2),
            )
        ]
        ends = []
        for process, code in tried:
            out, err = process.communicate(timeout=60)
            ends.append((Result(code=process.returncode, out=out, err=err), code))
    for result, code in ends:
        assert "Traceback" not in result.err
        assert complaint(result)
        assert result.code == code, result.err
    assert port in ends[0][0].err
    assert "--data-dir" in ends[1][0].err
