"""Dispositions: what may be done with a VM that cannot move live, by its policy and no more."""

from __future__ import annotations

import pytest

from furlough.core.plan import Method
from furlough.core.states import Power
from furlough.core.vm_policy import OnMaintenance, VmPolicy
from furlough.planning.dispositions import Choice, decide, disposition
from tests.core.builders import H1, a_vm, vm_id
from tests.prechecks.troubles import wishing

_INSTEAD = {
    OnMaintenance.LIVE: None,
    OnMaintenance.COLD: Method.COLD,
    OnMaintenance.SUSPEND: Method.SUSPEND,
    OnMaintenance.SHUT_DOWN: Method.SHUT_DOWN,
    OnMaintenance.LEAVE: Method.LEAVE,
    OnMaintenance.ASK: None,
}


@pytest.mark.parametrize("wish", list(OnMaintenance))
def test_the_policy_says_what_is_done_with_a_vm_that_cannot_move(wish: OnMaintenance) -> None:
    assert decide(wishing(wish), "it has a device", ()).method is _INSTEAD[wish]


@pytest.mark.parametrize("wish", [one for one in OnMaintenance if one is not OnMaintenance.LEAVE])
def test_a_vm_that_can_move_moves_whatever_the_policy_would_allow(wish: OnMaintenance) -> None:
    assert decide(wishing(wish), "", (vm_id(1),)).method is Method.LIVE


def test_naming_goes_before_the_policy_but_not_before_leave() -> None:
    named = (vm_id(1),)
    for wish in OnMaintenance:
        method = decide(wishing(wish), "it has a device", named).method
        wanted = Method.LEAVE if wish is OnMaintenance.LEAVE else Method.SHUT_DOWN
        assert method is wanted
    assert decide(wishing(OnMaintenance.LIVE), "it has a device", (vm_id(2),)).method is None


def test_a_vm_in_error_is_not_asked_to_shut_down() -> None:
    found = decide(wishing(OnMaintenance.SHUT_DOWN, a_vm(1, power=Power.ERROR)), "is in error", ())
    assert (found.method, found.trouble) == (None, "it is error")


def test_only_a_shut_down_has_a_grace() -> None:
    vm = a_vm(1, policy=VmPolicy(shut_down_grace_s=45, availability_priority=7))
    moving = disposition(vm, Choice(method=Method.LIVE, reason="levels the load"))
    assert (moving.host, moving.grace_s, moving.may_power_off, moving.priority) == (H1, 0, False, 7)
    assert not moving.is_power_change
    stopping = disposition(vm, Choice(method=Method.SHUT_DOWN, reason="named"))
    assert (stopping.grace_s, stopping.is_power_change) == (45, True)
