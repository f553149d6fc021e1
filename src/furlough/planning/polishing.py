"""Polishing: a small part of a packing, solved as a whole by CP-SAT. Optional (extra `solver`).

Where heuristics leave somebody without a place, or have others move for them, an exact search over
few items and few hosts can find what they missed, or show that nothing is there to find. It runs
with one worker, a fixed seed and deterministic time: equal packings are polished equally. What it
finds is taken only if it is better by our own measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from furlough.errors import Refused
from furlough.planning.board import IntArray
from furlough.planning.ejecting import FEE_MIB
from furlough.planning.improving import improve
from furlough.planning.packing import Effort, Packing, packing_of, reseated
from furlough.planning.reserve import gaps_of
from furlough.planning.seating import NOWHERE, Seating

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import BoolVarT, CpModel, IntVar

# Larger models take longer to build than they are worth.
_MOST_PLACES = 4_000
_MOST_MOVERS, _MOST_HOSTS = 30, 40
_STEPS = 500
Seats = Mapping[int, int]


@dataclass(frozen=True, kw_only=True)
class Search:
    """How long to search, in CP-SAT's deterministic seconds, which count its work."""

    deterministic_s: float = 4.0


def is_available() -> bool:
    """Whether OR-tools is installed."""
    return find_spec("ortools") is not None


def polish(packing: Packing, leaving: Sequence[int], search: Search | None = None) -> Packing:
    """The same packing or a better one: with fewer VMs left, else with less moved to make room,
    else with less tension; never with more gaps in the reserve. `Refused` where OR-tools is
    missing."""
    if not is_available():
        raise Refused(
            "solver.missing",
            "The plan cannot be polished: OR-tools is not installed.",
            remedy="Install furlough with the extra 'solver', or plan without polishing.",
        )
    seating = reseated(packing)
    items, hosts = _neighbourhood(seating)
    if not items or not hosts:
        return packing
    found = _solved(seating, items, hosts, search or Search())
    if found is None:
        return packing
    for item in items:
        if seating.seats[item] != NOWHERE:
            seating.lift(item)
    for item, host in found.items():
        seating.put(item, host)
    improve(seating, Effort().evaluations)
    polished = packing_of(seating, packing.wanted, gaps_of(seating, leaving))
    return min(packing, polished, key=_rank)


def _rank(packing: Packing) -> tuple[int, int, int, float]:
    vms = packing.board.vms
    extra_mib = sum(int(vms.memory_mib[vm]) + FEE_MIB for vm in packing.extra)
    return (len(packing.unplaced), len(packing.gaps), extra_mib, packing.tension)


# --- what is searched ----------------------------------------------------------------------------


def _neighbourhood(seating: Seating) -> tuple[list[int], list[int]]:
    """The items that may be seated anew, and the hosts they may be seated on. Items with wishes
    keep their seats: what a broken wish costs is not in the model."""
    items = seating.items
    needy = [item for item in seating.waiting if seating.seats[item] == NOWHERE]
    extra = [item for item in _displaced(seating) if item not in set(seating.waiting)]
    if not needy and not extra:
        return _movers_and_hosts(seating)
    needy += extra
    hosts = _roomiest(seating, needy)
    is_free = items.may_move.copy()
    is_free[list(items.wishes)] = False
    chosen, among = list(needy), list[int]()
    for host in hosts:
        there = np.flatnonzero((seating.seats == host) & is_free).tolist()
        more = [item for item in there if item not in chosen]
        if (len(chosen) + len(more)) * (len(among) + 1) > _MOST_PLACES:
            break
        chosen += more
        among.append(host)
    return sorted(set(chosen)), among


def _movers_and_hosts(seating: Seating) -> tuple[list[int], list[int]]:
    """The largest of those that move, with the hosts they are on and the emptiest others."""
    memory_mib = seating.items.memory_mib
    movers = [item for item in _displaced(seating) if item not in seating.items.wishes]
    chosen = sorted(movers, key=lambda item: (-int(memory_mib[item]), item))[:_MOST_MOVERS]
    if not chosen:
        return [], []
    taken = dict.fromkeys(int(seating.seats[item]) for item in chosen)
    others = [host for host in _roomiest(seating, chosen) if host not in taken]
    return sorted(chosen), [*taken, *others][:_MOST_HOSTS]


def _displaced(seating: Seating) -> list[int]:
    moved = (seating.seats != seating.items.homes) & (seating.seats != NOWHERE)
    return np.flatnonzero(moved).tolist()


def _roomiest(seating: Seating, items: Sequence[int]) -> list[int]:
    """The hosts that any of these may use, those with most memory free first."""
    is_open = np.zeros_like(seating.is_target)
    for item in items:
        is_open |= seating.open_to(item)
    hosts = np.flatnonzero(is_open)
    return [int(host) for host in hosts[np.argsort(-seating.free_mib[hosts], kind="stable")]]


# --- the model -----------------------------------------------------------------------------------


def _solved(
    seating: Seating, items: Sequence[int], hosts: Sequence[int], search: Search
) -> Seats | None:
    """The best seats that were found for these items on these hosts; None if none were."""
    # Loading OR-tools takes longer than most plans do; it is loaded for who asks for it.
    from ortools.sat.python import cp_model  # noqa: PLC0415

    model = cp_model.CpModel()
    places = _places(model, seating, items, hosts)
    _keep_limits(model, seating, items, hosts, places)
    _keep_apart(model, seating, items, places)
    waiting = set(seating.waiting)
    memory_mib = seating.items.memory_mib
    missing = [_missing(model, places[item], item in waiting) for item in items]
    stays = [
        (int(memory_mib[item]) + FEE_MIB, places[item].get(int(seating.items.homes[item])))
        for item in items
        if item not in waiting
    ]
    levels = _levels(model, seating, items, hosts, places)
    most_level = sum(weight for weight, _ in levels) * _STEPS * _STEPS + 1
    most_extra = most_level * (sum(cost for cost, _ in stays) + 1)
    model.minimize(
        sum(most_extra * one for one in missing)
        + sum(most_level * cost * (1 - (stay if stay is not None else 0)) for cost, stay in stays)
        + sum(weight * square for weight, square in levels)
    )
    for item in items:
        for host, place in places[item].items():
            model.add_hint(place, bool(seating.seats[item] == host))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = search.deterministic_s
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return {
        item: host
        for item in items
        for host, place in places[item].items()
        if solver.boolean_value(place)
    }


Places = Mapping[int, Mapping[int, "BoolVarT"]]


def _places(model: CpModel, seating: Seating, items: Sequence[int], hosts: Sequence[int]) -> Places:
    """One truth per item and host that it may use, as those sit who are not searched."""
    chosen = set(items)
    places: dict[int, dict[int, BoolVarT]] = {}
    for item in items:
        allowed = seating.open_to(item).copy()
        if item in seating.items.torn:
            allowed[:] = False
        for mate in seating.items.apart.get(item, _NONE).tolist():
            allowed[seating.items.homes[mate]] = False
            if mate not in chosen and seating.seats[mate] != NOWHERE:
                allowed[seating.seats[mate]] = False
        places[item] = {host: model.new_bool_var("") for host in hosts if allowed[host]}
    return places


def _missing(model: CpModel, places: Mapping[int, BoolVarT], may_miss: bool) -> IntVar:
    """Whether an item gets no place; only those that wait may go without."""
    missing = model.new_int_var(0, int(may_miss), "")
    model.add(sum(places.values()) + missing == 1)
    return missing


def _keep_limits(
    model: CpModel,
    seating: Seating,
    items: Sequence[int],
    hosts: Sequence[int],
    places: Places,
) -> None:
    for column, free in (
        (seating.items.memory_mib, seating.free_mib),
        (seating.items.vcpus, seating.free_vcpus),
    ):
        freed = _freed(seating, items, column)
        for host in hosts:
            here = [int(column[one]) * places[one][host] for one in items if host in places[one]]
            model.add(sum(here) <= max(0, int(free[host]) + freed.get(host, 0)))


def _freed(seating: Seating, items: Sequence[int], column: IntArray) -> dict[int, int]:
    """What these items take now, by host."""
    freed: dict[int, int] = {}
    for item in items:
        host = int(seating.seats[item])
        freed[host] = freed.get(host, 0) + int(column[item])
    return freed


def _keep_apart(model: CpModel, seating: Seating, items: Sequence[int], places: Places) -> None:
    chosen = set(items)
    for item in items:
        for mate in seating.items.apart.get(item, _NONE).tolist():
            if mate in chosen and item < mate:
                for host in places[item].keys() & places[mate].keys():
                    model.add_at_most_one(places[item][host], places[mate][host])


def _levels(
    model: CpModel,
    seating: Seating,
    items: Sequence[int],
    hosts: Sequence[int],
    places: Places,
) -> list[tuple[int, IntVar]]:
    """The square of each host's memory load in steps, with its share of all memory as weight."""
    memory_mib = seating.items.memory_mib
    freed = _freed(seating, items, memory_mib)
    total = max(1, int(seating.limit_mib[list(hosts)].sum()))
    levels = []
    for host in hosts:
        limit_mib = max(1, int(seating.limit_mib[host]))
        base = limit_mib - int(seating.free_mib[host]) - freed.get(host, 0)
        here = [int(memory_mib[one]) * places[one][host] for one in items if host in places[one]]
        load = model.new_int_var(0, max(_STEPS, -(-base * _STEPS // limit_mib)), "")
        model.add(load * limit_mib >= _STEPS * (base + sum(here)))
        square = model.new_int_var(0, max(_STEPS, -(-base * _STEPS // limit_mib)) ** 2, "")
        model.add_multiplication_equality(square, [load, load])
        levels.append((max(1, 1000 * limit_mib // total), square))
    return levels


_NONE: IntArray = np.zeros(0, dtype=np.int64)
