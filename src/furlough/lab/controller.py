"""The furlough daemon of a lab: `furlough serve` in the background of this machine."""

import contextlib
import http.client
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from furlough.context import context_path
from furlough.errors import Refused
from furlough.lab.command import run
from furlough.lab.patience import wait_until
from furlough.lab.processes import Process, carries, end
from furlough.lab.site import Site

HEALTH = "/api/v1/health"
GRACE_S = 10


@dataclass(frozen=True, kw_only=True)
class Controller:
    """The daemon that `lab up` starts, its log in daemon.log, its data in data/."""

    site: Site
    program: tuple[str, ...] = (sys.executable, "-m", "furlough")

    @property
    def log(self) -> Path:
        """What it printed, of all its starts."""
        return self.site.directory / "daemon.log"

    @property
    def port(self) -> int | None:
        """Where it listens, or would; None if it was never started."""
        return number_in(self.site.directory / "daemon.port")

    @property
    def url(self) -> str | None:
        """Its address; None if it was never started."""
        return f"http://127.0.0.1:{self.port}" if self.port else None

    def process(self) -> Process | None:
        """The daemon itself, or None if it does not run. A recycled pid bears no mark."""
        pid = number_in(self.site.directory / "daemon.pid")
        return Process.of(pid) if pid and carries(pid, self.site.mark) else None

    def start(self) -> str:
        """Start it, always on the same port, and return its address once it is healthy."""
        if self.process():
            raise Refused("lab.daemon_runs", f"The furlough daemon runs already, at {self.url}.")
        port = self.port or free_port()
        (self.site.directory / "daemon.port").write_text(f"{port}\n")
        self.launch(port)
        wait_until(lambda: self.is_settled(port), f"furlough at port {port}", timeout_s=30)
        if self.process() is None:
            said = self.log.read_text(errors="replace")[-2000:].strip()
            raise Refused("lab.daemon_ended", f"`furlough serve` ended at once. It said: {said}")
        return f"http://127.0.0.1:{port}"

    def launch(self, port: int) -> None:
        """Run `furlough serve` in the background, as nobody's child."""
        pid_file = self.site.directory / "daemon.pid"
        pid_file.unlink(missing_ok=True)
        program, *words = self.program
        serve = [*words, "serve", "--config", str(self.site.daemon_config)]
        serve += ["--data-dir", str(self.site.directory / "data"), "--listen", f"127.0.0.1:{port}"]
        run(
            [
                *("start-stop-daemon", "--start", "--background", "--quiet"),
                *("--make-pidfile", "--pidfile", str(pid_file), "--output", str(self.log)),
                # Where the package is: `-m furlough` then works from a checkout as well.
                *("--chdir", str(Path(__file__).parents[2])),
                *("--startas", program, "--", *serve),
            ],
            mark=self.site.mark,
            base=os.environ,
        )
        # The child writes it, perhaps a moment after its parent has returned.
        wait_until(lambda: number_in(pid_file) is not None, "the daemon's pid", timeout_s=10)

    def is_settled(self, port: int) -> bool:
        """Whether it is healthy, or will never be. Its mark is not asked for: while a process turns
        into another program, its environment reads as empty."""
        pid = number_in(self.site.directory / "daemon.pid")
        return is_healthy(port) or pid is None or Process.of(pid) is None

    def forget(self) -> None:
        """Remove the context that speaks of this daemon: killed, it cannot do so itself."""
        path = context_path()
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(path.read_text(encoding="utf-8"))["url"] == self.url:
                path.unlink()
                path.parent.rmdir()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it has not ended after ten seconds."""
        process = self.process()
        if process and not end([process], signal.SIGTERM, timeout_s=GRACE_S):
            end([process], signal.SIGKILL, timeout_s=GRACE_S)

    def kill(self) -> None:
        """SIGKILL. `start` then starts it on the same port, configuration and data."""
        process = self.process()
        if process:
            end([process], signal.SIGKILL, timeout_s=GRACE_S)


def is_healthy(port: int) -> bool:
    """Whether a furlough daemon answers 200 there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        try:
            connection.request("GET", HEALTH)
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def number_in(path: Path) -> int | None:
    """The number a file holds, or None."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
