"""Places: what is asked for VMs of one cluster, and the answer, in names and without arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Vm
from furlough.planning.compatibility import Judge


@dataclass(frozen=True, kw_only=True)
class Request:
    """Who of a cluster looks for a place, on which of its hosts, as `judge` sees them. `leaving`:
    the hosts that are emptied; `moves_others`: VMs of hosts that stay may move to make room."""

    vms: Sequence[Vm]
    hosts: Sequence[Host]
    judge: Judge
    leaving: Sequence[HostName] = ()
    moves_others: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`targets`: per VM its hosts, the chosen one first, then those a retry may take; `units`: who
    fits nowhere, those together that have to be; `helpers`: VMs of hosts that stay, with the host
    to which each would have to move for more to fit, and `helped` who would fit then; `makers`: the
    same of those who do move, with their hosts, and whose room `targets` count on; `broken`: per
    soft rule that gave, the VMs; `gaps`: per host that must not be lost, the VMs that would find
    no room."""

    targets: Mapping[VmId, tuple[HostName, ...]]
    units: Sequence[Sequence[VmId]]
    helpers: Mapping[VmId, HostName]
    helped: frozenset[VmId]
    broken: Mapping[str, tuple[VmId, ...]]
    gaps: Mapping[HostName, tuple[VmId, ...]]
    makers: Mapping[VmId, tuple[HostName, ...]] = field(default_factory=dict)
