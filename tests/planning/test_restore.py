"""Bringing VMs home: exactly those of the record, minus what others have changed since (S10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.capacity import Reservation
from furlough.core.ids import HostName, OperationId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.operation import Operation, Step
from furlough.core.plan import Before, Method, OperationKind, Plan, Unplaced
from furlough.core.policy import ExitOptions, RestoreMode
from furlough.core.states import HostMode, Power, StepState
from furlough.core.vm_policy import VmPolicy
from furlough.planning.homecoming import Homecoming, Return
from furlough.planning.record import Away, is_closed_by
from furlough.planning.restore import plan_exit
from tests.core.builders import (
    C2,
    H1,
    H2,
    H3,
    NOW,
    a_cluster,
    a_host,
    a_step,
    a_vm,
    an_inventory,
    an_operation,
    load,
    planned,
    repeatable,
    vm_id,
)

EVACUATION = OperationId("op-3")
MAINTENANCE = HostMode.MAINTENANCE
EVERYBODY = ExitOptions()
RECORDED, MOVED, NONE = RestoreMode.RECORDED, RestoreMode.MOVED, RestoreMode.NONE


def away(number: int, *, home: HostName = H1, left_on: HostName = H2) -> Away:
    """VM `number`, evacuated from its home host."""
    return Away(
        vm=vm_id(number),
        name=f"vm{number}",
        home=home,
        left_on=left_on,
        operation=EVACUATION,
        since=NOW,
        before=Before(power=Power.RUNNING),
    )


def _facts(vms: Sequence[Vm], home: Host | None = None) -> Inventory:
    """These VMs, while h1 is in maintenance."""
    hosts = [home or a_host(H1, mode=MAINTENANCE), a_host(H2), a_host(H3)]
    return an_inventory(vms, hosts=hosts)


def _judged(
    vms: Sequence[Vm], *record: Away, mode: RestoreMode = RECORDED, home: Host | None = None
) -> list[tuple[Homecoming, HostName | None, str]]:
    """What becomes of each VM of the record."""
    _, judged = plan_exit(_facts(vms, home), [H1], record, ExitOptions(restore=mode))
    assert [one.away for one in judged] == list(record), "somebody of the record is left out"
    return [(one.homecoming, one.now_on, one.reason) for one in judged]


def _exit(
    vms: Sequence[Vm], *record: Away, mode: RestoreMode = RECORDED, home: Host | None = None
) -> tuple[Plan, tuple[Return, ...]]:
    return plan_exit(_facts(vms, home), [H1], record, ExitOptions(restore=mode))


# --- who comes home ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [RECORDED, MOVED])
def test_a_vm_that_is_where_its_evacuation_left_it_comes_home(mode: RestoreMode) -> None:
    assert _judged([a_vm(1, host=H2)], away(1), mode=mode) == [
        (Homecoming.LIVE, H2, "it was evacuated by op-3")
    ]


def test_a_paused_vm_comes_home_as_well() -> None:
    vm = a_vm(1, host=H2, power=Power.PAUSED)
    assert [one for one, _, _ in _judged([vm], away(1))] == [Homecoming.LIVE]


def test_nobody_comes_home_when_nobody_was_asked_to() -> None:
    assert _judged([a_vm(1, host=H2)], away(1), mode=NONE) == [
        (Homecoming.STAYS, H2, "nothing was to be brought home")
    ]


def test_a_vm_that_its_owner_has_moved_on_stays_where_it_is() -> None:
    """F088"""
    assert _judged([a_vm(1, host=H3)], away(1, left_on=H2)) == [
        (Homecoming.STAYS, H3, "somebody moved it from h2 since")
    ]


def test_a_vm_that_was_shut_down_since_is_not_started_and_not_moved() -> None:
    vm = a_vm(1, host=H2, power=Power.SHUT_OFF)
    assert _judged([vm], away(1)) == [
        (Homecoming.STAYS, H2, "its owner or its guest has shut it down since")
    ]


def test_a_vm_that_no_host_lists_is_named_and_never_made_again() -> None:
    ((homecoming, now_on, reason),) = _judged([], away(1))
    assert (homecoming, now_on) == (Homecoming.STAYS, None)
    assert "no host lists it" in reason


@pytest.mark.parametrize("mode", list(RestoreMode))
def test_a_vm_that_is_home_already_is_left_alone(mode: RestoreMode) -> None:
    assert _judged([a_vm(1, host=H1)], away(1), mode=mode) == [
        (Homecoming.AT_HOME, H1, "it is home already")
    ]


def _across(*vms: Vm, home_mib: int = 65536) -> Inventory:
    """h1 on its way out of maintenance with h3 beside it; h2 belongs to another cluster."""
    hosts = [
        a_host(H1, mode=MAINTENANCE, memory_mib=home_mib),
        a_host(H2, cluster=C2),
        a_host(H3),
    ]
    return an_inventory(vms, hosts=hosts, clusters=[a_cluster(), a_cluster(C2)])


def test_a_vm_that_went_to_another_cluster_comes_home_whatever_is_allowed_by_now() -> None:
    plan, (judged,) = plan_exit(_across(a_vm(1, host=H2)), [H1], [away(1)], EVERYBODY)
    assert (judged.homecoming, judged.now_on) == (Homecoming.LIVE, H2)
    (move,) = [step for step in plan.steps if step.vm is not None]
    assert (move.source, move.targets) == (H2, (H1,))


def test_who_comes_from_another_cluster_stays_there_for_the_same_reasons_as_others() -> None:
    far = a_vm(1, host=H2, networks=["dmz"])
    _, (judged,) = plan_exit(_across(far), [H1], [away(1)], EVERYBODY)
    assert judged.reason == "h1 cannot take it back: it has no network dmz"


def test_a_home_host_has_no_more_room_for_those_from_another_cluster_than_for_others() -> None:
    vms = [a_vm(1, host=H2, memory_mib=4096), a_vm(2, host=H3, memory_mib=6144)]
    record = [away(1), away(2, left_on=H3)]
    _, returns = plan_exit(_across(*vms, home_mib=8192), [H1], record, EVERYBODY)
    found = {one.away.name: one.homecoming for one in returns}
    assert found == {"vm1": Homecoming.STAYS, "vm2": Homecoming.LIVE}


def test_a_vm_that_its_home_host_can_no_longer_run_stays_and_the_others_come() -> None:
    """F106"""
    home = a_host(H1, mode=MAINTENANCE, networks=["lan"])
    vms = [a_vm(1, host=H2, networks=["dmz"]), a_vm(2, host=H2)]
    assert _judged(vms, away(1), away(2), home=home) == [
        (Homecoming.STAYS, H2, "h1 cannot take it back: it has no network dmz"),
        (Homecoming.LIVE, H2, "it was evacuated by op-3"),
    ]


def test_a_home_host_that_has_filled_up_takes_back_the_largest_it_has_room_for() -> None:
    home = a_host(H1, mode=MAINTENANCE, memory_mib=8192)
    vms = [a_vm(1, host=H2, memory_mib=4096), a_vm(2, host=H2, memory_mib=6144)]
    (small, large) = _judged(vms, away(1), away(2), home=home)
    assert large[0] is Homecoming.LIVE
    assert small[0] is Homecoming.STAYS
    assert "room for 2048 MiB" in small[2]


def test_room_at_home_that_others_have_reserved_is_not_given_away_twice() -> None:
    home = a_host(H1, mode=MAINTENANCE, memory_mib=8192)
    inventory = _facts([a_vm(1, host=H2)], home)
    held = [Reservation(operation=EVACUATION, vm=vm_id(9), host=H1, load=load(6144, 1))]
    _, (free,) = plan_exit(inventory, [H1], [away(1)], EVERYBODY)
    _, (full,) = plan_exit(inventory, [H1], [away(1)], EVERYBODY, held)
    assert free.homecoming is Homecoming.LIVE
    assert full.homecoming is Homecoming.STAYS


def test_a_definition_of_the_vm_left_at_home_stands_in_its_way_and_is_told() -> None:
    vms = [a_vm(1, host=H2), a_vm(1, host=H1, power=Power.SHUT_OFF)]
    ((homecoming, _, reason),) = _judged(vms, away(1))
    assert homecoming is Homecoming.STAYS
    assert "it has a VM with this UUID, shut_off" in reason


# --- who is started again ----------------------------------------------------------------------


def _stopped(
    number: int,
    *,
    home: HostName = H1,
    left_on: HostName = H1,
    method: Method = Method.SHUT_DOWN,
    power: Power = Power.RUNNING,
) -> Away:
    """VM `number`, which its evacuation has stopped where it was."""
    return replace(
        away(number, home=home, left_on=left_on),
        was_stopped=True,
        method=method,
        load=load(4096, 2),
        before=Before(power=power),
    )


def _off(number: int, host: HostName = H1, *, priority: int = 50, memory_mib: int = 4096) -> Vm:
    vm = a_vm(number, host=host, power=Power.SHUT_OFF, memory_mib=memory_mib)
    return replace(vm, policy=VmPolicy(availability_priority=priority))


def test_a_vm_that_was_shut_down_for_the_maintenance_is_started_where_it_was() -> None:
    assert _judged([_off(1)], _stopped(1)) == [
        (Homecoming.START, H1, "it was shut down by op-3"),
    ]


def test_a_suspended_vm_goes_on_from_its_saved_memory_and_it_is_told_if_that_is_gone() -> None:
    saved = replace(_off(1), has_managed_save=True)
    record = _stopped(1, method=Method.SUSPEND)
    assert _judged([saved], record)[0][2] == "it was suspended by op-3"
    assert "its saved memory is gone since, so it boots" in _judged([_off(1)], record)[0][2]


def test_f108_a_vm_whose_definition_has_changed_starts_as_it_is_now_and_it_is_told() -> None:
    ((homecoming, _, reason),) = _judged([_off(1, memory_mib=8192)], _stopped(1))
    assert homecoming is Homecoming.START
    assert "from 2 vCPUs and 4096 MiB to 2 and 8192, and comes back as it is now" in reason


def test_f109_a_vm_that_its_owner_started_elsewhere_is_not_started_twice() -> None:
    vms = [_off(1), a_vm(1, host=H3)]
    assert _judged(vms, _stopped(1)) == [
        (Homecoming.STAYS, H3, "somebody started it elsewhere since")
    ]


def test_a_vm_that_runs_again_where_it_was_is_home() -> None:
    assert _judged([a_vm(1, host=H1)], _stopped(1)) == [(Homecoming.AT_HOME, H1, "it runs already")]


def test_a_stopped_vm_whose_definition_somebody_took_elsewhere_stays_there() -> None:
    assert _judged([_off(1, H2)], _stopped(1)) == [
        (Homecoming.STAYS, H2, "it is not on h1 any more")
    ]


@pytest.mark.parametrize("mode", [MOVED, NONE])
def test_who_was_shut_down_is_listed_to_be_started_by_hand_unless_all_is_to_be_restored(
    mode: RestoreMode,
) -> None:
    ((homecoming, now_on, reason),) = _judged([_off(1)], _stopped(1), mode=mode)
    assert (homecoming, now_on) == (Homecoming.STAYS, H1)
    assert f"furlough vm start {vm_id(1)}" in reason


def test_a_home_host_without_room_starts_nobody_and_says_why() -> None:
    home = a_host(H1, mode=MAINTENANCE, memory_mib=1024)
    plan, decided = _exit([_off(1)], _stopped(1), home=home)
    assert [one.homecoming for one in decided] == [Homecoming.STAYS]
    assert [step.method for step in plan.steps] == [Method.LOWER_GUARD]
    assert [one.vm for one in plan.unplaced] == [vm_id(1)]


def test_room_at_home_is_shared_by_those_who_move_and_those_who_start() -> None:
    home = a_host(H1, mode=MAINTENANCE, memory_mib=8192)
    vms = [a_vm(1, host=H2, memory_mib=6144), _off(2)]
    moved, stopped = _judged(vms, away(1), _stopped(2), home=home)
    assert moved[0] is Homecoming.LIVE
    assert (stopped[0], "room for 2048 MiB" in stopped[2]) == (Homecoming.STAYS, True)


def test_starts_follow_the_moves_who_matters_most_first_and_are_admitted_as_well() -> None:
    vms = [a_vm(1, host=H2), _off(2, priority=10), _off(3, priority=90), _off(4, priority=90)]
    plan, _ = _exit(vms, away(1), _stopped(2), _stopped(3), _stopped(4, power=Power.PAUSED))
    assert [(step.method, step.vm) for step in plan.steps] == [
        (Method.RAISE_GUARD, None),
        (Method.LIVE, vm_id(1)),
        (Method.START, vm_id(3)),
        (Method.START, vm_id(4)),
        (Method.START, vm_id(2)),
        (Method.LOWER_GUARD, None),
    ]
    assert plan.steps[0].admit == tuple(vm_id(number) for number in (1, 2, 3, 4))
    waves = [step.wave for step in plan.steps]
    assert waves == [0, 1, 2, 2, 3, 9]
    starts = [step for step in plan.steps if step.method is Method.START]
    assert {(step.host, step.targets, step.load) for step in starts} == {(H1, (H1,), load(4096, 2))}
    assert [step.before.power for step in starts] == [Power.RUNNING, Power.PAUSED, Power.RUNNING]


def test_a_vm_that_was_away_when_it_was_stopped_is_started_by_the_host_that_stopped_it() -> None:
    away = _stopped(1, home=H1, left_on=H2)
    inventory = an_inventory(
        [_off(1, H2)],
        hosts=[a_host(H1, mode=MAINTENANCE), a_host(H2, mode=MAINTENANCE), a_host(H3)],
    )
    (at_home,) = plan_exit(inventory, [H1], [away], EVERYBODY)[1]
    assert at_home.homecoming is Homecoming.STAYS
    assert "the exit of h2 starts it" in at_home.reason
    plan, _ = plan_exit(inventory, [H2], [away], EVERYBODY)
    assert [step.vm for step in plan.steps if step.method is Method.START] == [vm_id(1)]
    lowered_at_home = a_step(planned(9, Method.LOWER_GUARD, H1), StepState.SUCCEEDED)
    exit_of_home = an_operation(lowered_at_home, kind=OperationKind.EXIT)
    assert not is_closed_by(exit_of_home, away)
    lowered_there = a_step(planned(9, Method.LOWER_GUARD, H2), StepState.SUCCEEDED)
    assert is_closed_by(an_operation(lowered_there, kind=OperationKind.EXIT, hosts=[H2]), away)


# --- the plan of an exit -----------------------------------------------------------------------


def test_an_exit_admits_exactly_those_who_come_then_brings_them_and_lowers_the_guard() -> None:
    vms = [
        a_vm(1, host=H2, memory_mib=1024),
        a_vm(2, host=H3, memory_mib=8192),
        a_vm(3, host=H3),
    ]
    plan, _ = _exit(vms, away(2, left_on=H3), away(1), away(3, left_on=H2))
    assert (plan.kind, plan.hosts) == (OperationKind.EXIT, (H1,))
    assert [(step.number, step.method, step.vm) for step in plan.steps] == [
        (1, Method.RAISE_GUARD, None),
        (2, Method.LIVE, vm_id(2)),
        (3, Method.LIVE, vm_id(1)),
        (4, Method.LOWER_GUARD, None),
    ]
    assert plan.steps[0].admit == (vm_id(1), vm_id(2))
    waves = [step.wave for step in plan.steps]
    assert waves[0] < waves[1] == waves[2] < waves[3]
    for step in plan.migrations:
        assert (step.host, step.targets) == (H1, (H1,))
    assert [step.source for step in plan.migrations] == [H3, H2]


def test_an_exit_without_anybody_to_bring_home_only_lowers_the_guard() -> None:
    plan, decided = _exit([a_vm(1, host=H2)], away(1), mode=NONE)
    assert [step.method for step in plan.steps] == [Method.LOWER_GUARD]
    assert [one.homecoming for one in decided] == [Homecoming.STAYS]


def test_a_vm_that_has_no_room_at_home_is_in_the_plan_as_left_with_the_reason() -> None:
    home = a_host(H1, mode=MAINTENANCE, memory_mib=1024)
    plan, decided = _exit([a_vm(1, host=H2)], away(1), home=home)
    assert plan.migrations == ()
    assert [(one.vm, set(one.reasons)) for one in plan.unplaced] == [(vm_id(1), {H1})]
    assert [one.homecoming for one in decided] == [Homecoming.STAYS]


def test_each_of_several_hosts_gets_its_own_vms_back() -> None:
    inventory = an_inventory(
        [a_vm(1, host=H3), a_vm(2, host=H3)],
        hosts=[a_host(H1, mode=MAINTENANCE), a_host(H2, mode=MAINTENANCE), a_host(H3)],
    )
    record = [away(1, home=H1, left_on=H3), away(2, home=H2, left_on=H3)]
    plan, decided = plan_exit(inventory, [H1, H2], record, EVERYBODY)
    assert [(step.vm, step.targets) for step in plan.migrations] == [
        (vm_id(1), (H1,)),
        (vm_id(2), (H2,)),
    ]
    assert [(step.host, step.method) for step in plan.steps] == [
        (host, method)
        for method in (Method.RAISE_GUARD, Method.LIVE, Method.LOWER_GUARD)
        for host in (H1, H2)
    ]
    assert len(decided) == 2


def test_the_record_of_another_host_is_none_of_this_exits_business() -> None:
    plan, decided = _exit([a_vm(1, host=H2)], away(1, home=H3))
    assert plan.migrations == ()
    assert decided == ()


_PLACES = st.sampled_from([None, H1, H2, H3])


@repeatable
@given(
    st.lists(
        st.tuples(_PLACES, st.sampled_from(Power), st.sampled_from([512, 9000, 40_000])),
        max_size=8,
    ),
    st.sampled_from(RestoreMode),
)
def test_everybody_of_the_record_is_judged_and_only_those_who_come_are_moved_and_admitted(
    shapes: list[tuple[HostName | None, Power, int]], mode: RestoreMode
) -> None:
    record = [away(number) for number in range(1, len(shapes) + 1)]
    strangers = [a_vm(90, host=H2), a_vm(91, host=H3)]
    found = [
        a_vm(number, host=host, power=power, memory_mib=memory_mib)
        for number, (host, power, memory_mib) in enumerate(shapes, 1)
        if host is not None
    ]
    plan, decided = _exit([*found, *strangers], *record, mode=mode)
    assert [one.away for one in decided] == record
    assert all(one.reason for one in decided)
    coming = {one.away.vm for one in decided if one.homecoming is Homecoming.LIVE}
    assert {step.vm for step in plan.migrations} == coming
    assert {vm for step in plan.steps for vm in step.admit} == coming
    for vm in found:
        if vm.id in coming:
            assert (vm.host, vm.is_active) == (H2, True)
    assert sum(step.load.memory_mib for step in plan.migrations) <= 65536


# --- closing the record ------------------------------------------------------------------------


def _ended_exit(*moves: Step, lowering: StepState = StepState.SUCCEEDED) -> Operation:
    last = a_step(planned(9, Method.LOWER_GUARD), lowering)
    return an_operation(*moves, last, kind=OperationKind.EXIT)


@pytest.mark.parametrize("state", [StepState.FAILED, StepState.SKIPPED])
def test_a_vm_that_could_not_be_started_stays_on_record(state: StepState) -> None:
    start = a_step(planned(1, Method.START, targets=[H1]), state)
    assert not is_closed_by(_ended_exit(start), _stopped(1))


def _homecoming(number: int, state: StepState) -> Step:
    return a_step(planned(number, source=H2, targets=[H1]), state)


def test_a_vm_that_came_home_is_away_no_more() -> None:
    assert is_closed_by(_ended_exit(_homecoming(1, StepState.SUCCEEDED)), away(1))


def test_a_vm_that_was_not_to_come_home_is_off_the_record_when_its_host_is_back_in_service() -> (
    None
):
    assert is_closed_by(_ended_exit(), away(1))


@pytest.mark.parametrize("state", [StepState.FAILED, StepState.SKIPPED, StepState.PENDING])
def test_a_vm_that_was_to_come_home_and_did_not_stays_on_record(state: StepState) -> None:
    assert not is_closed_by(_ended_exit(_homecoming(1, state)), away(1))


@pytest.mark.parametrize("lowering", [StepState.FAILED, StepState.SKIPPED])
def test_an_exit_that_did_not_put_its_host_back_into_service_closes_no_record(
    lowering: StepState,
) -> None:
    move = _homecoming(1, StepState.SUCCEEDED)
    assert not is_closed_by(_ended_exit(move, lowering=lowering), away(1))


def test_the_exit_of_one_host_closes_no_record_of_another() -> None:
    assert not is_closed_by(_ended_exit(), away(1, home=H2))


def test_a_vm_that_had_no_room_at_home_stays_on_record() -> None:
    left = Unplaced(vm=vm_id(1), vm_name="vm1", reasons={H1: ("it has room for 0 MiB",)})
    ended = _ended_exit()
    ended = replace(ended, plan=replace(ended.plan, unplaced=(left,)))
    assert not is_closed_by(ended, away(1))


@pytest.mark.parametrize(
    "vm",
    [
        a_vm(1, host=H2, power=Power.SUSPENDED),
        a_vm(1, host=H2, power=Power.ERROR),
        a_vm(1, host=H2, busy_with="a backup"),
        replace(a_vm(1, host=H2), hindrances=("it was brought here paused",)),
    ],
    ids=["asleep", "in error", "busy", "hindered"],
)
def test_a_vm_that_cannot_move_now_stays_and_the_reason_says_so(vm: Vm) -> None:
    ((homecoming, _, _),) = _judged([vm], away(1))
    assert homecoming is Homecoming.STAYS


def test_a_vm_that_runs_twice_is_not_moved_until_a_person_has_looked() -> None:
    ((homecoming, _, _),) = _judged([a_vm(1, host=H2), a_vm(1, host=H3)], away(1))
    assert homecoming is Homecoming.STAYS


def test_vms_that_come_home_from_several_hosts_share_the_link_of_their_home() -> None:
    hosts = [
        a_host(name, mode=mode, link_mbit_s=1000)
        for name, mode in ((H1, MAINTENANCE), (H2, HostMode.AVAILABLE), (H3, HostMode.AVAILABLE))
    ]
    vms = [a_vm(1, host=H2, memory_mib=20_000), a_vm(2, host=H3, memory_mib=20_000)]
    inventory = an_inventory(vms, hosts=hosts)
    one, _ = plan_exit(inventory, [H1], [away(1)], EVERYBODY)
    both, _ = plan_exit(inventory, [H1], [away(1), away(2, left_on=H3)], EVERYBODY)
    assert both.eta.low > 1.9 * one.eta.low
