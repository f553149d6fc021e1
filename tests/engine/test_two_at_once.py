"""Operations against each other (F095 to F104): who is first, who waits, who is told to."""

from __future__ import annotations

import asyncio

import pytest

from furlough.core.findings import Verdict
from furlough.core.ids import OperationId
from furlough.core.operation import Operation, Outcome
from furlough.core.policy import (
    Automation,
    CancelMode,
    ClusterPolicy,
    EnterOptions,
    ExitOptions,
    Limits,
    Reserve,
)
from furlough.core.states import HostMode, OperationState, StepState
from furlough.errors import Conflict, FurloughError
from furlough.ports import IdempotencyKey
from furlough.scenario.stage import REQUEST, Setting, Stage
from furlough.service import Approval, Request
from furlough.sim.migration import Phase
from tests.engine.stories import (
    CANCELLED,
    FAILED,
    H1,
    H2,
    H3,
    SUCCEEDED,
    enter,
    entered,
    hosts_running,
    mode_of,
    slow,
    step_of,
    story,
    until_phase,
)


def narrow(**changes: object) -> Setting:
    """One migration into a host at a time, each of some seconds; several hosts may be away."""
    policy = ClusterPolicy(max_hosts_away=4, limits=Limits(per_target=1))
    return Setting(policy=policy, link_mbit_s=1000, **changes)  # type: ignore[arg-type]


async def cancelled(
    stage: Stage, which: OperationId, mode: CancelMode = CancelMode.STOP
) -> Operation:
    """Cancelled now, and at its end; what must hold then has been looked at."""
    await stage.service.cancel(which, mode, "ann")
    final = await stage.until_final(which)
    await stage.invariants.check_final(which)
    return final


async def waits_for_ann(stage: Stage) -> OperationId:
    """An operation that has everything for its one VM, and whose plan nobody has approved yet."""
    older = await enter(stage, H1, target_hosts=(H3,), automation=Automation.MANUAL)
    while (await stage.store.operation(older)).code != "awaiting_approval":
        await stage.clock.sleep(0.1)
    return older


# --- who is first --------------------------------------------------------------------------------


@story()
async def test_f095_of_two_requests_for_one_host_the_second_is_told_of_the_first(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    key = IdempotencyKey(principal="ann", key="k1", content="h1")
    mine = Request(by="ann", key=key)
    first, again = await asyncio.gather(
        stage.service.enter([H1], EnterOptions(), mine),
        stage.service.enter([H1], EnterOptions(), mine),
    )
    assert first.id == again.id
    with pytest.raises(FurloughError, match=f"operation {first.id}"):
        await stage.service.enter([H1], EnterOptions(), Request(by="ben"))
    assert (await stage.until_final(first.id)).state is SUCCEEDED
    assert len(await stage.store.operations()) == 1


@story()
async def test_f096_of_an_exit_and_an_enter_at_once_one_is_accepted(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    await entered(stage)
    asked = await asyncio.gather(
        stage.service.exit([H1], ExitOptions(), REQUEST),
        stage.service.enter([H1], EnterOptions(), REQUEST),
        return_exceptions=True,
    )
    accepted = [one for one in asked if isinstance(one, Operation)]
    refused = [one for one in asked if isinstance(one, FurloughError)]
    assert (len(accepted), len(refused)) == (1, 1)
    assert (await stage.until_final(accepted[0].id)).state is SUCCEEDED
    await stage.invariants.check_final(accepted[0].id)
    assert await mode_of(stage) is HostMode.AVAILABLE
    assert hosts_running(stage, 1) == [H1]


@story(lambda: Setting(hosts=3, memory_mib=24_576, policy=ClusterPolicy(max_hosts_away=3)))
async def test_f097_room_that_another_operation_has_taken_since_the_check_is_not_promised_twice(
    stage: Stage,
) -> None:
    """Both fit on h3 when each is checked by itself; only one does beside the other."""
    for number in (1, 2):
        stage.add_vm(number, number, memory_mib=16_384)
    await stage.start_controller()
    only_h3 = EnterOptions(target_hosts=(H3,))
    for host in (H1, H2):
        (report,) = await stage.service.check([host], only_h3)
        assert report.verdict is not Verdict.BLOCKED
    first = await enter(stage, H1, target_hosts=(H3,))
    with pytest.raises(FurloughError, match="vm2"):
        await enter(stage, H2, target_hosts=(H3,))
    assert (await stage.until_final(first)).state is SUCCEEDED
    await stage.invariants.check_final(first)
    assert (hosts_running(stage, 1), hosts_running(stage, 2)) == ([H3], [H2])
    assert await mode_of(stage, H2) is HostMode.AVAILABLE


@story(
    lambda: Setting(
        memory_mib=24_576, policy=ClusterPolicy(max_hosts_away=4, reserve=Reserve.N_PLUS_1)
    )
)
async def test_f099_a_second_operation_that_would_leave_no_room_for_a_lost_host_is_refused(
    stage: Stage,
) -> None:
    for number in (1, 2, 3, 4):
        stage.add_vm(number, number, memory_mib=8192)
    await stage.start_controller()
    first = await enter(stage, H1)
    with pytest.raises(FurloughError) as told:
        await enter(stage, H2)
    findings = told.value.facts["findings"]
    assert isinstance(findings, list | tuple)
    assert "cluster.no_reserve" in {finding.code for finding in findings}
    assert (await stage.until_final(first)).state is SUCCEEDED
    await stage.invariants.check_final(first)


# --- whose turn it is ----------------------------------------------------------------------------


@story(narrow)
async def test_f104_the_older_operation_gets_the_next_free_slot(stage: Stage) -> None:
    """It waited for a person when the younger one began; once it may go on, it does not starve."""
    stage.add_vm(1, 1)
    for number in range(2, 8):
        stage.add_vm(2, number)
    await stage.start_controller()
    older = await waits_for_ann(stage)
    younger = await enter(stage, H2, target_hosts=(H3,))
    await until_phase(stage, Phase.PERFORM, 2)
    await stage.service.approve(older, Approval(), "ann")
    first, second = await stage.until_final(older), await stage.until_final(younger)
    assert (first.state, second.state) == (SUCCEEDED, SUCCEEDED)
    began = step_of(first, 1).attempts[-1].started_at
    later = [one for one in second.steps if one.attempts and one.attempts[-1].started_at > began]
    assert sum(one.planned.vm is not None for one in later) >= 4
    for which in (older, younger):
        await stage.invariants.check_final(which)


@story(narrow)
async def test_f104_whoever_cannot_use_a_slot_yet_does_not_keep_it_from_the_younger(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    for number in (2, 3, 4):
        stage.add_vm(2, number)
    await stage.start_controller()
    older = await waits_for_ann(stage)
    younger = await enter(stage, H2, target_hosts=(H3,))
    assert (await stage.until_final(younger, limit_s=600)).state is SUCCEEDED
    await stage.service.approve(older, Approval(), "ann")
    assert (await stage.until_final(older, limit_s=600)).state is SUCCEEDED


# --- when it is cancelled ------------------------------------------------------------------------


@story(slow)
async def test_f100_cancel_before_the_first_step(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    final = await cancelled(stage, await enter(stage))
    assert final.state is CANCELLED
    assert not any(step.attempts for step in final.steps)
    assert hosts_running(stage, 1) == [H1]
    assert await mode_of(stage) in (HostMode.CORDONED, HostMode.AVAILABLE)


@story(lambda: narrow(hosts=2))
async def test_f100_cancel_between_steps_leaves_who_has_moved_where_it_is(stage: Stage) -> None:
    for number in (1, 2):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage)
    while not any(s.outcome is Outcome.MOVED for s in (await stage.store.operation(which)).steps):
        await stage.clock.sleep(0.01)
    final = await cancelled(stage, which)
    assert final.state is CANCELLED
    assert [hosts_running(stage, number) for number in (1, 2)] in (
        [[H2], [H1]],
        [[H1], [H2]],
    )
    assert "1 moved" in final.message


@story(lambda: Setting(link_mbit_s=1000, is_locked=True))
async def test_f100_cancel_at_the_switchover_takes_what_the_hosts_say(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    which = await enter(stage)
    await until_phase(stage, Phase.FINISH)
    final = await cancelled(stage, which)
    step = step_of(final, 1)
    assert hosts_running(stage, 1) == [step.where]
    assert (step.outcome is Outcome.MOVED) == (step.where != H1)


@story(slow)
async def test_f100_cancel_in_a_held_handover_ends_with_a_vm_that_runs(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    which = await enter(stage)
    await until_phase(stage, Phase.FINISH)
    final = await cancelled(stage, which)
    assert hosts_running(stage, 1) == [step_of(final, 1).where]


@story(slow)
async def test_f100_cancel_while_settling_waits_for_the_answer(stage: Stage) -> None:
    """The source is cut off in the middle: until it answers, nobody knows how it ended."""
    stage.add_vm(1, 1)
    await stage.start_controller()
    which = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    stage.cluster.hosts[H1].is_reachable = False
    await stage.clock.sleep(60)
    await stage.service.cancel(which, CancelMode.STOP, "ann")
    await stage.clock.sleep(120)
    assert (await stage.store.operation(which)).state is OperationState.CANCELLING
    stage.cluster.hosts[H1].is_reachable = True
    final = await stage.until_final(which, limit_s=300)
    await stage.invariants.check_final(which)
    assert hosts_running(stage, 1) == [step_of(final, 1).where]


@story()
async def test_f100_cancel_after_the_last_step_changes_nothing(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    final = await entered(stage)
    with pytest.raises(Conflict, match="succeeded"):
        await stage.service.cancel(final.id, CancelMode.STOP, "ann")
    assert (await stage.store.operation(final.id)).events == final.events


@pytest.mark.parametrize("late_s", [-0.2, 0.0, 0.2])
def test_f103_time_a_cancel_and_a_success_in_one_second_give_one_end(late_s: float) -> None:
    """What was seen before the deadline counts; there is one final state, whoever came first."""

    @story(slow)
    async def measured(stage: Stage) -> None:
        stage.add_vm(1, 1)
        await stage.start_controller()
        began = stage.clock.monotonic()
        await entered(stage)
        lasted.append(stage.clock.monotonic() - began)

    @story(slow)
    async def told(stage: Stage) -> None:
        stage.add_vm(1, 1)
        await stage.start_controller()
        which = await enter(stage, timeout_s=lasted[0] + late_s)
        await stage.clock.sleep(lasted[0] - 0.1)
        try:
            await stage.service.cancel(which, CancelMode.FINISH, "ann")
        except Conflict as error:
            assert "succeeded" in error.message  # noqa: PT017  # either is right
        final = await stage.until_final(which)
        await stage.invariants.check_final(which)
        ends = [e for e in await stage.store.journal(which) if e.event.kind == "operation_ended"]
        assert len(ends) == 1
        assert final.state in (SUCCEEDED, FAILED, CANCELLED)
        step = step_of(final, 1)
        assert step.state in (StepState.SUCCEEDED, StepState.FAILED)
        assert hosts_running(stage, 1) == [step.where]

    lasted: list[float] = []
    measured()
    told()
