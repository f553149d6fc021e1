"""The door between a process and the outside: whatever passes it may be lost, late or refused.

Every call of either port is a draw. What happens to it follows the three outcomes of a call:

    refused    nothing happened, and that is certain
    lost       the request never arrived, or the reply never came back
    late       it was given up, and has its effect a while later all the same
    slow       it takes its time
    down       the store answers nobody for a while, with its outcomes known: nothing is done

So no code path may believe in an error, or in the absence of an answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

from furlough.core.ids import HostName, VmId
from furlough.core.looks import Look, Presence
from furlough.errors import FurloughError, Refused, Unreachable
from furlough.ports import Clock, Hypervisor, Store
from furlough.sim.cluster import SimCluster
from furlough.sim.faults import Faults

LOOKS = frozenset({"observe", "probe", "misfits", "dirty_rates", "occupancy", "progress"})
_OURSELVES = frozenset({"enrol", "close"})
_SLOWEST_S, _LATEST_S, _SLOWEST_COMMIT_S = 6.0, 10.0, 5.0
_NO_TRANSACTION = frozenset({"open", "close"})
_READS = frozenset(
    {
        "controller_id", "enrolment", "standings", "reservations", "away", "remedies",
        "repeat_of", "operation", "operations", "journal", "entries", "last_sequence",
        "host_notes", "open_notes", "link_speeds",
    }
)  # fmt: skip


def shaken_hypervisor(port: Hypervisor, cluster: SimCluster, faults: Faults) -> Hypervisor:
    """The same port, and every call through it may go wrong."""
    faults.at_the_door = True
    return cast("Hypervisor", _HypervisorDoor(port, cluster, faults))


def shaken_store(port: Store, clock: Clock, faults: Faults) -> Store:
    """The same store, and every transaction may go wrong."""
    return cast("Store", _StoreDoor(port, clock, faults))


class _HypervisorDoor:
    def __init__(self, port: Hypervisor, cluster: SimCluster, faults: Faults) -> None:
        self._port = port
        self._cluster = cluster
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name in _OURSELVES or not inspect.iscoroutinefunction(method):
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._pass(name, lambda: method(*arguments, **named))

        setattr(self, name, call)
        return call

    async def look(self, host: HostName, vm: VmId) -> Look:
        """A look never raises: what gets lost is a silent host."""
        try:
            return cast("Look", await self._pass("observe", lambda: self._port.look(host, vm)))
        except Unreachable:
            return Look(host=host, at=self._now(), presence=Presence.SILENT)

    def _now(self) -> datetime:
        return self._cluster.clock.now()

    async def _pass(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        faults, clock = self._faults, self._cluster.clock
        if faults.happens("delayed"):
            await clock.sleep(faults.random.uniform(0.1, _SLOWEST_S))
        if faults.happens("lost_request"):
            raise Unreachable("hypervisor.lost", "The connection broke (before the call).")
        if name not in LOOKS:
            if faults.happens("refused_effect"):
                raise Refused("hypervisor.failed", "It refused (a fault of the simulator).")
            if faults.happens("late"):
                self._cluster.spawn(self._later(work))
                raise Unreachable("hypervisor.lost", "The call was given up (a fault).")
        result = await work()
        if faults.happens("lost_reply"):
            raise Unreachable("hypervisor.lost", "The connection broke (after the call).")
        return result

    async def _later(self, work: Callable[[], Awaitable[Any]]) -> None:
        await self._cluster.clock.sleep(self._faults.random.uniform(0.1, _LATEST_S))
        with suppress(FurloughError):
            await work()


class _StoreDoor:
    def __init__(self, port: Store, clock: Clock, faults: Faults) -> None:
        self._port = port
        self._clock = clock
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name in _NO_TRANSACTION or not inspect.iscoroutinefunction(method):
            return method
        call = self._read(method) if name in _READS else self._write(method)
        setattr(self, name, call)
        return call

    def _read(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def read(*arguments: Any, **named: Any) -> Any:
            self._check_up()
            return await method(*arguments, **named)

        return read

    def _write(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def write(*arguments: Any, **named: Any) -> Any:
            self._check_up()
            if self._faults.happens("slow_store"):
                await self._clock.sleep(self._faults.random.uniform(0.1, _SLOWEST_COMMIT_S))
                self._check_up()
            if self._faults.happens("lost_write"):
                raise _no_answer("before the commit")
            result = await method(*arguments, **named)
            if self._faults.happens("lost_commit"):
                raise _no_answer("after the commit")
            return result

        return write

    def _check_up(self) -> None:
        if self._faults.store_is_down:
            raise _no_answer("it is down")


def _no_answer(words: str) -> Unreachable:
    return Unreachable("store.unavailable", f"The database did not answer ({words}).")
