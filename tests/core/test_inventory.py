"""Look-ups of observed facts. Nothing is hidden, least of all a VM that two hosts list."""

from __future__ import annotations

import pytest

from furlough.core.ids import ClusterName, HostName
from furlough.core.inventory import Proof, with_neighbours, with_overflow
from furlough.core.states import HostMode, Power
from furlough.errors import NotFound
from tests.core.builders import (
    C1,
    C2,
    H1,
    H2,
    H3,
    a_cluster,
    a_host,
    a_vm,
    an_inventory,
    vm_id,
)

C3 = ClusterName("c3")


def test_a_vm_that_two_hosts_list_is_kept_twice() -> None:
    inventory = an_inventory([a_vm(1, host=H1), a_vm(1, host=H2)])
    assert [copy.host for copy in inventory.copies_of(vm_id(1))] == [H1, H2]


def test_of_several_copies_the_active_one_is_the_vm() -> None:
    left_behind = a_vm(1, host=H1, power=Power.SHUT_OFF)
    inventory = an_inventory([left_behind, a_vm(1, host=H2, power=Power.PAUSED)])
    assert inventory.vm(vm_id(1)).host == H2


def test_a_vm_that_is_off_everywhere_is_still_found() -> None:
    inventory = an_inventory([a_vm(1, host=H2, power=Power.SHUT_OFF)])
    assert inventory.vm(vm_id(1)).host == H2


def test_an_unknown_host_is_named_in_the_refusal() -> None:
    with pytest.raises(NotFound, match=r"'nowhere'.*furlough host list") as refusal:
        an_inventory().host(HostName("nowhere"))
    assert refusal.value.code == "host.unknown"


def test_an_unknown_vm_is_named_in_the_refusal() -> None:
    with pytest.raises(NotFound, match=rf"{vm_id(9)}.*furlough vm list") as refusal:
        an_inventory([a_vm(1)]).vm(vm_id(9))
    assert refusal.value.code == "vm.unknown"


def test_the_vms_of_a_host_include_those_that_are_off() -> None:
    inventory = an_inventory([a_vm(1), a_vm(2, power=Power.SHUT_OFF), a_vm(3, host=H2)])
    assert [vm.id for vm in inventory.vms_on(H1)] == [vm_id(1), vm_id(2)]
    assert inventory.vms_on(H3) == []
    assert inventory.copies_of(vm_id(9)) == []


def test_a_host_belongs_to_its_cluster_and_is_listed_there_in_order_of_enrolment() -> None:
    hosts = [a_host(H2), a_host(H3, cluster=C2), a_host(H1)]
    inventory = an_inventory(hosts=hosts, clusters=[a_cluster(C1), a_cluster(C2)])
    assert [host.name for host in inventory.hosts_of(C1)] == [H2, H1]
    assert inventory.cluster_of(inventory.host(H3)).name == C2


def test_a_datastore_that_nobody_enrolled_is_proven_in_nothing() -> None:
    unknown = an_inventory().datastore("elsewhere")
    assert unknown.shared is Proof.UNKNOWN
    assert unknown.locked is Proof.UNKNOWN


@pytest.mark.parametrize("power", list(Power))
def test_every_vm_but_one_that_is_off_holds_memory_on_its_host(power: Power) -> None:
    assert a_vm(power=power).is_active is (power is not Power.SHUT_OFF)


@pytest.mark.parametrize(
    ("mode", "is_away"),
    [
        (HostMode.AVAILABLE, False),
        (HostMode.CORDONED, False),
        (HostMode.ENTERING, True),
        (HostMode.MAINTENANCE, True),
        (HostMode.EXITING, True),
    ],
)
def test_a_host_is_away_from_entering_until_its_exit_has_ended(
    mode: HostMode, is_away: bool
) -> None:
    assert a_host(mode=mode).is_away is is_away


def test_a_host_that_does_not_answer_is_not_connected() -> None:
    assert a_host().is_connected
    assert not a_host(silent_because="no route to host").is_connected


# --- clusters that exchange VMs ------------------------------------------------------------------


def test_a_cluster_sends_vms_only_to_those_it_names_and_may_have_some_of_those_that_name_it() -> (
    None
):
    clusters = [a_cluster(C1, overflow=[C2]), a_cluster(C2, overflow=[C3]), a_cluster(C3)]
    assert with_overflow([C1], clusters) == {C1, C2}
    assert with_overflow([C1, C2], clusters) == {C1, C2, C3}
    assert with_neighbours(C2, clusters) == {C1, C2, C3}
    assert with_neighbours(C3, clusters) == {C2, C3}


def test_vms_cross_from_a_host_to_another_one_as_the_cluster_of_the_first_says() -> None:
    hosts = [a_host(H1), a_host(H2, cluster=C2), a_host(H3)]
    inventory = an_inventory(hosts=hosts, clusters=[a_cluster(overflow=[C2]), a_cluster(C2)])
    ends = [(one, two) for one in hosts for two in hosts]
    pairs = [(one.name, two.name) for one, two in ends if inventory.may_cross(one, two)]
    assert pairs == [(H1, H2), (H3, H2)]
