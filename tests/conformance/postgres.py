"""A PostgreSQL server of the tests' own: made in a temporary directory, gone with it.

It listens only on a Unix socket in that directory and runs as the user `postgres` where we are
root, since it refuses to run as root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import psycopg

_INSTALLED = Path("/usr/lib/postgresql")
_USER = "postgres"
_READY_WITHIN_S = 30
_READY = "database system is ready to accept connections"


class Missing(Exception):
    """What keeps us from running a server here, in words."""


class Server:
    """One server. `directory` belongs to the user that runs it."""

    def __init__(self, directory: Path, programs: Path, as_user: list[str]) -> None:
        self.log: list[str] = []
        self._directory = directory
        self._programs = programs
        self._as_user = as_user
        self._process: subprocess.Popen[str] | None = None
        self._databases = 0

    def prepare(self) -> None:
        """Make the cluster of databases; trust whoever can reach the directory."""
        initdb = [str(self._programs / "initdb"), "--auth=trust", f"--username={_USER}"]
        options = ["--encoding=UTF8", "--locale=C", "--no-sync", str(self._data)]
        subprocess.run(
            [*self._as_user, *initdb, *options],
            check=True,
            cwd=self._directory,
            capture_output=True,
        )

    def start(self) -> None:
        """Returns when it takes connections."""
        ready = Event()
        options = ["-D", str(self._data), "-k", str(self._directory), "-c", "listen_addresses="]
        process = subprocess.Popen(
            [*self._as_user, str(self._programs / "postgres"), *options],
            cwd=self._directory,
            env={**os.environ, "LC_ALL": "C"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._process = process

        def follow() -> None:
            for line in process.stdout or ():
                self.log.append(line)
                if _READY in line:
                    ready.set()

        self._reader = Thread(target=follow, daemon=True)
        self._reader.start()
        if not ready.wait(_READY_WITHIN_S):
            self.stop(signal.SIGQUIT)
            raise RuntimeError(f"PostgreSQL did not start: {''.join(self.log[-20:])}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: in good order. SIGQUIT: at once, as if it had crashed."""
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(timeout=30)
        self._reader.join(timeout=30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def fresh_database(self, template: str = "template1") -> str:
        """The name of a new database, a copy of `template`."""
        self._databases += 1
        name = f"test_{self._databases}"
        self._command(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, database: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self._command(f"DROP DATABASE {database} WITH (FORCE)")

    def url(self, database: str) -> str:
        """SQLAlchemy's address of a database."""
        return f"postgresql+psycopg://{_USER}@/{database}?host={self._directory}"

    def _command(self, statement: str) -> None:
        address = f"host={self._directory} user={_USER} dbname=postgres"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement.encode())

    @property
    def _data(self) -> Path:
        return self._directory / "data"


@contextmanager
def running_server() -> Iterator[Server]:
    """A server that runs meanwhile. `Missing` where none can."""
    programs, as_user = _programs(), _as_user()
    # Not below pytest's own directory: nobody but us may enter that one.
    directory = Path(tempfile.mkdtemp(prefix="furlough-pg-"))
    server = Server(directory, programs, as_user)
    try:
        if as_user:
            shutil.chown(directory, _USER, _USER)
        server.prepare()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(directory)


def _programs() -> Path:
    """The newest installed server's programs."""
    found = [path.parent for path in _INSTALLED.glob("*/bin/initdb")]
    if not found:
        raise Missing(f"no PostgreSQL server is installed below {_INSTALLED}")
    return max(found, key=lambda path: int(path.parent.name))


def _as_user() -> list[str]:
    """What to put before a command so that it does not run as root, and dies with us."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Missing("setpriv (util-linux) is not installed")
    if os.geteuid() != 0:
        raise Missing("we are not root, so the server cannot have a user of its own")
    try:
        pwd.getpwnam(_USER)
    except KeyError as error:
        raise Missing(f"there is no user {_USER!r} to run the server") from error
    user = [f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"]
    return [setpriv, *user, "--pdeathsig", "INT", "--"]
