"""Requests that make no sense on the facts are refused with what, why and what to do."""

from __future__ import annotations

import math

import pytest

from furlough.core.ids import VmId
from furlough.core.policy import EnterOptions
from furlough.core.states import HostMode, Power
from furlough.errors import Conflict, Invalid, Refused
from furlough.prechecks.requests import (
    check_connected,
    check_hash,
    check_mode,
    check_movable,
    check_timeout,
    nothing_to_do,
    settled,
)
from tests.core.builders import H1, H2, a_host, a_plan, a_vm, an_inventory, planned, vm_id


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
        (a_vm(1, power=Power.SUSPENDED), "it sleeps"),
        (a_vm(1, devices=["gpu"]), "it has passed-through device.*gpu"),
        (a_vm(1, busy_with="a backup"), "a backup is under way in it"),
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


# --- options of entering -----------------------------------------------------------------------


def options(**given: object) -> EnterOptions:
    return EnterOptions(**given)  # type: ignore[arg-type]


def named(*names: str) -> EnterOptions:
    """VMs to shut down, as somebody typed them."""
    return options(shut_down=tuple(VmId(name) for name in names))


def test_vms_to_shut_down_go_by_name_or_uuid_and_are_known_by_their_uuid() -> None:
    inventory = an_inventory([a_vm(1, name="web"), a_vm(2, name="db"), a_vm(3, host=H2)])
    asked = named("db", "web", vm_id(2).upper())
    assert settled(asked, [H1], inventory).shut_down == (vm_id(2), vm_id(1))


def test_a_vm_whose_name_is_the_uuid_of_another_is_not_meant_by_it() -> None:
    inventory = an_inventory([a_vm(1, name=vm_id(2)), a_vm(2)])
    assert settled(named(vm_id(2)), [H1], inventory).shut_down == (vm_id(2),)


def test_a_vm_to_shut_down_that_is_not_on_the_hosts_is_refused() -> None:
    inventory = an_inventory([a_vm(3, host=H2)])
    with pytest.raises(Invalid, match="'vm3' is to be shut down, and is not on h1") as caught:
        settled(named("vm3"), [H1], inventory)
    assert caught.value.code == "vm.not_here"
    assert settled(named("vm3"), [H1, H2], inventory).shut_down == (vm_id(3),)


def test_a_name_that_two_vms_have_is_refused_with_both_uuids() -> None:
    inventory = an_inventory([a_vm(1, name="web"), a_vm(2, name="web", host=H2)])
    with pytest.raises(Invalid, match="Several VMs are named 'web'") as caught:
        settled(named("web"), [H1, H2], inventory)
    assert vm_id(1) in caught.value.message
    assert vm_id(2) in caught.value.message


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (options(override=("no.such",), reason="r"), "override.code", "no finding 'no.such'"),
        (
            options(override=("guard.missing",), reason="r"),
            "override.code",
            "guard.missing cannot be overridden",
        ),
        (options(override=("guard.unproven",)), "override.reason", "takes a reason"),
        (options(override=("guard.unproven",), reason=" \t"), "override.reason", "takes a reason"),
        (options(strict=("no.such",)), "strict.code", "no finding 'no.such'"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(
    asked: EnterOptions, code: str, words: str
) -> None:
    with pytest.raises(Invalid, match=words) as caught:
        settled(asked, [H1], an_inventory())
    assert caught.value.code == code
    assert caught.value.remedy


def test_an_override_with_a_reason_and_a_stricter_code_pass() -> None:
    asked = options(override=("guard.unproven",), reason="lab host", strict=("vm.paused",))
    assert settled(asked, [H1], an_inventory()) == asked
