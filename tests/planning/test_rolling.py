"""Rolling maintenance: every host has its turn, hardly anybody moves twice, nobody is squeezed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from furlough.planning.board import Board, board_of_file
from furlough.planning.inventory_file import parse
from furlough.planning.rolling import RollingPlan, Rules, roll
from tests.core.builders import repeatable, vm_id

Json = dict[str, Any]


def _board(hosts: list[Json], vms: list[Json]) -> Board:
    """A cluster whose hosts may be filled; each host and VM says what is special about it."""
    host = {"cluster": "c1", "cpus": 100, "memory_mib": 100}
    vm = {"vcpus": 1, "memory_mib": 10}
    return board_of_file(
        parse(
            {
                "format": 1,
                "taken_at": "2026-11-22T10:00:00Z",
                "clusters": [{"name": "c1", "memory_ceiling": 1.0}, {"name": "c2"}],
                "hosts": [{"name": f"h{at}", **host, **one} for at, one in enumerate(hosts)],
                "vms": [{"uuid": vm_id(at), **vm, **one} for at, one in enumerate(vms)],
            }
        )
    )


def _even(hosts: int, vms_each: int, **changes: object) -> Board:
    """Hosts of 100 MiB with so many VMs of 10 MiB each."""
    vms = [{"host": f"h{host}", **changes} for host in range(hosts) for _ in range(vms_each)]
    return _board([{}] * hosts, vms)


def _replay(board: Board, plan: RollingPlan) -> list[int]:
    """Where every VM is in the end; on the way, that each wave empties its hosts and nobody goes
    to a host that is away, is over its limit, or has no right to the VM."""
    at = board.vms.hosts.copy()
    done: set[int] = set()
    for wave in plan.waves:
        for vm, source, target in wave.moves:
            assert at[vm] == source
            assert target not in wave.hosts
            assert board.failover_row(vm)[target] == 0
            at[vm] = target
        assert not set(at[board.vms.is_on].tolist()) & set(wave.hosts)
        assert not done & set(wave.hosts)
        done |= set(wave.hosts)
        taken = np.bincount(at, weights=board.vms.memory_mib * board.vms.is_on, minlength=99)
        assert all(taken[: len(board.hosts.names)] <= board.hosts.memory_mib)
        crowds = [[at[vm] for vm in group.members] for group in board.groups]
        assert all(
            len(set(crowd)) == (1 if group.kind == "affinity" else len(crowd))
            for group, crowd in zip(board.groups, crowds, strict=True)
        )
    return [int(host) for host in at]


def test_only_the_vms_of_the_first_wave_move_twice() -> None:
    board = _even(8, 5)
    plan = roll(board, 0, Rules(first_width=2))
    _replay(board, plan)
    assert len(plan.waves[0].hosts) == 2
    assert plan.migrations == plan.bound == 8 * 5 + 2 * 5
    assert plan.left == ()
    assert plan.unprotected == ()
    assert sorted(host for wave in plan.waves for host in wave.hosts) == list(range(8))
    assert all(wave.keeps_reserve and wave.fullest <= 1 for wave in plan.waves)


def test_the_hosts_with_the_fewest_vms_come_first() -> None:
    board = _board([{}] * 4, [{"host": f"h{at}"} for at in (0, 0, 1, 1, 2, 3, 3)])
    plan = roll(board, 0, Rules(first_width=1))
    assert plan.waves[0].hosts == (2,)
    assert plan.bound == 7 + 1


def test_waves_are_as_wide_as_room_and_reserve_allow_and_no_wider_than_wished() -> None:
    board = _even(10, 7)
    free = roll(board, 0, Rules(first_width=3, keeps_reserve=False))
    kept = roll(board, 0, Rules(first_width=3))
    narrow = roll(board, 0, Rules(first_width=3, most_width=1))
    for plan in (free, kept, narrow):
        _replay(board, plan)
        assert plan.left == ()
    assert len(free.waves) < len(kept.waves) < len(narrow.waves)
    assert {len(wave.hosts) for wave in narrow.waves[1:]} == {1}


def test_without_the_reserve_hosts_are_filled_up_and_that_is_told() -> None:
    board = _even(4, 7)
    plan = roll(board, 0, Rules(first_width=1, keeps_reserve=False))
    _replay(board, plan)
    assert plan.waves[0].fullest > 0.9
    assert not plan.waves[0].keeps_reserve


def test_where_the_reserve_cannot_be_kept_hosts_are_done_one_at_a_time_and_that_is_told() -> None:
    """Before, a lost host's 70 MiB find 3 x 30; with one host away they do not find 2 x 6."""
    board = _even(4, 7)
    plan = roll(board, 0, Rules(first_width=2))
    _replay(board, plan)
    assert plan.left == ()
    assert [len(wave.hosts) for wave in plan.waves] == [1, 1, 1, 1]
    assert not plan.waves[0].keeps_reserve


def test_who_would_find_no_room_even_now_is_named_and_holds_up_nobody() -> None:
    """While each host has a VM of its own, nowhere is room for the one of 90 MiB."""
    vms: list[Json] = [{"host": "h0", "memory_mib": 90}, {"host": "h1", "memory_mib": 30}]
    vms += [{"host": host, "memory_mib": 20} for host in ("h2", "h3")]
    board = _board([{"memory_mib": 120}, {}, {}, {}], vms)
    plan = roll(board, 0, Rules(first_width=1))
    assert plan.unprotected == (0,)
    assert plan.left == ()
    assert plan.waves[0].keeps_reserve


def test_vms_that_no_other_host_could_run_keep_their_host_from_its_turn() -> None:
    vms: list[Json] = [{"host": "h0"}, {"host": "h0", "devices": ["gpu"]}, {"host": "h1"}]
    board = _board([{"devices": ["gpu"]}, {}, {}], vms)
    plan = roll(board, 0, Rules(first_width=1))
    _replay(board, plan)
    assert plan.left == ((0, 1),)
    assert {host for wave in plan.waves for host in wave.hosts} == {1, 2}
    assert plan.unprotected == ()  # lost with its host, whatever room there is


def test_a_vm_that_is_to_be_left_keeps_its_host_from_its_turn() -> None:
    board = _board([{}] * 3, [{"host": "h1", "on_maintenance": "leave"}, {"host": "h0"}])
    plan = roll(board, 0, Rules(first_width=1))
    assert plan.left == ((1, 0),)


def test_vms_that_belong_together_move_together_and_others_stay_apart() -> None:
    vms: list[Json] = [{"host": "h0", "affinity_groups": ["web"]} for _ in range(3)]
    vms += [{"host": f"h{at}", "anti_affinity_groups": ["db"]} for at in (1, 2)]
    board = _board([{}] * 4, vms)
    plan = roll(board, 0, Rules(first_width=1))
    _replay(board, plan)
    assert plan.left == ()


def test_hosts_of_other_clusters_cordoned_hosts_and_vms_that_are_off_have_no_part() -> None:
    hosts: list[Json] = [{}, {}, {}, {"mode": "cordoned"}, {"cluster": "c2"}]
    vms: list[Json] = [{"host": f"h{at}"} for at in range(5)]
    board = _board(hosts, [*vms, {"host": "h0", "power": "shut_off", "memory_mib": 100}])
    plan = roll(board, 0, Rules(first_width=1))
    at = _replay(board, plan)
    assert {host for wave in plan.waves for host in wave.hosts} == {0, 1, 2}
    assert at[3:] == [3, 4, 0]


def test_vms_go_only_where_they_could_run() -> None:
    hosts: list[Json] = [{"networks": ["dmz"]}, {"networks": ["dmz"]}, {}, {}]
    vms: list[Json] = [{"host": f"h{at % 2}", "networks": ["dmz"]} for at in range(6)]
    vms += [{"host": f"h{2 + at % 2}"} for at in range(6)]
    board = _board(hosts, vms)
    plan = roll(board, 0, Rules(first_width=2))
    _replay(board, plan)
    assert plan.left == ()


def test_soft_rules_do_not_bind() -> None:
    vms = [{"host": "h0", "affinity_groups": ["web"], "memory_mib": 60} for _ in range(2)]
    board = _board([{"memory_mib": 120}, {}, {}], vms)
    assert roll(board, 0, Rules(first_width=1)).left == ((0, 0),)
    soft = replace(board, groups=tuple(replace(one, is_hard=False) for one in board.groups))
    assert roll(soft, 0, Rules(first_width=1)).left == ()


def test_a_large_cluster_comes_to_its_end_in_growing_waves() -> None:
    board = _even(24, 6)
    plan = roll(board, 0, Rules(first_width=3, keeps_reserve=False))
    _replay(board, plan)
    widths = [len(wave.hosts) for wave in plan.waves]
    assert sum(widths) == 24
    assert widths[0] < widths[1] < widths[2]
    assert plan.migrations == plan.bound


def test_a_cluster_without_hosts_needs_no_wave() -> None:
    plan = roll(_board([{}], []), 1, Rules(first_width=4))
    assert (plan.waves, plan.left, plan.migrations, plan.bound) == ((), (), 0, 0)


@repeatable
@given(
    sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 30)), max_size=20),
    width=st.integers(1, 4),
    keeps_reserve=st.booleans(),
)
def test_in_any_cluster_every_host_has_its_turn_or_is_left_for_a_vm_that_is_named(
    sizes: list[tuple[int, int]], width: int, keeps_reserve: bool
) -> None:
    free = [100] * 6
    vms: list[Json] = []
    for host, size in sizes:
        if free[host] >= size:
            free[host] -= size
            vms.append({"host": f"h{host}", "memory_mib": size})
    board = _board([{}] * 6, vms)
    plan = roll(board, 0, Rules(first_width=width, keeps_reserve=keeps_reserve))
    at = _replay(board, plan)
    turns = [host for wave in plan.waves for host in wave.hosts]
    assert sorted([*turns, *(host for host, _ in plan.left)]) == list(range(6))
    assert all(at[vm] == host for host, vm in plan.left)
    assert plan.left or plan.migrations >= plan.bound
