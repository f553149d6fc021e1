"""Trying again: what a refusal means for the next attempt."""

from __future__ import annotations

import pytest

from furlough.core.ids import HostName
from furlough.core.retry import MOST_ATTEMPTS, REFUSALS, retry_at
from tests.core.builders import (
    H2,
    H3,
    NOW,
    a_failure,
    a_step,
    an_attempt,
    later,
    planned,
)

TWO, ONE = (H2, H3), (H2,)


@pytest.mark.parametrize(
    ("code", "targets", "delay_s"),
    [
        ("hypervisor.busy", ONE, 5),
        ("hypervisor.aborted", ONE, 5),
        ("hypervisor.lost", TWO, 60),
        ("hypervisor.failed", TWO, 2),
        ("target.refused", TWO, 0),
        ("target.no_room", ONE, 10),
        ("target.not_available", TWO, 0),
        ("host.silent", ONE, 10),
        ("something.new", ONE, 2),
    ],
)
def test_an_attempt_that_may_go_better_next_time_is_made_again(
    code: str, targets: tuple[HostName, ...], delay_s: float
) -> None:
    step = a_step(planned(1, targets=targets))
    assert retry_at(step, a_failure(code), NOW) == later(delay_s)


@pytest.mark.parametrize(
    "code",
    [
        "vm.immovable",
        "vm.changed",
        "hypervisor.denied",
        "guard.refused",
        "guest.ignored",
        "host.not_empty",
        "vm.transient",
        "vm.left",
        "guard.unproven",
    ],
)
def test_an_attempt_that_would_end_the_same_way_is_not_made_again(code: str) -> None:
    assert retry_at(a_step(planned(1, targets=TWO)), a_failure(code), NOW) is None


@pytest.mark.parametrize("code", ["target.refused", "target.not_available"])
def test_a_target_that_refuses_is_not_asked_again_when_it_is_the_only_one(code: str) -> None:
    assert retry_at(a_step(planned(1, targets=ONE)), a_failure(code), NOW) is None


def test_every_vm_gets_three_attempts_and_no_more() -> None:
    tries = [an_attempt(H2, failure=a_failure()) for _ in range(MOST_ATTEMPTS - 1)]
    assert MOST_ATTEMPTS == 3
    assert retry_at(a_step(planned(1), attempts=tries[:1]), a_failure(), NOW) is not None
    assert retry_at(a_step(planned(1), attempts=tries), a_failure(), NOW) is None


def test_an_attempt_that_never_began_costs_none_of_the_three() -> None:
    crashed = an_attempt(H2, failure=a_failure("hypervisor.lost"), counts=False)
    step = a_step(planned(1), attempts=[crashed] * 5)
    assert retry_at(step, a_failure(), NOW) == later(2)


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_every_class_of_refusal_says_what_it_means(code: str) -> None:
    assert REFUSALS[code].meaning.endswith(".")
    delay_s = REFUSALS[code].delay_s
    assert delay_s is None or 0 <= delay_s <= 60
