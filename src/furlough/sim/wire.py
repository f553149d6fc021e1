"""Links: how fast memory moves between hosts when several migrations share their links.

Each host has one link, full duplex. A flow gets the smaller of its equal shares at both ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from furlough.core.ids import HostName
from furlough.ports import Clock

_NOTHING_MIB = 1e-6
_TRICKLE_MIB_S = 1e-9


@dataclass(eq=False)
class Flow:
    """Memory on its way from one host to another, in MiB."""

    source: HostName
    target: HostName
    remaining_mib: float = 0.0
    sent_mib: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Wire:
    """The links of all hosts. `capacity`: MiB/s per host, may change while flows are under way."""

    def __init__(self, clock: Clock, capacity: Mapping[HostName, float]) -> None:
        self._clock = clock
        self._capacity = dict(capacity)
        # In the order of their beginning: a set's order would differ from run to run.
        self._flows: dict[Flow, None] = {}

    def set_capacity(self, host: HostName, mib_s: float) -> None:
        """A link gets slower, faster, or (at 0) silent."""
        self._capacity[host] = mib_s
        self._wake()

    def rate(self, flow: Flow) -> float:
        """What a flow moves at this moment, in MiB/s."""
        leaving = sum(1 for other in self._flows if other.source == flow.source)
        arriving = sum(1 for other in self._flows if other.target == flow.target)
        return max(
            _TRICKLE_MIB_S,
            min(
                self._capacity[flow.source] / max(1, leaving),
                self._capacity[flow.target] / max(1, arriving),
            ),
        )

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
        rate, since = self.rate(flow), self._clock.monotonic()
        flow.changed.clear()
        try:
            async with asyncio.timeout(flow.remaining_mib / rate):
                await flow.changed.wait()
        except TimeoutError:
            moved = flow.remaining_mib
        else:
            moved = min(flow.remaining_mib, rate * (self._clock.monotonic() - since))
        flow.remaining_mib -= moved
        flow.sent_mib += moved

    def _wake(self) -> None:
        for flow in self._flows:
            flow.changed.set()
