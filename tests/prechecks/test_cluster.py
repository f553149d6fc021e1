"""Prechecks of the cluster: room after one more loss, storage repair, what proofs are missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.affinity import Rule, RuleKind
from furlough.core.findings import Finding, Severity
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory, Proof, Vm
from furlough.core.policy import Reserve
from furlough.core.states import HostMode
from furlough.core.vm_policy import VmPolicy
from tests.core.builders import (
    H1,
    H2,
    H3,
    H4,
    a_cluster,
    a_datastore,
    a_disk,
    a_host,
    a_probe,
    a_vm,
    an_inventory,
    vm_id,
)
from tests.prechecks.troubles import Trouble, leaving, with_hosts

HALF = 32_768


def _found(inventory: Inventory, code: str) -> list[Finding]:
    (report,) = Trouble(inventory=inventory).assessment().reports
    return [one for one in report.findings if one.code == code]


def _reserving(*vms: Vm, reserve: Reserve = Reserve.N_PLUS_1, hosts: int = 3) -> Inventory:
    """Equal hosts of 64 GiB and 64 vCPUs, and what has to be left free."""
    return an_inventory(
        vms,
        hosts=[a_host(name) for name in (H1, H2, H3, H4)[:hosts]],
        clusters=[a_cluster(reserve=reserve)],
    )


def _ha(number: int, **traits: int) -> Vm:
    return a_vm(number, policy=VmPolicy(ha=True), **traits)  # type: ignore[arg-type]


def test_where_everybody_finds_room_after_one_more_loss_nothing_is_said() -> None:
    vms = [a_vm(n, host=host, memory_mib=20_000) for n, host in ((1, H1), (2, H2), (3, H3))]
    assert _found(_reserving(*vms), "cluster.no_reserve") == []


def test_a_cluster_that_would_lose_room_with_one_more_host_says_which_and_for_whom() -> None:
    vms = [a_vm(n, host=host, memory_mib=HALF) for n, host in ((1, H1), (2, H2), (3, H3))]
    (found,) = _found(_reserving(*vms), "cluster.no_reserve")
    assert found.severity is Severity.BLOCKER
    assert "If h2 of cluster c1 were lost" in found.message or "If h3" in found.message
    assert "no room would be left for" in found.message


def test_one_host_that_cannot_be_lost_is_named_and_not_all_of_them() -> None:
    vms = [a_vm(n, host=H1, memory_mib=60_000) for n in (1, 2)]
    assert len(_found(_reserving(*vms), "cluster.no_reserve")) == 1


def test_of_many_without_room_five_are_named_and_the_others_counted() -> None:
    vms = [a_vm(n, host=H1, memory_mib=8000) for n in range(1, 8)]
    (found,) = _found(_reserving(*vms, hosts=2), "cluster.no_reserve")
    assert found.message.count(" (") == 5
    assert found.message.endswith("and 2 more.")


def test_without_a_reserve_only_vms_marked_ha_count_and_that_is_a_warning() -> None:
    ordinary = [a_vm(1, memory_mib=60_000), a_vm(2, host=H2, memory_mib=60_000)]
    assert _found(_reserving(*ordinary, reserve=Reserve.NONE), "cluster.no_reserve") == []
    inventory = _reserving(_ha(1, memory_mib=60_000), ordinary[1], reserve=Reserve.NONE)
    (found,) = _found(inventory, "cluster.no_reserve")
    assert found.severity is Severity.WARNING
    assert f"vm1 ({vm_id(1)})" in found.message


def test_a_vm_that_no_other_host_could_run_anyway_lacks_no_room_unless_it_is_marked_ha() -> None:
    """Whatever room there is, it dies with its host; that is no matter of reserve."""
    tied = replace(a_vm(2, host=H2), disks=(a_disk(datastore=None),))
    assert _found(_reserving(tied), "cluster.no_reserve") == []
    marked = replace(tied, policy=VmPolicy(ha=True))
    (found,) = _found(_reserving(marked), "cluster.no_reserve")
    assert found.message.startswith("If h2 ")


def test_a_rule_that_forbids_the_only_roomy_host_leaves_a_vm_without_room() -> None:
    rule = Rule(name="lic", kind=RuleKind.HOST_AFFINITY, vms=("vm2",), hosts=(H1, H2))
    inventory = an_inventory(
        [a_vm(1), a_vm(2, host=H2)], clusters=[a_cluster(reserve=Reserve.N_PLUS_1, rules=[rule])]
    )
    (found,) = _found(inventory, "cluster.no_reserve")
    assert "vm2" in found.message


def test_a_host_whose_hypervisor_refuses_a_vm_is_no_room_for_it_either() -> None:
    inventory = _reserving(a_vm(1, host=H1), a_vm(2, host=H2), hosts=4)
    assert _found(inventory, "cluster.no_reserve") == []
    refused = {(host, vm_id(2)): "no avx512f" for host in (H3, H4)}
    (found,) = _found(replace(inventory, misfits=refused), "cluster.no_reserve")
    assert f"vm2 ({vm_id(2)})" in found.message


def test_cordoned_hosts_are_no_place_to_restart_but_can_be_lost_themselves() -> None:
    hosts = [a_host(H1), a_host(H2, mode=HostMode.CORDONED), a_host(H3, memory_mib=4096)]
    inventory = an_inventory(
        [a_vm(1, host=H2, memory_mib=8192)],
        hosts=hosts,
        clusters=[a_cluster(reserve=Reserve.N_PLUS_1)],
    )
    (found,) = _found(inventory, "cluster.no_reserve")
    assert found.message.startswith("If h2 ")


@pytest.mark.parametrize("host", [H1, H3])
def test_an_array_that_rebuilds_anywhere_in_the_cluster_forbids_entering(host: str) -> None:
    rebuilding = a_probe(repairs=["md0 is rebuilding (12 %)"])
    hosts = [replace(a_host(name), probe=rebuilding if name == host else None) for name in (H1, H3)]
    (found,) = _found(with_hosts(*hosts), "cluster.storage_repair")
    assert found.message == f"Storage repair on {host}: md0 is rebuilding (12 %)."


def test_what_the_sites_commands_say_is_told_of_vms_that_leave_and_of_no_others() -> None:
    inventory = replace(
        leaving(a_vm(1), a_vm(2, host=H2)),
        site_findings=[
            ("vm.no_backup", f"vm1 ({vm_id(1)})", "VM vm1 has no recent backup."),
            ("vm.no_backup", f"vm2 ({vm_id(2)})", "VM vm2 has no recent backup."),
            ("cluster.storage_repair", "site", "Storage repair at the site: a disk is replaced."),
        ],
    )
    assert [one.subject for one in _found(inventory, "vm.no_backup")] == [f"vm1 ({vm_id(1)})"]
    assert len(_found(inventory, "cluster.storage_repair")) == 1


def test_a_datastore_of_which_nothing_is_known_is_a_warning_and_one_without_locks_a_note() -> None:
    unknown = a_datastore(shared=Proof.UNKNOWN, locked=Proof.UNKNOWN)
    (found,) = _found(an_inventory([a_vm(1)], datastores=[unknown]), "storage.unproven")
    assert (found.subject, found.severity) == ("images", Severity.WARNING)
    declared = a_datastore(locked=Proof.DECLARED)
    (found,) = _found(an_inventory([a_vm(1)], datastores=[declared]), "storage.unproven")
    assert found.severity is Severity.INFO
    assert _found(leaving(a_vm(1)), "storage.unproven") == []
    assert _found(an_inventory([], datastores=[unknown]), "storage.unproven") == [], (
        "nobody uses it"
    )


def test_names_in_rules_that_nobody_bears_are_told() -> None:
    rule = Rule(
        name="lic",
        kind=RuleKind.HOST_AFFINITY,
        vms=("vm1", "vm77"),
        hosts=(H1, H2, HostName("old")),
    )
    kept = Rule(name="near", kind=RuleKind.AFFINITY, vms=("vm1",))
    inventory = an_inventory(
        [a_vm(1, policy=VmPolicy(host_affinity=(H1, HostName("gone"))))],
        clusters=[replace(a_cluster(), rules=(rule, kept))],
    )
    of_rule, of_vm = _found(inventory, "cluster.rule_unknown")
    assert of_rule.severity is Severity.WARNING
    assert "Rule lic of cluster c1 names VM vm77, host old, which is unknown." in of_rule.message
    assert of_vm.subject.startswith("vm1 ")
    assert "names gone" in of_vm.message
