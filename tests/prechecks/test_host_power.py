"""Reboot and power off: only in maintenance, only of an empty host, not twice in a minute."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.inventory import Host, Intruder
from furlough.core.operation import Act, Operation
from furlough.core.plan import Method, OperationKind
from furlough.core.policy import ActionOptions, EnterOptions
from furlough.core.states import HostMode, OperationState, StepState
from furlough.errors import Refused
from furlough.prechecks.host_power import (
    accepts_unproven,
    check_no_flights,
    check_power,
    plan_host_power,
)
from tests.core.builders import (
    H1,
    H2,
    H3,
    NOW,
    a_host,
    a_plan,
    a_step,
    an_attempt,
    later,
    planned,
    running,
)

SERVED: Host = replace(a_host(H1, mode=HostMode.MAINTENANCE), boot_id="a")


def _command(act: Act | None, *, seconds: float) -> Operation:
    """A reboot whose attempt began then, and got as far as this act."""
    attempt = replace(an_attempt(None, started_at=later(seconds)), acts=(act,) if act else ())
    step = a_step(planned(2, Method.RAISE_GUARD), StepState.SUCCEEDED, attempts=[attempt])
    return replace(running(a_plan(step.planned, kind=OperationKind.REBOOT_HOST)), steps=(step,))


@pytest.mark.parametrize("kind", [OperationKind.REBOOT_HOST, OperationKind.POWER_OFF_HOST])
def test_the_marker_is_raised_under_the_operation_before_the_command(kind: OperationKind) -> None:
    plan = plan_host_power(kind, H1)
    assert (plan.kind, plan.hosts) == (kind, (H1,))
    assert [(one.number, one.method.value, one.wave) for one in plan.steps] == [
        (1, "raise_guard", 0),
        (2, kind.value, 1),
    ]


@pytest.mark.parametrize("mode", [one for one in HostMode if one is not HostMode.MAINTENANCE])
def test_outside_of_maintenance_no_power_command_is_taken(mode: HostMode) -> None:
    with pytest.raises(Refused, match=f"h1 is {mode.value}") as refusal:
        check_power(a_host(H1, mode=mode), [], NOW)
    assert refusal.value.code == "host.not_in_maintenance"
    assert "furlough enter h1" in refusal.value.remedy


def test_a_host_that_is_silent_or_does_not_tell_its_boot_is_not_switched() -> None:
    with pytest.raises(Refused) as refusal:
        check_power(replace(SERVED, boot_id=""), [], NOW)
    assert refusal.value.code == "host.boot_unknown"
    assert "furlough host prepare h1" in refusal.value.remedy
    with pytest.raises(Refused, match="h1 does not answer: no route"):
        check_power(a_host(H1, mode=HostMode.MAINTENANCE, silent_because="no route"), [], NOW)


def test_in_maintenance_it_is_taken_unless_something_is_on_the_host() -> None:
    check_power(SERVED, [], NOW)
    violated = replace(SERVED, intruders=(Intruder(what="VM web", since=NOW),))
    with pytest.raises(Refused) as refusal:
        check_power(violated, [], NOW)
    assert refusal.value.code == "maintenance.violated"


def test_a_second_command_within_a_minute_is_refused_and_says_when_it_may_come() -> None:
    earlier = [_command(Act.POWER_OFF_HOST, seconds=-300), _command(Act.REBOOT_HOST, seconds=-20)]
    with pytest.raises(Refused, match="sent a power command at 09:59:40 UTC") as refusal:
        check_power(SERVED, earlier, NOW)
    assert refusal.value.code == "host.power_rate"
    assert "40 s" in refusal.value.remedy
    check_power(SERVED, earlier, later(40))


def test_a_command_that_was_never_sent_does_not_count() -> None:
    check_power(SERVED, [_command(None, seconds=-1)], NOW)


@pytest.mark.parametrize(("host", "takes_part"), [(H1, True), (H2, True), (H3, False)])
def test_a_host_that_takes_part_in_a_migration_is_not_switched(
    host: object, takes_part: bool
) -> None:
    step = a_step(planned(1, source=H1, targets=(H2, H3)), StepState.STARTED)
    flying = replace(running(a_plan(step.planned)), steps=(step,))
    if not takes_part:
        check_no_flights(host, [flying])  # type: ignore[arg-type]
        return
    with pytest.raises(Refused, match="vm1 is being migrated by op-7") as refusal:
        check_no_flights(host, [flying])  # type: ignore[arg-type]
    assert refusal.value.code == "host.in_flight"


def test_a_migration_that_is_over_or_has_not_begun_is_no_obstacle() -> None:
    for state in (StepState.PENDING, StepState.SUCCEEDED):
        step = a_step(planned(1), state)
        check_no_flights(H1, [replace(running(a_plan(step.planned)), steps=(step,))])


def test_an_unproven_guard_is_accepted_where_the_last_entering_accepted_it() -> None:
    def ended(state: OperationState, *override: str) -> Operation:
        options = EnterOptions(override=override, reason="no hook yet")
        return replace(running(a_plan(planned(1))), state=state, options=options)

    reboot = replace(ended(OperationState.SUCCEEDED), options=ActionOptions())
    accepted = ended(OperationState.SUCCEEDED, "guard.unproven")
    assert accepts_unproven([reboot, accepted, ended(OperationState.SUCCEEDED)])
    assert not accepts_unproven([ended(OperationState.SUCCEEDED), accepted])
    assert not accepts_unproven([ended(OperationState.FAILED, "guard.unproven")])
