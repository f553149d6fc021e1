"""Rolling plans in time: each host is emptied, serviced, back; by waves or the moment it can."""

from __future__ import annotations

import json
from itertools import pairwise
from random import Random

import pytest

from furlough.cli.rolling import violations_of
from furlough.core.policy import Limits
from furlough.planning.board import board_of_file
from furlough.planning.inventory_file import Document, parse
from furlough.planning.rolling import Rules, roll
from furlough.planning.rolling_pipeline import Pace, TimedRolling, pipelined, timed_waves
from furlough.planning.rolling_plan import RollingWishes, rolling_waves
from tests.core.builders import vm_id


def _document(
    crews: list[list[int]], *, reserve: str = "none", links: list[int] | None = None, **changes: str
) -> Document:
    """Hosts of 100 MiB, each with VMs of so many MiB; `changes` of every VM."""
    links = links or [10_000] * len(crews)
    hosts = [
        {"name": f"h{n}", "cluster": "c1", "cpus": 99, "memory_mib": 100, "link_mbit_s": link}
        for n, link in enumerate(links)
    ]
    homes = [(n, mib) for n, crew in enumerate(crews) for mib in crew]
    vms = [
        {"uuid": vm_id(n), "host": f"h{home}", "vcpus": 1, "memory_mib": mib, **changes}
        for n, (home, mib) in enumerate(homes, 1)
    ]
    clusters = [{"name": "c1", "memory_ceiling": 1.0, "reserve": reserve}]
    taken_at = "2026-11-22T10:00:00Z"
    return parse(
        {"format": 1, "taken_at": taken_at, "clusters": clusters, "hosts": hosts, "vms": vms}
    )


def _both(
    document: Document, rules: Rules, pace: Pace | None = None
) -> tuple[TimedRolling, TimedRolling]:
    board = board_of_file(document)
    pace = pace or Pace(service_s=60.0)
    return timed_waves(board, 0, roll(board, 0, rules), pace), pipelined(board, 0, rules, pace)


def test_each_host_is_emptied_then_serviced_then_back() -> None:
    for plan in _both(_document([[20, 20]] * 4), Rules(first_width=1, keeps_reserve=False)):
        assert sorted(turn.host for turn in plan.turns) == [0, 1, 2, 3]
        for turn in plan.turns:
            assert turn.empty_s == max(move.end_s for move in turn.moves)
            assert turn.back_s == round(turn.empty_s + 60.0, 2)
            assert all(move.start_s >= turn.start_s for move in turn.moves)
        assert plan.makespan_s == max(turn.back_s for turn in plan.turns)
        assert plan.migrations == plan.bound == 10


def test_waves_wait_for_the_slowest_host_and_the_pipeline_does_not() -> None:
    """One of the first two hosts has a slow link, and is not needed for what comes next."""
    document = _document([[50], [50], [50], [50], []], links=[10_000, 10, 10_000, 10_000, 10_000])
    waves, pipeline = _both(document, Rules(first_width=3, keeps_reserve=False))
    slow = next(turn for turn in pipeline.turns if turn.host == 1)
    early = [turn for turn in pipeline.turns if 0 < turn.start_s < slow.back_s]
    assert early
    assert not [turn for turn in waves.turns if 0 < turn.start_s < slow.back_s]
    assert pipeline.makespan_s < waves.makespan_s
    assert pipeline.migrations == waves.migrations


def test_an_empty_host_is_serviced_at_once() -> None:
    _, pipeline = _both(_document([[], [50]]), Rules(first_width=1))
    first = pipeline.turns[0]
    assert (first.host, first.moves, first.empty_s, first.back_s) == (0, (), 0.0, 60.0)


def test_no_plan_is_over_sooner_than_the_bound_that_memory_sets() -> None:
    """Half of all memory is in use, so half of the hosts can be away: two times a minute."""
    waves, pipeline = _both(_document([[50]] * 4), Rules(first_width=2, keeps_reserve=False))
    assert waves.bound_s == pipeline.bound_s == 120.0
    assert waves.makespan_s >= 120.0


def test_a_cluster_whose_hosts_cannot_be_emptied_has_no_turns_and_takes_no_time() -> None:
    waves, pipeline = _both(_document([[50]] * 2, on_maintenance="leave"), Rules(first_width=1))
    for plan in (waves, pipeline):
        assert (plan.turns, plan.makespan_s, plan.bound_s) == ((), 0.0, 0.0)
        assert [host for host, _ in plan.left] == [0, 1]


def test_a_host_that_others_still_move_to_is_not_emptied_yet() -> None:
    """h0 is empty and back long before the VM of h1 has crossed its slow link to h3."""
    document = _document([[], [60], [9, 9], [1, 1]], links=[10_000, 1, 10_000, 10_000])
    board = board_of_file(document)
    plan = pipelined(board, 0, Rules(first_width=2, keeps_reserve=False), Pace(service_s=1.0))
    slow = next(move for turn in plan.turns for move in turn.moves if move.source == 1)
    later = next(turn for turn in plan.turns if turn.host == slow.target)
    assert slow.target == 3
    assert later.start_s >= slow.end_s > 500


def test_as_many_hosts_are_away_at_once_as_wished() -> None:
    rules = Rules(first_width=3, most_width=1, keeps_reserve=False)
    _, pipeline = _both(_document([[10]] * 8), rules)
    later = sorted(pipeline.turns, key=lambda turn: turn.start_s)[3:]
    for one, other in pairwise(later):
        assert one.back_s <= other.start_s
    assert len(pipeline.turns) == 8


def test_limits_of_migrations_in_flight_are_kept() -> None:
    pace = Pace(limits=Limits(per_source=1, per_target=1, per_cluster=1))
    for plan in _both(_document([[10, 10]] * 4), Rules(first_width=2), pace):
        moves = sorted(
            (move for turn in plan.turns for move in turn.moves), key=lambda move: move.start_s
        )
        assert all(a.end_s <= b.start_s for a, b in pairwise(moves))


@pytest.mark.parametrize("seed", range(60))
def test_the_checker_finds_nothing_in_plans_of_random_clusters(seed: int) -> None:
    random = Random(seed)
    crews = [
        [random.choice((5, 10, 20, 40)) for _ in range(random.randint(0, 3))]
        for _ in range(random.randint(2, 9))
    ]
    links = [random.choice((10, 1_000, 10_000)) for _ in crews]
    document = _document(crews, reserve=random.choice(("none", "n+1")), links=links)
    slots = random.choice((1, 2, 8))
    wishes = RollingWishes(
        cluster="c1",
        width=random.randint(1, 4),
        most_away=random.choice((None, 1, 3)),
        hroller_rules=random.random() < 0.2,
        is_pipeline=random.random() < 0.7,
        service_s=random.choice((1.0, 60.0)),
        limits=Limits(per_source=slots, per_target=slots, per_cluster=random.choice((1, 8))),
    )
    plan = rolling_waves(document, wishes)
    assert violations_of(document, plan) == []
    assert len(plan.turns) + len(plan.left) == len(crews)
    assert plan.makespan_s >= plan.bound_s - 0.02
    assert rolling_waves(document, wishes) == plan


def test_the_json_tells_when_each_host_is_away() -> None:
    wishes = RollingWishes(cluster="c1", is_pipeline=True, service_s=60.0)
    plan = rolling_waves(_document([[20], [20], [20]]), wishes)
    content = json.loads(json.dumps(plan.content()))
    assert (content["pipeline"], content["service_s"]) == (True, 60.0)
    first = content["waves"][0]
    assert first["turns"][0]["back_s"] - first["turns"][0]["empty_s"] == pytest.approx(60.0)
    assert first["start_s"] == 0.0
    assert first["moves"][0]["start_s"] == 0.0
    assert content["makespan_s"] == max(wave["end_s"] for wave in content["waves"])
    assert content["bounds"]["makespan_s"] == plan.bound_s
