"""Stories about the Hypervisor port, told to the simulator and to libvirt on real hosts.

Where the two differ, the simulator is wrong: thousands of simulated evacuations prove nothing about
a hypervisor that does not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from furlough.core.looks import Job, Presence, Why
from furlough.core.plan import Handover
from furlough.core.states import Power
from furlough.errors import Refused, Unreachable
from tests.conformance.hypervisors import DATASTORE, H1, H2, NOBODY, OPTIONS, Ground
from tests.conformance.stories import (
    ENDED,
    check_at_home,
    check_moved,
    refusal,
    story,
)

pytestmark = pytest.mark.timeout(300)


# --- looking --------------------------------------------------------------------------------------


@story
async def test_a_host_tells_what_it_is_and_which_vms_it_has(ground: Ground) -> None:
    first, second = await ground.hypervisor.observe(H1), await ground.hypervisor.observe(H2)
    assert (first.host, second.host) == (H1, H2)
    assert first.uuid != second.uuid
    assert first.at.utcoffset() is not None
    assert first.cpus > 0
    assert first.memory_mib > 0
    assert "vms" in first.networks
    assert first.has_guard
    assert first.marker is None
    assert second.vms == ()
    assert {vm.id for vm in first.vms} == {ground.vm, ground.other}
    for vm in first.vms:
        assert (vm.host, vm.power, vm.is_persistent) == (H1, Power.RUNNING, True)
        assert (vm.vcpus, vm.memory_mib, vm.has_autostart) == (1, OPTIONS.memory_mib, False)
        assert vm.memory_used_mib is not None
        assert vm.memory_used_mib > 0
        assert [disk.datastore for disk in vm.disks] == ["vms"]
        assert [nic.network for nic in vm.nics] == ["vms"]
        assert (vm.devices, vm.busy_with) == ((), "")


@story
async def test_a_vm_that_runs_is_seen_to_run(ground: Ground) -> None:
    look = await ground.look(H1)
    assert (look.presence, look.job, look.has_process) == (Presence.RUNNING, Job.NONE, True)
    assert look.is_persistent
    assert not look.has_autostart


@story
async def test_a_vm_that_its_user_paused_is_seen_paused(ground: Ground) -> None:
    await ground.hypervisor.suspend(H1, ground.vm)
    look = await ground.look(H1)
    assert (look.presence, look.why, look.has_process) == (Presence.PAUSED, Why.USER, True)
    facts = await ground.hypervisor.observe(H1)
    assert {vm.id: vm.power for vm in facts.vms}[ground.vm] is Power.PAUSED


@story
async def test_a_vm_that_is_off_is_seen_off_and_has_no_process(ground: Ground) -> None:
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    look = await ground.look(H1)
    assert (look.presence, look.why) == (Presence.SHUT_OFF, Why.DESTROYED)
    assert not look.has_process
    assert look.is_persistent


@story
async def test_a_vm_that_nobody_has_is_absent_and_not_silent(ground: Ground) -> None:
    look = await ground.look(H1, NOBODY)
    assert (look.presence, look.has_process, look.is_persistent) == (Presence.ABSENT, False, False)


@story
async def test_an_occupied_host_names_its_vms_and_their_processes(ground: Ground) -> None:
    occupied = await ground.hypervisor.occupancy(H1)
    assert {vm.id for vm in occupied.active} == {ground.vm, ground.other}
    assert len(occupied.processes) == 2
    assert occupied.provisioning == ()
    assert not occupied.is_empty
    empty = await ground.hypervisor.occupancy(H2)
    assert empty.is_empty


@story
async def test_a_vm_that_is_off_does_not_occupy_its_host(ground: Ground) -> None:
    for vm in (ground.vm, ground.other):
        await ground.hypervisor.power_off(H1, vm, ground.epoch)
    assert (await ground.hypervisor.occupancy(H1)).is_empty


# --- migrating ------------------------------------------------------------------------------------


@story
async def test_a_vm_moves_and_its_definition_with_it(ground: Ground) -> None:
    report = await ground.hypervisor.migrate_live(ground.order())
    await check_moved(ground)
    assert (await ground.look(H2)).why is Why.MIGRATED
    assert report.sent_mib is not None
    assert report.sent_mib > 0
    assert report.downtime_ms is not None
    assert 0 < report.downtime_ms < 10_000
    assert report.stopped_at is not None


@pytest.mark.slow_lab
@story
async def test_a_vm_may_go_back_and_forth(ground: Ground) -> None:
    order = ground.order()
    await ground.hypervisor.migrate_live(order)
    back = type(order)(**{**vars(order), "source": H2, "target": H1})
    await ground.hypervisor.migrate_live(back)
    await check_at_home(ground)


@story
async def test_a_definition_that_is_not_carried_stays_behind(ground: Ground) -> None:
    """2.12: it can be started again there, which is why we always carry it."""
    await ground.hypervisor.migrate_live(ground.order(carries_definition=False))
    here, there = await ground.look(H1), await ground.look(H2)
    assert (here.presence, here.why) == (Presence.SHUT_OFF, Why.MIGRATED)
    assert here.is_persistent
    assert not here.has_process
    assert (there.presence, there.is_persistent) == (Presence.RUNNING, False)


@story
async def test_a_vm_without_definition_leaves_nothing_behind(ground: Ground) -> None:
    ground.make_transient()
    await ground.hypervisor.migrate_live(ground.order(carries_definition=False))
    assert (await ground.look(H1)).presence is Presence.ABSENT
    there = await ground.look(H2)
    assert (there.presence, there.is_persistent) == (Presence.RUNNING, False)


@story
async def test_a_held_handover_starts_no_cpu_before_we_say_so(ground: Ground) -> None:
    report = await ground.hypervisor.migrate_live(ground.order(handover=Handover.HELD))
    await check_moved(ground, Presence.PAUSED)
    assert (await ground.look(H2)).why is Why.USER
    assert report.stopped_at is not None
    assert report.stopped_at <= ground.clock.monotonic()
    await ground.hypervisor.resume(H2, ground.vm, ground.epoch)
    await check_moved(ground)


@story
async def test_f079_a_paused_vm_moves_and_stays_paused(ground: Ground) -> None:
    await ground.hypervisor.suspend(H1, ground.vm)
    await ground.hypervisor.migrate_live(ground.order())
    await check_moved(ground, Presence.PAUSED)
    assert (await ground.look(H2)).why is Why.USER


@story
async def test_a_migration_under_way_is_seen_from_both_sides(ground: Ground) -> None:
    async with ground.migrating(ground.order()):
        here, there = await ground.look(H1), await ground.look(H2)
        assert (here.presence, here.job) == (Presence.RUNNING, Job.OUTGOING), str(here)
        assert (there.presence, there.job) == (Presence.PAUSED, Job.INCOMING), str(there)
        assert there.has_process
        assert not there.is_persistent
        progress = await ground.hypervisor.progress(H1, ground.vm)
        assert progress is not None
        assert 0 < progress.remaining_mib <= progress.total_mib
        assert progress.rounds >= 1
        busy = {vm.id: vm.busy_with for vm in (await ground.hypervisor.observe(H1)).vms}
        assert busy[ground.vm] != ""
        assert busy[ground.other] == ""
        arriving = await ground.hypervisor.occupancy(H2)
        assert arriving.provisioning != ()
        assert not arriving.is_empty


@story
async def test_where_nothing_migrates_there_is_no_progress(ground: Ground) -> None:
    assert await ground.hypervisor.progress(H1, ground.vm) is None
    assert await ground.hypervisor.progress(H1, NOBODY) is None
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    assert await ground.hypervisor.progress(H1, ground.vm) is None


@story
async def test_a_migration_that_is_aborted_leaves_the_vm_at_home(ground: Ground) -> None:
    async with ground.migrating(ground.order()) as call:
        await ground.hypervisor.abort(H1, ground.vm)
        with refusal(*ENDED):
            await call
        await check_at_home(ground)
        assert await ground.hypervisor.progress(H1, ground.vm) is None
    await ground.hypervisor.migrate_live(ground.order())
    await check_moved(ground)


@story
async def test_there_is_nothing_to_abort_where_nothing_migrates(ground: Ground) -> None:
    with refusal("hypervisor.failed"):
        await ground.hypervisor.abort(H1, ground.vm)
    with refusal("vm.changed"):
        await ground.hypervisor.abort(H1, NOBODY)
    await check_at_home(ground)


@pytest.mark.slow_lab
@story
async def test_a_migration_is_not_aborted_from_its_target(ground: Ground) -> None:
    async with ground.migrating(ground.order()):
        with pytest.raises(Refused):
            await ground.hypervisor.abort(H2, ground.vm)
        assert await ground.hypervisor.progress(H1, ground.vm) is not None


@story
async def test_a_migration_goes_on_when_its_caller_is_gone(ground: Ground) -> None:
    async with ground.migrating(ground.order()) as call:
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await ground.look(H1)).job is Job.OUTGOING
        ground.speed_up(H1)

        async def arrived() -> bool:
            return (await ground.look(H1)).presence is Presence.ABSENT

        await ground.until(arrived, "the VM to leave")
        await check_moved(ground)


@story
async def test_a_vm_that_is_not_there_cannot_be_moved(ground: Ground) -> None:
    order = ground.order()
    with refusal("vm.changed"):
        await ground.hypervisor.migrate_live(type(order)(**{**vars(order), "vm": NOBODY}))


@story
async def test_a_vm_that_is_off_cannot_be_moved_live(ground: Ground) -> None:
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.migrate_live(ground.order())
    await check_at_home(ground, Presence.SHUT_OFF)


@story
async def test_a_vm_that_the_target_runs_already_is_not_sent_there(ground: Ground) -> None:
    """2.12: its definition stayed behind, and somebody started that."""
    await ground.hypervisor.migrate_live(ground.order(carries_definition=False))
    await ground.hypervisor.start(H1, ground.vm)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.migrate_live(ground.order())
    assert (await ground.look(H1)).presence is Presence.RUNNING
    assert (await ground.look(H2)).presence is Presence.RUNNING


@story
async def test_f089_a_vm_that_is_moving_is_not_moved_a_second_time(ground: Ground) -> None:
    async with ground.migrating(ground.order()):
        with refusal("hypervisor.failed"):
            await ground.hypervisor.migrate_live(ground.order())
        assert await ground.hypervisor.progress(H1, ground.vm) is not None


@story
async def test_f077_a_vm_that_is_powered_off_on_the_way_has_not_moved(ground: Ground) -> None:
    async with ground.migrating(ground.order()) as call:
        await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
        with refusal(*ENDED):
            await call

        async def is_gone() -> bool:
            return (await ground.look(H2)).presence is Presence.ABSENT

        await ground.until(is_gone, "the target to throw away what it has")
        await check_at_home(ground, Presence.SHUT_OFF)


@story
async def test_a_copy_that_is_ended_on_the_target_leaves_the_vm_at_home(ground: Ground) -> None:
    async with ground.migrating(ground.order()) as call:
        await ground.hypervisor.power_off(H2, ground.vm, ground.epoch)
        # The last one is the target's answer about its copy, and says nothing of the source's.
        with refusal(*ENDED, "vm.changed"):
            await call
        await check_at_home(ground)


@story
async def test_a_vm_that_is_paused_on_the_way_runs_when_it_has_arrived(ground: Ground) -> None:
    """What it was at the begin counts; a pause in between is undone."""
    async with ground.migrating(ground.order()) as call:
        await ground.hypervisor.suspend(H1, ground.vm)
        look = await ground.look(H1)
        assert (look.presence, look.why) == (Presence.PAUSED, Why.MIGRATION)
        ground.speed_up(H1)
        await call
        await check_moved(ground)


@story
async def test_a_vm_that_is_paused_on_the_way_runs_again_after_an_abort(ground: Ground) -> None:
    async with ground.migrating(ground.order()) as call:
        await ground.hypervisor.suspend(H1, ground.vm)
        await ground.hypervisor.abort(H1, ground.vm)
        with refusal(*ENDED):
            await call
        await check_at_home(ground)
        assert (await ground.look(H1)).why is Why.MIGRATION_CANCELED


@story
async def test_a_target_without_daemon_leaves_the_vm_at_home(ground: Ground) -> None:
    ground.kill_daemon(H2)
    with pytest.raises(Unreachable):
        await ground.hypervisor.migrate_live(ground.order())
    ground.revive_daemon(H2)
    await check_at_home(ground)


# --- what a migration does not carry --------------------------------------------------------------


@story
async def test_autostart_is_lost_on_the_way_and_set_again_by_us(ground: Ground) -> None:
    await ground.hypervisor.set_autostart(H1, ground.vm, on=True)
    assert (await ground.look(H1)).has_autostart
    facts = await ground.hypervisor.observe(H1)
    assert {vm.id: vm.has_autostart for vm in facts.vms}[ground.vm]
    await ground.hypervisor.migrate_live(ground.order())
    assert not (await ground.look(H2)).has_autostart
    await ground.hypervisor.set_autostart(H2, ground.vm, on=True)
    assert (await ground.look(H2)).has_autostart
    await ground.hypervisor.set_autostart(H2, ground.vm, on=False)
    assert not (await ground.look(H2)).has_autostart


@story
async def test_a_vm_without_definition_has_none_to_change(ground: Ground) -> None:
    ground.make_transient()
    with refusal("hypervisor.failed"):
        await ground.hypervisor.set_autostart(H1, ground.vm, on=True)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.undefine(H1, ground.vm, ground.epoch)
    assert not (await ground.look(H1)).has_autostart
    with refusal("vm.changed"):
        await ground.hypervisor.set_autostart(H1, NOBODY, on=True)


# --- power ----------------------------------------------------------------------------------------


@story
async def test_a_vm_that_is_off_starts_once(ground: Ground) -> None:
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    await ground.hypervisor.start(H1, ground.vm)
    await check_at_home(ground)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.start(H1, ground.vm)
    await check_at_home(ground)
    with refusal("vm.changed"):
        await ground.hypervisor.start(H1, NOBODY)


@story
async def test_a_vm_is_powered_off_once(ground: Ground) -> None:
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    with refusal("vm.changed"):
        await ground.hypervisor.power_off(H1, NOBODY, ground.epoch)


@story
async def test_f081_a_vm_without_definition_is_gone_when_it_is_off(ground: Ground) -> None:
    ground.make_transient()
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    assert (await ground.look(H1)).presence is Presence.ABSENT


@story
async def test_a_guest_that_is_asked_to_shut_down_does_so_in_its_own_time(ground: Ground) -> None:
    await ground.boot()
    await ground.hypervisor.shut_down(H1, ground.vm)

    async def is_off() -> bool:
        return (await ground.look(H1)).presence is Presence.SHUT_OFF

    await ground.until(is_off, "the guest to shut down")
    look = await ground.look(H1)
    assert (look.why, look.has_process, look.is_persistent) == (Why.SHUTDOWN, False, True)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.shut_down(H1, ground.vm)


@story
async def test_f075_a_guest_that_is_paused_is_not_asked(ground: Ground) -> None:
    await ground.hypervisor.suspend(H1, ground.vm)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.shut_down(H1, ground.vm)
    assert (await ground.look(H1)).presence is Presence.PAUSED


@story
async def test_a_vm_is_suspended_and_resumed(ground: Ground) -> None:
    await ground.hypervisor.suspend(H1, ground.vm)
    await ground.hypervisor.suspend(H1, ground.vm)
    await ground.hypervisor.resume(H1, ground.vm, ground.epoch)
    await check_at_home(ground)
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.suspend(H1, ground.vm)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.resume(H1, ground.vm, ground.epoch)


@story
async def test_who_runs_already_need_not_be_resumed(ground: Ground) -> None:
    with refusal("hypervisor.failed"):
        await ground.hypervisor.resume(H1, ground.vm, ground.epoch)
    await check_at_home(ground)


@story
async def test_a_definition_is_removed_and_the_vm_that_runs_runs_on(ground: Ground) -> None:
    await ground.hypervisor.undefine(H1, ground.vm, ground.epoch)
    look = await ground.look(H1)
    assert (look.presence, look.is_persistent) == (Presence.RUNNING, False)
    await ground.hypervisor.power_off(H1, ground.other, ground.epoch)
    await ground.hypervisor.undefine(H1, ground.other, ground.epoch)
    assert (await ground.look(H1, ground.other)).presence is Presence.ABSENT
    with refusal("vm.changed"):
        await ground.hypervisor.undefine(H1, ground.other, ground.epoch)


# --- the guard ------------------------------------------------------------------------------------


@story
async def test_a_guarded_target_refuses_and_the_vm_stays(ground: Ground) -> None:
    await ground.hypervisor.raise_guard(H2, ground.marker())
    with refusal("target.refused"):
        await ground.hypervisor.migrate_live(ground.order())
    await check_at_home(ground)
    assert (await ground.hypervisor.occupancy(H2)).is_empty
    await ground.hypervisor.lower_guard(H2, ground.marker())
    await ground.hypervisor.migrate_live(ground.order())
    await check_moved(ground)


@story
async def test_a_guarded_target_admits_whom_its_marker_lists(ground: Ground) -> None:
    await ground.hypervisor.raise_guard(H2, ground.marker(ground.vm))
    await ground.hypervisor.migrate_live(ground.order())
    await check_moved(ground)
    order = ground.order()
    with refusal("target.refused"):
        await ground.hypervisor.migrate_live(type(order)(**{**vars(order), "vm": ground.other}))


@story
async def test_on_a_guarded_host_nothing_starts_and_what_runs_runs_on(ground: Ground) -> None:
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    await ground.hypervisor.raise_guard(H1, ground.marker())
    with refusal("target.refused"):
        await ground.hypervisor.start(H1, ground.vm)
    look = await ground.look(H1)
    assert (look.presence, look.has_process) == (Presence.SHUT_OFF, False)
    assert (await ground.look(H1, ground.other)).presence is Presence.RUNNING
    await ground.hypervisor.raise_guard(H1, ground.marker(ground.vm))
    await ground.hypervisor.start(H1, ground.vm)
    await check_at_home(ground)


@story
async def test_a_guarded_host_lets_its_vms_leave(ground: Ground) -> None:
    await ground.hypervisor.raise_guard(H1, ground.marker())
    await ground.hypervisor.migrate_live(ground.order())
    await check_moved(ground)


@story
async def test_the_marker_is_seen_on_the_host_as_it_was_given(ground: Ground) -> None:
    marker = ground.marker(ground.vm)
    await ground.hypervisor.raise_guard(H2, marker)
    await ground.hypervisor.raise_guard(H2, marker)
    assert (await ground.hypervisor.observe(H2)).marker == marker
    assert (await ground.hypervisor.occupancy(H2)).marker == marker
    assert (await ground.hypervisor.observe(H1)).marker is None
    await ground.hypervisor.lower_guard(H2, marker)
    await ground.hypervisor.lower_guard(H2, marker)
    assert (await ground.hypervisor.observe(H2)).marker is None


@story
async def test_f012_a_guard_is_closed_to_a_controller_that_was_overtaken(ground: Ground) -> None:
    await ground.hypervisor.raise_guard(H2, ground.marker(epoch=8))
    with refusal("guard.refused"):
        await ground.hypervisor.raise_guard(H2, ground.marker(ground.vm, epoch=7))
    with refusal("guard.refused"):
        await ground.hypervisor.lower_guard(H2, ground.marker(epoch=7))
    assert (await ground.hypervisor.observe(H2)).marker == ground.marker(epoch=8)
    await ground.hypervisor.lower_guard(H2, ground.marker(epoch=9))
    with refusal("guard.refused"):
        await ground.hypervisor.raise_guard(H2, ground.marker(epoch=8))


@story
async def test_f025_a_guard_is_closed_to_another_controller(ground: Ground) -> None:
    await ground.hypervisor.raise_guard(H2, ground.marker(epoch=8))
    foreign = ground.marker(epoch=99, controller="another")
    with refusal("guard.refused"):
        await ground.hypervisor.raise_guard(H2, foreign)
    with refusal("guard.refused"):
        await ground.hypervisor.lower_guard(H2, foreign)
    await ground.hypervisor.lower_guard(H2, ground.marker(epoch=8))


@story
async def test_f012_a_vm_is_closed_to_a_controller_that_was_overtaken(ground: Ground) -> None:
    hypervisor, vm = ground.hypervisor, ground.vm
    await hypervisor.suspend(H1, vm)
    await hypervisor.resume(H1, vm, 8)
    await hypervisor.suspend(H1, vm)
    for act in (hypervisor.resume, hypervisor.power_off, hypervisor.undefine):
        with refusal("guard.refused"):
            await act(H1, vm, 7)
    await check_at_home(ground, Presence.PAUSED)
    # About another VM it may still be the one who decides.
    await hypervisor.power_off(H1, ground.other, 7)
    await hypervisor.resume(H1, vm, 8)
    await check_at_home(ground)


# --- silence --------------------------------------------------------------------------------------


@story
async def test_f035_a_host_whose_daemon_is_dead_is_silent_and_nothing_is_known_of_it(
    ground: Ground,
) -> None:
    await ground.look(H1)
    ground.kill_daemon(H1)
    hypervisor, vm, epoch = ground.hypervisor, ground.vm, ground.epoch
    assert (await ground.look(H1)).presence is Presence.SILENT
    assert (await ground.look(H1, NOBODY)).presence is Presence.SILENT
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: hypervisor.observe(H1),
        lambda: hypervisor.occupancy(H1),
        lambda: hypervisor.progress(H1, vm),
        lambda: hypervisor.migrate_live(ground.order()),
        lambda: hypervisor.abort(H1, vm),
        lambda: hypervisor.start(H1, vm),
        lambda: hypervisor.shut_down(H1, vm),
        lambda: hypervisor.power_off(H1, vm, epoch),
        lambda: hypervisor.suspend(H1, vm),
        lambda: hypervisor.resume(H1, vm, epoch),
        lambda: hypervisor.undefine(H1, vm, epoch),
        lambda: hypervisor.set_autostart(H1, vm, on=True),
        lambda: hypervisor.save(H1, vm),
        lambda: hypervisor.set_policy(H1, vm, (("ha", "true"),)),
        lambda: hypervisor.change_medium(H1, vm, "hdc", ""),
    ]
    for call in calls:
        with pytest.raises(Unreachable):
            await call()
    assert (await ground.look(H2)).presence is Presence.ABSENT
    ground.revive_daemon(H1)
    await check_at_home(ground)


@pytest.mark.slow_lab
@story
async def test_f040_a_daemon_that_never_answers_is_silent_within_our_own_deadline(
    ground: Ground,
) -> None:
    await ground.look(H1)
    ground.freeze_daemon(H1)
    began = ground.clock.monotonic()
    looks = await asyncio.gather(ground.look(H1), ground.look(H1, NOBODY), ground.look(H2))
    assert [look.presence for look in looks] == [Presence.SILENT, Presence.SILENT, Presence.ABSENT]
    assert ground.clock.monotonic() - began < 25
    ground.revive_daemon(H1)
    await check_at_home(ground)


@story
async def test_f036_when_the_sources_daemon_dies_in_pre_copy_the_vm_is_at_home(
    ground: Ground,
) -> None:
    async with ground.migrating(ground.order()) as call:
        ground.kill_daemon(H1)
        with pytest.raises(Unreachable):
            await call
        assert (await ground.look(H1)).presence is Presence.SILENT
        ground.revive_daemon(H1)

        async def settled() -> bool:
            here, there = await ground.look(H1), await ground.look(H2)
            return here.job is Job.NONE and there.presence is Presence.ABSENT

        await ground.until(settled, "the daemon to cancel what it finds")
        await check_at_home(ground)


@story
async def test_f038_when_the_targets_daemon_dies_in_pre_copy_a_process_is_left_for_a_while(
    ground: Ground,
) -> None:
    async with ground.migrating(ground.order()) as call:
        ground.kill_daemon(H2)
        with pytest.raises(Unreachable):
            await call
        here = await ground.look(H1)
        assert (here.presence, here.job) == (Presence.RUNNING, Job.NONE)
        assert (await ground.look(H2)).presence is Presence.SILENT
        ground.revive_daemon(H2)

        async def is_empty() -> bool:
            return (await ground.hypervisor.occupancy(H2)).is_empty

        await ground.until(is_empty, "the process to be killed")
        await check_at_home(ground)


# --- storage --------------------------------------------------------------------------------------


@story
async def test_servers_of_network_disks_cannot_be_proven(ground: Ground) -> None:
    proof = await ground.hypervisor.prove_storage(DATASTORE, [H1, H2])
    assert not proof.is_locked
    assert proof.because != ""
