"""Stories of packing: who goes where, who makes room, who stays and why, what the reserve lacks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.affinity import Rule, RuleKind
from furlough.core.inventory import Vm
from furlough.planning.board import Board
from furlough.planning.causes import Cause
from furlough.planning.live_board import board_of_live
from furlough.planning.packing import Effort, Packing, evacuate, reseated
from tests.core import builders
from tests.core.builders import C1, H2, H3, repeatable
from tests.planning.boards import GIB, Row, a_board, host, names, vm, where


def emptied(board: Board, *leaving: str, **more: object) -> Packing:
    """The packing that empties these hosts."""
    return evacuate(board, board.places(leaving), **more)  # type: ignore[arg-type]


def hosts_of(*sizes_gib: int, **more: object) -> list[Row]:
    """Hosts h1, h2, ... of these sizes."""
    return [host(f"h{number}", gib=size, **more) for number, size in enumerate(sizes_gib, start=1)]


def loads_gib(packing: Packing) -> list[int]:
    """What VMs take on each host afterwards."""
    vms = packing.board.vms
    on = vms.is_on
    taken = np.bincount(
        packing.seats[on], weights=vms.memory_mib[on], minlength=len(packing.board.hosts.names)
    )
    return [int(one) // GIB for one in taken]


# --- where they go -------------------------------------------------------------------------------


def test_vms_spread_over_equal_hosts() -> None:
    vms = [vm(name, "h1", gib=8) for name in "abcd"]

    packing = emptied(a_board(hosts_of(64, 64, 64), vms), "h1")

    assert loads_gib(packing) == [0, 16, 16]
    assert not packing.unplaced
    assert not packing.extra


def test_larger_hosts_take_more() -> None:
    vms = [vm(name, "h1", gib=8) for name in "abcdef"]

    packing = emptied(a_board(hosts_of(64, 64, 128), vms), "h1")

    assert loads_gib(packing) == [0, 16, 32]


def test_several_hosts_leave_jointly() -> None:
    vms = [vm("a", "h1", gib=40), vm("b", "h2", gib=24), vm("c", "h2", gib=40)]

    packing = emptied(a_board(hosts_of(64, 64, 64, 64), vms), "h1", "h2")

    assert sorted(loads_gib(packing)) == [0, 0, 40, 64]
    assert packing.moves[0] == (0, 0, int(packing.seats[0]))


def test_the_operator_may_restrict_the_targets() -> None:
    board = a_board(hosts_of(64, 64, 64), [vm("a", "h1"), vm("b", "h1")])

    packing = emptied(board, "h1", targets=board.places(["h3"]))

    assert where(packing) == {"a": "h3", "b": "h3"}


def test_only_those_named_are_moved() -> None:
    board = a_board(hosts_of(64, 64), [vm("a", "h1"), vm("b", "h1")])

    assert where(emptied(board, "h1", movers=[1])) == {"b": "h2"}


def test_powered_off_vms_neither_move_nor_take_room() -> None:
    vms = [vm("a", "h1", gib=60), vm("off", "h2", gib=60, power="shut_off")]

    assert where(emptied(a_board(hosts_of(64, 64), vms), "h1")) == {"a": "h2"}


def test_equal_boards_give_equal_packings() -> None:
    vms = [vm(name, "h1", gib=number % 5 + 1) for number, name in enumerate("abcdefghij")]

    one, other = (emptied(a_board(hosts_of(32, 32, 32, 32), vms), "h1") for _ in range(2))

    assert one.seats.tolist() == other.seats.tolist()
    assert one.tension == other.tension


def test_an_empty_host_leaves_at_once() -> None:
    packing = emptied(a_board(hosts_of(64, 64), [vm("a", "h2")]), "h1")

    assert packing.moves == ()
    assert packing.bounds.migrations == 0


# --- groups --------------------------------------------------------------------------------------


def test_a_hard_affinity_group_goes_as_one() -> None:
    vms = [vm(name, "h1", gib=10, affinity_groups=["db"]) for name in "abc"]

    packing = emptied(a_board(hosts_of(64, 28, 64, 28), [*vms, vm("d", "h3", gib=20)]), "h1")

    assert set(where(packing).values()) == {"h3"}


def test_groups_that_share_a_member_go_as_one() -> None:
    vms = [
        vm("a", "h1", affinity_groups=["x"]),
        vm("b", "h1", affinity_groups=["x", "y"]),
        vm("c", "h1", affinity_groups=["y"]),
    ]

    assert len(set(where(emptied(a_board(hosts_of(64, 64, 64), vms), "h1")).values())) == 1


def test_a_group_goes_only_where_all_of_it_may_go() -> None:
    vms = [
        vm("a", "h1", affinity_groups=["x"]),
        vm("b", "h1", affinity_groups=["x"], host_affinity=["h1", "h2"]),
        vm("c", "h2", gib=60),
    ]

    packing = emptied(a_board(hosts_of(64, 64, 64), [*vms]), "h1", effort=Effort(ejections=0))

    assert names(packing.board, [one.vm for one in packing.unplaced]) == {"a", "b"}
    assert packing.unplaced[0].histogram == {Cause.MODE: 1, Cause.ROOM: 1, Cause.RULE: 1}


def test_a_vm_joins_its_mate_on_another_host_where_that_is_possible() -> None:
    vms = [vm("a", "h1", affinity_groups=["x"]), vm("b", "h3", gib=30, affinity_groups=["x"])]

    packing = emptied(a_board(hosts_of(64, 64, 64), vms), "h1")

    assert where(packing) == {"a": "h3"}
    assert not packing.broken


def test_a_vm_that_cannot_join_its_mate_is_named_with_the_rule() -> None:
    vms = [vm("a", "h1", affinity_groups=["x"]), vm("b", "h3", gib=60, affinity_groups=["x"])]

    packing = emptied(a_board(hosts_of(64, 64, 64), vms), "h1")

    assert where(packing) == {"a": "h2"}
    assert packing.broken == {"affinity group x": (0, 1)}


def test_anti_affinity_keeps_vms_apart() -> None:
    vms = [vm(name, "h1", anti_affinity_groups=["web"]) for name in "ab"]
    board = a_board(hosts_of(64, 64, 64), [*vms, vm("c", "h2", gib=40), vm("d", "h3", gib=1)])

    assert set(where(emptied(board, "h1")).values()) == {"h2", "h3"}


def test_without_a_host_of_its_own_a_vm_stays_and_the_rule_is_the_reason() -> None:
    vms = [vm(name, on, anti_affinity_groups=["web"]) for name, on in (("a", "h1"), ("b", "h2"))]

    packing = emptied(a_board(hosts_of(64, 64), vms), "h1")

    assert packing.unplaced[0].histogram == {Cause.MODE: 1, Cause.RULE: 1}


def test_vms_wanted_together_and_apart_at_once_stay() -> None:
    both: Row = {"affinity_groups": ["x"], "anti_affinity_groups": ["y"]}
    board = a_board(hosts_of(64, 64, 64), [vm("a", "h1", **both), vm("b", "h1", **both)])

    packing = emptied(board, "h1")

    assert [one.histogram[Cause.RULE] for one in packing.unplaced] == [2, 2]


def soft(kind: RuleKind, *, hosts: tuple[str, ...] = ()) -> Rule:
    """A soft rule about VMs 1 and 2."""
    vms = tuple(builders.vm_id(number) for number in (1, 2))
    return Rule(name="wish", kind=kind, vms=vms, hosts=hosts, is_hard=False)  # type: ignore[arg-type]


def packed_with(rule: Rule, *more: Vm) -> Packing:
    """VMs 1 and 2 leave h1, with this rule about them."""
    vms = [builders.a_vm(1), builders.a_vm(2), *more]
    inventory = builders.an_inventory(vms, clusters=[builders.a_cluster(rules=[rule])])
    return evacuate(board_of_live(inventory, C1), [0])


def test_soft_rules_are_held_where_they_can_be() -> None:
    crowd = builders.a_vm(3, host=H2, memory_mib=30000)

    apart = packed_with(soft(RuleKind.ANTI_AFFINITY), crowd)
    together = packed_with(soft(RuleKind.AFFINITY))
    placed = packed_with(soft(RuleKind.HOST_AFFINITY, hosts=(H2,)), crowd)

    assert set(where(apart).values()) == {H2, H3}
    assert len(set(where(together).values())) == 1
    assert set(where(placed).values()) == {H2}
    assert [one.broken for one in (apart, together, placed)] == [{}, {}, {}]


def test_soft_rules_that_have_to_give_are_named() -> None:
    full = builders.a_vm(3, host=H2, memory_mib=65536)

    apart = packed_with(soft(RuleKind.ANTI_AFFINITY), full)
    placed = packed_with(soft(RuleKind.HOST_AFFINITY, hosts=(H2,)), full)

    assert apart.broken == {"rule wish": (0, 1)}
    assert placed.broken == {"rule wish": (0, 1)}


# --- who stays -----------------------------------------------------------------------------------


def test_a_vm_that_fits_nowhere_has_a_reason_per_host() -> None:
    hosts = [
        *hosts_of(64, 32),
        host("h3", networks=[]),
        host("h4", mode="cordoned"),
        host("h5", cluster="c2"),
    ]

    [left] = emptied(a_board(hosts, [vm("a", "h1", gib=48)]), "h1").unplaced

    assert left.histogram == {Cause.MODE: 2, Cause.NETWORK: 1, Cause.ROOM: 1}
    assert left.because == ""


@pytest.mark.parametrize(
    ("special", "because"),
    [
        ({"on_maintenance": "leave"}, "says leave"),
        ({"on_maintenance": "ask"}, "says ask"),
        ({"power": "suspended"}, "keeps it from being moved live"),
    ],
)
def test_who_may_not_move_stays_and_says_why(special: Row, because: str) -> None:
    packing = emptied(a_board(hosts_of(64, 64), [vm("a", "h1", **special)]), "h1")

    assert because in packing.unplaced[0].because
    assert packing.unplaced[0].histogram == {}


def test_a_vm_that_is_off_is_not_moved_though_named() -> None:
    board = a_board(hosts_of(64, 64), [vm("a", "h1", power="shut_off")])

    assert emptied(board, "h1", movers=[0]).unplaced[0].because == "it is powered off"


# --- who makes room ------------------------------------------------------------------------------


def test_another_vm_makes_room_for_one_that_fits_nowhere() -> None:
    vms = [
        vm("large", "h1", gib=40),
        vm("a", "h2", gib=28),
        vm("b", "h2", gib=10),
        vm("c", "h3", gib=34),
    ]

    packing = emptied(a_board(hosts_of(64, 64, 64), vms), "h1")

    assert where(packing) == {"a": "h3", "large": "h2"}
    assert not packing.unplaced
    assert packing.bounds.migrations == 2


def test_whoever_makes_room_is_as_small_as_possible() -> None:
    vms = [
        vm("large", "h1", gib=32),
        vm("a", "h2", gib=30),
        vm("b", "h2", gib=6),
        vm("e", "h2", gib=1),
        vm("c", "h3", gib=30),
        vm("d", "h3", gib=4),
    ]

    packing = emptied(a_board(hosts_of(64, 64, 64), vms), "h1")

    assert names(packing.board, packing.extra) == {"d"}


def test_room_is_made_through_a_third_host() -> None:
    # 'large' needs h2, whose 'a' fits only on h3, whose 'b' may go to h4 alone.
    vms = [
        vm("large", "h1", gib=60),
        vm("a", "h2", gib=20, host_affinity=["h2", "h3"]),
        vm("b", "h3", gib=30),
        vm("c", "h3", gib=30, host_affinity=["h3"]),
    ]

    packing = emptied(a_board(hosts_of(64, 64, 64, 32), vms), "h1")

    assert where(packing) == {"large": "h2", "a": "h3", "b": "h4"}


def test_several_small_ones_make_room_together() -> None:
    vms = [vm("large", "h1", gib=60), *(vm(f"s{n}", "h2", gib=6) for n in range(3))]

    packing = emptied(a_board(hosts_of(64, 64, 32), vms), "h1")

    assert names(packing.board, packing.extra) == {"s0", "s1", "s2"}


def test_a_crowded_host_is_searched_among_the_likely() -> None:
    vms = [vm("large", "h1", gib=50), *(vm(f"s{n:02}", "h2", gib=1) for n in range(29))]
    vms += [vm("fit", "h2", gib=16)]

    packing = emptied(a_board(hosts_of(64, 64, 32), vms), "h1")

    assert "large" in where(packing)
    assert not packing.unplaced


def test_only_as_many_make_room_as_it_takes() -> None:
    # Three are too few, and 'wide' has to go for its vCPUs: then not all of the others must.
    vms = [vm("large", "h1", gib=50, vcpus=20), *(vm(f"s{n}", "h2", gib=9) for n in range(4))]
    vms += [vm("wide", "h2", gib=1, vcpus=240), *(vm(f"t{n}", "h2", gib=2) for n in range(6))]

    packing = emptied(a_board(hosts_of(64, 64, 40), vms), "h1")

    assert not packing.unplaced
    moved = names(packing.board, packing.extra)
    assert ("wide" in moved, len(moved)) == (True, 8)


def test_who_fits_nowhere_may_fit_once_room_was_made_for_another() -> None:
    vms = [
        vm("large", "h1", gib=32, host_affinity=["h1", "h2"]),
        vm("small", "h1", gib=31, host_affinity=["h1", "h2", "h3"]),
        vm("a", "h2", gib=60),
        vm("b", "h3", gib=34),
    ]

    packing = emptied(a_board(hosts_of(96, 64, 64, 60), vms), "h1")

    assert where(packing) == {"a": "h4", "large": "h2", "small": "h2"}


def test_a_mate_that_must_be_apart_makes_way() -> None:
    # 'c' is placed first, on the emptier h2; then 'a' could go nowhere else.
    apart: Row = {"anti_affinity_groups": ["web"]}
    vms = [
        vm("a", "h1", gib=8, host_affinity=["h1", "h2", "h3"], **apart),
        vm("c", "h1", gib=10, host_affinity=["h1", "h2", "h4"], **apart),
        vm("d", "h3", gib=64, on_maintenance="leave"),
        vm("e", "h4", gib=40),
    ]

    packing = emptied(a_board(hosts_of(64, 64, 64, 64), vms), "h1")

    assert where(packing) == {"a": "h2", "c": "h4"}


def test_where_a_mate_sat_at_first_nobody_is_sent_who_must_not_meet_it() -> None:
    apart: Row = {"anti_affinity_groups": ["web"]}
    board = a_board(hosts_of(64, 64, 64), [vm("a", "h1", **apart), vm("b", "h2", **apart)])
    pinned = a_board(
        hosts_of(64, 64, 64),
        [vm("a", "h1", host_affinity=["h1", "h2"], **apart), vm("b", "h2", **apart)],
    )

    assert where(emptied(board, "h1")) == {"a": "h3"}
    # On its way to h2 it would meet 'b', which only then could leave.
    assert names(pinned, [one.vm for one in emptied(pinned, "h1").unplaced]) == {"a"}


def test_effort_is_bounded() -> None:
    vms = [vm("large", "h1", gib=40), vm("a", "h2", gib=28), vm("c", "h3", gib=34)]

    packing = emptied(a_board(hosts_of(64, 64, 64), vms), "h1", effort=Effort(ejections=0))

    assert names(packing.board, [one.vm for one in packing.unplaced]) == {"large"}
    assert packing.seats.tolist() == packing.board.vms.hosts.tolist()


def test_when_no_set_of_vms_makes_room_nothing_is_moved() -> None:
    vms = [vm("large", "h1", gib=60), vm("a", "h2", gib=40), vm("b", "h3", gib=40)]

    packing = emptied(a_board(hosts_of(64, 64, 64), vms), "h1")

    assert packing.moves == ()


# --- the reserve ---------------------------------------------------------------------------------


def test_a_cluster_that_can_lose_one_more_host_has_no_gaps() -> None:
    vms = [vm(name, f"h{number}", gib=16) for number, name in enumerate("abcd", start=1)]

    packing = emptied(a_board(hosts_of(64, 64, 64, 64), vms, reserve="n+1"), "h1")

    assert packing.gaps == ()


def test_a_gap_names_the_host_and_the_vms_that_would_find_no_room() -> None:
    vms = [vm("a", "h1", gib=16), vm("b", "h2", gib=40), vm("c", "h3", gib=40)]

    packing = emptied(a_board(hosts_of(64, 64, 64), vms, reserve="n+1"), "h1")

    assert {(gap.lost, *gap.vms) for gap in packing.gaps} >= {(1, 1), (2, 2)}


def test_without_a_reserve_nobody_asks() -> None:
    vms = [vm("b", "h2", gib=60), vm("c", "h3", gib=60)]

    assert emptied(a_board(hosts_of(64, 64, 64), vms), "h1").gaps == ()


def test_only_the_cluster_that_is_touched_is_judged() -> None:
    hosts = [*hosts_of(64, 64, 64), host("x1", cluster="c2"), host("x2", cluster="c2")]
    vms = [vm("a", "h1"), vm("b", "x1", gib=60), vm("c", "x2", gib=60)]

    assert emptied(a_board(hosts, vms, reserve="n+1"), "h1").gaps == ()


def test_vms_are_packed_tightly_where_that_keeps_the_reserve() -> None:
    # Level, h2 and h3 would have 40 GiB left each: too little for 'big' if h4 were lost.
    vms = [vm("a", "h1", gib=10), vm("b", "h1", gib=10), vm("big", "h4", gib=44)]

    with_reserve = emptied(a_board(hosts_of(64, 50, 50, 64), vms, reserve="n+1"), "h1")
    without = emptied(a_board(hosts_of(64, 50, 50, 64), vms), "h1")

    assert set(where(without).values()) == {"h2", "h3"}
    assert len(set(where(with_reserve).values())) == 1
    assert with_reserve.gaps == ()


def test_mates_that_must_keep_apart_need_hosts_of_their_own_after_a_loss() -> None:
    apart: Row = {"anti_affinity_groups": ["web"]}
    vms = [vm("a", "h2", **apart), vm("b", "h3", **apart), vm("c", "h1")]

    packing = emptied(a_board(hosts_of(64, 64, 64), vms, reserve="n+1"), "h1")

    assert {(gap.lost, names(packing.board, gap.vms).pop()) for gap in packing.gaps} == {
        (1, "a"),
        (2, "b"),
    }


def test_mates_on_one_lost_host_are_parted_or_named() -> None:
    apart: Row = {"anti_affinity_groups": ["web"]}
    both: Row = {**apart, "affinity_groups": ["x"]}
    parted = [vm("a", "h2", **apart), vm("b", "h2", **apart)]
    torn = [vm("a", "h2", **both), vm("b", "h2", **both)]

    fine = emptied(a_board(hosts_of(64, 64, 64, 64), parted, reserve="n+1"), "h1")
    bad = emptied(a_board(hosts_of(64, 64, 64, 64), torn, reserve="n+1"), "h1")

    assert fine.gaps == ()
    assert [(gap.lost, gap.vms) for gap in bad.gaps] == [(1, (0, 1))]


def test_vms_left_on_a_leaving_host_are_not_asked_to_survive_it() -> None:
    vms = [vm("stays", "h1", gib=60, on_maintenance="leave"), vm("b", "h2", gib=8)]

    assert emptied(a_board(hosts_of(64, 16, 16), vms, reserve="n+1"), "h1").gaps == ()


# --- properties ----------------------------------------------------------------------------------


@st.composite
def boards(draw: st.DrawFn) -> Board:
    """Up to six hosts with VMs within their limits."""
    sizes = draw(st.lists(st.sampled_from([32, 64]), min_size=2, max_size=6))
    vms = []
    for number, size in enumerate(sizes, start=1):
        left = size
        while left > 4 and draw(st.booleans()):
            gib = draw(st.integers(1, left))
            left -= gib
            groups = draw(st.sampled_from([[], ["g"], [], []]))
            vms.append(vm(f"v{number}-{left}", f"h{number}", gib=gib, anti_affinity_groups=groups))
    return a_board(hosts_of(*sizes), vms)


@repeatable
@given(boards())
def test_no_limit_is_broken_and_nobody_is_lost(board: Board) -> None:
    packing = evacuate(board, [0])

    left = {one.vm for one in packing.unplaced}
    loads = np.bincount(
        packing.seats, weights=board.vms.memory_mib, minlength=len(board.hosts.names)
    )
    assert (loads[1:] <= board.hosts.memory_mib[1:]).all()
    assert {vm for vm, home in enumerate(board.vms.hosts) if home == 0} == {*packing.movers, *left}
    assert all(packing.seats[one] != 0 for one in packing.movers)
    assert packing.bounds.tension <= packing.tension + 1e-9
    assert packing.bounds.migrations <= len(packing.moves)


@repeatable
@given(boards())
def test_a_packing_can_be_taken_up_again(board: Board) -> None:
    packing = evacuate(board, [0])

    assert reseated(packing).tension() == pytest.approx(packing.tension)
