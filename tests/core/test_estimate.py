"""What estimates are made of: links, ranges, and guesses that are told as such."""

from __future__ import annotations

import pytest

from furlough.core.estimate import Range, estimate_save, link_mib_s, side_by_side
from tests.core.builders import a_host, a_vm


def test_a_link_moves_what_its_speed_says_less_a_little() -> None:
    assert link_mib_s(a_host(link_mbit_s=1000)) == pytest.approx(0.94 * 10**9 / 8 / 2**20)


def test_saving_a_vm_takes_as_long_as_its_memory_is_large() -> None:
    assert estimate_save(a_vm(memory_mib=20_000)) == 101
    assert estimate_save(a_vm(memory_mib=20_000, memory_used_mib=2000)) == 11


def test_what_follows_takes_its_time_on_top() -> None:
    both = Range(low=1.0, high=2.0) + Range(low=10.0, high=20.0)
    assert both == Range(low=11.0, high=22.0)


def test_a_link_of_unknown_speed_makes_a_move_long_and_not_impossible() -> None:
    assert link_mib_s(a_host(link_mbit_s=0)) == pytest.approx(0.112, abs=0.001)


def test_vms_that_are_stopped_together_take_as_long_as_the_slowest_and_its_grace() -> None:
    assert side_by_side([20.0, 1.0], [0.0, 300.0]) == Range(low=20.0, high=300.0)
    assert side_by_side([20.0], [0.0]) == Range(low=20.0, high=60.0)
