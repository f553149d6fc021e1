"""Storage and ports of hosts that fail, and hosts that are to be removed while they have work.
Numbers are those of the fault catalogue."""

from __future__ import annotations

import pytest

from furlough.core.ids import HostName
from furlough.core.looks import Presence, Why
from furlough.core.operation import Outcome
from furlough.core.policy import ClusterPolicy, EnterOptions, Limits
from furlough.core.states import HostMode, OperationState
from furlough.errors import Conflict, Refused
from furlough.scenario.stage import DATASTORE, Setting, Stage, host_name, vm_id
from furlough.sim.migration import Phase
from tests.engine.stopping import at_home
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
    slow,
    step_of,
    story,
    until_phase,
)

# --- storage -------------------------------------------------------------------------------------


@story()
async def test_f056_vms_that_an_io_error_has_stopped_keep_a_host_from_being_entered(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    stage.add_vm(1, 2, disks=(), memory_mib=512)
    stage.cluster.lose_storage(H1, DATASTORE)
    await stage.start_controller()
    with pytest.raises(Refused, match=r"VM vm1 was stopped by an I/O error"):
        await enter(stage)
    (report,) = await stage.service.check([H1], EnterOptions())
    found = [one for one in report.findings if one.code == "vm.io_error"]
    assert [str(vm_id(1)) in one.subject for one in found] == [True]
    assert await mode_of(stage) is HostMode.AVAILABLE
    assert stage.cluster.hosts[H1].marker is None
    assert hosts_running(stage, 2) == [H1]


@story(slow)
async def test_f056_a_vm_that_an_io_error_stops_meanwhile_is_waited_for_and_not_moved(
    stage: Stage,
) -> None:
    """Who was moved as it stood, would stand there for ever, as if somebody had paused it."""
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    stage.cluster.set_presence(at_home(stage, 3), Presence.PAUSED, Why.IO_ERROR)
    await stage.clock.sleep(1800)
    waiting = await stage.store.operation(operation)
    assert (waiting.state, waiting.code) == (OperationState.BLOCKED, "vm.stands_still")
    assert "vm3: an I/O error has stopped it" in (waiting.waiting_for or "")
    assert stage.cluster.copy(H1, vm_id(3)) is not None
    assert outcomes(waiting)[Outcome.MOVED] == 2
    # Its storage is back, and somebody has resumed it: it goes on without another word.
    stage.cluster.set_presence(at_home(stage, 3), Presence.RUNNING, Why.UNKNOWN)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 3})
    assert len(hosts_running(stage, 3)) == 1


@story(slow)
async def test_f056_a_process_that_does_not_die_keeps_the_host_from_maintenance(
    stage: Stage,
) -> None:
    """One that waits for dead storage survives even `kill -9`; nobody claims an empty host."""
    stage.add_vm(1, 1)
    stage.add_vm(1, 2)
    await stage.start_controller()
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    copy = at_home(stage, 2)
    stage.cluster.stop(H1, vm_id(2), Why.DESTROYED)
    copy.has_process = True
    await stage.clock.sleep(1800)
    waiting = await stage.store.operation(operation)
    assert waiting.state is OperationState.BLOCKED
    assert "vm2" in (waiting.waiting_for or "")
    assert await mode_of(stage) is HostMode.ENTERING
    copy.has_process = False
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert await mode_of(stage) is HostMode.MAINTENANCE
    assert step_of(final, 2).outcome is Outcome.CHANGED_BY_OTHERS


@story()
async def test_f057_a_target_that_has_lost_its_storage_is_passed_over(stage: Stage) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    stage.cluster.lose_storage(H2, DATASTORE)
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert all(hosts_running(stage, number) in ([H3], [host_name(4)]) for number in (1, 2, 3))
    failures = [
        attempt.failure
        for number in (1, 2, 3)
        for attempt in step_of(final, number).attempts
        if attempt.failure is not None
    ]
    assert failures, "nobody was sent to h2 first"
    assert all("Cannot access storage file" in failure.message for failure in failures)


@story(lambda: Setting(is_locked=True, link_mbit_s=1000))
async def test_f057_storage_that_goes_while_the_vm_arrives_is_told_and_nothing_is_lost(
    stage: Stage,
) -> None:
    """It has arrived, and stands still there: a fact about the VM, no reason to move it twice."""
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await enter(stage)
    ongoing = await until_phase(stage, Phase.PERFORM)
    stage.cluster.lose_storage(ongoing.target, DATASTORE)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    step = step_of(final, 1)
    assert (step.outcome, step.where, len(step.attempts)) == (Outcome.MOVED, ongoing.target, 1)
    assert any("I/O error" in note for note in step.notes)
    assert stage.cluster.copy(H1, vm_id(1)) is None
    arrived = (await stage.service.inventory()).vm(vm_id(1))
    assert (arrived.host, arrived.has_io_error) == (ongoing.target, True)


@story(lambda: Setting(link_mbit_s=1000))
async def test_f057_the_same_where_we_start_its_cpus_ourselves(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await enter(stage)
    ongoing = await until_phase(stage, Phase.PERFORM)
    stage.cluster.lose_storage(ongoing.target, DATASTORE)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    step = step_of(final, 1)
    assert (step.outcome, step.where) == (Outcome.MOVED, ongoing.target)
    assert any("I/O error" in note for note in step.notes)
    assert stage.cluster.copy(H1, vm_id(1)) is None


# --- ports ---------------------------------------------------------------------------------------


def wide() -> Setting:
    """A cluster whose limits would let a hundred migrations into one host."""
    limits = Limits(per_source=100, per_target=100, per_cluster=100)
    return Setting(hosts=2, link_mbit_s=1000, policy=ClusterPolicy(limits=limits))


@story(wide)
async def test_f058_a_target_without_a_free_port_is_waited_for(stage: Stage) -> None:
    """More than 64 streams at once find no port; who finds none waits until others are there."""
    stage.cluster.hosts[H2].migration_ports = 1
    for number in range(1, 4):
        stage.add_vm(1, number, memory_mib=256)
    await stage.start_controller()
    final = await entered(stage)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 3})
    busy = [
        attempt.failure
        for step in final.steps
        for attempt in step.attempts
        if attempt.failure is not None
    ]
    assert {failure.code for failure in busy} == {"hypervisor.busy"}
    assert all("unused port" in failure.message for failure in busy)


@story(wide)
async def test_f058_one_that_never_frees_a_port_is_told_after_three_attempts(stage: Stage) -> None:
    stage.cluster.hosts[H2].migration_ports = 0
    stage.add_vm(1, 1)
    await stage.start_controller()
    final = await entered(stage)
    assert (final.state, final.code) == (FAILED, "hypervisor.busy")
    assert len(step_of(final, 1).attempts) == 3
    assert (hosts_running(stage, 1), await mode_of(stage)) == ([H1], HostMode.CORDONED)


@story(lambda: Setting(link_mbit_s=1000))
async def test_f058_the_usual_limits_stay_far_below_the_ports_of_a_host(stage: Stage) -> None:
    """Two at once into one host, however many leave it behind: seen by the stage's invariants."""
    for number in range(1, 13):
        stage.add_vm(1, number, memory_mib=512)
    await stage.start_controller()
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert 1 <= stage.invariants.peak <= 2
    assert Limits().per_target < stage.cluster.hosts[H2].migration_ports


# --- removal -------------------------------------------------------------------------------------


async def _is_kept(stage: Stage, host: HostName, operation: str) -> None:
    """Removing this host is refused, and the refusal names the operation that needs it."""
    with pytest.raises(Conflict, match=operation) as refusal:
        await stage.service.enrolling.remove_host(host)
    assert (refusal.value.code, refusal.value.facts["operation"]) == ("host.busy", operation)
    assert operation in refusal.value.remedy
    assert host in {one.name for one in (await stage.store.enrolment()).hosts}


@story(slow)
async def test_f092_no_host_of_an_operation_is_removed_and_the_refusal_names_it(
    stage: Stage,
) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    operation = await enter(stage, target_hosts=(H2, H3))
    await until_phase(stage, Phase.PERFORM)
    for host in (H1, H2, H3):
        await _is_kept(stage, host, operation)
    # One that has nothing to do with it may go, and the operation does not mind.
    await stage.service.enrolling.remove_host(host_name(4))
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 3})


@story(slow)
async def test_f092_nor_while_the_operation_waits_for_the_silent_host(stage: Stage) -> None:
    """The moment at which somebody is most tempted to."""
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await enter(stage)
    ongoing = await until_phase(stage, Phase.PERFORM)
    stage.cluster.hosts[ongoing.target].is_reachable = False
    await stage.clock.sleep(600)
    assert (await stage.store.operation(operation)).state is OperationState.BLOCKED
    await _is_kept(stage, ongoing.target, operation)
    stage.cluster.hosts[ongoing.target].is_reachable = True
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is SUCCEEDED
    # Whoever is away is brought home before its home may go.
    with pytest.raises(Conflict, match="maintenance"):
        await stage.service.enrolling.remove_host(H1)
    assert (await exited(stage)).state is SUCCEEDED
    bystander = host_name(4) if ongoing.target != host_name(4) else H2
    await stage.service.enrolling.remove_host(bystander)
