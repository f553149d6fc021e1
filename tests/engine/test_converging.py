"""Migrations that do not come to their end by themselves: what helps them, and what does not."""

from __future__ import annotations

import pytest

from furlough.core.journal import StepActed
from furlough.core.looks import Presence, Why
from furlough.core.operation import Act, Operation, Outcome
from furlough.core.plan import OperationKind
from furlough.core.policy import ActionOptions, CancelMode
from furlough.core.states import HostMode, OperationState
from furlough.errors import FurloughError
from furlough.scenario.stage import REQUEST, Setting, Stage, vm_id
from furlough.sim.migration import Phase
from tests.engine.stories import (
    CANCELLED,
    FAILED,
    H1,
    H2,
    SUCCEEDED,
    enter,
    entered,
    hosts_running,
    mode_of,
    outcomes,
    step_of,
    story,
    until_phase,
    words,
)

# A gigabit link carries 112 MiB/s: this guest writes faster, and slowing its CPUs does not help.
RESTLESS = {"dirty_mib_s": 150.0, "working_set_mib": 600, "defies_throttling": True}


def locked() -> Setting:
    """Storage whose locks are proven, which post-copy needs, and links of a gigabit."""
    return Setting(link_mbit_s=1000, is_locked=True)


async def open_with(stage: Stage, **policy: object) -> None:
    """One restless VM with this policy, and two quiet ones."""
    stage.add_vm(1, 1, own_policy=words(**policy), **RESTLESS)
    for number in (2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()


async def acts_of(stage: Stage, operation: Operation) -> list[Act]:
    """What was done in an operation, in the order of its journal."""
    journal = await stage.store.journal(operation.id)
    return [entry.event.act for entry in journal if isinstance(entry.event, StepActed)]


# --- the ladder ----------------------------------------------------------------------------------


@story(locked)
async def test_f059_a_vm_that_never_converges_stays_and_the_others_go(stage: Stage) -> None:
    """L5: it is no hostage. A person is told what would help."""
    await open_with(stage)
    final = await entered(stage)
    step = step_of(final, 1)
    assert (final.state, final.code) == (FAILED, "migration.not_converging")
    assert outcomes(final) == {Outcome.MOVED: 2, Outcome.STAYED: 1}
    assert hosts_running(stage, 1) == [H1]
    assert step.failure is not None
    assert "rewrites" in step.failure.message
    for choice in ("--post-copy", "--downtime-budget", "--on-maintenance"):
        assert choice in step.failure.remedy
    assert Act.ABORT in await acts_of(stage, final)
    assert len(step.attempts) == 1, "another attempt would end the same way"


@story(locked)
async def test_f059_a_guest_that_can_be_slowed_converges_and_that_is_told(stage: Stage) -> None:
    stage.add_vm(1, 1, **{**RESTLESS, "defies_throttling": False})
    await stage.start_controller()
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert any("slowed by up to" in note for note in step_of(final, 1).notes)
    assert await acts_of(stage, final) == []


@story(locked)
async def test_f059_a_pause_within_the_budget_is_allowed_before_anything_else(stage: Stage) -> None:
    """600 MiB at 112 MiB/s take 5.4 s."""
    await open_with(stage, downtime_budget_ms=9000, post_copy="if_needed")
    final = await entered(stage)
    step = step_of(final, 1)
    assert final.state is SUCCEEDED
    acts = await acts_of(stage, final)
    assert acts.count(Act.RAISE_DOWNTIME_LIMIT) >= 1
    assert Act.START_POST_COPY not in acts
    assert step.downtime_ms is not None
    assert 300 < step.downtime_ms <= 9000


@story(locked)
async def test_f059_post_copy_where_its_policy_allows_it(stage: Stage) -> None:
    await open_with(stage, post_copy="if_needed")
    final = await entered(stage)
    step = step_of(final, 1)
    assert final.state is SUCCEEDED
    assert Act.START_POST_COPY in await acts_of(stage, final)
    assert step.downtime_ms is not None
    assert step.downtime_ms <= 300
    assert step.sent_mib is not None
    assert step.sent_mib < 2048 + 3 * 600, "the rest was sent once, not round after round"
    assert await mode_of(stage) is HostMode.MAINTENANCE


@story(lambda: Setting(link_mbit_s=1000))
async def test_no_post_copy_without_proven_locks_and_a_person_is_told_so(stage: Stage) -> None:
    """A held handover cannot go over to post-copy."""
    await open_with(stage, post_copy="if_needed")
    final = await entered(stage)
    failure = step_of(final, 1).failure
    assert (final.state, final.code) == (FAILED, "migration.not_converging")
    assert Act.START_POST_COPY not in await acts_of(stage, final)
    assert failure is not None
    assert "prove the locks" in failure.remedy


@pytest.mark.parametrize("is_locked", [True, False])
def test_f059_a_vm_that_may_be_stopped_is_stopped_for_the_rest(is_locked: bool) -> None:
    @story(lambda: Setting(link_mbit_s=1000, is_locked=is_locked))
    async def tell(stage: Stage) -> None:
        await open_with(stage, on_maintenance="suspend")
        final = await entered(stage)
        assert final.state is SUCCEEDED
        assert Act.PAUSE_SOURCE in await acts_of(stage, final)
        (host,) = hosts_running(stage, 1)
        assert host != H1

    tell()


@story(locked)
async def test_a_vm_that_may_be_stopped_but_not_for_so_long_stays(stage: Stage) -> None:
    await open_with(stage, on_maintenance="suspend", downtime_budget_ms=500)
    final = await entered(stage)
    assert (final.state, final.code) == (FAILED, "migration.not_converging")
    assert Act.PAUSE_SOURCE not in await acts_of(stage, final)


# --- silent and slow links -----------------------------------------------------------------------


@story(locked)
async def test_f048_a_silent_data_link_is_given_up_and_the_vm_kept(stage: Stage) -> None:
    """Tried again later, when the link has come back."""
    stage.add_vm(1, 1, memory_mib=16384)
    await stage.start_controller()
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    await stage.clock.sleep(5)
    stage.cluster.slow_down(H1, factor=0.0)
    await stage.clock.sleep(45)
    step = step_of(await stage.store.operation(operation), 1)
    assert step.attempts[0].failure is not None
    assert step.attempts[0].failure.code == "migration.stalled"
    assert hosts_running(stage, 1) == [H1]
    stage.cluster.slow_down(H1, factor=1.0)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 1})


@story(locked)
async def test_a_link_that_falls_silent_in_post_copy_is_told_until_it_speaks_again(
    stage: Stage,
) -> None:
    """Nothing can be given up any more: neither side has all of it."""
    await open_with(stage, post_copy="if_needed")
    which = await enter(stage)
    await until_phase(stage, Phase.POST_COPY)
    stage.cluster.slow_down(H1, factor=0.0)
    await stage.clock.sleep(45)
    told = await stage.store.operation(which)
    assert told.code == "migration.postcopy_silent"
    assert "vm1" in (told.waiting_for or "")
    stage.cluster.slow_down(H1, factor=1.0)
    final = await stage.until_final(which)
    assert final.state is SUCCEEDED
    assert Act.ABORT not in step_of(final, 1).acts
    await stage.invariants.check_final(which)


@story(locked)
async def test_f049_a_link_at_a_hundredth_is_slow_and_not_silent(stage: Stage) -> None:
    stage.add_vm(1, 1)
    stage.cluster.slow_down(H1, factor=0.01)
    await stage.start_controller()
    final = await entered(stage)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 1})
    assert await acts_of(stage, final) == []
    assert step_of(final, 1).duration_s is not None
    assert (step_of(final, 1).duration_s or 0) > 1000


# --- post-copy, and what breaks in it ------------------------------------------------------------


async def in_post_copy(stage: Stage) -> Operation:
    """An operation whose VM has gone over to post-copy, over a link that has become slow."""
    stage.add_vm(1, 1, own_policy=words(post_copy="if_needed"), **RESTLESS)
    await stage.start_controller()
    operation = await enter(stage)
    await until_phase(stage, Phase.POST_COPY)
    await stage.clock.sleep(0.5)
    return await stage.store.operation(operation)


@story(locked)
async def test_f060_a_post_copy_whose_link_broke_goes_on_when_it_is_back(stage: Stage) -> None:
    operation = await in_post_copy(stage)
    stage.cluster.break_link(H1)
    await stage.clock.sleep(60)
    waiting = await stage.store.operation(operation.id)
    assert waiting.code == "migration.postcopy_failed"
    assert waiting.state is OperationState.BLOCKED
    for host in (H1, H2):  # S13: neither may lose its power, nor is it offered.
        with pytest.raises(FurloughError):
            await stage.service.change_host_power(
                OperationKind.POWER_OFF_HOST, host, ActionOptions(), REQUEST
            )
    stage.cluster.slow_down(H1, factor=1.0)
    final = await stage.until_final(operation.id)
    await stage.invariants.check_final(final.id)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 1})
    assert Act.RECOVER_POST_COPY in await acts_of(stage, final)


@story(locked)
async def test_f100_a_cancel_in_post_copy_follows_it_to_its_end(stage: Stage) -> None:
    operation = await in_post_copy(stage)
    await stage.service.cancel(operation.id, CancelMode.STOP, REQUEST.by)
    final = await stage.until_final(operation.id)
    await stage.invariants.check_final(final.id)
    assert final.state is CANCELLED
    assert outcomes(final) == {Outcome.MOVED: 1}
    assert hosts_running(stage, 1) != [H1]


@story(locked)
async def test_f042_a_source_that_crashes_in_post_copy_takes_the_vm_with_it(stage: Stage) -> None:
    """Neither side has all of it. Nothing is destroyed before a person has looked."""
    operation = await in_post_copy(stage)
    stage.cluster.crash(H1)
    stage.cluster.boot(H1)
    await stage.clock.sleep(120)
    waiting = await stage.store.operation(operation.id)
    assert waiting.code == "migration.postcopy_failed"
    assert "has lost its part" in (waiting.waiting_for or "")
    (step,) = [one for one in waiting.steps if one.planned.vm == vm_id(1)]
    copy = stage.cluster.copy(step.target or H2, vm_id(1))
    assert copy is not None
    assert (copy.presence, copy.why) == (Presence.RUNNING, Why.POSTCOPY_FAILED)


@story(locked)
async def test_f005_a_post_copy_goes_on_when_we_die_and_is_followed(stage: Stage) -> None:
    operation = await in_post_copy(stage)
    await stage.kill_controller()
    await stage.start_controller()
    final = await stage.until_final(operation.id)
    await stage.invariants.check_final(final.id)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 1})
    assert len(step_of(final, 1).attempts) == 1


@pytest.mark.parametrize("moment", ["before start_post_copy", "after start_post_copy"])
def test_f004_a_rung_that_was_written_is_made_once_wherever_we_die(moment: str) -> None:
    """The next process makes it, where the dead one has only announced it."""
    found: list[int] = []

    @story(locked)
    async def see(stage: Stage) -> None:
        stage.add_vm(1, 1, own_policy=words(post_copy="if_needed"), **RESTLESS)
        await stage.start_controller()
        assert (await entered(stage)).state is SUCCEEDED
        found.append(1 + stage.process.trace.index(moment))

    @story(locked)
    async def die(stage: Stage) -> None:
        stage.add_vm(1, 1, own_policy=words(post_copy="if_needed"), **RESTLESS)
        await stage.start_controller(kill_at=found[0])
        final = await entered(stage)
        assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 1})
        assert (await acts_of(stage, final)).count(Act.START_POST_COPY) == 1
        assert len(step_of(final, 1).attempts) == 1

    see()
    die()
