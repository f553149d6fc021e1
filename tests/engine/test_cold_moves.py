"""VMs that move cold: those that are off, where all have to leave, and those that are shut down for
it and run again on their target. Numbers are those of the fault catalogue."""

from __future__ import annotations

import asyncio

import pytest

from furlough.core.accounting import account
from furlough.core.admission import terms_of
from furlough.core.ids import HostName
from furlough.core.inventory import Disk
from furlough.core.journal import OperationAccepted, StepActed
from furlough.core.looks import Presence, Why
from furlough.core.operation import Act, Operation, Outcome
from furlough.core.plan import Before, Method, OperationKind, PlannedStep
from furlough.core.policy import ActionOptions, CancelMode, EnterOptions, ExitOptions, Scope
from furlough.core.states import HostMode, Power, StepState
from furlough.errors import Refused
from furlough.planning.cold import cold_move
from furlough.planning.planner import plan_action, roster_of
from furlough.scenario.stage import Stage, vm_id
from furlough.sim.cluster import Copy
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
    outcomes,
    step_of,
    story,
    words,
)

OFF = {"presence": Presence.SHUT_OFF, "has_process": False}
COLD = words(on_maintenance="cold", shut_down_grace_s=60)
# What cannot be migrated, but started anywhere.
TIED = ("a transient disk",)


def never_nowhere(stage: Stage) -> None:
    """From now on it is a violation if no host at all knows a VM that one has known."""
    known = {vm for host in stage.cluster.hosts.values() for vm in host.copies}

    def check() -> None:
        here = {vm for host in stage.cluster.hosts.values() for vm in host.copies}
        for vm in known - here:
            stage.invariants.report(f"S2: no host knows {vm}")

    stage.cluster.watchers.append(check)


def off_on(stage: Stage, number: int) -> list[HostName]:
    """The hosts that have the n-th VM, off."""
    return [
        name
        for name in stage.cluster.hosts
        if (copy := stage.cluster.copy(name, vm_id(number))) is not None
        and copy.presence is Presence.SHUT_OFF
    ]


def copy_of(stage: Stage, number: int) -> Copy:
    """The one copy of the n-th VM."""
    copies = [stage.cluster.copy(name, vm_id(number)) for name in stage.cluster.hosts]
    (found,) = [copy for copy in copies if copy is not None]
    return found


async def acts_of(stage: Stage, operation: Operation, number: int) -> list[Act]:
    """What was announced about the n-th VM, in order."""
    step = step_of(operation, number).number
    journal = await stage.store.journal(operation.id)
    return [
        entry.event.act
        for entry in journal
        if isinstance(entry.event, StepActed) and entry.event.step == step
    ]


async def moved_cold(stage: Stage, number: int, target: HostName) -> Operation:
    """The n-th VM moved cold to a host, as a plan of its own."""
    inventory = await stage.service.inventory()
    vm = inventory.vm(vm_id(number))
    step = cold_move(vm, (target,), vm.host, wave=1)
    return await accepted(stage, step)


async def accepted(stage: Stage, step: PlannedStep) -> Operation:
    """An operation of this one step, once it is over."""
    plan = plan_action(OperationKind.MIGRATE_VM, step.host, (step,))
    inventory = await stage.service.inventory()
    event = OperationAccepted(
        operation_kind=plan.kind,
        hosts=plan.hosts,
        options=ActionOptions(),
        plan=plan,
        roster=roster_of(plan, inventory),
        requested_by="stage",
    )
    asked = await stage.store.accept(event, (), terms_of(inventory, step.targets))
    final = await stage.until_final(asked.id)
    await stage.invariants.check_final(final.id)
    return final


# --- those that are off --------------------------------------------------------------------------


@story()
async def test_where_all_have_to_leave_those_that_are_off_go_last_and_stay_off(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    stage.add_vm(1, 2, has_autostart=True, has_nvram=True, **OFF)
    stage.add_vm(1, 3, hindrances=TIED, own_policy=COLD)
    stage.cluster.hosts[H1].vm_state[vm_id(2)] = "secure boot is on"
    never_nowhere(stage)
    await stage.start_controller()
    final = await entered(stage, scope=Scope.ALL)
    assert final.state is SUCCEEDED, final.message
    assert await mode_of(stage) is HostMode.MAINTENANCE
    assert outcomes(final) == {Outcome.MOVED: 3}
    assert not stage.cluster.hosts[H1].copies
    (where,) = off_on(stage, 2)
    assert stage.cluster.hosts[where].vm_state[vm_id(2)] == "secure boot is on"
    assert copy_of(stage, 2).has_autostart
    ends = {number: step_of(final, number).ended_at for number in (1, 2, 3)}
    starts = {number: step_of(final, number).attempts[0].started_at for number in (1, 2, 3)}
    assert ends[1] is not None
    assert ends[3] is not None
    assert ends[1] <= starts[3]
    assert ends[3] <= starts[2]
    checksum = next(
        entry.event.why
        for entry in await stage.store.journal(final.id)
        if isinstance(entry.event, StepActed)
        and entry.event.act is Act.DEFINE_TARGET
        and entry.event.step == step_of(final, 2).number
    )
    assert "sha256" in checksum


@story()
async def test_without_that_scope_nothing_that_is_off_is_touched(stage: Stage) -> None:
    stage.add_vm(1, 1)
    stage.add_vm(1, 2, **OFF)
    await stage.start_controller()
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert off_on(stage, 2) == [H1]
    assert [entry.vm for entry in final.roster] == [vm_id(1)]


@story()
async def test_who_is_off_and_stays_is_named_and_keeps_nobody_from_maintenance(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1, own_policy=words(on_maintenance="leave"), **OFF)
    stage.add_vm(1, 2, snapshots=2, **OFF)
    stage.add_vm(1, 3, has_managed_save=True, **OFF)
    stage.add_vm(1, 4, disks=(Disk(target="vda", source="/a.img", datastore=None),), **OFF)
    await stage.start_controller()
    (report,) = await stage.service.check([H1], EnterOptions(scope=Scope.ALL))
    named = [one for one in report.findings if one.code == "vm.off_stays"]
    assert len(named) == 4
    assert {one.method for one in report.dispositions} == {Method.LEAVE}
    final = await entered(stage, scope=Scope.ALL)
    assert final.state is SUCCEEDED
    assert await mode_of(stage) is HostMode.MAINTENANCE
    assert [one.vm for one in final.plan.unplaced] == [vm_id(n) for n in (1, 2, 3, 4)]
    assert len(account(final, await stage.service.inventory())) == 4
    assert all(off_on(stage, number) == [H1] for number in (1, 2, 3, 4))


@story()
async def test_one_that_was_started_before_its_turn_is_moved_as_one_that_runs(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    stage.add_vm(1, 2, **OFF)
    stage.cluster.slow_down(H1, factor=0.05)
    await stage.start_controller()
    which = await enter(stage, scope=Scope.ALL)
    await stage.clock.sleep(2)
    copy = copy_of(stage, 2)
    stage.cluster.set_presence(copy, Presence.RUNNING, Why.UNKNOWN)
    final = await stage.until_final(which)
    assert (final.state, final.code) == (FAILED, "vm.changed")
    assert hosts_running(stage, 2) == [H1]


# --- those that run ------------------------------------------------------------------------------


@story()
async def test_a_vm_that_may_move_cold_is_shut_down_and_runs_on_its_target(stage: Stage) -> None:
    stage.add_vm(1, 1, hindrances=TIED, own_policy=COLD, has_autostart=True, has_tpm=True)
    never_nowhere(stage)
    await stage.start_controller()
    (report,) = await stage.service.check([H1], EnterOptions())
    assert [one.severity.value for one in report.findings if one.code == "vm.cold"] == ["info"]
    (fate,) = report.dispositions
    assert (fate.method, fate.grace_s) == (Method.COLD, 60)
    assert fate.target is not None
    final = await entered(stage)
    assert final.state is SUCCEEDED, final.message
    assert await mode_of(stage) is HostMode.MAINTENANCE
    step = step_of(final, 1)
    assert (step.outcome, step.where) == (Outcome.MOVED, fate.target)
    assert hosts_running(stage, 1) == [fate.target]
    assert copy_of(stage, 1).has_autostart
    assert stage.cluster.hosts[fate.target].vm_state[vm_id(1)] == "state of vm1"
    assert step.downtime_ms is not None
    assert 0 < step.downtime_ms < 5000
    assert await acts_of(stage, final, 1) == [
        Act.SHUT_DOWN,
        Act.COPY_STATE,
        Act.DEFINE_TARGET,
        Act.UNDEFINE_SOURCE,
        Act.START_TARGET,
        Act.SET_AUTOSTART,
    ]
    (away,) = await stage.store.away()
    assert (away.home, away.left_on, away.was_stopped) == (H1, fate.target, False)


@story()
async def test_a_guest_that_ignores_it_keeps_running_at_home(stage: Stage) -> None:
    stage.add_vm(1, 1, hindrances=TIED, own_policy=COLD, ignores_shutdown=True)
    await stage.start_controller()
    final = await entered(stage)
    assert (final.state, final.code) == (FAILED, "guest.ignored")
    assert hosts_running(stage, 1) == [H1]
    assert await mode_of(stage) is HostMode.CORDONED


@story()
async def test_a_guest_that_ignores_it_is_powered_off_where_its_policy_says_so(
    stage: Stage,
) -> None:
    may = words(on_maintenance="cold", shut_down_grace_s=5, if_ignored="power_off")
    stage.add_vm(1, 1, hindrances=TIED, own_policy=may, ignores_shutdown=True)
    await stage.start_controller()
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert hosts_running(stage, 1) != [H1]
    assert Act.POWER_OFF in await acts_of(stage, final, 1)


@story()
async def test_what_does_not_start_on_its_target_is_brought_home_and_runs_there(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1, hindrances=TIED, own_policy=COLD, has_autostart=True, has_nvram=True)
    stage.cluster.hosts[H2].fails_starts = stage.cluster.hosts[H3].fails_starts = True
    stage.cluster.hosts[HostName("h4")].fails_starts = True
    never_nowhere(stage)
    await stage.start_controller()
    final = await entered(stage)
    assert (final.state, final.code) == (FAILED, "vm.start_failed")
    step = step_of(final, 1)
    assert (step.outcome, step.where) == (Outcome.STAYED, H1)
    assert hosts_running(stage, 1) == [H1]
    copy = stage.cluster.copy(H1, vm_id(1))
    assert copy is not None
    assert copy.has_autostart
    assert all(stage.cluster.copy(host, vm_id(1)) is None for host in (H2, H3))
    marker = stage.cluster.hosts[H1].marker
    assert marker is not None
    assert marker.admit == ()
    assert await stage.store.away() == []


@story()
async def test_what_starts_nowhere_any_more_is_off_at_home_and_that_is_said(stage: Stage) -> None:
    stage.add_vm(1, 1, hindrances=TIED, own_policy=COLD)
    for host in stage.cluster.hosts.values():
        host.fails_starts = True
    never_nowhere(stage)
    await stage.start_controller()
    final = await entered(stage)
    assert (final.state, final.code) == (FAILED, "vm.start_failed")
    assert step_of(final, 1).outcome is Outcome.STOPPED
    assert off_on(stage, 1) == [H1]
    (entry,) = account(final, await stage.service.inventory())
    assert "furlough vm start" in entry.remedy


@story()
async def test_nobody_is_shut_down_for_a_move_whose_baggage_cannot_go_along(stage: Stage) -> None:
    stage.add_vm(1, 1, hindrances=TIED, own_policy=COLD, has_tpm=True)
    for host in (H2, H3, HostName("h4")):
        stage.cluster.hosts[host].has_guard = False
    await stage.start_controller()
    final = await entered(stage)
    assert (final.state, final.code) == (FAILED, "vm.immovable")
    assert await acts_of(stage, final, 1) == []
    assert hosts_running(stage, 1) == [H1]


@story()
async def test_a_guest_that_shuts_itself_down_before_is_not_started_elsewhere(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    stage.add_vm(1, 2, hindrances=TIED, own_policy=COLD)
    stage.cluster.slow_down(H1, factor=0.05)
    await stage.start_controller()
    which = await enter(stage)
    await stage.clock.sleep(2)
    stage.cluster.stop(H1, vm_id(2), Why.SHUTDOWN)
    final = await stage.until_final(which)
    await stage.invariants.check_final(which)
    step = step_of(final, 2)
    assert (step.state, step.outcome) == (StepState.SKIPPED, Outcome.STOPPED_BY_GUEST)
    assert off_on(stage, 2) == [H1]


@story()
async def test_f081_a_transient_vm_is_never_moved_cold(stage: Stage) -> None:
    stage.add_vm(1, 1, hindrances=TIED, own_policy=COLD, is_persistent=False)
    await stage.start_controller()
    with pytest.raises(Refused):
        await enter(stage)
    assert hosts_running(stage, 1) == [H1]


@story()
async def test_somebody_who_starts_it_at_home_in_the_middle_keeps_it_there(stage: Stage) -> None:
    """Between the definition on the target and the end of the one at home: what was started is
    seen, and what goes is the copy that is off."""
    stage.add_vm(1, 1, has_nvram=True, **OFF)
    never_nowhere(stage)
    started: list[bool] = []

    def start() -> None:
        both = [stage.cluster.copy(host, vm_id(1)) for host in (H1, H2)]
        home, away = both
        if home is not None and away is not None and not started:
            started.append(True)
            stage.cluster.set_presence(home, Presence.RUNNING, Why.UNKNOWN)

    stage.cluster.watchers.append(start)
    await stage.start_controller()
    await stage.clock.sleep(1)
    final = await moved_cold(stage, 1, H2)
    assert started
    assert step_of(final, 1).outcome is Outcome.CHANGED_BY_OTHERS
    assert hosts_running(stage, 1) == [H1]
    assert stage.cluster.copy(H2, vm_id(1)) is None


@story()
async def test_a_cancel_before_its_definition_has_gone_starts_it_at_home_again(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1, hindrances=TIED, own_policy=COLD, shutdown_takes_s=10)
    await stage.start_controller()
    which = await enter(stage)
    await stage.clock.sleep(5)
    await stage.service.cancel(which, CancelMode.STOP, "stage")
    final = await stage.until_final(which)
    await stage.invariants.check_final(which)
    assert final.state is CANCELLED
    assert step_of(final, 1).where == H1
    assert hosts_running(stage, 1) == [H1]
    marker = stage.cluster.hosts[H1].marker
    assert marker is not None
    assert marker.admit == ()


@story()
async def test_a_cancel_that_lets_things_end_lets_it_arrive(stage: Stage) -> None:
    stage.add_vm(1, 1, hindrances=TIED, own_policy=COLD, shutdown_takes_s=10)
    await stage.start_controller()
    which = await enter(stage)
    await stage.clock.sleep(5)
    await stage.service.cancel(which, CancelMode.FINISH, "stage")
    final = await stage.until_final(which)
    await stage.invariants.check_final(which)
    assert step_of(final, 1).outcome is Outcome.MOVED
    assert hosts_running(stage, 1) == [step_of(final, 1).where]


@story()
async def test_a_silent_target_in_the_middle_is_waited_for_and_nothing_is_removed(
    stage: Stage,
) -> None:
    """F046: the definition may be there or not; the one at home stays until that is seen."""
    stage.add_vm(1, 1, **OFF)
    never_nowhere(stage)
    cut: list[bool] = []

    def cut_off() -> None:
        if stage.cluster.copy(H2, vm_id(1)) is not None and not cut:
            cut.append(True)
            stage.cluster.hosts[H2].is_reachable = False

    stage.cluster.watchers.append(cut_off)
    await stage.start_controller()
    await stage.clock.sleep(1)
    moving = asyncio.create_task(moved_cold(stage, 1, H2))
    await stage.clock.sleep(60)
    assert cut
    assert stage.cluster.copy(H1, vm_id(1)) is not None
    (operation,) = await stage.store.operations(active=True)
    assert operation.code == "host.silent"
    stage.cluster.hosts[H2].is_reachable = True
    final = await moving
    assert step_of(final, 1).outcome is Outcome.MOVED
    assert off_on(stage, 1) == [H2]


@story()
async def test_it_goes_both_ways(stage: Stage) -> None:
    """What has gone cold comes home cold, with what its firmware has written meanwhile."""
    stage.add_vm(1, 1, has_nvram=True, **OFF)
    stage.add_vm(1, 2, hindrances=TIED)
    never_nowhere(stage)
    await stage.start_controller()
    await stage.clock.sleep(1)
    for number in (1, 2):
        assert (await moved_cold(stage, number, H2)).state is SUCCEEDED
    stage.cluster.hosts[H2].vm_state[vm_id(1)] = "changed there"
    await stage.clock.sleep(60)
    for number in (1, 2):
        assert (await moved_cold(stage, number, H1)).state is SUCCEEDED
    assert off_on(stage, 1) == [H1]
    assert hosts_running(stage, 2) == [H1]
    assert stage.cluster.hosts[H1].vm_state[vm_id(1)] == "changed there"


@story()
async def test_f067_what_the_target_has_of_it_already_is_not_replaced(stage: Stage) -> None:
    stage.add_vm(1, 1, **OFF)
    await stage.start_controller()
    await stage.clock.sleep(1)
    step = cold_move((await stage.service.inventory()).vm(vm_id(1)), (H2,), H1, wave=1)
    theirs = stage.cluster.put(H2, copy_of(stage, 1).vm, **OFF)
    final = await accepted(stage, step)
    assert (final.state, final.code) == (FAILED, "target.refused")
    assert stage.cluster.copy(H2, vm_id(1)) is theirs
    assert stage.cluster.copy(H1, vm_id(1)) is not None
    assert step.before == Before(power=Power.SHUT_OFF)


@story()
async def test_who_left_cold_comes_home_cold_and_runs_only_if_it_ran(stage: Stage) -> None:
    stage.add_vm(1, 1, own_policy=COLD, hindrances=TIED)
    stage.add_vm(1, 2, **OFF)
    await stage.start_controller()
    assert (await entered(stage, scope=Scope.ALL)).state is SUCCEEDED
    assert stage.cluster.hosts[H1].copies == {}
    report = await stage.service.exit_check([H1], ExitOptions())
    assert {one.away.name for one in report.returns if one.comes} == {"vm1", "vm2"}
    final = await exited(stage)
    assert final.state is SUCCEEDED, final.message
    assert (hosts_running(stage, 1), off_on(stage, 2)) == ([H1], [H1])
    assert await mode_of(stage) is HostMode.AVAILABLE
    assert await stage.service.away() == []
