"""Rules about which VMs run together, apart, or on certain hosts.

They come from two places and mean the same: rules of the cluster, and the groups that a VM's own
policy names. A hard rule must hold; a soft one is held where that costs nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from furlough.core.ids import HostName


class RuleKind(StrEnum):
    """What a rule asks for."""

    AFFINITY = "affinity"
    ANTI_AFFINITY = "anti_affinity"
    HOST_AFFINITY = "host_affinity"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of a cluster. `vms` are names or UUIDs; `hosts` only with host affinity."""

    name: str
    kind: RuleKind
    vms: tuple[str, ...] = ()
    hosts: tuple[HostName, ...] = ()
    is_hard: bool = True
