"""What people read: complete, plain, and without tricks that names could play."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from furlough.cli import following, output
from furlough.client import Client
from furlough.core import settlement
from furlough.errors import Bug, Invalid, Refused, Unreachable
from tests.api.running import TOKEN, Running
from tests.cli.commands import ESCAPE, Furlough, complaint, environment, start

pytestmark = pytest.mark.usefixtures("everything_as_before")
LIMIT_S = 60


def test_a_host_is_shown_under_its_own_name(furlough: Furlough) -> None:
    shown = furlough("host", "show", "h1").out
    assert re.search(r"^name +h1$", shown, re.MULTILINE)
    assert re.search(r"^mode +available$", shown, re.MULTILINE)


def test_every_listing_has_a_line_per_thing(furlough: Furlough) -> None:
    for words, lines in ((("host", "list"), 4), (("vm", "list"), 24), (("cluster", "list"), 1)):
        listing = furlough(*words).out.splitlines()
        assert len(listing) == 1 + lines
        assert listing[0] == listing[0].upper()


def test_a_vm_that_nobody_or_several_have_by_name_is_asked_for_by_uuid(
    daemon: Running, furlough: Furlough
) -> None:
    missing = furlough("vm", "show", "webb01")
    assert "furlough vm list" in complaint(missing)


def test_what_is_applied_from_a_file_is_told(furlough: Furlough, tmp_path: Path) -> None:
    file = tmp_path / "furlough.toml"
    file.write_text('[[cluster]]\nname = "sim"\nmax_hosts_away = 1\n', encoding="utf-8")
    assert furlough("apply", str(file)).out == f"Applied 1 cluster(s) from {file}.\n"
    file.write_text('[server]\nlisten = "127.0.0.1:0"\n', encoding="utf-8")
    assert "nothing to apply" in furlough("apply", str(file)).out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[cluster]]\nname = 2026-11-22\n", "cannot be sent"),
        ("[[cluster]]\nnaem = 'c1'\n", "cluster.0.naem"),
        ("[[cluster]]\nname = 'c1'\n[[cluster]]\nname = 'c1'\n", "two clusters named 'c1'"),
        ("cluster = 7\n", "cluster"),
        ("[[clutser]]\nname = 'c1'\n", "no table [clutser]"),
        ("[[cluster]\n", "not TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(
    furlough: Furlough, tmp_path: Path, text: str, why: str
) -> None:
    file = tmp_path / "furlough.toml"
    file.write_text(text, encoding="utf-8")
    result = furlough("apply", str(file))
    assert result.code == 2
    assert why in complaint(result)


@pytest.mark.parametrize(
    "url",
    ["localhost:8642", "ftp://localhost", "http://", "http://[::1", "http://a b", "http://x:99999"],
)
def test_an_address_that_is_none_is_named(
    alone: Furlough, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("FURLOUGH_URL", url)
    monkeypatch.setenv("FURLOUGH_TOKEN", TOKEN)
    result = alone("host", "list")
    assert result.code == 2
    assert "FURLOUGH_URL" in complaint(result)


@pytest.mark.parametrize("token", ["two\nlines", "tökën", "with space"])
def test_a_token_that_is_none_is_named_and_not_shown(
    furlough: Furlough, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("FURLOUGH_TOKEN", token)
    result = furlough("host", "list")
    assert result.code == 2
    assert token not in complaint(result)


def test_findings_are_told_one_by_one_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        {"code": "a.b", "severity": "blocker", "message": "It is so.", "remedy": "Do this."},
        {"code": "c.d", "severity": "info", "message": "Not this.", "remedy": ""},
    ]
    output.complain(Refused("precheck.blocked", "All in one.", remedy="See.", findings=findings))
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == ["  a.b: It is so.", "    -> Do this.", "  -> See."]


def test_names_cannot_play_tricks_with_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "web\x1b]0;owned\x07\r01\u202e"
    output.complain(Invalid("x", f"There is no {nasty}.", remedy=nasty))
    output.print_table(("vm",), [(nasty,)])
    output.print_facts({"name": nasty})
    output.say(nasty)
    out, err = capsys.readouterr()
    assert out.count("web?]0;owned??01?") == 3
    assert err.count("web?]0;owned??01?") == 2


@pytest.mark.parametrize(
    ("text", "length_s"),
    [("0", 0), ("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86_400), (" 5m ", 300)],
)
def test_lengths_of_time_are_read_as_people_write_them(text: str, length_s: float) -> None:
    assert output.seconds(text) == length_s


def test_a_bug_is_told_without_a_traceback_unless_that_is_asked_for(
    furlough: Furlough, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No input is known to bring a bug about, so one is put in by hand.
    monkeypatch.setattr(output, "print_facts", None)
    result = furlough("host", "show", "h1")
    assert result.code == 1
    assert "a bug of ours: TypeError" in complaint(result)
    monkeypatch.setenv("FURLOUGH_DEBUG", "1")
    with pytest.raises(TypeError):
        furlough("host", "show", "h1")


def test_exit_codes_of_errors_go_by_their_kind() -> None:
    assert output.exit_code_of(Unreachable("daemon.lost", "")) == 6
    assert output.exit_code_of(Unreachable("hypervisor.lost", "")) == 1
    assert output.exit_code_of(Bug("x", "")) == 1


def test_whatever_asks_for_a_person_ends_an_unattended_watch() -> None:
    """Every ruling that asks names its code in the settlement."""
    text = Path(settlement.__file__).read_text(encoding="utf-8")
    asking = set(re.findall(r'_ask\(\s*"([a-z_.]+)"', text))
    assert len(asking) > 3
    assert asking <= following.FOR_A_PERSON


# --- in processes of their own -----------------------------------------------------------------


def test_ctrl_c_stops_the_watching_and_not_the_operation(
    daemon: Running, furlough: Furlough, tmp_path: Path
) -> None:
    daemon.hold("h1")
    with start("enter", "h1", "--wait", env=environment(daemon.context, tmp_path)) as process:
        assert process.stdout is not None
        which = process.stdout.readline().partition(":")[0]
        assert "h1" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert f"stopped watching {which}; it goes on" in err
    assert f"furlough operation watch {which}" in err
    assert f"furlough operation cancel {which}" in err
    assert furlough("operation", "show", which, "--json").json["state"] == "running"


def test_in_a_pipe_everything_is_plain(daemon: Running, client: Client, tmp_path: Path) -> None:
    vms = sum(vm.power == "running" for vm in client.vms("h1"))
    assert vms
    env = environment(daemon.context, tmp_path, TERM="xterm-256color", FORCE_COLOR="1")
    with start("enter", "h1", "--wait", env=env) as process:
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert ESCAPE not in out + err
    assert f"(enter h1) succeeded. VMs: {vms} moved." in out


def test_a_pipe_that_closes_early_is_no_drama(daemon: Running, tmp_path: Path) -> None:
    with start("vm", "list", env=environment(daemon.context, tmp_path)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        process.wait(LIMIT_S)
    assert err == ""


def test_a_full_disk_is_named_as_such(daemon: Running, tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("w", encoding="utf-8") as full,
        start("vm", "list", env=environment(daemon.context, tmp_path), stdout=full) as process,
    ):
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0
    assert err.startswith("furlough: reading or writing failed: No space left on device.")
    assert "Traceback" not in err


def test_a_terminal_that_knows_no_unicode_gets_what_it_can_show(
    daemon: Running, tmp_path: Path
) -> None:
    env = environment(daemon.context, tmp_path, PYTHONIOENCODING="ascii")
    with start("host", "show", "hé", env=env) as process:
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 2
    assert "cannot name a host" in err


@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}])
def test_on_a_terminal_there_are_bars_and_colours_only_where_wanted(
    daemon: Running, furlough: Furlough, tmp_path: Path, more: dict[str, str]
) -> None:
    which = furlough("enter", "h1", "--json").json["id"]
    master, terminal = os.openpty()
    env = environment(daemon.context, tmp_path, TERM="xterm-256color", **more)
    with start("operation", "watch", which, env=env, stdout=terminal) as process:
        os.close(terminal)
        shown = _all_of(master)
        process.wait(LIMIT_S)
    assert process.returncode == 0
    assert "web01" in shown
    assert f"{which} (enter h1) succeeded." in shown
    assert ESCAPE in shown
    colours = re.findall(ESCAPE + r"\[[0-9;]*3[0-9](?:;[0-9;]*)?m", shown)
    assert bool(colours) != bool(more)


def _all_of(master: int) -> str:
    """Everything that is written to a terminal until nobody has it any more."""
    shown = b""
    try:
        while part := os.read(master, 65_536):
            shown += part
    except OSError:  # Linux says EIO here, and means the end
        pass
    finally:
        os.close(master)
    return shown.decode()


def test_help_loads_nothing_that_only_one_command_needs() -> None:
    """A budget of imports instead of a stopwatch: help must come at once."""
    program = "import sys, furlough.cli.main; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=LIMIT_S
    ).stdout.split()
    packages = {name.partition(".")[0] for name in loaded}
    heavy = {"alembic", "asyncio", "fastapi", "httpx2", "libvirt", "lxml", "pydantic", "rich"}
    heavy |= {"msgspec", "numpy", "ortools", "sqlalchemy", "starlette", "structlog", "uvicorn"}
    assert heavy & packages == set()
    ours = {name for name in loaded if name.startswith("furlough.")}
    assert not {name for name in ours if name.split(".")[1] in ("api", "daemon", "store", "wire")}


def test_a_daemon_of_its_own_writes_its_context_serves_and_tidies_up(tmp_path: Path) -> None:
    """In real time, with the real clock: the one story that starts `furlough serve` itself."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    words = ("serve", "--simulate", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    context = tmp_path / ".config" / "furlough" / "context.json"
    with start(*words, env=env) as process:
        assert process.stdout is not None
        assert "Furlough serves http://127.0.0.1:" in process.stdout.readline()
        assert context.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "data" / "token").stat().st_mode & 0o777 == 0o600
        with start("host", "list", env=env) as listing:
            out, _ = listing.communicate(timeout=LIMIT_S)
        with start(*words, env=env) as second:
            _, err = second.communicate(timeout=LIMIT_S)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT_S)
    assert len(out.splitlines()) == 5
    assert second.returncode == 9
    assert f"process {process.pid}" in err
    assert process.returncode == 0
    assert not context.exists()
