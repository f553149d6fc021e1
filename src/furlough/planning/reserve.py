"""The reserve: whether a cluster still runs everything after losing one more host.

Each host that stays is lost in turn, and its VMs have to find room on the others, beside what runs
there. Where the policy asks for that (N+1) everybody counts, elsewhere only VMs marked ha. One that
could run on no other host is lost with its own, whatever room there is, and counts if it is marked
ha. The check is conservative: a host without a gap can be lost; where a gap is named, a better
packing of the others might yet close it. Huge pages are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from furlough.planning.board import Board, BoolArray, IntArray
from furlough.planning.items import Items
from furlough.planning.seating import NOWHERE, Seating

_SOME = 64


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A host that must not be lost: these of its VMs would find no room."""

    lost: int
    vms: tuple[int, ...]


def gaps_of(seating: Seating, leaving: Sequence[int]) -> tuple[Gap, ...]:
    """The gaps in the clusters that have hosts leaving. VMs that stay on those do not count: they
    are no better off than now."""
    board = seating.items.board
    is_leaving = _marked(board, leaving)
    is_touched = np.zeros(len(board.clusters), dtype=np.bool_)
    is_touched[board.hosts.clusters[list(leaving)]] = True
    is_concerned = is_touched & (board.keeps_reserve | _with_ha(board))
    hosts = np.flatnonzero(is_concerned[board.hosts.clusters] & ~is_leaving)
    if not len(hosts):
        return ()
    losses = _Losses(seating, board.hosts.is_open & ~is_leaving)
    return tuple(gap for host in hosts.tolist() if (gap := losses.gap(host)) is not None)


def are_avoidable(gaps: Sequence[Gap], empty: Seating, leaving: Sequence[int]) -> bool:
    """Whether some of these gaps would not be there if nobody had been placed (`empty`): only
    then can another packing be without them."""
    board = empty.items.board
    losses = _Losses(empty, board.hosts.is_open & ~_marked(board, leaving))
    return any(losses.gap(gap.lost) is None for gap in gaps)


def _with_ha(board: Board) -> BoolArray:
    """The clusters that have a VM marked ha."""
    found = np.zeros(len(board.clusters), dtype=np.bool_)
    found[board.hosts.clusters[board.vms.hosts[board.vms.ha]]] = True
    return found


def _marked(board: Board, hosts: Sequence[int]) -> BoolArray:
    marked = np.zeros(len(board.hosts.names), dtype=np.bool_)
    marked[list(hosts)] = True
    return marked


class _Losses:
    """Loses hosts of a seating, one at a time. `may_take`: the hosts that could take over."""

    def __init__(self, seating: Seating, may_take: BoolArray) -> None:
        self._items: Items = seating.items
        self._seats = seating.seats
        self._free_mib, self._free_vcpus = seating.free_mib, seating.free_vcpus
        self._may_take = may_take
        self._rows: dict[int, BoolArray] = {}
        self._codes = _codes_of(seating.items)
        self._is_ha = _ha_of(seating.items)
        self._counts = _counted(seating.items, self._is_ha)
        is_bound = np.zeros(len(seating.seats), dtype=np.bool_)
        is_bound[list(seating.items.apart)] = True
        # By host; who has to keep apart from others first, then the largest.
        self._order = np.lexsort((-seating.items.memory_mib, ~is_bound, seating.seats))
        hosts = np.arange(len(may_take) + 1)
        self._firsts = np.searchsorted(seating.seats[self._order], hosts).tolist()

    def gap(self, host: int) -> Gap | None:
        """What would find no room if this host were lost; None if all would."""
        orphans = self._order[self._firsts[host] : self._firsts[host + 1]]
        left = self._left(host, orphans[self._counts[orphans]].tolist())
        if not left:
            return None
        vms = [vm for item in left for vm in self._items.members[item]]
        return Gap(lost=host, vms=tuple(vms))

    def _left(self, host: int, orphans: list[int]) -> list[int]:
        """Those that find no room when each takes the tightest hole, until the rest surely fits."""
        apart = self._items.apart
        room = _Room(self._free_mib.copy(), self._free_vcpus.copy())
        usable = self._common(orphans)
        usable[host] = False
        seats: dict[int, int] = {}
        left = []
        for place, item in enumerate(orphans):
            if item not in apart and room.surely_fits(self._items, orphans[place:], usable):
                break
            target = room.tightest(self._items, item, self._allowed(host, item, seats))
            if target == NOWHERE:
                if self._is_ha[item] or not self._is_tied(host, item):
                    left.append(item)
            else:
                seats[item] = target
                room.take(self._items, item, target)
        return left

    def _is_tied(self, host: int, item: int) -> bool:
        """Whether no other host of its cluster could run it, open or not."""
        clusters = self._items.board.hosts.clusters
        others = clusters == clusters[host]
        others[host] = False
        return not (self._items.could_restart_on(item) & others).any()

    def _allowed(self, host: int, item: int, seats: Mapping[int, int]) -> BoolArray:
        """The hosts that may take an orphan of a lost host, with the others seated so far."""
        allowed = self._usable(item).copy()
        allowed[host] = False
        if item in self._items.torn:
            allowed[:] = False
        for mate in self._items.apart.get(item, _NONE).tolist():
            for seat in (int(self._seats[mate]), seats.get(mate, NOWHERE)):
                if seat != NOWHERE:
                    allowed[seat] = False
        return allowed

    def _common(self, orphans: Sequence[int]) -> BoolArray:
        """The hosts that all of these may use."""
        found = self._may_take.copy()
        firsts = {int(self._codes[item]): item for item in orphans}
        for item in firsts.values():
            found &= self._usable(item)
        return found

    def _usable(self, item: int) -> BoolArray:
        """The hosts that could take an item over, room and groups aside."""
        code = int(self._codes[item])
        found = self._rows.get(code)
        if found is None:
            found = self._rows[code] = self._items.may_restart_on(item) & self._may_take
        return found


def _codes_of(items: Items) -> IntArray:
    """A number per item, equal where they may use the same hosts: the class of a single VM, one
    of its own for others."""
    firsts = [members[0] for members in items.members]
    codes: IntArray = items.board.vms.classes[firsts]
    for item, members in enumerate(items.members):
        if len(members) > 1:
            codes[item] = -1 - item
    return codes


def _ha_of(items: Items) -> BoolArray:
    """The items with a member that is marked ha."""
    found = np.zeros(len(items.members), dtype=np.bool_)
    places = items.of_vm[items.board.vms.ha]
    found[places[places >= 0]] = True
    return found


def _counted(items: Items, is_ha: BoolArray) -> BoolArray:
    """The items that have to find room."""
    board = items.board
    counts: BoolArray = board.keeps_reserve[board.hosts.clusters[items.homes]] | is_ha
    return counts


class _Room:
    """What is left on each host while orphans are taken in."""

    def __init__(self, free_mib: IntArray, free_vcpus: IntArray) -> None:
        self._free_mib, self._free_vcpus = free_mib, free_vcpus

    def surely_fits(self, items: Items, orphans: Sequence[int], usable: BoolArray) -> bool:
        """Whether these hosts have room for as many items as large as the largest."""
        most_mib = max(1, int(items.memory_mib[orphans].max()))
        most_vcpus = max(1, int(items.vcpus[orphans].max()))
        # In a large cluster, some of its hosts are enough as a rule.
        for some in (slice(_SOME), slice(None)):
            slots = np.minimum(
                self._free_mib[some] // most_mib, self._free_vcpus[some] // most_vcpus
            )
            if slots[usable[some] & (slots > 0)].sum() >= len(orphans):
                return True
        return False

    def tightest(self, items: Items, item: int, allowed: BoolArray) -> int:
        """Where it leaves the smallest hole; `NOWHERE` if none of these hosts has room."""
        fits = allowed & (self._free_mib >= items.memory_mib[item])
        fits &= self._free_vcpus >= items.vcpus[item]
        if not fits.any():
            return NOWHERE
        return int(np.where(fits, self._free_mib, np.iinfo(np.int64).max).argmin())

    def take(self, items: Items, item: int, host: int) -> None:
        """Seat an orphan."""
        self._free_mib[host] -= items.memory_mib[item]
        self._free_vcpus[host] -= items.vcpus[item]


_NONE: IntArray = np.zeros(0, dtype=np.int64)
