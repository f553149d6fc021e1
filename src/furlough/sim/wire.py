"""Links: how fast memory moves between hosts when several migrations share their links.

Each host has one link, full duplex. What a flow is not limited to by itself it shares evenly with
the others at the narrower of its ends; what one cannot use is the others'.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from furlough.core.ids import HostName
from furlough.ports import Clock

_NOTHING_MIB = 1e-6
_TRICKLE_MIB_S = 1e-9


@dataclass(eq=False)
class Flow:
    """Memory on its way from one host to another, in MiB. `limit_mib_s`: what it was told to send
    at most; `stream_mib_s`: what it can send at most however wide the links are."""

    source: HostName
    target: HostName
    remaining_mib: float = 0.0
    sent_mib: float = 0.0
    limit_mib_s: float = math.inf
    stream_mib_s: float = math.inf
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    moves_mib_s: float = 0.0
    since_s: float = 0.0

    @property
    def most_mib_s(self) -> float:
        return min(self.limit_mib_s, self.stream_mib_s)


class Wire:
    """The links of all hosts. `capacity`: MiB/s per host, may change while flows are under way."""

    def __init__(self, clock: Clock, capacity: Mapping[HostName, float]) -> None:
        self._clock = clock
        self._capacity = dict(capacity)
        # In the order of their beginning: a set's order would differ from run to run.
        self._flows: dict[Flow, None] = {}
        self._rates: dict[Flow, float] | None = None

    def set_capacity(self, host: HostName, mib_s: float) -> None:
        """A link gets slower, faster, or (at 0) silent."""
        self._capacity[host] = mib_s
        self._wake()

    def carries(self, source: HostName, target: HostName) -> bool:
        """Whether anything gets from one host to the other."""
        return self._capacity[source] > 0 and self._capacity[target] > 0

    def set_limit(self, flow: Flow, mib_s: float) -> None:
        """From now on a flow sends no more than this."""
        flow.limit_mib_s = mib_s
        self._wake()

    def rate(self, flow: Flow) -> float:
        """What a flow moves at this moment, or would if it began now, in MiB/s."""
        if flow not in self._flows:
            return max(_TRICKLE_MIB_S, self._shares([*self._flows, flow])[flow])
        if self._rates is None:
            self._rates = self._shares(self._flows)
        return max(_TRICKLE_MIB_S, self._rates[flow])

    def moved(self, flow: Flow) -> float:
        """What has gone since the books of a flow were last made, in MiB."""
        moved = flow.moves_mib_s * (self._clock.monotonic() - flow.since_s)
        return min(flow.remaining_mib, moved) if flow in self._flows else 0.0

    def _shares(self, flows: Iterable[Flow]) -> dict[Flow, float]:
        """Fill all flows evenly, until each is at its own limit or a link of its is full."""
        rates = dict.fromkeys(flows, 0.0)
        open_flows = list(rates)
        free_out, free_into = dict(self._capacity), dict(self._capacity)
        while open_flows:
            out: dict[HostName, int] = {}
            into: dict[HostName, int] = {}
            for one in open_flows:
                out[one.source] = out.get(one.source, 0) + 1
                into[one.target] = into.get(one.target, 0) + 1
            room = {
                one: min(
                    free_out[one.source] / out[one.source],
                    free_into[one.target] / into[one.target],
                    one.most_mib_s - rates[one],
                )
                for one in open_flows
            }
            more = max(0.0, min(room.values()))
            for one in open_flows:
                rates[one] += more
                free_out[one.source] -= more
                free_into[one.target] -= more
            open_flows = [one for one in open_flows if room[one] > more + _NOTHING_MIB]
        return rates

    async def send(self, flow: Flow, mib: float) -> float:
        """Move this much; returns the seconds it took."""
        began = self._clock.monotonic()
        flow.remaining_mib = mib
        self._flows[flow] = None
        self._wake()
        try:
            while flow.remaining_mib > _NOTHING_MIB:
                await self._move(flow)
        finally:
            self._flows.pop(flow, None)
            self._wake()
        return self._clock.monotonic() - began

    async def _move(self, flow: Flow) -> None:
        """Until the flow is through or the rates change."""
        rate = flow.moves_mib_s = self.rate(flow)
        flow.since_s = self._clock.monotonic()
        flow.changed.clear()
        moved = 0.0
        try:
            async with asyncio.timeout(flow.remaining_mib / rate):
                await flow.changed.wait()
        except TimeoutError:
            moved = flow.remaining_mib
        finally:
            # Also where the sender was told to do something else.
            moved = moved or self.moved(flow)
            flow.remaining_mib -= moved
            flow.sent_mib += moved
            flow.moves_mib_s = 0.0

    def _wake(self) -> None:
        self._rates = None
        for flow in self._flows:
            flow.changed.set()
