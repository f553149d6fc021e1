"""Improving: less tension by moving placed items elsewhere or letting two change places.

Only what moves anyway is moved, so the number of migrations never rises. It ends when nothing
gets better, or when the places that may be judged are used up: counted, so that equal boards give
equal results on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from furlough.planning.board import BoolArray, FloatArray, IntArray
from furlough.planning.seating import NOWHERE, Others, Seating

# Less than this is rounding.
_LEAST_GAIN = 1e-12
_MOST_PARTNERS = 16


def settle(seating: Seating) -> None:
    """Send home again who made room and need not have, the largest first."""
    items = seating.items
    waiting = set(seating.waiting)
    displaced = [
        item
        for item in np.flatnonzero(seating.seats != items.homes).tolist()
        if item not in waiting
    ]
    for item in sorted(displaced, key=lambda one: (-int(items.memory_mib[one]), one)):
        home, host = int(items.homes[item]), seating.lift(item)
        may_return = seating.allowed(item)[home] and seating.has_room(item)[home]
        seating.put(item, home if may_return else host)


def improve(seating: Seating, evaluations: int) -> None:
    """Lower the tension until nothing helps, or this many places have been judged."""
    last = seating.evaluations + evaluations
    items = _moving(seating)
    if not items:
        return
    gains = True
    while gains and seating.evaluations < last:
        gains = _relocate(seating, items, last)
        gains = _swap(seating, items, last) or gains


def _moving(seating: Seating) -> list[int]:
    """Everybody who has a seat that is not home, the largest first: small ones level the rest."""
    items = seating.items
    found = np.flatnonzero((seating.seats != items.homes) & (seating.seats != NOWHERE))
    return sorted(found.tolist(), key=lambda item: (-int(items.memory_mib[item]), item))


def _relocate(seating: Seating, items: Sequence[int], last: int) -> bool:
    gained = False
    for item in items:
        if seating.evaluations >= last:
            break
        host = seating.lift(item)
        rises = seating.rises(item)
        best = int(rises.argmin())
        is_better = rises[best] < rises[host] - _LEAST_GAIN
        seating.put(item, best if is_better else host)
        gained = gained or bool(is_better)
    return gained


def _swap(seating: Seating, items: Sequence[int], last: int) -> bool:
    others = Others(seating.items, items)
    opens, at = _opens(seating, items)
    gained = False
    for place, item in enumerate(items):
        if seating.evaluations >= last:
            break
        rises = seating.swap_rises(item, others)
        may_come = opens[:, int(seating.seats[item])].take(at)
        may_go = opens[at[place]].take(seating.seats.take(others.items))
        rises[~(may_come & may_go)] = np.inf
        gained = _swap_with_best(seating, item, others.items, rises) or gained
    return gained


def _opens(seating: Seating, items: Sequence[int]) -> tuple[BoolArray, IntArray]:
    """The different sets of hosts that these items may use, and which of them is each one's."""
    found: dict[int, int] = {}
    rows: list[BoolArray] = []
    at = []
    for item in items:
        row = seating.open_to(item)
        if id(row) not in found:
            found[id(row)] = len(rows)
            rows.append(row)
        at.append(found[id(row)])
    return np.stack(rows), np.array(at, dtype=np.int64)


def _swap_with_best(seating: Seating, item: int, others: IntArray, rises: FloatArray) -> bool:
    """Swap with whom it helps most, among those with whom the rules allow it."""
    helpful = np.flatnonzero(rises < -_LEAST_GAIN)
    if not len(helpful):
        return False
    partners = others[helpful[np.argsort(rises[helpful], kind="stable")[:_MOST_PARTNERS]]]
    return any(_swaps(seating, item, partner) for partner in partners.tolist())


def _swaps(seating: Seating, one: int, other: int) -> bool:
    """Let two change places; False, and nothing changed, if rules forbid it or more would break."""
    broken = _broken(seating, one, other)
    here, there = seating.lift(one), seating.lift(other)
    may = there not in seating.barred(one) and here not in seating.barred(other)
    seating.put(one, there)
    seating.put(other, here)
    apart = seating.items.apart.get(one)
    may = may and (apart is None or other not in apart or here != there)
    if may and _broken(seating, one, other) <= broken:
        return True
    seating.lift(one)
    seating.lift(other)
    seating.put(one, here)
    seating.put(other, there)
    return False


def _broken(seating: Seating, *items: int) -> int:
    return sum(seating.broken_wishes(item, int(seating.seats[item])) for item in items)
