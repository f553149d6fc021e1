"""Clusters, hosts and VMs as they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from furlough.core.capacity import used_by
from furlough.core.ids import VmId
from furlough.core.inventory import Cluster, Host, Inventory, Vm
from furlough.core.states import HostMode, Power, Reachability
from furlough.core.vm_policy import NAMES
from furlough.planning.record import Away
from furlough.wire.enrolment import cluster_body
from furlough.wire.shapes import View


class ClusterView(View):
    """A cluster with its policy, and how many hosts and VMs it has."""

    name: str
    hosts: int
    vms: int
    policy: dict[str, Any]


class ViolationView(View):
    """Something that is on a host in maintenance and may not be there."""

    what: str
    since: datetime


class HostView(View):
    """A host in a listing. `memory_used_mib` is what its active VMs hold. `guard_trouble`: why its
    hook cannot be relied on. `violations`: what violates its maintenance, a critical finding of
    code `maintenance.violated`. `kept_empty_by`: who keeps it empty besides Furlough. `boot_id`:
    another one after every boot."""

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
    guard_trouble: str
    violations: list[ViolationView]
    kept_empty_by: str
    boot_id: str


class VmView(View):
    """A VM in a listing. `home_host` differs from `host` while it is away because of a
    maintenance. `policy`: what holds for it, every setting; `own_policy`: what it carries itself,
    as words; `policy_troubles`: what of that makes no sense and counts as not said."""

    uuid: str
    name: str
    host: str
    home_host: str
    power: Power
    vcpus: int
    memory_mib: int
    on_maintenance: str
    ha: bool
    policy: dict[str, str | int | bool | list[str] | None]
    own_policy: dict[str, str]
    policy_troubles: list[str]


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
        guard_trouble=host.guard_trouble,
        violations=[ViolationView(what=one.what, since=one.since) for one in host.intruders],
        kept_empty_by=host.kept_empty_by,
        boot_id=host.boot_id,
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
        policy={name: _plain(getattr(vm.policy, name)) for name in NAMES},
        own_policy=dict(vm.own_policy),
        policy_troubles=list(vm.policy_troubles),
    )


def _plain(value: object) -> str | int | bool | list[str] | None:
    """One setting as JSON has it."""
    if isinstance(value, tuple):
        return [str(one) for one in value]
    if value is None or (isinstance(value, bool | int) and not isinstance(value, str)):
        return value
    return str(value)
