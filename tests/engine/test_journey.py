"""The journey as it should go: a host is emptied, kept empty, and brought back."""

from __future__ import annotations

import pytest

from furlough.core.looks import Presence, Why
from furlough.core.operation import Act, Outcome
from furlough.core.plan import Handover, Method, OperationKind
from furlough.core.policy import ActionOptions, ClusterPolicy, ExitOptions, Limits, RestoreMode
from furlough.core.states import HostMode
from furlough.errors import Conflict, NotFound, Refused
from furlough.planning.homecoming import Homecoming
from furlough.scenario.stage import REQUEST, Setting, Stage, vm_id
from furlough.sim.cluster import Copy
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
    outcomes,
    step_of,
    story,
)


async def _open(stage: Stage, vms: int = 4, **traits: object) -> None:
    for number in range(1, vms + 1):
        stage.add_vm(1, number, has_autostart=number % 2 == 0, **traits)
    await stage.start_controller()


@story()
async def test_a_host_is_emptied_and_its_vms_come_home_as_they_were(stage: Stage) -> None:
    await _open(stage)
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert await mode_of(stage) is HostMode.MAINTENANCE
    assert not stage.cluster.hosts[H1].copies
    assert {len(hosts_running(stage, n)) for n in (1, 2, 3, 4)} == {1}

    back = await exited(stage)
    assert back.state is SUCCEEDED
    assert await mode_of(stage) is HostMode.AVAILABLE
    for number in (1, 2, 3, 4):
        assert hosts_running(stage, number) == [H1]
        copy = stage.cluster.copy(H1, vm_id(number))
        assert copy is not None
        assert copy.has_autostart is (number % 2 == 0)
        assert copy.is_persistent
    assert await stage.store.away() == []


@story(lambda: Setting(hosts=3))
async def test_vms_of_equal_size_are_spread_evenly(stage: Stage) -> None:
    await _open(stage, vms=6)
    await entered(stage)
    assert [len(stage.cluster.hosts[host].copies) for host in (H1, H2, H3)] == [0, 3, 3]


@story()
async def test_nothing_starts_on_a_host_in_maintenance_and_everything_after(stage: Stage) -> None:
    await _open(stage)
    stage.add_vm(1, 9, presence=Presence.SHUT_OFF, has_process=False)
    await entered(stage)
    with pytest.raises(Refused, match="kept empty"):
        stage.cluster.start(H1, vm_id(9))
    await exited(stage)
    stage.cluster.start(H1, vm_id(9))
    assert hosts_running(stage, 9) == [H1]


@story()
async def test_a_powered_off_vm_is_left_alone_and_not_started_on_exit(stage: Stage) -> None:
    await _open(stage, vms=2)
    stage.add_vm(1, 9, presence=Presence.SHUT_OFF, has_process=False)
    await entered(stage)
    await exited(stage)
    copy = stage.cluster.copy(H1, vm_id(9))
    assert copy is not None
    assert copy.presence is Presence.SHUT_OFF


async def _moved_paused(stage: Stage) -> Copy:
    """A VM that its owner has paused, on the host it was evacuated to."""
    stage.add_vm(1, 1, presence=Presence.PAUSED, why=Why.USER)
    await stage.start_controller()
    final = await entered(stage)
    assert final.state is SUCCEEDED
    target = step_of(final, 1).where
    assert target is not None
    moved = stage.cluster.copy(target, vm_id(1))
    assert moved is not None
    assert moved.presence is Presence.PAUSED
    assert Act.RESUME_TARGET not in step_of(final, 1).acts
    return moved


@story()
async def test_f079_a_vm_paused_by_its_owner_moves_paused_and_comes_back_paused(
    stage: Stage,
) -> None:
    moved = await _moved_paused(stage)
    stage.cluster.set_presence(moved, Presence.RUNNING, Why.UNKNOWN)
    stage.cluster.set_presence(moved, Presence.PAUSED, Why.USER)
    await exited(stage)
    home = stage.cluster.copy(H1, vm_id(1))
    assert home is not None
    assert home.presence is Presence.PAUSED


@story()
async def test_a_vm_that_arrived_paused_is_not_moved_into_a_crash_before_it_has_run(
    stage: Stage,
) -> None:
    moved = await _moved_paused(stage)
    (told,) = (await stage.service.exit_check([H1], ExitOptions())).returns
    assert told.homecoming is Homecoming.STAYS
    assert "has not run since" in told.reason
    final = await exited(stage)
    assert (final.state, final.code) == (FAILED, "restore_incomplete")
    assert "Not home: vm1 (h1 cannot take it back: it cannot be migrated live" in final.message
    assert moved.presence is Presence.PAUSED
    assert [one.vm for one in await stage.store.away()] == [vm_id(1)]


@story(lambda: Setting(is_locked=False))
async def test_without_a_proven_lock_the_target_waits_until_the_source_is_gone(
    stage: Stage,
) -> None:
    await _open(stage, vms=1)
    final = await entered(stage)
    step = step_of(final, 1)
    assert step.planned.handover is Handover.HELD
    assert Act.RESUME_TARGET in step.acts
    assert step.downtime_ms is not None
    assert step.downtime_ms >= 200


@story(lambda: Setting(is_locked=True))
async def test_with_a_proven_lock_the_handover_is_the_hypervisors_own(stage: Stage) -> None:
    await _open(stage, vms=1)
    step = step_of(await entered(stage), 1)
    assert step.planned.handover is Handover.NORMAL
    assert step.acts == ()


@story(lambda: Setting(policy=ClusterPolicy(limits=Limits(per_source=3, per_cluster=3))))
async def test_limits_are_used_fully_and_never_exceeded(stage: Stage) -> None:
    # So small that a link has a use for more of them than may be in flight.
    await _open(stage, vms=9, memory_mib=256)
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert stage.invariants.peak == 3


@story()
async def test_a_transient_vm_stays_transient(stage: Stage) -> None:
    stage.add_vm(1, 1, is_persistent=False)
    await stage.start_controller()
    final = await entered(stage)
    target = step_of(final, 1).where
    assert target is not None
    copy = stage.cluster.copy(target, vm_id(1))
    assert copy is not None
    assert not copy.is_persistent
    await exited(stage)
    assert hosts_running(stage, 1) == [H1]


@story()
async def test_exit_without_restore_leaves_vms_where_they_are_and_on_record(
    stage: Stage,
) -> None:
    await _open(stage)
    await entered(stage)
    final = await exited(stage, restore=RestoreMode.NONE)
    assert final.state is SUCCEEDED
    assert await mode_of(stage) is HostMode.AVAILABLE
    assert not stage.cluster.hosts[H1].copies
    assert len(await stage.store.away()) == 4


@story()
async def test_what_its_owner_moved_or_stopped_meanwhile_is_not_undone(stage: Stage) -> None:
    await _open(stage, vms=3)
    final = await entered(stage)
    moved_on = step_of(final, 1).where
    assert moved_on is not None
    other = next(host for host in (H2, H3) if host != moved_on)
    stage.cluster.hosts[other].copies[vm_id(1)] = stage.cluster.hosts[moved_on].copies.pop(vm_id(1))
    where = step_of(final, 2).where
    assert where is not None
    stage.cluster.stop(where, vm_id(2), Why.SHUTDOWN)

    back = await exited(stage)
    assert [step.planned.vm for step in back.steps if step.method is Method.LIVE] == [vm_id(3)]
    assert hosts_running(stage, 1) == [other]
    assert hosts_running(stage, 2) == []
    assert hosts_running(stage, 3) == [H1]


@story(lambda: Setting(memory_mib=8192, hosts=3))
async def test_who_no_longer_fits_at_home_stays_and_stays_on_record(stage: Stage) -> None:
    await _open(stage, vms=2)
    await entered(stage)
    # The host comes back with half of its memory.
    stage.cluster.hosts[H1].memory_mib = 3300
    final = await exited(stage)
    assert await mode_of(stage) is HostMode.AVAILABLE
    homes = sorted(len(hosts_running(stage, number)) for number in (1, 2))
    assert homes == [1, 1]
    at_home = [n for n in (1, 2) if hosts_running(stage, n) == [H1]]
    assert len(at_home) == 1
    assert final.plan.unplaced[0].reasons[H1]


@story()
async def test_a_second_enter_is_refused_with_the_operation_that_runs(stage: Stage) -> None:
    await _open(stage)
    running = await enter(stage)
    with pytest.raises(Conflict) as refusal:
        await enter(stage)
    assert refusal.value.facts["operation"] == running
    assert running in refusal.value.message
    assert (await stage.until_final(running)).state is SUCCEEDED


@story()
async def test_a_host_in_maintenance_is_not_entered_again(stage: Stage) -> None:
    await _open(stage)
    await entered(stage)
    with pytest.raises(Refused) as refusal:
        await enter(stage)
    assert {one.code for one in refusal.value.facts["findings"]} >= {"host.mode"}  # type: ignore[attr-defined]


@story()
async def test_one_host_of_a_cluster_at_a_time(stage: Stage) -> None:
    await _open(stage)
    await entered(stage)
    with pytest.raises(Refused, match="allows 1 host"):
        await enter(stage, H2)


@story()
async def test_an_unknown_host_is_named(stage: Stage) -> None:
    await _open(stage)
    with pytest.raises(NotFound, match="nowhere"):
        await enter(stage, "nowhere")  # type: ignore[arg-type]


@story()
async def test_a_silent_host_is_not_entered(stage: Stage) -> None:
    await _open(stage)
    stage.cluster.hosts[H1].is_reachable = False
    with pytest.raises(Refused) as refusal:
        await enter(stage)
    assert "host.silent" in {one.code for one in refusal.value.facts["findings"]}  # type: ignore[attr-defined]
    assert await mode_of(stage) is HostMode.AVAILABLE


@story()
async def test_cordon_keeps_vms_away_and_uncordon_lets_them_in(stage: Stage) -> None:
    await _open(stage, vms=2)
    operation = await stage.service.cordon(H2, ActionOptions(), REQUEST)
    assert (await stage.until_final(operation.id)).state is SUCCEEDED
    assert await mode_of(stage, H2) is HostMode.CORDONED
    await entered(stage)
    assert not stage.cluster.hosts[H2].copies
    await exited(stage)
    operation = await stage.service.uncordon(H2, ActionOptions(), REQUEST)
    assert (await stage.until_final(operation.id)).state is SUCCEEDED
    assert await mode_of(stage, H2) is HostMode.AVAILABLE


@story()
async def test_a_vm_is_shut_down_started_and_powered_off_on_request(stage: Stage) -> None:
    await _open(stage, vms=1)
    for kind, presence in (
        (OperationKind.SHUT_DOWN_VM, Presence.SHUT_OFF),
        (OperationKind.START_VM, Presence.RUNNING),
        (OperationKind.POWER_OFF_VM, Presence.SHUT_OFF),
    ):
        asked = await stage.service.change_power(kind, vm_id(1), ActionOptions(), REQUEST)
        final = await stage.until_final(asked.id)
        await stage.invariants.check_final(asked.id)
        copy = stage.cluster.copy(H1, vm_id(1))
        assert final.state is SUCCEEDED
        assert copy is not None
        assert copy.presence is presence


@story()
async def test_a_guest_that_ignores_the_shutdown_is_never_powered_off(stage: Stage) -> None:
    stage.add_vm(1, 1, ignores_shutdown=True)
    await stage.start_controller()
    asked = await stage.service.change_power(
        OperationKind.SHUT_DOWN_VM, vm_id(1), ActionOptions(grace_s=90), REQUEST
    )
    final = await stage.until_final(asked.id)
    assert (final.state, final.code) == (FAILED, "guest.ignored")
    assert hosts_running(stage, 1) == [H1]
    assert step_of(final, 1).acts.count(Act.SHUT_DOWN) == 3


@story()
async def test_a_vm_that_runs_elsewhere_is_not_started_a_second_time(stage: Stage) -> None:
    stage.add_vm(1, 1, presence=Presence.SHUT_OFF, has_process=False)
    await stage.start_controller()
    asked = await stage.service.change_power(
        OperationKind.START_VM, vm_id(1), ActionOptions(), REQUEST
    )
    stage.add_vm(2, 1)
    final = await stage.until_final(asked.id)
    assert (final.state, final.code) == (FAILED, "vm.changed")
    assert hosts_running(stage, 1) == [H2]


@story()
async def test_nothing_may_be_started_on_a_cordoned_host_through_us(stage: Stage) -> None:
    stage.add_vm(1, 1, presence=Presence.SHUT_OFF, has_process=False)
    await stage.start_controller()
    operation = await stage.service.cordon(H1, ActionOptions(), REQUEST)
    await stage.until_final(operation.id)
    with pytest.raises(Refused, match="cordoned"):
        await stage.service.change_power(OperationKind.START_VM, vm_id(1), ActionOptions(), REQUEST)


@story()
async def test_one_vm_is_moved_to_the_host_named(stage: Stage) -> None:
    await _open(stage, vms=1)
    asked = await stage.service.migrate(vm_id(1), ActionOptions(target=H3), REQUEST)
    final = await stage.until_final(asked.id)
    assert final.state is SUCCEEDED
    assert hosts_running(stage, 1) == [H3]
    assert outcomes(final) == {Outcome.MOVED: 1}
    assert await stage.store.away() == []
