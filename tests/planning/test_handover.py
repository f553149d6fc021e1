"""Handover: two running copies are impossible only where a lock on the storage was proven."""

from __future__ import annotations

import pytest

from furlough.core.inventory import Disk, Proof
from furlough.core.plan import Handover
from furlough.planning.handover import expected_move, handover_of, unproven, waives_storage_check
from tests.core.builders import (
    H2,
    STORE,
    a_cluster,
    a_datastore,
    a_disk,
    a_vm,
    an_inventory,
    vm_id,
)


def test_a_vm_with_a_proven_lock_on_every_writable_disk_is_handed_over_normally() -> None:
    vm = a_vm(disks=[a_disk("vda"), a_disk("vdb")])
    inventory = an_inventory([vm])
    assert handover_of(vm, inventory) is Handover.NORMAL
    assert unproven(vm, inventory) == ""


@pytest.mark.parametrize("locked", [Proof.UNKNOWN, Proof.DECLARED])
def test_a_lock_that_was_only_declared_is_not_enough_for_a_normal_handover(locked: Proof) -> None:
    vm = a_vm()
    inventory = an_inventory([vm], datastores=[a_datastore(locked=locked)])
    assert handover_of(vm, inventory) is Handover.HELD
    assert unproven(vm, inventory) == "no storage lock is proven for disk vda"


@pytest.mark.parametrize("disks", [[], [a_disk("sda", is_writable=False)]])
def test_a_vm_without_a_writable_disk_is_held_because_nothing_could_stop_a_second_copy(
    disks: list[Disk],
) -> None:
    vm = a_vm(disks=disks)
    assert handover_of(vm, an_inventory([vm])) is Handover.HELD
    assert "no writable disk" in unproven(vm, an_inventory([vm]))


@pytest.mark.parametrize("datastore", [None, "nobody-enrolled-it"])
def test_one_unproven_disk_among_proven_ones_holds_the_handover(datastore: str | None) -> None:
    vm = a_vm(disks=[a_disk("vda"), a_disk("vdb", datastore=datastore)])
    assert handover_of(vm, an_inventory([vm])) is Handover.HELD
    assert "vdb" in unproven(vm, an_inventory([vm]))


def test_a_read_only_disk_needs_no_lock() -> None:
    vm = a_vm(disks=[a_disk("vda"), a_disk("sda", datastore=None, is_writable=False)])
    assert handover_of(vm, an_inventory([vm])) is Handover.NORMAL


def test_the_storage_check_is_waived_only_where_policy_allows_and_both_proofs_hold() -> None:
    vm = a_vm()
    trusting = [a_cluster(trusts_own_proofs=True)]
    assert waives_storage_check(vm, an_inventory([vm], clusters=trusting))
    assert not waives_storage_check(vm, an_inventory([vm]))


@pytest.mark.parametrize(
    ("shared", "locked"),
    [
        (Proof.DECLARED, Proof.PROVEN),
        (Proof.PROVEN, Proof.DECLARED),
        (Proof.UNKNOWN, Proof.PROVEN),
        (Proof.PROVEN, Proof.UNKNOWN),
    ],
)
def test_a_declaration_never_waives_the_storage_check(shared: Proof, locked: Proof) -> None:
    vm = a_vm()
    inventory = an_inventory(
        [vm],
        clusters=[a_cluster(trusts_own_proofs=True)],
        datastores=[a_datastore(STORE, shared=shared, locked=locked)],
    )
    assert not waives_storage_check(vm, inventory)


def test_one_unproven_datastore_among_proven_ones_forbids_waiving_the_storage_check() -> None:
    vm = a_vm(disks=[a_disk("vda"), a_disk("vdb", datastore="fast")])
    inventory = an_inventory(
        [vm],
        clusters=[a_cluster(trusts_own_proofs=True)],
        datastores=[a_datastore(), a_datastore("fast", locked=Proof.DECLARED)],
    )
    assert not waives_storage_check(vm, inventory)


def test_a_disk_outside_all_datastores_forbids_waiving_the_storage_check() -> None:
    vm = a_vm(disks=[a_disk("vda"), a_disk("vdb", datastore=None)])
    inventory = an_inventory([vm], clusters=[a_cluster(trusts_own_proofs=True)])
    assert not waives_storage_check(vm, inventory)


def test_a_held_handover_is_expected_to_pause_longer() -> None:
    proven, unknown = (
        an_inventory([a_vm(1)], datastores=[a_datastore(locked=proof)])
        for proof in (Proof.PROVEN, Proof.UNKNOWN)
    )
    normal, held = (expected_move(one.vm(vm_id(1)), one.host(H2), one) for one in (proven, unknown))
    assert held.downtime_ms == normal.downtime_ms + 400
    assert held.duration_s == pytest.approx(normal.duration_s + 0.4)
    assert held.sent_mib == normal.sent_mib
