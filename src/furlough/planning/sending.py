"""How the memory of a VM may be sent between two hosts: over how many connections, and whether it
may go over to post-copy, by its policy and by what both hosts can."""

from __future__ import annotations

from dataclasses import dataclass

from furlough.core.bandwidth import connections
from furlough.core.convergence import allows_post_copy
from furlough.core.estimate import link_mib_s
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory
from furlough.core.vm_policy import DEFAULT, VmPolicy

# The emulators that can send over several connections without surprises.
_LEAST_EMULATOR = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Way:
    """`connections`: 0 for one, as usual."""

    policy: VmPolicy
    connections: int
    may_post_copy: bool


def way_of(vm: VmId, source: HostName, target: HostName, inventory: Inventory) -> Way:
    """How this VM is sent; one that nobody lists any more is sent as usual."""
    copies = inventory.running_copies_of(vm)
    here, there = inventory.host(source), inventory.host(target)
    policy = copies[0].policy if copies else DEFAULT
    may_post_copy = bool(copies) and allows_post_copy(policy)
    can = all(host.emulator_version >= _LEAST_EMULATOR for host in (here, there))
    over = connections(
        max((one.memory_mib for one in copies), default=0),
        link_mib_s(here),
        link_mib_s(there),
        may_post_copy=may_post_copy,
    )
    return Way(policy=policy, connections=over if can else 0, may_post_copy=may_post_copy)
