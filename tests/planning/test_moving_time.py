"""The time that a plan's moves take: as expected, its range, and why we think so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.ids import HostName
from furlough.core.inventory import Inventory, Vm
from furlough.core.link_speed import LinkSpeed
from furlough.core.plan import Handover
from furlough.core.timing import Range
from furlough.planning.handover import HELD_S
from furlough.planning.moving_time import MovingTime, moving_time
from tests.core.builders import H1, H2, H3, H4, NOW, a_host, a_vm, an_inventory, planned, repeatable


def _moving(inventory: Inventory, *, handover: Handover = Handover.NORMAL) -> MovingTime:
    """Every VM on H1 goes to H2."""
    steps = [
        planned(number, vm=vm.id, targets=(H2,), handover=handover)
        for number, vm in enumerate(inventory.vms_on(H1), 1)
    ]
    return moving_time(steps, inventory)


def _measured(vm: Vm, dirty_mib_s: float, working_set_mib: int | None = None) -> Vm:
    return replace(
        vm,
        dirty_mib_s=dirty_mib_s,
        working_set_mib=working_set_mib,
        dirty_measured_at=NOW - timedelta(seconds=40),
    )


def _on_slow_links(*vms: Vm) -> Inventory:
    return an_inventory(vms, hosts=[a_host(one, link_mbit_s=1000) for one in (H1, H2, H3)])


def test_what_is_expected_lies_within_the_range() -> None:
    moving = _moving(_on_slow_links(*(_measured(a_vm(n), 10.0, 100) for n in (1, 2, 3))))
    expected_s = max(one.start_s + one.duration_s for one in moving.steps.values())
    assert moving.ranges[H1].low < expected_s < moving.ranges[H1].high


def test_a_held_handover_takes_longer_and_pauses_longer() -> None:
    inventory = an_inventory([a_vm()])
    normal, held = _moving(inventory), _moving(inventory, handover=Handover.HELD)
    assert held.steps[1].duration_s == pytest.approx(normal.steps[1].duration_s + HELD_S)
    assert held.steps[1].downtime_ms == normal.steps[1].downtime_ms + 400


def test_the_bounds_of_a_working_set_narrow_the_range() -> None:
    vm = a_vm(memory_mib=8000)
    vague, narrow = (
        _moving(_on_slow_links(_measured(vm, 50.0, known))).ranges[H1] for known in (None, 100)
    )
    assert narrow.high < vague.high
    assert narrow.low == pytest.approx(vague.low, rel=0.1)


def test_some_of_what_the_process_of_a_small_vm_has_in_use_may_be_its_emulators() -> None:
    small, large = (
        _moving(_on_slow_links(_measured(a_vm(memory_mib=memory_mib), 0.0))).ranges[H1]
        for memory_mib in (200, 20_000)
    )
    assert small.high / small.low > large.high / large.low


def test_a_guest_of_which_nobody_knows_how_it_writes_widens_the_range_and_is_counted() -> None:
    measured, unknown = (
        _moving(an_inventory([_measured(a_vm(), 0.0)])),
        _moving(an_inventory([a_vm()])),
    )
    assert unknown.ranges[H1].high > measured.ranges[H1].high
    assert "nobody measured how much 1 VM(s) write" in unknown.reasons
    assert "how much 1 VM(s) write was measured up to 40 s ago" in measured.reasons


def _learned(inventory: Inventory, mib_s: float, *targets: HostName) -> Inventory:
    known = {
        (H1, target): LinkSpeed(
            source=H1, target=target, mib_s=mib_s, alone_s=9.0, migrations=4, at=NOW
        )
        for target in targets
    }
    return replace(inventory, link_speeds=known)


def test_what_a_link_has_carried_is_reckoned_with_and_named() -> None:
    inventory = an_inventory([_measured(a_vm(memory_mib=3100), 0.0)])
    moving = _moving(_learned(inventory, 31.0, H2))
    assert moving.steps[1].duration_s == pytest.approx(101, rel=0.01)
    assert "4 migrations from h1 to h2: 31 MiB/s" in moving.reasons
    nominal = _moving(inventory)
    assert nominal.steps[1].duration_s < 10
    assert "1 link(s) as enrolled: nothing has moved there yet" in nominal.reasons


def test_of_many_links_the_first_few_are_named() -> None:
    targets = [H2, H3, H4, HostName("h5")]
    vms = [a_vm(number) for number in range(1, 5)]
    hosts = [a_host(name) for name in (H1, *targets)]
    steps = [
        planned(number, vm=vm.id, targets=(target,))
        for number, (vm, target) in enumerate(zip(vms, targets, strict=True), 1)
    ]
    inventory = _learned(an_inventory(vms, hosts=hosts), 31.0, *targets)
    reasons = moving_time(steps, inventory).reasons
    assert sum("31 MiB/s" in one for one in reasons) == 3
    assert "so for 1 more links" in reasons


def test_a_plan_without_moves_takes_no_time_and_needs_no_reasons() -> None:
    assert moving_time([], an_inventory()) == MovingTime(steps={}, ranges={}, reasons=())


_GUESTS = st.builds(
    lambda memory_mib, dirty_mib_s, working_set_mib: replace(
        a_vm(memory_mib=memory_mib), dirty_mib_s=dirty_mib_s, working_set_mib=working_set_mib
    ),
    st.integers(1, 50_000),
    st.none() | st.floats(0, 500),
    st.none() | st.integers(0, 50_000),
)


@repeatable
@given(st.lists(_GUESTS, min_size=1, max_size=6), st.integers(1, 2000))
def test_a_range_is_never_upside_down_and_every_step_has_its_time(
    guests: Iterable[Vm], mib_s: int
) -> None:
    vms = [replace(vm, id=a_vm(number).id) for number, vm in enumerate(guests, 1)]
    moving = _moving(_learned(an_inventory(vms), mib_s, H2))
    found: Range = moving.ranges[H1]
    assert 0 < found.low <= found.high
    for step in moving.steps.values():
        assert 0 <= step.start_s <= found.high
        assert 0 < step.duration_s <= found.high + 0.1
