"""One migration alone on its links: honest about what it takes, never better with worse facts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.estimate import Estimate
from furlough.core.inventory import Vm
from furlough.planning.handover import HELD_S, expected_move, job_of
from furlough.planning.link_model import alone
from tests.core.builders import H1, H2, a_host, a_vm, an_inventory, repeatable

RATE = 1000.0


def _alone(vm: Vm, rate_mib_s: float) -> Estimate:
    return alone(job_of(vm, 0, 1, an_inventory([vm])), rate_mib_s)


def test_an_idle_vm_takes_its_memory_over_the_link_and_a_second_of_set_up() -> None:
    estimate = _alone(a_vm(memory_mib=4000), RATE)
    assert estimate.duration_s == pytest.approx(5.0)
    assert estimate.sent_mib == 4000
    assert estimate.downtime_ms == 100


def test_memory_that_the_guest_never_used_is_not_sent() -> None:
    assert _alone(a_vm(memory_mib=4000, memory_used_mib=500), RATE).sent_mib == 500


def test_a_busy_guest_takes_more_rounds_and_a_longer_pause() -> None:
    idle = _alone(a_vm(memory_mib=4000), RATE)
    busy = _alone(a_vm(memory_mib=4000, dirty_mib_s=400, working_set_mib=2000), RATE)
    assert busy.duration_s > idle.duration_s
    assert busy.sent_mib > idle.sent_mib
    assert busy.downtime_ms > idle.downtime_ms


def test_each_round_sends_what_was_written_during_the_one_before_until_the_rest_is_small() -> None:
    """4000, 2000, 1000 and 500 MiB; the last 250 take a quarter of a second: that is the pause."""
    estimate = _alone(a_vm(memory_mib=4000, dirty_mib_s=500, working_set_mib=2000), RATE)
    assert estimate.sent_mib == 4000 + 2000 + 1000 + 500 + 250
    assert estimate.duration_s == pytest.approx(8.75)
    assert estimate.downtime_ms == 350


def test_a_guest_that_writes_faster_than_the_link_is_not_promised_a_short_pause() -> None:
    """It does not converge: what is left when we give up is its whole working set."""
    estimate = _alone(a_vm(memory_mib=4000, dirty_mib_s=5000, working_set_mib=2000), RATE)
    assert estimate.downtime_ms == 2100


def test_a_small_working_set_bounds_the_pause_however_fast_it_is_written() -> None:
    estimate = _alone(a_vm(memory_mib=4000, dirty_mib_s=5000, working_set_mib=100), RATE)
    assert estimate.downtime_ms == 200


_GUESTS = st.builds(
    a_vm,
    memory_mib=st.integers(1, 200_000),
    dirty_mib_s=st.none() | st.floats(0, 5000),
    working_set_mib=st.none() | st.integers(0, 200_000),
)


@repeatable
@given(_GUESTS, st.floats(0.1, 5000), st.floats(0.1, 5000))
def test_a_faster_link_never_makes_a_move_longer(vm: Vm, one: float, other: float) -> None:
    slow, fast = sorted((one, other))
    assert _alone(vm, fast).duration_s <= _alone(vm, slow).duration_s


@repeatable
@given(_GUESTS, st.floats(0.1, 5000))
def test_every_move_takes_some_time_and_sends_at_least_the_memory_in_use(
    vm: Vm, rate: float
) -> None:
    estimate = _alone(vm, rate)
    assert estimate.duration_s >= 1
    assert estimate.downtime_ms >= 100
    assert estimate.sent_mib >= vm.memory_mib


def test_the_slower_of_two_links_sets_the_rate() -> None:
    vm = a_vm(memory_mib=4000)
    fast, slow = a_host(H2, link_mbit_s=10_000), a_host(H2, link_mbit_s=1_000)
    from_fast = an_inventory([vm], hosts=[a_host(H1, link_mbit_s=10_000), slow])
    from_slow = an_inventory([vm], hosts=[a_host(H1, link_mbit_s=1_000), fast])
    assert expected_move(vm, slow, from_fast) == expected_move(vm, fast, from_slow)
    assert expected_move(vm, slow, from_fast).duration_s > 30


def test_a_held_handover_adds_to_the_pause_and_to_the_whole() -> None:
    vm = a_vm(memory_mib=4000)
    job = job_of(vm, 0, 1, an_inventory([vm]))
    free, held = alone(job, RATE), alone(replace(job, held_s=HELD_S), RATE)
    assert held.duration_s == pytest.approx(free.duration_s + HELD_S)
    assert held.downtime_ms == free.downtime_ms + 400
