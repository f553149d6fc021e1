"""A VM of a host that stays moves first, so that one that has to leave fits where it was.

h1 is emptied; its vm1 fits neither on h2 nor on h3 as they are. vm2 goes from h2 to h3, then vm1 to
h2. Nobody brings vm2 back.
"""

from __future__ import annotations

import pytest

from furlough.core.accounting import account
from furlough.core.journal import StepSucceeded
from furlough.core.looks import Presence
from furlough.core.operation import Operation, Outcome
from furlough.core.policy import CancelMode, EnterOptions, OnFailure
from furlough.core.states import HostMode, StepState
from furlough.errors import Refused
from furlough.scenario.stage import Setting, Stage, vm_id
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
    exited,
    hosts_running,
    mode_of,
    step_of,
    story,
    until_phase,
    words,
)

GIB = 1024


def crowded() -> Setting:
    return Setting(hosts=3, link_mbit_s=1000)


async def open_crowded(stage: Stage, **traits: object) -> None:
    """No host but those three. `traits`: of the one that could make room."""
    stage.add_vm(1, 1, memory_mib=30 * GIB)
    stage.add_vm(2, 2, memory_mib=10 * GIB, **traits)
    stage.add_vm(2, 3, memory_mib=25 * GIB)
    stage.add_vm(3, 4, memory_mib=40 * GIB)
    await stage.start_controller()


async def recorded(stage: Stage) -> set[str]:
    return {one.name for one in await stage.store.away()}


def ways(operation: Operation) -> dict[int, tuple[object, object]]:
    """By VM: whence and where its last step ended."""
    return {
        number: (step.planned.source, step.where)
        for number in (1, 2)
        for step in (step_of(operation, number),)
    }


@story(crowded)
async def test_who_makes_room_moves_first_and_stays_when_the_others_come_home(
    stage: Stage,
) -> None:
    await open_crowded(stage)
    (report,) = await stage.service.check([H1], EnterOptions())
    assert [one.code for one in report.findings if vm_id(2) in one.subject] == ["vm.makes_room"]
    final = await entered(stage)
    assert (final.state, ways(final)) == (SUCCEEDED, {1: (H1, H2), 2: (H2, H3)})
    assert step_of(final, 1).planned.after == (step_of(final, 2).number,)
    events = [entry.event for entry in await stage.store.journal(final.id)]
    ended = [event.step for event in events if isinstance(event, StepSucceeded)]
    assert ended.index(step_of(final, 2).number) < ended.index(step_of(final, 1).number)
    assert await mode_of(stage) is HostMode.MAINTENANCE
    assert await recorded(stage) == {"vm1"}
    back = await exited(stage)
    assert back.state is SUCCEEDED
    assert [hosts_running(stage, number) for number in (1, 2)] == [[H1], [H3]]
    assert await recorded(stage) == set()


@story(crowded)
async def test_where_no_room_could_be_made_who_needed_it_stays_and_nobody_is_lost(
    stage: Stage,
) -> None:
    await open_crowded(stage)
    which = await enter(stage)
    copy = stage.cluster.copy(H2, vm_id(2))
    assert copy is not None
    # Behind our back h3 gets something of the one that was to come.
    stage.cluster.put(H3, copy.vm, presence=Presence.SHUT_OFF, has_process=False)
    final = await stage.until_final(which)
    await stage.invariants.check_final(which)
    assert (final.state, step_of(final, 2).state) == (FAILED, StepState.FAILED)
    assert step_of(final, 1).state is StepState.SKIPPED
    assert [hosts_running(stage, number) for number in (1, 2)] == [[H1], [H2]]
    assert await mode_of(stage) is HostMode.CORDONED
    assert {one.name: one.outcome for one in account(final, await stage.service.inventory())} == {
        "vm1": Outcome.STAYED,
        "vm2": Outcome.STAYED,
    }


@story(crowded)
async def test_a_cancel_while_room_is_made_leaves_both_where_they_are(stage: Stage) -> None:
    await open_crowded(stage)
    which = await enter(stage)
    await until_phase(stage, Phase.PERFORM, 2)
    await stage.service.cancel(which, CancelMode.STOP, "me")
    final = await stage.until_final(which)
    await stage.invariants.check_final(which)
    assert final.state is CANCELLED
    assert [hosts_running(stage, number) for number in (1, 2)] == [[H1], [H2]]
    assert await recorded(stage) == set()


@story(crowded)
async def test_a_put_back_brings_back_who_had_to_leave_and_not_who_made_room(
    stage: Stage,
) -> None:
    await open_crowded(stage)
    which = await enter(stage, on_failure=OnFailure.PUT_BACK)
    await until_phase(stage, Phase.PERFORM, 1)
    await stage.service.cancel(which, CancelMode.PUT_BACK, "me")
    final = await stage.until_final(which)
    await stage.invariants.check_final(which)
    assert final.state is CANCELLED
    assert [hosts_running(stage, number) for number in (1, 2)] == [[H1], [H3]]
    assert await recorded(stage) == set()


@story(crowded)
async def test_a_crash_while_room_is_made_changes_nothing(stage: Stage) -> None:
    await open_crowded(stage)
    which = await enter(stage)
    await until_phase(stage, Phase.PERFORM, 2)
    await stage.kill_controller()
    await stage.start_controller()
    final = await stage.until_final(which)
    await stage.invariants.check_final(which)
    assert (final.state, ways(final)) == (SUCCEEDED, {1: (H1, H2), 2: (H2, H3)})
    assert await recorded(stage) == {"vm1"}


@story(crowded)
async def test_nobody_makes_room_whose_owner_wants_it_left_alone(stage: Stage) -> None:
    await open_crowded(stage, own_policy=words(on_maintenance="leave"))
    with pytest.raises(Refused) as caught:
        await enter(stage)
    assert "vm.no_room" in str(caught.value.facts)
    assert [hosts_running(stage, number) for number in (1, 2)] == [[H1], [H2]]


@story(crowded)
async def test_an_operator_may_forbid_it_and_one_that_would_wait_does_without(
    stage: Stage,
) -> None:
    await open_crowded(stage)
    with pytest.raises(Refused) as caught:
        await enter(stage, strict=("vm.makes_room",))
    assert "vm.makes_room" in str(caught.value.facts)
    (report,) = await stage.service.check([H1], EnterOptions(on_failure=OnFailure.WAIT))
    (found,) = [one for one in report.findings if one.code == "vm.no_room"]
    assert f"furlough vm migrate {vm_id(2)} --to h3" in found.remedy
