"""Admission: two operations never get the same host, VM, room or slot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.admission import (
    OWNS_HOSTS,
    Flight,
    Room,
    Standing,
    check_hosts_free,
    check_hosts_known,
    check_most_away,
    check_room,
    check_target,
    check_vms_free,
    has_slot,
    terms_of,
)
from furlough.core.capacity import NOTHING, Load, Reservation
from furlough.core.ids import ClusterName, HostName, OperationId
from furlough.core.plan import OperationKind
from furlough.core.policy import Limits
from furlough.core.states import HostMode, Power
from furlough.errors import Conflict, NotFound, Refused
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
    repeatable,
    vm_id,
)

OTHER = OperationId("op-3")


def _standing(
    host: HostName = H1,
    mode: HostMode = HostMode.AVAILABLE,
    *,
    cluster: ClusterName = C1,
    operation: OperationId | None = None,
) -> Standing:
    return Standing(host=host, cluster=cluster, mode=mode, operation=operation)


def _standings(*standings: Standing) -> dict[HostName, Standing]:
    return {one.host: one for one in standings}


def _held(number: int, one: Load, host: HostName = H2) -> Reservation:
    return Reservation(operation=OTHER, vm=vm_id(number), host=host, load=one)


# --- one owner (S4) ----------------------------------------------------------------------------


def test_a_host_that_an_operation_has_is_not_given_to_another_and_the_owner_is_named() -> None:
    standings = _standings(_standing(H1), _standing(H2, operation=OTHER))
    check_hosts_free([H1], standings)
    with pytest.raises(Conflict) as conflict:
        check_hosts_free([H1, H2], standings)
    assert conflict.value.code == "host.busy"
    assert conflict.value.facts == {"operation": OTHER}
    assert "h2" in conflict.value.message
    assert f"furlough operation watch {OTHER}" in conflict.value.remedy


def test_a_vm_that_an_operation_has_is_not_given_to_another_and_the_owner_is_named() -> None:
    check_vms_free([vm_id(1)], {vm_id(2): OTHER})
    with pytest.raises(Conflict) as conflict:
        check_vms_free([vm_id(1), vm_id(2)], {vm_id(2): OTHER})
    assert conflict.value.code == "vm.owned"
    assert conflict.value.facts == {"operation": OTHER}
    assert vm_id(2) in conflict.value.message


@pytest.mark.parametrize("kind", list(OperationKind))
def test_operations_about_a_host_own_it_and_those_about_a_vm_do_not(kind: OperationKind) -> None:
    assert (kind in OWNS_HOSTS) is not kind.value.endswith("_vm")


# --- hosts away at once ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [HostMode.ENTERING, HostMode.MAINTENANCE, HostMode.EXITING])
def test_a_second_host_may_not_leave_while_one_is_away(mode: HostMode) -> None:
    standings = _standings(_standing(H1), _standing(H2, mode))
    with pytest.raises(Conflict) as conflict:
        check_most_away([H1], standings, {C1: 1})
    assert conflict.value.code == "cluster.host_away"
    assert "h2" in conflict.value.message
    check_most_away([H1], standings, {C1: 2})


def test_cordoned_hosts_and_hosts_of_other_clusters_are_not_away() -> None:
    standings = _standings(
        _standing(H1),
        _standing(H2, HostMode.CORDONED),
        _standing(H3, HostMode.MAINTENANCE, cluster=C2),
    )
    check_most_away([H1], standings, {C1: 1, C2: 1})


def test_hosts_asked_for_together_count_together() -> None:
    standings = _standings(_standing(H1), _standing(H2))
    with pytest.raises(Conflict, match="away: none"):
        check_most_away([H1, H2], standings, {C1: 1})


def test_a_host_that_is_away_already_is_not_counted_twice_when_it_is_asked_for() -> None:
    check_most_away([H1], _standings(_standing(H1, HostMode.ENTERING)), {C1: 1})


def test_the_hosts_that_are_away_are_named_in_order() -> None:
    hosts = [H4, H3, H2]
    standings = _standings(_standing(H1), *(_standing(one, HostMode.ENTERING) for one in hosts))
    with pytest.raises(Conflict, match=r"allows 3 host\(s\) away at a time; away: h2, h3, h4\."):
        check_most_away([H1], standings, {C1: 3})


def test_a_cluster_of_which_nothing_is_said_lets_one_host_go() -> None:
    standings = _standings(_standing(H1), _standing(H2))
    check_most_away([H1], standings, {})
    with pytest.raises(Conflict):
        check_most_away([H1, H2], standings, {})


# --- targets (S12) -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(HostMode))
@pytest.mark.parametrize("kind", [OperationKind.ENTER, OperationKind.MIGRATE_VM])
def test_vms_are_sent_only_to_available_hosts(kind: OperationKind, mode: HostMode) -> None:
    standings = _standings(_standing(H2, mode))
    if mode is HostMode.AVAILABLE:
        check_target(kind, [H1], H2, standings)
        return
    with pytest.raises(Refused, match=f"Target h2 is {mode.value}") as refusal:
        check_target(kind, [H1], H2, standings)
    assert refusal.value.code == "target.not_available"


def test_a_host_that_was_removed_is_no_target_and_cannot_be_asked_for() -> None:
    with pytest.raises(Refused, match="Target h2 is not enrolled any more"):
        check_target(OperationKind.ENTER, [H1], H2, _standings())
    with pytest.raises(NotFound, match="There is no host 'h2'"):
        check_hosts_known([H1, H2], _standings(_standing(H1)))
    check_hosts_known([H1], _standings(_standing(H1)))


@pytest.mark.parametrize(
    ("home", "mode", "allowed"),
    [
        (H1, HostMode.EXITING, True),
        (H1, HostMode.AVAILABLE, True),
        (H1, HostMode.MAINTENANCE, False),
        (H1, HostMode.CORDONED, False),
        (H2, HostMode.EXITING, False),
    ],
    ids=["its own exit", "in service", "in maintenance", "cordoned", "somebody else's exit"],
)
def test_an_exit_may_fill_its_own_host_while_that_is_exiting(
    home: HostName, mode: HostMode, allowed: bool
) -> None:
    standings = _standings(_standing(home, mode))
    if allowed:
        check_target(OperationKind.EXIT, [H1], home, standings)
        return
    with pytest.raises(Refused):
        check_target(OperationKind.EXIT, [H1], home, standings)


# --- room (S11) --------------------------------------------------------------------------------


def test_a_vm_is_refused_where_others_hold_the_room_and_the_message_counts() -> None:
    room = Room(free=load(8192, 8))
    check_room(vm_id(1), H2, load(4096, 2), room, [_held(2, load(4096, 2))])
    with pytest.raises(Refused) as refusal:
        check_room(vm_id(1), H2, load(4097, 2), room, [_held(2, load(4096, 2))])
    assert refusal.value.code == "target.no_room"
    assert "4096 MiB and 6 vCPUs left, 4097 MiB and 2 are needed" in refusal.value.message


def test_a_target_that_is_overfull_is_said_to_have_nothing_left() -> None:
    with pytest.raises(Refused, match="has 0 MiB and 0 vCPUs left"):
        check_room(vm_id(1), H2, load(1, 1), Room(free=load(-500, -2)), [])


def test_the_room_that_a_vm_holds_itself_does_not_stand_in_its_way() -> None:
    own = _held(1, load(4096, 2))
    check_room(vm_id(1), H2, load(4096, 2), Room(free=load(4096, 2)), [own])


def test_room_held_for_a_vm_that_has_arrived_is_not_counted_again() -> None:
    arrived = Room(free=load(4096, 2), seen=frozenset({vm_id(2)}))
    check_room(vm_id(1), H2, load(4096, 2), arrived, [_held(2, load(60_000, 2))])


def test_room_held_on_another_host_is_none_of_this_hosts_concern() -> None:
    room = Room(free=load(4096, 2))
    check_room(vm_id(1), H2, load(4096, 2), room, [_held(2, load(60_000, 2), H3)])


def test_a_vm_that_is_there_already_needs_no_more_room() -> None:
    full = Room(free=load(-1, -1), seen=frozenset({vm_id(1)}))
    check_room(vm_id(1), H2, load(4096, 2), full, [])


_LOADS = st.builds(load, st.integers(1, 5000), st.integers(1, 9))


@repeatable
@given(
    free=st.builds(load, st.integers(0, 12_000), st.integers(0, 24)),
    wishes=st.lists(_LOADS, max_size=12),
    arrived=st.sets(st.integers(0, 11)),
)
def test_reservations_granted_one_after_another_never_share_the_same_room(
    free: Load, wishes: list[Load], arrived: set[int]
) -> None:
    room = Room(free=free, seen=frozenset(vm_id(number) for number in arrived))
    granted: list[Reservation] = []
    for number, wish in enumerate(wishes):
        try:
            check_room(vm_id(number), H2, wish, room, granted)
        except Refused:
            continue
        granted.append(_held(number, wish))
    awaited = [one.load for one in granted if one.vm not in room.seen]
    assert not awaited or sum(awaited, NOTHING).fits_in(free)


# --- slots -------------------------------------------------------------------------------------


def _flight(
    source: HostName,
    target: HostName,
    cluster: ClusterName = C1,
    into: ClusterName | None = None,
) -> Flight:
    return Flight(source=source, target=target, cluster=cluster, into=into)


@pytest.mark.parametrize(
    ("flying", "limits", "granted"),
    [
        ([], Limits(per_source=1, per_target=1, per_cluster=1), True),
        ([_flight(H1, H3)], Limits(per_source=1, per_target=9, per_cluster=9), False),
        ([_flight(H3, H2)], Limits(per_source=9, per_target=1, per_cluster=9), False),
        ([_flight(H3, H3)], Limits(per_source=9, per_target=9, per_cluster=1), False),
        ([_flight(H2, H1)], Limits(per_source=1, per_target=1, per_cluster=9), True),
        ([_flight(H3, H3, C2)], Limits(per_source=1, per_target=1, per_cluster=1), True),
        ([_flight(H1, H2)], Limits(per_source=2, per_target=2, per_cluster=2), True),
        ([_flight(H1, H2)] * 2, Limits(per_source=3, per_target=3, per_cluster=2), False),
    ],
    ids=[
        "nothing flies",
        "source is busy",
        "target is busy",
        "cluster is busy",
        "the other way round",
        "another cluster",
        "one below all limits",
        "two at the limit of the cluster",
    ],
)
def test_a_migration_from_h1_to_h2_starts_only_within_all_limits(
    flying: list[Flight], limits: Limits, granted: bool
) -> None:
    assert has_slot(_flight(H1, H2), flying, {C1: limits}) is granted


@pytest.mark.parametrize(
    ("flying", "here", "there", "granted"),
    [
        ([], Limits(), Limits(), True),
        ([_flight(H1, H2)], Limits(per_source=1), Limits(), False),
        ([_flight(H1, H2)], Limits(), Limits(per_source=1), True),
        ([_flight(H3, H4, C2)], Limits(), Limits(per_target=1), False),
        ([_flight(H3, H4, C2)], Limits(per_target=1), Limits(), True),
        ([_flight(H2, H3)], Limits(per_cluster=1), Limits(), False),
        ([_flight(H3, H3, C2)], Limits(), Limits(per_cluster=1), False),
        ([_flight(H2, H3, C1, C2)], Limits(), Limits(per_cluster=1), False),
        ([_flight(H3, H2, C2, C1)], Limits(per_cluster=1), Limits(), False),
    ],
    ids=[
        "nothing flies",
        "its source is busy",
        "sources over there may be",
        "its target is busy",
        "targets here may be",
        "its own cluster is busy",
        "the other cluster is busy",
        "the other cluster is busy with another one that comes",
        "its own cluster is busy with one that comes back",
    ],
)
def test_a_migration_to_another_cluster_starts_only_within_the_limits_of_both(
    flying: list[Flight], here: Limits, there: Limits, granted: bool
) -> None:
    assert has_slot(_flight(H1, H4, C1, C2), flying, {C1: here, C2: there}) is granted


def test_a_cluster_that_says_nothing_of_limits_has_the_usual_ones() -> None:
    most = Limits().per_source
    assert has_slot(_flight(H1, H2), [_flight(H1, H3)] * (most - 1), {})
    assert not has_slot(_flight(H1, H2), [_flight(H1, H3)] * most, {})


@repeatable
@given(
    st.lists(st.tuples(st.sampled_from([H1, H2, H3]), st.sampled_from([H1, H2, H3]))),
    st.builds(Limits, per_source=st.integers(1, 4), per_target=st.integers(1, 4)),
)
def test_slots_granted_one_after_another_stay_within_every_limit(
    wishes: list[tuple[HostName, HostName]], limits: Limits
) -> None:
    flying: list[Flight] = []
    for source, target in wishes:
        if has_slot(_flight(source, target), flying, {C1: limits}):
            flying.append(_flight(source, target))
    assert len(flying) <= limits.per_cluster
    for host in (H1, H2, H3):
        assert sum(one.source == host for one in flying) <= limits.per_source
        assert sum(one.target == host for one in flying) <= limits.per_target


# --- terms -------------------------------------------------------------------------------------


def test_the_terms_of_a_decision_are_the_room_seen_on_its_targets_and_the_policies() -> None:
    inventory = an_inventory(
        [a_vm(1, host=H2), a_vm(2, host=H2, power=Power.SHUT_OFF)],
        hosts=[a_host(H1), a_host(H2), a_host(H3, cluster=C2)],
        clusters=[a_cluster(C1, max_hosts_away=2), a_cluster(C2)],
    )
    terms = terms_of(inventory, [H2])
    assert terms.rooms == {H2: Room(free=load(61440, 62), seen=frozenset({vm_id(1)}))}
    assert terms.most_away == {C1: 2, C2: 1}
    assert terms.limits == {C1: Limits(), C2: Limits()}
