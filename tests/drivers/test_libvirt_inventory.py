"""Listings of a host and its VMs, read from the hypervisor that libvirt brings along for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from furlough.core.ids import HostName
from furlough.core.inventory import Vm
from furlough.core.looks import Presence, Why
from furlough.core.states import Power
from furlough.sim.clock import VirtualClock, run_virtually
from tests.drivers.binding import needing_libvirt, private_host

libvirt = needing_libvirt("libvirt")
inventory = needing_libvirt("furlough.drivers.libvirt.inventory")
looking = needing_libvirt("furlough.drivers.libvirt.looking")

H1 = HostName("h1")


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[Any]:
    """A host with one running VM, `test`."""
    handle = libvirt.open(private_host(tmp_path))
    yield handle
    handle.close()


def only_vm(handle: Any) -> Vm:
    (vm,) = inventory.read_vms(handle, H1, ())
    assert isinstance(vm, Vm)
    return vm


def test_a_host_tells_its_machines_nodes_and_huge_pages() -> None:
    handle = libvirt.open("test:///default")
    try:
        found = inventory.read_machine(handle, frozenset({"qemu64"}))
    finally:
        handle.close()
    assert (found.cpus, found.cpu_models) == (16, {"qemu64"})
    assert found.numa_nodes == {0, 1}
    # The smallest size is an ordinary page; of the others this host has none free.
    assert set(found.free_huge_pages) == {8, 2048, 1_048_576}
    assert set(found.free_huge_pages.values()) == {0}
    assert found.emulator_version > 0


def test_a_vm_that_runs_starts_by_itself_and_is_defined_is_told_so(handle: Any) -> None:
    domain = handle.lookupByName("test")
    assert (only_vm(handle).is_persistent, only_vm(handle).has_autostart) == (True, False)
    domain.setAutostart(1)
    assert only_vm(handle).has_autostart
    domain.undefine()
    vm = only_vm(handle)
    assert (vm.power, vm.is_persistent, vm.has_autostart) == (Power.RUNNING, False, False)


def test_snapshots_are_counted(handle: Any) -> None:
    domain = handle.lookupByName("test")
    assert only_vm(handle).snapshots == 0
    for name in ("before", "after"):
        domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>")
    assert only_vm(handle).snapshots == 2


def test_checkpoints_are_counted(handle: Any) -> None:
    domain = handle.lookupByName("test")
    domain.checkpointCreateXML("<domaincheckpoint><name>monday</name></domaincheckpoint>")
    assert only_vm(handle).checkpoints == 1


def test_a_saved_vm_is_off_and_keeps_its_memory_until_it_starts(handle: Any) -> None:
    domain = handle.lookupByName("test")

    async def look() -> Any:
        return looking.look(handle, H1, domain.UUIDString(), VirtualClock())

    assert not only_vm(handle).has_managed_save
    domain.managedSave()
    vm, seen = only_vm(handle), run_virtually(look())
    assert (vm.power, vm.has_managed_save) == (Power.SHUT_OFF, True)
    assert (seen.presence, seen.why, seen.has_managed_save) == (
        Presence.SHUT_OFF,
        Why.SAVED,
        True,
    )
    domain.create()
    assert not only_vm(handle).has_managed_save
    assert not run_virtually(look()).has_managed_save


def test_a_trial_of_the_hook_is_no_vm_to_plan_for_but_keeps_a_host_from_being_empty(
    handle: Any,
) -> None:
    handle.createXML(bare_vm("furlough-probe-0a1b2c3d", mib=16))
    assert only_vm(handle).name == "test"
    active, _under_way = inventory.read_active(handle, H1, ())
    assert {vm.name for vm in active} == {"test", "furlough-probe-0a1b2c3d"}


def test_a_name_like_that_of_a_trial_hides_nobody(handle: Any) -> None:
    handle.createXML(bare_vm("furlough-probe-large", mib=32))
    handle.defineXML(bare_vm("furlough-probe-kept", mib=16))
    found = {vm.name for vm in inventory.read_vms(handle, H1, ())}
    assert found == {"test", "furlough-probe-large", "furlough-probe-kept"}


def bare_vm(name: str, *, mib: int) -> str:
    """As furlough-host makes them."""
    return (
        f"<domain type='test'><name>{name}</name><memory unit='MiB'>{mib}</memory>"
        "<vcpu>1</vcpu><os><type>hvm</type></os></domain>"
    )


def test_a_vm_that_cannot_be_read_is_there_all_the_same_and_hides_nobody(handle: Any) -> None:
    class Unreadable:
        """libvirt's answers, but one XML has nothing in it that we know."""

        def __getattr__(self, name: str) -> Any:
            return getattr(handle, name)

        def listAllDomains(self, flags: int) -> Any:  # noqa: N802
            return [Garbled(domain) for domain in handle.listAllDomains(flags)]

    class Garbled:
        def __init__(self, domain: Any) -> None:
            self._domain = domain

        def __getattr__(self, name: str) -> Any:
            return getattr(self._domain, name)

        def XMLDesc(self, _flags: int) -> str:  # noqa: N802
            return "<domain><!DOCTYPE"

    vm = only_vm(Unreadable())
    assert (vm.id, vm.name) == (handle.lookupByName("test").UUIDString(), "test")
    assert (vm.power, vm.memory_mib) == (Power.RUNNING, 512)
    assert "cannot be read" in vm.hindrances[0]
