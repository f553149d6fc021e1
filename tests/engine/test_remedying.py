"""Media are taken out of drives and put back: once, on record, whatever happens in between; and
never over what the owner of a VM has put in since."""

from __future__ import annotations

from dataclasses import replace

import pytest
import structlog

from furlough.core.inventory import Disk, DiskKind
from furlough.core.operation import Operation, Outcome
from furlough.core.plan import Method, OperationKind
from furlough.core.policy import CancelMode, EnterOptions, ExitOptions
from furlough.core.states import HostMode, StepState
from furlough.errors import Conflict, Refused
from furlough.scenario.stage import REQUEST, Setting, Stage, host_name, open_stage, vm_id
from furlough.sim.clock import run_virtually
from furlough.sim.faults import Odds
from furlough.sim.hypervisor import SimHypervisor
from tests.engine.stories import (
    CANCELLED,
    FAILED,
    H1,
    H2,
    H3,
    SUCCEEDED,
    entered,
    exited,
    hosts_running,
    mode_of,
    story,
)

CODE = "vm.local_media"
ISO = "/root/debian.iso"
DISK = Disk(target="vda", source="vm.img", datastore="vms")
CDROM = Disk(target="sda", source=ISO, datastore=None, is_writable=False, kind=DiskKind.CDROM)


async def open_with_media(stage: Stage, vms: int = 2) -> None:
    """VMs on h1, the first of which holds a medium that only h1 has."""
    for number in range(1, vms + 1):
        stage.add_vm(1, number, disks=(DISK, CDROM) if number == 1 else (DISK,))
    await stage.start_controller()


async def ejected(stage: Stage) -> Operation:
    """Take out what stands against entering h1, and wait for the end."""
    applied = await stage.service.upkeep.apply(H1, CODE, EnterOptions(), REQUEST)
    assert applied.operation is not None
    return await stage.until_final(applied.operation.id)


async def undone(stage: Stage) -> Operation:
    """Put back what was taken out on h1, and wait for the end."""
    applied = await stage.service.upkeep.undo(H1, REQUEST)
    assert applied.operation is not None
    return await stage.until_final(applied.operation.id)


def in_drive(stage: Stage, number: int = 1) -> str:
    """What the drive of the n-th VM holds, wherever it is."""
    copies = [one.copies.get(vm_id(number)) for one in stage.cluster.hosts.values()]
    held = [disk.source for copy in copies if copy for disk in copy.vm.disks if disk.is_medium]
    return held[0] if held else ""


def put_in(stage: Stage, medium: str, number: int = 1) -> None:
    """What the VM's owner does behind our back: a medium that every host reaches."""
    (host,) = hosts_running(stage, number)
    copy = stage.cluster.hosts[host].copies[vm_id(number)]
    drive = copy.empty_drives.pop("sda", CDROM)
    others = tuple(disk for disk in copy.vm.disks if disk.target != "sda")
    copy.vm = replace(copy.vm, disks=(*others, replace(drive, source=medium, datastore="vms")))


async def record(stage: Stage) -> list[str]:
    return [one.medium for one in await stage.store.remedies()]


@story()
async def test_what_stands_in_the_way_is_taken_out_and_put_back_at_exit(stage: Stage) -> None:
    await open_with_media(stage)
    with pytest.raises(Refused, match="local media") as refused:
        await stage.service.enter([H1], EnterOptions(), REQUEST)
    assert refused.value.code == "precheck.blocked"

    operation = await ejected(stage)
    assert (operation.state, operation.kind) == (SUCCEEDED, OperationKind.REMEDY_VM)
    assert [step.outcome for step in operation.steps] == [Outcome.REMEDIED]
    assert in_drive(stage) == ""
    assert await record(stage) == [ISO]

    assert (await entered(stage)).state is SUCCEEDED
    final = await exited(stage)
    assert final.state is SUCCEEDED
    assert hosts_running(stage, 1) == [H1]
    assert in_drive(stage) == ISO
    assert await record(stage) == []


@story()
async def test_the_medium_comes_back_after_the_vm_and_before_the_host_is_in_service(
    stage: Stage,
) -> None:
    await open_with_media(stage)
    await ejected(stage)
    await entered(stage)
    plan = (await stage.service.exit_check([H1], ExitOptions())).plan
    order = [step.method for step in sorted(plan.steps, key=lambda step: step.wave)]
    assert order.index(Method.LIVE) < order.index(Method.INSERT) < order.index(Method.LOWER_GUARD)


@story()
async def test_where_entering_never_followed_it_is_put_back_when_asked_for(stage: Stage) -> None:
    await open_with_media(stage)
    await ejected(stage)
    told = await stage.service.upkeep.undoing(H1)
    assert [one.what for one in told] == [f"Put {ISO} back into drive sda of VM vm1."]
    operation = await undone(stage)
    assert operation.state is SUCCEEDED
    assert in_drive(stage) == ISO
    assert await record(stage) == []
    again = await stage.service.upkeep.undo(H1, REQUEST)
    assert (again.changes, again.operation) == ((), None)


@story()
async def test_what_the_owner_has_put_in_since_stays_and_closes_the_record(stage: Stage) -> None:
    await open_with_media(stage)
    await ejected(stage)
    await entered(stage)
    put_in(stage, "vms/tools.iso")
    final = await exited(stage)
    (step,) = [one for one in final.steps if one.method is Method.INSERT]
    assert (step.state, step.outcome) == (StepState.SKIPPED, Outcome.CHANGED_BY_OTHERS)
    assert step.notes == ("drive sda of VM vm1 holds vms/tools.iso by now",)
    assert final.state is SUCCEEDED
    assert in_drive(stage) == "vms/tools.iso"
    assert await record(stage) == []


@story()
async def test_a_drive_that_its_owner_took_away_closes_the_record_too(stage: Stage) -> None:
    await open_with_media(stage)
    await ejected(stage)
    stage.cluster.hosts[H1].copies[vm_id(1)].empty_drives.clear()
    operation = await undone(stage)
    assert [step.state for step in operation.steps] == [StepState.SKIPPED]
    assert "no drive sda" in operation.steps[0].notes[0]
    assert await record(stage) == []


@story()
async def test_a_medium_waits_on_record_for_a_vm_that_does_not_come_home(stage: Stage) -> None:
    await open_with_media(stage)
    await ejected(stage)
    await entered(stage)
    (left_on,) = hosts_running(stage, 1)
    elsewhere = next(host for host in (H2, H3) if host != left_on)
    copy = stage.cluster.hosts[left_on].copies.pop(vm_id(1))
    stage.cluster.hosts[elsewhere].copies[vm_id(1)] = copy
    final = await exited(stage)
    assert final.state is SUCCEEDED
    assert [step for step in final.steps if step.method is Method.INSERT] == []
    assert await record(stage) == [ISO]


@story()
async def test_a_failed_undo_is_named_and_keeps_no_host_from_service(stage: Stage) -> None:
    await open_with_media(stage)
    await ejected(stage)
    await entered(stage)
    stage.cluster.hosts[H1].lost_files.add(ISO)
    final = await exited(stage)
    (step,) = [one for one in final.steps if one.method is Method.INSERT]
    assert (step.state, len(step.attempts)) == (StepState.FAILED, 3)
    assert step.failure is not None
    assert ISO in step.failure.message
    assert "--undo" in step.failure.remedy
    assert (final.state, final.code) == (FAILED, "restore_incomplete")
    assert await mode_of(stage) is HostMode.AVAILABLE
    assert hosts_running(stage, 1) == [H1]
    assert await record(stage) == [ISO]
    assert await stage.store.away() == []

    stage.cluster.hosts[H1].lost_files.clear()
    assert (await undone(stage)).state is SUCCEEDED
    assert in_drive(stage) == ISO


@story()
async def test_a_medium_that_somebody_took_out_first_is_not_ours_to_put_back(stage: Stage) -> None:
    await open_with_media(stage)
    stage.cluster.kill_daemon(H2)  # it keeps the observer busy, not us
    stage.cluster.start_daemon(H2)
    applied = await stage.service.upkeep.apply(H1, CODE, EnterOptions(), REQUEST)
    assert applied.operation is not None
    await SimHypervisor(stage.cluster).change_medium(H1, vm_id(1), "sda", "")
    operation = await stage.until_final(applied.operation.id)
    assert [step.state for step in operation.steps] == [StepState.SKIPPED]
    assert await record(stage) == []


@story(lambda: Setting(odds=Odds(lost_request=0.4, lost_reply=0.4), seed=3))
async def test_lost_calls_are_looked_after_and_made_again(stage: Stage) -> None:
    await open_with_media(stage)
    assert (await ejected(stage)).state is SUCCEEDED
    assert in_drive(stage) == ""
    assert (await undone(stage)).state is SUCCEEDED
    assert in_drive(stage) == ISO
    assert stage.faults.fired.keys() >= {"lost_request", "lost_reply"}


@story()
async def test_a_silent_host_is_waited_for_and_named(stage: Stage) -> None:
    await open_with_media(stage)
    applied = await stage.service.upkeep.apply(H1, CODE, EnterOptions(), REQUEST)
    assert applied.operation is not None
    stage.cluster.hosts[H1].is_reachable = False
    waiting = await stage.until_still(applied.operation.id)
    assert (waiting.code, waiting.waiting_for) == ("host.silent", "h1 does not answer")
    stage.cluster.hosts[H1].is_reachable = True
    assert (await stage.until_final(waiting.id)).state is SUCCEEDED
    assert in_drive(stage) == ""


@story()
async def test_a_cancel_while_a_host_is_silent_leaves_the_truth_on_record(stage: Stage) -> None:
    await open_with_media(stage)
    applied = await stage.service.upkeep.apply(H1, CODE, EnterOptions(), REQUEST)
    assert applied.operation is not None
    stage.cluster.hosts[H1].is_reachable = False
    await stage.until_still(applied.operation.id)
    await stage.service.cancel(applied.operation.id, CancelMode.STOP, "me")
    stage.cluster.hosts[H1].is_reachable = True
    final = await stage.until_final(applied.operation.id)
    assert final.state is CANCELLED
    assert (in_drive(stage) == "") == (await record(stage) == [ISO])


@story()
async def test_a_vm_that_an_operation_has_is_not_touched(stage: Stage) -> None:
    await open_with_media(stage)
    await stage.service.upkeep.apply(H1, CODE, EnterOptions(), REQUEST)
    with pytest.raises(Conflict) as caught:
        await stage.service.upkeep.apply(H1, CODE, EnterOptions(), REQUEST)
    assert caught.value.code == "vm.owned"


@pytest.mark.parametrize("kill_at", range(1, 17))
def test_killed_at_any_moment_the_record_says_what_the_drive_holds(kill_at: int) -> None:
    """Accepting counts two moments, every event and the effect two each."""

    async def play() -> None:
        async with open_stage(Setting()) as stage:
            stage.add_vm(1, 1, disks=(DISK, CDROM))
            await stage.start_controller()
            applied = await stage.service.upkeep.apply(H1, CODE, EnterOptions(), REQUEST)
            assert applied.operation is not None
            stage.process.kill_at = stage.process.moments + kill_at
            final = await stage.until_final(applied.operation.id)
            assert final.state is SUCCEEDED
            assert in_drive(stage) == ""
            assert await record(stage) == [ISO]
            assert stage.invariants.violations == []

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    run_virtually(play())


def test_an_undo_with_a_vm_on_another_host_has_nothing_to_do_there() -> None:
    """vm1 moved on by itself after its medium was taken out."""

    async def play() -> None:
        async with open_stage(Setting()) as stage:
            await open_with_media(stage)
            await ejected(stage)
            copy = stage.cluster.hosts[H1].copies.pop(vm_id(1))
            stage.cluster.hosts[host_name(2)].copies[vm_id(1)] = copy
            applied = await stage.service.upkeep.undo(H1, REQUEST)
            assert applied.changes == ()
            assert await record(stage) == [ISO]

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    run_virtually(play())
