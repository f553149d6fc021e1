"""Crossing: the own cluster first, another one for who finds no place there, and nothing of the
other one's that is not to spare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from furlough.core.affinity import Rule, RuleKind
from furlough.core.capacity import Reservation
from furlough.core.ids import ClusterName, HostName, OperationId, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.policy import EnterOptions, Reserve
from furlough.core.vm_policy import VmPolicy
from furlough.planning.candidates import candidates
from furlough.planning.crossing import place_across
from furlough.planning.placement import Placement
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
    load,
    vm_id,
)

C3 = ClusterName("c3")
H5, H6 = HostName("h5"), HostName("h6")


def _facts(
    vms: Iterable[Vm],
    *,
    near_mib: int = 4096,
    far: Sequence[Host] = (),
    rules: Iterable[Rule] = (),
    far_rules: Iterable[Rule] = (),
    reserve: Reserve = Reserve.NONE,
    overflow: Iterable[ClusterName] = (C2,),
) -> Inventory:
    """h1, which is emptied, and h2 are one cluster; h3 and h4, or `far`, are another one."""
    there = list(far) or [a_host(name, cluster=C2, memory_mib=16384) for name in (H3, H4)]
    return an_inventory(
        vms,
        hosts=[a_host(H1), a_host(H2, memory_mib=near_mib), *there],
        clusters=[
            a_cluster(rules=rules, overflow=overflow),
            a_cluster(C2, rules=far_rules, reserve=reserve),
            a_cluster(C3),
        ],
    )


def _placed(
    inventory: Inventory, reservations: Sequence[Reservation] = (), *, within: bool = False
) -> Placement:
    """Where everybody on h1 would go."""
    hosts = candidates(inventory, [H1], EnterOptions(within_cluster=within))
    vms = inventory.vms_on(H1)
    return place_across(vms, hosts, inventory, reservations, leaving=[H1])


def _where(found: Placement) -> dict[VmId, HostName]:
    return {vm: hosts[0] for vm, hosts in found.targets.items()}


def _words(found: Placement, number: int) -> dict[HostName, str]:
    against = found.refusals[vm_id(number)]
    return {host: ", ".join(one.message for one in words) for host, words in against.items()}


# --- who crosses --------------------------------------------------------------------------------


def test_only_who_has_no_room_in_the_own_cluster_crosses() -> None:
    found = _placed(_facts([a_vm(1, memory_mib=4096), a_vm(2, memory_mib=4096)]))
    near = [vm for vm, host in _where(found).items() if host == H2]
    far = [vm for vm, host in _where(found).items() if host in (H3, H4)]
    assert (len(near), len(far), found.refusals) == (1, 1, {})
    assert list(found.crossing) == far
    (words,) = found.crossing[far[0]][H2]
    assert "room for 0 MiB" in words.message


def test_nobody_crosses_where_the_own_cluster_has_room_for_all() -> None:
    found = _placed(_facts([a_vm(1, memory_mib=2048), a_vm(2, memory_mib=2048)]))
    assert set(_where(found).values()) == {H2}
    assert found.crossing == {}


def test_nobody_crosses_unless_the_cluster_allows_it() -> None:
    found = _placed(_facts([a_vm(1, memory_mib=8192)], overflow=()))
    assert (found.targets, list(_words(found, 1))) == ({}, [H2])


def test_nobody_crosses_where_the_request_forbids_it() -> None:
    found = _placed(_facts([a_vm(1, memory_mib=8192)]), within=True)
    assert (found.targets, list(_words(found, 1))) == ({}, [H2])


def test_who_crosses_may_retry_on_other_hosts_over_there() -> None:
    found = _placed(_facts([a_vm(1, memory_mib=8192)]))
    assert sorted(found.targets[vm_id(1)]) == [H3, H4]


def test_the_next_cluster_is_asked_where_the_first_one_has_no_room_either() -> None:
    far = [a_host(H3, cluster=C2, memory_mib=4096), a_host(H5, cluster=C3)]
    inventory = _facts([a_vm(1, memory_mib=8192)], far=far, overflow=(C2, C3))
    assert _where(_placed(inventory)) == {vm_id(1): H5}


def test_who_fits_nowhere_is_told_what_stands_against_every_host_of_both_clusters() -> None:
    far = [
        a_host(H3, cluster=C2, networks=["dmz"]),
        a_host(H4, cluster=C2, datastores=["others"]),
        a_host(H5, cluster=C2, memory_mib=4096),
    ]
    found = _placed(_facts([a_vm(1, memory_mib=8192)], far=far))
    words = _words(found, 1)
    assert "it has room for 4096 MiB" in words[H2]
    assert "it has no network lan" in words[H3]
    assert "it does not reach datastore images of disk vda" in words[H4]
    assert "it has room for 4096 MiB" in words[H5]
    assert found.crossing == {}


# --- what holds over there ----------------------------------------------------------------------


def test_room_that_is_promised_over_there_is_not_given_away() -> None:
    held = [
        Reservation(operation=OperationId("op-1"), vm=vm_id(9), host=host, load=load(12288))
        for host in (H3, H4)
    ]
    found = _placed(_facts([a_vm(1, memory_mib=8192)]), held)
    assert "it has room for 4096 MiB" in _words(found, 1)[H3]


def test_who_crosses_takes_no_room_that_the_other_cluster_keeps_for_losing_a_host() -> None:
    """h3 and h4 have 16 GiB each, and 6 are used on each: 4 are to spare, if one is lost."""
    residents = [a_vm(8, host=H3, memory_mib=6144), a_vm(9, host=H4, memory_mib=6144)]
    movers = [
        a_vm(1, memory_mib=4096, policy=VmPolicy(availability_priority=90)),
        a_vm(2, memory_mib=4096, policy=VmPolicy(availability_priority=10)),
    ]
    inventory = _facts([*movers, *residents], near_mib=1024, reserve=Reserve.N_PLUS_1)
    found = _placed(inventory)
    assert list(found.targets) == [vm_id(1)]
    assert _words(found, 2)[H3] == "the reserve of cluster c2 would be used up"
    assert found.gaps == {}


def test_a_cluster_that_keeps_no_room_gives_all_it_has() -> None:
    residents = [a_vm(8, host=H3, memory_mib=6144), a_vm(9, host=H4, memory_mib=6144)]
    movers = [a_vm(number, memory_mib=4096) for number in (1, 2)]
    found = _placed(_facts([*movers, *residents], near_mib=1024))
    assert set(found.targets) == {vm_id(1), vm_id(2)}


def test_a_gap_that_was_there_before_keeps_nobody_out_who_does_not_widen_it() -> None:
    """Nothing could take over the large VM of h3 before either."""
    far = [a_host(H3, cluster=C2), a_host(H4, cluster=C2), a_host(H5, cluster=C2)]
    residents = [a_vm(8, host=H3, memory_mib=61440)]
    residents += [a_vm(number, host=host, memory_mib=8192) for number, host in ((6, H4), (7, H5))]
    inventory = _facts(
        [a_vm(1, memory_mib=4096), *residents], near_mib=1024, far=far, reserve=Reserve.N_PLUS_1
    )
    assert list(_placed(inventory).targets) == [vm_id(1)]


def test_groups_of_the_other_cluster_hold_for_who_comes() -> None:
    apart = VmPolicy(anti_affinity_group="db")
    far = [a_host(H3, cluster=C2), a_host(H4, cluster=C2, memory_mib=8192)]
    resident = a_vm(9, host=H3, policy=apart)
    inventory = _facts([a_vm(1, memory_mib=8192, policy=apart), resident], far=far)
    assert _where(_placed(inventory)) == {vm_id(1): H4}


def test_a_host_that_is_emptied_over_there_takes_nobody() -> None:
    inventory = _facts([a_vm(1, memory_mib=8192), a_vm(9, host=H4, memory_mib=1024)])
    hosts = candidates(inventory, [H1, H4], EnterOptions())
    vms = [*inventory.vms_on(H1), *inventory.vms_on(H4)]
    found = place_across(vms, hosts, inventory, leaving=[H1, H4])
    assert _where(found) == {vm_id(1): H3, vm_id(9): H3}
    assert list(found.crossing) == [vm_id(1)]


# --- what they bring along ----------------------------------------------------------------------


def _rule(kind: RuleKind, *numbers: int, hosts: Iterable[HostName] = ()) -> Rule:
    return Rule(
        name="shop",
        kind=kind,
        vms=tuple(f"vm{number}" for number in numbers),
        hosts=tuple(hosts),
    )


def test_who_has_to_be_apart_at_home_is_apart_over_there() -> None:
    vms = [a_vm(1, memory_mib=2048), a_vm(2, memory_mib=2048)]
    rules = [_rule(RuleKind.ANTI_AFFINITY, 1, 2)]
    found = _placed(_facts(vms, near_mib=1024, rules=rules))
    assert sorted(_where(found).values()) == [H3, H4]


def test_who_has_to_be_together_goes_together() -> None:
    together = VmPolicy(affinity_group="shop")
    vms = [a_vm(number, memory_mib=3072, policy=together) for number in (1, 2)]
    far = [a_host(name, cluster=C2, memory_mib=6144) for name in (H3, H4, H5)]
    found = _placed(_facts(vms, far=far))
    (host,) = set(_where(found).values())
    assert (len(found.targets), host in (H3, H4, H5)) == (2, True)


def test_who_would_leave_somebody_behind_stays_and_so_does_everybody_tied_to_it() -> None:
    """vm1 has to be with vm2, which has to be with vm3, which is on h2."""
    rules = [
        _rule(RuleKind.AFFINITY, 1, 2),
        Rule(name="late", kind=RuleKind.AFFINITY, vms=("vm2", "vm3")),
    ]
    vms = [a_vm(number, memory_mib=8192) for number in (1, 2)]
    resident = a_vm(3, host=H2, memory_mib=1024)
    found = _placed(_facts([*vms, resident], rules=rules))
    assert found.targets == {}
    assert _words(found, 2)[H3] == "rule late ties it to vm3, which stays in its cluster"
    assert _words(found, 1)[H3] == "rule shop ties it to vm2, which stays in its cluster"


def test_who_may_only_be_on_certain_hosts_crosses_only_to_these() -> None:
    vms = [a_vm(1, memory_mib=8192), a_vm(2, memory_mib=8192)]
    rules = [
        _rule(RuleKind.HOST_AFFINITY, 1, hosts=[H1, H2]),
        Rule(name="far", kind=RuleKind.HOST_AFFINITY, vms=("vm2",), hosts=(H1, H2, H4)),
    ]
    found = _placed(_facts(vms, rules=rules))
    assert _where(found) == {vm_id(2): H4}
    assert _words(found, 1)[H3] == "rule shop allows only h1, h2"


def test_two_clusters_that_take_from_each_other_do_not_promise_the_same_room_twice() -> None:
    """h1 and h3 are emptied; h4 has room for one of the two who do not fit at home."""
    inventory = an_inventory(
        [a_vm(1, memory_mib=8192), a_vm(2, host=H3, memory_mib=8192)],
        hosts=[
            a_host(H1),
            a_host(H2, memory_mib=1024),
            a_host(H3, cluster=C2),
            a_host(H4, cluster=C2, memory_mib=8192),
        ],
        clusters=[a_cluster(overflow=(C2,)), a_cluster(C2, overflow=(C1,))],
    )
    hosts = candidates(inventory, [H1, H3], EnterOptions())
    found = place_across(inventory.vms, hosts, inventory, leaving=[H1, H3])
    assert _where(found) == {vm_id(2): H4}
    assert "it has room for 0 MiB" in _words(found, 1)[H4]
