"""Steps that have to wait, that fail again and again, or that a bug stops: what is told, and who
goes on meanwhile. And VMs that are not as they were when they were planned."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from furlough.core.enrolment import Enrolment
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Proof
from furlough.core.looks import Job, Presence, Why
from furlough.core.operation import Act, Outcome
from furlough.core.plan import Handover
from furlough.core.policy import ActionOptions, CancelMode, ClusterPolicy, Limits
from furlough.core.states import HostMode, OperationState, Power, StepState
from furlough.scenario.stage import REQUEST, Setting, Stage, vm_id
from furlough.sim.cluster import Copy
from furlough.sim.migration import Phase, SimMigration
from tests.engine.stories import (
    CANCELLED,
    H1,
    SUCCEEDED,
    enter,
    hosts_running,
    mode_of,
    step_of,
    story,
)

# A story that waits longer than this for something waits in vain.
LONG_S = 3600.0
ONE_AT_A_TIME = ClusterPolicy(limits=Limits(per_source=1))


def one_by_one() -> Setting:
    return Setting(link_mbit_s=1000, policy=ONE_AT_A_TIME)


def one_by_one_with_locks() -> Setting:
    return replace(one_by_one(), is_locked=True)


async def _flying(stage: Stage, number: int = 1) -> SimMigration:
    """The migration of the n-th VM, once memory is being copied."""
    async with asyncio.timeout(LONG_S):
        while True:
            ongoing = stage.cluster.migrations.get(vm_id(number))
            if isinstance(ongoing, SimMigration) and ongoing.phase is Phase.PERFORM:
                return ongoing
            await stage.clock.sleep(0.01)


async def _until_code(stage: Stage, operation: OperationId, code: str) -> None:
    async with asyncio.timeout(LONG_S):
        while (await stage.store.operation(operation)).code != code:
            await stage.clock.sleep(0.5)


async def _until_over(stage: Stage, operation: OperationId, number: int) -> None:
    async with asyncio.timeout(LONG_S):
        while not step_of(await stage.store.operation(operation), number).is_final:
            await stage.clock.sleep(0.5)


def _here(stage: Stage, number: int) -> Copy:
    copy = stage.cluster.copy(H1, vm_id(number))
    assert copy is not None
    return copy


# --- not as it was planned -----------------------------------------------------------------------


@story(one_by_one)
async def test_a_vm_that_its_owner_resumed_before_its_turn_runs_after_a_held_handover(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1, memory_mib=4096)
    stage.add_vm(1, 2, presence=Presence.PAUSED, why=Why.USER)
    await stage.start_controller()
    operation = await enter(stage)
    await _flying(stage, 1)
    stage.cluster.set_presence(_here(stage, 2), Presence.RUNNING, Why.USER)
    final = await stage.until_final(operation)
    step = step_of(final, 2)
    assert final.state is SUCCEEDED
    assert step.planned.before.power is Power.PAUSED
    assert step.attempts[-1].handover is Handover.HELD
    assert Act.RESUME_TARGET in step.acts
    assert hosts_running(stage, 2) == [step.where]


@story(one_by_one)
async def test_a_vm_that_its_owner_paused_since_the_plan_stays_paused(stage: Stage) -> None:
    stage.add_vm(1, 1, memory_mib=4096)
    stage.add_vm(1, 2)
    await stage.start_controller()
    operation = await enter(stage)
    await _flying(stage, 1)
    stage.cluster.set_presence(_here(stage, 2), Presence.PAUSED, Why.USER)
    final = await stage.until_final(operation)
    step = step_of(final, 2)
    assert final.state is SUCCEEDED
    assert step.planned.before.power is Power.RUNNING
    assert step.attempts[-1].was_paused
    assert Act.RESUME_TARGET not in step.acts
    assert step.where is not None
    copy = stage.cluster.copy(step.where, vm_id(2))
    assert copy is not None
    assert copy.presence is Presence.PAUSED


@story(one_by_one_with_locks)
async def test_a_vm_whose_lock_is_proven_no_more_goes_by_held_handover(stage: Stage) -> None:
    stage.add_vm(1, 1, memory_mib=4096)
    stage.add_vm(1, 2)
    await stage.start_controller()
    operation = await enter(stage)
    await _flying(stage, 1)
    (datastore,) = (await stage.store.enrolment()).datastores
    await stage.store.enrol(Enrolment(datastores=[replace(datastore, locked=Proof.UNKNOWN)]))
    stage.cluster.locked_datastores.clear()
    final = await stage.until_final(operation)
    first, second = step_of(final, 1), step_of(final, 2)
    assert final.state is SUCCEEDED
    assert first.attempts[-1].handover is Handover.NORMAL
    assert second.planned.handover is Handover.NORMAL
    assert second.attempts[-1].handover is Handover.HELD
    assert Act.RESUME_TARGET in second.acts


@story(lambda: Setting(is_locked=True, link_mbit_s=1000))
async def test_a_vm_that_its_guest_shut_down_just_after_it_had_moved_is_not_missed(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await enter(stage)
    target = (await _flying(stage)).target
    await stage.kill_controller()
    while stage.cluster.migrations:
        await stage.clock.sleep(1)
    stage.cluster.stop(target, vm_id(1), Why.SHUTDOWN)
    await stage.start_controller()
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    step = step_of(final, 1)
    assert (step.outcome, step.where) == (Outcome.STOPPED_BY_GUEST, target)
    assert final.state is SUCCEEDED


# --- waiting -------------------------------------------------------------------------------------


@story(one_by_one)
async def test_a_vm_that_waits_for_somebody_elses_job_takes_no_slot(stage: Stage) -> None:
    stage.add_vm(1, 1, memory_mib=4096)
    stage.add_vm(1, 2)
    stage.add_vm(1, 3)
    await stage.start_controller()
    operation = await enter(stage)
    _here(stage, 1).job = Job.OTHER
    await _until_over(stage, operation, 3)
    waiting = await stage.store.operation(operation)
    assert waiting.code == "vm.busy"
    assert step_of(waiting, 1).state is StepState.PENDING
    assert {step_of(waiting, number).outcome for number in (2, 3)} == {Outcome.MOVED}
    _here(stage, 1).job = Job.NONE
    assert (await stage.until_final(operation)).state is SUCCEEDED
    assert stage.invariants.peak == 1


def _stuck(stage: Stage, number: int, *, is_stuck: bool = True) -> None:
    """The programs on all hosts refuse to act on the n-th VM: they know a newer epoch."""
    for machine in stage.cluster.hosts.values():
        if is_stuck:
            machine.acts[vm_id(number)] = 10**9
        else:
            machine.acts.pop(vm_id(number), None)


@story()
async def test_an_act_of_settling_that_keeps_failing_is_told(stage: Stage) -> None:
    stage.add_vm(1, 1)
    _stuck(stage, 1)
    await stage.start_controller()
    operation = await enter(stage)
    await _until_code(stage, operation, "migration.act_failed")
    waiting = await stage.store.operation(operation)
    assert waiting.state is OperationState.BLOCKED
    assert "resume target fails: epoch" in (waiting.waiting_for or "")
    assert hosts_running(stage, 1) == []
    _stuck(stage, 1, is_stuck=False)
    final = await stage.until_final(operation)
    assert final.state is SUCCEEDED
    assert len(hosts_running(stage, 1)) == 1


@story()
async def test_of_two_waits_the_worse_is_told_and_the_other_one_when_it_is_over(
    stage: Stage,
) -> None:
    for number in (1, 2):
        stage.add_vm(1, number)
    _stuck(stage, 1)
    await stage.start_controller()
    operation = await enter(stage)
    _here(stage, 2).job = Job.OTHER
    await _until_code(stage, operation, "vm.busy")
    await _until_code(stage, operation, "migration.act_failed")
    _stuck(stage, 1, is_stuck=False)
    await _until_over(stage, operation, 1)
    await stage.clock.sleep(1)
    waiting = await stage.store.operation(operation)
    assert (waiting.state, waiting.code) == (OperationState.BLOCKED, "vm.busy")
    _here(stage, 2).job = Job.NONE
    assert (await stage.until_final(operation)).state is SUCCEEDED


@story()
async def test_the_worse_of_two_waits_remains_when_the_other_one_ends(stage: Stage) -> None:
    for number in (1, 2):
        stage.add_vm(1, number)
    _stuck(stage, 1)
    await stage.start_controller()
    operation = await enter(stage)
    _here(stage, 2).job = Job.OTHER
    await _until_code(stage, operation, "migration.act_failed")
    _here(stage, 2).job = Job.NONE
    await _until_over(stage, operation, 2)
    waiting = await stage.store.operation(operation)
    assert (waiting.state, waiting.code) == (OperationState.BLOCKED, "migration.act_failed")
    _stuck(stage, 1, is_stuck=False)
    assert (await stage.until_final(operation)).state is SUCCEEDED


# --- bugs ----------------------------------------------------------------------------------------


class _Hole:
    """A bug that shows with one VM: the call that begins its migration breaks."""

    def __init__(self, stage: Stage, number: int) -> None:
        self._cluster, self._whole = stage.cluster, stage.cluster.copy
        self._vm = vm_id(number)
        stage.cluster.copy = self._copy  # type: ignore[method-assign]

    def _copy(self, host: HostName, vm: VmId) -> Copy | None:
        if vm == self._vm:
            raise LookupError("what nobody expected")
        return self._whole(host, vm)

    def mend(self) -> None:
        self._cluster.copy = self._whole  # type: ignore[method-assign]


@story()
async def test_f016_a_bug_in_one_step_stops_no_other_step_of_its_operation(stage: Stage) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    hole = _Hole(stage, 2)
    await stage.start_controller()
    operation = await enter(stage)
    for number in (1, 3):
        await _until_over(stage, operation, number)
    told = await stage.store.operation(operation)
    assert (told.state, told.code) == (OperationState.BLOCKED, "bug")
    assert "LookupError: what nobody expected" in (told.waiting_for or "")
    assert {step_of(told, number).outcome for number in (1, 3)} == {Outcome.MOVED}
    assert step_of(told, 2).state is StepState.STARTED
    # Nothing is tried again before a person says so.
    await stage.clock.sleep(600)
    assert step_of(await stage.store.operation(operation), 2).state is StepState.STARTED
    hole.mend()
    await stage.service.resume(operation, "me")
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is SUCCEEDED
    assert len(hosts_running(stage, 2)) == 1


@story()
async def test_f016_an_operation_with_a_bug_in_one_step_can_be_cancelled(stage: Stage) -> None:
    stage.add_vm(1, 1)
    _Hole(stage, 1)
    await stage.start_controller()
    operation = await enter(stage)
    await _until_code(stage, operation, "bug")
    await stage.service.cancel(operation, CancelMode.STOP, "me")
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is CANCELLED
    assert hosts_running(stage, 1) == [H1]


@story()
async def test_f016_a_bug_is_tried_again_by_the_next_process(stage: Stage) -> None:
    stage.add_vm(1, 1)
    hole = _Hole(stage, 1)
    await stage.start_controller()
    operation = await enter(stage)
    await _until_code(stage, operation, "bug")
    await stage.stop_controller()
    hole.mend()
    await stage.start_controller()
    assert (await stage.until_final(operation)).state is SUCCEEDED


# --- hosts without furlough-host -----------------------------------------------------------------


@story()
async def test_a_host_without_furlough_host_is_cordoned_and_uncordoned(stage: Stage) -> None:
    stage.cluster.hosts[H1].has_guard = False
    await stage.start_controller()
    await stage.clock.sleep(10)
    asked = await stage.service.cordon(H1, ActionOptions(), REQUEST)
    assert (await stage.until_final(asked.id)).state is SUCCEEDED
    asked = await stage.service.uncordon(H1, ActionOptions(), REQUEST)
    final = await stage.until_final(asked.id)
    assert (final.state, final.steps) == (SUCCEEDED, ())
    assert await mode_of(stage) is HostMode.AVAILABLE
