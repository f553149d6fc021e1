"""One daemon for all stories that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import httpx2
import pytest

from furlough.client import Client
from furlough.errors import Conflict
from furlough.sim.faults import Odds
from tests.api.running import Running, close_record, end, running


@pytest.fixture(scope="session")
def daemon() -> Iterator[Running]:
    with running() as daemon:
        yield daemon


@pytest.fixture
def http(daemon: Running) -> Iterator[httpx2.Client]:
    """Any client, with the right token."""
    with daemon.http() as http:
        yield http


@pytest.fixture
def client(daemon: Running) -> Iterator[Client]:
    """Our own client."""
    with daemon.client() as client:
        yield client


@pytest.fixture
def everything_as_before(daemon: Running, client: Client) -> Iterator[None]:
    """Each story leaves four available hosts behind, and nobody on record to come home."""
    yield
    daemon.faults.odds = Odds()
    for name in ("h1", "h2", "h3", "h4"):
        daemon.let_go(name)
    for operation in client.operations(active=True):
        with suppress(Conflict):  # It may have ended meanwhile.
            client.cancel(operation.id, "stop")
        end(client, operation.id)
    for host in client.hosts():
        if host.mode == "maintenance":
            end(client, client.ask("exit", [host.name], {}).id)
        elif host.mode == "cordoned":
            end(client, client.ask("uncordon", [host.name], {}).id)
        close_record(client, host.name)
    assert {host.mode.value for host in client.hosts()} == {"available"}
