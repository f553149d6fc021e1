"""The remainder of an entering planned anew, the way back, and entering by other hands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from furlough.core.agenda import CLOSING_WAVE
from furlough.core.capacity import Reservation
from furlough.core.ids import OperationId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.operation import Operation, Outcome, Step
from furlough.core.plan import Method
from furlough.core.policy import EnterOptions, Scope
from furlough.core.states import HostMode, Power, StepState
from furlough.core.vm_policy import OnMaintenance, VmPolicy
from furlough.planning.hands_off import plan_hands_off
from furlough.planning.put_back import departed, plan_put_back
from furlough.planning.remainder import (
    circumstances,
    differences,
    failed_steps,
    fresh_steps,
    impossible,
    vm_of,
    was_planned_anew,
)
from tests.core.builders import (
    H1,
    H2,
    H3,
    a_host,
    a_step,
    a_vm,
    an_inventory,
    an_operation,
    load,
    planned,
    vm_id,
)

ENTERING = HostMode.ENTERING
OFF = VmPolicy(on_maintenance=OnMaintenance.SHUT_DOWN)


def facts(vms: Sequence[Vm] = (), **hosts: Host) -> Inventory:
    """h1 on its way into maintenance, h2 and h3 as said."""
    found = {"h1": a_host(H1, mode=ENTERING), "h2": a_host(H2), "h3": a_host(H3), **hosts}
    return an_inventory(vms or [a_vm(1)], hosts=list(found.values()))


def moving(*steps: Step) -> Operation:
    return an_operation(*(steps or (a_step(planned(1, targets=[H2])),)))


def room_of(*, memory_mib: int) -> Reservation:
    return Reservation(
        operation=OperationId("op-1"), vm=vm_id(9), host=H2, load=load(memory_mib, 1)
    )


def test_the_vm_of_a_step_is_the_one_that_still_runs_on_the_host_it_is_to_leave() -> None:
    (step,) = moving().steps
    found = vm_of(step, facts())
    assert found is not None
    assert (found.id, found.host) == (vm_id(1), H1)
    assert vm_of(step, facts([a_vm(1, host=H2)])) is None
    assert vm_of(step, facts([a_vm(1, power=Power.SHUT_OFF)])) is None


# --- whose plan does not hold ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (a_host(H2, mode=HostMode.CORDONED), "it is cordoned"),
        (a_host(H2, silent_because="it is down"), "does not answer"),
        (a_host(H2, memory_mib=1024), "it has no room left"),
    ],
)
def test_a_move_is_impossible_once_none_of_its_targets_takes_the_vm(target: Host, why: str) -> None:
    found = impossible(moving(), facts(h2=target), ())
    assert list(found) == [1]
    assert found[1].startswith("h2: ")
    assert why in found[1]


@pytest.mark.parametrize(("state", "steps"), [(StepState.STARTED, []), (StepState.SUCCEEDED, [2])])
def test_a_move_for_which_room_is_being_made_is_not_judged_before_that_is_over(
    state: StepState, steps: list[int]
) -> None:
    """vm2 of h2 makes room there for vm1."""
    maker = replace(a_step(replace(planned(1, targets=[H3]), vm=vm_id(2), source=H2)), state=state)
    mover = a_step(replace(planned(2, targets=[H2]), vm=vm_id(1), after=(1,)))
    full = facts([a_vm(1), a_vm(2, host=H2)], h2=a_host(H2, memory_mib=1024))
    assert list(impossible(moving(maker, mover), full, ())) == steps


def test_a_target_that_a_person_keeps_empty_takes_nobody() -> None:
    kept = replace(a_host(H2), kept_empty_by="ann")
    assert impossible(moving(), facts(h2=kept), ()) == {1: "h2: it is kept empty by ann"}


def test_what_is_held_for_the_vm_itself_is_its_room() -> None:
    operation = moving()
    mine = Reservation(operation=operation.id, vm=vm_id(1), host=H2, load=load(4096, 2))
    assert impossible(operation, facts(h2=a_host(H2, memory_mib=4096)), [mine]) == {}


def test_a_target_that_is_not_enrolled_any_more_takes_nobody() -> None:
    known = facts()
    gone = an_inventory(known.vms, hosts=[host for host in known.hosts if host.name != H2])
    assert impossible(moving(), gone, ()) == {1: "h2: it is not enrolled any more"}


def test_room_that_others_hold_is_none() -> None:
    assert impossible(moving(), facts(), [room_of(memory_mib=64_000)]) != {}
    assert impossible(moving(), facts(), [room_of(memory_mib=1024)]) == {}


def test_a_move_that_has_one_good_target_stays_as_it_was_planned() -> None:
    step = a_step(planned(1, targets=[H2, H3]))
    cordoned = facts(h2=a_host(H2, mode=HostMode.CORDONED))
    assert impossible(moving(step), cordoned, ()) == {}


def test_what_has_begun_what_is_no_move_and_who_is_not_there_are_not_judged() -> None:
    steps = (
        a_step(planned(1, targets=[H2]), StepState.STARTED),
        a_step(planned(2, Method.SHUT_DOWN)),
        a_step(planned(3, targets=[H2])),
        a_step(planned(4, targets=[H1], source=H2, vm=vm_id(1))),
    )
    cordoned = facts(h2=a_host(H2, mode=HostMode.CORDONED))
    assert impossible(moving(*steps), cordoned, ()) == {}


def test_failed_departures_count_until_something_overtakes_them() -> None:
    failed = a_step(planned(1), StepState.FAILED)
    home = a_step(planned(2, source=H2, targets=[H1]), StepState.FAILED)
    old = replace(a_step(planned(3), StepState.FAILED), is_overtaken=True)
    operation = moving(failed, home, old, a_step(planned(4, vm=vm_id(3)), StepState.FAILED))
    assert [step.number for step in failed_steps(operation)] == [1, 4]
    assert was_planned_anew(operation.step(4), operation)
    assert not was_planned_anew(operation.step(1), operation)


def test_what_a_guest_does_by_itself_changes_no_circumstances_and_what_decides_does() -> None:
    vm = a_vm(1)
    busy = replace(vm, dirty_mib_s=80.0, memory_used_mib=99)
    same = circumstances(vm, facts([vm]))
    assert circumstances(busy, facts([busy])) == same
    assert circumstances(vm, facts([vm], h2=a_host(H2, mode=HostMode.CORDONED))) != same
    assert circumstances(vm, facts([vm, a_vm(2, host=H3)])) != same
    assert circumstances(replace(vm, devices=("usb",)), facts([vm])) != same


# --- what is to be done instead ----------------------------------------------------------------


def test_who_finds_another_target_moves_there_and_the_difference_is_told() -> None:
    operation = moving()
    known = facts(h2=a_host(H2, mode=HostMode.CORDONED))
    steps = fresh_steps(operation, [a_vm(1)], known, EnterOptions(), ())
    assert [(step.number, step.method, step.targets) for step in steps] == [(2, Method.LIVE, (H3,))]
    assert differences(operation, [1], steps) == ("vm1: to h2 -> to h3",)
    assert differences(operation, [1], ()) == ()


def test_who_finds_none_is_stopped_where_its_owner_allows_it_and_else_left() -> None:
    nobody = facts(h2=a_host(H2, mode=HostMode.CORDONED), h3=a_host(H3, mode=HostMode.CORDONED))
    may = a_vm(1, policy=OFF)
    steps = fresh_steps(moving(), [may], nobody, EnterOptions(), ())
    assert [step.method for step in steps] == [Method.SHUT_DOWN]
    assert differences(moving(), [1], steps) == ("vm1: to h2 -> shut down",)
    assert fresh_steps(moving(), [a_vm(1)], nobody, EnterOptions(), ()) == ()
    marked = a_vm(1, policy=replace(OFF, ha=True))
    assert fresh_steps(moving(), [marked], nobody, EnterOptions(), ()) == ()
    accepted = EnterOptions(override=("vm.ha_shut_down",), reason="so be it")
    assert len(fresh_steps(moving(), [marked], nobody, accepted, ())) == 1


# --- the way back ------------------------------------------------------------------------------


def moved(number: int) -> Step:
    step = a_step(planned(number, targets=[H2]), StepState.SUCCEEDED, outcome=Outcome.MOVED)
    return replace(step, where=H2)


def test_who_has_left_comes_home_behind_an_admission_that_ends() -> None:
    operation = an_operation(moved(1), moved(2), a_step(planned(3)))
    known = facts([a_vm(1, host=H2), a_vm(2, host=H3), a_vm(3)])
    plan, returns = plan_put_back(operation, known, [H1])
    assert [(step.number, step.method, step.wave - CLOSING_WAVE, step.admit)
            for step in plan.steps] == [
        (4, Method.RAISE_GUARD, 0, (vm_id(1),)),
        (5, Method.LIVE, 1, ()),
        (6, Method.RAISE_GUARD, 9, ()),
    ]  # fmt: skip
    assert plan.steps[1].targets == (H1,)
    told = {one.away.name: one.reason for one in returns}
    assert told["vm2"] == "somebody moved it from h2 since"


def test_who_has_come_back_already_is_not_brought_again() -> None:
    home = planned(2, vm=vm_id(1), source=H2, targets=[H1], wave=CLOSING_WAVE + 1)
    back = a_step(home, StepState.SUCCEEDED, outcome=Outcome.MOVED)
    assert departed(an_operation(moved(1), back), [H1]) == ()
    assert [one.vm for one in departed(an_operation(moved(1)), [H1])] == [vm_id(1)]
    assert departed(an_operation(moved(1)), [H3]) == ()


# --- by other hands ----------------------------------------------------------------------------


def test_where_people_move_the_plan_guards_and_proves_and_names_who_has_to_leave() -> None:
    known = facts([a_vm(1), a_vm(2, power=Power.SHUT_OFF)])
    plan = plan_hands_off(known, [H1], EnterOptions())
    assert [step.method for step in plan.steps] == [Method.RAISE_GUARD, Method.CONFIRM_EMPTY]
    assert [one.vm_name for one in plan.unplaced] == ["vm1"]
    everybody = plan_hands_off(known, [H1], EnterOptions(scope=Scope.ALL, wait=False))
    assert [step.method for step in everybody.steps] == [Method.RAISE_GUARD]
    assert [one.vm_name for one in everybody.unplaced] == ["vm1", "vm2"]
