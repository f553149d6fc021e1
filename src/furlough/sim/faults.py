"""Seeded faults: what may go wrong with a call, with the cluster, and with ourselves.

Everything is drawn from one generator, so a seed gives the same run again.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar, cast

from furlough.core.ids import HostName
from furlough.errors import FurloughError, Refused, Unreachable
from furlough.sim.cluster import SimCluster

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Odds:
    """Per call: the chance that the request is lost on its way, that the reply is lost on its
    way back, that a migration is refused, that its finish answer is lost between the hosts.

    The others count only at the door (`sim.door`): that a call is slow, or is given up and has
    its effect later; that the hypervisor refuses any effect; that a transaction is lost, or is
    done and its outcome unknown, or is slow."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    refused: float = 0.0
    lost_finish: float = 0.0
    delayed: float = 0.0
    late: float = 0.0
    refused_effect: float = 0.0
    lost_write: float = 0.0
    lost_commit: float = 0.0
    slow_store: float = 0.0


@dataclass(kw_only=True)
class Faults:
    """Decides about each call. `fired` counts what was done, by name; `fired_in_flight` what of
    it was done while something was on its way, as `is_busy` tells. `at_the_door`: whether calls
    get lost is decided there, for all of them alike. `store_is_down`: it answers nobody."""

    random: Random
    odds: Odds = field(default_factory=Odds)
    fired: dict[str, int] = field(default_factory=dict)
    fired_in_flight: int = 0
    at_the_door: bool = False
    store_is_down: bool = False
    is_busy: Callable[[], bool] = lambda: False

    def happens(self, name: str) -> bool:
        """Whether this fault happens now."""
        if self.random.random() >= getattr(self.odds, name):
            return False
        self.count(name)
        return True

    def count(self, name: str) -> None:
        """One more of this fault."""
        self.fired[name] = self.fired.get(name, 0) + 1
        self.fired_in_flight += self.is_busy()

    def end(self) -> None:
        """From now on nothing goes wrong with a call any more."""
        self.odds, self.store_is_down = Odds(), False

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Carry out one call, or lose it before or after."""
        if self.at_the_door:
            return await work()
        if self.happens("lost_request"):
            raise Unreachable("hypervisor.lost", "The connection broke (before the call).")
        result = await work()
        if self.happens("lost_reply"):
            raise Unreachable("hypervisor.lost", "The connection broke (after the call).")
        return result

    def check_refusal(self) -> None:
        """Whether the target will not have it this time."""
        if self.happens("refused"):
            raise Refused("target.refused", "The target refused (a fault of the simulator).")


# --- accidents in the cluster ----------------------------------------------------------------


async def storm(cluster: SimCluster, faults: Faults, *, accidents: int, within_s: float) -> None:
    """So many accidents at random moments: dead daemons, cut links, slow links, crashed hosts.
    Each is mended after a while, so that operations can come to their end."""
    moments = sorted(faults.random.uniform(0.0, within_s) for _ in range(accidents))
    began = cluster.clock.monotonic()
    for moment in moments:
        await cluster.clock.sleep(max(0.0, began + moment - cluster.clock.monotonic()))
        host = faults.random.choice(sorted(cluster.hosts))
        kind = faults.random.choice(sorted(_ACCIDENTS))
        faults.count(kind)
        cluster.spawn(_ACCIDENTS[kind](cluster, host, faults.random.uniform(1.0, 60.0)))


async def _dead_daemon(cluster: SimCluster, host: HostName, for_s: float) -> None:
    cluster.kill_daemon(host)
    await cluster.clock.sleep(for_s)
    cluster.start_daemon(host)


async def _cut_off(cluster: SimCluster, host: HostName, for_s: float) -> None:
    cluster.hosts[host].is_reachable = False
    await cluster.clock.sleep(for_s)
    cluster.hosts[host].is_reachable = True


async def _slow_link(cluster: SimCluster, host: HostName, for_s: float) -> None:
    cluster.slow_down(host, factor=0.01)
    await cluster.clock.sleep(for_s)
    cluster.slow_down(host, factor=1.0)


async def _dead_host(cluster: SimCluster, host: HostName, for_s: float) -> None:
    cluster.crash(host)
    await cluster.clock.sleep(30.0 + for_s)
    cluster.boot(host)


_ACCIDENTS = {
    "dead_daemon": _dead_daemon,
    "cut_off": _cut_off,
    "slow_link": _slow_link,
    "dead_host": _dead_host,
}


# --- our own crash ---------------------------------------------------------------------------


class OwnProcess:
    """The controller's process, which may be killed at any of its calls to the outside.

    `kill_at`: the number of the moment (each call counts two: before and after) at which it dies;
    None: never. A dead process does nothing any more, not even tidy up.
    """

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.moments = 0
        self.trace: list[str] = []
        self.died = asyncio.Event()
        self.was_frozen = False
        self._is_awake = asyncio.Event()
        self._is_awake.set()

    def kill(self) -> None:
        """Now. A frozen one dies as well."""
        self.died.set()
        self.thaw()

    def freeze(self) -> None:
        """It stands still, wherever it is, and does not know it (SIGSTOP)."""
        self.was_frozen = True
        self._is_awake.clear()

    def thaw(self) -> None:
        """It goes on as if no time had passed."""
        self._is_awake.set()

    @property
    def is_frozen(self) -> bool:
        return not self._is_awake.is_set()

    async def awake(self) -> None:
        """Returns once the process is not frozen."""
        if not self._is_awake.is_set():
            await self._is_awake.wait()

    async def breathe(self, name: str) -> None:
        """One moment of life; never returns if it is the last one."""
        await self.awake()
        if self.died.is_set():
            raise Unreachable("process.dead", "This process is dead.")
        self.moments += 1
        self.trace.append(name)
        if self.moments == self.kill_at:
            self.kill()
            await asyncio.Event().wait()

    def guard(self, port: T, *, only: tuple[str, ...] = ()) -> T:
        """The same port, as this process sees it. `only`: the methods whose calls are moments."""
        return cast("T", _Mortal(port, self, only))


class _Mortal:
    """A port whose calls end with the process that makes them."""

    def __init__(self, port: object, process: OwnProcess, only: tuple[str, ...]) -> None:
        self._port = port
        self._process = process
        self._only = only

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if not inspect.iscoroutinefunction(method):
            return method
        counts = not self._only or name in self._only

        async def call(*arguments: Any, **named: Any) -> Any:
            process = self._process
            await process.awake()
            if process.died.is_set():
                raise Unreachable("process.dead", "This process is dead.")
            if counts:
                await process.breathe(f"before {name}")
            try:
                result = await method(*arguments, **named)
            finally:
                await process.awake()
            if counts:
                await process.breathe(f"after {name}")
            elif process.died.is_set():
                await asyncio.Event().wait()
            return result

        # The next call finds it without asking again what it is.
        setattr(self, name, call)
        return call


def repeated(port: T, names: tuple[str, ...]) -> T:
    """The same port, but every call of these methods is made twice: first its effect, then, as
    after a restart that knows of no outcome, once more. What the second one says is dropped."""
    return cast("T", _Repeated(port, names))


class _Repeated:
    def __init__(self, port: object, names: tuple[str, ...]) -> None:
        self._port = port
        self._names = names

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name not in self._names:
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            result = await method(*arguments, **named)
            with suppress(FurloughError):
                await method(*arguments, **named)
            return result

        return call
