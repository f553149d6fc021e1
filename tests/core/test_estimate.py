"""Estimates: honest about what a move takes, and never better with worse facts."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.estimate import (
    estimate_live,
    estimate_move,
    estimate_save,
    rate_between,
    rate_mib_s,
)
from furlough.core.inventory import Vm
from furlough.core.link_speed import LinkSpeed
from furlough.core.timing import Range
from tests.core.builders import H2, NOW, a_host, a_vm, an_inventory, repeatable

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


def test_an_emulator_that_needs_memory_itself_does_not_make_more_to_send() -> None:
    assert estimate_live(a_vm(memory_mib=160, memory_used_mib=212), RATE).sent_mib == 160


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


def test_a_guest_that_writes_faster_than_the_link_takes_many_rounds_until_it_is_throttled() -> None:
    """The hypervisor slows its CPUs: it pauses shortly in the end, after much was sent again."""
    estimate = estimate_live(a_vm(memory_mib=4000, dirty_mib_s=5000, working_set_mib=2000), RATE)
    assert estimate.downtime_ms <= 400
    assert estimate.sent_mib > 4 * 4000


def test_a_small_working_set_bounds_the_pause_however_fast_it_is_written() -> None:
    estimate = estimate_live(a_vm(memory_mib=4000, dirty_mib_s=5000, working_set_mib=100), RATE)
    assert estimate.downtime_ms == 200


def test_an_estimate_for_a_move_takes_the_link_between_both_hosts() -> None:
    vm = a_vm(memory_mib=4000)
    inventory = an_inventory([vm])
    fast = estimate_move(vm, a_host(H2, link_mbit_s=10_000), inventory)
    slow = estimate_move(vm, a_host(H2, link_mbit_s=1_000), inventory)
    assert slow.duration_s > 5 * fast.duration_s


def test_what_migrations_have_shown_of_a_link_counts_more_than_what_was_enrolled() -> None:
    here, there = a_host(), a_host(H2)
    known = LinkSpeed(source=here.name, target=H2, mib_s=31.0, alone_s=9.0, migrations=4, at=NOW)
    inventory = replace(an_inventory([a_vm()]), link_speeds={(here.name, H2): known})
    assert rate_between(here, there, inventory) == 31
    assert rate_between(there, here, inventory) == rate_mib_s(there, here)
    a_month_later = replace(inventory, taken_at=NOW + timedelta(days=31))
    assert rate_between(here, there, a_month_later) == rate_mib_s(here, there)
    assert estimate_move(a_vm(memory_mib=3100), there, inventory).duration_s == pytest.approx(101)


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
