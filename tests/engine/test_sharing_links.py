"""Who has the links: one VM copies, the next one is ready when its turn comes."""

from __future__ import annotations

from furlough.core.operation import Outcome
from furlough.core.policy import ClusterPolicy, Limits
from furlough.scenario.stage import Setting, Stage, vm_id
from furlough.sim.migration import Phase, SimMigration
from tests.engine.stories import (
    SUCCEEDED,
    enter,
    entered,
    outcomes,
    slow,
    step_of,
    story,
    until_phase,
)

GIGABIT_MIB_S = 112.0


def flying(stage: Stage) -> list[SimMigration]:
    """The migrations that copy memory now, in the order in which they began."""
    return [
        one
        for one in stage.cluster.migrations.values()
        if isinstance(one, SimMigration) and one.phase is Phase.PERFORM
    ]


def rates(stage: Stage) -> list[float]:
    """What each of them moves, in MiB/s."""
    return [one.progress.rate_mib_s for one in flying(stage) if one.progress is not None]


@story(slow)
async def test_the_first_has_the_link_and_the_next_one_is_ready_behind_it(stage: Stage) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM, 1)
    await stage.clock.sleep(10)
    assert len(stage.cluster.migrations) == 1, "its turn is not near yet"
    await until_phase(stage, Phase.PERFORM, 2)
    leader, shadow = rates(stage)
    assert leader > 0.98 * GIGABIT_MIB_S
    assert shadow == 1.0
    await until_phase(stage, Phase.CONFIRM, 1)
    await stage.clock.sleep(0.2)
    assert rates(stage)[0] > 0.98 * GIGABIT_MIB_S
    final = await stage.until_final(operation)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 3})
    ends = [step_of(final, number).ended_at for number in (1, 2, 3)]
    assert ends == sorted(ends, key=str), "one after another, not all at the end"


@story(slow)
async def test_guests_that_write_send_little_twice_since_each_has_the_whole_link(
    stage: Stage,
) -> None:
    for number in (1, 2, 3, 4):
        stage.add_vm(1, number, dirty_mib_s=30.0, working_set_mib=200)
    await stage.start_controller()
    final = await entered(stage)
    sent = sum(step.sent_mib or 0 for step in final.steps)
    assert sent < 1.2 * 4 * 2048


@story(slow)
async def test_a_vm_that_a_dead_controller_left_at_a_trickle_does_not_stay_there(
    stage: Stage,
) -> None:
    """Its leader is over by the time the next controller lives."""
    for number in (1, 2):
        stage.add_vm(1, number)
    await stage.start_controller()
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM, 2)
    await stage.kill_controller()
    while vm_id(1) in stage.cluster.migrations:
        await stage.clock.sleep(1)
    assert rates(stage) == [1.0]
    await stage.start_controller()
    await stage.clock.sleep(2)
    assert rates(stage)[0] > 0.98 * GIGABIT_MIB_S
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 2})


def generous() -> Setting:
    """Limits that would let everybody go at once."""
    limits = Limits(per_source=8, per_target=8, per_cluster=32)
    return Setting(link_mbit_s=1000, policy=ClusterPolicy(limits=limits))


@story(generous)
async def test_no_more_are_in_flight_than_the_links_have_a_use_for(stage: Stage) -> None:
    for number in range(1, 7):
        stage.add_vm(1, number)
    await stage.start_controller()
    final = await entered(stage)
    assert outcomes(final) == {Outcome.MOVED: 6}
    # One that copies, one that is set up meanwhile, one whose source's end is awaited.
    assert stage.invariants.peak <= 3


@story(lambda: Setting(link_mbit_s=25_000, policy=generous().policy))
async def test_a_wide_link_is_filled_by_several_streams(stage: Stage) -> None:
    for number in range(1, 7):
        stage.add_vm(1, number, memory_mib=6144)
    await stage.start_controller()
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM, 3)
    await stage.clock.sleep(1)
    assert sum(rates(stage)) > 0.95 * 25 * GIGABIT_MIB_S
    await stage.until_final(operation)


@story(lambda: Setting(link_mbit_s=25_000))
async def test_a_large_vm_goes_over_several_connections_where_both_hosts_can(
    stage: Stage,
) -> None:
    for machine in stage.cluster.hosts.values():
        machine.emulator_version = 7_002_000
    stage.add_vm(1, 1, memory_mib=32768)
    await stage.start_controller()
    final = await entered(stage)
    assert step_of(final, 1).attempts[0].connections == 3
    assert (step_of(final, 1).duration_s or 0) < 32768 / (25 * GIGABIT_MIB_S) * 1.1
