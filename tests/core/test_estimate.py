"""Estimates: honest about what a move takes, and never better with worse facts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.estimate import (
    NO_TIME,
    Range,
    estimate_live,
    estimate_move,
    estimate_save,
    makespan,
    rate_mib_s,
)
from furlough.core.inventory import Vm
from tests.core.builders import H2, a_host, a_vm, an_inventory, repeatable

RATE = 1000.0


def test_a_link_moves_what_its_speed_says_less_a_little() -> None:
    gigabit = a_host(link_mbit_s=1000)
    assert rate_mib_s(gigabit, gigabit) == pytest.approx(0.94 * 10**9 / 8 / 2**20)


def test_saving_a_vm_takes_as_long_as_its_memory_is_large() -> None:
    assert estimate_save(a_vm(memory_mib=20_000)) == 101
    assert estimate_save(a_vm(memory_mib=20_000, memory_used_mib=2000)) == 11


def test_what_follows_takes_its_time_on_top() -> None:
    both = Range(low=1.0, high=2.0) + Range(low=10.0, high=20.0)
    assert both == Range(low=11.0, high=22.0)


def test_the_slower_of_two_links_sets_the_rate() -> None:
    fast, slow = a_host(link_mbit_s=10_000), a_host(link_mbit_s=1_000)
    assert rate_mib_s(fast, slow) == rate_mib_s(slow, fast) == rate_mib_s(slow, slow)


def test_a_link_of_unknown_speed_makes_a_move_long_and_not_impossible() -> None:
    unknown = a_host(link_mbit_s=0)
    assert rate_mib_s(unknown, a_host()) == pytest.approx(0.112, abs=0.001)


def test_an_idle_vm_takes_its_memory_over_the_link_and_a_second_of_set_up() -> None:
    estimate = estimate_live(a_vm(memory_mib=4000), RATE)
    assert estimate.duration_s == pytest.approx(5.0)
    assert estimate.sent_mib == 4000
    assert estimate.downtime_ms == 100


def test_memory_that_the_guest_never_used_is_not_sent() -> None:
    assert estimate_live(a_vm(memory_mib=4000, memory_used_mib=500), RATE).sent_mib == 500


def test_a_busy_guest_takes_more_rounds_and_a_longer_pause() -> None:
    idle = estimate_live(a_vm(memory_mib=4000), RATE)
    busy = estimate_live(a_vm(memory_mib=4000, dirty_mib_s=400, working_set_mib=2000), RATE)
    assert busy.duration_s > idle.duration_s
    assert busy.sent_mib > idle.sent_mib
    assert busy.downtime_ms > idle.downtime_ms


def test_each_round_sends_what_was_written_during_the_one_before_until_the_rest_is_small() -> None:
    """4000, 2000, 1000 and 500 MiB; the last 250 take a quarter of a second: that is the pause."""
    estimate = estimate_live(a_vm(memory_mib=4000, dirty_mib_s=500, working_set_mib=2000), RATE)
    assert estimate.sent_mib == 4000 + 2000 + 1000 + 500 + 250
    assert estimate.duration_s == pytest.approx(8.75)
    assert estimate.downtime_ms == 350


def test_a_guest_that_writes_faster_than_the_link_is_not_promised_a_short_pause() -> None:
    """It does not converge: what is left when we give up is its whole working set."""
    estimate = estimate_live(a_vm(memory_mib=4000, dirty_mib_s=5000, working_set_mib=2000), RATE)
    assert estimate.downtime_ms == 2100


def test_a_small_working_set_bounds_the_pause_however_fast_it_is_written() -> None:
    estimate = estimate_live(a_vm(memory_mib=4000, dirty_mib_s=5000, working_set_mib=100), RATE)
    assert estimate.downtime_ms == 200


def test_an_estimate_for_a_move_takes_the_link_between_both_hosts() -> None:
    vm = a_vm(memory_mib=4000)
    inventory = an_inventory([vm])
    fast = estimate_move(vm, a_host(H2, link_mbit_s=10_000), inventory)
    slow = estimate_move(vm, a_host(H2, link_mbit_s=1_000), inventory)
    assert slow.duration_s > 5 * fast.duration_s


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
    assert estimate_live(vm, fast).duration_s <= estimate_live(vm, slow).duration_s


@repeatable
@given(_GUESTS, st.floats(0.1, 5000))
def test_every_move_takes_some_time_and_sends_at_least_the_memory_in_use(
    vm: Vm, rate: float
) -> None:
    estimate = estimate_live(vm, rate)
    assert estimate.duration_s >= 1
    assert estimate.downtime_ms >= 100
    assert estimate.sent_mib >= vm.memory_mib


def test_no_migrations_take_no_time() -> None:
    assert makespan([], RATE, 2) == NO_TIME == Range(low=0, high=0)


def test_migrations_of_which_none_may_fly_are_counted_as_one_after_another() -> None:
    assert makespan([1000] * 4, RATE, 0) == makespan([1000] * 4, RATE, 1)


def test_several_migrations_share_the_link() -> None:
    one, four = makespan([4000], RATE, 2), makespan([4000] * 4, RATE, 2)
    assert one == Range(low=5.0, high=8.0)
    assert four == Range(low=17.0, high=27.0)


def test_more_migrations_at_once_hide_set_ups_and_cannot_widen_the_link() -> None:
    by_one, by_four = makespan([1000] * 8, RATE, 1), makespan([1000] * 8, RATE, 4)
    assert by_four.high < by_one.high
    assert by_four.low == by_one.low


@repeatable
@given(st.lists(st.integers(0, 100_000), max_size=20), st.floats(1, 5000), st.integers(0, 8))
def test_the_low_end_of_a_range_is_never_above_its_high_end(
    sizes: list[int], rate: float, at_once: int
) -> None:
    span = makespan(sizes, rate, at_once)
    assert 0 <= span.low <= span.high
