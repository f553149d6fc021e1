"""From an inventory to a schedule: whatever the planner makes of a cluster, the checker agrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bench.checked import broken_by
from bench.clusters import Recipe, Variant, cluster_document
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.policy import Limits, Order
from furlough.planning.board import board_of_file
from furlough.planning.inventory_file import Document, parse
from furlough.planning.packing import evacuate
from furlough.planning.timetable import timetable
from tests.core.builders import repeatable, vm_id

Json = dict[str, Any]
LIMITS = Limits(per_source=2, per_target=2, per_cluster=4)


@repeatable
@given(
    variant=st.sampled_from(Variant),
    seed=st.integers(0, 10_000),
    hosts=st.integers(3, 8),
    share=st.sampled_from([0.5, 0.65, 0.75]),
    reserve=st.sampled_from(["none", "n+1"]),
    order=st.sampled_from(Order),
)
def test_whatever_cluster_is_evacuated_nothing_is_broken_at_any_instant(
    variant: Variant, seed: int, hosts: int, share: float, reserve: str, order: Order
) -> None:
    recipe = Recipe(
        hosts=hosts, vms=hosts * 8, variant=variant, memory_share=share, reserve=reserve
    )
    document = parse(cluster_document(recipe, seed))
    leaving = [seed % hosts]
    packing = evacuate(board_of_file(document), leaving)
    found = timetable(packing, limits=LIMITS, order=order)
    assert broken_by(document, packing, found, leaving, LIMITS) == []


def _crossed() -> Document:
    """h1 has to be emptied; its large VM fits on h2 only once the small one there has left."""
    host = {"cluster": "c1", "cpus": 16, "memory_mib": 100, "networks": ["lan"]}
    vm = {"vcpus": 1, "networks": ["lan"]}
    return parse(
        {
            "format": 1,
            "taken_at": "2026-11-22T10:00:00Z",
            "clusters": [{"name": "c1", "memory_ceiling": 1.0}],
            "hosts": [{**host, "name": name} for name in ("h1", "h2", "h3")],
            "vms": [
                {**vm, "uuid": vm_id(1), "host": "h1", "memory_mib": 70},
                {**vm, "uuid": vm_id(2), "host": "h2", "memory_mib": 40},
                {**vm, "uuid": vm_id(3), "host": "h3", "memory_mib": 60},
            ],
        }
    )


def test_who_makes_room_moves_before_who_needs_it() -> None:
    document = _crossed()
    packing = evacuate(board_of_file(document), [0])
    found = timetable(packing, limits=LIMITS)
    assert [(move.vm, move.source, move.target) for move in found.moves] == [(1, 1, 2), (0, 0, 1)]
    assert found.moves[1].start_s == found.moves[0].end_s
    assert broken_by(document, packing, found, [0], LIMITS) == []


def test_the_stream_of_one_migration_bounds_how_fast_it_goes() -> None:
    packing = evacuate(board_of_file(_crossed()), [0])
    wide, narrow = timetable(packing), timetable(packing, stream_mib_s=1.0)
    assert narrow.makespan_s > 100 > wide.makespan_s


@pytest.mark.parametrize("size", [90, 30])
def test_vms_that_trade_places_are_parked_only_where_they_could_run(size: int) -> None:
    """A packing that nobody asked for, made by hand: the VMs of h1 and h2 change places."""
    document = _crossed()
    board = board_of_file(document)
    vms = replace(board.vms, memory_mib=np.array([80, 80, size], dtype=np.int64))
    packing = evacuate(replace(board, vms=vms), [])
    seats = packing.seats.copy()
    seats[[0, 1]] = [1, 0]
    found = timetable(replace(packing, seats=seats, movers=(0, 1)))
    assert [move.is_detour for move in found.moves] == []
    assert {job.vm for job in found.stuck} == {0, 1}
    small = replace(vms, memory_mib=np.array([60, 60, size], dtype=np.int64))
    packing = replace(packing, board=replace(board, vms=small), seats=seats, movers=(0, 1))
    found = timetable(packing)
    assert any(move.is_detour for move in found.moves) is (size == 30)
