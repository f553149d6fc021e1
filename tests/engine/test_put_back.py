"""A put-back that is bound to the plan that was seen: that plan and no other is carried out."""

from __future__ import annotations

import pytest

from furlough.core.ids import OperationId
from furlough.core.journal import CancelRequested
from furlough.core.operation import Outcome, Step
from furlough.core.plan import Method, Plan
from furlough.core.policy import CancelMode
from furlough.core.states import HostMode, OperationState, StepState
from furlough.errors import Conflict, Invalid
from furlough.scenario.stage import Stage
from furlough.sim.migration import Phase
from tests.engine.stories import (
    CANCELLED,
    H1,
    enter,
    hosts_running,
    mode_of,
    outcomes,
    story,
    until_phase,
)
from tests.engine.test_on_failure import one_by_one

PUT_BACK = CancelMode.PUT_BACK


async def halfway(stage: Stage, moved: int = 1) -> OperationId:
    """Entering h1, which has three VMs, once so many of them have moved and no more begin."""
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage)
    while outcomes(await stage.store.operation(which)).get(Outcome.MOVED, 0) < moved:
        await stage.clock.sleep(0.1)
    await stage.service.pause(which, "ann")
    while stage.cluster.migrations:
        await stage.clock.sleep(0.5)
    await stage.clock.sleep(5)
    return which


def is_flying(step: Step) -> bool:
    return step.state is StepState.STARTED and step.method is Method.LIVE


def decided(plan: Plan) -> list[tuple[object, ...]]:
    """What a plan decides about each VM."""
    return [(step.number, step.method, step.vm, step.source, step.targets) for step in plan.steps]


@story(one_by_one)
async def test_the_plan_that_was_seen_is_carried_out_and_no_other(stage: Stage) -> None:
    which = await halfway(stage)
    before = len((await stage.store.operation(which)).steps)
    plan, returns = await stage.service.put_back_plan(which)
    assert 0 < len(returns) < 3
    await stage.service.cancel(which, PUT_BACK, "ann", plan.hash)
    final = await stage.until_final(which)
    assert final.state is CANCELLED
    added = [step.planned for step in final.steps[before:]]
    assert [
        (step.number, step.method, step.vm, step.source, step.targets) for step in added
    ] == decided(plan)
    assert [hosts_running(stage, number) for number in (1, 2, 3)] == [[H1]] * 3
    assert await mode_of(stage) is HostMode.CORDONED
    asked = [one.event for one in await stage.store.journal(which)]
    (word,) = [one for one in asked if isinstance(one, CancelRequested)]
    assert (word.by, word.plan_hash) == ("ann", plan.hash)
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_another_plan_than_the_one_seen_is_refused_and_nothing_is_stopped(
    stage: Stage,
) -> None:
    which = await halfway(stage)
    plan, _ = await stage.service.put_back_plan(which)
    await stage.service.resume(which, "ann")
    while outcomes(await stage.store.operation(which)).get(Outcome.MOVED, 0) < 3:
        await stage.clock.sleep(0.05)
    with pytest.raises(Conflict, match="no longer the one") as refusal:
        await stage.service.cancel(which, PUT_BACK, "ann", plan.hash)
    assert refusal.value.code == "plan.changed"
    present = refusal.value.facts["plan"]
    assert isinstance(present, Plan)
    assert len(decided(present)) > len(decided(plan))
    assert (await stage.store.operation(which)).cancel is None


@story(one_by_one)
async def test_who_arrives_while_it_is_being_stopped_is_listed_and_not_put_back(
    stage: Stage,
) -> None:
    """Exactly the plan: it was made while this one was on its way."""
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage)
    while outcomes(operation := await stage.store.operation(which)).get(
        Outcome.MOVED
    ) != 1 or not any(map(is_flying, operation.steps)):
        await stage.clock.sleep(0.05)
    (second,) = [step for step in operation.steps if is_flying(step)]
    flying = second.planned.vm
    assert flying is not None
    ongoing = await until_phase(stage, Phase.PERFORM, int(flying[-12:]))
    plan, returns = await stage.service.put_back_plan(which)
    while ongoing.phase is Phase.PERFORM:
        await stage.clock.sleep(0.001)
    await stage.service.cancel(which, PUT_BACK, "ann", plan.hash)
    final = await stage.until_final(which)
    (back,) = [one.away.vm for one in returns]
    moved = [one.vm for one in await stage.store.away()]
    assert (final.state, moved) == (CANCELLED, [flying])
    assert stage.cluster.running_on(back) == [H1]
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_to_ask_twice_is_to_ask_once(stage: Stage) -> None:
    which = await halfway(stage, moved=2)
    plan, returns = await stage.service.put_back_plan(which)
    await stage.service.cancel(which, PUT_BACK, "ann", plan.hash)
    again = await stage.service.cancel(which, PUT_BACK, "ann", plan.hash)
    assert again.state is OperationState.CANCELLING
    final = await stage.until_final(which)
    steps = [step for step in final.steps if step.planned.targets == (H1,)]
    assert len(steps) == len(returns) >= 2
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_killed_right_after_the_yes_it_is_carried_out_all_the_same(stage: Stage) -> None:
    which = await halfway(stage)
    plan, _ = await stage.service.put_back_plan(which)
    await stage.service.cancel(which, PUT_BACK, "ann", plan.hash)
    await stage.kill_controller()
    await stage.start_controller()
    assert (await stage.until_final(which)).state is CANCELLED
    assert [hosts_running(stage, number) for number in (1, 2, 3)] == [[H1]] * 3
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_where_nobody_has_left_the_plan_moves_nobody_and_it_is_just_stopped(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    which = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    plan, returns = await stage.service.put_back_plan(which)
    assert returns == ()
    await stage.service.cancel(which, PUT_BACK, "ann", plan.hash)
    final = await stage.until_final(which)
    assert (final.state, hosts_running(stage, 1)) == (CANCELLED, [H1])


@story(one_by_one)
async def test_a_hash_is_for_a_put_back_only(stage: Stage) -> None:
    which = await halfway(stage)
    plan, _ = await stage.service.put_back_plan(which)
    for mode in (CancelMode.STOP, CancelMode.FINISH):
        with pytest.raises(Invalid, match=f"mode {mode.value} carries out no plan"):
            await stage.service.cancel(which, mode, "ann", plan.hash)
    assert (await stage.store.operation(which)).cancel is None
