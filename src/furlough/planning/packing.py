"""Packing: where every VM of the hosts that leave goes, all of them judged together.

    construct ─► make room for who fits nowhere ─► improve ─► reserve ─► Packing
        └──────── once more, packed tightly, if the reserve fails and need not ───────┘

The hardest come first: those with the fewest hosts to choose from, then the largest. Each goes
where the tension rises least (see `seating`). For one that fits nowhere others make room: placed
ones are shifted, and, where that is not enough, VMs of hosts that stay move too, as few and as
small as can be found (`ejecting`). Equal boards give equal packings: effort is counted, not timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from furlough.core.affinity import RuleKind
from furlough.planning.board import (
    CAUSES,
    CODE_OF,
    FREE,
    STAYING,
    Board,
    BoolArray,
    Group,
    IntArray,
    Row,
)
from furlough.planning.bounds import Bounds, bounds_of
from furlough.planning.causes import Cause
from furlough.planning.ejecting import FEE_MIB, Ejector
from furlough.planning.improving import improve, settle
from furlough.planning.items import Items, items_of
from furlough.planning.reserve import Gap, are_avoidable, gaps_of
from furlough.planning.seating import NOWHERE, Seating


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard to try, counted. `ejections`: sets of VMs that are tried as those that make room
    for one that fits nowhere; `evaluations`: places that are judged to improve what was found.
    `moves_others`: VMs of hosts that stay may move to make room."""

    ejections: int = 800
    evaluations: int = 4_000_000
    moves_others: bool = True


@dataclass(frozen=True, kw_only=True)
class Unplaced:
    """A VM that has to leave and fits nowhere. `row` holds one obstacle per host, as in `board`;
    `because` is why none was asked, empty if they were."""

    vm: int
    row: Row
    because: str = ""

    @property
    def histogram(self) -> Mapping[Cause, int]:
        """On how many hosts of its cluster each cause stands against it."""
        return {
            CAUSES[code - 1]: count
            for code, count in enumerate(np.bincount(self.row[self.row > FREE]).tolist())
            if count
        }


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Where all VMs are afterwards.

    `wanted`: the VMs that have to leave; `is_target`: the hosts that might be given something;
    `seats`: the host of each VM; `movers`: those that leave the hosts, in the order in which they
    were placed; `extra`: those that move though their host stays; `broken`: per rule that had to
    give, the VMs concerned; `gaps`: what the reserve lacks.
    """

    board: Board
    wanted: tuple[int, ...]
    is_target: BoolArray
    seats: IntArray
    movers: tuple[int, ...]
    extra: tuple[int, ...]
    unplaced: tuple[Unplaced, ...]
    broken: Mapping[str, tuple[int, ...]]
    gaps: tuple[Gap, ...]
    tension: float
    bounds: Bounds
    evaluations: int

    @property
    def moves(self) -> tuple[tuple[int, int, int], ...]:
        """Each move as (VM, source, target): first those who make room."""
        return tuple(
            (vm, int(self.board.vms.hosts[vm]), int(self.seats[vm]))
            for vm in (*self.extra, *self.movers)
        )


def evacuate(
    board: Board,
    leaving: Sequence[int],
    *,
    targets: Sequence[int] | None = None,
    movers: Sequence[int] | None = None,
    effort: Effort | None = None,
) -> Packing:
    """Place the VMs of the hosts that leave jointly. `targets`: hosts that may be asked, whatever
    their rows say then, None: all that are open; `movers`: who has to leave, None: every VM that
    is on there. VMs that may not move, and those that fit nowhere, are in `unplaced`."""
    wanted = _movers(board, leaving) if movers is None else list(movers)
    items = items_of(board, movers or ())
    waiting = _waiting(items, wanted)
    is_target = _targets(board, leaving, targets)
    seating, gaps = seated(items, waiting, is_target, leaving, effort or Effort())
    return packing_of(seating, wanted, gaps)


def seated(
    items: Items,
    waiting: Sequence[int],
    is_target: BoolArray,
    leaving: Sequence[int],
    effort: Effort,
) -> tuple[Seating, tuple[Gap, ...]]:
    """The best seating that was found for the items that wait, and what its reserve lacks."""
    level = _seated(items, waiting, is_target, effort)
    improve(level, effort.evaluations)
    best = _judged(level, leaving)
    if best[2] and are_avoidable(best[2], Seating(items, waiting, is_target), leaving):
        # Packed tightly, large holes stay whole for the VMs of a host that is lost.
        tight = _constructed(items, waiting, is_target, is_tight=True)
        _make_room(tight, effort)
        best = min(best, _judged(tight, leaving), key=lambda one: one[0])
    _, seating, gaps = best
    return seating, gaps


def _movers(board: Board, leaving: Sequence[int]) -> list[int]:
    is_leaving = np.zeros(len(board.hosts.names), dtype=np.bool_)
    is_leaving[list(leaving)] = True
    return np.flatnonzero(is_leaving[board.vms.hosts] & board.vms.is_on).tolist()


def _waiting(items: Items, movers: Iterable[int]) -> list[int]:
    """The items of those of these VMs that may move."""
    found = dict.fromkeys(int(items.of_vm[vm]) for vm in movers if items.of_vm[vm] >= 0)
    return [item for item in found if items.may_move[item]]


def _targets(board: Board, leaving: Sequence[int], targets: Sequence[int] | None) -> BoolArray:
    is_target = board.hosts.is_open.copy()
    if targets is not None:
        is_target[:] = False
        is_target[list(targets)] = True
    is_target[list(leaving)] = False
    return is_target


def _seated(items: Items, waiting: Sequence[int], is_target: BoolArray, effort: Effort) -> Seating:
    """Level if everybody finds a place so; else level or tight, with room made for those who are
    left, whichever leaves less and moves fewer others."""
    level = _constructed(items, waiting, is_target, is_tight=False)
    if not _left(level):
        return level
    tight = _constructed(items, waiting, is_target, is_tight=True)
    for one in (level, tight):
        _make_room(one, effort)
    return min(level, tight, key=lambda one: (len(_left(one)), _extra_mib(one)))


def _constructed(
    items: Items, waiting: Sequence[int], is_target: BoolArray, *, is_tight: bool
) -> Seating:
    """Everybody who fits, the hardest first, level or into the tightest holes."""
    seating = Seating(items, waiting, is_target)
    place = seating.tightest if is_tight else seating.best
    for item in hardest_first(seating):
        host = place(item)
        if host != NOWHERE:
            seating.put(item, host)
    return seating


def _make_room(seating: Seating, effort: Effort) -> None:
    left = set(_left(seating))
    ejector = Ejector(seating, effort.ejections, moves_others=effort.moves_others)
    for item in hardest_first(seating):
        if item in left:
            host = seating.best(item)
            if host != NOWHERE:
                seating.put(item, host)
            else:
                ejector.make_room(item)
    settle(seating)


def _left(seating: Seating) -> list[int]:
    """The items that have no seat."""
    return [item for item in seating.waiting if seating.seats[item] == NOWHERE]


def hardest_first(seating: Seating) -> list[int]:
    """Few hosts to choose from first, then much memory, then many vCPUs: a large VM that is placed
    last may find only crumbs."""
    items = seating.items
    return sorted(
        seating.waiting,
        key=lambda item: (
            int(np.count_nonzero(seating.allowed(item))),
            -int(items.memory_mib[item]),
            -int(items.vcpus[item]),
            item,
        ),
    )


_Judged = tuple[tuple[int, int, int, float], Seating, tuple[Gap, ...]]


def _judged(seating: Seating, leaving: Sequence[int]) -> _Judged:
    """A seating with what counts, worst first: who is left, gaps in the reserve, VMs that move
    though they need not, tension."""
    gaps = gaps_of(seating, leaving)
    items = seating.items
    left = sum(len(items.members[item]) for item in _left(seating))
    return (left, len(gaps), _extra_mib(seating), seating.tension()), seating, gaps


def _extra_mib(seating: Seating) -> int:
    """What it costs that others make room."""
    items = seating.items
    is_extra = (seating.seats != items.homes) & (seating.seats != NOWHERE)
    is_extra[list(seating.waiting)] = False
    return int((items.memory_mib[is_extra] + FEE_MIB).sum())


def reseated(packing: Packing) -> Seating:
    """The seating that a packing came from, for who wants to better it."""
    items = items_of(packing.board)
    seating = Seating(items, _waiting(items, packing.wanted), packing.is_target)
    left = {int(items.of_vm[one.vm]) for one in packing.unplaced}
    for item in seating.waiting:
        if item not in left:
            seating.put(item, int(packing.seats[items.members[item][0]]))
    for item in dict.fromkeys(int(items.of_vm[vm]) for vm in packing.extra):
        seating.lift(item)
        seating.put(item, int(packing.seats[items.members[item][0]]))
    return seating


def packing_of(seating: Seating, wanted: Sequence[int], gaps: tuple[Gap, ...]) -> Packing:
    """What a seating means for the VMs. `wanted`: those who have to leave."""
    items, board = seating.items, seating.items.board
    left = set(_left(seating))
    moved = [item for item in hardest_first(seating) if item not in left]
    extra = np.flatnonzero(seating.seats != items.homes).tolist()
    seats = board.vms.hosts.copy()
    for item in (*moved, *extra):
        if item not in left:
            seats[list(items.members[item])] = seating.seats[item]
    waiting = set(seating.waiting)
    return Packing(
        board=board,
        wanted=tuple(wanted),
        is_target=seating.is_target,
        seats=seats,
        movers=tuple(vm for item in moved for vm in items.members[item]),
        extra=tuple(vm for item in extra if item not in waiting for vm in items.members[item]),
        unplaced=tuple(_unplaced(seating, left, wanted)),
        broken=_broken(board, seats, wanted),
        gaps=gaps,
        tension=seating.tension(),
        bounds=bounds_of(seating),
        evaluations=seating.evaluations,
    )


def _unplaced(seating: Seating, left: set[int], wanted: Iterable[int]) -> Iterable[Unplaced]:
    """Those who stay, in their own order."""
    items, board = seating.items, seating.items.board
    for vm in wanted:
        item = int(items.of_vm[vm])
        if item < 0 or not items.may_move[item]:
            nothing = np.zeros(len(board.hosts.names), dtype=np.int8)
            yield Unplaced(vm=vm, row=nothing, because=_staying(board, vm))
        elif item in left:
            yield Unplaced(vm=vm, row=_refusals(seating, item, vm))


def _staying(board: Board, vm: int) -> str:
    word = board.vms.on_maintenance[vm]
    if not board.vms.is_on[vm]:
        return "it is powered off"
    if word in STAYING:
        return f"its policy for maintenance says {word}"
    return "what it is or does at present keeps it from being moved live"


def _refusals(seating: Seating, item: int, vm: int) -> Row:
    """Its own obstacles on each host, else the operator's choice of targets, else those of the VMs
    it has to be with, else who sits there, else the room that is short."""
    items = seating.items
    row = items.board.row(vm).copy()
    row[(row == FREE) & ~seating.is_target] = CODE_OF[Cause.MODE]
    row[(row == FREE) & ~items.may_use(item)] = CODE_OF[Cause.RULE]
    row[(row == FREE) & ~seating.allowed(item)] = CODE_OF[Cause.RULE]
    row[(row == FREE) & ~seating.has_room(item)] = CODE_OF[Cause.ROOM]
    return row


def _broken(
    board: Board, seats: IntArray, concerned: Iterable[int]
) -> Mapping[str, tuple[int, ...]]:
    """The rules that are not held at the end and that a VM which moved has a part in."""
    moved = {*concerned, *np.flatnonzero(seats != board.vms.hosts).tolist()}
    found = {}
    for group in board.groups:
        if moved.isdisjoint(group.members):
            continue
        at = {vm: int(seats[vm]) for vm in group.members}
        guilty = _guilty(group, at)
        if guilty:
            found[group.name] = guilty
    return found


def _guilty(group: Group, at: Mapping[int, int]) -> tuple[int, ...]:
    """The VMs of a group that are where its rule does not want them."""
    if group.kind is RuleKind.HOST_AFFINITY:
        return tuple(vm for vm, host in at.items() if host not in group.hosts)
    if group.kind is RuleKind.AFFINITY:
        return tuple(at) if len(set(at.values())) > 1 else ()
    crowd = Counter(at.values())
    return tuple(vm for vm, host in at.items() if crowd[host] > 1)
