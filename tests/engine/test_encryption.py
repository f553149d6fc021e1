"""Memory on the wire: where encryption is required, nothing moves in clear, whatever the plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.encryption import MigrationTls, TlsMeans
from furlough.core.policy import ClusterPolicy, EnterOptions
from furlough.errors import Refused
from furlough.scenario.stage import Setting, Stage
from furlough.sim.migration import Phase
from tests.engine.stories import (
    H1,
    H2,
    H3,
    SUCCEEDED,
    enter,
    entered,
    hosts_running,
    slow,
    step_of,
    story,
    until_phase,
)

UNABLE = TlsMeans(trouble="it has no certificates")


def three() -> Setting:
    return Setting(hosts=3)


def strict() -> Setting:
    """Three hosts that have to encrypt; migrations that last long enough to be disturbed."""
    policy = ClusterPolicy(migration_tls=MigrationTls.REQUIRED)
    return replace(slow(), hosts=3, policy=policy)


@story(three)
async def test_memory_goes_encrypted_and_the_intent_says_so_beforehand(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await entered(stage)
    assert operation.state is SUCCEEDED
    step = step_of(operation, 1)
    assert step.attempts[-1].is_encrypted
    assert step.notes == ()


@story(three)
async def test_what_had_to_pass_in_clear_is_on_record(stage: Stage) -> None:
    stage.add_vm(1, 1)
    stage.cluster.hosts[H1].tls = UNABLE
    await stage.start_controller()
    operation = await entered(stage)
    assert operation.state is SUCCEEDED
    step = step_of(operation, 1)
    assert not step.attempts[-1].is_encrypted
    assert step.notes == ("Its memory passed in clear: h1: it has no certificates.",)


@story(strict)
async def test_a_target_that_cannot_is_passed_over_where_encryption_is_required(
    stage: Stage,
) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    stage.cluster.hosts[H2].tls = UNABLE
    await stage.start_controller()
    operation = await entered(stage)
    assert operation.state is SUCCEEDED
    assert [hosts_running(stage, number) for number in (1, 2, 3)] == [[H3]] * 3
    steps = [step_of(operation, number) for number in (1, 2, 3)]
    assert all(step.attempts[-1].is_encrypted for step in steps)
    assert {len(step.attempts) for step in steps} == {1}, "planned so, and not found out by trying"


@story(strict)
async def test_nothing_begins_where_no_target_can(stage: Stage) -> None:
    stage.add_vm(1, 1)
    stage.cluster.hosts[H1].tls = UNABLE
    await stage.start_controller()
    with pytest.raises(Refused, match="may not pass in clear"):
        await enter(stage)
    (report,) = await stage.service.check([H1], EnterOptions())
    assert "network.tls_missing" in [one.code for one in report.findings]
    assert hosts_running(stage, 1) == [H1]
    assert stage.cluster.hosts[H1].marker is None


@story(strict)
async def test_certificates_that_vanish_after_the_plan_stop_what_has_not_begun(
    stage: Stage,
) -> None:
    """One is on its way; the others were planned as it was, and are not sent in clear."""
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    identity = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    stage.cluster.hosts[H1].tls = UNABLE
    operation = await stage.until_final(identity)
    await stage.invariants.check_final(identity)
    began = [step for step in operation.steps if step.attempts and step.planned.vm is not None]
    sent = [one for step in began for one in step.attempts if one.epoch]
    assert all(one.is_encrypted for one in sent)
    assert [number for number in (1, 2, 3) if hosts_running(stage, number) == [H1]] == [2, 3]
    for left in (2, 3):
        failure = step_of(operation, left).failure
        assert failure is not None
        assert "may not pass to" in failure.message
