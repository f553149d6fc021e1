"""Who moves the VMs: we, once somebody has approved it, or people. And how an operation pauses."""

from __future__ import annotations

import pytest

from furlough.core.accounting import account
from furlough.core.ids import OperationId
from furlough.core.looks import Job
from furlough.core.operation import Operation, Outcome
from furlough.core.plan import Method, OperationKind
from furlough.core.policy import ActionOptions, Automation, CancelMode
from furlough.core.states import HostMode, OperationState, StepState
from furlough.errors import Conflict, Invalid
from furlough.scenario.stage import REQUEST, Stage, vm_id
from furlough.service import Approval
from furlough.sim.migration import Phase
from tests.engine.stopping import at_home, tie
from tests.engine.stories import (
    CANCELLED,
    FAILED,
    H1,
    H2,
    H3,
    SUCCEEDED,
    enter,
    hosts_running,
    mode_of,
    outcomes,
    slow,
    step_of,
    story,
    until_phase,
)

MANUAL, OFF = Automation.MANUAL, Automation.OFF
ALL = Approval()


async def waiting(stage: Stage, which: OperationId, code: str) -> Operation:
    """The operation once it waits for this."""
    while True:
        operation = await stage.until_still(which)
        assert not operation.is_final, operation.message
        if operation.code == code:
            return operation
        await stage.clock.sleep(1)


async def settled_for(stage: Stage, which: OperationId, seconds: float) -> Operation:
    await stage.clock.sleep(seconds)
    return await stage.store.operation(which)


# --- manual --------------------------------------------------------------------------------------


@story()
async def test_nobody_moves_before_the_plan_is_approved_and_the_host_is_guarded_meanwhile(
    stage: Stage,
) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage, automation=MANUAL)
    asked = await waiting(stage, which, "awaiting_approval")
    assert asked.state is OperationState.BLOCKED
    assert asked.waiting_for is not None
    assert asked.plan.hash in asked.waiting_for
    assert f"furlough operation approve {which}" in asked.waiting_for
    later = await settled_for(stage, which, 3600)
    assert [hosts_running(stage, number) for number in (1, 2, 3)] == [[H1]] * 3
    assert (later.events, later.step(1).state) == (asked.events, StepState.SUCCEEDED)
    assert stage.cluster.hosts[H1].marker is not None

    approval = Approval(plan_hash=asked.plan.hash)
    approved = await stage.service.approve(which, approval, "ann")
    assert len(approved.approved) == 3
    final = await stage.until_final(which)
    assert final.state is SUCCEEDED
    assert await mode_of(stage) is HostMode.MAINTENANCE
    by = [e.event for e in await stage.store.journal(which) if e.event.kind == "steps_approved"]
    assert [getattr(event, "by", "") for event in by] == ["ann"]
    await stage.invariants.check_final(which)


@story()
async def test_approved_steps_run_and_the_rest_waits(stage: Stage) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage, automation=MANUAL)
    asked = await waiting(stage, which, "awaiting_approval")
    first = step_of(asked, 2)
    await stage.service.approve(which, Approval(steps=(first.id,)), "ann")
    await stage.clock.sleep(600)
    now = await stage.store.operation(which)
    assert (step_of(now, 2).outcome, step_of(now, 1).state) == (Outcome.MOVED, StepState.PENDING)
    assert (now.state, now.code) == (OperationState.BLOCKED, "awaiting_approval")
    assert now.waiting_for is not None
    assert "vm1, vm3" in now.waiting_for
    await stage.service.approve(which, ALL, "ann")
    assert (await stage.until_final(which)).state is SUCCEEDED


@story()
async def test_a_plan_that_is_not_the_present_one_is_not_approved(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    which = await enter(stage, automation=MANUAL)
    asked = await waiting(stage, which, "awaiting_approval")
    with pytest.raises(Conflict) as told:
        await stage.service.approve(which, Approval(plan_hash="0" * 64), "ann")
    assert (told.value.code, told.value.facts["plan"]) == ("plan.changed", asked.plan)
    with pytest.raises(Invalid, match=r"no step 'op-1\.99'"):
        await stage.service.approve(which, Approval(steps=("op-1.99",)), "ann")
    assert hosts_running(stage, 1) == [H1]
    await stage.service.approve(which, ALL, "ann")
    await stage.until_final(which)
    with pytest.raises(Conflict, match="succeeded already"):
        await stage.service.approve(which, ALL, "ann")


@story()
async def test_what_is_not_asked_for_is_not_approved(stage: Stage) -> None:
    stage.add_vm(1, 1)
    stage.cluster.slow_down(H1, factor=1e-7)
    await stage.start_controller()
    which = await enter(stage)
    with pytest.raises(Conflict, match="does not ask for approval"):
        await stage.service.approve(which, ALL, "ann")


@story()
async def test_resuming_is_not_approving_and_a_dead_controller_still_asks(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    which = await enter(stage, automation=MANUAL)
    await waiting(stage, which, "awaiting_approval")
    await stage.service.resume(which, "ann")
    await waiting(stage, which, "awaiting_approval")
    await stage.kill_controller()
    await stage.start_controller()
    await stage.clock.sleep(60)
    asked = await waiting(stage, which, "awaiting_approval")
    assert hosts_running(stage, 1) == [H1]
    await stage.service.approve(which, Approval(plan_hash=asked.plan.hash), "ann")
    assert (await stage.until_final(which)).state is SUCCEEDED


@story()
async def test_an_approval_that_never_comes_ends_with_the_time(stage: Stage) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2)
    await stage.start_controller()
    final = await stage.until_final(await enter(stage, automation=MANUAL, timeout_s=900))
    assert (final.state, final.code) == (FAILED, "timed_out")
    assert await mode_of(stage) is HostMode.CORDONED
    assert hosts_running(stage, 1) == hosts_running(stage, 2) == [H1]
    await stage.invariants.check_final(final.id)


# --- off -----------------------------------------------------------------------------------------


@story()
async def test_people_move_and_the_host_is_in_maintenance_once_they_have_done_it(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2, own_policy=())
    await stage.start_controller()
    which = await enter(stage, automation=OFF)
    asked = await waiting(stage, which, "awaiting_empty")
    assert [step.method for step in asked.steps] == [Method.RAISE_GUARD, Method.CONFIRM_EMPTY]
    assert asked.waiting_for is not None
    assert "vm1, vm2" in asked.waiting_for
    await stage.clock.sleep(3600)
    assert hosts_running(stage, 1) == hosts_running(stage, 2) == [H1]

    moved = await stage.service.migrate(vm_id(1), ActionOptions(target=H2), REQUEST)
    assert (await stage.until_final(moved.id)).state is SUCCEEDED
    await stage.clock.sleep(30)
    left = await stage.store.operation(which)
    assert left.waiting_for is not None
    assert "1 VM(s) on h1: vm2" in left.waiting_for
    off = await stage.service.change_power(
        OperationKind.SHUT_DOWN_VM, vm_id(2), ActionOptions(), REQUEST
    )
    assert (await stage.until_final(off.id)).state is SUCCEEDED

    final = await stage.until_final(which)
    assert final.state is SUCCEEDED
    assert await mode_of(stage) is HostMode.MAINTENANCE
    told = {one.name: one for one in account(final, await stage.service.inventory())}
    assert told["vm1"].host == H2
    assert {one.outcome for one in told.values()} == {Outcome.CHANGED_BY_OTHERS}
    assert await stage.store.away() == [], "nothing of it is ours to bring back"


@story()
async def test_who_does_not_wait_is_done_once_the_host_is_guarded(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    final = await stage.until_final(await enter(stage, automation=OFF, wait=False))
    assert (final.state, len(final.steps)) == (SUCCEEDED, 1)
    assert await mode_of(stage) is HostMode.CORDONED
    assert stage.cluster.hosts[H1].marker is not None
    assert hosts_running(stage, 1) == [H1]
    entered = await stage.until_final(await enter(stage))
    assert entered.state is SUCCEEDED, "and entering follows when it suits"
    assert await mode_of(stage) is HostMode.MAINTENANCE


@story()
async def test_waiting_for_people_can_be_cancelled(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    which = await enter(stage, automation=OFF)
    await waiting(stage, which, "awaiting_empty")
    await stage.service.cancel(which, CancelMode.STOP, "ann")
    final = await stage.until_final(which)
    assert final.state is CANCELLED
    assert await mode_of(stage) is HostMode.CORDONED
    assert hosts_running(stage, 1) == [H1]


# --- pause ---------------------------------------------------------------------------------------


@story(slow)
async def test_f102_a_paused_operation_starts_nothing_new_and_stays_paused_over_a_crash(
    stage: Stage,
) -> None:
    for number in range(1, 7):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    paused = await stage.service.pause(which, "ann")
    assert paused.state is OperationState.PAUSED
    assert (await stage.service.pause(which, "ann")).events == paused.events
    flying = [step.number for step in paused.steps if step.state is StepState.STARTED]
    assert 0 < len(flying) < 6
    await stage.clock.sleep(600)
    ended = await stage.store.operation(which)
    assert ended.state is OperationState.PAUSED
    assert [s.number for s in ended.steps if s.outcome is Outcome.MOVED] == flying

    await stage.kill_controller()
    await stage.start_controller()
    await stage.clock.sleep(600)
    assert (await stage.store.operation(which)).state is OperationState.PAUSED
    assert len(stage.cluster.migrations) == 0
    await stage.service.resume(which, "ann")
    final = await stage.until_final(which)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 6})
    await stage.invariants.check_final(which)


@story()
async def test_time_runs_while_it_is_paused_and_a_paused_one_can_be_cancelled(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    stage.add_vm(2, 2)
    await stage.start_controller()
    late = await enter(stage, automation=MANUAL, timeout_s=300)
    await waiting(stage, late, "awaiting_approval")
    assert (await stage.service.pause(late, "ann")).state is OperationState.PAUSED
    final = await stage.until_final(late)
    assert (final.state, final.code) == (FAILED, "timed_out")
    which = await enter(stage, H2, automation=MANUAL)
    await waiting(stage, which, "awaiting_approval")
    await stage.service.pause(which, "ann")
    await stage.service.cancel(which, CancelMode.STOP, "ann")
    assert (await stage.until_final(which)).state is CANCELLED
    running = await enter(stage, H3)
    with pytest.raises(Conflict, match="only a paused or blocked one"):
        await stage.service.resume(running, "ann")


@story()
async def test_who_was_busy_when_it_was_paused_does_not_begin_when_it_is_free(
    stage: Stage,
) -> None:
    """A step that looks at a busy VM again and again is not in flight."""
    stage.add_vm(1, 1)
    await stage.start_controller()
    which = await enter(stage, automation=MANUAL)
    await waiting(stage, which, "awaiting_approval")
    at_home(stage, 1).job = Job.OTHER
    await stage.service.approve(which, ALL, "ann")
    await waiting(stage, which, "vm.busy")
    await stage.service.pause(which, "ann")
    at_home(stage, 1).job = Job.NONE
    await stage.clock.sleep(300)
    assert hosts_running(stage, 1) == [H1]
    paused = await stage.store.operation(which)
    assert (paused.state, paused.waiting_for) == (OperationState.PAUSED, None)
    await stage.service.resume(which, "ann")
    assert (await stage.until_final(which)).state is SUCCEEDED
