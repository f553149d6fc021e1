"""Writing an inventory as a file: what `inventory_file` reads, made from facts.

The file has no word for some facts, so they are written as what follows from them: an available
host that is silent, or kept empty by somebody else, is cordoned; a VM that several hosts list
stands under the one where it runs; hard rules of a cluster are groups and host affinities of
their VMs. Soft rules bind nobody, and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from furlough.core.affinity import Rule, RuleKind
from furlough.core.ids import ClusterName, HostName
from furlough.core.inventory import Cluster, Disk, Host, Inventory, Proof, Vm
from furlough.core.states import HostMode
from furlough.planning.inventory_file import FORMAT


def write(inventory: Inventory) -> bytes:
    """An inventory file with these facts: UTF-8, one VM to a line."""
    document = document_of(inventory)
    parts = []
    for key, value in document.items():
        if isinstance(value, list):
            rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in value)
            parts.append(f'"{key}": [\n  {rows}\n ]' if value else f'"{key}": []')
        else:
            parts.append(f'"{key}": {json.dumps(value)}')
    return ("{" + ",\n ".join(parts) + "}\n").encode()


def document_of(inventory: Inventory) -> dict[str, object]:
    """The same as a JSON document."""
    rules = _RulesOfVms(inventory.clusters)
    return {
        "format": FORMAT,
        "taken_at": inventory.taken_at.isoformat(),
        "clusters": [_cluster(one) for one in inventory.clusters],
        "hosts": [_host(one) for one in inventory.hosts],
        "vms": [_vm(one, inventory, rules) for one in _once_each(inventory)],
    }


def _once_each(inventory: Inventory) -> Iterable[Vm]:
    """Every VM where it runs, or else where it is first listed."""
    return [inventory.vm(vm) for vm in dict.fromkeys(one.id for one in inventory.vms)]


def _cluster(cluster: Cluster) -> dict[str, object]:
    return {
        "name": cluster.name,
        "reserve": cluster.policy.reserve.value,
        "memory_ceiling": cluster.policy.memory_ceiling,
        "vcpu_overcommit": cluster.policy.vcpu_overcommit,
    }


def _host(host: Host) -> dict[str, object]:
    takes_none = not host.is_connected or bool(host.kept_empty_by)
    mode = host.mode
    if mode is HostMode.AVAILABLE and takes_none:
        mode = HostMode.CORDONED
    return {
        "name": host.name,
        "uuid": host.uuid,
        "cluster": host.cluster,
        "mode": mode.value,
        "cpus": host.cpus,
        "memory_mib": host.memory_mib,
        "reserved_memory_mib": host.reserved_memory_mib,
        "cpu_models": sorted(host.cpu_models),
        "networks": sorted(host.networks),
        "datastores": sorted(host.datastores),
        "devices": sorted(host.devices),
        "link_mbit_s": max(1, host.link_mbit_s),
        "rack": "",
    }


def _vm(vm: Vm, inventory: Inventory, rules: _RulesOfVms) -> dict[str, object]:
    together, apart, hosts = rules.of(vm, inventory)
    return {
        "uuid": vm.id,
        "name": vm.name,
        "host": vm.host,
        "power": vm.power.value,
        "vcpus": vm.vcpus,
        "memory_mib": vm.memory_mib,
        "memory_used_mib": vm.memory_used_mib,
        "dirty_mib_s": vm.dirty_mib_s,
        "working_set_mib": vm.working_set_mib,
        "cpu_model": vm.cpu_model,
        "networks": sorted({nic.network for nic in vm.nics if nic.network}),
        "disks": [_disk(one, inventory) for one in vm.disks if one.source or not one.is_medium],
        "devices": sorted(set(vm.devices)),
        "availability_priority": vm.policy.availability_priority,
        "on_maintenance": vm.policy.on_maintenance.value,
        "ha": vm.policy.ha,
        "affinity_groups": together,
        "anti_affinity_groups": apart,
        "host_affinity": hosts,
    }


def _disk(disk: Disk, inventory: Inventory) -> dict[str, object]:
    is_shared = (
        disk.datastore is not None
        and inventory.datastore(disk.datastore).shared is not Proof.UNKNOWN
    )
    return {"datastore": disk.datastore, "size_mib": disk.size_mib, "shared": is_shared}


class _RulesOfVms:
    """The hard rules of clusters, by the name or UUID of the VMs they are about."""

    def __init__(self, clusters: Iterable[Cluster]) -> None:
        self._found: Mapping[tuple[ClusterName, str], list[Rule]] = {}
        found: dict[tuple[ClusterName, str], list[Rule]] = {}
        for cluster in clusters:
            for rule in cluster.rules:
                for word in rule.vms if rule.is_hard else ():
                    found.setdefault((cluster.name, word), []).append(rule)
        self._found = found

    def of(self, vm: Vm, inventory: Inventory) -> tuple[list[str], list[str], list[HostName]]:
        """The groups a VM belongs to, together and apart, and the hosts it may use (none: all)."""
        cluster = inventory.host(vm.host).cluster
        rules = {
            rule.name: rule
            for word in (vm.name, vm.id)
            for rule in self._found.get((cluster, word), ())
        }
        together = [vm.policy.affinity_group] if vm.policy.affinity_group else []
        apart = [vm.policy.anti_affinity_group] if vm.policy.anti_affinity_group else []
        allowed = [set(vm.policy.host_affinity)] if vm.policy.host_affinity else []
        for rule in rules.values():
            if rule.kind is RuleKind.AFFINITY:
                together.append(f"rule {rule.name}")
            elif rule.kind is RuleKind.ANTI_AFFINITY:
                apart.append(f"rule {rule.name}")
            else:
                allowed.append(set(rule.hosts))
        return together, apart, _hosts_in_all(allowed, vm, inventory)


def _hosts_in_all(allowed: list[set[HostName]], vm: Vm, inventory: Inventory) -> list[HostName]:
    """Those hosts that all of these sets allow. Where that is none, the VM's own stands for it: it
    may go nowhere else, and no host at all would mean every one."""
    if not allowed:
        return []
    known = {host.name for host in inventory.hosts}
    return sorted(known.intersection(*allowed)) or [vm.host]
