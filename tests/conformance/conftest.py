"""The three stores: SQLite in memory, SQLite in a file, PostgreSQL; and the two grounds on which
stories about hypervisors are told."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from furlough.lab.lab import Lab
from furlough.ports import Store
from furlough.store.sql import SqlStore
from tests.conformance.builders import FLEET, SettableClock
from tests.conformance.hypervisors import OPTIONS, Teller, tell_on_simulator, teller_in
from tests.conformance.postgres import Missing, Server, running_server
from tests.lab.conftest import able as able  # noqa: PLC0414  # a fixture
from tests.lab.conftest import built

POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


def _do_without(obstacle: Missing) -> NoReturn:
    """Skip, with the reason, where no server can be; fail where one is required."""
    if os.environ.get("FURLOUGH_REQUIRE_POSTGRES") == "1":
        pytest.fail(f"FURLOUGH_REQUIRE_POSTGRES=1, and no PostgreSQL can be run: {obstacle}")
    # A machine without the server's programs has nothing to test.
    pytest.skip(f"no PostgreSQL can be run here: {obstacle}")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One PostgreSQL for the whole session."""
    try:
        with running_server() as server:
            yield server
    except Missing as obstacle:
        _do_without(obstacle)


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A PostgreSQL that a test may stop and start."""
    try:
        with running_server() as server:
            yield server
    except Missing as obstacle:
        _do_without(obstacle)


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """A PostgreSQL database that has the schema: to copy it is faster than to migrate."""
    name = server.fresh_database()
    store = SqlStore(server.url(name), SettableClock())
    asyncio.run(store.open())
    asyncio.run(store.close())
    return name


@pytest.fixture(scope="session")
def template_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file of SQLite."""
    path = tmp_path_factory.mktemp("template") / "furlough.db"
    store = SqlStore(f"sqlite:///{path}", SettableClock())
    asyncio.run(store.open())
    asyncio.run(store.close())
    return path


@pytest.fixture(params=["file", POSTGRES])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that outlives its store and that no store has ever opened."""
    if request.param == "file":
        return f"sqlite:///{tmp_path / 'furlough.db'}"
    server: Server = request.getfixturevalue("server")
    return server.url(server.fresh_database())


@pytest.fixture(params=["memory", "file", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database for one test, with the schema wherever that outlives a store."""
    if request.param == "memory":
        return "sqlite://"
    if request.param == "file":
        template_file: Path = request.getfixturevalue("template_file")
        return f"sqlite:///{shutil.copy(template_file, tmp_path)}"
    server: Server = request.getfixturevalue("server")
    return server.url(server.fresh_database(request.getfixturevalue("template")))


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def bare(url: str, clock: SettableClock) -> Iterator[Store]:
    """An open store in which nothing is enrolled."""
    store = SqlStore(url, clock)
    asyncio.run(store.open())
    yield store
    asyncio.run(store.close())


@pytest.fixture
def store(bare: Store) -> Store:
    """An open store with the fleet enrolled, all hosts available."""
    asyncio.run(bare.enrol(FLEET))
    return bare


@pytest.fixture
def embedded(clock: SettableClock) -> Iterator[Store]:
    """SQLite in memory, for stories that set the clock of leases: PostgreSQL has its own."""
    store = SqlStore("sqlite://", clock)
    asyncio.run(store.open())
    asyncio.run(store.enrol(FLEET))
    yield store
    asyncio.run(store.close())


@pytest.fixture
def second(url: str, store: Store) -> Iterator[Store]:
    """The same store as another process has it: on PostgreSQL with connections and a clock of its
    own. SQLite has no other process, so there it is `store` itself."""
    if not url.startswith("postgresql"):
        yield store
        return
    other = SqlStore(url, SettableClock())
    yield other
    asyncio.run(other.close())


@pytest.fixture(scope="package")
def conformance_lab(able: None) -> Iterator[Lab]:
    """Two hosts, two VMs, built once for all stories."""
    yield from built(f"conf{os.getpid()}", OPTIONS)


@pytest.fixture(params=["simulator", pytest.param("libvirt", marks=pytest.mark.lab)])
def tell(request: pytest.FixtureRequest) -> Teller:
    """Tells a story on one ground or the other."""
    if request.param == "simulator":
        return tell_on_simulator
    return teller_in(request.getfixturevalue("conformance_lab"))
