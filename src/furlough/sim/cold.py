"""What a cold move does to simulated hosts: state and definition of a VM that is off are copied."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from furlough.core.looks import Presence, Why
from furlough.errors import Refused
from furlough.ports import ColdOrder
from furlough.sim.cluster import Copy, SimCluster

_COPIES_IN_S = 0.2


def check(cluster: SimCluster, order: ColdOrder) -> None:
    """State is copied by furlough-host, which has to be on both."""
    copy = _known(cluster, order)
    if copy.vm.has_nvram or copy.vm.has_tpm:
        for host in (order.source, order.target):
            if not cluster.check_answers(host).has_guard:
                raise Refused("vm.immovable", f"furlough-host does not answer on {host}.")


async def copy_state(cluster: SimCluster, order: ColdOrder) -> Sequence[str]:
    """Whole or not at all: it is under its own name only once it is complete."""
    source, target = cluster.check_answers(order.source), cluster.check_answers(order.target)
    copy = _off(cluster, order)
    check(cluster, order)
    if not (copy.vm.has_nvram or copy.vm.has_tpm):
        return ()
    await cluster.clock.sleep(_COPIES_IN_S)
    cluster.check_answers(order.target)
    content = source.vm_state.get(order.vm, "")
    target.vm_state[order.vm] = content
    return (f"state: sha256 {hashlib.sha256(content.encode()).hexdigest()}",)


def copy_definition(cluster: SimCluster, order: ColdOrder) -> None:
    """As libvirt defines it: without autostart and without a save image."""
    cluster.check_answers(order.source)
    target, copy = cluster.check_answers(order.target), _off(cluster, order)
    known = target.copies.get(order.vm)
    if known is not None and known.has_process:
        raise Refused("vm.changed", f"VM {copy.vm.name} is active on {order.target} already.")
    if known is not None:
        return
    if copy.vm.machine and target.machines and copy.vm.machine not in target.machines:
        raise Refused("target.refused", f"emulator does not support machine {copy.vm.machine}")
    target.copies[order.vm] = Copy(
        vm=copy.vm,
        presence=Presence.SHUT_OFF,
        why=Why.UNKNOWN,
        ignores_shutdown=copy.ignores_shutdown,
        reboots_instead=copy.reboots_instead,
        shutdown_takes_s=copy.shutdown_takes_s,
        boots=copy.boots,
        own_policy=copy.own_policy,
        empty_drives=dict(copy.empty_drives),
    )
    cluster.changed()


def _off(cluster: SimCluster, order: ColdOrder) -> Copy:
    """The copy that is to be moved, which has to be off."""
    copy = _known(cluster, order)
    if copy.has_process or copy.presence is not Presence.SHUT_OFF:
        raise Refused("vm.changed", f"VM {copy.vm.name} is not off on {order.source}.")
    if copy.has_managed_save:
        raise Refused("vm.managed_save", f"VM {copy.vm.name} was saved on {order.source}.")
    return copy


def _known(cluster: SimCluster, order: ColdOrder) -> Copy:
    copy = cluster.copy(order.source, order.vm)
    if copy is None:
        raise Refused("vm.changed", f"{order.source} does not know VM {order.vm}.")
    return copy
