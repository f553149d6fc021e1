"""VMs that cannot move live and may be stopped: shut down or suspended on the way in. Numbers are
those of the fault catalogue."""

from __future__ import annotations

import pytest

from furlough.core.accounting import account
from furlough.core.ids import HostName, VmId
from furlough.core.looks import Job, Presence, Why
from furlough.core.operation import Act, Operation, Outcome
from furlough.core.plan import Method, OperationKind
from furlough.core.policy import (
    ActionOptions,
    CancelMode,
)
from furlough.core.states import HostMode, OperationState, StepState
from furlough.errors import Refused
from furlough.scenario.stage import REQUEST, Setting, Stage, vm_id
from furlough.sim.clock import EPOCH
from furlough.sim.cluster import Copy
from tests.engine.stopping import MAY_STOP, at_home, saveable, tie, until_act
from tests.engine.stories import (
    CANCELLED,
    FAILED,
    H1,
    H2,
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

# --- as it should go -----------------------------------------------------------------------------


@story()
async def test_who_cannot_move_is_shut_down_and_exactly_those_run_again_after(stage: Stage) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2)
    tie(stage, 3)
    stage.add_vm(1, 4, presence=Presence.SHUT_OFF, has_process=False, own_policy=MAY_STOP)
    await stage.start_controller()
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert await mode_of(stage) is HostMode.MAINTENANCE
    assert outcomes(final) == {Outcome.MOVED: 1, Outcome.STOPPED: 2}
    assert {one.vm for one in await stage.store.away() if one.was_stopped} == {vm_id(2), vm_id(3)}

    back = await exited(stage)
    assert back.state is SUCCEEDED
    assert outcomes(back) == {Outcome.MOVED: 1, Outcome.STARTED: 2}
    assert [hosts_running(stage, number) for number in (1, 2, 3, 4)] == [[H1], [H1], [H1], []]
    assert await stage.store.away() == []


@story()
async def test_who_matters_least_stops_first_and_who_matters_most_starts_first(
    stage: Stage,
) -> None:
    for number, priority in ((1, 90), (2, 10), (3, 50)):
        rank = words(on_maintenance="shut_down", availability_priority=priority)
        tie(stage, number, own_policy=rank)
    await stage.start_controller()
    gone = await entered(stage)
    back = await exited(stage)

    def order(operation: Operation) -> list[VmId | None]:
        steps = [step for step in operation.steps if step.planned.vm]
        ended = sorted(steps, key=lambda step: step.ended_at or EPOCH)
        assert len({step.ended_at for step in steps}) == 3, "one after the other"
        return [step.planned.vm for step in ended]

    assert order(gone) == [vm_id(2), vm_id(3), vm_id(1)]
    assert order(back) == [vm_id(1), vm_id(3), vm_id(2)]


@story()
async def test_a_suspended_vm_goes_on_where_it_was(stage: Stage) -> None:
    saveable(stage, 1)
    await stage.start_controller()
    final = await entered(stage)
    assert final.state is SUCCEEDED
    step = step_of(final, 1)
    assert (step.method, step.outcome, step.acts) == (
        Method.SUSPEND,
        Outcome.STOPPED,
        (Act.SAVE,),
    )
    assert at_home(stage, 1).has_managed_save
    assert (await exited(stage)).state is SUCCEEDED
    assert hosts_running(stage, 1) == [H1]
    assert not at_home(stage, 1).has_managed_save


@story()
async def test_f079_a_vm_paused_by_its_owner_is_suspended_and_comes_back_paused(
    stage: Stage,
) -> None:
    saveable(stage, 1, presence=Presence.PAUSED, why=Why.USER)
    await stage.start_controller()
    assert (await entered(stage)).state is SUCCEEDED
    final = await exited(stage)
    assert final.state is SUCCEEDED
    assert step_of(final, 1).outcome is Outcome.STARTED
    assert at_home(stage, 1).presence is Presence.PAUSED


@story()
async def test_the_operators_list_lets_a_vm_be_shut_down_whose_policy_does_not(
    stage: Stage,
) -> None:
    tie(stage, 1, own_policy=())
    await stage.start_controller()
    with pytest.raises(Refused, match="cannot be entered"):
        await enter(stage)
    final = await entered(stage, shut_down=(vm_id(1),))
    assert (final.state, step_of(final, 1).outcome) == (SUCCEEDED, Outcome.STOPPED)


@story()
async def test_a_vm_that_is_to_be_left_stays_the_others_leave_and_the_host_is_not_empty(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2)
    stage.add_vm(1, 3, own_policy=words(on_maintenance="leave"))
    await stage.start_controller()
    with pytest.raises(Refused, match="cannot be entered"):
        await enter(stage)
    final = await entered(stage, override=("vm.leave",), reason="it is only a test")
    assert (final.state, final.code) == (FAILED, "vm.left")
    assert final.message == "VMs: 1 left, 1 moved, 1 stopped."
    assert await mode_of(stage) is HostMode.CORDONED
    assert hosts_running(stage, 3) == [H1]
    entry = next(
        one for one in account(final, await stage.service.inventory()) if one.name == "vm3"
    )
    assert entry.outcome is Outcome.STAYED
    assert "furlough vm set" in entry.remedy


# --- guests that do not obey ---------------------------------------------------------------------


@story()
async def test_f075_a_guest_that_ignores_the_request_is_asked_again_and_never_powered_off(
    stage: Stage,
) -> None:
    tie(stage, 1, ignores_shutdown=True)
    await stage.start_controller()
    final = await entered(stage)
    step = step_of(final, 1)
    assert (final.state, final.code) == (FAILED, "guest.ignored")
    assert step.acts == (Act.SHUT_DOWN,) * 3
    assert hosts_running(stage, 1) == [H1]
    assert await mode_of(stage) is HostMode.CORDONED
    assert await stage.store.away() == []


@story()
async def test_f075_where_its_policy_says_so_its_power_is_cut_when_its_grace_is_over(
    stage: Stage,
) -> None:
    policy = words(on_maintenance="shut_down", shut_down_grace_s=60, if_ignored="power_off")
    tie(stage, 1, ignores_shutdown=True, own_policy=policy)
    await stage.start_controller()
    final = await entered(stage)
    step = step_of(final, 1)
    assert (final.state, step.outcome) == (SUCCEEDED, Outcome.STOPPED)
    assert step.acts == (Act.SHUT_DOWN, Act.SHUT_DOWN, Act.POWER_OFF)
    assert at_home(stage, 1).why is Why.DESTROYED
    asked = [e.at for e in await stage.store.journal(final.id) if e.event.kind == "step_acted"]
    assert (asked[-1] - asked[0]).total_seconds() == pytest.approx(60, abs=2)
    await exited(stage)
    assert hosts_running(stage, 1) == [H1]


@story()
async def test_f075_a_dead_controller_does_not_shorten_the_grace_of_a_guest(stage: Stage) -> None:
    policy = words(on_maintenance="shut_down", shut_down_grace_s=60, if_ignored="power_off")
    tie(stage, 1, shutdown_takes_s=50.0, own_policy=policy)
    await stage.start_controller()
    operation = await enter(stage)
    await until_act(stage, operation, Act.SHUT_DOWN)
    await stage.kill_controller()
    await stage.clock.sleep(20)
    await stage.start_controller()
    final = await stage.until_final(operation)
    assert final.state is SUCCEEDED
    assert Act.POWER_OFF not in step_of(final, 1).acts
    assert at_home(stage, 1).why is Why.SHUTDOWN


@story()
async def test_f076_a_guest_that_reboots_instead_has_ignored_the_request(stage: Stage) -> None:
    tie(stage, 1, reboots_instead=True)
    await stage.start_controller()
    final = await entered(stage)
    assert (final.state, final.code) == (FAILED, "guest.ignored")
    assert hosts_running(stage, 1) == [H1]
    assert at_home(stage, 1).boots > 1


@story()
async def test_a_guest_that_ignores_it_spares_those_who_matter_more(stage: Stage) -> None:
    for number, priority in ((1, 10), (2, 50)):
        rank = words(
            on_maintenance="shut_down", availability_priority=priority, shut_down_grace_s=60
        )
        tie(stage, number, own_policy=rank, ignores_shutdown=number == 1)
    await stage.start_controller()
    final = await entered(stage)
    assert final.code == "guest.ignored"
    assert step_of(final, 2).state is StepState.SKIPPED
    assert hosts_running(stage, 2) == [H1]


@story(lambda: Setting(hosts=2))
async def test_nobody_is_shut_down_once_a_move_has_failed_for_good(stage: Stage) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2)
    await stage.start_controller()
    operation = await enter(stage)
    # The target refuses the VM from now on.
    stage.add_vm(2, 1, presence=Presence.SHUT_OFF, has_process=False)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is FAILED
    stopping = step_of(final, 2)
    assert (stopping.state, stopping.outcome) == (StepState.SKIPPED, Outcome.STAYED)
    assert "(live) failed" in stopping.notes[0]
    assert hosts_running(stage, 2) == [H1]


# --- others act meanwhile ------------------------------------------------------------------------


@story(lambda: Setting(link_mbit_s=1000))
async def test_f077_a_guest_that_shut_itself_down_before_its_turn_is_not_started_on_exit(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2)
    await stage.start_controller()
    operation = await enter(stage)
    await stage.clock.sleep(3)
    stage.cluster.stop(H1, vm_id(2), Why.SHUTDOWN)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is SUCCEEDED
    step = step_of(final, 2)
    assert (step.state, step.outcome) == (StepState.SKIPPED, Outcome.STOPPED_BY_GUEST)
    await exited(stage)
    assert hosts_running(stage, 2) == []


@story()
async def test_f081_a_vm_without_definition_is_never_shut_down(stage: Stage) -> None:
    tie(stage, 1, is_persistent=False)
    await stage.start_controller()
    with pytest.raises(Refused, match="cannot be entered"):
        await enter(stage)
    assert hosts_running(stage, 1) == [H1]


@story(lambda: Setting(link_mbit_s=1000))
async def test_f081_a_vm_that_has_lost_its_definition_since_the_plan_stays(stage: Stage) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2)
    await stage.start_controller()
    operation = await enter(stage)
    await stage.clock.sleep(1)
    at_home(stage, 2).is_persistent = False
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, final.code) == (FAILED, "vm.transient")
    assert hosts_running(stage, 2) == [H1]
    assert step_of(final, 2).acts == ()


@story(lambda: Setting(link_mbit_s=1000))
async def test_f085_a_vm_that_slipped_in_is_stopped_as_its_own_policy_says(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await enter(stage)
    tie(stage, 9)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, step_of(final, 9).outcome) == (SUCCEEDED, Outcome.STOPPED)
    await exited(stage)
    assert hosts_running(stage, 9) == [H1]


@story(lambda: Setting(link_mbit_s=1000))
async def test_f085_a_vm_that_slipped_in_and_is_to_be_left_waits_for_a_person(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await enter(stage)
    stage.add_vm(1, 9, own_policy=words(on_maintenance="leave"))
    waiting = await stage.until_still(operation)
    assert (waiting.state, waiting.code) == (OperationState.BLOCKED, "vm.leave")
    assert "vm9" in (waiting.waiting_for or "")
    assert await mode_of(stage) is HostMode.ENTERING
    stage.cluster.stop(H1, vm_id(9), Why.SHUTDOWN)
    assert (await stage.until_final(operation)).state is SUCCEEDED


@story(lambda: Setting(link_mbit_s=1000))
async def test_f087_a_vm_that_somebody_deleted_before_it_was_to_be_stopped_is_missed(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2)
    await stage.start_controller()
    operation = await enter(stage)
    await stage.clock.sleep(1)
    stage.cluster.remove(H1, vm_id(2))
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    step = step_of(final, 2)
    assert (step.state, step.outcome) == (StepState.SKIPPED, Outcome.MISSING)
    assert len(step.evidence.looks) == 4


@story(lambda: Setting(link_mbit_s=1000))
async def test_f088_a_vm_that_somebody_moved_before_it_was_to_be_stopped_runs_on(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2)
    await stage.start_controller()
    operation = await enter(stage)
    await stage.clock.sleep(1)
    stage.cluster.hosts[H2].copies[vm_id(2)] = stage.cluster.hosts[H1].copies.pop(vm_id(2))
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    step = step_of(final, 2)
    assert (step.outcome, step.where) == (Outcome.CHANGED_BY_OTHERS, H2)
    assert hosts_running(stage, 2) == [H2]


@story(lambda: Setting(link_mbit_s=1000))
async def test_f089_somebody_elses_job_is_waited_for_before_a_guest_is_asked(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    tie(stage, 2)
    await stage.start_controller()
    operation = await enter(stage)
    await stage.clock.sleep(1)
    at_home(stage, 2).job = Job.OTHER
    await stage.clock.sleep(120)
    waiting = await stage.store.operation(operation)
    assert (waiting.code, step_of(waiting, 2).acts) == ("vm.busy", ())
    at_home(stage, 2).job = Job.NONE
    assert (await stage.until_final(operation)).state is SUCCEEDED


# --- cancelling ----------------------------------------------------------------------------------


@story()
async def test_f100_cancel_while_a_shutdown_waits_leaves_a_guest_that_ignores_it_running(
    stage: Stage,
) -> None:
    tie(stage, 1, ignores_shutdown=True)
    await stage.start_controller()
    operation = await enter(stage)
    await until_act(stage, operation, Act.SHUT_DOWN)
    began = stage.clock.monotonic()
    await stage.service.cancel(operation, CancelMode.STOP, "me")
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert stage.clock.monotonic() - began < 90
    step = step_of(final, 1)
    assert (final.state, step.outcome, step.where) == (CANCELLED, Outcome.STAYED, H1)
    assert step.failure is not None
    assert step.failure.code == "cancelled"
    assert "Should it still obey" in step.failure.remedy
    assert hosts_running(stage, 1) == [H1]
    assert await mode_of(stage) is HostMode.CORDONED


@story()
async def test_f100_a_guest_that_obeys_after_the_cancel_is_on_record_and_told_how_to_start(
    stage: Stage,
) -> None:
    tie(stage, 1, shutdown_takes_s=20.0)
    await stage.start_controller()
    operation = await enter(stage)
    await until_act(stage, operation, Act.SHUT_DOWN)
    await stage.service.cancel(operation, CancelMode.STOP, "me")
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, step_of(final, 1).outcome) == (CANCELLED, Outcome.STOPPED)
    (entry,) = account(final, await stage.service.inventory())
    assert "furlough vm start" in entry.remedy
    # The next maintenance that comes about starts it at its end.
    assert (await entered(stage)).state is SUCCEEDED
    await exited(stage)
    assert hosts_running(stage, 1) == [H1]


@story()
async def test_f100_cancel_finish_lets_a_guest_take_its_grace(stage: Stage) -> None:
    tie(stage, 1, shutdown_takes_s=60.0)
    await stage.start_controller()
    operation = await enter(stage)
    await until_act(stage, operation, Act.SHUT_DOWN)
    await stage.service.cancel(operation, CancelMode.FINISH, "me")
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, step_of(final, 1).outcome) == (CANCELLED, Outcome.STOPPED)


@story()
async def test_a_vm_that_was_stopped_in_vain_is_started_by_its_owner_and_off_the_record(
    stage: Stage,
) -> None:
    tie(stage, 1, own_policy=words(on_maintenance="shut_down", availability_priority=10))
    tie(stage, 2, ignores_shutdown=True)
    await stage.start_controller()
    final = await entered(stage)
    assert outcomes(final) == {Outcome.STOPPED: 1, Outcome.STAYED: 1}
    assert [one.vm for one in await stage.store.away()] == [vm_id(1)]
    uncordon = await stage.service.uncordon(H1, ActionOptions(), REQUEST)
    await stage.until_final(uncordon.id)
    start = OperationKind.START_VM
    asked = await stage.service.change_power(start, vm_id(1), ActionOptions(), REQUEST)
    assert (await stage.until_final(asked.id)).state is SUCCEEDED
    assert hosts_running(stage, 1) == [H1]
    assert await stage.store.away() == []


# --- what else may happen while a VM is being stopped --------------------------------------------


@story()
async def test_f077_a_guest_that_shuts_itself_down_instead_of_being_saved_stays_off(
    stage: Stage,
) -> None:
    saveable(stage, 1)
    await stage.start_controller()
    operation = await enter(stage)
    await until_act(stage, operation, Act.SAVE)
    stage.cluster.stop(H1, vm_id(1), Why.SHUTDOWN)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, step_of(final, 1).outcome) == (SUCCEEDED, Outcome.STOPPED_BY_GUEST)
    await exited(stage)
    assert hosts_running(stage, 1) == []


@story()
async def test_a_vm_that_was_saved_is_known_for_it_after_its_daemon_has_forgotten_why(
    stage: Stage,
) -> None:
    saveable(stage, 1)
    await stage.start_controller()
    operation = await enter(stage)
    await until_act(stage, operation, Act.SAVE)
    await stage.kill_controller()
    await stage.clock.sleep(30)
    at_home(stage, 1).why = Why.UNKNOWN
    await stage.start_controller()
    final = await stage.until_final(operation)
    assert (final.state, step_of(final, 1).outcome) == (SUCCEEDED, Outcome.STOPPED)
    await exited(stage)
    assert hosts_running(stage, 1) == [H1]


@story()
async def test_a_vm_that_died_with_its_host_instead_of_being_saved_is_not_started_by_us(
    stage: Stage,
) -> None:
    saveable(stage, 1, memory_mib=8192)
    await stage.start_controller()
    operation = await enter(stage)
    await until_act(stage, operation, Act.SAVE)
    stage.cluster.crash(H1)
    await stage.clock.sleep(60)
    stage.cluster.boot(H1)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert step_of(final, 1).outcome is Outcome.CHANGED_BY_OTHERS
    assert await stage.store.away() == []


@story()
async def test_a_guest_that_obeys_between_two_attempts_was_stopped_by_us(stage: Stage) -> None:
    tie(stage, 1, shutdown_takes_s=31.0)
    await stage.start_controller()
    operation = await enter(stage)
    await until_act(stage, operation, Act.SHUT_DOWN)
    await stage.clock.sleep(28)
    sound = stage.cluster.copy

    def refuses(host: HostName, vm: VmId) -> Copy | None:
        if vm == vm_id(1):
            raise Refused("hypervisor.failed", "internal error")
        return sound(host, vm)

    # The second request is refused, just before the guest obeys the first one.
    stage.cluster.copy = refuses  # type: ignore[method-assign]
    while not step_of(await stage.store.operation(operation), 1).failed_attempts:
        await stage.clock.sleep(0.1)
    stage.cluster.copy = sound  # type: ignore[method-assign]
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, step_of(final, 1).outcome) == (SUCCEEDED, Outcome.STOPPED)
    assert len(step_of(final, 1).attempts) == 2
