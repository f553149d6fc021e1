"""Writing inventories: reading the file back gives the facts that planning asks about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from furlough.core.affinity import Rule, RuleKind
from furlough.core.ids import HostName
from furlough.core.inventory import Cluster, Disk, DiskKind, Host, Proof, Vm
from furlough.core.policy import ClusterPolicy, Reserve
from furlough.core.states import HostMode, Power
from furlough.core.vm_policy import OnMaintenance, VmPolicy
from furlough.planning.inventory_export import document_of, write
from furlough.planning.inventory_file import DiskRow, Document, read
from tests.core.builders import (
    C1,
    H1,
    H2,
    H3,
    NOW,
    a_cluster,
    a_datastore,
    a_disk,
    a_host,
    a_vm,
    an_inventory,
    vm_id,
)


def _back(
    vms: Sequence[Vm] = (),
    *,
    hosts: Sequence[Host] | None = None,
    rules: Sequence[Rule] = (),
    shared: Proof = Proof.PROVEN,
) -> Document:
    """What the file of these facts says."""
    cluster = replace(a_cluster(), rules=tuple(rules))
    inventory = an_inventory(
        vms, hosts=hosts, clusters=[cluster], datastores=[a_datastore(shared=shared)]
    )
    return read(write(inventory))


def test_a_cluster_comes_back_with_its_policy() -> None:
    policy = ClusterPolicy(memory_ceiling=0.8, vcpu_overcommit=2.5, reserve=Reserve.N_PLUS_1)
    inventory = an_inventory(clusters=[Cluster(name=C1, policy=policy)])
    document = read(write(inventory))
    cluster = document.clusters[0]
    assert document.taken_at == NOW
    assert (cluster.name, cluster.reserve) == (C1, "n+1")
    assert (cluster.memory_ceiling, cluster.vcpu_overcommit) == (0.8, 2.5)


def test_a_host_comes_back_with_what_it_can_give() -> None:
    host = a_host(
        H2,
        mode=HostMode.MAINTENANCE,
        reserved_memory_mib=1024,
        devices=["gpu"],
        networks=["lan", "dmz"],
        link_mbit_s=25_000,
    )
    row = _back(hosts=[host]).hosts[0]
    assert (row.name, row.uuid, row.cluster) == (H2, f"uuid-of-{H2}", C1)
    assert (row.mode, row.cpus, row.memory_mib) == ("maintenance", 16, 65536)
    assert (row.reserved_memory_mib, row.link_mbit_s) == (1024, 25_000)
    assert (row.cpu_models, row.devices, row.networks) == (("EPYC",), ("gpu",), ("dmz", "lan"))


@pytest.mark.parametrize(
    "host",
    [
        a_host(silent_because="no route"),
        replace(a_host(), kept_empty_by="another manager"),
        a_host(mode=HostMode.CORDONED),
    ],
)
def test_a_host_that_takes_no_vm_now_is_no_target_in_the_file(host: Host) -> None:
    assert _back(hosts=[host]).hosts[0].mode == "cordoned"


def test_a_vm_comes_back_with_its_size_needs_and_policy() -> None:
    policy = VmPolicy(
        availability_priority=90,
        on_maintenance=OnMaintenance.COLD,
        ha=True,
        affinity_group="web",
        anti_affinity_group="db",
        host_affinity=(H2, H1),
    )
    vm = a_vm(
        memory_used_mib=2000,
        dirty_mib_s=7.5,
        working_set_mib=300,
        networks=["lan", "lan", ""],
        devices=["gpu"],
        power=Power.PAUSED,
    )
    vms = _back([replace(vm, policy=policy)]).vms
    assert (vms.uuid, vms.name, vms.host, vms.power) == ([vm.id], ["vm1"], [H1], ["paused"])
    assert (vms.vcpus, vms.memory_mib, vms.memory_used_mib) == ([2], [4096], [2000])
    assert (vms.dirty_mib_s, vms.working_set_mib, vms.cpu_model) == ([7.5], [300], ["EPYC"])
    assert (vms.networks, vms.devices) == ([("lan",)], [("gpu",)])
    assert (vms.availability_priority, vms.on_maintenance, vms.ha) == ([90], ["cold"], [True])
    assert (vms.affinity_groups, vms.anti_affinity_groups) == ([("web",)], [("db",)])
    assert vms.host_affinity == [(H1, H2)]


def test_what_nobody_measured_comes_back_as_the_worst_that_is_usual() -> None:
    vms = _back([a_vm(cpu_model=None)]).vms
    assert (vms.memory_used_mib, vms.dirty_mib_s, vms.working_set_mib) == ([4096], [0.0], [4096])
    assert vms.cpu_model == [None]


def test_disks_are_shared_where_their_datastore_is_known_to_be_and_empty_drives_are_no_disks() -> (
    None
):
    drive = Disk(target="sda", source="", datastore=None, kind=DiskKind.CDROM)
    local = a_disk("vdb", datastore=None)
    vm = a_vm(disks=[a_disk(), local, drive])
    assert _back([vm]).vms.disks == [(DiskRow("images", 0, True), DiskRow(None, 0, False))]
    assert _back([a_vm()], shared=Proof.DECLARED).vms.disks[0][0].shared
    assert _back([a_vm()], shared=Proof.UNKNOWN).vms.disks[0][0].is_local


def test_a_vm_that_two_hosts_list_stands_once_where_it_runs() -> None:
    vms = _back([a_vm(host=H2, power=Power.SHUT_OFF), a_vm(host=H1)]).vms
    assert (vms.uuid, vms.host) == ([vm_id(1)], [H1])


def test_hard_rules_become_groups_and_soft_ones_bind_nobody() -> None:
    rules = [
        Rule(name="r1", kind=RuleKind.AFFINITY, vms=("vm1", vm_id(2))),
        Rule(name="r2", kind=RuleKind.ANTI_AFFINITY, vms=("vm1",)),
        Rule(name="r3", kind=RuleKind.AFFINITY, vms=("vm1",), is_hard=False),
        Rule(name="r4", kind=RuleKind.HOST_AFFINITY, vms=("vm2",), hosts=(H1, H3)),
    ]
    second = replace(a_vm(2), policy=VmPolicy(host_affinity=(H1, H2)))
    vms = _back([a_vm(1), second], rules=rules).vms
    assert vms.affinity_groups == [("rule r1",), ("rule r1",)]
    assert vms.anti_affinity_groups == [("rule r2",), ()]
    assert vms.host_affinity == [(), (H1,)]


def test_a_vm_that_no_known_host_is_allowed_to_is_kept_where_it_is() -> None:
    vm = replace(a_vm(), policy=VmPolicy(host_affinity=(HostName("sold"),)))
    assert _back([vm]).vms.host_affinity == [(H1,)]


def test_names_of_any_characters_survive() -> None:
    names = ['"quoted"', "-x", "<b>\n", "Größe 🙂"]
    vms = [a_vm(number, name=name) for number, name in enumerate(names)]
    assert _back(vms).vms.name == names


def test_an_empty_inventory_is_a_file_too() -> None:
    inventory = an_inventory(hosts=[], clusters=[])
    assert len(read(write(inventory)).vms) == 0
    assert document_of(inventory)["format"] == 1
