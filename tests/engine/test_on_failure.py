"""What follows when a VM cannot leave: the operation waits for it, or puts back those that have
left; and what happens when facts make a part of the plan impossible."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.accounting import account
from furlough.core.ids import HostName
from furlough.core.looks import Presence, Why
from furlough.core.operation import Outcome
from furlough.core.plan import Method
from furlough.core.policy import (
    ActionOptions,
    Automation,
    CancelMode,
    ClusterPolicy,
    EnterOptions,
    Limits,
    OnFailure,
)
from furlough.core.states import HostMode, StepState
from furlough.errors import Conflict
from furlough.scenario.stage import REQUEST, Setting, Stage, vm_id
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
    entered,
    hosts_running,
    mode_of,
    outcomes,
    slow,
    step_of,
    story,
    until_phase,
    words,
)
from tests.engine.test_automation import waiting

WAIT, PUT_BACK = OnFailure.WAIT, OnFailure.PUT_BACK
H4 = HostName("h4")


def one_by_one() -> Setting:
    """One migration after the other, each long enough to be disturbed."""
    return Setting(link_mbit_s=1000, policy=ClusterPolicy(limits=Limits(per_source=1)))


def bar(stage: Stage, number: int, *hosts: HostName) -> None:
    """Behind our back these hosts get a definition with the UUID of a VM: they refuse it then."""
    vm = at_home(stage, number).vm
    for host in hosts:
        stage.cluster.put(host, vm, presence=Presence.SHUT_OFF, has_process=False)


def unbar(stage: Stage, number: int, *hosts: HostName) -> None:
    for host in hosts:
        stage.cluster.remove(host, vm_id(number))


def options(**words: object) -> EnterOptions:
    return EnterOptions(**words)  # type: ignore[arg-type]


async def cordon(stage: Stage, host: HostName) -> None:
    asked = await stage.service.cordon(host, ActionOptions(), REQUEST)
    assert (await stage.until_final(asked.id)).state is SUCCEEDED


async def uncordon(stage: Stage, host: HostName) -> None:
    asked = await stage.service.uncordon(host, ActionOptions(), REQUEST)
    assert (await stage.until_final(asked.id)).state is SUCCEEDED


# --- wait ----------------------------------------------------------------------------------------


@story()
async def test_a_vm_that_is_tied_to_its_host_is_waited_for_and_named(stage: Stage) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2, own_policy=())
    await stage.start_controller()
    report = (await stage.service.check([H1], options(on_failure=WAIT)))[0]
    assert report.verdict == "warnings"
    which = await enter(stage, on_failure=WAIT)
    asked = await waiting(stage, which, "vm.no_target")
    assert asked.waiting_for is not None
    assert "vm2" in asked.waiting_for
    assert (await mode_of(stage), hosts_running(stage, 1)) != (HostMode.MAINTENANCE, [H1])
    assert await mode_of(stage) is HostMode.ENTERING
    await stage.clock.sleep(3600)
    home = at_home(stage, 2)
    home.vm = replace(home.vm, devices=())
    final = await stage.until_final(which)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 2})
    assert await mode_of(stage) is HostMode.MAINTENANCE
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_who_fails_is_waited_for_the_rest_goes_on_and_nobody_is_stopped_in_vain(
    stage: Stage,
) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    tie(stage, 4)
    await stage.start_controller()
    which = await enter(stage, on_failure=WAIT)
    await until_phase(stage, Phase.PERFORM)
    bar(stage, 3, H2, H3, H4)
    asked = await waiting(stage, which, "vm.cannot_leave")
    assert asked.waiting_for is not None
    assert "vm3 on h1: Something of this VM is on the target" in asked.waiting_for
    await stage.clock.sleep(1800)
    assert [hosts_running(stage, number) == [H1] for number in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]
    told = {one.name: one for one in account(asked, await stage.service.inventory())}
    assert told["vm3"].why.startswith("Something of this VM is on the target")
    assert len(told["vm3"].attempts) == 3
    unbar(stage, 3, H2, H3, H4)
    final = await stage.until_final(which)
    assert final.state is SUCCEEDED
    assert final.message == "VMs: 3 moved, 1 stopped."
    assert [replan.changes for replan in final.replans] != []
    assert await mode_of(stage) is HostMode.MAINTENANCE
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_nothing_is_tried_again_while_nothing_changes_but_when_a_person_says_so(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    stage.add_vm(1, 2)
    await stage.start_controller()
    which = await enter(stage, on_failure=WAIT)
    await until_phase(stage, Phase.PERFORM)
    second = 2 if vm_id(1) in stage.cluster.migrations else 1
    bar(stage, second, H2, H3, H4)
    await waiting(stage, which, "vm.cannot_leave")
    await stage.clock.sleep(600)
    still = await stage.store.operation(which)
    await stage.clock.sleep(7200)
    assert (await stage.store.operation(which)).events == still.events
    await stage.service.resume(which, "ann")
    await stage.clock.sleep(600)
    urged = await stage.store.operation(which)
    assert (urged.urged, urged.code) == (1, "vm.cannot_leave")


@story(one_by_one)
async def test_a_vm_that_people_take_away_is_not_waited_for_any_more(stage: Stage) -> None:
    for number in (1, 2):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage, on_failure=WAIT)
    await until_phase(stage, Phase.PERFORM)
    second = 2 if vm_id(1) in stage.cluster.migrations else 1
    bar(stage, second, H2, H3, H4)
    await waiting(stage, which, "vm.cannot_leave")
    stage.cluster.stop(H1, vm_id(second), Why.DESTROYED)
    final = await stage.until_final(which)
    assert final.state is SUCCEEDED
    left = step_of(final, second)
    assert (left.state, left.is_overtaken, left.outcome) == (
        StepState.FAILED,
        True,
        Outcome.CHANGED_BY_OTHERS,
    )
    assert left.evidence.looks != ()
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_waiting_survives_a_crash_and_ends_with_the_time(stage: Stage) -> None:
    for number in (1, 2):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage, on_failure=WAIT, timeout_s=7200)
    await until_phase(stage, Phase.PERFORM)
    second = 2 if vm_id(1) in stage.cluster.migrations else 1
    bar(stage, second, H2, H3, H4)
    await waiting(stage, which, "vm.cannot_leave")
    await stage.kill_controller()
    await stage.start_controller()
    await stage.clock.sleep(120)
    assert (await stage.store.operation(which)).code == "vm.cannot_leave"
    final = await stage.until_final(which)
    assert (final.state, final.code) == (FAILED, "timed_out")
    assert final.message == "Time was over. VMs: 1 moved, 1 stayed."
    assert await mode_of(stage) is HostMode.CORDONED
    await stage.invariants.check_final(which)


# --- put back ------------------------------------------------------------------------------------


@story(one_by_one)
async def test_after_a_failure_those_that_have_moved_come_back_and_the_host_stays_guarded(
    stage: Stage,
) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage, on_failure=PUT_BACK)
    await until_phase(stage, Phase.PERFORM)
    bar(stage, 3, H2, H3, H4)
    final = await stage.until_final(which)
    assert (final.state, final.code) == (FAILED, "target.refused")
    assert final.message == "VMs: 2 put back, 1 stayed."
    assert [hosts_running(stage, number) for number in (1, 2, 3)] == [[H1]] * 3
    assert await mode_of(stage) is HostMode.CORDONED
    marker = stage.cluster.hosts[H1].marker
    assert marker is not None
    assert marker.admit == ()
    assert await stage.store.away() == []
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_a_cancel_that_puts_back_does_what_its_plan_said(stage: Stage) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage)
    while True:
        operation = await stage.store.operation(which)
        if outcomes(operation).get(Outcome.MOVED) == 1:
            break
        await stage.clock.sleep(0.1)
    plan, returns = await stage.service.put_back_plan(which)
    (moved,) = [one.away.name for one in returns]
    assert [(step.method, step.vm_name) for step in plan.steps] == [
        (Method.RAISE_GUARD, ""),
        (Method.LIVE, moved),
        (Method.RAISE_GUARD, ""),
    ]
    assert plan.eta.high > 0
    assert (await stage.store.operation(which)).cancel is None, "to look changes nothing"

    await stage.service.cancel(which, CancelMode.PUT_BACK, "ann")
    final = await stage.until_final(which)
    assert (final.state, final.code) == (CANCELLED, "cancelled")
    assert [hosts_running(stage, number) for number in (1, 2, 3)] == [[H1]] * 3
    assert await mode_of(stage) is HostMode.CORDONED
    await stage.invariants.check_final(which)
    with pytest.raises(Conflict, match="cancelled already"):
        await stage.service.put_back_plan(which)


@story()
async def test_who_was_shut_down_in_vain_is_started_again(stage: Stage) -> None:
    tie(stage, 1)
    tie(stage, 2, ignores_shutdown=True, own_policy=words(on_maintenance="shut_down"))
    await stage.start_controller()
    final = await entered(stage, on_failure=PUT_BACK)
    assert (final.state, final.code) == (FAILED, "guest.ignored")
    assert hosts_running(stage, 1) == hosts_running(stage, 2) == [H1]
    assert await stage.store.away() == []


@story(one_by_one)
async def test_a_way_back_can_be_stopped_and_the_guard_admits_nobody_then(stage: Stage) -> None:
    for number in (1, 2, 3, 4):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage)
    while outcomes(await stage.store.operation(which)).get(Outcome.MOVED, 0) < 3:
        await stage.clock.sleep(0.1)
    await stage.service.cancel(which, CancelMode.PUT_BACK, "ann")
    while not any(one.target == H1 for one in stage.cluster.migrations.values()):
        await stage.clock.sleep(0.05)
    await stage.service.cancel(which, CancelMode.STOP, "ann")
    final = await stage.until_final(which)
    assert final.state is CANCELLED
    assert stage.cluster.migrations == {}
    marker = stage.cluster.hosts[H1].marker
    assert marker is not None
    assert marker.admit == ()
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_a_controller_that_dies_on_the_way_back_goes_on_with_it(stage: Stage) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage)
    while outcomes(await stage.store.operation(which)).get(Outcome.MOVED, 0) < 2:
        await stage.clock.sleep(0.1)
    await stage.service.cancel(which, CancelMode.PUT_BACK, "ann")
    while not any(one.target == H1 for one in stage.cluster.migrations.values()):
        await stage.clock.sleep(0.05)
    await stage.kill_controller()
    await stage.start_controller()
    final = await stage.until_final(which)
    assert final.state is CANCELLED
    assert [hosts_running(stage, number) for number in (1, 2, 3)] == [[H1]] * 3
    await stage.invariants.check_final(which)


@story(slow)
async def test_where_nobody_has_left_there_is_nothing_to_put_back(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    which = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    await stage.service.cancel(which, CancelMode.PUT_BACK, "ann")
    final = await stage.until_final(which)
    assert (final.state, final.message) == (CANCELLED, "Cancelled. VMs: 1 stayed.")
    assert len(final.steps) == 3


@story(slow)
async def test_an_operation_that_takes_nobody_off_a_host_puts_nobody_back(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    moving = await stage.service.migrate(vm_id(1), ActionOptions(target=H2), REQUEST)
    with pytest.raises(Conflict, match="takes nobody off a host"):
        await stage.service.cancel(moving.id, CancelMode.PUT_BACK, "ann")
    with pytest.raises(Conflict, match="takes nobody off a host"):
        await stage.service.put_back_plan(moving.id)
    await stage.until_final(moving.id)


# --- the remainder planned anew ------------------------------------------------------------------


@story(one_by_one)
async def test_f093_where_no_target_is_left_the_rest_is_planned_anew_and_the_difference_told(
    stage: Stage,
) -> None:
    await cordoned_elsewhere(stage, H3, H4)
    which = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    before = (await stage.store.operation(which)).plan.hash
    await uncordon(stage, H3)
    await cordon(stage, H2)
    final = await stage.until_final(which)
    assert (final.state, final.message) == (SUCCEEDED, "VMs: 4 moved.")
    (replan,) = final.replans
    assert (replan.before, replan.after) == (before, final.plan.hash)
    assert "h2: it is cordoned" in replan.why
    assert all(": to h2 -> to h3" in change for change in replan.changes)
    assert len(replan.changes) == 3
    assert all(len(step.attempts) == 1 for step in final.steps if step.outcome is Outcome.MOVED)
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_a_plan_that_was_made_anew_waits_for_approval_again(stage: Stage) -> None:
    await cordoned_elsewhere(stage, H3, H4)
    which = await enter(stage, automation=Automation.MANUAL)
    asked = await waiting(stage, which, "awaiting_approval")
    await stage.service.approve(which, Approval(plan_hash=asked.plan.hash), "ann")
    await until_phase(stage, Phase.PERFORM)
    await uncordon(stage, H3)
    await cordon(stage, H2)
    again = await waiting(stage, which, "awaiting_approval")
    assert again.plan.hash != asked.plan.hash
    await stage.clock.sleep(600)
    assert sum(hosts_running(stage, number) == [H1] for number in (1, 2, 3, 4)) == 3
    with pytest.raises(Conflict, match="no longer the one"):
        await stage.service.approve(which, Approval(plan_hash=asked.plan.hash), "ann")
    await stage.service.approve(which, Approval(plan_hash=again.plan.hash), "ann")
    assert (await stage.until_final(which)).state is SUCCEEDED


async def cordoned_elsewhere(stage: Stage, *hosts: HostName) -> None:
    """Four VMs on h1, a controller, and hosts that take nobody at first."""
    for number in (1, 2, 3, 4):
        stage.add_vm(1, number)
    await stage.start_controller()
    for host in hosts:
        await cordon(stage, host)


@story(one_by_one)
async def test_a_host_that_is_new_to_the_plan_gets_who_was_refused_everywhere_else(
    stage: Stage,
) -> None:
    await cordoned_elsewhere(stage, H4)
    which = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    (flying,) = stage.cluster.migrations
    held = next(number for number in (1, 2, 3, 4) if vm_id(number) != flying)
    bar(stage, held, H2, H3)
    await uncordon(stage, H4)
    final = await stage.until_final(which)
    assert (final.state, hosts_running(stage, held)) == (SUCCEEDED, [H4])
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_f098_where_there_is_no_other_host_the_rest_fails_and_who_has_moved_stays(
    stage: Stage,
) -> None:
    await cordoned_elsewhere(stage, H3, H4)
    which = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    await cordon(stage, H2)
    final = await stage.until_final(which)
    assert (final.state, final.code) == (FAILED, "target.not_available")
    assert final.message == "VMs: 1 moved, 3 stayed."
    told = {one.outcome: one for one in account(final, await stage.service.inventory())}
    assert "cordoned" in told[Outcome.STAYED].why
    assert "furlough vm migrate" in told[Outcome.MOVED].remedy
    await stage.invariants.check_final(which)


@story(one_by_one)
async def test_a_target_that_falls_silent_is_not_waited_for_where_another_takes_the_vms(
    stage: Stage,
) -> None:
    await cordoned_elsewhere(stage, H3, H4)
    which = await enter(stage)
    await until_phase(stage, Phase.FINISH)
    await uncordon(stage, H4)
    stage.cluster.hosts[H2].is_reachable = False
    await stage.clock.sleep(300)
    stage.cluster.hosts[H2].is_reachable = True
    final = await stage.until_final(which)
    assert final.state is SUCCEEDED
    assert sum(hosts_running(stage, number) == [H4] for number in (1, 2, 3, 4)) == 3
    await stage.invariants.check_final(which)
