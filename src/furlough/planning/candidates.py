"""Who has to leave a host, and which hosts could be asked to take them."""

from __future__ import annotations

from collections.abc import Iterable

from furlough.core.ids import HostName
from furlough.core.inventory import Host, Inventory, Vm, with_overflow
from furlough.core.policy import EnterOptions


def movers(inventory: Inventory, host: HostName) -> list[Vm]:
    """The VMs that have to leave a host: those with a process on it. What is still arriving there
    cannot leave yet."""
    return [vm for vm in inventory.vms_on(host) if vm.is_active and not vm.is_arriving]


def arriving(inventory: Inventory, host: HostName) -> list[Vm]:
    """The VMs that incoming migrations are bringing to a host."""
    return [vm for vm in inventory.vms_on(host) if vm.is_arriving]


def candidates(
    inventory: Inventory, leaving: Iterable[HostName], options: EnterOptions
) -> list[Host]:
    """The hosts that may be considered as targets: of the same clusters, and of those that take
    who finds no place there, unless nobody may leave; not leaving themselves, and among those the
    operator named, if any were named."""
    gone = frozenset(leaving)
    clusters = {inventory.host(name).cluster for name in gone}
    if not options.within_cluster:
        clusters = with_overflow(clusters, inventory.clusters)
    wanted = frozenset(options.target_hosts)
    return [
        host
        for host in inventory.hosts
        if host.cluster in clusters
        and host.name not in gone
        and (not wanted or host.name in wanted)
    ]
