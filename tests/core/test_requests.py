"""Requests that make no sense on the facts are refused with what, why and what to do."""

from __future__ import annotations

import math

import pytest

from furlough.core.requests import (
    check_connected,
    check_hash,
    check_mode,
    check_movable,
    check_timeout,
    nothing_to_do,
)
from furlough.core.states import HostMode, Power
from furlough.errors import Conflict, Invalid, Refused
from tests.core.builders import H1, a_host, a_plan, a_vm, planned


def test_a_host_in_another_mode_is_a_conflict_that_names_both() -> None:
    check_mode(H1, HostMode.MAINTENANCE, HostMode.MAINTENANCE)
    with pytest.raises(Conflict, match="h1 is cordoned, not maintenance"):
        check_mode(H1, HostMode.CORDONED, HostMode.MAINTENANCE)


def test_a_silent_host_is_refused_with_what_it_said() -> None:
    check_connected(a_host(H1))
    with pytest.raises(Refused, match="h1 does not answer: no route"):
        check_connected(a_host(H1, silent_because="no route"))


@pytest.mark.parametrize("power", [Power.RUNNING, Power.PAUSED])
def test_a_vm_that_runs_or_is_paused_can_move(power: Power) -> None:
    check_movable(a_vm(1, power=power))


@pytest.mark.parametrize(
    ("vm", "why"),
    [
        (a_vm(1, power=Power.SHUT_OFF), "it is shut_off"),
        (a_vm(1, power=Power.SUSPENDED), "it is suspended"),
        (a_vm(1, devices=["gpu"]), "gpu"),
        (a_vm(1, busy_with="a backup"), "a backup"),
    ],
)
def test_a_vm_that_cannot_move_is_refused_with_the_reason(vm: object, why: str) -> None:
    with pytest.raises(Refused, match=f"vm1 cannot move live: {why}"):
        check_movable(vm)  # type: ignore[arg-type]


def test_a_plan_that_is_no_longer_the_approved_one_is_not_carried_out() -> None:
    plan, other = a_plan(planned(1)), a_plan(planned(1), planned(2))
    check_hash(plan, None)
    check_hash(plan, plan.hash)
    with pytest.raises(Conflict) as refusal:
        check_hash(plan, other.hash)
    assert refusal.value.facts["plan"] == plan


@pytest.mark.parametrize("timeout_s", [None, 0.0, 1.0, 366 * 86400.0])
def test_timeouts_up_to_a_year_are_taken(timeout_s: float | None) -> None:
    check_timeout(timeout_s)


@pytest.mark.parametrize("timeout_s", [366 * 86400.0 + 1, 1e300, math.inf, math.nan])
def test_timeouts_beyond_sense_are_refused(timeout_s: float) -> None:
    with pytest.raises(Invalid, match="longer than a year"):
        check_timeout(timeout_s)


def test_where_nothing_is_to_be_done_the_refusal_says_so() -> None:
    refusal = nothing_to_do("VM vm1 is off already.")
    assert (refusal.code, refusal.message) == ("vm.changed", "VM vm1 is off already.")
    assert refusal.remedy
