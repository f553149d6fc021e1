"""Exactly those that an evacuation has stopped are started again on the way out. Numbers are those
of the fault catalogue."""

from __future__ import annotations

from dataclasses import replace

from furlough.core.ids import HostName, VmId
from furlough.core.looks import Why
from furlough.core.operation import Outcome
from furlough.core.plan import Method
from furlough.core.policy import (
    ClusterPolicy,
    ExitOptions,
    RestoreMode,
)
from furlough.core.states import HostMode, StepState
from furlough.errors import Refused
from furlough.planning.homecoming import Homecoming
from furlough.scenario.stage import REQUEST, Setting, Stage, vm_id
from tests.engine.stopping import DEVICE, MAY_STOP, at_home, tie
from tests.engine.stories import (
    FAILED,
    H1,
    H2,
    SUCCEEDED,
    entered,
    exited,
    hosts_running,
    mode_of,
    step_of,
    story,
    words,
)

# --- the way back --------------------------------------------------------------------------------


async def _in_maintenance(stage: Stage, vms: int = 1, **traits: object) -> None:
    """h1 in maintenance, these VMs shut down for it."""
    for number in range(1, vms + 1):
        tie(stage, number, **traits)
    await stage.start_controller()
    assert (await entered(stage)).state is SUCCEEDED


@story()
async def test_the_exit_check_says_who_is_started_and_who_is_not(stage: Stage) -> None:
    await _in_maintenance(stage)
    for mode, homecoming in (
        (RestoreMode.RECORDED, Homecoming.START),
        (RestoreMode.MOVED, Homecoming.STAYS),
        (RestoreMode.NONE, Homecoming.STAYS),
    ):
        (one,) = (await stage.service.exit_check([H1], ExitOptions(restore=mode))).returns
        assert one.homecoming is homecoming
    final = await exited(stage, restore=RestoreMode.MOVED)
    assert final.state is SUCCEEDED
    assert hosts_running(stage, 1) == []
    assert len(await stage.store.away()) == 1
    assert (await exited(stage)).state is SUCCEEDED
    assert hosts_running(stage, 1) == [H1]
    assert await stage.store.away() == []


@story()
async def test_f108_a_vm_whose_definition_was_changed_starts_as_it_is_now(stage: Stage) -> None:
    await _in_maintenance(stage)
    copy = at_home(stage, 1)
    copy.vm = replace(copy.vm, memory_mib=8192)
    (one,) = (await stage.service.exit_check([H1], ExitOptions())).returns
    assert "comes back as it is now" in one.reason
    assert (await exited(stage)).state is SUCCEEDED
    assert hosts_running(stage, 1) == [H1]


@story()
async def test_f109_a_vm_that_its_owner_started_elsewhere_stays_there(stage: Stage) -> None:
    await _in_maintenance(stage)
    stage.add_vm(2, 1)
    final = await exited(stage)
    assert final.state is SUCCEEDED
    assert hosts_running(stage, 1) == [H2]
    assert [step for step in final.steps if step.method is Method.START] == []


@story()
async def test_f109_also_when_it_is_started_elsewhere_at_the_last_moment(stage: Stage) -> None:
    await _in_maintenance(stage)
    asked = await stage.service.exit([H1], ExitOptions(), REQUEST)
    stage.add_vm(2, 1)
    final = await stage.until_final(asked.id)
    await stage.invariants.check_final(asked.id)
    assert final.state is SUCCEEDED
    step = step_of(final, 1)
    assert (step.state, step.outcome, step.where) == (
        StepState.SKIPPED,
        Outcome.CHANGED_BY_OTHERS,
        H2,
    )
    assert hosts_running(stage, 1) == [H2]


@story()
async def test_f107_nobody_is_started_while_a_host_is_silent_that_may_run_it(stage: Stage) -> None:
    await _in_maintenance(stage)
    stage.cluster.hosts[H2].is_reachable = False
    final = await exited(stage)
    assert (final.state, final.code) == (FAILED, "restore_incomplete")
    assert step_of(final, 1).failure is not None
    assert "h2" in step_of(final, 1).failure.message  # type: ignore[union-attr]
    assert hosts_running(stage, 1) == []
    assert await mode_of(stage) is HostMode.AVAILABLE
    assert [one.vm for one in await stage.store.away()] == [vm_id(1)]


@story()
async def test_f106_a_host_that_has_become_too_small_starts_whom_it_can(stage: Stage) -> None:
    await _in_maintenance(stage, vms=2)
    stage.cluster.hosts[H1].memory_mib = 3300
    final = await exited(stage)
    assert await mode_of(stage) is HostMode.AVAILABLE
    assert sorted(len(hosts_running(stage, number)) for number in (1, 2)) == [0, 1]
    assert final.plan.unplaced[0].reasons[H1]
    assert len(await stage.store.away()) == 1


@story()
async def test_one_vm_that_cannot_start_holds_up_no_other(stage: Stage) -> None:
    await _in_maintenance(stage, vms=3)
    sound = stage.cluster.start

    def start(host: HostName, vm: VmId) -> None:
        if vm == vm_id(2):
            raise Refused("hypervisor.failed", "its disk cannot be opened")
        sound(host, vm)

    stage.cluster.start = start  # type: ignore[method-assign]
    asked = await stage.service.exit([H1], ExitOptions(), REQUEST)
    final = await stage.until_final(asked.id)
    await stage.invariants.check_final(asked.id)
    assert (final.state, final.code) == (FAILED, "restore_incomplete")
    assert (hosts_running(stage, 1), hosts_running(stage, 3)) == ([H1], [H1])
    assert await mode_of(stage) is HostMode.AVAILABLE
    assert [one.vm for one in await stage.store.away()] == [vm_id(2)]


@story()
async def test_f110_a_second_evacuation_keeps_those_that_the_first_one_has_stopped(
    stage: Stage,
) -> None:
    tie(stage, 1, own_policy=words(on_maintenance="shut_down", availability_priority=10))
    tie(stage, 2, ignores_shutdown=True)
    await stage.start_controller()
    assert (await entered(stage)).code == "guest.ignored"
    at_home(stage, 2).ignores_shutdown = False
    assert (await entered(stage)).state is SUCCEEDED
    assert {one.vm for one in await stage.store.away()} == {vm_id(1), vm_id(2)}
    await exited(stage)
    assert [hosts_running(stage, number) for number in (1, 2)] == [[H1], [H1]]


@story()
async def test_a_vm_that_runs_again_and_then_moves_is_on_record_as_moved(stage: Stage) -> None:
    tie(stage, 1, own_policy=words(on_maintenance="shut_down", availability_priority=10))
    tie(stage, 2, ignores_shutdown=True)
    await stage.start_controller()
    assert (await entered(stage)).code == "guest.ignored"
    # Its owner starts it behind our back, without its device; the other one is gone for good.
    stage.cluster.hosts[H1].marker = None
    stage.cluster.start(H1, vm_id(1))
    at_home(stage, 1).vm = replace(at_home(stage, 1).vm, devices=())
    stage.cluster.stop(H1, vm_id(2), Why.SHUTDOWN)
    final = await entered(stage)
    assert (final.state, step_of(final, 1).outcome) == (SUCCEEDED, Outcome.MOVED)
    (away,) = await stage.store.away()
    assert (away.vm, away.home, away.was_stopped) == (vm_id(1), H1, False)
    await exited(stage)
    assert hosts_running(stage, 1) == [H1]


@story(lambda: Setting(policy=ClusterPolicy(max_hosts_away=2)))
async def test_a_vm_stopped_on_a_host_that_is_not_its_home_runs_there_again_first(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1, own_policy=MAY_STOP)
    await stage.start_controller()
    away_on = step_of(await entered(stage), 1).where
    assert away_on is not None
    copy = stage.cluster.copy(away_on, vm_id(1))
    assert copy is not None
    copy.vm = replace(copy.vm, devices=DEVICE)
    assert (await entered(stage, away_on)).state is SUCCEEDED
    (away,) = await stage.store.away()
    assert (away.home, away.left_on, away.was_stopped) == (H1, away_on, True)
    await exited(stage, away_on)
    assert hosts_running(stage, 1) == [away_on]
    (away,) = await stage.store.away()
    assert (away.home, away.was_stopped) == (H1, False)
    copy.vm = replace(copy.vm, devices=())
    await exited(stage)
    assert hosts_running(stage, 1) == [H1]
