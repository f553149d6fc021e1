"""Planning: every VM that has to leave is in the plan once, with its targets, or named as left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.estimate import link_mib_s
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory, Proof, Vm
from furlough.core.plan import Handover, Method, OperationKind, Plan
from furlough.core.policy import EnterOptions, Order
from furlough.core.states import HostMode, Power
from furlough.core.timing import FINISH_S, PROOF, SET_UP_S, SHUT_DOWN_S
from furlough.core.vm_policy import IfIgnored, VmPolicy
from furlough.planning.assessment import Assessment, Report
from furlough.planning.dispositions import Choice, disposition
from furlough.planning.placement import place
from furlough.planning.planner import (
    FIRST_POWER_WAVE,
    GUARD_WAVE,
    LAST_POWER_WAVE,
    LAST_WAVE,
    MOVE_WAVE,
    before,
    plan_action,
    plan_enter,
    plan_migration,
    plan_power,
    plan_remainder,
    power_waves,
)
from furlough.prechecks.assessing import assess
from tests.core.builders import (
    C1,
    C2,
    H1,
    H2,
    H3,
    a_cluster,
    a_datastore,
    a_host,
    a_vm,
    an_inventory,
    load,
    planned,
    repeatable,
    vm_id,
)


def _plan(inventory: Inventory, *hosts: HostName) -> Plan:
    """The plan that enters these hosts, h1 if none is named."""
    leaving = hosts or (H1,)
    return plan_enter(inventory, leaving, assess(inventory, leaving, EnterOptions()))


def _migration(inventory: Inventory) -> Plan:
    """The plan that moves VM 1, as its owner asked for."""
    vm = inventory.vm(vm_id(1))
    hosts = [host for host in inventory.hosts if host.name != vm.host]
    placement = place([vm], hosts, inventory)
    return plan_migration(vm, placement, inventory)


# --- entering ----------------------------------------------------------------------------------


def test_a_host_is_guarded_then_emptied_and_then_proven_empty() -> None:
    plan = _plan(an_inventory([a_vm(1), a_vm(2)]))
    assert (plan.kind, plan.hosts) == (OperationKind.ENTER, (H1,))
    assert [(step.number, step.method) for step in plan.steps] == [
        (1, Method.RAISE_GUARD),
        (2, Method.LIVE),
        (3, Method.LIVE),
        (4, Method.CONFIRM_EMPTY),
    ]
    waves = [step.wave for step in plan.steps]
    assert waves[0] < waves[1] == waves[2] < waves[3]


def test_an_empty_host_is_guarded_and_proven_empty_all_the_same() -> None:
    methods = [step.method for step in _plan(an_inventory()).steps]
    assert methods == [Method.RAISE_GUARD, Method.CONFIRM_EMPTY]


def test_vms_that_are_off_stay_where_they_are() -> None:
    plan = _plan(an_inventory([a_vm(1, power=Power.SHUT_OFF), a_vm(2)]))
    assert [step.vm for step in plan.migrations] == [vm_id(2)]
    assert plan.unplaced == ()


def test_the_largest_vm_leaves_first() -> None:
    vms = [a_vm(1, memory_mib=1024), a_vm(2, memory_mib=8192), a_vm(3, memory_mib=4096)]
    assert [step.vm for step in _plan(an_inventory(vms)).migrations] == [
        vm_id(2),
        vm_id(3),
        vm_id(1),
    ]


def test_equal_vms_leave_in_the_order_of_their_names() -> None:
    vms = [a_vm(1, name="web-b"), a_vm(2, name="web-a"), a_vm(3, name="web-a", host=H2)]
    inventory = an_inventory(vms[:2])
    assert [step.vm_name for step in _plan(inventory).migrations] == ["web-a", "web-b"]


def test_a_move_says_all_that_the_engine_needs_to_know() -> None:
    vm = a_vm(1, memory_mib=2048, vcpus=3, has_autostart=True, is_persistent=False)
    (move,) = _plan(an_inventory([vm])).migrations
    assert (move.host, move.source, move.targets) == (H1, H1, (H2, H3))
    assert (move.vm, move.vm_name) == (vm_id(1), "vm1")
    assert move.load == load(2048, 3)
    assert move.before == before(vm)
    assert (move.before.has_autostart, move.before.is_persistent) == (True, False)
    assert move.handover is Handover.NORMAL
    assert not move.waives_storage_check
    assert (move.sent_mib, move.downtime_ms) == (2048, 100)
    assert move.duration_s > 1


def test_a_paused_vm_is_to_be_paused_afterwards() -> None:
    (move,) = _plan(an_inventory([a_vm(1, power=Power.PAUSED)])).migrations
    assert move.before.power is Power.PAUSED


def test_without_a_proven_lock_the_plan_says_held_handover() -> None:
    datastores = [a_datastore(locked=Proof.DECLARED)]
    (move,) = _plan(an_inventory([a_vm(1)], datastores=datastores)).migrations
    assert move.handover is Handover.HELD


def test_waiving_the_storage_check_is_a_decision_of_the_plan() -> None:
    clusters = [a_cluster(trusts_own_proofs=True)]
    (move,) = _plan(an_inventory([a_vm(1)], clusters=clusters)).migrations
    assert move.waives_storage_check


def test_a_vm_that_fits_nowhere_is_named_with_a_reason_for_every_host() -> None:
    plan = _plan(an_inventory([a_vm(1, networks=["dmz"]), a_vm(2)]))
    assert [step.vm for step in plan.migrations] == [vm_id(2)]
    (left,) = plan.unplaced
    assert (left.vm, left.vm_name) == (vm_id(1), "vm1")
    assert left.reasons == {H2: ("it has no network dmz",), H3: ("it has no network dmz",)}


def test_hosts_that_leave_together_are_no_targets_for_each_other() -> None:
    inventory = an_inventory([a_vm(1, host=H1), a_vm(2, host=H2)])
    plan = _plan(inventory, H1, H2)
    assert {step.targets for step in plan.migrations} == {(H3,)}
    assert [(step.host, step.method) for step in plan.steps] == [
        (host, method)
        for method in (Method.RAISE_GUARD, Method.LIVE, Method.CONFIRM_EMPTY)
        for host in (H1, H2)
    ]
    assert [step.number for step in plan.steps] == [1, 2, 3, 4, 5, 6]


# --- VMs that are stopped ----------------------------------------------------------------------


def _rated(number: int, priority: int, **traits: object) -> Vm:
    """A VM whose owner says how much it matters."""
    policy = VmPolicy(availability_priority=priority, shut_down_grace_s=90)
    return replace(a_vm(number, **traits), policy=policy)  # type: ignore[arg-type]


def _assessed(vms: Sequence[Vm], methods: Mapping[int, Method | None]) -> Assessment:
    """The assessment of h1: these VMs by these methods, all others live."""
    inventory = an_inventory(vms)
    targets = [inventory.host(H2), inventory.host(H3)]
    chosen = {vm.id: methods.get(int(vm.id[-12:]), Method.LIVE) for vm in vms}
    live = [vm for vm in vms if chosen[vm.id] is Method.LIVE]
    dispositions = tuple(
        disposition(vm, Choice(method=chosen[vm.id], reason="so it is told")) for vm in vms
    )
    return Assessment(
        reports=(Report(host=H1, findings=(), dispositions=dispositions),),
        placement=place(live, targets, inventory),
    )


def _stopping(vms: Sequence[Vm], methods: Mapping[int, Method | None]) -> Plan:
    return plan_enter(an_inventory(vms), [H1], _assessed(vms, methods))


def test_who_cannot_move_is_stopped_after_the_moves_who_matters_least_first() -> None:
    vms = [_rated(1, 50), _rated(2, 80), _rated(3, 10), _rated(4, 80)]
    methods = {2: Method.SHUT_DOWN, 3: Method.SUSPEND, 4: Method.SHUT_DOWN}
    plan = _stopping(vms, methods)
    assert [(step.method, step.vm, step.wave) for step in plan.steps] == [
        (Method.RAISE_GUARD, None, GUARD_WAVE),
        (Method.LIVE, vm_id(1), MOVE_WAVE),
        (Method.SUSPEND, vm_id(3), FIRST_POWER_WAVE),
        (Method.SHUT_DOWN, vm_id(2), FIRST_POWER_WAVE + 1),
        (Method.SHUT_DOWN, vm_id(4), FIRST_POWER_WAVE + 1),
        (Method.CONFIRM_EMPTY, None, LAST_WAVE),
    ]
    assert plan.unplaced == ()


def test_a_shut_down_says_how_long_its_guest_has_and_what_comes_then() -> None:
    policy = VmPolicy(shut_down_grace_s=240, if_ignored=IfIgnored.POWER_OFF)
    vm = replace(a_vm(1, has_autostart=True), policy=policy)
    (step,) = [one for one in _stopping([vm], {1: Method.SHUT_DOWN}).steps if one.vm]
    assert (step.grace_s, step.may_power_off) == (240, True)
    assert (step.host, step.source, step.targets) == (H1, H1, ())
    assert (step.before, step.load) == (before(vm), load(4096, 2))


def test_power_is_never_cut_after_a_suspend() -> None:
    policy = VmPolicy(if_ignored=IfIgnored.POWER_OFF)
    vm = replace(a_vm(1), policy=policy)
    (step,) = [one for one in _stopping([vm], {1: Method.SUSPEND}).steps if one.vm]
    assert (step.method, step.may_power_off) == (Method.SUSPEND, False)


def test_who_is_to_be_left_gets_no_step_and_is_named_with_the_reason() -> None:
    plan = _stopping([a_vm(1), a_vm(2)], {1: Method.LEAVE, 2: None})
    assert [step.vm for step in plan.steps if step.vm] == []
    assert [(one.vm, one.reasons) for one in plan.unplaced] == [
        (vm_id(1), {H1: ("so it is told",)}),
        (vm_id(2), {H1: ("so it is told",)}),
    ]


def test_a_vm_that_is_off_or_arriving_is_neither_stopped_nor_named() -> None:
    vms = [a_vm(1, power=Power.SHUT_OFF), a_vm(2, is_arriving=True)]
    plan = _stopping(vms, {1: None, 2: None})
    assert [step.vm for step in plan.steps if step.vm] == []
    assert plan.unplaced == ()


def test_stops_take_their_time_after_the_moves() -> None:
    vms = [_rated(1, 50), _rated(2, 10), _rated(3, 20, memory_mib=2000)]
    plan = _stopping(vms, {2: Method.SHUT_DOWN, 3: Method.SUSPEND})
    alone = _stopping([_rated(1, 50)], {})
    starts = {step.vm: step.start_s for step in plan.steps}
    moved_s = alone.migrations[0].duration_s
    assert starts[vm_id(2)] == moved_s
    assert starts[vm_id(3)] == pytest.approx(moved_s + SHUT_DOWN_S)
    assert plan.eta.low == pytest.approx(alone.eta.low + SHUT_DOWN_S + 11)
    # A guest may take all of its grace.
    assert plan.eta.high == pytest.approx(alone.eta.high + 90 + 33)


@repeatable
@given(st.lists(st.integers(0, 100), max_size=40))
def test_waves_keep_the_order_and_never_pass_the_last_one(ranks: list[int]) -> None:
    waves = power_waves(ranks)
    assert set(waves) == set(ranks)
    assert all(FIRST_POWER_WAVE <= wave <= LAST_POWER_WAVE for wave in waves.values())
    ordered = [waves[rank] for rank in sorted(waves)]
    assert ordered == sorted(ordered)
    if len(waves) <= LAST_POWER_WAVE - FIRST_POWER_WAVE + 1:
        assert len(set(ordered)) == len(ordered), "as many groups as fit"


# --- estimates ---------------------------------------------------------------------------------


def test_moves_begin_as_the_slots_of_their_host_allow() -> None:
    """Two at once, of which one owns the link: the third begins when that one is over."""
    vms = [a_vm(1, memory_mib=2000), a_vm(2, memory_mib=4000), a_vm(3, memory_mib=1000)]
    first, second, third = _plan(an_inventory(vms)).migrations
    assert (first.vm, first.start_s, second.start_s) == (vm_id(2), 0, 0)
    assert third.start_s == pytest.approx(first.start_s + first.duration_s, abs=0.02)
    copying_s = first.duration_s - SET_UP_S - FINISH_S
    assert 4000 / link_mib_s(a_host()) < copying_s < 7000 / link_mib_s(a_host())


def test_the_plan_says_what_no_order_of_its_moves_could_beat_and_why_it_is_a_range() -> None:
    measured = _plan(an_inventory([replace(a_vm(n), dirty_mib_s=0.0) for n in (1, 2)]))
    unknown = _plan(an_inventory([a_vm(n) for n in (1, 2)]))
    # To see the host empty takes time, too; that links carry a little more than said is possible.
    assert 0.9 * measured.bound_s < measured.eta.low - PROOF.low < measured.bound_s
    assert unknown.eta.high > measured.eta.high
    assert "nobody measured how much 2 VM(s) write" in unknown.eta_reasons


def test_by_memory_the_largest_of_all_hosts_goes_first_and_of_equals_who_matters_more() -> None:
    vms = [_rated(1, 10), _rated(2, 90), _rated(3, 50, memory_mib=9000)]
    inventory = an_inventory([*vms, a_vm(4, host=H2, memory_mib=8000)])
    plan = plan_enter(
        inventory, [H1, H2], assess(inventory, [H1, H2], EnterOptions()), Order.MEMORY
    )
    assert [step.vm for step in plan.migrations] == [vm_id(n) for n in (3, 4, 2, 1)]


def test_hosts_that_leave_together_empty_at_the_same_time() -> None:
    inventory = an_inventory([a_vm(1, host=H1), a_vm(2, host=H2)])
    assert [step.start_s for step in _plan(inventory, H1, H2).migrations] == [0, 0]


def test_the_slowest_host_sets_the_time_of_the_whole_plan() -> None:
    inventory = an_inventory(
        [a_vm(1, host=H1), a_vm(2, host=H2)],
        hosts=[a_host(H1), a_host(H2, link_mbit_s=1000), a_host(H3)],
    )
    both, slow, fast = _plan(inventory, H1, H2), _plan(inventory, H2), _plan(inventory, H1)
    # On the link of their target the slow one waits for the fast one, which is soon over.
    assert fast.eta.high < slow.eta.high < both.eta.high < slow.eta.high + fast.eta.high
    assert fast.eta.low < slow.eta.low < both.eta.low < slow.eta.low + fast.eta.low


def test_a_target_with_a_slow_link_is_waited_for_only_where_there_is_no_other() -> None:
    vms = [a_vm(1), a_vm(2)]
    fast = [a_host(H1), a_host(H2), a_host(H3)]
    mixed = [a_host(H1), a_host(H2), a_host(H3, link_mbit_s=1000)]
    slow = [a_host(H1), a_host(H2, link_mbit_s=1000), a_host(H3, link_mbit_s=1000)]
    quickest, middle, slowest = (_plan(an_inventory(vms, hosts=one)) for one in (fast, mixed, slow))
    assert quickest.eta == middle.eta
    assert middle.eta.high < slowest.eta.low


def test_a_plan_that_moves_nobody_takes_the_time_of_seeing_the_host_empty() -> None:
    assert _plan(an_inventory()).eta == PROOF


def test_the_load_after_is_that_of_the_hosts_that_stay() -> None:
    vms = [a_vm(1, memory_mib=16384), a_vm(2, memory_mib=16384), a_vm(9, host=H2, memory_mib=1024)]
    after = _plan(an_inventory(vms)).load_after
    assert after.max == pytest.approx(17408 / 65536, abs=1e-4)
    assert after.sd == pytest.approx(512 / 65536, abs=1e-4)


def test_a_host_that_gets_nobody_counts_in_the_load_after() -> None:
    after = _plan(an_inventory([a_vm(1, memory_mib=32768)])).load_after
    assert (after.max, after.sd) == (0.5, 0.25)


def test_vms_that_are_off_and_hosts_of_other_clusters_do_not_count_in_the_load_after() -> None:
    inventory = an_inventory(
        [a_vm(1, host=H2, power=Power.SHUT_OFF), a_vm(2, host=H3)],
        hosts=[a_host(H1), a_host(H2), a_host(H3, cluster=C2)],
        clusters=[a_cluster(C1), a_cluster(C2)],
    )
    assert _plan(inventory).load_after.max == 0


def test_when_nobody_stays_there_is_no_load_to_speak_of() -> None:
    after = _plan(an_inventory(hosts=[a_host(H1)])).load_after
    assert (after.max, after.sd) == (0, 0)


# --- other requests ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (OperationKind.SHUT_DOWN_VM, Method.SHUT_DOWN),
        (OperationKind.POWER_OFF_VM, Method.POWER_OFF),
    ],
)
def test_stopping_a_vm_needs_no_room_anywhere(kind: OperationKind, method: Method) -> None:
    (step,) = plan_power(kind, a_vm(1, host=H2)).steps
    assert (step.method, step.host, step.source) == (method, H2, H2)
    assert (step.targets, step.load) == ((), load(0, 0))


def test_starting_a_vm_takes_room_on_its_host() -> None:
    vm = a_vm(1, host=H2, power=Power.SHUT_OFF)
    plan = plan_power(OperationKind.START_VM, vm)
    (step,) = plan.steps
    assert (plan.kind, plan.hosts) == (OperationKind.START_VM, (H2,))
    assert (step.method, step.targets, step.load) == (Method.START, (H2,), load(4096, 2))
    assert step.before.power is Power.SHUT_OFF


def test_moving_one_vm_is_a_plan_of_one_step() -> None:
    plan = _migration(an_inventory([a_vm(1), a_vm(2)]))
    assert (plan.kind, plan.hosts) == (OperationKind.MIGRATE_VM, (H1,))
    assert [(step.vm, step.targets) for step in plan.steps] == [(vm_id(1), (H2, H3))]


def test_vms_that_appeared_later_get_steps_that_are_numbered_on() -> None:
    inventory = an_inventory([a_vm(8, memory_mib=1024), a_vm(9, memory_mib=2048)])
    steps = plan_remainder(inventory, H1, assess(inventory, [H1], EnterOptions()), first=5)
    assert [(step.number, step.vm) for step in steps] == [(5, vm_id(9)), (6, vm_id(8))]
    moves = _plan(inventory).migrations
    assert {step.wave for step in steps} == {step.wave for step in moves}


def test_a_plan_of_given_steps_numbers_them() -> None:
    step = planned(0, Method.LOWER_GUARD, H2)
    plan = plan_action(OperationKind.UNCORDON, H2, [step])
    assert (plan.kind, plan.hosts) == (OperationKind.UNCORDON, (H2,))
    assert [one.number for one in plan.steps] == [1]


# --- properties --------------------------------------------------------------------------------


@repeatable
@given(
    st.lists(
        st.tuples(
            st.sampled_from([H1, H1, H2]),
            st.sampled_from([512, 9000, 40_000, 70_000]),
            st.sampled_from(Power),
        ),
        max_size=10,
    )
)
def test_every_vm_with_a_process_is_moved_or_named_and_nobody_else_is(
    shapes: list[tuple[HostName, int, Power]],
) -> None:
    vms = [
        a_vm(number, host=host, memory_mib=memory_mib, power=power)
        for number, (host, memory_mib, power) in enumerate(shapes, 1)
    ]
    inventory = an_inventory(vms)
    plan = _plan(inventory)
    moved = [step.vm for step in plan.migrations]
    named = [one.vm for one in plan.unplaced]
    assert sorted([*moved, *named], key=str) == sorted(
        vm.id for vm in vms if vm.is_active and vm.host == H1
    )
    for step in plan.migrations:
        assert step.source == H1
        assert H1 not in step.targets
        assert all(inventory.host(one).mode is HostMode.AVAILABLE for one in step.targets)
    assert [step.number for step in plan.steps] == list(range(1, len(plan.steps) + 1))


def test_no_step_is_expected_to_start_after_the_latest_end_of_the_plan() -> None:
    plan = _plan(an_inventory([a_vm(number, memory_mib=16) for number in range(1, 21)]))
    assert plan.migrations[-1].start_s <= plan.eta.high


def test_a_host_that_only_gives_away_one_vm_stays_and_counts_in_the_load_after() -> None:
    vms = [a_vm(1, memory_mib=1024), a_vm(2, memory_mib=32768)]
    assert _migration(an_inventory(vms)).load_after.max == 0.5
