"""Schedules: who moves when, on links that one migration owns at a time, never over the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.policy import Limits, Order
from furlough.planning.checking import Move, violations
from furlough.planning.checking import Terms as CheckTerms
from furlough.planning.inventory_file import parse
from furlough.planning.link_model import Job
from furlough.planning.scheduling import Run, Schedule, Sites, Terms, TimedMove, schedule
from tests.core.builders import repeatable, vm_id

GIB = 1024
AROUND_S = 1.0  # set-up and finish


def _job(
    vm: int,
    target: int = 1,
    source: int = 0,
    *,
    gib: int = 4,
    sends_mib: float | None = None,
    dirty_mib_s: float | None = 0.0,
    working_set_mib: float | None = None,
    priority: int = 50,
) -> Job:
    return Job(
        vm=vm,
        source=source,
        target=target,
        memory_mib=gib * GIB,
        vcpus=1,
        sends_mib=gib * GIB if sends_mib is None else sends_mib,
        dirty_mib_s=dirty_mib_s,
        working_set_mib=working_set_mib,
        priority=priority,
    )


def _sites(*room_gib: int, link_mib_s: float = 1024.0) -> Sites:
    """Hosts with this much room and links of 1 GiB/s."""
    return Sites(
        room_memory_mib=[gib * GIB for gib in room_gib],
        room_vcpus=[1000] * len(room_gib),
        link_mib_s=[link_mib_s] * len(room_gib),
        clusters=[0] * len(room_gib),
    )


WIDE = _sites(0, 1000, 1000, 1000)


def _move_of(found: Schedule, vm: int) -> TimedMove:
    return next(move for move in found.moves if move.vm == vm)


def test_a_cluster_that_is_full_waits_and_holds_up_no_other() -> None:
    sites = replace(_sites(0, 0, 1000, 0, 1000), clusters=[0, 0, 0, 1, 1])
    jobs = [_job(1, 2, 0), _job(2, 2, 1), _job(3, 4, 3)]
    found = schedule(jobs, sites, Terms(limits=Limits(per_cluster=1)))
    assert _move_of(found, 3).start_s == 0.0
    assert sorted(_move_of(found, vm).start_s for vm in (1, 2)) == [0.0, 5.0]


@repeatable
@given(
    moves=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(1, 40)), max_size=24)
)
def test_what_is_remembered_of_urgencies_is_what_would_be_found_now(
    moves: list[tuple[int, int, int]],
) -> None:
    """At every event of any schedule, the hosts come in the order that their own links and the
    links of their next targets give them, remembered or not."""
    jobs = [_job(vm, (at + by) % 5, at, gib=gib) for vm, (at, by, gib) in enumerate(moves)]
    sites = _sites(*([60] * 5))

    def made(*, forgets: bool) -> tuple[list[TimedMove], list[Job]]:
        run = Run(sites, Terms(limits=Limits(), may_park=lambda _vm, _host: True))
        run.add(jobs)
        run.begin_all()
        while run.is_under_way:
            run.pass_time()
            if forgets:
                run._urgencies.clear()
            run.begin_all()
        return run.moves, run.waiting_jobs()

    assert made(forgets=False) == made(forgets=True)


def test_nothing_to_move_takes_no_time() -> None:
    found = schedule([], WIDE, Terms())
    assert (found.moves, found.stuck, found.makespan_s, found.bound_s) == ((), (), 0.0, 0.0)
    assert (found.eta.low, found.eta.high) == (0.0, 0.0)


def test_one_idle_vm_takes_its_bytes_over_the_link_with_set_up_and_finish() -> None:
    found = schedule([_job(1, gib=10)], WIDE, Terms())
    (move,) = found.moves
    assert (move.start_s, move.duration_s, move.end_s) == (0.0, 10 + AROUND_S, 11.0)
    assert (move.sent_mib, move.downtime_ms) == (10 * GIB, 100)
    assert found.makespan_s == found.bound_s == 11.0


def test_the_slower_of_two_links_and_the_stream_bound_the_rate() -> None:
    sites = replace(WIDE, link_mib_s=[1024.0, 512.0, 1024.0, 1024.0])
    assert schedule([_job(1, gib=1)], sites, Terms()).makespan_s == 2 + AROUND_S
    narrow = Terms(stream_mib_s=256.0)
    found = schedule([_job(1, gib=1)], sites, narrow)
    assert found.makespan_s == found.bound_s == 4 + AROUND_S


def test_a_vm_that_writes_is_sent_again_in_rounds_until_the_rest_fits_the_pause() -> None:
    """8 GiB at 1 GiB/s; meanwhile 2 GiB are written, then 512 MiB, then 128 MiB, which fit."""
    (move,) = schedule([_job(1, gib=8, dirty_mib_s=256.0)], WIDE, Terms()).moves
    assert move.sent_mib == 8 * GIB + 2048 + 512 + 128
    assert move.downtime_ms == 100 + 125
    assert move.duration_s == pytest.approx(move.sent_mib / 1024 + AROUND_S, abs=0.01)


def test_no_more_than_the_working_set_is_written_again() -> None:
    (move,) = schedule(
        [_job(1, gib=8, dirty_mib_s=256.0, working_set_mib=100)], WIDE, Terms()
    ).moves
    assert move.sent_mib == 8 * GIB + 100


def test_a_vm_that_never_converges_is_ended_after_many_rounds_and_widens_the_estimate() -> None:
    found = schedule([_job(1, gib=1, dirty_mib_s=5000.0)], WIDE, Terms())
    (move,) = found.moves
    assert move.sent_mib == 31 * GIB
    assert move.downtime_ms == 1100
    assert "1 VM(s) write about as fast" in " ".join(found.reasons)
    assert found.eta.high > 1.5 * found.makespan_s


def test_one_vm_owns_the_link_and_the_next_is_set_up_in_its_shadow() -> None:
    found = schedule([_job(vm, gib=10) for vm in range(3)], WIDE, Terms())
    assert [move.end_s for move in found.moves] == [11.0, 21.0, 31.0]
    assert found.makespan_s == found.bound_s
    first, second, third = found.moves
    assert second.start_s < first.end_s
    assert third.start_s >= first.end_s - 0.4  # two in flight fill the link and its shadow


def test_links_of_different_hosts_are_used_at_once_and_a_shared_target_is_not_shared_out() -> None:
    sites = _sites(0, 0, 1000, 1000)
    apart = [_job(1, 2, 0, gib=10), _job(2, 3, 1, gib=10)]
    assert schedule(apart, sites, Terms()).makespan_s == 11.0
    together = [_job(1, 2, 0, gib=10), _job(2, 2, 1, gib=10)]
    assert schedule(together, sites, Terms()).makespan_s == 21.0


def test_several_narrow_streams_fill_a_wide_link() -> None:
    found = schedule([_job(vm, gib=10) for vm in range(8)], WIDE, Terms(stream_mib_s=256.0))
    assert found.makespan_s == pytest.approx(found.bound_s, abs=1)
    assert sum(move.start_s == 0.0 for move in found.moves) == 5  # four fill it, one in the shadow


def test_the_host_with_most_to_send_and_on_it_the_largest_vm_go_first() -> None:
    sites = _sites(0, 0, 1000)
    jobs = [_job(1, 2, 0, gib=2), _job(2, 2, 1, gib=4), _job(3, 2, 1, gib=8)]
    found = schedule(jobs, sites, Terms(limits=Limits(per_source=1, per_target=1)))
    assert [move.vm for move in found.moves] == [3, 2, 1]


def test_in_order_of_memory_the_most_memory_goes_first_then_who_matters_more() -> None:
    sites = _sites(0, 0, 1000)
    jobs = [
        _job(1, 2, 0, gib=4, priority=10),
        _job(2, 2, 1, gib=4, priority=90),
        _job(3, 2, 1, gib=2),
        _job(4, 2, 1, gib=1),
        _job(5, 2, 0, gib=8),
    ]
    limits = Limits(per_source=1, per_target=1)
    found = schedule(jobs, sites, Terms(order=Order.MEMORY, limits=limits))
    assert [move.vm for move in found.moves] == [5, 2, 1, 3, 4]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(per_source=1, per_target=9, per_cluster=9),
        Limits(per_source=9, per_target=1, per_cluster=9),
        Limits(per_source=9, per_target=9, per_cluster=1),
        Limits(per_source=0, per_target=0, per_cluster=0),
    ],
)
def test_with_one_slot_moves_follow_one_another(limits: Limits) -> None:
    found = schedule([_job(vm, gib=1) for vm in range(4)], WIDE, Terms(limits=limits))
    assert len(found.moves) == 4
    assert all(one.end_s <= other.start_s for one, other in pairwise(found.moves))


def test_a_vm_waits_for_those_that_make_room_for_it() -> None:
    """Host 1 is full until vm2 has left it; both copies of vm2 are kept while it moves."""
    sites = _sites(0, 0, 1000)
    found = schedule([_job(1, 1, 0, gib=8), _job(2, 2, 1, gib=8)], sites, Terms())
    assert _move_of(found, 1).start_s == _move_of(found, 2).end_s


def test_vcpus_make_others_wait_too() -> None:
    sites = replace(_sites(0, 100, 100), room_vcpus=[0, 0, 9])
    found = schedule([_job(1, 1, 0, gib=1), _job(2, 2, 1, gib=1)], sites, Terms())
    assert _move_of(found, 1).start_s == _move_of(found, 2).end_s


def test_two_vms_that_swap_places_do_so_over_a_third_host() -> None:
    sites = _sites(0, 0, 5)
    jobs = [_job(1, 1, 0, gib=4), _job(2, 0, 1, gib=4, sends_mib=100)]
    found = schedule(jobs, sites, Terms(may_park=lambda _vm, _host: True))
    assert found.stuck == ()
    detour, first, onward = found.moves
    assert (detour.vm, detour.source, detour.target, detour.is_detour) == (2, 1, 2, True)
    assert (first.vm, first.target, first.start_s) == (1, 1, detour.end_s)
    assert (onward.vm, onward.source, onward.target, onward.is_detour) == (2, 2, 0, False)
    assert onward.start_s >= first.end_s
    assert "third host" in " ".join(found.reasons)


def test_a_ring_without_a_place_to_park_is_told_and_delays_nobody_else() -> None:
    sites = _sites(0, 0, 3, 100)
    jobs = [_job(1, 1, 0, gib=4), _job(2, 0, 1, gib=4), _job(3, 3, 0, gib=1)]
    found = schedule(jobs, sites, Terms(may_park=lambda _vm, host: host == 2))
    assert [move.vm for move in found.moves] == [3]
    assert {job.vm for job in found.stuck} == {1, 2}
    assert schedule(jobs, sites, Terms()).stuck == found.stuck


def test_a_vm_without_room_on_its_target_is_not_parked_for_nothing() -> None:
    found = schedule([_job(1)], _sites(0, 0, 100), Terms(may_park=lambda _vm, _host: True))
    assert [job.vm for job in found.stuck] == [1]
    assert found.moves == ()


def test_vms_that_must_not_meet_wait_until_the_other_has_left() -> None:
    sites = _sites(0, 100, 100)
    jobs = [_job(1, 1, 0, gib=8), _job(2, 2, 1, gib=1)]
    apart = Terms(apart=[(1, 2, 3)], seats={1: 0, 2: 1, 3: 3})
    found = schedule(jobs, sites, apart)
    assert _move_of(found, 1).start_s == _move_of(found, 2).end_s
    assert _move_of(schedule(jobs, sites, Terms()), 1).start_s == 0.0


def test_what_nobody_measured_widens_the_estimate_and_is_told() -> None:
    measured = schedule([_job(1, gib=10)], WIDE, Terms())
    unmeasured = schedule([_job(1, gib=10, dirty_mib_s=None)], WIDE, Terms())
    assert unmeasured.makespan_s == measured.makespan_s
    assert unmeasured.eta.high > measured.eta.high > measured.makespan_s
    assert "nobody measured" in " ".join(unmeasured.reasons)
    assert measured.eta.low == measured.bound_s


# --- any cluster --------------------------------------------------------------------------------

_HOSTS, _LIMIT_GIB = 4, 24


@st.composite
def _crowds(draw: st.DrawFn) -> list[tuple[int, int, int, float]]:
    """VMs as (source, target, GiB, dirty rate), on four hosts that hold them before and after."""
    before, after = [0] * _HOSTS, [0] * _HOSTS
    found = []
    for _ in range(draw(st.integers(1, 14))):
        source, target = draw(st.permutations(range(_HOSTS)))[:2]
        gib = draw(st.integers(1, 8))
        if before[source] + gib <= _LIMIT_GIB and after[target] + gib <= _LIMIT_GIB:
            before[source] += gib
            after[target] += gib
            found.append((source, target, gib, draw(st.sampled_from([0.0, 50.0, 300.0]))))
    return found


@repeatable
@given(
    crowd=_crowds(),
    order=st.sampled_from(Order),
    slots=st.integers(1, 3),
)
def test_whatever_changes_places_no_instant_breaks_a_limit(
    crowd: list[tuple[int, int, int, float]], order: Order, slots: int
) -> None:
    """Judged by the checker, which knows nothing of how schedules are made."""
    limits = Limits(per_source=slots, per_target=slots, per_cluster=2 * slots)
    used = [sum(gib for source, _, gib, _ in crowd if source == host) for host in range(_HOSTS)]
    jobs = [
        _job(vm, target, source, gib=gib, dirty_mib_s=dirty)
        for vm, (source, target, gib, dirty) in enumerate(crowd)
    ]
    terms = Terms(limits=limits, order=order, may_park=lambda _vm, _host: True)
    found = schedule(jobs, _sites(*(_LIMIT_GIB - one for one in used)), terms)
    assert _broken(crowd, found, limits) == []
    there = {move.vm for move in found.moves if move.target == crowd[move.vm][1]}
    assert there | {job.vm for job in found.stuck} == set(range(len(crowd)))
    assert not there & {job.vm for job in found.stuck}
    assert found.makespan_s >= found.bound_s or found.stuck


def _broken(
    crowd: Sequence[tuple[int, int, int, float]], found: Schedule, limits: Limits
) -> list[str]:
    host = {"cluster": "c1", "cpus": 99, "memory_mib": _LIMIT_GIB * GIB}
    document = parse(
        {
            "format": 1,
            "taken_at": "2026-11-22T10:00:00Z",
            "clusters": [{"name": "c1", "memory_ceiling": 1.0}],
            "hosts": [{"name": f"h{at}", **host} for at in range(_HOSTS)],
            "vms": [
                {"uuid": vm_id(vm), "host": f"h{source}", "vcpus": 1, "memory_mib": gib * GIB}
                for vm, (source, _, gib, _) in enumerate(crowd)
            ],
        }
    )
    moves = [
        Move(
            vm=vm_id(move.vm),
            source=f"h{move.source}",
            target=f"h{move.target}",
            start_s=move.start_s,
            end_s=move.end_s,
        )
        for move in found.moves
    ]
    terms = CheckTerms(
        leaving=frozenset(),
        per_source=limits.per_source,
        per_target=limits.per_target,
        per_cluster=limits.per_cluster,
    )
    return violations(document, moves, terms)
