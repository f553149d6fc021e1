"""The way home where homes have filled with each other's VMs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from furlough.core.affinity import Rule, RuleKind
from furlough.core.ids import HostName
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.plan import Method, Plan
from furlough.core.policy import ClusterPolicy, ExitOptions
from furlough.core.states import HostMode, Power
from furlough.core.vm_policy import VmPolicy
from furlough.planning.homecoming import Homecoming, Return
from furlough.planning.planner import roster_of
from furlough.planning.record import Away
from furlough.planning.restore import plan_exit
from tests.core.builders import (
    C1,
    C2,
    H1,
    H2,
    H3,
    H4,
    NOW,
    a_cluster,
    a_host,
    a_vm,
    an_inventory,
    vm_id,
)
from tests.planning.test_restore import EVACUATION, away

_FULL = ClusterPolicy(memory_ceiling=1.0)


def _hosts(*memory_mib: int) -> list[Host]:
    """h1, h2, ... in service, with this much memory each."""
    names = (H1, H2, H3, H4)
    return [
        a_host(name, memory_mib=size, reserved_memory_mib=0)
        for name, size in zip(names, memory_mib, strict=False)
    ]


def _facts(vms: Sequence[Vm], hosts: Sequence[Host], *rules: Rule) -> Inventory:
    cluster = replace(a_cluster(), policy=_FULL, rules=rules)
    return an_inventory(vms, hosts=hosts, clusters=[cluster])


def _home(
    inventory: Inventory, *record: Away, homes: Sequence[HostName] = (H1, H2)
) -> tuple[Plan, dict[int, Return]]:
    plan, decided = plan_exit(inventory, homes, record, ExitOptions())
    return plan, {int(one.away.vm[-12:]): one for one in decided}


def _ring(spare_mib: int = 4096) -> Inventory:
    """VM 1 of h1 is on h2, VM 2 of h2 is on h1, neither has room for another; h3 has."""
    vms = [a_vm(1, host=H2, memory_mib=4096), a_vm(2, host=H1, memory_mib=4096)]
    return _facts(vms, _hosts(4096, 4096, spare_mib))


_RECORD = (away(1, home=H1, left_on=H2), away(2, home=H2, left_on=H1))


def test_two_that_hold_each_others_places_change_them_by_way_of_a_third_host() -> None:
    inventory = _ring()
    plan, told = _home(inventory, *_RECORD)
    (parked, swapped, home) = plan.steps
    assert [(one.vm, one.source, one.targets, one.after) for one in plan.steps] == [
        (vm_id(1), H2, (H3,), ()),
        (vm_id(2), H1, (H2,), (parked.number,)),
        (vm_id(1), H3, (H1,), (parked.number, swapped.number)),
    ]
    assert [one.host for one in plan.steps] == [H1, H2, H1], "each step is its home's"
    assert home.start_s >= swapped.start_s + swapped.duration_s >= parked.duration_s
    assert told[1].by_way_of == H3
    assert "it waits on h3 until h1 has room" in told[1].reason
    assert "it comes once others have left" in told[2].reason
    assert [(one.vm, one.host) for one in roster_of(plan, inventory)] == [
        (vm_id(1), H2),
        (vm_id(2), H1),
    ]
    assert plan.load_after.max == 1.0, "both homes are full again, and h3 is empty"


def test_the_hash_of_a_plan_says_what_comes_after_what() -> None:
    plan, _ = _home(_ring(), *_RECORD)
    free = tuple(replace(step, after=()) for step in plan.steps)
    assert replace(plan, steps=free).hash != plan.hash


def test_without_a_third_host_with_room_nobody_is_moved_for_nothing() -> None:
    plan, told = _home(_ring(spare_mib=1024), *_RECORD)
    assert plan.steps == ()
    assert [one.homecoming for one in told.values()] == [Homecoming.STAYS] * 2


def test_a_host_that_takes_no_vms_is_no_place_to_wait() -> None:
    hosts = _hosts(4096, 4096, 4096)
    hosts[2] = replace(hosts[2], mode=HostMode.CORDONED)
    plan, _ = _home(_facts(_ring().vms, hosts), *_RECORD)
    assert plan.steps == ()


def test_of_two_in_a_ring_only_one_whom_the_third_host_suits_waits_there() -> None:
    vms = [replace(_ring().vms[0], policy=VmPolicy(host_affinity=(H1, H2))), _ring().vms[1]]
    plan, told = _home(_facts(vms, _hosts(4096, 4096, 4096)), *_RECORD)
    assert told[1].by_way_of is None
    assert told[2].by_way_of == H3
    assert len(plan.steps) == 3


def test_vms_that_a_hard_rule_keeps_together_do_not_wait_on_a_third_host() -> None:
    vms = [*_ring().vms, a_vm(3, host=H4, memory_mib=1024)]
    both = Rule(name="both", kind=RuleKind.AFFINITY, vms=("vm1", "vm2"), is_hard=True)
    plan, told = _home(_facts(vms, _hosts(4096, 4096, 4096, 4096), both), *_RECORD)
    assert plan.steps == ()
    assert told[1].homecoming is Homecoming.STAYS


def test_one_that_leaves_makes_room_for_one_that_comes_and_nobody_has_to_wait_elsewhere() -> None:
    vms = [a_vm(1, host=H2, memory_mib=4096), a_vm(2, host=H1, memory_mib=4096)]
    plan, told = _home(_facts(vms, _hosts(4096, 8192, 512)), *_RECORD)
    leaving, coming = plan.steps
    assert (leaving.vm, leaving.after) == (vm_id(2), ())
    assert (coming.vm, coming.after) == (vm_id(1), (leaving.number,))
    assert all(one.by_way_of is None for one in told.values())


def test_who_has_room_at_once_waits_for_nobody_and_whom_no_order_helps_stays() -> None:
    """VM 3 fits h1 now. VM 1 is larger than h1: it stays, and nobody moves for it."""
    vms = [
        a_vm(1, host=H2, memory_mib=16384),
        a_vm(2, host=H1, memory_mib=4096),
        a_vm(3, host=H3, memory_mib=2048),
    ]
    record = (*_RECORD, away(3, home=H1, left_on=H3))
    plan, told = _home(_facts(vms, _hosts(8192, 16384, 8192)), *record)
    assert [(step.vm, step.targets, step.after) for step in plan.steps] == [
        (vm_id(3), (H1,), ()),
    ]
    assert {number for number, one in told.items() if one.homecoming is Homecoming.STAYS} == {1, 2}


def test_those_who_must_not_meet_do_not_meet_on_the_way() -> None:
    """There is room for all, but VM 1 and VM 2 are kept apart: one has to wait elsewhere."""
    apart = Rule(name="apart", kind=RuleKind.ANTI_AFFINITY, vms=("vm1", "vm2"))
    plan, told = _home(_facts(_ring().vms, _hosts(16384, 16384, 16384), apart), *_RECORD)
    parked, swapped, home = plan.steps
    assert (parked.targets, parked.after) == ((H3,), ())
    assert swapped.after == (parked.number,), "not before the other one has left"
    assert home.after == (parked.number, swapped.number)
    assert {one.homecoming for one in told.values()} == {Homecoming.LIVE}


def test_who_is_kept_apart_from_one_that_stays_does_not_come() -> None:
    vms = [a_vm(1, host=H2), a_vm(2, host=H1)]
    apart = Rule(name="apart", kind=RuleKind.ANTI_AFFINITY, vms=("vm1", "vm2"))
    inventory = _facts(vms, _hosts(16384, 16384, 16384), apart)
    plan, told = _home(inventory, _RECORD[0], homes=(H1,))
    assert plan.steps == ()
    assert "keeps it apart from vm2" in told[1].reason


def test_a_home_that_a_hard_rule_forbids_by_now_takes_nobody_back() -> None:
    elsewhere = Rule(name="there", kind=RuleKind.HOST_AFFINITY, vms=("vm1",), hosts=(H2, H3))
    plan, told = _home(_facts(_ring().vms, _hosts(16384, 4096, 16384), elsewhere), *_RECORD)
    assert vm_id(1) not in {step.vm for step in plan.steps}
    assert told[1].homecoming is Homecoming.STAYS


def test_what_is_started_at_home_keeps_its_room_from_those_who_wait_for_some() -> None:
    """VM 3 was shut down on h1 and starts there: VM 1 finds no room, whoever leaves."""
    vms = [
        a_vm(1, host=H2, memory_mib=4096),
        a_vm(2, host=H1, memory_mib=1024),
        a_vm(3, host=H1, memory_mib=4608, power=Power.SHUT_OFF),
    ]
    stopped = replace(away(3, home=H1, left_on=H1), was_stopped=True, method=Method.SHUT_DOWN)
    plan, told = _home(_facts(vms, _hosts(6144, 8192, 8192)), *_RECORD, stopped)
    assert told[3].homecoming is Homecoming.START
    assert told[1].homecoming is Homecoming.STAYS
    assert vm_id(1) not in {step.vm for step in plan.steps}


def test_hosts_of_several_clusters_are_brought_home_each_in_its_own() -> None:
    other = [replace(one, cluster=C2, name=HostName(f"x{one.name}")) for one in _ring().hosts]
    vms = [
        *_ring().vms,
        a_vm(3, host=other[1].name, memory_mib=4096),
        a_vm(4, host=other[0].name, memory_mib=4096),
    ]
    clusters = [replace(a_cluster(name), policy=_FULL) for name in (C1, C2)]
    inventory = an_inventory(vms, hosts=[*_ring().hosts, *other], clusters=clusters)
    names = [one.name for one in other]
    record = [
        *_RECORD,
        away(3, home=names[0], left_on=names[1]),
        away(4, home=names[1], left_on=names[0]),
    ]
    plan, _ = _home(inventory, *record, homes=(H1, H2, *names[:2]))
    assert len(plan.steps) == 6
    assert {step.targets[0] for step in plan.steps} == {H1, H2, H3, *names}
    sources = {step.number: step.source for step in plan.steps}
    for step in plan.steps:
        mine = step.source in names
        assert all((sources[one] in names) == mine for one in step.after), "clusters do not mix"


def test_a_home_that_is_full_of_another_hosts_vms_says_who_could_come_home_together() -> None:
    _, told = _home(_ring(), *_RECORD, homes=(H1,))
    assert "VMs of h2 are there; together they may all come home: furlough exit h1 h2" in (
        told[1].reason
    )
    assert told[1].away.operation == EVACUATION
    assert told[1].away.since == NOW
