"""Choosing targets: jointly, the hardest first, level, and never beyond what a host has left."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.capacity import NOTHING, Load, load_of, rooms
from furlough.core.encryption import MigrationTls, TlsMeans
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Vm
from furlough.core.policy import Reserve
from furlough.core.retry import MOST_ATTEMPTS
from furlough.core.states import HostMode, Power
from furlough.core.vm_policy import VmPolicy
from furlough.planning.causes import Cause
from furlough.planning.compatibility import obstacles
from furlough.planning.live_packing import MOST_TARGETS
from furlough.planning.placement import Placement, place
from tests.core.builders import (
    C2,
    H1,
    H2,
    H3,
    H4,
    a_cluster,
    a_host,
    a_vm,
    an_inventory,
    repeatable,
    vm_id,
)


def _placed(vms: list[Vm], targets: list[Host], residents: list[Vm] | None = None) -> Placement:
    """These VMs of h1, placed on these hosts."""
    inventory = an_inventory([*vms, *(residents or [])], hosts=[a_host(H1), *targets])
    return place(vms, targets, inventory)


def _chosen(placement: Placement) -> dict[VmId, HostName]:
    return {vm: targets[0] for vm, targets in placement.targets.items()}


def _arriving(placement: Placement, vms: list[Vm]) -> dict[HostName, Load]:
    """What each host gets."""
    arriving: dict[HostName, Load] = {}
    for vm in vms:
        if vm.id in placement.targets:
            target = placement.targets[vm.id][0]
            arriving[target] = arriving.get(target, NOTHING) + load_of(vm)
    return arriving


# --- stories -----------------------------------------------------------------------------------


def test_a_vm_goes_to_the_emptier_of_two_equal_hosts() -> None:
    placement = _placed([a_vm(1)], [a_host(H2), a_host(H3)], [a_vm(9, host=H2)])
    assert placement.targets[vm_id(1)] == (H3, H2)


def test_a_bigger_host_takes_more_than_a_small_one() -> None:
    targets = [a_host(H2, memory_mib=32768), a_host(H3, memory_mib=98304)]
    vms = [a_vm(number, memory_mib=4096) for number in range(1, 9)]
    arriving = _arriving(_placed(vms, targets), vms)
    assert arriving[H3].memory_mib == 3 * arriving[H2].memory_mib


def test_a_vm_goes_to_the_host_that_it_fills_least_and_not_to_the_emptiest() -> None:
    """10 % used would become 60 %; 25 % used becomes 38 %."""
    targets = [a_host(H2, memory_mib=10_000), a_host(H3, memory_mib=40_000)]
    residents = [a_vm(8, host=H2, memory_mib=1000), a_vm(9, host=H3, memory_mib=10_000)]
    placement = _placed([a_vm(1, memory_mib=5000)], targets, residents)
    assert _chosen(placement) == {vm_id(1): H3}


def test_memory_decides_before_processors_do() -> None:
    """h2 has half of its memory in use, h3 a tenth of it but most of its vCPUs."""
    targets = [a_host(H2, memory_mib=10_000, cpus=25), a_host(H3, memory_mib=10_000, cpus=25)]
    residents = [
        a_vm(8, host=H2, memory_mib=5000, vcpus=0),
        a_vm(9, host=H3, memory_mib=1000, vcpus=60),
    ]
    placement = _placed([a_vm(1, memory_mib=600, vcpus=6)], targets, residents)
    assert _chosen(placement) == {vm_id(1): H3}


def test_processors_decide_where_memory_is_nearly_level() -> None:
    targets = [a_host(H2, memory_mib=10_000, cpus=25), a_host(H3, memory_mib=10_000, cpus=25)]
    residents = [
        a_vm(8, host=H2, memory_mib=3000, vcpus=0),
        a_vm(9, host=H3, memory_mib=2500, vcpus=90),
    ]
    placement = _placed([a_vm(1, memory_mib=600, vcpus=6)], targets, residents)
    assert _chosen(placement) == {vm_id(1): H2}


def test_the_vm_with_the_fewest_hosts_to_choose_from_is_placed_first() -> None:
    picky = a_vm(1, memory_mib=4096, networks=["dmz"])
    easy = a_vm(2, memory_mib=8192)
    targets = [a_host(H2, memory_mib=8192, networks=["lan", "dmz"]), a_host(H3, memory_mib=8192)]
    assert _chosen(_placed([easy, picky], targets)) == {vm_id(1): H2, vm_id(2): H3}


def test_the_largest_vm_is_placed_before_small_ones_leave_it_only_crumbs() -> None:
    vms = [a_vm(1, memory_mib=4096), a_vm(2, memory_mib=4096), a_vm(3, memory_mib=8192)]
    targets = [a_host(H2, memory_mib=8192), a_host(H3, memory_mib=8192)]
    assert _placed(vms, targets).refusals == {}


def test_a_retry_may_take_the_other_hosts_that_still_have_room() -> None:
    targets = [a_host(H2), a_host(H3), a_host(H4, memory_mib=2048)]
    ranked = _placed([a_vm(1, memory_mib=4096)], targets).targets[vm_id(1)]
    assert ranked == (H2, H3), "h4 is too small for it, now and at a retry"


def test_a_vm_that_fits_nowhere_is_refused_with_a_reason_for_every_host() -> None:
    targets = [a_host(H2, networks=[]), a_host(H3, memory_mib=2048, cpus=1)]
    refusal = _placed([a_vm(1, memory_mib=4096, vcpus=6)], targets).refusals[vm_id(1)]
    assert [one.message for one in refusal[H2]] == ["it has no network lan"]
    assert [(one.cause, one.message) for one in refusal[H3]] == [
        (Cause.ROOM, "it has room for 2048 MiB and 4 vCPUs, 4096 MiB and 6 are needed")
    ]


def test_a_host_that_others_of_the_plan_have_filled_is_refused_for_its_room() -> None:
    vms = [a_vm(1, memory_mib=6000), a_vm(2, memory_mib=5000)]
    refusal = _placed(vms, [a_host(H2, memory_mib=8192)]).refusals
    assert set(refusal) == {vm_id(2)}
    assert "room for 2192 MiB" in refusal[vm_id(2)][H2][0].message


def test_an_overfull_host_is_said_to_have_no_room_and_not_less_than_none() -> None:
    resident = a_vm(9, host=H2, memory_mib=9000)
    refusal = _placed([a_vm(1)], [a_host(H2, memory_mib=8192)], [resident]).refusals[vm_id(1)]
    assert "room for 0 MiB" in refusal[H2][0].message


def test_vcpus_run_out_as_memory_does() -> None:
    refusal = _placed([a_vm(1, vcpus=65)], [a_host(H2, cpus=16)]).refusals
    assert refusal[vm_id(1)][H2][0].cause is Cause.ROOM


def test_without_any_host_every_vm_is_refused_without_a_reason_to_name() -> None:
    assert _placed([a_vm(1)], []).refusals == {vm_id(1): {}}


def test_another_judge_may_forbid_what_facts_would_allow() -> None:
    vm, target = a_vm(1), a_host(H2, mode=HostMode.EXITING)
    inventory = an_inventory([vm], hosts=[a_host(H1), target])
    assert place([vm], [target], inventory, judge=obstacles).targets == {}
    assert place([vm], [target], inventory, judge=lambda *_: ()).targets == {vm_id(1): (H2,)}


def test_vms_of_several_clusters_are_placed_each_in_its_own() -> None:
    x1, x2 = HostName("x1"), HostName("x2")
    hosts = [a_host(H1), a_host(H2), a_host(x1, cluster=C2), a_host(x2, cluster=C2)]
    vms = [a_vm(1), a_vm(2, host=x1), a_vm(3, host=x1, memory_mib=10**6)]
    inventory = an_inventory(vms, hosts=hosts, clusters=[a_cluster(), a_cluster(C2)])
    placement = place(vms, [hosts[1], hosts[3]], inventory, leaving=[H1, x1])
    assert placement.targets == {vm_id(1): (H2,), vm_id(2): (x2,)}
    assert set(placement.refusals[vm_id(3)]) == {x2}


def test_a_step_has_more_targets_than_attempts_and_not_hundreds() -> None:
    targets = [a_host(HostName(f"t{n:02}")) for n in range(20)]
    (ranked,) = _placed([a_vm(1)], targets).targets.values()
    assert len(ranked) == len(set(ranked)) == MOST_TARGETS > MOST_ATTEMPTS


def test_nobody_whose_host_stays_is_moved_and_those_who_could_make_room_are_named() -> None:
    targets = [a_host(H2, memory_mib=10_000), a_host(H3, memory_mib=4000)]
    residents = [a_vm(9, host=H2, memory_mib=2500)]
    inventory = an_inventory([a_vm(1, memory_mib=8000), *residents], hosts=[a_host(H1), *targets])
    placement = place(inventory.vms_on(H1), targets, inventory, leaving=[H1])
    assert placement.targets == {}
    assert placement.helpers == {vm_id(9): H3}
    assert placement.helped == {vm_id(1)}


def test_who_makes_room_moves_where_that_is_asked_for() -> None:
    targets = [a_host(H2, memory_mib=10_000), a_host(H3, memory_mib=4000)]
    residents = [a_vm(9, host=H2, memory_mib=2500)]
    inventory = an_inventory([a_vm(1, memory_mib=8000), *residents], hosts=[a_host(H1), *targets])
    placement = place(inventory.vms_on(H1), targets, inventory, leaving=[H1], moves_others=True)
    assert placement.targets == {vm_id(1): (H2,)}
    assert placement.makers == {vm_id(9): (H3,)}
    assert (placement.helpers, placement.helped, placement.refusals) == ({}, frozenset(), {})


def test_one_that_runs_twice_makes_no_room() -> None:
    targets = [
        a_host(H2, memory_mib=10_000),
        a_host(H3, memory_mib=4000),
        a_host(H4, memory_mib=4000),
    ]
    residents = [a_vm(9, host=H2, memory_mib=2500), a_vm(9, host=H4, memory_mib=2500)]
    inventory = an_inventory([a_vm(1, memory_mib=8000), *residents], hosts=[a_host(H1), *targets])
    placement = place(inventory.vms_on(H1), targets, inventory, leaving=[H1], moves_others=True)
    assert (placement.targets, placement.makers) == ({}, {})


def test_who_makes_room_only_after_others_have_is_named_and_not_moved() -> None:
    """vm9 would have to go to h3, from where vm8 would have to go to h4 before."""
    targets = [
        a_host(H2, memory_mib=10_000),
        a_host(H3, memory_mib=6000, networks=["lan", "dmz"]),
        a_host(H4, memory_mib=4000, networks=["lan"]),
    ]
    residents = [
        a_vm(9, host=H2, memory_mib=4000, networks=["dmz"]),
        a_vm(8, host=H3, memory_mib=2500),
    ]
    hosts = [a_host(H1), replace(targets[0], networks=frozenset({"lan", "dmz"})), *targets[1:]]
    inventory = an_inventory([a_vm(1, memory_mib=8000), *residents], hosts=hosts)
    placement = place(inventory.vms_on(H1), hosts[1:], inventory, leaving=[H1], moves_others=True)
    assert (placement.targets, placement.makers) == ({}, {})
    assert placement.helpers == {vm_id(9): H3, vm_id(8): H4}


def test_who_could_make_room_is_no_advice_for_those_whom_it_does_not_help() -> None:
    """One more fits nowhere because of its network, whoever moves."""
    targets = [a_host(H2, memory_mib=10_000), a_host(H3, memory_mib=4000)]
    movers = [a_vm(1, memory_mib=8000), a_vm(2, networks=["dmz"])]
    residents = [a_vm(9, host=H2, memory_mib=2500)]
    inventory = an_inventory([*movers, *residents], hosts=[a_host(H1), *targets])
    placement = place(movers, targets, inventory, leaving=[H1])
    assert set(placement.refusals) == {vm_id(1), vm_id(2)}
    assert placement.helped == {vm_id(1)}


def test_who_could_make_room_is_judged_by_what_it_is_itself() -> None:
    """The one that would have to move needs a network that the only other host lacks."""
    lan, both = ["lan"], ["lan", "dmz"]
    targets = [a_host(H2, memory_mib=10_000, networks=both), a_host(H3, memory_mib=4000)]
    residents = [a_vm(9, host=H2, memory_mib=2500, networks=["dmz"])]
    movers = [a_vm(1, memory_mib=8000, networks=lan)]
    inventory = an_inventory([*movers, *residents], hosts=[a_host(H1), *targets])
    placement = place(movers, targets, inventory, leaving=[H1])
    assert (placement.targets, placement.helpers) == ({}, {})


def test_vms_that_have_to_be_apart_retry_nowhere_where_they_might_meet() -> None:
    vms = [a_vm(n, policy=VmPolicy(anti_affinity_group="pair")) for n in (1, 2)]
    placement = _placed(vms, [a_host(H2), a_host(H3), a_host(H4)])
    ways = [set(targets) for targets in placement.targets.values()]
    assert len(ways) == 2
    assert ways[0].isdisjoint(ways[1])


def test_a_host_that_somebody_keeps_empty_is_no_reserve() -> None:
    cluster = a_cluster(reserve=Reserve.N_PLUS_1)
    hosts = [a_host(name, memory_mib=20_000) for name in (H1, H2, H3)]
    vms = [a_vm(1, memory_mib=4000), a_vm(2, host=H2, memory_mib=12_000)]
    kept = [*hosts[:2], replace(hosts[2], kept_empty_by="root at the console")]
    for known, gaps in ((hosts, set()), (kept, {H2})):
        inventory = an_inventory(vms, hosts=known, clusters=[cluster])
        placement = place(inventory.vms_on(H1), [known[1]], inventory, leaving=[H1])
        assert set(placement.gaps) == gaps


def test_without_a_reserve_only_vms_marked_ha_have_to_survive_one_more_host() -> None:
    ha = VmPolicy(ha=True)
    vms = [a_vm(1), a_vm(2, host=H2, policy=ha), a_vm(3, host=H2)]
    inventory = an_inventory(vms, hosts=[a_host(H1), a_host(H2)])
    placement = place(inventory.vms_on(H1), [inventory.host(H2)], inventory, leaving=[H1])
    assert placement.gaps == {H2: (vm_id(2),)}


def test_a_vm_that_starts_where_it_is_takes_huge_pages_there_as_well() -> None:
    host = replace(a_host(H2), free_huge_pages={2048: 2048})
    off = [replace(a_vm(n, host=H2, power=Power.SHUT_OFF), huge_page_kib=2048) for n in (1, 2)]
    inventory = an_inventory(off, hosts=[a_host(H1), host])
    placement = place(off, [host], inventory, judge=lambda *_: ())
    assert list(placement.targets) == [vm_id(1)]
    (refusal,) = placement.refusals[vm_id(2)][H2]
    assert refusal.cause is Cause.HUGE_PAGES


# --- properties --------------------------------------------------------------------------------

_VM_SHAPES = st.tuples(
    st.sampled_from([512, 1024, 4096, 12_000, 40_000]),
    st.integers(1, 12),
    st.sampled_from([("lan",), ("dmz",), ("lan", "dmz"), ()]),
)
_HOST_SHAPES = st.tuples(
    st.sampled_from([4096, 16_384, 65_536]),
    st.integers(1, 16),
    st.sampled_from([("lan",), ("lan", "dmz")]),
    st.sampled_from([HostMode.AVAILABLE, HostMode.AVAILABLE, HostMode.CORDONED]),
)
_RESIDENTS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1024, 9000, 70_000])))


@st.composite
def _problems(draw: st.DrawFn) -> tuple[list[Vm], list[Host], list[Vm]]:
    """VMs to place, hosts to place them on, and VMs that are on those hosts already."""
    shapes = draw(st.lists(_HOST_SHAPES, min_size=1, max_size=4))
    hosts = [
        a_host(HostName(f"t{n}"), memory_mib=memory, cpus=cpus, networks=networks, mode=mode)
        for n, (memory, cpus, networks, mode) in enumerate(shapes)
    ]
    vms = [
        a_vm(n, memory_mib=memory, vcpus=vcpus, networks=networks)
        for n, (memory, vcpus, networks) in enumerate(draw(st.lists(_VM_SHAPES, max_size=8)), 1)
    ]
    residents = [
        a_vm(100 + n, host=hosts[where % len(hosts)].name, memory_mib=memory)
        for n, (where, memory) in enumerate(draw(_RESIDENTS))
    ]
    return vms, hosts, residents


@repeatable
@given(_problems())
def test_no_host_is_ever_filled_beyond_its_limit(
    problem: tuple[list[Vm], list[Host], list[Vm]],
) -> None:
    vms, hosts, residents = problem
    inventory = an_inventory([*vms, *residents], hosts=[a_host(H1), *hosts])
    arriving = _arriving(_placed(vms, hosts, residents), vms)
    for host, room in rooms(inventory, hosts).items():
        if host in arriving:
            assert arriving[host].fits_in(room)


@repeatable
@given(_problems())
def test_every_vm_is_either_placed_or_refused_with_a_reason_for_every_host(
    problem: tuple[list[Vm], list[Host], list[Vm]],
) -> None:
    vms, hosts, residents = problem
    placement = _placed(vms, hosts, residents)
    assert set(placement.targets) | set(placement.refusals) == {vm.id for vm in vms}
    assert not set(placement.targets) & set(placement.refusals)
    for against in placement.refusals.values():
        assert set(against) == {host.name for host in hosts}
        assert all(against.values()), "a host is refused without a reason"


@repeatable
@given(_problems())
def test_nobody_is_sent_to_a_host_that_something_stands_against_not_even_at_a_retry(
    problem: tuple[list[Vm], list[Host], list[Vm]],
) -> None:
    vms, hosts, residents = problem
    inventory = an_inventory([*vms, *residents], hosts=[a_host(H1), *hosts])
    targets = _placed(vms, hosts, residents).targets
    for vm in vms:
        ranked = targets.get(vm.id, ())
        assert len(set(ranked)) == len(ranked)
        for name in ranked:
            assert obstacles(vm, inventory.host(name), inventory) == []


@repeatable
@given(_problems(), st.randoms(use_true_random=False))
def test_the_order_in_which_facts_arrive_decides_nothing(
    problem: tuple[list[Vm], list[Host], list[Vm]], shuffler: Random
) -> None:
    vms, hosts, residents = problem
    in_order = _placed(vms, hosts, residents)
    for group in (vms, hosts, residents):
        shuffler.shuffle(group)
    assert _placed(vms, hosts, residents) == in_order


def test_three_vms_and_three_hosts_give_the_same_placement_in_every_order() -> None:
    vms = [a_vm(1, memory_mib=1000), a_vm(2, memory_mib=1000), a_vm(3, memory_mib=2000)]
    hosts = [a_host(H2), a_host(H3), a_host(H4, memory_mib=32768)]
    first = _placed(vms, hosts)
    for some_vms in permutations(vms):
        for some_hosts in permutations(hosts):
            assert _placed(list(some_vms), list(some_hosts)) == first


@repeatable
@given(st.integers(1, 5), st.integers(0, 24), st.sampled_from([512, 4096]), st.integers(1, 3))
def test_equal_vms_are_spread_over_equal_hosts_to_within_one(
    hosts: int, vms: int, memory_mib: int, vcpus: int
) -> None:
    targets = [a_host(HostName(f"t{n}"), memory_mib=131_072, cpus=64) for n in range(hosts)]
    moving = [a_vm(n, memory_mib=memory_mib, vcpus=vcpus) for n in range(1, vms + 1)]
    placement = _placed(moving, targets)
    counts = [list(_chosen(placement).values()).count(host.name) for host in targets]
    assert sum(counts) == vms
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("who", ["source", "target"])
def test_nobody_is_placed_where_memory_would_have_to_pass_in_clear_and_may_not(who: str) -> None:
    """Unprobed hosts too, against which there is nothing else."""
    lacks, required = TlsMeans(trouble="it has none"), MigrationTls.REQUIRED
    h1, h2 = a_host(H1), replace(a_host(H2), tls=lacks)
    if who == "source":
        h1 = replace(h1, migration_tls=required)
    else:
        h2 = replace(h2, migration_tls=required)
    inventory = an_inventory([a_vm(1)], hosts=[h1, h2, a_host(H3)])
    found = place(inventory.vms, [h2, a_host(H3)], inventory)
    assert found.targets == {vm_id(1): (H3,)}
