"""Reboot and power off of a host in maintenance. Numbers are those of the fault catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from furlough.core.admission import Terms
from furlough.core.ids import OperationId
from furlough.core.journal import Event, StepActed
from furlough.core.looks import Presence
from furlough.core.operation import Act, Operation
from furlough.core.plan import OperationKind
from furlough.core.policy import ActionOptions, CancelMode, ExitOptions
from furlough.core.states import HostMode, OperationState, Reachability
from furlough.errors import Refused
from furlough.ports import Clock, Marker
from furlough.scenario.invariants import Invariants
from furlough.scenario.stage import REQUEST, Setting, Stage, open_stage, plain_vm, vm_id
from furlough.sim.clock import run_virtually
from furlough.sim.faults import Odds
from furlough.store.sql import SqlStore
from tests.engine.stories import (
    CANCELLED,
    FAILED,
    H1,
    H2,
    SUCCEEDED,
    entered,
    exited,
    mode_of,
    story,
)

REBOOT, POWER_OFF = OperationKind.REBOOT_HOST, OperationKind.POWER_OFF_HOST


async def _served(stage: Stage, vms: int = 1) -> None:
    """h1 is in maintenance."""
    for number in range(1, vms + 1):
        stage.add_vm(1, number)
    await stage.start_controller()
    assert (await entered(stage)).state is SUCCEEDED


async def _ask(stage: Stage, kind: OperationKind = REBOOT) -> OperationId:
    accepted = await stage.service.change_host_power(kind, H1, ActionOptions(), REQUEST)
    return accepted.id


async def _refused(stage: Stage, kind: OperationKind = REBOOT) -> Refused:
    with pytest.raises(Refused) as refusal:
        await _ask(stage, kind)
    assert refusal.value.remedy
    return refusal.value


def _boots(stage: Stage) -> int:
    return stage.cluster.hosts[H1].boots


def _put_intruder(stage: Stage) -> None:
    """Somebody starts a VM on h1 without the hypervisor, past every hook."""
    stage.cluster.put(H1, plain_vm(9))


def _told(stage: Stage) -> None:
    """The stage sees S3 broken as well, by its own truth; that is what these stories are about."""
    assert all(" S3" in one for one in stage.invariants.violations)
    stage.invariants.violations.clear()


# --- reboot --------------------------------------------------------------------------------------


@story()
async def test_f053_a_reboot_keeps_the_maintenance_and_is_looked_at_afterwards(
    stage: Stage,
) -> None:
    await _served(stage)
    operation = await _ask(stage)
    waits = await stage.until_still(operation)
    assert (waits.state, waits.code) == (OperationState.BLOCKED, "host.rebooting")
    assert waits.waiting_for is not None
    assert "h1" in waits.waiting_for
    final = await stage.until_final(operation)
    await stage.invariants.check_final(operation)
    assert (final.state, final.code) == (SUCCEEDED, None)
    assert _boots(stage) == 2
    assert await mode_of(stage) is HostMode.MAINTENANCE
    meaning = final.steps[-1].evidence.meaning
    for word in ("h1-boot-1 before", "h1-boot-2 now", f"marker of {operation}", "hook refused"):
        assert word in meaning
    marker = stage.cluster.hosts[H1].marker
    assert marker is not None
    assert (marker.operation, marker.admit) == (operation, ())
    assert (await exited(stage)).state is SUCCEEDED
    assert stage.cluster.running_on(vm_id(1)) == [H1]


@story()
async def test_the_intent_names_the_boot_that_is_to_end(stage: Stage) -> None:
    await _served(stage)
    final = await stage.until_final(await _ask(stage))
    (attempt,) = final.steps[-1].attempts
    assert (attempt.boot_id, attempt.acts) == ("h1-boot-1", (Act.REBOOT_HOST,))


@story()
async def test_f118_what_has_autostart_does_not_start_after_a_reboot(stage: Stage) -> None:
    stage.add_vm(1, 7, presence=Presence.SHUT_OFF, has_process=False, has_autostart=True)
    await _served(stage)
    final = await stage.until_final(await _ask(stage))
    assert final.state is SUCCEEDED
    assert stage.cluster.running_on(vm_id(7)) == []


@story()
async def test_f053_a_host_that_does_not_come_back_is_named_and_taken_in_when_it_does(
    stage: Stage,
) -> None:
    await _served(stage)
    operation = await _ask(stage)
    await stage.clock.sleep(5)
    stage.cluster.hosts[H1].is_reachable = False
    await stage.clock.sleep(16 * 60)
    waits = await stage.store.operation(operation)
    assert (waits.state, waits.code) == (OperationState.BLOCKED, "host.silent")
    assert "h1: it has not come back within 15 min" in (waits.waiting_for or "")
    stage.cluster.hosts[H1].is_reachable = True
    assert (await stage.until_final(operation)).state is SUCCEEDED


@story(lambda: Setting(seed=7))
async def test_a_reboot_that_never_reached_the_host_fails_and_is_not_repeated(
    stage: Stage,
) -> None:
    await _served(stage)
    stage.faults.odds = Odds(lost_request=0.5)  # The marker gets through in the end.
    final = await stage.until_final(await _ask(stage))
    assert stage.faults.fired["lost_request"] >= 1
    assert (final.state, final.code) == (FAILED, "host.not_rebooted")
    assert len(final.steps[-1].attempts) == 1
    assert _boots(stage) == 1
    assert await mode_of(stage) is HostMode.MAINTENANCE


@story(lambda: Setting(odds=Odds(lost_reply=1.0)))
async def test_a_reboot_whose_answer_was_lost_is_seen_all_the_same(stage: Stage) -> None:
    await _served(stage)
    final = await stage.until_final(await _ask(stage))
    assert final.state is SUCCEEDED
    assert _boots(stage) == 2


@pytest.mark.parametrize("act", ["reboot", "power_off_host"])
def test_our_process_dies_at_any_moment_of_it_and_the_host_is_told_at_most_once(act: str) -> None:
    kind = REBOOT if act == "reboot" else POWER_OFF
    final, moments = run_virtually(_played(kind, None))
    assert final.state is SUCCEEDED
    code = "host.not_rebooted" if kind is REBOOT else "host.still_on"
    failed = 0
    for moment in range(1, moments + 1):
        final, _ = run_virtually(_played(kind, moment))
        ended = (final.state, final.code)
        assert ended in ((SUCCEEDED, None), (FAILED, code)), f"moment {moment}: {ended}"
        failed += final.state is FAILED
    # Dead between writing the command down and giving it: it is not given again, a person is told.
    assert failed == 2


async def _played(kind: OperationKind, kill_at: int | None) -> tuple[Operation, int]:
    """A power command whose controller dies at this moment; how many moments there were."""
    async with open_stage(Setting()) as stage:
        await _served(stage)
        await stage.stop_controller()
        await stage.start_controller()
        operation = await _ask(stage, kind)
        stage.process.moments, stage.process.kill_at = 0, kill_at
        final = await stage.until_final(operation)
        machine = stage.cluster.hosts[H1]
        done = final.state is SUCCEEDED
        assert machine.boots == (2 if kind is REBOOT and done else 1)
        assert machine.is_up is (kind is REBOOT or not done)
        assert await mode_of(stage) is HostMode.MAINTENANCE
        assert stage.invariants.violations == []
        await stage.invariants.check_final(operation)
        return final, stage.process.moments


@story()
async def test_a_host_whose_furlough_host_is_late_is_waited_for(stage: Stage) -> None:
    await _served(stage)
    operation = await _ask(stage)
    await stage.clock.sleep(10)
    stage.cluster.hosts[H1].has_guard = False
    await stage.clock.sleep(10 * 60)
    waits = await stage.store.operation(operation)
    assert (waits.state, waits.code) == (OperationState.BLOCKED, "host.rebooting")
    stage.cluster.hosts[H1].has_guard = True
    assert (await stage.until_final(operation)).state is SUCCEEDED


@story()
async def test_f113_a_hook_that_is_gone_after_the_reboot_fails_it_with_the_remedy(
    stage: Stage,
) -> None:
    await _served(stage)
    operation = await _ask(stage)
    await stage.clock.sleep(10)
    stage.cluster.hosts[H1].has_hook = False
    final = await stage.until_final(operation)
    assert (final.state, final.code) == (FAILED, "guard.unproven")
    failure = final.steps[-1].failure
    assert failure is not None
    assert "furlough host prepare h1" in failure.remedy
    assert await mode_of(stage) is HostMode.MAINTENANCE


@story()
async def test_a_marker_that_is_gone_after_the_reboot_fails_it(stage: Stage) -> None:
    await _served(stage)
    operation = await _ask(stage)
    await stage.clock.sleep(10)
    stage.cluster.hosts[H1].marker = None
    final = await stage.until_final(operation)
    assert (final.state, final.code) == (FAILED, "guard.missing")


@story()
async def test_f086_what_runs_after_the_reboot_is_waited_for_by_name(stage: Stage) -> None:
    await _served(stage)
    operation = await _ask(stage)
    await stage.clock.sleep(20)
    assert not stage.cluster.hosts[H1].is_up
    _put_intruder(stage)
    await stage.clock.sleep(60)
    waits = await stage.store.operation(operation)
    assert (waits.state, waits.code) == (OperationState.BLOCKED, "host.not_empty")
    assert "VM vm9 is running" in (waits.waiting_for or "")
    stage.cluster.remove(H1, vm_id(9))
    assert (await stage.until_final(operation)).state is SUCCEEDED
    _told(stage)


@story()
async def test_cancel_during_a_reboot_ends_it_soon_and_says_what_cannot_be_undone(
    stage: Stage,
) -> None:
    await _served(stage)
    operation = await _ask(stage)
    await stage.clock.sleep(10)
    await stage.service.cancel(operation, CancelMode.STOP, "ann")
    final = await stage.until_final(operation, limit_s=90)
    assert final.state is CANCELLED
    assert final.steps[-1].failure is not None
    assert "obeys all the same" in final.steps[-1].failure.message
    assert await mode_of(stage) is HostMode.MAINTENANCE


# --- power off -----------------------------------------------------------------------------------


@story()
async def test_a_host_that_was_switched_off_stays_in_maintenance_and_silent(stage: Stage) -> None:
    await _served(stage)
    final = await stage.until_final(await _ask(stage, POWER_OFF))
    assert final.state is SUCCEEDED
    assert "silent for 15 s" in final.steps[-1].evidence.meaning
    assert not stage.cluster.hosts[H1].is_up
    host = (await stage.service.inventory()).host(H1)
    assert (host.mode, host.reachability) == (HostMode.MAINTENANCE, Reachability.SILENT)
    with pytest.raises(Refused) as refusal:
        await stage.service.exit([H1], ExitOptions(), REQUEST)
    assert refusal.value.code == "host.silent"
    stage.cluster.boot(H1)
    assert (await exited(stage)).state is SUCCEEDED


@story()
async def test_a_host_that_comes_back_at_once_was_off_all_the_same(stage: Stage) -> None:
    await _served(stage)
    operation = await _ask(stage, POWER_OFF)
    while stage.cluster.hosts[H1].is_up:
        await stage.clock.sleep(0.5)
    stage.cluster.boot(H1)
    final = await stage.until_final(operation)
    assert final.state is SUCCEEDED
    assert "another boot" in final.steps[-1].evidence.meaning


# --- what forbids it -----------------------------------------------------------------------------


@story()
async def test_s13_outside_of_maintenance_no_host_is_rebooted(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    for kind in (REBOOT, POWER_OFF):
        refusal = await _refused(stage, kind)
        assert refusal.code == "host.not_in_maintenance"
    assert _boots(stage) == 1


@story()
async def test_f086_a_violated_maintenance_forbids_power_commands(stage: Stage) -> None:
    await _served(stage)
    _put_intruder(stage)
    await stage.clock.sleep(30)
    for kind in (REBOOT, POWER_OFF):
        refusal = await _refused(stage, kind)
        assert refusal.code == "maintenance.violated"
        assert "VM vm9" in refusal.message
    stage.cluster.remove(H1, vm_id(9))
    await stage.clock.sleep(30)
    assert (await stage.until_final(await _ask(stage))).state is SUCCEEDED
    _told(stage)


@story()
async def test_s13_what_appeared_a_moment_ago_is_seen_by_the_last_look(stage: Stage) -> None:
    await _served(stage)
    operation = await _ask(stage)
    _put_intruder(stage)
    final = await stage.until_final(operation)
    assert (final.state, final.code) == (FAILED, "maintenance.violated")
    assert _boots(stage) == 1
    _told(stage)


class Slow:
    """A store that takes 15 s to say that it has kept the intent of an effect."""

    def __init__(self, store: SqlStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(
        self, operation: Operation, events: Sequence[Event], terms: Terms | None = None
    ) -> Operation:
        kept = await self._store.append(operation, events, terms)
        if any(isinstance(event, StepActed) for event in events):
            await self._clock.sleep(15)
        return kept


@story()
async def test_s13_a_look_that_has_grown_old_is_taken_again(stage: Stage) -> None:
    await _served(stage)
    await stage.stop_controller()
    stage.store = cast("SqlStore", Slow(stage.store, stage.clock))
    stage.invariants = Invariants(stage.cluster, stage.store)
    await stage.start_controller()
    operation = await _ask(stage)
    while not (await stage.store.operation(operation)).steps[-1].acts:
        await stage.clock.sleep(0.1)
    stage.cluster.hosts[H1].provisioning.append("image: an upload that has just begun")
    final = await stage.until_final(operation)
    assert (final.state, final.code) == (FAILED, "maintenance.violated")
    assert _boots(stage) == 1


@story()
async def test_s13_a_disk_that_is_being_written_forbids_it_too(stage: Stage) -> None:
    await _served(stage)
    stage.cluster.hosts[H1].provisioning.append("image: an upload")
    final = await stage.until_final(await _ask(stage))
    assert (final.state, final.code) == (FAILED, "maintenance.violated")
    assert _boots(stage) == 1


@story()
async def test_sec29_one_power_command_a_minute(stage: Stage) -> None:
    await _served(stage)
    assert (await stage.until_final(await _ask(stage))).state is SUCCEEDED
    refusal = await _refused(stage, POWER_OFF)
    assert refusal.code == "host.power_rate"
    await stage.clock.sleep(60)
    assert (await stage.until_final(await _ask(stage, POWER_OFF))).state is SUCCEEDED


@story()
async def test_s5_the_host_obeys_nobody_who_was_overtaken(stage: Stage) -> None:
    await _served(stage)
    marker = stage.cluster.hosts[H1].marker
    assert marker is not None
    stage.cluster.hosts[H1].epoch = marker.epoch + 100
    final = await stage.until_final(await _ask(stage))
    assert (final.state, final.code) == (FAILED, "guard.refused")
    assert _boots(stage) == 1


@story()
async def test_a_foreign_marker_forbids_it(stage: Stage) -> None:
    await _served(stage)
    stage.cluster.hosts[H1].marker = Marker(
        operation=OperationId("op-1"), epoch=1, controller="somebody-else"
    )
    await stage.clock.sleep(30)
    assert (await _refused(stage)).code == "maintenance.violated"


@story()
async def test_a_reboot_of_one_host_disturbs_no_other(stage: Stage) -> None:
    stage.add_vm(2, 2)
    await _served(stage)
    await stage.until_final(await _ask(stage))
    assert stage.cluster.running_on(vm_id(2)) == [H2]
