"""Connections and threads: one writer at a time, reads beside it, never on the event loop.

Blocking database work runs in threads of its own: one for writes, two for reads. In the simulator
it runs inline, so that virtual time stays deterministic. A write is one transaction that holds the
gate: SQLite's write lock, or on PostgreSQL the lock of one row, so that limits across operations
are counted exactly and events become visible in the order of their numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool, StaticPool

from furlough.errors import Conflict, Invalid, Unreachable
from furlough.store import tables

T = TypeVar("T")
_COMPILED: dict[object, object] = {}
_READERS = 2
_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "ceph", "glusterfs")
_POSTGRES_OPTIONS = (
    "-c idle_in_transaction_session_timeout=2s -c statement_timeout=10s -c lock_timeout=5s"
)


class Database:
    """One database. `url` is SQLAlchemy's; `sqlite://` is one in memory."""

    def __init__(self, url: str) -> None:
        self.is_postgres = url.startswith("postgresql")
        self._writer: Engine
        self._reader: Engine
        self._inline = url == "sqlite://"
        if self.is_postgres:
            self._writer = _postgres_engine(url)
            self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ")
        elif url == "sqlite://":
            self._writer = self._reader = _sqlite_engine(url, begin="BEGIN")
        else:
            self._writer = _sqlite_engine(url, begin="BEGIN IMMEDIATE")
            self._reader = _sqlite_engine(url, begin="BEGIN")
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._read_threads = ThreadPoolExecutor(_READERS, thread_name_prefix="store-read")

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction behind the gate. Raises `Unreachable` where the database
        does not answer; then the outcome is unknown, as always."""
        return await self._run(self._write_thread, lambda: self._transact(work))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a consistent view, beside the writer."""
        return await self._run(self._read_threads, lambda: _guarded(self._reader, work))

    async def prepare(self, work: Callable[[Engine], T]) -> T:
        """Run `work` on the engine itself, for migrations."""

        def translated() -> T:
            with _our_errors():
                return work(self._writer)

        return await self._run(self._write_thread, translated)

    async def close(self) -> None:
        """End threads and connections; waits for a write that is under way."""
        self._write_thread.shutdown(wait=True)
        self._read_threads.shutdown(wait=True)
        self._writer.dispose()
        self._reader.dispose()

    def _transact(self, work: Callable[[Connection], T]) -> T:
        if not self.is_postgres:
            return _guarded(self._writer, work)

        def behind_gate(connection: Connection) -> T:
            gate = select(tables.setting.c.value).where(tables.setting.c.name == "gate")
            connection.execute(gate.with_for_update())
            return work(connection)

        return _guarded(self._writer, behind_gate)

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._inline:
            return work()
        return await asyncio.get_running_loop().run_in_executor(threads, work)


def _guarded(engine: Engine, work: Callable[[Connection], T]) -> T:
    """One transaction."""
    with _our_errors(), engine.begin() as connection:
        return work(connection)


@contextmanager
def _our_errors() -> Iterator[None]:
    """The database's own errors become ours."""
    try:
        yield
    except IntegrityError as error:
        raise Conflict(
            "store.conflict",
            f"Another request was first: {error.orig}.",
            remedy="Look at the present state and try again.",
        ) from error
    except DBAPIError as error:
        raise Unreachable(
            "store.unavailable",
            f"The database does not answer as it should: {error.orig}.",
            remedy="Look at the database, its disk and the way to it.",
        ) from error


def _sqlite_engine(url: str, *, begin: str) -> Engine:
    pool = StaticPool if url == "sqlite://" else QueuePool
    engine = create_engine(url, poolclass=pool, connect_args={"check_same_thread": False})
    if url == "sqlite://":
        # Simulations open thousands of these: statements are compiled for the first of them.
        engine = engine.execution_options(compiled_cache=_COMPILED)

    def configure(connection: object, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # sqlite3: we begin
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "busy_timeout=30000",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", start)
    return engine


def _postgres_engine(url: str) -> Engine:
    return create_engine(
        url,
        pool_size=1 + _READERS,
        pool_pre_ping=True,
        connect_args={
            "options": _POSTGRES_OPTIONS,
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        },
    )


def sqlite_url(directory: Path) -> str:
    """The URL of the embedded database in a data directory. `Invalid` on a network file system,
    where SQLite's locks and its durability do not hold."""
    kind = _file_system_of(directory)
    if kind.startswith(_NETWORK_FILE_SYSTEMS):
        raise Invalid(
            "store.network_file_system",
            f"{directory} lies on {kind}; an embedded database may not.",
            remedy="Choose a data directory on a local disk, or use PostgreSQL.",
        )
    return f"sqlite:///{directory / 'furlough.db'}"


def _file_system_of(directory: Path) -> str:
    """The type of the file system that holds a directory, by the longest mount point above it."""
    best, kind = "", ""
    resolved = str(directory.resolve())
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        mount, fs_type = line.split()[1:3]
        below = resolved == mount or resolved.startswith(mount.rstrip("/") + "/")
        if below and len(mount) >= len(best):
            best, kind = mount, fs_type
    return kind
