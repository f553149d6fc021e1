"""Live packing: the array planner asked about live hosts, and its answer told in names.

Nobody moves whose host stays, as long as there is another way: `Effort.moves_others` is off. Where
somebody fits nowhere so, it is asked once more with it on. Who would have to make room then moves
first, where the request allows that and nobody of them needs room that another of them makes; else
they are only named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from furlough.core.capacity import Reservation
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Inventory
from furlough.planning.board import Board
from furlough.planning.items import items_of
from furlough.planning.live_board import Asked, board_of_live
from furlough.planning.packing import Effort, Packing, packing_of, seated
from furlough.planning.places import Answer, Request
from furlough.planning.reserve import Gap
from furlough.planning.seating import NOWHERE, Seating

# More targets than any step has attempts; a plan of a large cluster stays readable.
MOST_TARGETS = 8
_STAYING = Effort(moves_others=False)
# Each set that is tried takes a millisecond or so in a large cluster.
_ASKING_OTHERS = Effort(ejections=200, evaluations=0)


def packed(
    request: Request,
    inventory: Inventory,
    cluster: ClusterName,
    reservations: Sequence[Reservation],
) -> Answer:
    """Place these VMs of one cluster."""
    # Where hosts are emptied, what is said of others counts too: their loss has to be survived.
    only = frozenset(host.name for host in request.hosts) if not request.leaving else frozenset()
    asked = Asked(vms=request.vms, judge=request.judge, targets=only)
    board = board_of_live(inventory, cluster, reservations, asked)
    seating, gaps = _seated(board, request, _STAYING)
    helpers: Mapping[VmId, HostName] = {}
    helped: set[tuple[int, ...]] = set()
    makers: Sequence[int] = ()
    if request.leaving and _left(seating):
        more, more_gaps = _seated(board, request, _ASKING_OTHERS)
        makers = _makers(seating, more)
        if request.moves_others and not _need_each_other(more, makers):
            seating, gaps = (more, more_gaps) if makers else (seating, gaps)
        else:
            helpers = _helpers(more, makers)
            helped = set(_left(seating)) - set(_left(more)) if helpers else set()
            makers = ()
    vacated = frozenset(seating.items.homes[list(makers)].tolist())
    packing = packing_of(seating, _movers(board, request), gaps)
    return Answer(
        targets={
            _vm_id(board, vm): targets
            for item in seating.waiting
            if seating.seats[item] != NOWHERE
            for targets in (_ranked(seating, item, vacated),)
            for vm in seating.items.members[item]
        },
        makers={
            _vm_id(board, vm): _ranked(seating, item, vacated)
            for item in makers
            for vm in seating.items.members[item]
        },
        units=[[_vm_id(board, vm) for vm in unit] for unit in _left(seating)],
        helpers=helpers,
        helped=frozenset(_vm_id(board, vm) for unit in helped for vm in unit),
        broken=_broken(packing),
        gaps={_host(board, gap.lost): _vm_ids(board, gap) for gap in gaps},
    )


def _seated(board: Board, request: Request, effort: Effort) -> tuple[Seating, tuple[Gap, ...]]:
    movers = _movers(board, request)
    items = items_of(board, movers)
    waiting = dict.fromkeys(int(items.of_vm[vm]) for vm in movers)
    is_target = np.zeros(len(board.hosts.names), dtype=np.bool_)
    is_target[list(board.places(host.name for host in request.hosts))] = True
    return seated(items, list(waiting), is_target, board.places(request.leaving), effort)


def _movers(board: Board, request: Request) -> list[int]:
    """The places of those who are asked for, each as the copy that is meant."""
    wanted = {(vm.id, vm.host) for vm in request.vms}
    names, at = board.hosts.names, board.vms.hosts.tolist()
    return [
        place for place, uuid in enumerate(board.vms.uuids) if (uuid, names[at[place]]) in wanted
    ]


def _left(seating: Seating) -> list[tuple[int, ...]]:
    return [
        seating.items.members[item] for item in seating.waiting if seating.seats[item] == NOWHERE
    ]


def _ranked(
    seating: Seating, item: int, vacated: frozenset[int] = frozenset()
) -> tuple[HostName, ...]:
    """The host of an item, and those with room for one more such, the best first; none of those
    where room has to be made (`vacated`). Who belongs to others retries where they went, or not at
    all; nor does who has to be apart from others, whose own retries nobody knows."""
    names = seating.items.board.hosts.names
    first = int(seating.seats[item])
    if len(seating.items.members[item]) > 1 or item in seating.items.apart:
        return (HostName(names[first]),)
    rises = seating.rises(item)
    order = np.argsort(rises, kind="stable")[: MOST_TARGETS + 1].tolist()
    rest = [
        host for host in order if host != first and host not in vacated and rises[host] != np.inf
    ]
    return tuple(HostName(names[host]) for host in (first, *rest[: MOST_TARGETS - 1]))


def _makers(without: Seating, more: Seating) -> list[int]:
    """The items that have to make room for more to fit than fit now; none where that does not
    help."""
    if len(_left(more)) >= len(_left(without)):
        return []
    moved = set(np.flatnonzero(more.seats != more.items.homes).tolist()) - set(more.waiting)
    return sorted(moved)


def _need_each_other(more: Seating, makers: Sequence[int]) -> bool:
    """Whether one of those who make room goes where another one has to leave first."""
    at = list(makers)
    return not set(more.seats[at].tolist()).isdisjoint(more.items.homes[at].tolist())


def _helpers(more: Seating, makers: Sequence[int]) -> Mapping[VmId, HostName]:
    """Those who would have to make room, each with the host where it would go."""
    board = more.items.board
    return {
        _vm_id(board, vm): _host(board, int(more.seats[item]))
        for item in makers
        for vm in more.items.members[item]
    }


def _broken(packing: Packing) -> Mapping[str, tuple[VmId, ...]]:
    """The soft rules only: a hard one that is not held was not held before either."""
    soft = {group.name for group in packing.board.groups if not group.is_hard}
    return {
        rule: tuple(_vm_id(packing.board, vm) for vm in vms)
        for rule, vms in packing.broken.items()
        if rule in soft
    }


def _vm_ids(board: Board, gap: Gap) -> tuple[VmId, ...]:
    return tuple(_vm_id(board, vm) for vm in gap.vms)


def _vm_id(board: Board, vm: int) -> VmId:
    return VmId(board.vms.uuids[vm])


def _host(board: Board, host: int) -> HostName:
    return HostName(board.hosts.names[host])
