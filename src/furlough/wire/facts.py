"""Clusters, hosts and VMs as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from furlough.core.capacity import used_by
from furlough.core.ids import VmId
from furlough.core.inventory import Cluster, Host, Inventory, Vm
from furlough.core.restore import Away
from furlough.core.states import HostMode, Power, Reachability
from furlough.wire.enrolment import cluster_body
from furlough.wire.shapes import View


class ClusterView(View):
    """A cluster with its policy, and how many hosts and VMs it has."""

    name: str
    hosts: int
    vms: int
    policy: dict[str, Any]


class HostView(View):
    """A host in a listing. `memory_used_mib` is what its active VMs hold."""

    name: str
    uuid: str
    cluster: str
    mode: HostMode
    reachability: Reachability
    guard: str
    cpus: int
    memory_mib: int
    memory_used_mib: int
    vms_running: int
    vms_total: int
    operation: str | None
    silent_because: str


class VmView(View):
    """A VM in a listing. `home_host` differs from `host` while it is away because of a
    maintenance."""

    uuid: str
    name: str
    host: str
    home_host: str
    power: Power
    vcpus: int
    memory_mib: int
    on_maintenance: str
    ha: bool


def cluster_view(cluster: Cluster, inventory: Inventory) -> ClusterView:
    hosts = inventory.hosts_of(cluster.name)
    vms = sum(len(inventory.vms_on(host.name)) for host in hosts)
    policy = cluster_body(cluster)
    del policy["name"]
    return ClusterView(name=cluster.name, hosts=len(hosts), vms=vms, policy=policy)


def host_view(host: Host, inventory: Inventory) -> HostView:
    vms = inventory.vms_on(host.name)
    return HostView(
        name=host.name,
        uuid=host.uuid,
        cluster=host.cluster,
        mode=host.mode,
        reachability=host.reachability,
        guard=host.guard.value,
        cpus=host.cpus,
        memory_mib=host.memory_mib,
        memory_used_mib=used_by(vms).memory_mib,
        vms_running=sum(1 for vm in vms if vm.power is Power.RUNNING),
        vms_total=len(vms),
        operation=host.operation,
        silent_because=host.silent_because,
    )


def vm_view(vm: Vm, away: Mapping[VmId, Away]) -> VmView:
    known = away.get(vm.id)
    return VmView(
        uuid=vm.id,
        name=vm.name,
        host=vm.host,
        home_host=known.home if known else vm.host,
        power=vm.power,
        vcpus=vm.vcpus,
        memory_mib=vm.memory_mib,
        on_maintenance=vm.policy.on_maintenance.value,
        ha=vm.policy.ha,
    )
