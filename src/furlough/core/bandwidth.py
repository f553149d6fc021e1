"""Who has the links: strict priority among the migrations in flight.

A link that several copying VMs share makes each of them write its pages again while it waits for
its part. So whoever began first copies as fast as its links allow; the next one gets what that
leaves, and at least a trickle, so that it is connected and set up when its turn comes:

    leader    ──────────────── copies ───────────────►│ CPUs stop │ finish
    shadow                          set up ── trickle ► copies ──────────────►

As many lead on a link as fill it, and the next one is begun when its turn is near: what its guest
writes while it waits is sent again. Pure: the engine asks after every change and carries it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from furlough.core.ids import HostName, VmId

# As fast as it can.
NO_LIMIT = 0
# The least that hypervisors count in.
TRICKLE_MIB_S = 1
# What one stream of memory moves however wide its link (one sending thread, a common processor),
# and what several do together.
STREAM_MIB_S = 1100.0
_STREAMS_MIB_S = 3000.0
# Below this, one stream is through within a second.
_LARGE_MIB = 1024
_MOST_CONNECTIONS = 8
# Of what it could have: with this much it is not slowed down.
_NEARLY = 0.95
_HARDLY = 0.05
# A migration is begun so long before its turn as the last ones took to be set up, and this: until
# it is noticed that its turn is near, both hosts have been looked at, and the intent is written.
_NOTICE_S = 0.5
_MOST_SET_UP_S = 5.0
# Ends so close to each other count as one moment.
_MOMENT_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A migration in flight. `stream_mib_s`: what it can move however wide its links are;
    `is_past`: its VM's CPUs have stopped on the source, so that only the last bytes are left;
    `left_mib`: what it has to send yet at least, as far as that is known."""

    vm: VmId
    source: HostName
    target: HostName
    left_mib: float = math.inf
    stream_mib_s: float = STREAM_MIB_S
    is_past: bool = False

    def most_mib_s(self, link_mib_s: Mapping[HostName, float]) -> float:
        """What it moves if it has its links for itself."""
        return min(link_mib_s[self.source], link_mib_s[self.target], self.stream_mib_s)


def speeds(flows: Sequence[Flow], link_mib_s: Mapping[HostName, float]) -> Mapping[VmId, int]:
    """What each of these may send, in MiB/s; `NO_LIMIT` for who leads. They are in the order in
    which they began; `link_mib_s`: what the link of each host carries, each way."""
    rates = _rates(flows, link_mib_s)
    found = {}
    for flow in flows:
        rate = rates.get(flow.vm, math.inf)
        is_leader = rate >= _NEARLY * flow.most_mib_s(link_mib_s)
        found[flow.vm] = NO_LIMIT if is_leader else max(TRICKLE_MIB_S, int(rate))
    return found


def _rates(flows: Sequence[Flow], link_mib_s: Mapping[HostName, float]) -> dict[VmId, float]:
    """What the links have for each of these that still copies, one after the other."""
    free_out, free_into = dict(link_mib_s), dict(link_mib_s)
    rates = {}
    for flow in flows:
        if not flow.is_past:
            most = flow.most_mib_s(link_mib_s)
            rate = min(free_out[flow.source], free_into[flow.target], most)
            free_out[flow.source] -= rate
            free_into[flow.target] -= rate
            rates[flow.vm] = rate
    return rates


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What the links will have for others in a moment, MiB/s each way: once those are through that
    soon will be, and the next ones copy."""

    link_mib_s: Mapping[HostName, float]
    free_out: Mapping[HostName, float]
    free_into: Mapping[HostName, float]

    def has_use_for(self, flow: Flow) -> bool:
        """Whether one more migration will copy; else it would only wait, and write its pages
        again. Links that nobody knows are free."""
        if not self._knows(flow):
            return True
        rate = min(self.free_out[flow.source], self.free_into[flow.target])
        return rate >= _HARDLY * flow.most_mib_s(self.link_mib_s)

    def is_held_up(self, flow: Flow) -> bool:
        """Whether what others send to its target slows it down: another VM of its source might
        make more of the link."""
        if not self._knows(flow):
            return False
        wanted = min(self.free_out[flow.source], flow.most_mib_s(self.link_mib_s))
        return self.free_into[flow.target] < _NEARLY * wanted

    def _knows(self, flow: Flow) -> bool:
        return {flow.source, flow.target} <= self.link_mib_s.keys()


def outlook(
    flows: Sequence[Flow], link_mib_s: Mapping[HostName, float], set_up_s: float
) -> Outlook:
    """What the links will have once it is the turn of whoever begins now, beside these, and is
    set up in so many seconds."""
    copying = {flow: flow.left_mib for flow in flows if not flow.is_past}
    left_s = _lead_s(set_up_s)
    while True:
        rates = _rates([*copying], link_mib_s)
        ends_s = [left / rates[flow.vm] for flow, left in copying.items() if rates[flow.vm] > 0]
        next_s = max(_MOMENT_S, min(ends_s, default=math.inf))
        if next_s > left_s:
            return _free(copying, rates, link_mib_s)
        left_s -= next_s
        after = {flow: left - next_s * rates[flow.vm] for flow, left in copying.items()}
        copying = {flow: left for flow, left in after.items() if left > 0}


def _free(
    flows: Iterable[Flow], rates: Mapping[VmId, float], link_mib_s: Mapping[HostName, float]
) -> Outlook:
    out, into = dict(link_mib_s), dict(link_mib_s)
    for flow in flows:
        out[flow.source] -= rates[flow.vm]
        into[flow.target] -= rates[flow.vm]
    return Outlook(link_mib_s=link_mib_s, free_out=out, free_into=into)


def is_near_its_end(flow: Flow, link_mib_s: Mapping[HostName, float], set_up_s: float) -> bool:
    """Whether it may be through so soon that the next one is to be begun."""
    return flow.left_mib <= _lead_s(set_up_s) * flow.most_mib_s(link_mib_s)


def _lead_s(set_up_s: float) -> float:
    return _NOTICE_S + min(set_up_s, _MOST_SET_UP_S)


def connections(
    memory_mib: int, source_mib_s: float, target_mib_s: float, *, may_post_copy: bool
) -> int:
    """Over how many connections a VM is sent; 0: over one, as usual. Several pay where the
    links carry more than one stream moves, but for the smallest; they exclude post-copy."""
    link = min(source_mib_s, target_mib_s)
    if may_post_copy or memory_mib < _LARGE_MIB or link <= STREAM_MIB_S:
        return 0
    return min(_MOST_CONNECTIONS, math.ceil(link / STREAM_MIB_S))


def stream_mib_s(over: int) -> float:
    """What a migration over so many connections moves at most."""
    return STREAM_MIB_S if over < 2 else min(_STREAMS_MIB_S, over * STREAM_MIB_S)
