"""What becomes of each VM of the record: by the operator's choice, and by what others have done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.ids import VmId
from furlough.core.inventory import Inventory, Vm
from furlough.core.plan import Method, PlannedStep, WhyStays
from furlough.core.policy import ExitOptions, RestoreMode
from furlough.core.states import HostMode, Power
from furlough.core.vm_policy import OnMaintenance, VmPolicy
from furlough.planning.homecoming import Homecoming, Return, Way, judged, named_in, way_of
from furlough.planning.record import Away
from furlough.planning.restore import plan_exit
from tests.core.builders import H1, H2, H3, a_host, a_vm, an_inventory, load, vm_id
from tests.planning.test_restore import away

EVERYBODY = ExitOptions()
LEAVE = VmPolicy(on_maintenance=OnMaintenance.LEAVE)


def _facts(*vms: Vm, silent: str = "") -> Inventory:
    """While h1 is in maintenance; maybe h2 is silent."""
    home = a_host(H1, mode=HostMode.MAINTENANCE)
    return an_inventory(vms, hosts=[home, a_host(H2, silent_because=silent), a_host(H3)])


def _one(inventory: Inventory, one: Away, options: ExitOptions = EVERYBODY) -> Return:
    return judged(inventory, one, H1, options)


def _selecting(way: Way, *vms: VmId) -> ExitOptions:
    return ExitOptions(
        restore=RestoreMode.SELECTED,
        power_on=vms if way is Way.POWER_ON else (),
        live_migrate_back=vms if way is Way.LIVE_MIGRATE_BACK else (),
        cold_migrate_back=vms if way is Way.COLD_MIGRATE_BACK else (),
    )


def _stopped(number: int) -> Away:
    one = away(number, left_on=H1)
    return replace(one, was_stopped=True, method=Method.SHUT_DOWN)


def _cold(number: int) -> Away:
    return replace(away(number), method=Method.COLD)


@pytest.mark.parametrize(
    ("one", "vm", "way", "homecoming"),
    [
        (away(1), a_vm(1, host=H2), Way.LIVE_MIGRATE_BACK, Homecoming.LIVE),
        (_cold(1), a_vm(1, host=H2, power=Power.SHUT_OFF), Way.COLD_MIGRATE_BACK, Homecoming.COLD),
        (_stopped(1), a_vm(1, host=H1, power=Power.SHUT_OFF), Way.POWER_ON, Homecoming.START),
    ],
)
def test_who_is_selected_comes_back_as_it_went_and_who_is_not_stays_on_record(
    one: Away, vm: Vm, way: Way, homecoming: Homecoming
) -> None:
    inventory = _facts(vm)
    assert way_of(one) is way
    assert _one(inventory, one, _selecting(way, vm.id)).homecoming is homecoming
    assert _one(inventory, one).homecoming is homecoming, "as it does when all come"
    for options in (
        _selecting(way),
        _selecting(way, vm_id(2)),
        *(_selecting(other, vm.id) for other in Way if other is not way),
    ):
        told = _one(inventory, one, options)
        assert (told.homecoming, told.stays) == (Homecoming.STAYS, WhyStays.POSTPONED)
        assert "it was not selected" in told.reason
    assert named_in(_selecting(way, vm.id), way) == (vm.id,)


def test_a_vm_that_moved_while_it_was_off_and_runs_by_now_comes_home_live() -> None:
    assert _one(_facts(a_vm(1, host=H2)), _cold(1)).homecoming is Homecoming.LIVE


def test_a_vm_that_is_off_is_moved_home_without_a_place_in_memory() -> None:
    vm = a_vm(1, host=H2, power=Power.SHUT_OFF, memory_mib=900_000)
    plan, (told,) = plan_exit(_facts(vm), [H1], [_cold(1)], EVERYBODY)
    assert (told.homecoming, told.comes, told.way) == (Homecoming.COLD, True, Way.COLD_MIGRATE_BACK)
    (step,) = [one for one in plan.steps if one.vm == vm.id]
    assert _what(step) == (Method.COLD, H2, (H1,), load(0, 0))
    assert plan.steps[0].admit == (vm.id,)


def _what(step: PlannedStep) -> tuple[object, ...]:
    return step.method, step.source, step.targets, step.load


def test_a_home_that_cannot_run_a_vm_any_more_does_not_take_it_back_cold_either() -> None:
    vm = a_vm(1, host=H2, power=Power.SHUT_OFF, networks=["dmz"])
    plan, (told,) = plan_exit(_facts(vm), [H1], [_cold(1)], EVERYBODY)
    assert "h1 cannot take it back: it has no network dmz" in told.reason
    assert told.stays is WhyStays.HINDERED
    assert [one.why for one in plan.unplaced] == [WhyStays.HINDERED]


@pytest.mark.parametrize(
    ("one", "vms", "stays", "words"),
    [
        (away(1), [a_vm(1, host=H3)], WhyStays.LET_GO, "somebody moved it from h2 since"),
        (
            away(1),
            [a_vm(1, host=H2, power=Power.SHUT_OFF)],
            WhyStays.POSTPONED,
            "its owner or its guest has shut it down since",
        ),
        (away(1), [], WhyStays.LET_GO, "no host lists it any more: it was deleted"),
        (
            away(1),
            [replace(a_vm(1, host=H2), policy=LEAVE)],
            WhyStays.POSTPONED,
            "its policy says by now that it is left where it is (on_maintenance = leave)",
        ),
        (_stopped(1), [a_vm(1, host=H3)], WhyStays.LET_GO, "somebody started it elsewhere since"),
        (
            _stopped(1),
            [a_vm(1, host=H2, power=Power.SHUT_OFF)],
            WhyStays.LET_GO,
            "it is not on h1 any more",
        ),
    ],
)
@pytest.mark.parametrize("mode", list(RestoreMode))
def test_what_others_have_done_is_told_as_a_change_whatever_was_asked_for(
    one: Away, vms: list[Vm], stays: WhyStays, words: str, mode: RestoreMode
) -> None:
    told = _one(_facts(*vms), one, ExitOptions(restore=mode))
    assert (told.homecoming, told.stays, told.changed) == (Homecoming.STAYS, stays, words)
    assert told.reason == words


def test_a_vm_that_a_silent_host_may_have_is_not_taken_for_deleted() -> None:
    told = _one(_facts(silent="no route"), away(1))
    assert (told.stays, told.changed) == (WhyStays.HINDERED, "")
    assert "h2 does not answer and may have it" in told.reason


def test_f107_a_vm_last_seen_on_a_silent_host_is_not_moved_before_it_answers() -> None:
    told = _one(_facts(a_vm(1, host=H2), silent="no route"), away(1))
    assert told.stays is WhyStays.HINDERED
    assert "h2, where it was last seen, does not answer" in told.reason


def test_f108_a_vm_that_moved_and_was_changed_since_comes_home_as_it_is_and_it_is_told() -> None:
    one = replace(away(1), load=load(2048, 2))
    told = _one(_facts(a_vm(1, host=H2, memory_mib=4096)), one)
    assert told.homecoming is Homecoming.LIVE
    assert told.changed == (
        "it was changed since, from 2 vCPUs and 2048 MiB to 2 and 4096, and comes back as it is now"
    )
    refused, _ = plan_exit(_facts(a_vm(1, host=H2, memory_mib=900_000)), [H1], [one], EVERYBODY)
    assert [left.why for left in refused.unplaced] == [WhyStays.HINDERED]


def test_a_vm_that_was_shut_down_for_its_move_comes_home_the_same_way_while_its_owner_allows() -> (
    None
):
    tied = replace(a_vm(1, host=H2), hindrances=("a transient disk",))
    willing = replace(tied, policy=VmPolicy(on_maintenance=OnMaintenance.COLD))
    plan, (told,) = plan_exit(_facts(willing), [H1], [_cold(1)], EVERYBODY)
    assert (told.homecoming, told.comes) == (Homecoming.COLD, True)
    (step,) = [step for step in plan.steps if step.vm is not None]
    assert (step.method, step.before.power, step.load.vcpus > 0) == (
        Method.COLD,
        Power.RUNNING,
        True,
    )
    _, (refused,) = plan_exit(_facts(tied), [H1], [_cold(1)], EVERYBODY)
    assert (refused.comes, refused.stays) == (False, WhyStays.HINDERED)
