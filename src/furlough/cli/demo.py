"""`furlough demo`: the whole journey on a simulated cluster, through the same daemon, API and
commands as on real hosts."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from furlough.cli import following, reports
from furlough.cli.output import DONE, FAILED, say
from furlough.client import Client
from furlough.clock import pause
from furlough.context import Context, forget_context, save_context
from furlough.errors import Bug, Unreachable
from furlough.wire.operations import OperationView

HOST = "h1"
_START_WITHIN_S = 20.0
_STOP_WITHIN_S = 10.0


def run_demo(*, stay: bool) -> int:
    """The journey; the exit code says whether all of it went well."""
    password = secrets.token_urlsafe(12)
    with (
        tempfile.TemporaryDirectory(prefix="furlough-demo-") as directory,
        simulated_daemon(Path(directory), password) as context,
        Client(context) as client,
    ):
        say(f"A simulated cluster of 4 hosts and 24 VMs, served at {context.url}")
        ends = _journey(client)
        say()
        say("The same with real hosts and real QEMU guests, as root:  make lab")
        say("Your own hosts:  docs/tutorial.md")
        if stay:
            save_context(context)
            say("Staying until Ctrl-C. In another terminal:  furlough host list")
            say(f"In a browser:  {context.url}  (user admin, password {password})")
            with suppress(KeyboardInterrupt):
                signal.pause()
            forget_context(context)
    return DONE if all(end.state == "succeeded" for end in ends) else FAILED


def _journey(client: Client) -> list[OperationView]:
    _heading(f"furlough check {HOST}")
    reports.print_reports(client.check([HOST], {}))
    _heading(f"furlough enter {HOST} --wait")
    entered = _see_through(client, client.ask("enter", [HOST], {"reason": "demo"}))
    _heading("furlough host list")
    for host in client.hosts():
        say(f"  {host.name}: {host.mode.value}, {host.vms_running} VMs running")
    _heading(f"furlough exit {HOST} --restore recorded --wait")
    exited = _see_through(client, client.ask("exit", [HOST], {"restore": "recorded"}))
    return [entered, exited]


def _see_through(client: Client, operation: OperationView) -> OperationView:
    following.follow(client, operation.id)
    final = client.operation(operation.id)
    following.print_end(final)
    return final


def _heading(text: str) -> None:
    say()
    say(f"$ {text}")


@contextmanager
def simulated_daemon(directory: Path, password: str) -> Iterator[Context]:
    """A daemon of our own in a process of its own, stopped at the end. It writes its context into
    a directory of its own as well, so that the user's stays as it is. `password`: that of its user
    admin."""
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(directory / "config"),
        "FURLOUGH_ADMIN_PASSWORD": password,
    }
    command = [
        sys.executable, "-m", "furlough", "serve", "--simulate",
        "--listen", "127.0.0.1:0", "--data-dir", str(directory / "data"),
    ]  # fmt: skip
    with (directory / "log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            yield _wait_for(process, directory)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(process: subprocess.Popen[str], directory: Path) -> Context:
    """The context that the daemon writes once it listens."""
    path = directory / "config" / "furlough" / "context.json"
    waited_s = 0.0
    while waited_s < _START_WITHIN_S:
        if process.poll() is not None:
            break
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            context = Context(url=known["url"], token=known["token"])
            with suppress(Unreachable), Client(context) as client:
                client.health()
                return context
        pause(0.05)
        waited_s += 0.05
    log = (directory / "log").read_text(encoding="utf-8")
    raise Bug("demo.no_daemon", f"The daemon did not start: {log[-2000:]}")
