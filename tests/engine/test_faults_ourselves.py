"""What becomes of operations when we die, freeze or have a bug, and when there are several."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from furlough.core.policy import ClusterPolicy, Limits
from furlough.core.states import OperationState
from furlough.errors import Refused, Unreachable
from furlough.scenario.stage import Setting, Stage, vm_id
from furlough.sim.faults import Odds
from furlough.sim.migration import Phase, SimMigration
from tests.engine.stories import (
    H1,
    H2,
    H3,
    SUCCEEDED,
    enter,
    entered,
    hosts_running,
    story,
)

# Large VMs on a slow link: migrations that last long enough to be disturbed.
SLOW = Setting(link_mbit_s=1000)


def slow() -> Setting:
    return SLOW


async def _open(stage: Stage, vms: int = 3, **traits: object) -> None:
    for number in range(1, vms + 1):
        stage.add_vm(1, number, **traits)
    await stage.start_controller()


async def _until_phase(stage: Stage, phase: Phase, number: int = 1) -> SimMigration:
    """The migration of the n-th VM, once it is in this phase."""
    while True:
        ongoing = stage.cluster.migrations.get(vm_id(number))
        if isinstance(ongoing, SimMigration) and ongoing.phase is phase:
            return ongoing
        await stage.clock.sleep(0.01)


# --- ourselves -----------------------------------------------------------------------------------


@story(slow)
async def test_f005_a_dead_controller_costs_the_migration_nothing(stage: Stage) -> None:
    await _open(stage, vms=3)
    operation = await enter(stage)
    await _until_phase(stage, Phase.PERFORM)
    await stage.kill_controller()
    await stage.clock.sleep(10)
    await stage.start_controller()
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is SUCCEEDED
    assert {len(step.attempts) for step in final.steps if step.planned.vm} == {1}


@story()
async def test_f007_a_vm_left_waiting_on_its_target_is_started_first_of_all(stage: Stage) -> None:
    await _open(stage, vms=1)
    operation = await enter(stage)
    await _until_phase(stage, Phase.CONFIRM)
    await stage.kill_controller()
    await stage.clock.sleep(60)
    assert hosts_running(stage, 1) == []
    await stage.start_controller()
    await stage.clock.sleep(1)
    assert len(hosts_running(stage, 1)) == 1
    assert (await stage.until_final(operation)).state is SUCCEEDED


@story()
async def test_f014_a_stop_in_good_order_is_no_crash(stage: Stage) -> None:
    await _open(stage)
    operation = await enter(stage)
    await stage.clock.sleep(1)
    for _ in range(5):
        await stage.stop_controller()
        await stage.start_controller()
        await stage.clock.sleep(0.1)
    assert (await stage.store.operation(operation)).crashes == 0
    assert (await stage.until_final(operation)).state is SUCCEEDED


@story(lambda: Setting(link_mbit_s=100))
async def test_f017_an_operation_in_which_we_keep_dying_waits_for_a_person(stage: Stage) -> None:
    await _open(stage, vms=1)
    operation = await enter(stage)
    await stage.clock.sleep(5)
    for _ in range(3):
        await stage.kill_controller()
        await stage.start_controller()
        await stage.clock.sleep(0.5)
    parked = await stage.store.operation(operation)
    assert (parked.state, parked.code) == (OperationState.BLOCKED, "crash_loop")
    await stage.service.resume(operation, "me")
    assert (await stage.until_final(operation)).state is SUCCEEDED


@story(lambda: Setting(policy=ClusterPolicy(max_hosts_away=2)))
async def test_f016_a_bug_in_one_operation_blocks_that_one_alone(stage: Stage) -> None:
    for number in (1, 2):
        stage.add_vm(number, number)
    await stage.start_controller()
    breaking = stage.cluster.hosts[H1]
    broken = await enter(stage, H1)
    breaking.provisioning = None  # type: ignore[assignment]  # what our code does not expect
    sound = await enter(stage, H2)
    assert (await stage.until_final(sound)).state is SUCCEEDED
    parked = await stage.until_still(broken)
    assert (parked.state, parked.code) == (OperationState.BLOCKED, "bug")
    breaking.provisioning = []
    await stage.service.resume(broken, "me")
    assert (await stage.until_final(broken)).state is SUCCEEDED


@story(slow)
async def test_f012_a_frozen_controller_that_wakes_up_writes_nothing(stage: Stage) -> None:
    await _open(stage, vms=4)
    operation = await enter(stage)
    await _until_phase(stage, Phase.PERFORM)
    before = await stage.store.operation(operation)
    # Another process takes over while ours sleeps past its lease.
    await stage.store.void_leases()
    claimed = await stage.store.claim("somebody-else", 3600)
    assert [one.id for one in claimed] == [operation]
    await stage.clock.sleep(60)
    after = await stage.store.operation(operation)
    assert after.epoch > before.epoch
    assert after.owner == "somebody-else"
    assert after.events == before.events + 1


@story(lambda: Setting(policy=ClusterPolicy(max_hosts_away=4, limits=Limits(per_target=1))))
async def test_f104_two_operations_share_the_slots_of_a_target(stage: Stage) -> None:
    for number in range(1, 9):
        stage.add_vm(1 if number <= 4 else 2, number)
    await stage.start_controller()
    first = await enter(stage, H1, target_hosts=(H3,))
    second = await enter(stage, H2, target_hosts=(H3,))
    for operation in (first, second):
        assert (await stage.until_final(operation)).state is SUCCEEDED
        await stage.invariants.check_final(operation)
    assert len(stage.cluster.hosts[H3].copies) == 8


@story(lambda: Setting(policy=ClusterPolicy(max_hosts_away=2), hosts=2))
async def test_f094_two_hosts_never_evacuate_to_each_other(stage: Stage) -> None:
    for number in (1, 2):
        stage.add_vm(number, number)
    await stage.start_controller()
    first = await enter(stage, H1)
    with pytest.raises(Refused):
        await enter(stage, H2)
    assert (await stage.until_final(first)).state is SUCCEEDED


def test_the_same_seed_gives_the_same_run() -> None:
    runs: list[list[str]] = []

    def told() -> Callable[[], None]:
        @story(lambda: Setting(seed=7, odds=Odds(lost_reply=0.3, refused=0.2)))
        async def tell(stage: Stage) -> None:
            await _open(stage, vms=5)
            final = await entered(stage)
            runs.append(
                [
                    f"{e.at} {e.event}"
                    for e in await stage.store.journal(final.id)
                    if e.event.kind != "operation_claimed"
                ]
            )

        return tell

    told()()
    told()()
    assert runs[0] == runs[1]
    assert Random(7).random() == Random(7).random()


@story(lambda: Setting(hosts=3, is_shaken=True, is_shared=True))
async def test_f018_an_operation_whose_claim_was_committed_without_an_answer_is_driven(
    stage: Stage,
) -> None:
    """Its lease is kept alive by the very process that does not know of it."""
    stage.add_vm(1, 1)
    await stage.start_controller()
    await stage.clock.sleep(1)
    stage.faults.odds = Odds(lost_commit=1.0)
    with pytest.raises(Unreachable):
        await enter(stage)
    asked = (await stage.store.operations())[0].id
    while (await stage.store.operation(asked)).owner is None:
        await stage.clock.sleep(1)
    stage.faults.end()
    final = await stage.until_final(asked, limit_s=120)
    assert final.state is SUCCEEDED
    assert final.crashes == 0
