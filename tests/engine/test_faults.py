"""What breaks on the way, and what must then be true. Numbers are those of the fault catalogue."""

from __future__ import annotations

import pytest

from furlough.core.looks import Presence, Why
from furlough.core.operation import Act, Outcome
from furlough.core.policy import ActionOptions, CancelMode, ExitOptions
from furlough.core.states import Guard, HostMode, OperationState, StepState
from furlough.errors import Conflict, Refused
from furlough.scenario.stage import REQUEST, Setting, Stage, host_name, vm_id
from furlough.sim.faults import Odds
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
    outcomes,
    slow,
    step_of,
    story,
    until_phase,
)


async def _open(stage: Stage, vms: int = 3, **traits: object) -> None:
    for number in range(1, vms + 1):
        stage.add_vm(1, number, **traits)
    await stage.start_controller()


# --- lost calls ----------------------------------------------------------------------------------


@story(lambda: Setting(seed=3, odds=Odds(lost_reply=1.0)))
async def test_f063_every_answer_lost_and_still_everybody_moves_once(stage: Stage) -> None:
    await _open(stage)
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert outcomes(final) == {Outcome.MOVED: 3}
    assert {len(step.attempts) for step in final.steps if step.planned.vm} == {1}


@story(lambda: Setting(odds=Odds(lost_request=0.6), seed=5))
async def test_f003_a_call_that_never_arrived_is_made_again_after_looking(stage: Stage) -> None:
    await _open(stage)
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert any(len(step.attempts) > 1 for step in final.steps)


@story(lambda: Setting(odds=Odds(lost_finish=1.0)))
async def test_f047_a_lost_finish_answer_never_makes_two_copies_without_locks(
    stage: Stage,
) -> None:
    await _open(stage, vms=1)
    final = await entered(stage)
    step = step_of(final, 1)
    assert final.state is FAILED
    assert len(step.attempts) == 3
    assert all(Act.REMOVE_TARGET in attempt.acts for attempt in step.attempts)
    assert hosts_running(stage, 1) == [H1]
    assert await mode_of(stage) is HostMode.CORDONED


@story(lambda: Setting(odds=Odds(lost_finish=1.0), is_locked=True))
async def test_f047_with_locks_the_stale_copy_on_the_source_is_powered_off(stage: Stage) -> None:
    await _open(stage, vms=1)
    final = await entered(stage)
    step = step_of(final, 1)
    assert final.state is SUCCEEDED
    assert Act.POWER_OFF_SOURCE in step.acts
    assert Act.UNDEFINE_SOURCE in step.acts
    assert hosts_running(stage, 1) == [step.where]
    assert stage.cluster.copy(H1, vm_id(1)) is None


# --- dying daemons and hosts ---------------------------------------------------------------------


@story(slow)
async def test_f036_the_source_daemon_dies_while_copying_and_the_vm_is_moved_later(
    stage: Stage,
) -> None:
    await _open(stage, vms=1)
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    stage.cluster.kill_daemon(H1)
    await stage.clock.sleep(20)
    blocked = await stage.store.operation(operation)
    assert (blocked.state, blocked.code) == (OperationState.BLOCKED, "host.silent")
    stage.cluster.start_daemon(H1)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is SUCCEEDED
    assert len(step_of(final, 1).attempts) == 2


@story(slow)
async def test_f037_the_source_daemon_dies_once_the_target_has_everything(stage: Stage) -> None:
    await _dies_in(stage, Phase.CONFIRM)


@story(slow)
async def test_f037_the_source_daemon_dies_before_the_target_has_everything(stage: Stage) -> None:
    await _dies_in(stage, Phase.FINISH)


async def _dies_in(stage: Stage, phase: Phase) -> None:
    """Whichever copy it is, it runs again, and leaves."""
    await _open(stage, vms=1)
    operation = await enter(stage)
    await until_phase(stage, phase)
    stage.cluster.kill_daemon(H1)
    await stage.clock.sleep(5)
    stage.cluster.start_daemon(H1)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is SUCCEEDED
    assert len(hosts_running(stage, 1)) == 1


@story(slow)
async def test_f038_the_target_daemon_dies_while_copying_and_the_next_target_is_taken(
    stage: Stage,
) -> None:
    await _open(stage, vms=1)
    operation = await enter(stage)
    ongoing = await until_phase(stage, Phase.PERFORM)
    stage.cluster.kill_daemon(ongoing.target)
    await stage.clock.sleep(120)
    stage.cluster.start_daemon(ongoing.target)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    step = step_of(final, 1)
    assert final.state is SUCCEEDED
    assert step.where != ongoing.target


@story(slow)
async def test_f043_the_target_host_dies_while_copying_and_the_vm_is_none_the_worse(
    stage: Stage,
) -> None:
    await _open(stage, vms=1)
    operation = await enter(stage)
    ongoing = await until_phase(stage, Phase.PERFORM)
    stage.cluster.crash(ongoing.target)
    await stage.clock.sleep(1)
    assert hosts_running(stage, 1) == [H1]
    stage.cluster.boot(ongoing.target)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is SUCCEEDED


@story(slow)
async def test_f041_the_source_host_dies_and_every_vm_is_accounted_for(stage: Stage) -> None:
    await _open(stage, vms=4)
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    stage.cluster.crash(H1)
    await stage.clock.sleep(60)
    assert (await stage.store.operation(operation)).code == "host.silent"
    stage.cluster.boot(H1)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert Outcome.PENDING not in outcomes(final)
    # Nobody was restarted by us.
    assert all(hosts_running(stage, number) == [] for number in (1, 2, 3, 4))


@story(slow)
async def test_f045_cut_off_from_the_source_nothing_is_decided_until_it_answers(
    stage: Stage,
) -> None:
    await _open(stage, vms=1)
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    stage.cluster.hosts[H1].is_reachable = False
    await stage.clock.sleep(600)
    waiting = await stage.store.operation(operation)
    assert waiting.state is OperationState.BLOCKED
    assert "h1" in (waiting.waiting_for or "")
    stage.cluster.hosts[H1].is_reachable = True
    final = await stage.until_final(operation)
    assert final.state is SUCCEEDED
    assert len(step_of(final, 1).attempts) == 1


# --- what the world does meanwhile ---------------------------------------------------------------


@story(slow)
async def test_f077_a_guest_that_shuts_itself_down_meanwhile_is_said_to_have_done_so(
    stage: Stage,
) -> None:
    await _open(stage, vms=1)
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    stage.cluster.stop(H1, vm_id(1), Why.SHUTDOWN)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert step_of(final, 1).outcome is Outcome.STOPPED_BY_GUEST
    assert await mode_of(stage) is HostMode.MAINTENANCE
    await exited(stage)
    assert hosts_running(stage, 1) == []


@story(slow)
async def test_f088_a_vm_that_somebody_moved_before_its_turn_is_left_where_it_is(
    stage: Stage,
) -> None:
    await _open(stage, vms=4)
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    stage.cluster.hosts[H3].copies[vm_id(4)] = stage.cluster.hosts[H1].copies.pop(vm_id(4))
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    step = step_of(final, 4)
    assert (step.state, step.outcome) == (StepState.SKIPPED, Outcome.CHANGED_BY_OTHERS)
    assert hosts_running(stage, 4) == [H3]
    assert len(step.evidence.looks) == 4


@story(slow)
async def test_f087_a_vm_that_somebody_deleted_is_missed_only_after_looking_everywhere(
    stage: Stage,
) -> None:
    await _open(stage, vms=4)
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    stage.cluster.remove(H1, vm_id(4))
    step = step_of(await stage.until_final(operation), 4)
    assert (step.state, step.outcome) == (StepState.SKIPPED, Outcome.MISSING)
    assert {look.host for look in step.evidence.looks} == {H1, H2, H3, host_name(4)}


@story(slow)
async def test_f089_somebody_elses_migration_is_waited_for(stage: Stage) -> None:
    await _open(stage, vms=3)
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    copy = stage.cluster.copy(H1, vm_id(3))
    assert copy is not None
    copy.job = copy.job.OTHER
    await stage.clock.sleep(120)
    waiting = await stage.store.operation(operation)
    assert waiting.code == "vm.busy"
    copy.job = copy.job.NONE
    final = await stage.until_final(operation)
    assert final.state is SUCCEEDED


@story(slow)
async def test_f090_a_migration_that_somebody_aborts_is_tried_again(stage: Stage) -> None:
    await _open(stage, vms=1)
    operation = await enter(stage)
    ongoing = await until_phase(stage, Phase.PERFORM)
    ongoing.abort()
    final = await stage.until_final(operation)
    step = step_of(final, 1)
    assert final.state is SUCCEEDED
    assert step.attempts[0].failure is not None
    assert step.attempts[0].failure.code == "hypervisor.aborted"


@story(slow)
async def test_f085_a_vm_that_slipped_in_before_the_guard_joins_the_operation(
    stage: Stage,
) -> None:
    await _open(stage, vms=1)
    operation = await enter(stage)
    stage.add_vm(1, 9)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is SUCCEEDED
    assert step_of(final, 9).outcome is Outcome.MOVED
    assert {entry.name for entry in final.roster} == {"vm1", "vm9"}
    await exited(stage)
    assert hosts_running(stage, 9) == [H1]


@story()
async def test_maintenance_waits_for_provisioning_and_says_what_for(stage: Stage) -> None:
    await _open(stage, vms=1)
    stage.cluster.hosts[H1].provisioning.append("volume: /srv/new.img")
    operation = await enter(stage)
    await stage.clock.sleep(300)
    waiting = await stage.store.operation(operation)
    assert waiting.code == "host.not_empty"
    assert "/srv/new.img" in (waiting.waiting_for or "")
    assert await mode_of(stage) is HostMode.ENTERING
    stage.cluster.hosts[H1].provisioning.clear()
    assert (await stage.until_final(operation)).state is SUCCEEDED
    assert await mode_of(stage) is HostMode.MAINTENANCE


@story(lambda: Setting(odds=Odds(refused=1.0)))
async def test_f065_a_vm_that_no_target_takes_is_tried_thrice_on_different_targets(
    stage: Stage,
) -> None:
    await _open(stage, vms=1)
    final = await entered(stage)
    step = step_of(final, 1)
    assert (final.state, final.code) == (FAILED, "target.refused")
    assert len({attempt.target for attempt in step.attempts}) == 3
    assert await mode_of(stage) is HostMode.CORDONED
    inventory = await stage.service.inventory()
    assert inventory.host(H1).guard is Guard.RAISED


@story(slow)
async def test_l5_one_vm_that_cannot_move_holds_up_no_other(stage: Stage) -> None:
    await _open(stage, vms=5)
    for host in (H2, H3, host_name(4)):
        # The same UUID is on every target behind our back: whoever is asked refuses.
        stage.cluster.hosts[host].memory_mib = 65_536
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    for host in (H2, H3, host_name(4)):
        stage.add_vm(1, 5)
        stage.cluster.put(host, stage.cluster.hosts[H1].copies[vm_id(5)].vm,
                          presence=Presence.SHUT_OFF, has_process=False)  # fmt: skip
    final = await stage.until_final(operation)
    assert final.state is FAILED
    assert outcomes(final) == {Outcome.MOVED: 4, Outcome.STAYED: 1}
    assert hosts_running(stage, 5) == [H1]


@story(lambda: Setting(hosts=3))
async def test_f093_a_target_that_is_cordoned_meanwhile_gets_nobody(stage: Stage) -> None:
    await _open(stage, vms=6)
    operation = await enter(stage)
    await stage.service.cordon(H2, ActionOptions(), REQUEST)
    final = await stage.until_final(operation)
    started_late = [
        step
        for step in final.steps
        if step.planned.vm and step.attempts and step.attempts[-1].target == H2
    ]
    assert final.state is SUCCEEDED
    assert len(started_late) < 3
    assert len(stage.cluster.hosts[H3].copies) > 3


# --- time and cancel -----------------------------------------------------------------------------


@story(lambda: Setting(link_mbit_s=100))
async def test_time_is_over_and_every_vm_is_accounted_for(stage: Stage) -> None:
    await _open(stage, vms=5)
    final = await entered(stage, timeout_s=3)
    assert (final.state, final.code) == (FAILED, "timed_out")
    assert outcomes(final) == {Outcome.STAYED: 5}
    assert [hosts_running(stage, n) for n in range(1, 6)] == [[H1]] * 5
    assert await mode_of(stage) is HostMode.CORDONED
    assert not stage.cluster.migrations


@story(slow)
async def test_f100_cancel_stop_aborts_what_is_in_flight(stage: Stage) -> None:
    await _open(stage, vms=5)
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    await stage.service.cancel(operation, CancelMode.STOP, "me")
    began = stage.clock.monotonic()
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is CANCELLED
    assert stage.clock.monotonic() - began < 90
    assert not stage.cluster.migrations
    assert {attempt.failure.code for step in final.steps for attempt in step.attempts
            if attempt.failure} == {"cancelled"}  # fmt: skip


@story(slow)
async def test_f100_cancel_finish_lets_it_arrive(stage: Stage) -> None:
    await _open(stage, vms=5)
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    flying = len(stage.cluster.migrations)
    await stage.service.cancel(operation, CancelMode.FINISH, "me")
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is CANCELLED
    assert outcomes(final) == {Outcome.MOVED: flying, Outcome.STAYED: 5 - flying}


@story(slow)
async def test_f061_a_vm_that_arrives_although_aborted_counts_as_moved(stage: Stage) -> None:
    await _open(stage, vms=1)
    operation = await enter(stage)
    await until_phase(stage, Phase.CONFIRM)
    await stage.service.cancel(operation, CancelMode.STOP, "me")
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert step_of(final, 1).outcome is Outcome.MOVED
    assert final.state is CANCELLED


@story(slow)
async def test_f101_cancelling_twice_is_cancelling_once_and_a_final_one_not_at_all(
    stage: Stage,
) -> None:
    await _open(stage)
    operation = await enter(stage)
    await stage.service.cancel(operation, CancelMode.FINISH, "me")
    await stage.service.cancel(operation, CancelMode.STOP, "me")
    assert (await stage.until_final(operation)).cancel is CancelMode.STOP
    with pytest.raises(Conflict, match="already"):
        await stage.service.cancel(operation, CancelMode.STOP, "me")


@story(slow)
async def test_a_cancelled_exit_leaves_a_guard_that_admits_nobody(stage: Stage) -> None:
    await _open(stage, vms=4)
    await entered(stage)
    asked = await stage.service.exit([H1], ExitOptions(), REQUEST)
    await until_phase(stage, Phase.PERFORM)
    await stage.service.cancel(asked.id, CancelMode.STOP, "me")
    final = await stage.until_final(asked.id)
    await stage.invariants.check_final(asked.id)
    marker = stage.cluster.hosts[H1].marker
    assert final.state is CANCELLED
    assert marker is not None
    assert marker.admit == ()
    # Nobody had come home yet, so it is empty, and seen to be.
    assert await mode_of(stage) is HostMode.MAINTENANCE


@story(slow)
async def test_a_cancelled_exit_with_vms_at_home_leaves_the_host_cordoned(stage: Stage) -> None:
    await _open(stage, vms=6)
    await entered(stage)
    asked = await stage.service.exit([H1], ExitOptions(), REQUEST)
    while not any(hosts_running(stage, number) == [H1] for number in range(1, 7)):
        await stage.clock.sleep(0.5)
    await stage.service.cancel(asked.id, CancelMode.FINISH, "me")
    await stage.until_final(asked.id)
    await stage.invariants.check_final(asked.id)
    assert await mode_of(stage) is HostMode.CORDONED


@story()
async def test_f105_exit_while_the_home_host_is_silent_is_refused_and_nothing_is_lost(
    stage: Stage,
) -> None:
    await _open(stage)
    await entered(stage)
    stage.cluster.hosts[H1].is_reachable = False
    with pytest.raises(Refused, match="does not answer"):
        await exited(stage)
    assert len(await stage.store.away()) == 3
    stage.cluster.hosts[H1].is_reachable = True
    assert (await exited(stage)).state is SUCCEEDED
