"""Ejecting: making room for what fits nowhere by moving others.

    x fits nowhere ─► lift a few others off one host, seat x there, place the others
                          └─ one of them fits nowhere either: the same for it, once

Shifting what is on its way anyway costs nothing; a VM of a host that stays costs its memory and
a fee, for every migration takes time whatever it sends. The cheapest way that was found is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np

from furlough.planning.board import IntArray
from furlough.planning.seating import NOWHERE, Seating

# What a link of 25 Gb/s carries while a migration is set up and finished, and more: each one pauses
# a VM and may fail, so one that sends a little more is better than two.
FEE_MIB = 4096
_DEPTHS = (1, 2)
_MOST_HOSTS = 24
_LARGER, _SMALLER = 6, 18
_MOST_EJECTED = 3
_KEPT_PER_HOST = 12


class _Way(NamedTuple):
    """One way to make room: who has to go from which host. The least costly sorts first."""

    cost_mib: int
    memory_mib: int
    host: int
    ejected: tuple[int, ...]


class Ejector:
    """Makes room on a seating. `tries`: how many sets of items it may lift altogether;
    `moves_others`: also of those whose host stays."""

    def __init__(self, seating: Seating, tries: int, *, moves_others: bool) -> None:
        self._seating = seating
        self._tries = tries
        self._is_waiting = np.zeros(len(seating.seats), dtype=np.bool_)
        self._is_waiting[list(seating.waiting)] = True
        self._may_move = seating.items.may_move & (moves_others | self._is_waiting)
        self._log: list[tuple[int, int]] = []

    def make_room(self, item: int) -> bool:
        """Seat an item that fits nowhere, with others moved out of its way; False, and nothing
        changed, if no way was found."""
        self._log.clear()
        return any(self._seat(item, depth, frozenset()) is not None for depth in _DEPTHS)

    def _seat(self, item: int, depth: int, held: frozenset[int]) -> int | None:
        """Seat an item in the cheapest way that can be found: its cost, None if there is none.
        `held`: items that stay where they are."""
        best_mib, best_log = None, None
        mark = len(self._log)
        fit_elsewhere: dict[int, bool] = {}
        for way in self._ways(item, held):
            if self._tries <= 0 or (best_mib is not None and way.cost_mib >= best_mib):
                break
            self._tries -= 1
            if depth == 1 and self._is_blind(item, way, fit_elsewhere):
                continue
            cost_mib = self._go(item, way, depth, held)
            if cost_mib is not None and (best_mib is None or cost_mib < best_mib):
                best_mib = cost_mib
                best_log = [(one, int(self._seating.seats[one])) for one, _ in self._log[mark:]]
            self._undo(mark)
        if best_log is not None:
            self._replay(best_log)
        return best_mib

    def _is_blind(self, item: int, way: _Way, fit_elsewhere: dict[int, bool]) -> bool:
        """Whether one of those to be lifted fits nowhere even now, and neither beside the item: a
        way that need not be taken to see where it leads. `fit_elsewhere`: what is known already."""
        seating, memory_mib = self._seating, self._seating.items.memory_mib
        spare_mib = int(seating.free_mib[way.host]) + way.memory_mib - int(memory_mib[item])
        for one in way.ejected:
            if memory_mib[one] <= spare_mib:
                continue
            if one not in fit_elsewhere:
                fits = seating.allowed(one) & seating.has_room(one)
                fits[way.host] = False
                fit_elsewhere[one] = bool(fits.any())
            if not fit_elsewhere[one]:
                return True
        return False

    def _go(self, item: int, way: _Way, depth: int, held: frozenset[int]) -> int | None:
        """Take one way: what it costs with all that follows, None if it leads nowhere."""
        for one in way.ejected:
            self._move(one, NOWHERE)
        self._move(item, way.host)
        cost_mib = way.cost_mib
        held = held | {item, *way.ejected}
        memory_mib = self._seating.items.memory_mib
        for one in sorted(way.ejected, key=lambda one: (-int(memory_mib[one]), one)):
            host = self._seating.best(one)
            if host != NOWHERE:
                self._move(one, host)
                continue
            more_mib = self._seat(one, depth - 1, held) if depth > 1 else None
            if more_mib is None:
                return None
            cost_mib += more_mib
        return cost_mib

    def _move(self, item: int, host: int) -> None:
        seating = self._seating
        before = int(seating.seats[item])
        self._log.append((item, before))
        if before != NOWHERE:
            seating.lift(item)
        if host != NOWHERE:
            seating.put(item, host)

    def _undo(self, mark: int) -> None:
        while len(self._log) > mark:
            item, host = self._log.pop()
            self._move(item, host)
            self._log.pop()

    def _replay(self, moves: Sequence[tuple[int, int]]) -> None:
        """Make the same moves again; where an item was moved twice, its last seat counts."""
        final = dict(moves)
        for item in final:
            self._move(item, NOWHERE)
        for item, host in final.items():
            self._move(item, host)

    # --- ways -----------------------------------------------------------------------------------

    def _ways(self, item: int, held: frozenset[int]) -> list[_Way]:
        """The ways to make room for an item, the cheapest first."""
        seating = self._seating
        if item in seating.items.torn:
            return []
        short_mib = np.maximum(0, seating.items.memory_mib[item] - seating.free_mib)
        short_vcpus = np.maximum(0, seating.items.vcpus[item] - seating.free_vcpus)
        # Nobody is made to give up huge pages.
        open_to = seating.open_to(item) & seating.has_pages(item)
        mates = seating.items.apart.get(item)
        if mates is not None:
            # Where a mate sat at first nobody is sent: on their way they would meet.
            open_to[seating.items.homes[mates]] = False
        hosts = np.flatnonzero(open_to)
        nearest = hosts[np.lexsort((hosts, short_vcpus[hosts], short_mib[hosts]))][:_MOST_HOSTS]
        by_host = self._by_host(nearest, held)
        ways: list[_Way] = []
        for host in nearest.tolist():
            pool = _pool(by_host[host], seating.items.memory_mib, int(short_mib[host]))
            shortage = (int(short_mib[host]), int(short_vcpus[host]))
            required = self._required(mates, host)
            found = self._ways_on(host, pool, shortage, required)
            ways += found or self._many_on(host, by_host[host], shortage, required)
        return sorted(ways)

    def _by_host(self, hosts: IntArray, held: frozenset[int]) -> dict[int, IntArray]:
        """The items on these hosts that may be moved."""
        seating = self._seating
        free = self._may_move.copy()
        free[list(held)] = False
        return {host: np.flatnonzero((seating.seats == host) & free) for host in hosts.tolist()}

    def _required(self, mates: IntArray | None, host: int) -> frozenset[int]:
        """Those who have to leave a host because of a rule."""
        if mates is None:
            return frozenset()
        return frozenset(mates[self._seating.seats[mates] == host].tolist())

    def _ways_on(
        self, host: int, pool: IntArray, shortage: tuple[int, int], required: frozenset[int]
    ) -> list[_Way]:
        """Sets of up to three of a pool without which there is room on a host: the cheapest of
        each number, and of three only where fewer do not do."""
        items = self._seating.items
        memory_mib, vcpus = items.memory_mib[pool], items.vcpus[pool]
        cost_mib = self._cost_of(pool)
        found: list[_Way] = []
        for count in range(max(1, len(required)), min(_MOST_EJECTED, len(pool)) + 1):
            if found and count == _MOST_EJECTED:
                break
            sets = _sets(len(pool), count)
            enough = memory_mib[sets].sum(axis=1) >= shortage[0]
            enough &= vcpus[sets].sum(axis=1) >= shortage[1]
            for chosen in _cheapest(cost_mib, memory_mib, sets[enough]).tolist():
                ejected = tuple(pool[chosen].tolist())
                if required <= set(ejected):
                    cost = int(cost_mib[chosen].sum())
                    found.append(_Way(cost, int(memory_mib[chosen].sum()), host, ejected))
        return found

    def _many_on(
        self, host: int, candidates: IntArray, shortage: tuple[int, int], required: frozenset[int]
    ) -> list[_Way]:
        """Where few are not enough: as many as it takes, those on their way first, then the
        largest, less those that turn out not to be needed; none if all together are too few."""
        items = self._seating.items
        cost_mib, memory_mib = self._cost_of(candidates), items.memory_mib[candidates]
        short_mib, short_vcpus = shortage
        chosen: list[int] = []
        for place in np.lexsort((-memory_mib, cost_mib > 0)).tolist():
            if short_mib <= 0 and short_vcpus <= 0:
                break
            chosen.append(place)
            short_mib -= int(memory_mib[place])
            short_vcpus -= int(items.vcpus[candidates[place]])
        if short_mib > 0 or short_vcpus > 0:
            return []
        for place in sorted(chosen, key=lambda one: -int(memory_mib[one])):
            spare_mib = short_mib + int(memory_mib[place])
            spare_vcpus = short_vcpus + int(items.vcpus[candidates[place]])
            if spare_mib <= 0 and spare_vcpus <= 0:
                chosen.remove(place)
                short_mib, short_vcpus = spare_mib, spare_vcpus
        ejected = tuple(candidates[chosen].tolist())
        if not required <= set(ejected):
            return []
        return [_Way(int(cost_mib[chosen].sum()), int(memory_mib[chosen].sum()), host, ejected)]

    def _cost_of(self, pool: IntArray) -> IntArray:
        """What it costs to move each: nothing for those on their way."""
        seating = self._seating
        is_free = self._is_waiting[pool] | (seating.seats[pool] != seating.items.homes[pool])
        sizes = np.array([len(seating.items.members[one]) for one in pool], dtype=np.int64)
        cost: IntArray = np.where(is_free, 0, seating.items.memory_mib[pool] + FEE_MIB * sizes)
        return cost


def _pool(candidates: IntArray, memory_mib: IntArray, short_mib: int) -> IntArray:
    """Those among many that are worth combining: the next larger than what is short, and the
    largest of the smaller ones."""
    if len(candidates) <= _LARGER + _SMALLER:
        return candidates
    by_size = candidates[np.argsort(memory_mib[candidates], kind="stable")]
    cut = int(np.searchsorted(memory_mib[by_size], short_mib))
    return by_size[max(0, cut - _SMALLER) : cut + _LARGER]


def _cheapest(cost_mib: IntArray, memory_mib: IntArray, sets: IntArray) -> IntArray:
    order = np.lexsort((memory_mib[sets].sum(axis=1), cost_mib[sets].sum(axis=1)))
    return sets[order[:_KEPT_PER_HOST]]


@lru_cache(maxsize=256)
def _sets(size: int, count: int) -> IntArray:
    """All sets of `count` places out of `size`, one per line."""
    return np.array(list(combinations(range(size), count)), dtype=np.int64).reshape(-1, count)
