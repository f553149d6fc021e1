"""Which hosts could run a VM at all: one reason per obstacle, each for people to read."""

from __future__ import annotations

import pytest

from furlough.core.compatibility import Cause, Obstacle, obstacles, obstacles_at_home
from furlough.core.inventory import HOST_PASSTHROUGH, Host, Vm
from furlough.core.states import HostMode, Power
from tests.core.builders import H1, H2, STORE, a_disk, a_host, a_vm, an_inventory, vm_id


def _against(target: Host, vm: Vm, source: Host | None = None, *others: Vm) -> list[Obstacle]:
    hosts = [source or a_host(H1), target]
    return obstacles(vm, target, an_inventory([vm, *others], hosts=hosts))


def _reasons(
    target: Host, vm: Vm, source: Host | None = None, *others: Vm
) -> list[tuple[str, str]]:
    return [(one.cause.value, one.message) for one in _against(target, vm, source, *others)]


def test_nothing_stands_against_an_ordinary_vm_on_an_equal_host_with_vms_of_its_own() -> None:
    assert _reasons(a_host(H2), a_vm(1), None, a_vm(2, host=H2)) == []


@pytest.mark.parametrize("mode", [one for one in HostMode if one is not HostMode.AVAILABLE])
def test_only_an_available_host_takes_vms(mode: HostMode) -> None:
    assert _reasons(a_host(H2, mode=mode), a_vm()) == [("mode", f"it is {mode.value}")]


def test_a_host_that_does_not_answer_takes_no_vm() -> None:
    silent = a_host(H2, silent_because="no route to host")
    assert _reasons(silent, a_vm()) == [("silent", "it does not answer")]


def test_a_named_cpu_model_must_be_among_those_the_host_can_give() -> None:
    target = a_host(H2, cpu_models=["qemu64"])
    assert _reasons(target, a_vm(cpu_model="EPYC")) == [("cpu", "it cannot give CPU model EPYC")]
    assert _reasons(a_host(H2, cpu_models=["qemu64", "EPYC"]), a_vm(cpu_model="EPYC")) == []


def test_a_vm_that_asks_for_no_cpu_model_runs_on_any() -> None:
    assert _reasons(a_host(H2, cpu_models=[]), a_vm(cpu_model=None)) == []


def test_host_passthrough_moves_only_between_hosts_with_equal_cpus() -> None:
    vm = a_vm(cpu_model=HOST_PASSTHROUGH)
    source = a_host(H1, cpu_models=["EPYC", "EPYC-Rome"])
    equal = a_host(H2, cpu_models=["EPYC-Rome", "EPYC"])
    better = a_host(H2, cpu_models=["EPYC", "EPYC-Rome", "EPYC-Milan"])
    assert _reasons(equal, vm, source) == []
    assert _reasons(better, vm, source) == [("cpu", "its CPU differs from h1's (host-passthrough)")]


def test_a_disk_outside_all_datastores_ties_a_vm_to_its_host() -> None:
    vm = a_vm(disks=[a_disk("vdb", datastore=None)])
    assert _reasons(a_host(H2), vm) == [("disk", "disk vdb (/srv/images/vdb.qcow2) is local")]


def test_each_disk_that_the_host_cannot_reach_is_named_with_its_datastore() -> None:
    vm = a_vm(disks=[a_disk("vda"), a_disk("vdb", datastore="fast")])
    assert _reasons(a_host(H2, datastores=[STORE]), vm) == [
        ("disk", "it does not reach datastore fast of disk vdb")
    ]


def test_each_missing_network_is_named_once() -> None:
    vm = a_vm(networks=["dmz", "lan", "dmz", "backup"])
    assert _reasons(a_host(H2), vm) == [
        ("network", "it has no network backup"),
        ("network", "it has no network dmz"),
    ]


def test_a_vm_with_a_device_goes_only_where_that_device_is() -> None:
    vm = a_vm(devices=["gpu-b", "gpu-c", "gpu-a"])
    assert _reasons(a_host(H2, devices=["gpu-b"]), vm) == [
        ("device", "it has no device gpu-a"),
        ("device", "it has no device gpu-c"),
    ]
    assert _reasons(a_host(H2, devices=["gpu-c", "gpu-a", "gpu-b"]), vm) == []


def test_a_host_that_has_another_vm_of_the_same_name_is_no_target() -> None:
    namesake = a_vm(2, name="db", host=H2, power=Power.SHUT_OFF)
    assert _reasons(a_host(H2), a_vm(1, name="db"), None, namesake) == [
        ("duplicate", f"it has another VM named db ({vm_id(2)})")
    ]


@pytest.mark.parametrize("power", [Power.RUNNING, Power.SHUT_OFF])
def test_a_host_that_has_the_same_vm_already_is_no_target(power: Power) -> None:
    copy = a_vm(1, host=H2, power=power)
    assert _reasons(a_host(H2), a_vm(1), None, copy) == [
        ("duplicate", f"it has a VM with this UUID, {power.value}")
    ]


def test_a_vm_does_not_stand_in_its_own_way_on_the_host_it_is_on() -> None:
    assert _reasons(a_host(H1), a_vm(1), a_host(H2)) == []


def test_all_obstacles_are_told_and_not_only_the_first() -> None:
    target = a_host(
        H2,
        mode=HostMode.CORDONED,
        silent_because="off",
        cpu_models=[],
        networks=[],
        datastores=[],
    )
    namesake = a_vm(2, name="vm1", host=H2)
    against = _against(target, a_vm(1, devices=["gpu"]), None, namesake)
    assert {one.cause for one in against} == set(Cause) - {Cause.ROOM, Cause.STATE}


def test_on_the_way_home_the_mode_of_the_host_is_no_obstacle_but_all_else_is() -> None:
    home = a_host(H1, mode=HostMode.EXITING, networks=[])
    vm = a_vm(1, host=H2)
    inventory = an_inventory([vm], hosts=[home, a_host(H2)])
    assert [one.cause for one in obstacles_at_home(vm, home, inventory)] == [Cause.NETWORK]
    assert [one.cause for one in obstacles(vm, home, inventory)] == [Cause.MODE, Cause.NETWORK]
