"""Stories of polishing: an exact search over a part of a packing. They need OR-tools, which the
extra `test` brings."""

from __future__ import annotations

import sys

import pytest

from furlough.errors import Refused
from furlough.planning.board import Board
from furlough.planning.packing import Effort, Packing, evacuate
from furlough.planning.polishing import Search, is_available, polish
from tests.planning.boards import Row, a_board, host, names, vm, where

WEAK = Effort(ejections=0, evaluations=0)


def weakly(board: Board) -> Packing:
    """What comes out when h1 leaves and nothing is tried twice."""
    return evacuate(board, [0], effort=WEAK)


def crowded(**more: object) -> list[Row]:
    """One on h1 that fits nowhere unless 'a' makes room."""
    return [vm("large", "h1", gib=40, **more), vm("a", "h2", gib=28), vm("b", "h3", gib=34)]


def three() -> list[Row]:
    return [host("h1"), host("h2"), host("h3")]


def test_who_was_left_gets_a_place() -> None:
    packing = weakly(a_board(three(), crowded()))
    assert names(packing.board, [one.vm for one in packing.unplaced]) == {"large"}

    polished = polish(packing, [0])

    assert where(polished) == {"large": "h2", "a": "h3"}


def test_whoever_moves_in_vain_stays_at_home() -> None:
    vms = [vm("large", "h1", gib=60), vm("a", "h2", gib=30), vm("b", "h3", gib=5)]
    board = a_board([*three(), host("h4", gib=30)], vms)
    found = evacuate(board, [0])
    assert names(board, found.extra) == {"b"}

    assert polish(found, [0]).tension <= found.tension


def test_a_level_packing_stays_as_it_is() -> None:
    packing = evacuate(a_board(three(), [vm("a", "h1"), vm("b", "h1")]), [0])

    assert polish(packing, [0]).tension == pytest.approx(packing.tension)


def test_without_anybody_who_moves_there_is_nothing_to_polish() -> None:
    packing = weakly(a_board(three(), [vm("b", "h2")]))

    assert polish(packing, [0]) is packing


def test_what_is_not_better_is_not_taken() -> None:
    board = a_board(three(), [vm("large", "h1", gib=70), vm("a", "h2", gib=28)])

    polished = polish(weakly(board), [0])

    assert names(board, [one.vm for one in polished.unplaced]) == {"large"}
    assert polished.moves == ()


def test_without_time_nothing_is_found() -> None:
    packing = weakly(a_board(three(), crowded()))

    assert polish(packing, [0], Search(deterministic_s=0.0)) is packing


def test_rules_hold_in_what_is_found() -> None:
    web: Row = {"anti_affinity_groups": ["web"]}
    vms = [
        vm("x", "h1", gib=8, host_affinity=["h1", "h2", "h3"], **web),
        vm("y", "h1", gib=10, host_affinity=["h1", "h2", "h4"], **web),
        vm("z", "h1", gib=2, affinity_groups=["p"], anti_affinity_groups=["q"]),
        vm("w", "h1", gib=2, affinity_groups=["p"], anti_affinity_groups=["q"]),
        vm("d", "h3", gib=60, on_maintenance="leave", **web),
        vm("e", "h4", gib=40),
    ]
    board = a_board([*three(), host("h4")], vms)

    polished = polish(weakly(board), [0])

    assert {name: where(polished)[name] for name in "xy"} == {"x": "h2", "y": "h4"}
    assert names(board, [one.vm for one in polished.unplaced]) == {"z", "w"}


def test_only_a_part_of_a_large_cluster_is_searched() -> None:
    hosts = [host(f"h{number}", gib=64) for number in range(1, 91)]
    vms = [vm("large", "h1", gib=40)]
    vms += [vm(f"v{number}", f"h{number}", gib=28) for number in range(2, 91)]

    polished = polish(weakly(a_board(hosts, vms)), [0], Search(deterministic_s=2.0))

    assert not polished.unplaced
    assert len(polished.extra) == 1


def test_equal_packings_are_polished_equally() -> None:
    one, other = (polish(weakly(a_board(three(), crowded())), [0]) for _ in range(2))

    assert one.seats.tolist() == other.seats.tolist()


def test_without_the_solver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    packing = weakly(a_board(three(), crowded()))
    assert is_available()
    monkeypatch.setitem(sys.modules, "ortools", None)

    with pytest.raises(Refused, match="extra 'solver'"):
        polish(packing, [0])
