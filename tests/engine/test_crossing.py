"""VMs that move to another cluster, since their own has no place for them, and come home again."""

from __future__ import annotations

import pytest

from furlough.core.operation import Outcome
from furlough.core.plan import Method
from furlough.core.policy import ActionOptions, ClusterPolicy, Limits, OnFailure
from furlough.core.states import HostMode
from furlough.errors import Refused
from furlough.scenario.stage import OTHER, REQUEST, Setting, Stage, vm_id
from furlough.sim.migration import Phase
from tests.engine.stories import (
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
    step_of,
    story,
    until_phase,
    words,
)
from tests.engine.test_on_failure import H4, bar, options

LETS_GO = ClusterPolicy(overflow_clusters=(OTHER,))


def tight() -> Setting:
    """h1 and h2 are a cluster whose hosts hold 7 GiB each; h3 and h4 are another one."""
    return Setting(far=2, memory_mib=8192, policy=LETS_GO)


def alone() -> Setting:
    """h1 is a cluster of its own; h2 and h3 take its VMs, which are on their way for seconds."""
    return Setting(hosts=3, far=2, link_mbit_s=1000, policy=LETS_GO)


def filled(stage: Stage) -> None:
    """h2 has room for one of the two VMs of h1."""
    for number, host in ((1, 1), (2, 1), (3, 2)):
        stage.add_vm(host, number, memory_mib=3072)


def where(stage: Stage) -> dict[int, list[str]]:
    """Where each VM runs."""
    found = (int(vm[-12:]) for host in stage.cluster.hosts.values() for vm in host.copies)
    return {number: [*hosts_running(stage, number)] for number in found}


@story(tight)
async def test_one_stays_in_the_cluster_one_crosses_and_both_come_home(stage: Stage) -> None:
    filled(stage)
    await stage.start_controller()
    assert (await entered(stage)).state is SUCCEEDED
    assert await mode_of(stage) is HostMode.MAINTENANCE
    near, far = sorted(where(stage)[number][0] for number in (1, 2))
    assert (near, far in (H3, H4)) == (H2, True)
    assert sorted(one.left_on for one in await stage.service.away()) == [near, far]
    assert (await exited(stage)).state is SUCCEEDED
    assert where(stage) == {1: [H1], 2: [H1], 3: [H2]}
    assert list(await stage.service.away()) == []


@story(lambda: Setting(far=2, memory_mib=8192))
async def test_where_the_policy_says_nothing_of_others_it_is_refused(stage: Stage) -> None:
    filled(stage)
    await stage.start_controller()
    with pytest.raises(Refused, match="fits on no host: h2: it has room for"):
        await enter(stage)


@story(tight)
async def test_a_request_that_keeps_everybody_in_the_cluster_is_refused(stage: Stage) -> None:
    filled(stage)
    await stage.start_controller()
    with pytest.raises(Refused, match="fits on no host"):
        await enter(stage, within_cluster=True)
    assert where(stage) == {1: [H1], 2: [H1], 3: [H2]}


def one_at_a_time_over_there() -> Setting:
    return Setting(
        hosts=3,
        far=2,
        link_mbit_s=1000,
        policy=ClusterPolicy(overflow_clusters=(OTHER,), limits=Limits(per_source=4)),
        far_policy=ClusterPolicy(limits=Limits(per_cluster=1)),
    )


@story(one_at_a_time_over_there)
async def test_the_limits_of_the_other_cluster_hold_for_those_who_come(stage: Stage) -> None:
    """The stage watches the slots of both clusters before every migration."""
    for number in range(1, 6):
        stage.add_vm(1, number)
    await stage.start_controller()
    assert (await entered(stage)).state is SUCCEEDED
    assert stage.invariants.peak == 1


@story(alone)
async def test_a_target_over_there_that_refuses_is_followed_by_the_next_one(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    plan = await stage.service.plan([H1], options())
    first, second = next(step.targets for step in plan.steps if step.targets)
    which = await enter(stage)
    bar(stage, 1, first)
    final = await stage.until_final(which)
    assert final.state is SUCCEEDED
    assert [one.target for one in step_of(final, 1).attempts] == [first, second]
    assert hosts_running(stage, 1) == [second]


@story(alone)
async def test_killed_in_the_middle_of_a_crossing_it_goes_on_and_ends_well(stage: Stage) -> None:
    for number in (1, 2):
        stage.add_vm(1, number)
    await stage.start_controller()
    which = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    await stage.kill_controller()
    await stage.start_controller()
    assert (await stage.until_final(which)).state is SUCCEEDED
    assert (await exited(stage)).state is SUCCEEDED
    assert where(stage) == {1: [H1], 2: [H1]}


@story(alone)
async def test_who_has_crossed_is_put_back_where_somebody_else_cannot_leave(stage: Stage) -> None:
    stage.add_vm(1, 1)
    stage.add_vm(1, 2)
    await stage.start_controller()
    which = await enter(stage, on_failure=OnFailure.PUT_BACK)
    bar(stage, 2, H2, H3)
    final = await stage.until_final(which)
    assert final.state is FAILED
    assert where(stage) == {1: [H1], 2: [H1]}
    assert await mode_of(stage) is HostMode.CORDONED


@story(alone)
async def test_a_vm_that_somebody_has_taken_across_meanwhile_is_found_there(stage: Stage) -> None:
    """It is looked for on the hosts of clusters that exchange VMs with its own."""
    stage.add_vm(1, 1)
    stage.add_vm(1, 2)
    await stage.start_controller()
    which = await enter(stage)
    copy = stage.cluster.copy(H1, vm_id(2))
    assert copy is not None
    stage.cluster.remove(H1, vm_id(2))
    stage.cluster.put(H3, copy.vm)
    final = await stage.until_final(which)
    step = step_of(final, 2)
    assert (step.outcome, step.where) == (Outcome.CHANGED_BY_OTHERS, H3)


@story(alone)
async def test_who_goes_cold_crosses_and_comes_home_too(stage: Stage) -> None:
    cold = words(on_maintenance="cold", shut_down_grace_s=60)
    stage.add_vm(1, 1, hindrances=("a transient disk",), own_policy=cold)
    await stage.start_controller()
    final = await entered(stage)
    assert (final.state, step_of(final, 1).method) == (SUCCEEDED, Method.COLD)
    assert hosts_running(stage, 1)[0] in (H2, H3)
    assert (await exited(stage)).state is SUCCEEDED
    assert where(stage) == {1: [H1]}


@story(alone)
async def test_a_single_vm_is_moved_across_where_its_own_cluster_has_no_place(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    asked = await stage.service.migrate(vm_id(1), ActionOptions(target=H3), REQUEST)
    assert (await stage.until_final(asked.id)).state is SUCCEEDED
    assert hosts_running(stage, 1) == [H3]
    with pytest.raises(Refused):
        await stage.service.migrate(vm_id(1), ActionOptions(target=H1), REQUEST)
