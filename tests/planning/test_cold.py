"""Cold moves in plans: who can be moved while off, where to, in which turn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.capacity import NOTHING, load_of
from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.core.inventory import Inventory, Vm
from furlough.core.plan import Before, Method, OperationKind, PlannedStep
from furlough.core.policy import EnterOptions, Scope
from furlough.core.states import HostMode, Power
from furlough.core.vm_policy import IfIgnored, OnMaintenance, VmPolicy
from furlough.planning.cold import (
    Resting,
    cold_move,
    cold_obstacles,
    cold_obstacles_at_home,
    settle_resting,
    trouble_with_cold,
)
from furlough.planning.planner import LAST_WAVE, REST_WAVE, plan_enter, roster_of
from furlough.prechecks.assessing import assess
from tests.core.builders import H1, H2, H3, a_disk, a_host, a_vm, an_inventory, vm_id

COLD = VmPolicy(on_maintenance=OnMaintenance.COLD, shut_down_grace_s=40)
TIED = ("a transient disk",)


def off(number: int, **traits: object) -> Vm:
    """A VM that is off on h1."""
    return replace(a_vm(number, power=Power.SHUT_OFF), **traits)  # type: ignore[arg-type]


def settled(inventory: Inventory) -> list[Resting]:
    """What becomes of those that are off on h1."""
    targets = [host for host in inventory.hosts if host.name != H1]
    return list(settle_resting(inventory, [H1], targets).values())


def entering(inventory: Inventory, scope: Scope = Scope.ALL) -> dict[str, PlannedStep]:
    """The steps about VMs that entering h1 takes, by the VMs' names."""
    assessment = assess(inventory, [H1], EnterOptions(scope=scope))
    plan = plan_enter(inventory, [H1], assessment)
    return {step.vm_name: step for step in plan.steps if step.vm is not None}


def test_those_that_are_off_are_spread_by_number_and_have_a_second_choice() -> None:
    there = a_vm(9, host=H2)
    found = settled(an_inventory([off(1), off(2), off(3), there]))
    assert [one.targets for one in found] == [(H3, H2), (H2, H3), (H3, H2)]


@pytest.mark.parametrize(
    ("vm", "why"),
    [
        (off(1, policy=VmPolicy(on_maintenance=OnMaintenance.LEAVE)), "its policy says leave"),
        (off(1, snapshots=2), "2 snapshot(s)"),
        (off(1, checkpoints=1), "1 checkpoint(s)"),
        (off(1, has_managed_save=True), "its saved memory would stay behind"),
        (off(1, busy_with="a block copy"), "a block copy is under way in it"),
        (off(1, disks=(a_disk(datastore=None),)), "(/srv/images/vda.qcow2) is local"),
        (off(1, policy=VmPolicy(host_affinity=(H1,))), "its host affinity allows only h1"),
    ],
)
def test_who_is_off_stays_for_a_reason(vm: Vm, why: str) -> None:
    (found,) = settled(an_inventory([vm]))
    assert found.targets == ()
    assert why in found.stays_because


def test_without_another_host_all_stay() -> None:
    (found,) = settled(an_inventory([off(1)], hosts=[a_host(H1)]))
    assert found.stays_because == "no host takes it: there is no other"


def test_a_left_over_of_a_vm_that_runs_elsewhere_is_not_moved() -> None:
    (found,) = settled(an_inventory([off(1), a_vm(1, host=H2)]))
    assert found.stays_because == "h2 has it too, running: this may be a left-over"


def test_a_next_start_asks_less_of_a_host_than_a_migration_does() -> None:
    copied = replace(a_vm(1), cpu_model=HOST_PASSTHROUGH)
    other = replace(a_host(H2, cpu_models=["Haswell"]), emulator_version=1)
    inventory = an_inventory([copied], hosts=[a_host(H1), other])
    assert cold_obstacles(copied, other, inventory) == []
    named = replace(copied, cpu_model="EPYC", machine="pc-q35-9.0")
    strict = replace(other, machines=frozenset({"pc-q35-7.2"}))
    assert [one.message for one in cold_obstacles(named, strict, inventory)] == [
        "it cannot give CPU model EPYC",
        "it does not know machine type pc-q35-9.0",
    ]


def test_the_way_home_does_not_mind_that_home_is_not_in_service_yet() -> None:
    vm = a_vm(1, host=H2, power=Power.SHUT_OFF)
    home = a_host(H1, mode=HostMode.EXITING)
    inventory = an_inventory([vm], hosts=[home, a_host(H2)])
    assert cold_obstacles_at_home(vm, home, inventory) == []
    assert [one.message for one in cold_obstacles(vm, home, inventory)] == ["it is exiting"]


def test_nothing_stands_against_an_ordinary_vm() -> None:
    assert trouble_with_cold(a_vm(1)) == ""


def test_one_that_runs_is_shut_down_as_its_policy_says_and_holds_room() -> None:
    policy = replace(COLD, if_ignored=IfIgnored.POWER_OFF)
    vm = replace(a_vm(1, has_autostart=True), policy=policy)
    step = cold_move(vm, (H2,), H1, wave=3)
    assert (step.method, step.source, step.targets, step.wave) == (Method.COLD, H1, (H2,), 3)
    assert (step.grace_s, step.may_power_off) == (40, True)
    assert step.load == load_of(vm)
    assert step.before == Before(power=Power.RUNNING, has_autostart=True)
    assert step.duration_s > 0
    assert step.downtime_ms > 0


def test_one_that_is_off_holds_none_and_is_not_stopped() -> None:
    step = cold_move(off(1, policy=replace(COLD, if_ignored=IfIgnored.POWER_OFF)), (H2,), H1, 8)
    assert (step.load, step.grace_s, step.may_power_off) == (NOTHING, 0.0, False)
    assert step.downtime_ms == 0


def test_moves_then_those_that_are_stopped_or_go_cold_then_those_that_are_off() -> None:
    cold = replace(a_vm(2), hindrances=TIED, policy=COLD)
    stopped = replace(
        a_vm(3), hindrances=TIED, policy=VmPolicy(on_maintenance=OnMaintenance.SHUT_DOWN)
    )
    steps = entering(an_inventory([a_vm(1), cold, stopped, off(4)]))
    assert {name: step.method for name, step in steps.items()} == {
        "vm1": Method.LIVE,
        "vm2": Method.COLD,
        "vm3": Method.SHUT_DOWN,
        "vm4": Method.COLD,
    }
    waves = [steps[name].wave for name in ("vm1", "vm2", "vm3", "vm4")]
    assert waves == [1, 2, 2, REST_WAVE]
    assert REST_WAVE < LAST_WAVE
    assert steps["vm2"].start_s >= steps["vm1"].duration_s
    assert steps["vm4"].start_s >= steps["vm2"].start_s + steps["vm2"].duration_s


def test_one_that_goes_cold_finds_its_room_beside_those_that_move_live() -> None:
    live = a_vm(1, memory_mib=40_000)
    cold = replace(a_vm(2, memory_mib=40_000), hindrances=TIED, policy=COLD)
    hosts = [a_host(H1), a_host(H2, memory_mib=65_536), a_host(H3, memory_mib=65_536)]
    steps = entering(an_inventory([live, cold], hosts=hosts), Scope.RUNNING)
    assert {steps["vm1"].targets[0], steps["vm2"].targets[0]} == {H2, H3}
    full = an_inventory([live, cold], hosts=hosts[:2])
    (report,) = assess(full, [H1], EnterOptions()).reports
    (stuck,) = [one for one in report.dispositions if one.method is None]
    assert stuck.vm == vm_id(2)
    assert "nor does it fit on a host cold" in stuck.reason


def test_who_stays_off_is_in_the_plan_and_on_the_roster() -> None:
    inventory = an_inventory([off(1), off(2, snapshots=1)])
    plan = plan_enter(inventory, [H1], assess(inventory, [H1], EnterOptions(scope=Scope.ALL)))
    assert plan.kind is OperationKind.ENTER
    (left,) = plan.unplaced
    assert left.vm == vm_id(2)
    assert "1 snapshot(s)" in left.reasons[H1][0]
    assert {entry.vm for entry in roster_of(plan, inventory)} == {vm_id(1), vm_id(2)}


def test_where_only_those_that_run_have_to_leave_nothing_that_is_off_is_planned() -> None:
    inventory = an_inventory([off(1), off(2, snapshots=1)])
    plan = plan_enter(inventory, [H1], assess(inventory, [H1], EnterOptions()))
    assert plan.unplaced == ()
    assert roster_of(plan, inventory) == ()
