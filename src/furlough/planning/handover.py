"""How a VM may be handed over: what our storage proofs allow.

libvirt itself can run a VM twice when the answer of its last phase is lost; only a lock on the
storage stops the second copy. Where no lock is proven, the target waits paused until the copy
on the source has been seen gone (held handover).
"""

from __future__ import annotations

from dataclasses import replace

from furlough.core.estimate import Estimate, estimate_move
from furlough.core.inventory import Host, Inventory, Proof, Vm
from furlough.core.plan import Handover
from furlough.planning.link_model import Job

# What a held handover adds: the source's end has to be seen before the target is resumed.
HELD_S = 0.4


def handover_of(vm: Vm, inventory: Inventory) -> Handover:
    """Normal only where a lock is proven for every writable disk, and there is one."""
    return Handover.HELD if unproven(vm, inventory) else Handover.NORMAL


def expected_move(vm: Vm, target: Host, inventory: Inventory) -> Estimate:
    """The estimate for moving this VM to that host, alone on both links, with the pause that its
    handover takes."""
    alone = estimate_move(vm, target, inventory)
    if handover_of(vm, inventory) is Handover.NORMAL:
        return alone
    return replace(
        alone,
        duration_s=round(alone.duration_s + HELD_S, 2),
        downtime_ms=alone.downtime_ms + round(1000 * HELD_S),
    )


def job_of(vm: Vm, source: int, target: int, inventory: Inventory) -> Job:
    """The move of this VM between two hosts, by their numbers, as `link_model` wants it to put
    moves in order. All of its memory, and not what was measured: that is another thing a second
    later, and the order of an approved plan has to be found again."""
    held = handover_of(vm, inventory) is Handover.HELD
    return Job(
        vm=0,
        source=source,
        target=target,
        memory_mib=vm.memory_mib,
        vcpus=vm.vcpus,
        sends_mib=float(vm.memory_mib),
        priority=vm.policy.availability_priority,
        held_s=HELD_S if held else 0.0,
    )


def unproven(vm: Vm, inventory: Inventory) -> str:
    """Why storage would not stop a second copy of this VM; empty if it would."""
    writable = [disk for disk in vm.disks if disk.is_writable]
    if not writable:
        return "it has no writable disk whose lock could stop a second copy"
    for disk in writable:
        store = disk.datastore
        if store is None or inventory.datastore(store).locked is not Proof.PROVEN:
            return f"no storage lock is proven for disk {disk.target}"
    return ""


def waives_storage_check(vm: Vm, inventory: Inventory) -> bool:
    """Whether the hypervisor's own storage check may be waived: the cluster's policy allows it
    and both of our proofs hold for every disk."""
    policy = inventory.cluster_of(inventory.host(vm.host)).policy
    if not policy.trusts_own_proofs:
        return False
    stores = [inventory.datastore(disk.datastore) for disk in vm.disks if disk.datastore]
    return len(stores) == len(vm.disks) and all(
        store.shared is Proof.PROVEN and store.locked is Proof.PROVEN for store in stores
    )
