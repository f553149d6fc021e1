"""The stream of events: in order, nothing twice, nothing lost, and an end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, takewhile
from typing import Any

import httpx2
import pytest

from furlough.api.app import create_app
from furlough.client import Client, StreamEvent
from furlough.core.ids import OperationId
from furlough.core.journal import Entry
from furlough.scenario.stage import Setting, Stage, open_stage
from furlough.sim.clock import run_virtually
from tests.api.running import TOKEN, Running
from tests.engine.stories import enter

pytestmark = pytest.mark.usefixtures("everything_as_before")


def entries(events: Iterator[StreamEvent]) -> Iterator[tuple[int, str]]:
    """Sequence number and kind of the entries of a stream."""
    for event in events:
        if event.name == "entry":
            assert event.id is not None
            assert event.id == event.content["sequence"]
            yield event.id, event.content["kind"]


def journal(client: Client, which: str) -> list[tuple[int, str]]:
    return [(entry.sequence, entry.kind) for entry in client.journal(which)]


def newest(client: Client) -> int:
    """The number of the newest entry, where everything is over."""
    return journal(client, client.operations()[0].id)[-1][0]


def ended(client: Client, kind: str, host: str) -> str:
    """An operation, asked for and over."""
    which = client.ask(kind, [host], {}).id
    last = list(client.events(which))[-1]
    assert last.content["state"] == "succeeded"
    return which


def test_the_stream_of_an_operation_is_its_journal_and_ends_with_it(client: Client) -> None:
    which = client.ask("enter", ["h1"], {}).id
    seen = list(client.events(which, after=0))
    assert list(entries(iter(seen))) == journal(client, which)
    assert seen[-1].name == "operation"
    assert seen[-1].content["state"] == "succeeded"
    assert [event.content["state"] for event in seen if event.name == "operation"].count(
        "succeeded"
    ) == 1
    ended(client, "exit", "h1")


def test_the_state_of_an_operation_is_sent_when_it_has_changed_and_not_otherwise(
    client: Client,
) -> None:
    which = client.ask("enter", ["h2"], {}).id
    states = [event.content for event in client.events(which) if event.name == "operation"]
    assert len(states) > 3
    assert all(before != after for before, after in pairwise(states))
    assert states[-1]["progress_percent"] == 100
    ended(client, "exit", "h2")


@pytest.mark.parametrize("read", [1, 2, 5, 9])
def test_whoever_comes_back_with_the_last_id_misses_nothing_and_gets_nothing_twice(
    client: Client, read: int
) -> None:
    which = client.ask("enter", ["h3"], {}).id
    stream = client.events(which, after=0)
    first: list[tuple[int, str]] = []
    for one in entries(stream):
        first.append(one)
        if len(first) == read:
            break
    stream.close()  # type: ignore[attr-defined]  # a generator: the connection breaks here
    rest = list(entries(client.events(which, after=first[-1][0])))
    assert first + rest == journal(client, which)
    assert len(first + rest) > 9
    ended(client, "exit", "h3")


def test_a_stream_that_begins_when_all_is_over_gives_the_end_and_ends(client: Client) -> None:
    which = ended(client, "cordon", "h4")
    late = list(client.events(which))
    assert [event.name for event in late] == ["operation"]
    assert list(entries(client.events(which, after=0))) == journal(client, which)
    ended(client, "uncordon", "h4")


def test_the_stream_of_everything_is_every_journal_in_order(
    daemon: Running, client: Client
) -> None:
    ended(client, "cordon", "h4")
    known = newest(client)
    operations = [ended(client, "uncordon", "h4")]
    with (
        daemon.http() as http,
        http.stream("GET", "/events", headers={"Last-Event-ID": str(known)}) as stream,
    ):
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        assert stream.headers["Cache-Control"] == "no-store"
        operations += [ended(client, "cordon", "h4"), ended(client, "uncordon", "h4")]
        last = newest(client)
        ids = (int(line[3:]) for line in stream.iter_lines() if line.startswith("id:"))
        seen = [*takewhile(lambda number: number < last, ids), last]
    written = [sequence for which in operations for sequence, _ in journal(client, which)]
    assert seen == sorted(written)


def test_without_an_id_the_stream_begins_now(daemon: Running, client: Client) -> None:
    ended(client, "cordon", "h4")
    ended(client, "uncordon", "h4")
    known = newest(client)
    with daemon.http() as http, http.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        which = ended(client, "cordon", "h4")
        first = next(line for line in lines if line.startswith("id:"))
    assert int(first[3:]) > known
    assert int(first[3:]) == journal(client, which)[0][0]
    ended(client, "uncordon", "h4")


def test_a_stream_with_nothing_to_say_shows_that_it_lives(daemon: Running) -> None:
    with daemon.http() as http, http.stream("GET", "/events") as stream:
        assert next(stream.iter_lines()) == ": still here"


class _EndsBetweenLooks:
    """The service; but the operation ends right after all its entries seem to have been read."""

    def __init__(self, stage: Stage, which: OperationId) -> None:
        self._stage = stage
        self._which = which

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage.service, name)

    async def entries(self, after: int, limit: int) -> list[Entry]:
        found = list(await self._stage.service.entries(after, limit))
        if not found:
            await self._stage.until_final(self._which)
        return found


def test_an_end_that_comes_between_two_looks_is_not_cut_off() -> None:
    async def story() -> tuple[str, list[Entry]]:
        async with open_stage(Setting()) as stage:
            stage.add_vm(1, 1)
            await stage.start_controller()
            which = await enter(stage)
            service: Any = _EndsBetweenLooks(stage, which)
            transport = httpx2.ASGITransport(app=create_app(service, TOKEN))
            async with httpx2.AsyncClient(transport=transport, base_url="http://x") as http:
                answer = await http.get(
                    f"/api/v1/events?operation={which}",
                    headers={"Authorization": f"Bearer {TOKEN}", "Last-Event-ID": "0"},
                )
            return answer.text, list(await stage.service.journal(which))

    text, journal = run_virtually(story())
    ids = [int(line[3:]) for line in text.splitlines() if line.startswith("id:")]
    assert ids == [entry.sequence for entry in journal]
    assert '"kind":"operation_ended"' in text
