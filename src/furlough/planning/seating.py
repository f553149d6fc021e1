"""The seating: who sits where while items are being placed, and what a place would cost.

What is minimised is the *tension*: over hosts and resources the sum of weight · used² / size, plus
a large fee for every soft rule that is broken. Taking d more, a host's tension rises by
slope·d + curve·d². So one product of an item's demands with the slopes and curves of all hosts
tells what it would cost anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from furlough.core.affinity import RuleKind
from furlough.planning.board import BoolArray, FloatArray, IntArray
from furlough.planning.items import Items, Wish

# Memory is what runs out and what kills; processors only get slower; a link is busy for a while.
_MEMORY_WEIGHT, _VCPU_WEIGHT, _LINK_WEIGHT = 1.0, 0.5, 0.001
# More than any rise of tension: broken rules are compared first.
_FEE = 10.0
# To judge a swap takes about as long as to judge so many places.
_SWAP_TAKES = 3
NOWHERE = -1


class Seating:
    """A board on which items are moved about. `seats`: the host of each item, `NOWHERE` while it
    waits for one; `is_target`: the hosts that may be given something."""

    def __init__(self, items: Items, waiting: Iterable[int], is_target: BoolArray) -> None:
        hosts = items.board.hosts
        self.items = items
        self.waiting = tuple(waiting)
        self.is_target = is_target
        self.seats: IntArray = items.homes.copy()
        self.seats[list(self.waiting)] = NOWHERE
        self.evaluations = 0
        self.limit_mib, self.limit_vcpus = hosts.memory_mib, hosts.vcpus
        seated = self.seats != NOWHERE
        taken = self._taken(self.seats, seated)
        self._taken_mib, self._taken_vcpus, self._arriving_mib = taken.astype(np.int64)
        self.curves = self._curves_of(items)
        self._slopes = np.concatenate([2 * self.curves * taken, self.curves])
        self._open: dict[object, BoolArray] = {}
        self._free_pages = {size: free.copy() for size, free in hosts.free_pages.items()}

    def _curves_of(self, items: Items) -> FloatArray:
        """Memory and vCPUs by the hosts' sizes; a link by what it carries while the slowest source
        is emptied, so that targets matter only as far as they could be what is waited for."""
        hosts = items.board.hosts
        sizes = np.maximum(1.0, self.limit_mib), np.maximum(1.0, self.limit_vcpus)
        totals = [max(1.0, float(size[self.is_target].sum())) for size in sizes]
        leaving = list(self.waiting)
        sent = np.bincount(
            items.homes[leaving], weights=items.sends_mib[leaving], minlength=len(hosts.names)
        )
        busy_s = max(1e-9, float((sent / hosts.link_mib_s).max(initial=0.0)))
        carried = hosts.link_mib_s * busy_s
        return np.stack(
            [
                _MEMORY_WEIGHT / totals[0] / sizes[0],
                _VCPU_WEIGHT / totals[1] / sizes[1],
                _LINK_WEIGHT * sizes[0] / totals[0] / np.maximum(1.0, carried * carried),
            ]
        )

    def _slope(self, host: int) -> None:
        slopes, curves = self._slopes, self.curves
        slopes[0, host] = 2 * curves[0, host] * self._taken_mib[host]
        slopes[1, host] = 2 * curves[1, host] * self._taken_vcpus[host]
        slopes[2, host] = 2 * curves[2, host] * self._arriving_mib[host]

    # --- questions ------------------------------------------------------------------------------

    @property
    def free_mib(self) -> IntArray:
        """Memory left on each host; below zero where it is overfull."""
        free: IntArray = self.limit_mib - self._taken_mib
        return free

    @property
    def free_vcpus(self) -> IntArray:
        """vCPUs left on each host; below zero where it is overfull."""
        free: IntArray = self.limit_vcpus - self._taken_vcpus
        return free

    def open_to(self, item: int) -> BoolArray:
        """The targets that nothing stands against but room and groups."""
        members = self.items.members[item]
        key = members if len(members) > 1 else int(self.items.board.vms.kinds[members[0]])
        found = self._open.get(key)
        if found is None:
            found = self._open[key] = self.items.may_use(item) & self.is_target
        return found

    def barred(self, item: int) -> IntArray:
        """The hosts where somebody sits, or sat at first, whom hard rules keep it apart from: even
        while both are on their way they must not meet."""
        mates = self.items.apart.get(item)
        if mates is None:
            return _NONE
        seats = self.seats[mates]
        return np.concatenate([seats[seats != NOWHERE], self.items.homes[mates]])

    def has_room(self, item: int) -> BoolArray:
        """The hosts with room for it."""
        has_memory: BoolArray = self.free_mib >= self.items.memory_mib[item]
        has_vcpus: BoolArray = self.free_vcpus >= self.items.vcpus[item]
        if item in self.items.pages:
            return has_memory & has_vcpus & self.has_pages(item)
        return has_memory & has_vcpus

    def has_pages(self, item: int) -> BoolArray:
        """The hosts with huge pages enough for it."""
        found = np.ones_like(self.is_target)
        nothing = np.zeros(len(found), dtype=np.int64)
        for size_kib, count in self.items.pages.get(item, {}).items():
            found &= self._free_pages.get(size_kib, nothing) >= count
        return found

    def allowed(self, item: int) -> BoolArray:
        """The targets it may use, room aside."""
        if item in self.items.torn:
            return np.zeros_like(self.is_target)
        barred = self.barred(item)
        if not len(barred):
            return self.open_to(item)
        allowed = self.open_to(item).copy()
        allowed[barred] = False
        return allowed

    def rises(self, item: int) -> FloatArray:
        """By how much the tension rises on each host if it takes the item; infinite where it may
        not or does not fit."""
        self.evaluations += len(self.is_target)
        rise: FloatArray = self.items.demands[item] @ self._slopes
        for wish in self.items.wishes.get(item, ()):
            rise += _FEE * self._broken(wish)
        rise[~(self.allowed(item) & self.has_room(item))] = np.inf
        return rise

    def best(self, item: int) -> int:
        """The host where the tension rises least, the first of equals; `NOWHERE` if none fits."""
        rise = self.rises(item)
        host = int(rise.argmin())
        return host if rise[host] != np.inf else NOWHERE

    def tightest(self, item: int) -> int:
        """The host that keeps the least memory free after it; `NOWHERE` if none fits."""
        self.evaluations += len(self.is_target)
        fits = self.allowed(item) & self.has_room(item)
        if not fits.any():
            return NOWHERE
        return int(np.where(fits, self.free_mib, np.iinfo(np.int64).max).argmin())

    def swap_rises(self, item: int, others: Others) -> FloatArray:
        """By how much the tension rises if an item changes places with each of these, wishes
        aside; infinite where one of the two hosts has no room. Whether they may use each other's
        host is for the caller to ask."""
        items = self.items
        self.evaluations += _SWAP_TAKES * len(others.items)
        here, there = int(self.seats[item]), self.seats.take(others.items)
        more = others.demands - items.demands_by_resource[:, item, np.newaxis]
        slopes, curves = self._slopes[:3], self.curves
        rise = _rise(slopes[:, here, np.newaxis], curves[:, here, np.newaxis], more)
        rise += _rise(slopes.take(there, axis=1), curves.take(there, axis=1), -more)
        free_mib, free_vcpus = self.free_mib, self.free_vcpus
        more_mib = others.memory_mib - items.memory_mib[item]
        more_vcpus = others.vcpus - items.vcpus[item]
        fits = (more_mib <= free_mib[here]) & (more_vcpus <= free_vcpus[here])
        fits &= (-more_mib <= free_mib.take(there)) & (-more_vcpus <= free_vcpus.take(there))
        fits &= there != here
        # Pages are few and owned by few: who needs some does not change places.
        if items.pages:
            fits &= ~(items.has_pages[others.items] | items.has_pages[item])
        rise[~fits] = np.inf
        return rise

    def broken_wishes(self, item: int, host: int) -> int:
        """How many of an item's wishes are not held if it sits on a host."""
        return sum(bool(self._broken(one)[host]) for one in self.items.wishes.get(item, ()))

    def _broken(self, wish: Wish) -> BoolArray:
        """The hosts on which a wish would not be held."""
        holds = np.zeros(len(self.is_target), dtype=np.bool_)
        if wish.kind is RuleKind.HOST_AFFINITY:
            holds[wish.hosts] = True
            return ~holds
        seats = self.seats[wish.mates]
        holds[seats[seats != NOWHERE]] = True
        if wish.kind is RuleKind.ANTI_AFFINITY or not holds.any():
            return holds
        return ~holds

    def taken_without(self, lifted: BoolArray) -> FloatArray:
        """What is taken on each host but by these items: memory, vCPUs, memory that arrives."""
        rest = (self.seats != NOWHERE) & ~lifted
        return self._taken(self.seats, rest)

    def taken_at_first(self, lifted: BoolArray) -> FloatArray:
        """The same when everybody was at home."""
        return self._taken(self.items.homes, ~lifted)

    def _taken(self, seats: IntArray, seated: BoolArray) -> FloatArray:
        items, hosts = self.items, self.items.board.hosts
        count = len(self.is_target)
        columns = (items.memory_mib, items.vcpus, items.sends_mib * (seats != items.homes))
        held = (hosts.held_memory_mib, hosts.held_vcpus, np.zeros(count))
        return np.stack(
            [
                before + np.bincount(seats[seated], weights=column[seated], minlength=count)
                for before, column in zip(held, columns, strict=True)
            ]
        )

    def tension(self) -> float:
        """The sum over the targets, fees for broken wishes aside."""
        taken = np.stack([self._taken_mib, self._taken_vcpus, self._arriving_mib])
        return float((self.curves * taken * taken)[:, self.is_target].sum())

    # --- moves ----------------------------------------------------------------------------------

    def put(self, item: int, host: int) -> None:
        """Seat an item that waits."""
        self.seats[item] = host
        self._take(item, host, 1)

    def lift(self, item: int) -> int:
        """Take an item from its seat; the host where it was."""
        host = int(self.seats[item])
        self.seats[item] = NOWHERE
        self._take(item, host, -1)
        return host

    def _take(self, item: int, host: int, sign: int) -> None:
        self._taken_mib[host] += sign * self.items.memory_mib[item]
        self._taken_vcpus[host] += sign * self.items.vcpus[item]
        if host != self.items.homes[item]:
            self._arriving_mib[host] += sign * self.items.sends_mib[item]
        for size_kib, count in self.items.pages.get(item, {}).items():
            if size_kib in self._free_pages:
                self._free_pages[size_kib][host] -= sign * count
        self._slope(host)


_NONE: IntArray = np.zeros(0, dtype=np.int64)


def _rise(slopes: FloatArray, curves: FloatArray, more: FloatArray) -> FloatArray:
    """By how much the tension rises with more of each resource (rows), for each case (columns)."""
    rise: FloatArray = ((slopes + curves * more) * more).sum(axis=0)
    return rise


class Others:
    """Items with whom one may change places, and what they take, in columns: asked for each of
    many items, they are looked up once."""

    def __init__(self, items: Items, others: Sequence[int]) -> None:
        self.items: IntArray = np.array(others, dtype=np.int64)
        self.demands = items.demands_by_resource[:, self.items]
        self.memory_mib = items.memory_mib[self.items]
        self.vcpus = items.vcpus[self.items]
