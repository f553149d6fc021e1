"""Who has the links: strict priority among the migrations in flight.

A link that several copying VMs share makes each of them write its pages again while it waits for
its part. So whoever began first copies as fast as its links allow; the next one gets what that
leaves, and at least a trickle, so that it is connected and set up when its turn comes:

    leader    ──────────────── copies ───────────────►│ CPUs stop │ finish
    shadow           set up ── trickle ───────────────► copies ──────────────►

As many lead on a link as fill it. Pure: the engine asks after every change and carries it out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
# Below this, one stream is through soon enough.
_LARGE_MIB = 8192
_MOST_CONNECTIONS = 8
# Of what it could have: with this much it is not slowed down.
_NEARLY = 0.95
_HARDLY = 0.05
_SET_UP_S, _MOST_BLOCKED = 1.0, 2


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A migration in flight. `stream_mib_s`: what it can move however wide its links are;
    `is_past`: its VM's CPUs have stopped on the source, so that only the last bytes are left;
    `memory_mib`: what it has to send at least, as far as that is known."""

    vm: VmId
    source: HostName
    target: HostName
    memory_mib: float = math.inf
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


def is_of_use(flow: Flow, flows: Sequence[Flow], link_mib_s: Mapping[HostName, float]) -> bool:
    """Whether one more migration beside these would copy, or be the one that is set up meanwhile;
    any further one would only wait, and write its pages again."""
    rates = _rates(flows, link_mib_s)
    ahead = [one for one in flows if not one.is_past]
    leaving = [one for one in ahead if one.source == flow.source]
    coming = [one for one in ahead if one.target == flow.target]
    return all(
        _has_use([(one, rates[one.vm]) for one in there], link_mib_s[host], link_mib_s)
        for there, host in ((leaving, flow.source), (coming, flow.target))
    )


def _has_use(
    flows: Sequence[tuple[Flow, float]], link: float, link_mib_s: Mapping[HostName, float]
) -> bool:
    """Whether one more is of use on a link, by those there and their rates. While it is full, so
    many wait that setting up one more is hidden behind them: one, or several that are small for
    their links. Where somebody waits for another link, this one may be free."""
    waiting_s, waiting = 0.0, 0
    for flow, rate in flows:
        most = flow.most_mib_s(link_mib_s)
        if rate < _HARDLY * most:
            waiting, waiting_s = waiting + 1, waiting_s + flow.memory_mib / most
    is_full = sum(rate for _, rate in flows) >= _NEARLY * link
    return waiting_s < _SET_UP_S or (not is_full and waiting < _MOST_BLOCKED)


def connections(
    memory_mib: int, source_mib_s: float, target_mib_s: float, *, may_post_copy: bool
) -> int:
    """Over how many connections a VM is sent; 0: over one, as usual. Several pay for a large VM
    whose links carry more than one stream moves; they exclude post-copy."""
    link = min(source_mib_s, target_mib_s)
    if may_post_copy or memory_mib < _LARGE_MIB or link <= STREAM_MIB_S / _NEARLY:
        return 0
    return min(_MOST_CONNECTIONS, math.ceil(link / STREAM_MIB_S))


def stream_mib_s(over: int) -> float:
    """What a migration over so many connections moves at most."""
    return STREAM_MIB_S if over < 2 else min(_STREAMS_MIB_S, over * STREAM_MIB_S)
