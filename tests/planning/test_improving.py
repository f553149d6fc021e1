"""Stories of improving: less tension, never more migrations."""

from __future__ import annotations

from furlough.planning.improving import improve, settle
from furlough.planning.seating import Seating
from tests.planning.boards import Row, a_board, a_seating, at, host, vm

MANY = 100_000


def seated(seating: Seating, **seats: str) -> Seating:
    """The same seating with these VMs on these hosts; each is an item of its own."""
    board = seating.items.board
    for name, on in seats.items():
        item = int(seating.items.of_vm[at(board, name)])
        if seating.seats[item] >= 0:
            seating.lift(item)
        seating.put(item, board.places([on])[0])
    return seating


def seat(seating: Seating, name: str) -> str:
    """The host of a VM."""
    board = seating.items.board
    return board.hosts.names[int(seating.seats[seating.items.of_vm[at(board, name)]])]


def test_a_vm_moves_to_a_host_with_less_load() -> None:
    board = a_board([host("h1"), host("h2"), host("h3")], [vm("a", "h1"), vm("b", "h2", gib=30)])
    seating = seated(a_seating(board, "h1"), a="h2")

    improve(seating, MANY)

    assert seat(seating, "a") == "h3"


def test_two_change_places_where_neither_could_move_alone() -> None:
    hosts = [host("h1", gib=64), host("h2", gib=20), host("h3", gib=40)]
    vms = [vm("a", "h1", gib=20), vm("b", "h1", gib=16)]
    seating = seated(a_seating(a_board(hosts, vms), "h1"), a="h2", b="h3")
    before = seating.tension()

    improve(seating, MANY)

    assert (seat(seating, "a"), seat(seating, "b")) == ("h3", "h2")
    assert seating.tension() < before


def test_two_do_not_change_places_against_a_hard_rule() -> None:
    hosts = [host("h1", gib=64), host("h2", gib=22), host("h3", gib=42)]
    apart: Row = {"anti_affinity_groups": ["web"]}
    vms = [vm("a", "h1", gib=20, **apart), vm("b", "h1", gib=16), vm("c", "h3", gib=1, **apart)]
    seating = seated(a_seating(a_board(hosts, vms), "h1"), a="h2", b="h3")

    improve(seating, MANY)

    assert (seat(seating, "a"), seat(seating, "b")) == ("h2", "h3")


def test_two_do_not_change_places_against_a_wish() -> None:
    hosts = [host("h1", gib=64), host("h2", gib=22), host("h3", gib=42)]
    mates: Row = {"affinity_groups": ["db"]}
    vms = [vm("a", "h1", gib=20, **mates), vm("b", "h1", gib=16), vm("c", "h2", gib=1, **mates)]
    seating = seated(a_seating(a_board(hosts, vms), "h1"), a="h2", b="h3")

    improve(seating, MANY)

    assert (seat(seating, "a"), seat(seating, "b")) == ("h2", "h3")


def test_two_do_not_change_places_where_one_may_not_run() -> None:
    hosts = [host("h1", gib=64), host("h2", gib=20), host("h3", gib=40)]
    vms = [vm("a", "h1", gib=20, host_affinity=["h1", "h2"]), vm("b", "h1", gib=16)]
    seating = seated(a_seating(a_board(hosts, vms), "h1"), a="h2", b="h3")

    improve(seating, MANY)

    assert seat(seating, "a") == "h2"


def test_nothing_is_done_without_places_left_to_judge() -> None:
    board = a_board([host("h1"), host("h2"), host("h3")], [vm("a", "h1"), vm("b", "h2", gib=30)])
    seating = seated(a_seating(board, "h1"), a="h2")

    improve(seating, 0)

    assert seat(seating, "a") == "h2"


def test_it_stops_within_a_pass_when_the_places_are_used_up() -> None:
    vms = [vm(name, "h1", gib=4) for name in "abcd"]
    board = a_board([host("h1"), host("h2"), host("h3")], vms)
    seating = seated(a_seating(board, "h1"), a="h2", b="h2", c="h2", d="h2")

    improve(seating, 1)

    assert [seat(seating, name) for name in "abcd"].count("h3") == 1


def test_vms_of_hosts_that_stay_are_not_touched() -> None:
    board = a_board([host("h1"), host("h2"), host("h3")], [vm("b", "h2", gib=60)])
    seating = a_seating(board, "h1")

    improve(seating, MANY)

    assert seat(seating, "b") == "h2"


def test_who_made_room_goes_home_if_there_is_room_again() -> None:
    vms = [vm("a", "h1", gib=40), vm("b", "h2", gib=20), vm("c", "h2", gib=30)]
    seating = a_seating(a_board([host("h1"), host("h2"), host("h3", gib=90)], vms), "h1")
    seated(seating, a="h3", b="h3", c="h3")

    settle(seating)

    assert [seat(seating, name) for name in "abc"] == ["h3", "h2", "h2"]


def test_who_made_room_stays_away_while_the_room_is_taken() -> None:
    vms = [vm("a", "h1", gib=50), vm("b", "h2", gib=20)]
    seating = a_seating(a_board([host("h1"), host("h2"), host("h3", gib=32)], vms), "h1")
    seated(seating, a="h2", b="h3")

    settle(seating)

    assert [seat(seating, name) for name in "ab"] == ["h2", "h3"]
