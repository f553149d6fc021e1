"""Rules and groups: who must be together, apart, or only on some hosts, and what that forbids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from furlough.core.affinity import Rule, RuleKind
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory, Vm
from furlough.core.states import Power
from furlough.core.vm_policy import VmPolicy
from furlough.planning.bonds import Bonds, bonds_of
from furlough.planning.causes import Cause
from furlough.planning.placement import Placement, place
from tests.core.builders import (
    C1,
    C2,
    H1,
    H2,
    H3,
    H4,
    a_cluster,
    a_host,
    a_vm,
    an_inventory,
    vm_id,
)

TOGETHER, APART, ON = RuleKind.AFFINITY, RuleKind.ANTI_AFFINITY, RuleKind.HOST_AFFINITY


def _rule(
    kind: RuleKind, *vms: str, hosts: Iterable[HostName] = (), is_hard: bool = True, name: str = "r"
) -> Rule:
    return Rule(name=name, kind=kind, vms=vms, hosts=tuple(hosts), is_hard=is_hard)


def _ruled(vms: list[Vm], *rules: Rule) -> Inventory:
    hosts = [a_host(name) for name in (H1, H2, H3, H4)]
    return an_inventory(vms, hosts=hosts, clusters=[a_cluster(rules=rules)])


def _placed(inventory: Inventory) -> Placement:
    """The VMs of h1 on the other hosts."""
    targets = [host for host in inventory.hosts if host.name != H1]
    return place(inventory.vms_on(H1), targets, inventory)


def _bonds(inventory: Inventory) -> Bonds:
    return bonds_of(inventory, {C1})


def _messages(placement: Placement, number: int) -> set[str]:
    return {one.message for found in placement.refusals[vm_id(number)].values() for one in found}


# --- together ----------------------------------------------------------------------------------


def test_groups_that_share_a_member_are_one_unit() -> None:
    vms = [a_vm(n) for n in range(1, 6)]
    rules = [_rule(TOGETHER, "vm1", "vm2"), _rule(TOGETHER, "vm2", "vm4", name="s")]
    targets = _placed(_ruled(vms, *rules)).targets
    assert len({targets[vm_id(n)] for n in (1, 2, 4)}) == 1, "together, and retrying nowhere else"
    assert {len(targets[vm_id(n)]) for n in (3, 5)} == {3}


def test_a_soft_rule_makes_no_unit_but_is_held_where_it_can_be() -> None:
    rule = _rule(TOGETHER, "vm1", "vm2", is_hard=False)
    inventory = _ruled([a_vm(1), a_vm(2)], rule)
    targets = _placed(inventory).targets
    assert targets[vm_id(1)][0] == targets[vm_id(2)][0], "though two hosts would be more level"
    big = _ruled([a_vm(n, memory_mib=40_000) for n in (1, 2)], rule)
    targets = _placed(big).targets
    assert targets[vm_id(1)][0] != targets[vm_id(2)][0]


def test_a_unit_goes_where_there_is_room_for_all_of_it_and_retries_nowhere_else() -> None:
    residents = [a_vm(8, host=H2, memory_mib=50_000), a_vm(9, host=H3, memory_mib=50_000)]
    vms = [a_vm(1, memory_mib=10_000), a_vm(2, memory_mib=10_000)]
    placement = _placed(_ruled([*vms, *residents], _rule(TOGETHER, "vm1", "vm2")))
    assert placement.targets == {vm_id(1): (H4,), vm_id(2): (H4,)}


def test_what_stands_against_one_of_a_unit_stands_against_all() -> None:
    vms = [a_vm(1), a_vm(2, networks=["dmz"])]
    hosts = [a_host(H1), a_host(H2), a_host(H3, networks=["lan", "dmz"])]
    rule = _rule(TOGETHER, "vm1", "vm2")
    inventory = an_inventory(vms, hosts=hosts, clusters=[a_cluster(rules=[rule])])
    assert _placed(inventory).targets == {vm_id(1): (H3,), vm_id(2): (H3,)}
    lacking = replace(inventory, hosts=hosts[:2])
    assert _messages(_placed(lacking), 1) == {"vm2, which it has to be with: it has no network dmz"}
    assert _messages(_placed(lacking), 2) == {"it has no network dmz"}


def test_members_that_run_elsewhere_attract_but_forbid_nothing() -> None:
    """The group is apart already; it is not torn further by a host that has no room."""
    mate = a_vm(2, host=H3)
    rule = _rule(TOGETHER, "vm1", "vm2")
    assert _placed(_ruled([a_vm(1), mate], rule)).targets[vm_id(1)][0] == H3
    full = a_vm(3, host=H3, memory_mib=61_000)
    assert _placed(_ruled([a_vm(1), mate, full], rule)).targets[vm_id(1)][0] != H3


# --- apart -------------------------------------------------------------------------------------


def test_vms_that_must_be_apart_go_to_different_hosts_and_retry_on_none_of_the_others() -> None:
    placement = _placed(_ruled([a_vm(1), a_vm(2)], _rule(APART, "vm1", "vm2")))
    first, second = placement.targets[vm_id(1)], placement.targets[vm_id(2)]
    assert first[0] != second[0]
    assert second[0] not in first
    assert first[0] not in second


def test_a_host_that_runs_the_other_one_is_no_target() -> None:
    vms = [a_vm(1), *(a_vm(n, host=host) for n, host in ((2, H2), (3, H3), (4, H4)))]
    placement = _placed(_ruled(vms, _rule(APART, "vm1", "vm2", "vm3", "vm4", name="ha")))
    assert {one.cause for one in placement.refusals[vm_id(1)][H2]} == {Cause.RULE}
    assert _messages(placement, 1) == {
        f"rule ha keeps it apart from vm{n} there" for n in (2, 3, 4)
    }


def test_a_vm_that_is_off_keeps_nobody_away() -> None:
    mates = [a_vm(n, host=host, power=Power.SHUT_OFF) for n, host in ((2, H2), (3, H3), (4, H4))]
    rule = _rule(APART, "vm1", "vm2", "vm3", "vm4")
    assert vm_id(1) in _placed(_ruled([a_vm(1), *mates], rule)).targets


def test_the_last_one_for_which_no_host_is_free_of_the_others_is_told_who_sits_where() -> None:
    vms = [a_vm(n) for n in range(1, 5)]
    placement = _placed(_ruled(vms, _rule(APART, "vm1", "vm2", "vm3", "vm4")))
    (left,) = placement.refusals
    assert {one.cause for found in placement.refusals[left].values() for one in found} == {
        Cause.RULE
    }


def test_softly_apart_is_apart_as_long_as_there_are_hosts() -> None:
    policy = VmPolicy(anti_affinity_group="web")
    hard = _placed(_ruled([a_vm(n, policy=policy) for n in (1, 2, 3)])).targets
    assert len({one[0] for one in hard.values()}) == 3
    vms = [a_vm(n) for n in range(1, 5)]
    rule = _rule(APART, *(vm.name for vm in vms), is_hard=False)
    soft = _placed(_ruled(vms, rule)).targets
    assert len(soft) == 4
    assert len({one[0] for one in soft.values()}) == 3


def test_rules_that_contradict_each_other_leave_no_host() -> None:
    rules = [_rule(TOGETHER, "vm1", "vm2"), _rule(APART, "vm1", "vm2", name="s")]
    placement = _placed(_ruled([a_vm(1), a_vm(2)], *rules))
    assert _messages(placement, 1) == {"rules keep it and those it has to be with from being there"}


# --- on some hosts -----------------------------------------------------------------------------


def test_a_vm_with_host_affinity_uses_only_those_hosts() -> None:
    by_rule = _ruled([a_vm(1)], _rule(ON, str(vm_id(1)), hosts=[H1, H3]))
    assert _placed(by_rule).targets == {vm_id(1): (H3,)}
    by_policy = _ruled([a_vm(1, policy=VmPolicy(host_affinity=(H4,)))])
    assert _placed(by_policy).targets == {vm_id(1): (H4,)}
    nowhere = _ruled([a_vm(1)], _rule(ON, "vm1", hosts=[H1]))
    assert _messages(_placed(nowhere), 1) == {"rule r allows only h1"}


def test_a_soft_host_affinity_is_a_preference() -> None:
    residents = [a_vm(9, host=H4)]
    inventory = _ruled([a_vm(1), *residents], _rule(ON, "vm1", hosts=[H4], is_hard=False))
    ranked = _placed(inventory).targets[vm_id(1)]
    assert ranked[0] == H4
    assert set(ranked) == {H2, H3, H4}


# --- where rules hold --------------------------------------------------------------------------


def test_rules_of_a_cluster_bind_no_vm_of_another() -> None:
    inventory = an_inventory(
        [a_vm(1), a_vm(2, name="vm1", host=H2)],
        hosts=[a_host(H1), a_host(H2, cluster=C2)],
        clusters=[a_cluster(C1, rules=[_rule(APART, "vm1")]), a_cluster(C2)],
    )
    assert set(bonds_of(inventory, {C1, C2}).by_vm) == {vm_id(1)}
    assert bonds_of(inventory, {C2}).by_vm == {}


def test_a_rule_about_vms_that_are_not_there_binds_nobody() -> None:
    assert _bonds(_ruled([a_vm(1)], _rule(APART, "gone", "vm9"))).by_vm == {}


# --- huge pages --------------------------------------------------------------------------------


def test_huge_pages_are_counted_down_as_vms_are_placed() -> None:
    vms = [replace(a_vm(n), huge_page_kib=2048) for n in (1, 2, 3)]
    hosts = [a_host(H1)] + [
        replace(a_host(name), free_huge_pages={2048: 2048}) for name in (H2, H3)
    ]
    placement = _placed(an_inventory(vms, hosts=hosts))
    assert sorted(one[0] for one in placement.targets.values()) == [H2, H3]
    (left,) = placement.refusals.values()
    assert {one.message for found in left.values() for one in found} == {
        "too few huge pages of 2048 KiB are left there"
    }
