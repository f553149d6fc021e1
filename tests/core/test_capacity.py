"""What fits where: a VM counts on a host once, seen or awaited, and hosts are never overfilled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.capacity import (
    NOTHING,
    Load,
    Reservation,
    limit_of,
    load_of,
    room_on,
    rooms,
    used_by,
    used_on,
)
from furlough.core.ids import HostName, OperationId
from furlough.core.policy import ClusterPolicy
from furlough.core.states import Power
from tests.core.builders import (
    H1,
    H2,
    H3,
    OPERATION,
    a_cluster,
    a_host,
    a_vm,
    an_inventory,
    load,
    repeatable,
    vm_id,
)


def _held(number: int, host: HostName = H2, memory_mib: int = 4096, vcpus: int = 2) -> Reservation:
    return Reservation(
        operation=OPERATION, vm=vm_id(number), host=host, load=load(memory_mib, vcpus)
    )


def test_the_host_itself_keeps_its_reserved_memory_and_the_ceiling_counts_on_the_rest() -> None:
    host = a_host(memory_mib=10_000, reserved_memory_mib=2_000, cpus=8)
    policy = ClusterPolicy(memory_ceiling=0.9, vcpu_overcommit=1.5)
    assert limit_of(host, policy) == Load(memory_mib=7_200, vcpus=12)


def test_a_host_that_reserves_more_memory_than_it_has_takes_no_vm() -> None:
    host = a_host(memory_mib=1_000, reserved_memory_mib=2_000)
    assert limit_of(host, ClusterPolicy(memory_ceiling=1.0)).memory_mib == 0


@pytest.mark.parametrize("power", [one for one in Power if one is not Power.SHUT_OFF])
def test_paused_sleeping_and_broken_vms_hold_their_memory(power: Power) -> None:
    assert used_by([a_vm(power=power, memory_mib=2048, vcpus=3)]) == load(2048, 3)


def test_a_vm_that_is_off_takes_nothing() -> None:
    assert used_by([a_vm(power=Power.SHUT_OFF)]) == NOTHING


def test_room_held_for_a_vm_counts_until_the_vm_is_seen_there_and_then_only_once() -> None:
    held = [_held(1, H2)]
    on_the_way = an_inventory([a_vm(1, host=H1)])
    arrived = an_inventory([a_vm(1, host=H1), a_vm(1, host=H2, power=Power.PAUSED)])
    assert used_on(on_the_way, H2, held) == load(4096, 2)
    assert used_on(arrived, H2, held) == load(4096, 2)


def test_a_definition_left_on_the_target_does_not_pass_for_the_vm_that_is_awaited() -> None:
    inventory = an_inventory([a_vm(1, host=H2, power=Power.SHUT_OFF)])
    assert used_on(inventory, H2, [_held(1, H2)]) == load(4096, 2)


def test_room_held_on_one_host_is_no_concern_of_another() -> None:
    assert used_on(an_inventory(), H3, [_held(1, H2)]) == NOTHING


def test_an_overfull_host_has_less_than_no_room() -> None:
    host = a_host(H1, memory_mib=1_000)
    inventory = an_inventory([a_vm(1, memory_mib=4_000)], hosts=[host])
    assert room_on(inventory, host).memory_mib == -3_000
    assert not NOTHING.fits_in(room_on(inventory, host))


def test_the_rooms_of_several_hosts_are_those_of_each() -> None:
    inventory = an_inventory([a_vm(1, host=H2), a_vm(2, host=H3)])
    hosts = [inventory.host(H2), inventory.host(H3)]
    held = [_held(7, H3)]
    assert rooms(inventory, hosts, held) == {
        host.name: room_on(inventory, host, held) for host in hosts
    }
    assert rooms(inventory, hosts, held)[H2] == load(61440, 62)
    assert rooms(inventory, hosts, held)[H3] == load(57344, 60)


@pytest.mark.parametrize(
    ("asked", "fits"),
    [(load(100, 2), True), (load(101, 2), False), (load(100, 3), False), (NOTHING, True)],
)
def test_a_load_fits_up_to_the_last_mib_and_the_last_vcpu(asked: Load, fits: bool) -> None:
    assert asked.fits_in(load(100, 2)) is fits


_LOADS = st.builds(load, st.integers(0, 10_000), st.integers(0, 64))


@repeatable
@given(
    seen=st.sets(st.integers(1, 9)),
    held=st.dictionaries(st.integers(1, 9), _LOADS),
    ceiling=st.floats(0.1, 1.0),
)
def test_what_is_used_and_what_is_left_are_always_the_limit(
    seen: set[int], held: dict[int, Load], ceiling: float
) -> None:
    vms = [a_vm(number, host=H2, memory_mib=100 * number) for number in sorted(seen)]
    inventory = an_inventory(vms, clusters=[a_cluster(memory_ceiling=ceiling)])
    reservations = [
        Reservation(operation=OperationId("op-1"), vm=vm_id(number), host=H2, load=one)
        for number, one in held.items()
    ]
    host = inventory.host(H2)
    used = used_on(inventory, H2, reservations)
    awaited = [one for number, one in held.items() if number not in seen]
    assert used == sum(awaited, sum((load_of(vm) for vm in vms), NOTHING))
    assert room_on(inventory, host, reservations) + used == limit_of(
        host, inventory.cluster_of(host).policy
    )
