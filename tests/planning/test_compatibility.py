"""Which hosts could run a VM at all: one reason per obstacle, each for people to read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.core.encryption import MigrationTls, TlsMeans
from furlough.core.inventory import Disk, DiskKind, Host, Vm
from furlough.core.probe import Reach
from furlough.core.states import HostMode, Power
from furlough.planning.causes import Cause
from furlough.planning.compatibility import Obstacle, obstacles, obstacles_at_home
from tests.core.builders import (
    H1,
    H2,
    STORE,
    a_disk,
    a_host,
    a_probe,
    a_vm,
    an_inventory,
    later,
    vm_id,
)


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


def test_a_host_that_a_person_keeps_empty_takes_no_vm() -> None:
    kept = replace(a_host(H2), kept_empty_by="a person at the host")
    assert _reasons(kept, a_vm()) == [("mode", "it is kept empty by a person at the host")]


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
    vm = replace(
        a_vm(1, devices=["gpu"]),
        machine="pc-q35-8.2",
        huge_page_kib=2048,
        numa_nodes=frozenset({1}),
    )
    older = replace(
        target,
        machines=frozenset({"pc-q35-7.2"}),
        numa_nodes=frozenset({0}),
        probe=a_probe(peers={H1: Reach(because="timed out")}),
        migration_tls=MigrationTls.REQUIRED,
        tls=TlsMeans(trouble="it has none"),
    )
    against = _against(older, vm, None, namesake)
    of_others = {Cause.ROOM, Cause.STATE, Cause.RULE}
    assert {one.cause for one in against} == set(Cause) - of_others


def test_what_its_own_hypervisor_says_against_a_vm_counts_whatever_the_models_say() -> None:
    vm, target = a_vm(1), a_host(H2)
    inventory = replace(
        an_inventory([vm], hosts=[a_host(H1), target]),
        misfits={(H2, vm.id): "feature avx512f is missing"},
    )
    (found,) = obstacles(vm, target, inventory)
    assert (found.cause, found.message) == (
        Cause.CPU,
        "its hypervisor says: feature avx512f is missing",
    )


def test_a_host_that_does_not_know_the_machine_type_is_no_target() -> None:
    vm = replace(a_vm(1), machine="pc-q35-8.2")
    knowing = replace(a_host(H2), machines=frozenset({"pc-q35-7.2", "pc-q35-8.2"}))
    lacking = replace(a_host(H2), machines=frozenset({"pc-q35-7.2"}))
    assert _reasons(knowing, vm) == []
    assert _reasons(lacking, vm) == [("machine", "it does not know machine type pc-q35-8.2")]
    assert _reasons(a_host(H2), vm) == [], "what is unknown is no obstacle"


def test_an_older_emulator_is_an_obstacle_and_a_newer_one_is_not() -> None:
    source = replace(a_host(H1), emulator_version=8_002_001)
    older = replace(a_host(H2), emulator_version=7_002_011)
    newer = replace(a_host(H2), emulator_version=9_000_000)
    without_its_fixes = replace(a_host(H2), emulator_version=8_002_000)
    assert _reasons(older, a_vm(1), source) == [
        ("machine", "its emulator 7.2.11 is older than 8.2.1")
    ]
    assert _reasons(newer, a_vm(1), source) == []
    assert _reasons(without_its_fixes, a_vm(1), source) == [], "the same release line"
    assert _reasons(without_its_fixes, a_vm(1), source) == []
    assert _reasons(a_host(H2), a_vm(1), source) == []


def test_huge_pages_have_to_be_free_for_all_of_a_vm() -> None:
    vm = replace(a_vm(1, memory_mib=4096), huge_page_kib=2048)
    roomy = replace(a_host(H2), free_huge_pages={2048: 2048})
    short = replace(a_host(H2), free_huge_pages={2048: 2047})
    assert _reasons(roomy, vm) == []
    assert _reasons(short, vm) == [
        ("huge_pages", "it has 2047 free huge pages of 2048 KiB, 2048 are needed")
    ]


def test_a_vm_that_is_bound_to_numa_nodes_needs_hosts_that_have_them() -> None:
    vm = replace(a_vm(1), numa_nodes=frozenset({0, 2}))
    assert _reasons(replace(a_host(H2), numa_nodes=frozenset({0, 1})), vm) == [
        ("numa", "it has no NUMA node 2")
    ]
    assert _reasons(replace(a_host(H2), numa_nodes=frozenset({0, 1, 2})), vm) == []
    assert _reasons(a_host(H2), vm) == [], "nothing is known of its nodes"


def test_an_empty_drive_ties_a_vm_to_nothing() -> None:
    empty = Disk(target="sda", source="", datastore=None, kind=DiskKind.CDROM)
    assert _reasons(a_host(H2), a_vm(1, disks=[empty])) == []


@pytest.mark.parametrize("from_source", [True, False])
def test_hosts_that_do_not_reach_each_other_exchange_no_vms(from_source: bool) -> None:
    failing = Reach(because="connection timed out")
    source = replace(a_host(H1), probe=a_probe(peers={H2: failing if from_source else Reach()}))
    target = replace(a_host(H2), probe=a_probe(peers={} if from_source else {H1: failing}))
    one, other = (H1, H2) if from_source else (H2, H1)
    assert _reasons(target, a_vm(1), source) == [
        ("path", f"{one} does not reach {other} for migrations: connection timed out")
    ]


def test_what_an_old_probe_says_of_the_network_no_longer_counts() -> None:
    failing = {H2: Reach(because="connection timed out")}
    for age_s, wanted in ((600, 1), (601, 0)):
        source = replace(a_host(H1), probe=a_probe(peers=failing, at=later(-age_s)))
        assert len(_reasons(a_host(H2), a_vm(1), source)) == wanted


def test_on_the_way_home_the_mode_of_the_host_is_no_obstacle_but_all_else_is() -> None:
    home = a_host(H1, mode=HostMode.EXITING, networks=[])
    vm = a_vm(1, host=H2)
    inventory = an_inventory([vm], hosts=[home, a_host(H2)])
    assert [one.cause for one in obstacles_at_home(vm, home, inventory)] == [Cause.NETWORK]
    assert [one.cause for one in obstacles(vm, home, inventory)] == [Cause.MODE, Cause.NETWORK]
