"""The way back as it is planned at entry."""

from __future__ import annotations

from dataclasses import replace

from furlough.core.ids import HostName
from furlough.core.plan import Method
from furlough.core.policy import EnterOptions
from furlough.core.states import Power
from furlough.core.vm_policy import OnMaintenance, VmPolicy
from furlough.planning.planner import plan_enter
from furlough.planning.way_back import way_back
from furlough.prechecks.assessing import assess
from tests.core.builders import H1, H2, H3, a_host, a_vm, an_inventory, vm_id


def _policy(word: OnMaintenance, priority: int = 50) -> VmPolicy:
    return VmPolicy(on_maintenance=word, availability_priority=priority)


def test_who_leaves_comes_back_from_where_the_plan_takes_it_and_who_is_stopped_starts_again() -> (
    None
):
    hosts = [a_host(name, devices=["gpu"] if name == H1 else []) for name in (H1, H2, H3)]
    vms = [
        a_vm(1),
        a_vm(2),
        replace(a_vm(3, devices=["gpu"]), policy=_policy(OnMaintenance.SHUT_DOWN)),
        replace(a_vm(4, devices=["gpu"]), policy=_policy(OnMaintenance.SHUT_DOWN, 90)),
        a_vm(5, power=Power.SHUT_OFF),
        a_vm(6, host=H2),
    ]
    inventory = an_inventory(vms, hosts=hosts)
    there = plan_enter(inventory, [H1], assess(inventory, [H1], EnterOptions(), ()))
    back = way_back(inventory, there)
    went = {step.vm: step.targets[0] for step in there.migrations}
    assert set(went) == {vm_id(1), vm_id(2)}
    assert {step.vm: (step.source, step.targets) for step in back.migrations} == {
        vm: (target, (HostName("h1"),)) for vm, target in went.items()
    }
    starts = [step.vm for step in back.steps if step.method is Method.START]
    assert starts == [vm_id(4), vm_id(3)], "who matters most first"
    assert (back.hosts, back.unplaced) == ((H1,), ())
    assert back.eta.high > 0
    assert [vm.host for vm in inventory.vms] == [H1] * 5 + [H2], "the facts are as they were"


def test_who_makes_room_on_a_host_that_stays_does_not_come_back() -> None:
    hosts = [a_host(H1), a_host(H2, memory_mib=10_000), a_host(H3, memory_mib=4000)]
    vms = [a_vm(1, memory_mib=8000), a_vm(2, host=H2, memory_mib=2500)]
    inventory = an_inventory(vms, hosts=hosts)
    there = plan_enter(inventory, [H1], assess(inventory, [H1], EnterOptions(), ()))
    assert [(step.vm, step.host, step.source, step.targets) for step in there.migrations] == [
        (vm_id(2), H1, H2, (H3,)),
        (vm_id(1), H1, H1, (H2,)),
    ]
    first, second = there.migrations
    assert (first.after, second.after) == ((), (first.number,))
    assert second.start_s >= first.start_s + first.duration_s - 0.01
    back = way_back(inventory, there)
    assert [(step.vm, step.targets) for step in back.migrations] == [(vm_id(1), (H1,))]
