"""Choosing targets: which host each of several VMs goes to, and which ones come next.

Here no VM leaves its cluster; who may is for `crossing`. All VMs of one are placed jointly, as in
plans from files (see `packing`): the hardest first, each where the load rises least, then what
helps to level it. VMs that a hard rule keeps together count as one. Those that fit nowhere are
named, with every reason against every host.

Takes and returns nothing but data; arrays are loaded by the first who asks, so that a daemon that
plans nothing does not carry them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from furlough.core.capacity import Reservation, load_of, rooms
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.planning.bonds import bonds_of
from furlough.planning.compatibility import Judge, huge_pages_of, obstacles
from furlough.planning.places import Answer, Request
from furlough.planning.refusals import Afterwards, Against


@dataclass(frozen=True, kw_only=True)
class Placement:
    """`targets`: per placed VM its hosts, the chosen one first, then those a retry may take.
    `refusals`: per VM that fits nowhere, the obstacles on every host that was tried. `helpers`:
    who of the hosts that stay would have to move where for those `helped` to fit. `makers`: who of
    them does move, first, with its hosts as in `targets`. `broken`: per soft rule that had to give,
    the VMs concerned. `gaps`: per host that must not be lost afterwards, the VMs that would find no
    room then. `crossing`: per placed VM that leaves its cluster, what stands against every host
    there."""

    targets: Mapping[VmId, tuple[HostName, ...]]
    refusals: Mapping[VmId, Against]
    helpers: Mapping[VmId, HostName] = field(default_factory=dict)
    helped: frozenset[VmId] = frozenset()
    broken: Mapping[str, tuple[VmId, ...]] = field(default_factory=dict)
    gaps: Mapping[HostName, tuple[VmId, ...]] = field(default_factory=dict)
    makers: Mapping[VmId, tuple[HostName, ...]] = field(default_factory=dict)
    crossing: Mapping[VmId, Against] = field(default_factory=dict)


def place(
    vms: Sequence[Vm],
    hosts: Sequence[Host],
    inventory: Inventory,
    reservations: Sequence[Reservation] = (),
    *,
    judge: Judge = obstacles,
    leaving: Sequence[HostName] = (),
    moves_others: bool = False,
) -> Placement:
    """Place these VMs on these hosts. `judge` says what stands against a host whatever its room
    and whatever the rules; `leaving`: hosts that will be empty then, so that the others have to
    keep the reserve; `moves_others`: VMs of those may move to make room, where they could."""
    asked = [*leaving, *(vm.host for vm in vms)]
    found = Placement(targets={}, refusals={})
    for cluster in dict.fromkeys(inventory.host(name).cluster for name in asked):
        request = Request(
            vms=[vm for vm in vms if inventory.host(vm.host).cluster == cluster],
            hosts=[host for host in hosts if host.cluster == cluster],
            judge=judge,
            leaving=[name for name in leaving if inventory.host(name).cluster == cluster],
            moves_others=moves_others,
        )
        found = _joined(found, _in_cluster(request, inventory, cluster, reservations))
    return found


def _in_cluster(
    request: Request,
    inventory: Inventory,
    cluster: ClusterName,
    reservations: Sequence[Reservation],
) -> Placement:
    # Not at the top: arrays take memory that a daemon at rest has no use for.
    from furlough.planning.live_packing import packed

    answer = packed(request, inventory, cluster, reservations)
    return Placement(
        targets=answer.targets,
        refusals=_refusals(answer, request, inventory, reservations) if answer.units else {},
        helpers=answer.helpers,
        helped=answer.helped,
        broken=answer.broken,
        gaps=answer.gaps,
        makers=answer.makers,
    )


def _joined(one: Placement, other: Placement) -> Placement:
    return Placement(
        targets={**one.targets, **other.targets},
        refusals={**one.refusals, **other.refusals},
        helpers={**one.helpers, **other.helpers},
        helped=one.helped | other.helped,
        broken={**one.broken, **other.broken},
        gaps={**one.gaps, **other.gaps},
        makers={**one.makers, **other.makers},
    )


def _refusals(
    answer: Answer, request: Request, inventory: Inventory, reservations: Sequence[Reservation]
) -> Mapping[VmId, Against]:
    """Why those that were not placed were not."""
    by_id = {vm.id: vm for vm in request.vms}
    bonds = bonds_of(inventory, {host.cluster for host in request.hosts})
    before = {vm: host for vm, host in bonds.seats.items() if vm not in by_id}
    chosen = {vm: targets[0] for vm, targets in answer.targets.items()}
    room = dict(rooms(inventory, request.hosts, reservations))
    pages = {host.name: dict(host.free_huge_pages) for host in request.hosts}
    for vm, name in chosen.items():
        room[name] -= load_of(by_id[vm])
        size_kib = by_id[vm].huge_page_kib
        if size_kib:
            pages[name][size_kib] -= huge_pages_of(by_id[vm])
    afterwards = Afterwards(
        inventory=inventory,
        hosts=request.hosts,
        judge=request.judge,
        bonds=bonds,
        room=room,
        pages=pages,
        before=before,
        seats={**before, **chosen},
    )
    found: dict[VmId, Against] = {}
    for unit in answer.units:
        found.update(afterwards.refusals([by_id[vm] for vm in unit]))
    return found
