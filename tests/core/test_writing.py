"""What was measured of guests' writing: when it counts, and what two looks tell together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.inventory import Vm
from furlough.core.states import Power
from furlough.core.writing import (
    LONG_LOOK_S,
    Writing,
    can_be_measured,
    deserves_longer_look,
    with_writing,
    working_set,
)
from tests.core.builders import NOW, a_vm, later, repeatable, vm_id

BUSY = Writing(dirty_mib_s=40.0, at=NOW, working_set_mib=300)


def test_a_vm_is_planned_with_as_it_was_measured_a_short_time_ago() -> None:
    measured = with_writing(a_vm(), {vm_id(1): BUSY}, later(60))
    assert (measured.dirty_mib_s, measured.working_set_mib) == (40.0, 300)
    assert measured.dirty_measured_at == NOW


@pytest.mark.parametrize("seconds", [301, -1])
def test_a_measurement_that_is_old_or_of_the_future_is_none(seconds: float) -> None:
    assert with_writing(a_vm(), {vm_id(1): BUSY}, later(seconds)) == a_vm()


def test_a_vm_that_nobody_measured_stays_as_it_is() -> None:
    assert with_writing(a_vm(2), {vm_id(1): BUSY}, NOW) == a_vm(2)


def test_a_vm_that_is_off_by_now_is_not_what_was_measured() -> None:
    off = a_vm(power=Power.SHUT_OFF)
    assert with_writing(off, {vm_id(1): BUSY}, NOW) == off


def test_a_guest_that_is_paused_writes_nothing_whatever_was_measured_before() -> None:
    assert with_writing(a_vm(power=Power.PAUSED), {vm_id(1): BUSY}, NOW).dirty_mib_s == 0


@pytest.mark.parametrize(
    ("vm", "can"),
    [
        (a_vm(), True),
        (a_vm(power=Power.PAUSED), False),
        (a_vm(power=Power.SHUT_OFF), False),
        (a_vm(busy_with="a backup"), False),
        (a_vm(is_arriving=True), False),
    ],
)
def test_only_a_vm_that_runs_and_is_left_alone_is_measured(vm: Vm, can: bool) -> None:
    assert can_be_measured(vm) is can


def test_a_longer_look_is_for_guests_that_write_much_while_they_are_copied() -> None:
    vm = a_vm(memory_mib=10_000)
    assert deserves_longer_look(vm, 20.0, 100.0)
    assert not deserves_longer_look(vm, 5.0, 100.0)
    assert not deserves_longer_look(vm, 20.0, 4000.0)
    assert not deserves_longer_look(replace(vm, memory_used_mib=100), 20.0, 100.0)


def test_a_guest_that_rewrites_the_same_memory_shows_its_working_set() -> None:
    """12 MiB again and again: 12 MiB/s in the first second, and the same 12 MiB in five."""
    assert working_set(12.0, 2.0) == pytest.approx(12, abs=1)


def test_a_guest_that_finds_new_memory_to_the_end_does_not_show_how_much_it_writes() -> None:
    assert working_set(100.0, 98.0) is None
    assert working_set(0.0, 0.0) is None


@repeatable
@given(st.floats(1, 5000), st.integers(1, 100_000))
def test_a_working_set_is_found_within_what_whole_numbers_can_tell(
    dirty_mib_s: float, truth_mib: int
) -> None:
    short, long = (
        float(int(min(truth_mib, dirty_mib_s * seconds) / seconds)) for seconds in (1, LONG_LOOK_S)
    )
    found = working_set(short, long)
    assert found is None or abs(found - truth_mib) <= LONG_LOOK_S / 2 + 1
