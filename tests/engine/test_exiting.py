"""The way back: who comes home by choice, the record that is kept until everybody has, swaps of
full hosts through a third one, and one more try once room has been made."""

from __future__ import annotations

import pytest

from furlough.core.ids import HostName, VmId
from furlough.core.looks import Why
from furlough.core.plan import Method, OperationKind
from furlough.core.policy import ActionOptions, CancelMode, ClusterPolicy, ExitOptions, RestoreMode
from furlough.core.states import HostMode, OperationState
from furlough.errors import Conflict, Invalid, Refused
from furlough.planning.homecoming import Homecoming
from furlough.scenario.stage import REQUEST, Setting, Stage, host_name, vm_id
from tests.engine.stopping import tie
from tests.engine.stories import (
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
    words,
)

H4 = host_name(4)
SELECTED = RestoreMode.SELECTED


async def _outstanding(stage: Stage) -> list[str]:
    """Who is on record, by name."""
    return sorted(one.name for one in await stage.store.away())


async def _evacuated(stage: Stage, vms: int = 3, host: HostName = H1) -> None:
    """So many VMs, whose host is in maintenance."""
    for number in range(1, vms + 1):
        stage.add_vm(1, number)
    await stage.start_controller()
    assert (await entered(stage, host)).state is SUCCEEDED


# --- restore by choice ---------------------------------------------------------------------------


@story()
async def test_only_the_selected_come_home_and_the_others_stay_on_record(stage: Stage) -> None:
    tie(stage, 4, own_policy=words(on_maintenance="shut_down"))
    await _evacuated(stage)
    final = await exited(stage, restore=SELECTED, live_migrate_back=("vm1", vm_id(3)))
    assert final.state is SUCCEEDED
    assert [hosts_running(stage, number) == [H1] for number in (1, 2, 3, 4)] == [
        True, False, True, False,
    ]  # fmt: skip
    assert await _outstanding(stage) == ["vm2", "vm4"]
    assert "vm2 (it was not selected)" in final.message
    assert "vm4 (it was shut down, and it was not selected; start it by hand" in final.message
    final = await exited(stage, restore=SELECTED, power_on=("vm4",))
    assert final.kind is OperationKind.RESTORE
    assert hosts_running(stage, 4) == [H1]
    assert await _outstanding(stage) == ["vm2"]


@story()
async def test_a_vm_that_is_not_on_record_or_comes_another_way_cannot_be_selected(
    stage: Stage,
) -> None:
    stage.add_vm(2, 9)
    await _evacuated(stage)
    for code, kind, options in (
        ("restore.not_recorded", Refused, ExitOptions(restore=SELECTED, power_on=(VmId("vm9"),))),
        ("restore.other_way", Invalid, ExitOptions(restore=SELECTED, power_on=(VmId("vm1"),))),
        ("restore.lists", Invalid, ExitOptions(live_migrate_back=(VmId("vm1"),))),
    ):
        with pytest.raises(kind) as refusal:
            await stage.service.exit([H1], options, REQUEST)
        assert refusal.value.code == code
        with pytest.raises(kind):
            await stage.service.exit_check([H1], options)
    assert await mode_of(stage) is HostMode.MAINTENANCE


@story()
async def test_what_others_have_done_is_not_undone_even_for_those_who_are_selected(
    stage: Stage,
) -> None:
    await _evacuated(stage, vms=2)
    left_on = hosts_running(stage, 1)[0]
    other = next(host for host in (H2, H3, H4) if host != left_on)
    stage.cluster.hosts[other].copies[vm_id(1)] = stage.cluster.hosts[left_on].copies.pop(vm_id(1))
    check = await stage.service.exit_check(
        [H1], ExitOptions(restore=SELECTED, live_migrate_back=(VmId("vm1"), VmId("vm2")))
    )
    told = {one.away.name: one for one in check.returns}
    assert told["vm1"].homecoming is Homecoming.STAYS
    assert told["vm1"].changed == f"somebody moved it from {left_on} since"
    assert [one.code for one in check.findings] == ["restore.changed"]
    final = await exited(stage, restore=SELECTED, live_migrate_back=("vm1", "vm2"))
    assert final.state is SUCCEEDED
    assert hosts_running(stage, 1) == [other]
    assert await _outstanding(stage) == [], "whom others have moved is none of ours any more"


@story()
async def test_a_vm_whose_owner_wants_it_left_by_now_stays_and_is_kept_on_record(
    stage: Stage,
) -> None:
    await _evacuated(stage, vms=1)
    (left_on,) = hosts_running(stage, 1)
    await stage.service.upkeep.set_policy(vm_id(1), {"on_maintenance": "leave"}, "stage")
    final = await exited(stage)
    assert final.state is SUCCEEDED
    assert hosts_running(stage, 1) == [left_on]
    assert "on_maintenance = leave" in final.message
    assert await _outstanding(stage) == ["vm1"]


# --- the record is kept until it is closed -------------------------------------------------------


@story()
async def test_after_an_exit_that_brought_nobody_home_the_next_one_does(stage: Stage) -> None:
    await _evacuated(stage)
    final = await exited(stage, restore=RestoreMode.NONE)
    assert final.state is SUCCEEDED
    assert await _outstanding(stage) == ["vm1", "vm2", "vm3"]
    kept = await stage.service.record(H1)
    assert [one.name for one in kept.away] == ["vm1", "vm2", "vm3"]
    final = await exited(stage)
    assert (final.kind, final.state) == (OperationKind.RESTORE, SUCCEEDED)
    assert [step.method for step in final.steps] == [Method.LIVE] * 3
    assert all(hosts_running(stage, number) == [H1] for number in (1, 2, 3))
    assert await mode_of(stage) is HostMode.AVAILABLE
    assert await _outstanding(stage) == []
    with pytest.raises(Conflict) as refusal:
        await stage.service.exit([H1], ExitOptions(), REQUEST)
    assert refusal.value.code == "host.mode"


@story()
async def test_f110_the_record_of_a_second_maintenance_holds_who_is_left_of_the_first(
    stage: Stage,
) -> None:
    await _evacuated(stage)
    await exited(stage, restore=SELECTED, live_migrate_back=("vm1",))
    assert (await entered(stage)).state is SUCCEEDED
    assert await _outstanding(stage) == ["vm1", "vm2", "vm3"]
    assert (await exited(stage)).state is SUCCEEDED
    assert all(hosts_running(stage, number) == [H1] for number in (1, 2, 3))


@story()
async def test_a_person_closes_the_record_and_nobody_is_moved(stage: Stage) -> None:
    await _evacuated(stage, vms=2)
    await exited(stage, restore=RestoreMode.NONE)
    before = [hosts_running(stage, number) for number in (1, 2)]
    accepted = await stage.service.close_record(H1, ActionOptions(reason="they stay"), REQUEST)
    final = await stage.until_final(accepted.id)
    assert (final.kind, final.state) == (OperationKind.CLOSE_RECORD, SUCCEEDED)
    assert await _outstanding(stage) == []
    assert [hosts_running(stage, number) for number in (1, 2)] == before
    assert [line.message for line in await stage.service.host_log(H1, 9)][-2:] == [
        "close record requested by stage",
        "succeeded. Off the record: vm1, vm2.",
    ]
    with pytest.raises(Refused) as refusal:
        await stage.service.close_record(H1, ActionOptions(), REQUEST)
    assert refusal.value.code == "vm.changed"


@story()
async def test_the_record_of_a_host_in_maintenance_can_be_closed_too(stage: Stage) -> None:
    await _evacuated(stage, vms=1)
    accepted = await stage.service.close_record(H1, ActionOptions(), REQUEST)
    await stage.until_final(accepted.id)
    assert await mode_of(stage) is HostMode.MAINTENANCE
    final = await exited(stage)
    assert (final.state, await _outstanding(stage)) == (SUCCEEDED, [])
    assert hosts_running(stage, 1) != [H1]


@story()
async def test_a_host_that_is_neither_in_maintenance_nor_in_service_is_not_exited(
    stage: Stage,
) -> None:
    await _evacuated(stage, vms=1)
    await exited(stage, restore=RestoreMode.NONE)
    cordon = await stage.service.cordon(H1, ActionOptions(), REQUEST)
    await stage.until_final(cordon.id)
    with pytest.raises(Conflict, match="is cordoned"):
        await stage.service.exit([H1], ExitOptions(), REQUEST)


@story()
async def test_hosts_in_service_and_hosts_in_maintenance_are_not_mixed(stage: Stage) -> None:
    await _evacuated(stage, vms=1)
    await exited(stage, restore=RestoreMode.NONE)
    stage.add_vm(2, 8)
    await entered(stage, H2, target_hosts=(H3,))
    with pytest.raises(Conflict, match="h1 is in service already"):
        await stage.service.exit([H1, H2], ExitOptions(), REQUEST)


@story()
async def test_a_restore_that_can_bring_nobody_says_why_and_is_no_operation(stage: Stage) -> None:
    await _evacuated(stage, vms=1)
    await exited(stage, restore=RestoreMode.NONE)
    with pytest.raises(Refused, match="vm1: nothing was to be brought home"):
        await stage.service.exit([H1], ExitOptions(restore=RestoreMode.NONE), REQUEST)


# --- F105, F107 ----------------------------------------------------------------------------------


@story()
async def test_f105_an_exit_of_a_silent_host_is_refused_and_the_record_kept(stage: Stage) -> None:
    await _evacuated(stage, vms=1)
    stage.cluster.hosts[H1].is_reachable = False
    check = await stage.service.exit_check([H1], ExitOptions())
    assert check.verdict.value == "blocked"
    assert "host.silent" in {one.code for one in check.findings}
    with pytest.raises(Refused) as refusal:
        await stage.service.exit([H1], ExitOptions(), REQUEST)
    assert refusal.value.code == "host.silent"
    assert refusal.value.remedy
    assert await _outstanding(stage) == ["vm1"]


@story()
async def test_f107_whoever_is_on_a_silent_host_stays_on_record_and_the_others_come(
    stage: Stage,
) -> None:
    await _evacuated(stage, vms=3)
    silent = hosts_running(stage, 1)[0]
    there = {number for number in (1, 2, 3) if hosts_running(stage, number) == [silent]}
    stage.cluster.hosts[silent].is_reachable = False
    final = await exited(stage)
    assert (final.state, final.code) == (FAILED, "restore_incomplete")
    assert "does not answer" in final.message
    stage.cluster.hosts[silent].is_reachable = True
    assert {number for number in (1, 2, 3) if hosts_running(stage, number) != [H1]} == there
    assert (await exited(stage)).state is SUCCEEDED
    assert await _outstanding(stage) == []


# --- room ----------------------------------------------------------------------------------------


def _small() -> Setting:
    """Hosts with room for two VMs; two may be away at once."""
    policy = ClusterPolicy(memory_ceiling=1.0, max_hosts_away=2)
    return Setting(hosts=3, memory_mib=5120, policy=policy)


async def _full_of_each_other(stage: Stage) -> None:
    """h1 and h2 in service, full of each other's VMs: VMs 1 and 2 of h1 are on h2, 3 and 4 of h2
    on h1; h3 has room for two."""
    for host, number in ((1, 1), (1, 2), (2, 3), (2, 4)):
        stage.add_vm(host, number)
    await stage.start_controller()
    assert (await entered(stage, H1, target_hosts=(H3,))).state is SUCCEEDED
    await exited(stage, restore=RestoreMode.NONE)
    assert (await entered(stage, H2, target_hosts=(H1,))).state is SUCCEEDED
    await exited(stage, H2, restore=RestoreMode.NONE)
    assert (await entered(stage, H3, target_hosts=(H2,))).state is SUCCEEDED
    await exited(stage, H3, restore=RestoreMode.NONE)
    assert [hosts_running(stage, number) for number in (1, 2, 3, 4)] == [[H2], [H2], [H1], [H1]]


@story(_small)
async def test_vms_of_two_full_hosts_change_places_by_way_of_a_third(stage: Stage) -> None:
    await _full_of_each_other(stage)
    with pytest.raises(Refused, match="furlough exit h1 h2"):
        await stage.service.exit([H1], ExitOptions(), REQUEST)
    accepted = await stage.service.exit([H1, H2], ExitOptions(), REQUEST)
    final = await stage.until_final(accepted.id)
    await stage.invariants.check_final(final.id)
    assert (final.state, final.message) == (SUCCEEDED, "VMs: 4 moved.")
    assert [hosts_running(stage, number) for number in (1, 2, 3, 4)] == [[H1], [H1], [H2], [H2]]
    assert await _outstanding(stage) == []
    parked = [step for step in final.steps if step.where == H3]
    assert len(parked) == 1, "one that waits on a third host is enough"
    assert {step.planned.vm for step in final.steps} == {vm_id(n) for n in (1, 2, 3, 4)}
    assert all(len(step.attempts) == 1 for step in final.steps), "each began when it had room"


@story(_small)
async def test_who_waits_on_a_third_host_when_the_restore_is_cancelled_is_found_there_later(
    stage: Stage,
) -> None:
    await _full_of_each_other(stage)
    accepted = await stage.service.exit([H1, H2], ExitOptions(), REQUEST)
    while not any(hosts_running(stage, number) == [H3] for number in (1, 2, 3, 4)):
        await stage.clock.sleep(0.05)
    await stage.service.cancel(accepted.id, CancelMode.STOP, "stage")
    final = await stage.until_final(accepted.id)
    assert final.state is OperationState.CANCELLED
    accepted = await stage.service.exit([H1, H2], ExitOptions(), REQUEST)
    final = await stage.until_final(accepted.id)
    assert final.state is SUCCEEDED
    assert [hosts_running(stage, number) for number in (1, 2, 3, 4)] == [[H1], [H1], [H2], [H2]]


@story(_small)
async def test_f106_who_has_no_room_stays_the_others_come_and_it_is_said(stage: Stage) -> None:
    await _evacuated(stage, vms=2)
    await exited(stage, restore=RestoreMode.NONE)
    stage.add_vm(1, 9, memory_mib=2048)
    final = await exited(stage)
    assert (final.state, final.code) == (FAILED, "restore_incomplete")
    assert "room for 512 MiB" in final.message
    assert len(await _outstanding(stage)) == 1


@story(_small)
async def test_room_that_others_make_meanwhile_lets_one_more_come(stage: Stage) -> None:
    await _evacuated(stage, vms=2)
    await exited(stage, restore=RestoreMode.NONE)
    stage.add_vm(1, 9, memory_mib=2048)
    accepted = await stage.service.exit([H1], ExitOptions(), REQUEST)
    assert len(accepted.plan.migrations) == 1
    stage.cluster.stop(H1, vm_id(9), Why.SHUTDOWN)
    final = await stage.until_final(accepted.id)
    await stage.invariants.check_final(final.id)
    assert (final.state, final.message) == (SUCCEEDED, "VMs: 2 moved.")
    assert len(final.steps) == len(accepted.steps) + 1, "the second one was no part of the plan"
    assert await _outstanding(stage) == []
