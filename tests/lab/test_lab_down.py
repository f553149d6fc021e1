"""Taking a lab down: nothing of it stays behind, whatever happened to it."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from furlough.cli.lab import app
from furlough.context import Context, context_path, save_context
from furlough.errors import Refused
from furlough.lab.blueprint import Keepalive, Options
from furlough.lab.command import run
from furlough.lab.construction import construct
from furlough.lab.controller import Controller, is_healthy
from furlough.lab.demolition import demolish
from furlough.lab.lab import Lab
from furlough.lab.processes import end
from furlough.lab.site import Site

# --- it leaves nothing behind ---------------------------------------------------------------


def kill_libvirtd(lab: Lab) -> None:
    lab.host("h1").kill_daemon()


def freeze_libvirtd(lab: Lab) -> None:
    lab.host("h1").freeze_daemon()


def kill_first_process(lab: Lab) -> None:
    end([lab.host("h1").inside.living()], signal.SIGKILL, timeout_s=5)


def kill_switch(lab: Lab) -> None:
    end([lab.switch.living()], signal.SIGKILL, timeout_s=5)


def lose_description_and_pids(lab: Lab) -> None:
    lab.site.description.unlink()
    for note in lab.site.directory.glob("*/init.pid"):
        note.unlink()


def lose_everything(lab: Lab) -> None:
    for path in (lab.site.directory, lab.site.disks):
        shutil.rmtree(path)


@pytest.mark.lab_fault
@pytest.mark.parametrize(
    "damage",
    [
        kill_libvirtd,
        freeze_libvirtd,
        kill_first_process,
        kill_switch,
        lose_description_and_pids,
        lose_everything,
    ],
)
def test_down_leaves_nothing_of_a_damaged_lab(
    site: Site, traces: Callable[[], set[str]], damage: Callable[[Lab], None]
) -> None:
    lab = construct(site.name, Options(hosts=2, vms=0), has_daemon=False)
    assert len(traces()) > 10, "a lab that is up can be seen"
    damage(lab)
    assert demolish(site)
    assert traces() == set()
    assert not demolish(site), "a second time there is nothing to do"


@pytest.mark.lab
def test_down_leaves_the_machine_as_it_was(
    site: Site, traces: Callable[[], set[str]], surroundings: Callable[[], set[str]]
) -> None:
    before = surroundings()
    construct(site.name, Options(hosts=1, vms=1), has_daemon=False)
    assert any("qemu-system" in line for line in traces())
    told = CliRunner().invoke(app, ["down", "--name", site.name])
    assert told.stdout == f"Lab {site.name} is down.\n"
    assert traces() == set()
    assert surroundings() - before == set()


BUILDING = """
from furlough.lab.blueprint import Options
from furlough.lab.construction import construct
construct({name!r}, Options(vms=2), has_daemon=False)
"""


@pytest.mark.lab_fault
@pytest.mark.parametrize("after_s", [0.2, 0.35, 0.5, 0.8, 2.0])
def test_down_leaves_nothing_of_a_lab_whose_building_was_killed(
    site: Site,
    traces: Callable[[], set[str]],
    surroundings: Callable[[], set[str]],
    after_s: float,
) -> None:
    before = surroundings()
    building = subprocess.Popen([sys.executable, "-c", BUILDING.format(name=site.name)])
    time.sleep(after_s)
    building.kill()
    building.wait()
    demolish(site)
    assert traces() == set()
    assert surroundings() - before == set()


@pytest.mark.lab
def test_a_lab_that_cannot_be_finished_takes_itself_down(
    site: Site, traces: Callable[[], set[str]]
) -> None:
    def tell(line: str) -> None:
        if "libvirtd" in line:
            assert len(traces()) > 10
            raise BrokenPipeError(line)

    with pytest.raises(BrokenPipeError):
        construct(site.name, Options(hosts=2, vms=1), has_daemon=False, tell=tell)
    assert traces() == set()


@pytest.mark.lab
def test_down_never_follows_a_mount_somebody_made(site: Site, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    construct(site.name, Options(hosts=1, vms=0), has_daemon=False)
    place = site.directory / "mounted"
    place.mkdir()
    run(["mount", "--bind", tmp_path, place])
    try:
        with pytest.raises(Refused, match="Something is mounted at"):
            demolish(site)
    finally:
        run(["umount", place])
    assert precious.read_text() == "keep me"


# --- its furlough daemon --------------------------------------------------------------------

STUBBORN = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, {on_term})
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/v1/health" else 404)
        self.end_headers()
port = int(sys.argv[-1].rpartition(":")[2])
http.server.HTTPServer(("127.0.0.1", port), Healthy).serve_forever()
"""


def controller(site: Site, text: str) -> Controller:
    """A controller of a program that stands in for `furlough`."""
    site.directory.mkdir(parents=True)
    program = site.directory / "program.py"
    program.write_text(text)
    return Controller(site=site, program=(sys.executable, str(program)))


@pytest.mark.lab
def test_the_furlough_daemon_keeps_its_port_and_goes_down_with_the_lab(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    daemon = controller(site, STUBBORN.format(on_term="signal.SIG_DFL"))
    url = daemon.start()
    assert daemon.port is not None
    assert is_healthy(daemon.port)
    daemon.kill()
    assert daemon.process() is None
    assert daemon.start() == url
    process = daemon.process()
    assert process is not None
    save_context(Context(url=url, token="secret"))
    demolish(site)
    assert not Path(f"/proc/{process.pid}").exists()
    assert not context_path().exists()


@pytest.mark.lab
def test_the_context_of_another_daemon_stays(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    save_context(Context(url="http://127.0.0.1:1", token="secret"))
    site.directory.mkdir(parents=True)
    assert demolish(site)
    assert context_path().exists()


@pytest.mark.lab
def test_up_starts_a_furlough_daemon_and_down_leaves_nothing_of_it(
    site: Site,
    traces: Callable[[], set[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    lab = construct(site.name, Options(hosts=1, vms=0))
    assert lab.controller.port is not None
    assert is_healthy(lab.controller.port)
    assert lab.status()["daemon"]["url"] == lab.controller.url
    lab.controller.kill()
    lab.down()
    assert traces() == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.lab
def test_a_furlough_daemon_that_ends_at_once_is_quoted(site: Site) -> None:
    with pytest.raises(Refused, match="It said: no such option"):
        controller(site, "raise SystemExit('no such option')").start()


@pytest.mark.lab_fault
def test_keepalive_is_what_libvirtd_runs_with(site: Site) -> None:
    options = Options(hosts=1, vms=0, keepalive=Keepalive(interval_s=1, count=3))
    lab = construct(site.name, options, has_daemon=False)
    assert "keepalive_interval = 1" in lab.host("h1").run("cat", "/etc/libvirt/qemu.conf")
