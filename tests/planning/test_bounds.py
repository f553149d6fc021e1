"""Stories of bounds: never above what was found, and met where water could do no better."""

from __future__ import annotations

import pytest

from furlough.planning.bounds import bounds_of
from furlough.planning.packing import evacuate
from tests.planning.boards import a_board, a_seating, host, vm


def test_a_level_packing_meets_the_bound() -> None:
    vms = [vm(name, "h1", gib=8) for name in "abcd"]
    board = a_board([host("h1"), host("h2"), host("h3")], vms)

    packing = evacuate(board, [0])

    assert packing.tension == pytest.approx(packing.bounds.tension)
    assert packing.bounds.load_max == pytest.approx(16 / 64)
    assert packing.bounds.migrations == 4


def test_whole_vms_cannot_always_be_as_level_as_water() -> None:
    board = a_board([host("h1"), host("h2"), host("h3")], [vm("a", "h1", gib=32)])

    packing = evacuate(board, [0])

    assert packing.tension > packing.bounds.tension
    assert packing.bounds.load_max == pytest.approx(16 / 64)


def test_water_does_not_leave_a_full_host() -> None:
    vms = [vm("a", "h1", gib=8), vm("b", "h2", gib=48)]

    packing = evacuate(a_board([host("h1"), host("h2"), host("h3")], vms), [0])

    assert packing.bounds.load_max == pytest.approx(48 / 64)


def test_a_host_with_room_for_none_of_them_gets_no_water() -> None:
    vms = [vm("a", "h1", gib=32), vm("b", "h2", gib=40)]

    packing = evacuate(a_board([host("h1"), host("h2"), host("h3")], vms), [0])

    assert packing.tension == pytest.approx(packing.bounds.tension)


def test_clusters_do_not_share_their_water() -> None:
    hosts = [host("h1"), host("h2"), host("x1", cluster="c2"), host("x2", cluster="c2")]
    vms = [vm("a", "h1", gib=32), vm("b", "x1", gib=8)]

    packing = evacuate(a_board(hosts, vms), [0, 2])

    assert packing.bounds.load_max == pytest.approx(32 / 64)
    assert packing.tension == pytest.approx(packing.bounds.tension)


def test_who_fits_nowhere_as_things_stand_takes_one_migration_more() -> None:
    vms = [vm("large", "h1", gib=40), vm("a", "h2", gib=28), vm("b", "h3", gib=34)]

    packing = evacuate(a_board([host("h1"), host("h2"), host("h3")], vms), [0])

    assert packing.bounds.migrations == len(packing.moves) == 2


def test_before_anybody_is_placed_there_is_nothing_to_pour() -> None:
    board = a_board([host("h1"), host("h2")], [vm("a", "h1"), vm("b", "h2", gib=16)])

    bounds = bounds_of(a_seating(board, "h1"))

    assert bounds.load_max == pytest.approx(16 / 64)
    assert bounds.migrations == 0


def test_without_targets_there_is_no_load() -> None:
    bounds = bounds_of(a_seating(a_board([host("h1")], [vm("a", "h1")]), "h1"))

    assert (bounds.tension, bounds.load_max) == (0.0, 0.0)
