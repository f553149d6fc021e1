"""How much one caller may ask, and that it is the caller alone who feels it (SEC-23, F121)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack

import httpx2
import pytest
from starlette.types import Message

from furlough.api.app import create_app
from furlough.api.events import EventStream
from furlough.api.limits import Limiter, Limits
from furlough.core.access import Principal, PrincipalKind
from furlough.daemon import compose
from furlough.errors import Throttled
from furlough.sim.clock import VirtualClock, run_virtually
from furlough.sim.fleet import make_fleet
from furlough.sim.hypervisor import SimHypervisor
from furlough.store.sql import SqlStore
from tests.api.running import TOKEN, Running
from tests.api.test_problems import check_problem

ALICE = Principal(name="alice", kind=PrincipalKind.SESSION)
BOB = Principal(name="bob", kind=PrincipalKind.SESSION)
LIMITS = Limits(requests_per_s=10, burst=20, strangers_per_s=1, strangers_burst=5, streams=2)


def admitted(
    limiter: Limiter, who: Principal | None, address: str, now_s: float, tries: int
) -> int:
    """How many of so many requests are let through at one instant."""
    count = 0
    for _ in range(tries):
        try:
            limiter.admit(who, address, now_s)
        except Throttled:
            continue
        count += 1
    return count


def test_a_burst_is_let_through_and_then_so_many_in_a_second() -> None:
    limiter = Limiter(LIMITS)
    assert admitted(limiter, ALICE, "x", 0.0, 100) == 20
    assert admitted(limiter, ALICE, "x", 0.5, 100) == 5
    assert admitted(limiter, ALICE, "x", 1000.0, 100) == 20


def test_one_caller_costs_another_nothing() -> None:
    limiter = Limiter(LIMITS)
    admitted(limiter, ALICE, "x", 0.0, 1000)
    assert admitted(limiter, BOB, "x", 0.0, 20) == 20
    assert admitted(limiter, None, "x", 0.0, 100) == 5
    assert admitted(limiter, None, "y", 0.0, 100) == 5


def test_the_wait_that_is_named_is_long_enough() -> None:
    limiter = Limiter(LIMITS)
    admitted(limiter, ALICE, "x", 0.0, 20)
    with pytest.raises(Throttled) as refusal:
        limiter.admit(ALICE, "x", 0.0)
    wait_s = refusal.value.facts["retry_after_s"]
    assert isinstance(wait_s, float)
    limiter.admit(ALICE, "x", wait_s)


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    limiter = Limiter(LIMITS)
    for number in range(30_000):
        limiter.admit(None, str(number), 0.0)
    assert len(limiter._buckets) <= 10_000


def test_streams_are_counted_while_they_are_open() -> None:
    limiter = Limiter(LIMITS)
    with ExitStack() as open_ones:
        for _ in range(2):
            open_ones.enter_context(limiter.stream(ALICE))
        with pytest.raises(Throttled), limiter.stream(ALICE):
            pass
        with limiter.stream(BOB):
            pass
    with limiter.stream(ALICE):
        pass


async def _asked(limits: Limits, count: int) -> AsyncIterator[httpx2.Response]:
    """So many requests at one instant, of an application with these limits."""
    clock = VirtualClock()
    cluster, enrolment = make_fleet(clock)
    store = SqlStore("sqlite://", clock)
    await store.open()
    await store.enrol(enrolment)
    controller = await compose(SimHypervisor(cluster), store, clock)
    app = create_app(controller.service, TOKEN, limits)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://furlough") as http:
        for _ in range(count):
            headers = {"Authorization": f"Bearer {TOKEN}"}
            yield await http.get("/api/v1/clusters", headers=headers)
    await store.close()


def test_one_request_too_many_is_429_with_the_time_to_wait() -> None:
    async def told() -> list[httpx2.Response]:
        limits = Limits(requests_per_s=0.001, burst=3)
        return [one async for one in _asked(limits, 5)]

    answers = asyncio.run(told())
    assert [one.status_code for one in answers] == [200, 200, 200, 429, 429]
    problem = check_problem(answers[-1], 429, "requests.too_many")
    assert problem["kind"] == "throttled"
    assert int(answers[-1].headers["Retry-After"]) > 100
    assert answers[-1].headers["X-Request-Id"]


def test_a_reader_of_events_who_takes_nothing_is_dropped_and_its_place_is_free() -> None:
    limiter = Limiter(LIMITS)
    taken: list[int] = []

    async def endless() -> AsyncIterator[str]:
        while True:
            yield "data: 1\n\n"

    async def unread(message: Message) -> None:
        """A connection whose buffers are full after ten messages."""
        taken.append(len(message.get("body", b"")))
        if len(taken) > 10:
            await asyncio.Event().wait()

    async def silent() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def told() -> float:
        clock = VirtualClock()
        stream = EventStream(endless(), lambda: limiter.stream(ALICE))
        began_s = clock.monotonic()
        await stream({"type": "http", "asgi": {"spec_version": "2.4"}}, silent, unread)
        return clock.monotonic() - began_s

    assert 59 <= run_virtually(told()) <= 61
    assert len(taken) == 11
    assert limiter._streams["alice"] == 0


def test_a_client_that_has_seen_what_is_not_there_is_told_the_gap(daemon: Running) -> None:
    """The database was restored, or made anew (F129)."""
    with (
        daemon.http() as http,
        http.stream("GET", "/events", headers={"Last-Event-ID": "999999"}) as answer,
    ):
        lines = answer.iter_lines()
        assert next(lines) == "event: gap"
        assert '"after": 999999' in next(lines)
