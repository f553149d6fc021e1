"""Bounds: how good any packing could be, so that an operator sees how good this one is.

The fluid bound pours what moves over the hosts as if it were water: no packing of whole VMs can
be more level. What stays where it is stays, and a host with room for none of them gets no water.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from furlough.planning.board import BoolArray, FloatArray, IntArray
from furlough.planning.seating import NOWHERE, Seating


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What no packing that moves the same VMs can be below. `tension`: see `seating`; `load_max`:
    the memory load of the fullest target, as a share of what its VMs may take; `migrations`: how
    many VMs have to move, whoever makes room."""

    tension: float
    load_max: float
    migrations: int


def bounds_of(seating: Seating) -> Bounds:
    """The bounds on a seating: of those that have a seat by now."""
    items = seating.items
    moving = (seating.seats != items.homes) & (seating.seats != NOWHERE)
    clusters = items.board.hosts.clusters
    tension, load_max = 0.0, 0.0
    # Not np.unique, which loads a good part of numpy that is needed for nothing else.
    for cluster in np.flatnonzero(np.bincount(clusters[seating.is_target])).tolist():
        targets = seating.is_target & (clusters == cluster)
        here = moving & (clusters[items.homes] == cluster)
        cluster_tension, cluster_load = _of_cluster(seating, targets, here)
        tension += cluster_tension
        load_max = max(load_max, cluster_load)
    return Bounds(tension=tension, load_max=load_max, migrations=_migrations(seating, moving))


def _of_cluster(seating: Seating, targets: BoolArray, moving: BoolArray) -> tuple[float, float]:
    """The least tension and the least largest load of some targets that share what moves."""
    stays = seating.taken_without(moving)
    wet = targets & _takes_some(seating, stays, np.flatnonzero(moving))
    poured = (seating.items.demands[moving, :3]).sum(axis=0)
    tension = 0.0
    for resource, curves in enumerate(seating.curves):
        base = stays[resource]
        level = _level(base[wet], curves[wet], float(poured[resource]))
        filled = np.maximum(base, np.where(wet, level / curves, base))
        tension += float((curves * filled * filled)[targets].sum())
        if resource == 0:
            load_max = float((filled / np.maximum(1.0, seating.limit_mib))[targets].max())
    return tension, load_max


def _takes_some(seating: Seating, stays: FloatArray, moving: IntArray) -> BoolArray:
    """The hosts with room for at least one of those that move, if it came alone."""
    free_mib = seating.limit_mib - stays[0]
    free_vcpus = seating.limit_vcpus - stays[1]
    found = np.zeros(len(free_mib), dtype=np.bool_)
    shapes: dict[int, list[int]] = {}
    for item in moving.tolist():
        shapes.setdefault(id(seating.open_to(item)), []).append(item)
    for group in shapes.values():
        least_mib = seating.items.memory_mib[group].min()
        least_vcpus = seating.items.vcpus[group].min()
        found |= seating.open_to(group[0]) & (free_mib >= least_mib) & (free_vcpus >= least_vcpus)
    return found


def _level(base: FloatArray, curves: FloatArray, poured: float) -> float:
    """How high the water stands, as curve · used, the same on all hosts that it reaches."""
    if not len(base):
        return 0.0
    order = np.argsort(curves * base, kind="stable")
    widths = np.cumsum(1.0 / curves[order])
    levels = (poured + np.cumsum(base[order])) / widths
    # The true level is the one at which all hosts below it, and no others, are wet.
    return float(levels.min())


def _migrations(seating: Seating, moving: BoolArray) -> int:
    """All that have to leave and do; and one more if somebody had no room as things stood."""
    items = seating.items
    placed = [item for item in seating.waiting if moving[item]]
    count = sum(len(items.members[item]) for item in placed)
    is_waiting = np.zeros_like(moving)
    is_waiting[list(seating.waiting)] = True
    if not (moving & ~is_waiting).any():
        return count
    stays = seating.taken_at_first(is_waiting)
    free_mib, free_vcpus = seating.limit_mib - stays[0], seating.limit_vcpus - stays[1]
    is_short = any(
        not (
            seating.open_to(item)
            & (free_mib >= items.memory_mib[item])
            & (free_vcpus >= items.vcpus[item])
        ).any()
        for item in placed
    )
    return count + int(is_short)
