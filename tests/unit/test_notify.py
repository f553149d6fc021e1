"""The bus: who listens is woken; who is slow is woken once and misses nothing."""

from __future__ import annotations

import asyncio

from furlough.notify import Bus
from furlough.sim.clock import run_virtually


def test_news_wakes_everybody_who_listens() -> None:
    async def story() -> None:
        bus = Bus()
        async with bus.listen() as one, bus.listen() as other:
            waiting = [asyncio.ensure_future(anext(news)) for news in (one, other)]
            await asyncio.sleep(1)
            assert not any(task.done() for task in waiting)
            bus.notify()
            await asyncio.gather(*waiting)

    run_virtually(story())


def test_several_news_while_nobody_looked_are_one() -> None:
    async def story() -> None:
        bus = Bus()
        async with bus.listen() as news:
            bus.notify()
            bus.notify()
            await anext(news)
            again = asyncio.ensure_future(anext(news))
            await asyncio.sleep(1)
            assert not again.done()
            bus.notify()
            await again

    run_virtually(story())


def test_whoever_has_stopped_listening_is_forgotten() -> None:
    async def story() -> None:
        bus = Bus()
        async with bus.listen():
            assert len(bus._listeners) == 1
        assert len(bus._listeners) == 0
        bus.notify()

    run_virtually(story())
