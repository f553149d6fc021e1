"""VMs that cannot move, stop moving, are very many or have strange names, and others who act on
them meanwhile. Numbers are those of the fault catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from furlough.core.accounting import account
from furlough.core.ids import HostName, OperationId
from furlough.core.inventory import Disk
from furlough.core.looks import Job, Presence, Why
from furlough.core.operation import Operation, Outcome
from furlough.core.policy import ActionOptions, EnterOptions
from furlough.core.states import HostMode, OperationState
from furlough.errors import Refused
from furlough.scenario.stage import REQUEST, Setting, Stage, host_name, vm_id
from furlough.sim.faults import Faults
from furlough.sim.migration import Phase, SimMigration
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


async def _refused_for(stage: Stage, number: int, code: str) -> str:
    """Entering is refused with this code because of the n-th VM, and nothing has changed; what
    is said of it."""
    before = {
        name: (set(machine.copies), machine.marker) for name, machine in stage.cluster.hosts.items()
    }
    with pytest.raises(Refused) as refusal:
        await enter(stage)
    assert refusal.value.code == "precheck.blocked"
    (report,) = await stage.service.check([H1], EnterOptions())
    (found,) = [one for one in report.findings if one.code == code]
    assert str(vm_id(number)) in found.subject
    assert found.severity.value == "blocker"
    assert found.remedy
    assert await mode_of(stage) is HostMode.AVAILABLE
    assert not stage.cluster.migrations
    assert before == {
        name: (set(machine.copies), machine.marker) for name, machine in stage.cluster.hosts.items()
    }
    return found.message


async def _waits_with(stage: Stage, operation: OperationId, code: str) -> Operation:
    """The operation, once it waits for this."""
    found = await stage.store.operation(operation)
    while found.code != code:
        assert not found.is_final, found
        found = await stage.until_changed(found)
    return found


@dataclass(kw_only=True)
class _FasterThanUs(Faults):
    """Somebody whose act comes between our look and our first call."""

    act: Callable[[], None]

    def check_refusal(self) -> None:
        if not self.fired:
            self.count("faster")
            self.act()


# --- disks that do not come along (F068, F069, F070: copying them comes with a later version) -----


@pytest.mark.parametrize("source", ["/var/lib/libvirt/images/vm1.qcow2", "/dev/vg0/vm1"])
def test_f070_a_vm_with_a_disk_of_its_host_is_refused_and_nothing_moves(source: str) -> None:
    """Neither a file nor a volume of the same name on the target is ever opened for it."""

    @story()
    async def tell(stage: Stage) -> None:
        stage.add_vm(1, 1, disks=(Disk(target="vda", source=source, datastore=None),))
        stage.add_vm(1, 2)
        await stage.start_controller()
        assert source in await _refused_for(stage, 1, "vm.local_disk")
        assert hosts_running(stage, 2) == [H1]

    tell()


# --- jobs and snapshots that begin after the precheck --------------------------------------------


@story(slow)
async def test_f074_a_backup_that_begins_after_the_precheck_is_waited_for(stage: Stage) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    at_home(stage, 3).job = Job.OTHER
    waiting = await _waits_with(stage, operation, "vm.busy")
    assert "vm3" in (waiting.waiting_for or "")
    await stage.clock.sleep(1800)
    # Whoever can move has moved: one backup holds up no other.
    assert [hosts_running(stage, number) == [H1] for number in (1, 2, 3)] == [False, False, True]
    at_home(stage, 3).job = Job.NONE
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, len(step_of(final, 3).attempts)) == (SUCCEEDED, 1)


@story(slow)
async def test_f074_a_backup_that_wins_by_a_moment_is_retried_and_waited_for(stage: Stage) -> None:
    """It begins between our look and our call: the hypervisor refuses, nothing has happened."""
    stage.add_vm(1, 1)
    stage.faults = _FasterThanUs(
        random=stage.random, act=lambda: setattr(at_home(stage, 1), "job", Job.OTHER)
    )
    await stage.start_controller()
    operation = await enter(stage)
    await _waits_with(stage, operation, "vm.busy")
    at_home(stage, 1).job = Job.NONE
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    first, second = step_of(final, 1).attempts
    assert first.failure is not None
    assert (first.failure.code, second.failure) == ("hypervisor.busy", None)
    assert final.state is SUCCEEDED


@story(slow)
async def test_f074_a_snapshot_taken_after_the_precheck_is_refused_thrice_and_told(
    stage: Stage,
) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    operation = await enter(stage)
    copy = at_home(stage, 3)
    copy.vm = replace(copy.vm, snapshots=1)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    step = step_of(final, 3)
    assert (final.state, len(step.attempts)) == (FAILED, 3)
    assert step.failure is not None
    assert "snapshot" in step.failure.message
    assert outcomes(final) == {Outcome.MOVED: 2, Outcome.STAYED: 1}
    assert (hosts_running(stage, 3), await mode_of(stage)) == ([H1], HostMode.CORDONED)


@story(slow)
async def test_f074_a_snapshot_that_is_gone_before_the_last_attempt_has_done_no_harm(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await enter(stage)
    copy = at_home(stage, 1)
    copy.vm = replace(copy.vm, snapshots=1)
    found = await stage.store.operation(operation)
    while not step_of(found, 1).failed_attempts:
        found = await stage.until_changed(found)
    copy.vm = replace(copy.vm, snapshots=0)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert final.state is SUCCEEDED
    assert len(hosts_running(stage, 1)) == 1


# --- guests that panic, crash or sleep -----------------------------------------------------------


@story(slow)
async def test_f078_a_guest_that_panics_meanwhile_is_said_to_have_crashed(stage: Stage) -> None:
    for number in (1, 2):
        stage.add_vm(1, number)
    await stage.start_controller()
    operation = await enter(stage)
    ongoing = await until_phase(stage, Phase.PERFORM)
    stage.cluster.stop(H1, vm_id(1), Why.CRASHED)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    step = step_of(final, 1)
    assert (final.state, step.outcome) == (FAILED, Outcome.DIED)
    assert step.failure is not None
    assert "crashed" in step.failure.message
    assert stage.cluster.copy(ongoing.target, vm_id(1)) is None
    # Nobody starts it again: neither we now, nor the way back into service.
    assert hosts_running(stage, 1) == []
    uncordoned = await stage.service.uncordon(H1, ActionOptions(), REQUEST)
    await stage.until_final(uncordoned.id)
    assert (hosts_running(stage, 1), len(hosts_running(stage, 2))) == ([], 1)


@story(slow)
async def test_f078_a_crashed_guest_that_is_kept_for_a_post_mortem_is_not_moved(
    stage: Stage,
) -> None:
    """With `on_crash=preserve` its process stays, stopped for ever."""
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await enter(stage)
    ongoing = await until_phase(stage, Phase.PERFORM)
    stage.cluster.set_presence(at_home(stage, 1), Presence.PAUSED, Why.CRASHED)
    ongoing.abort()
    waiting = await _waits_with(stage, operation, "vm.stands_still")
    assert "vm1: it has crashed" in (waiting.waiting_for or "")
    await stage.clock.sleep(600)
    assert stage.cluster.copy(H1, vm_id(1)) is not None
    stage.cluster.stop(H1, vm_id(1), Why.DESTROYED)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert step_of(final, 1).outcome is Outcome.CHANGED_BY_OTHERS
    assert await mode_of(stage) is HostMode.MAINTENANCE


@pytest.mark.parametrize(
    ("presence", "why", "job", "code", "words"),
    [
        (Presence.PAUSED, Why.ASLEEP, Job.NONE, "vm.suspended", "sleeps"),
        (Presence.PAUSED, Why.CRASHED, Job.NONE, "vm.error", "is in error"),
        (Presence.PAUSED, Why.UNKNOWN, Job.OTHER, "vm.busy", "is busy"),
    ],
)
def test_f080_a_vm_that_sleeps_has_crashed_or_is_being_saved_is_found_and_not_moved(
    presence: Presence, why: Why, job: Job, code: str, words: str
) -> None:
    @story()
    async def tell(stage: Stage) -> None:
        stage.add_vm(1, 1, presence=presence, why=why, job=job)
        stage.add_vm(1, 2)
        await stage.start_controller()
        assert words in await _refused_for(stage, 1, code)

    tell()


@story(slow)
async def test_f080_a_guest_that_falls_asleep_before_its_turn_is_waited_for(stage: Stage) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    operation = await enter(stage)
    await until_phase(stage, Phase.PERFORM)
    stage.cluster.set_presence(at_home(stage, 3), Presence.PAUSED, Why.ASLEEP)
    waiting = await _waits_with(stage, operation, "vm.stands_still")
    assert "vm3: its guest sleeps" in (waiting.waiting_for or "")
    await stage.clock.sleep(600)
    assert not stage.cluster.migrations, "whoever is awake has moved, and the sleeper sleeps"
    stage.cluster.set_presence(at_home(stage, 3), Presence.RUNNING, Why.UNKNOWN)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, outcomes(final)) == (SUCCEEDED, {Outcome.MOVED: 3})


# --- very many, and very large -------------------------------------------------------------------


def huge() -> Setting:
    """Hosts that hold a thousand VMs. With locks, so that each move has two entries, not three."""
    return Setting(hosts=5, memory_mib=4 * 1024 * 1024, link_mbit_s=25_000, is_locked=True)


@story(huge)
async def test_f083_a_thousand_vms_and_one_of_a_tebibyte_leave_one_host(stage: Stage) -> None:
    """In bounded time, with progress all the way, few entries per VM, limits and room kept. Memory
    moves all the time; while the large one has the link, nobody else comes to an end."""
    for machine in stage.cluster.hosts.values():
        machine.cpus, machine.emulator_version = 256, 7_002_000
    for number in range(1, 1000):
        stage.add_vm(1, number, memory_mib=256)
    stage.add_vm(1, 1000, memory_mib=1024 * 1024)
    await stage.start_controller()
    operation = await enter(stage)
    done: list[int] = []
    while not (found := await stage.store.operation(operation)).is_final:
        flying = [one for one in stage.cluster.migrations.values() if isinstance(one, SimMigration)]
        moving = [one.progress for one in flying if one.progress is not None]
        done.append(
            sum(step.sent_mib or 0 for step in found.steps)
            + sum(one.sent_mib for one in moving)
            + sum(step.is_final for step in found.steps)
        )
        assert stage.clock.monotonic() < 4 * 3600
        await stage.clock.sleep(60)
    await stage.invariants.check_final(operation)
    assert (found.state, outcomes(found)) == (SUCCEEDED, {Outcome.MOVED: 1000})
    assert await mode_of(stage) is HostMode.MAINTENANCE
    assert all(earlier < later for earlier, later in pairwise(done)), done
    # A start and an end of each step, and a few more: what we keep grows with the VMs, not faster.
    assert found.events < 2 * len(found.steps) + 20
    assert len(account(found, await stage.service.inventory())) == 1000


# --- names ---------------------------------------------------------------------------------------


@story(lambda: Setting(hosts=3))
async def test_f084_two_vms_of_one_name_are_never_taken_for_each_other(stage: Stage) -> None:
    """No hypervisor takes two of one name: each goes where its namesake is not."""
    first, second = stage.add_vm(1, 1, name="-x"), stage.add_vm(2, 2, name="-x")
    await stage.start_controller()
    final = await entered(stage)
    assert final.state is SUCCEEDED
    assert (stage.cluster.running_on(first), stage.cluster.running_on(second)) == ([H3], [H2])
    assert [entry.vm for entry in final.roster] == [first]
    await exited(stage)
    assert (stage.cluster.running_on(first), stage.cluster.running_on(second)) == ([H1], [H2])


# --- another manager -----------------------------------------------------------------------------


async def _somebody_moves(stage: Stage, number: int, source: HostName, target: HostName) -> None:
    """Another manager has moved a VM."""
    copies = stage.cluster.hosts[source].copies
    stage.cluster.hosts[target].copies[vm_id(number)] = copies.pop(vm_id(number))
    stage.cluster.changed()


async def _somebody_restarts(stage: Stage, number: int, source: HostName, target: HostName) -> None:
    """Another manager takes a host for dead: it powers a VM off there and starts it elsewhere."""
    stage.cluster.stop(source, vm_id(number), Why.DESTROYED)
    await _somebody_moves(stage, number, source, target)
    stage.cluster.start(target, vm_id(number))


@story(slow)
async def test_f091_vms_that_another_manager_moves_and_restarts_meanwhile_are_left_to_it(
    stage: Stage,
) -> None:
    for number in range(1, 7):
        stage.add_vm(1, number)
    await stage.start_controller()
    operation = await enter(stage)
    ongoing = await until_phase(stage, Phase.PERFORM)
    await _somebody_moves(stage, 4, H1, H2)
    await _somebody_restarts(stage, 5, H1, H3)
    # Even the one that is in flight: its target never gets it.
    await _somebody_restarts(stage, 1, H1, host_name(4) if ongoing.target != host_name(4) else H2)
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert outcomes(final) == {Outcome.MOVED: 3, Outcome.CHANGED_BY_OTHERS: 3}
    assert (hosts_running(stage, 4), hosts_running(stage, 5)) == ([H2], [H3])
    assert all(len(hosts_running(stage, number)) == 1 for number in range(1, 7))
    for number in (1, 4, 5):
        assert "somebody moved it to" in step_of(final, number).notes[0]
    assert final.state is SUCCEEDED
    assert await mode_of(stage) is HostMode.MAINTENANCE


@story()
async def test_f091_nothing_that_another_manager_does_gets_a_vm_onto_a_host_in_maintenance(
    stage: Stage,
) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    await stage.start_controller()
    await entered(stage)
    (where,) = hosts_running(stage, 1)
    await _somebody_moves(stage, 2, hosts_running(stage, 2)[0], H2 if where != H2 else H3)
    stage.cluster.stop(where, vm_id(1), Why.DESTROYED)
    stage.cluster.put(H1, stage.cluster.hosts[where].copies[vm_id(1)].vm,
                      presence=Presence.SHUT_OFF, has_process=False)  # fmt: skip
    with pytest.raises(Refused, match="is kept empty"):
        stage.cluster.start(H1, vm_id(1))
    stage.cluster.remove(H1, vm_id(1))
    stage.cluster.start(where, vm_id(1))
    assert await mode_of(stage) is HostMode.MAINTENANCE
    assert (await stage.service.inventory()).host(H1).intruders == ()
    # What it has moved and restarted since, comes home all the same, once and running.
    final = await exited(stage)
    assert final.state is SUCCEEDED
    assert [hosts_running(stage, number) for number in (1, 2, 3)] == [[H1]] * 3


@story(lambda: Setting(hosts=3))
async def test_f091_a_vm_that_is_sent_back_again_and_again_is_told(stage: Stage) -> None:
    """Where no hook stands in its way, a balancer may undo all that we do."""
    stage.add_vm(1, 1)
    stage.add_vm(1, 2)
    await stage.start_controller()
    stage.cluster.hosts[H1].has_hook = False
    operation = await enter(stage, override=("guard.unproven",), reason="the hook comes later")
    while not (found := await stage.store.operation(operation)).is_final:
        if found.code == "host.refills":
            break
        for number in (1, 2):
            for host in (H2, H3):
                copy = stage.cluster.copy(host, vm_id(number))
                if (
                    copy is not None
                    and copy.job is Job.NONE
                    and vm_id(number) not in (stage.cluster.migrations)
                ):
                    await _somebody_moves(stage, number, host, H1)
        await stage.clock.sleep(1)
    assert found.state is OperationState.BLOCKED
    assert "vm" in (found.waiting_for or "")
    assert await mode_of(stage) is HostMode.ENTERING
