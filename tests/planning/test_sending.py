"""How a VM is sent: over several connections where that pays, ready for post-copy where allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.ids import VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.vm_policy import DEFAULT, PostCopy, VmPolicy
from furlough.planning.sending import Way, way_of
from tests.core.builders import H1, H2, a_host, a_vm, an_inventory

QEMU = 7_002_000
ALLOWED = VmPolicy(post_copy=PostCopy.IF_NEEDED)


def wide(host: Host, **traits: object) -> Host:
    """A host with a link of 25 Gbit/s and an emulator that can send over several connections."""
    return replace(host, **{"link_mbit_s": 25_000, "emulator_version": QEMU, **traits})  # type: ignore[arg-type]


def sent(vm: Vm, *hosts: Host) -> Way:
    """How it is sent from the first of these hosts to the second."""
    inventory: Inventory = an_inventory(hosts=hosts, vms=[vm])
    return way_of(vm.id, H1, H2, inventory)


LARGE = a_vm(memory_mib=32768)


def test_a_large_vm_over_wide_links_takes_several_connections() -> None:
    way = sent(LARGE, wide(a_host(H1)), wide(a_host(H2)))
    assert way == Way(policy=DEFAULT, connections=3, may_post_copy=False)


@pytest.mark.parametrize("traits", [{"emulator_version": 0}, {"link_mbit_s": 1000}])
def test_one_connection_where_an_end_cannot_or_its_link_is_narrow(traits: dict[str, int]) -> None:
    assert sent(LARGE, wide(a_host(H1)), wide(a_host(H2), **traits)).connections == 0


def test_a_vm_that_may_go_over_to_post_copy_takes_one_connection() -> None:
    way = sent(replace(LARGE, policy=ALLOWED), wide(a_host(H1)), wide(a_host(H2)))
    assert way == Way(policy=ALLOWED, connections=0, may_post_copy=True)


def test_a_vm_that_nobody_lists_any_more_is_sent_as_usual() -> None:
    inventory = an_inventory(hosts=[a_host(H1), a_host(H2)], vms=[])
    way = way_of(VmId("gone"), H1, H2, inventory)
    assert way == Way(policy=DEFAULT, connections=0, may_post_copy=False)
