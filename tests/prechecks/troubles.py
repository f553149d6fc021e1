"""For every finding code the smallest cluster whose precheck raises it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from furlough.core.affinity import Rule, RuleKind
from furlough.core.encryption import MigrationTls, TlsMeans
from furlough.core.ids import VmId
from furlough.core.inventory import Disk, DiskKind, Host, Inventory, Proof, Vm
from furlough.core.policy import EnterOptions, Reserve, Scope
from furlough.core.probe import Link, Probe, Reach
from furlough.core.states import HostMode, Power
from furlough.core.vm_policy import OnMaintenance, VmPolicy
from furlough.planning.assessment import Assessment
from furlough.prechecks.assessing import assess
from tests.core.builders import (
    C2,
    H1,
    H2,
    H3,
    a_cluster,
    a_datastore,
    a_disk,
    a_host,
    a_probe,
    a_vm,
    an_inventory,
    vm_id,
)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """An inventory, and how h1 is asked for."""

    inventory: Inventory
    options: EnterOptions = field(default_factory=EnterOptions)

    def assessment(self) -> Assessment:
        """The precheck of h1."""
        return assess(self.inventory, [H1], self.options)


def with_hosts(*hosts: Host, vms: tuple[Vm, ...] = ()) -> Inventory:
    """These hosts, and what is missing of the ordinary three."""
    named = {host.name for host in hosts}
    rest = [a_host(name) for name in (H1, H2, H3) if name not in named]
    return an_inventory(vms, hosts=sorted([*hosts, *rest], key=lambda host: host.name))


def probed(probe: Probe, *vms: Vm) -> Inventory:
    """The ordinary cluster, h1 probed."""
    return with_hosts(replace(a_host(H1), probe=probe), vms=vms)


def leaving(*vms: Vm) -> Inventory:
    """These VMs on the ordinary cluster."""
    return an_inventory(vms)


def wishing(on_maintenance: OnMaintenance, vm: Vm | None = None) -> Vm:
    """A VM with such a policy."""
    one = vm or a_vm(1)
    return replace(one, policy=replace(one.policy, on_maintenance=on_maintenance))


def grouped(number: int, group: str = "db") -> Vm:
    """A VM of an affinity group."""
    return a_vm(number, policy=VmPolicy(affinity_group=group))


def medium(source: str = "/root/install.iso", datastore: str | None = None) -> Disk:
    """A CD-ROM, local if nothing else is said."""
    return Disk(
        target="sda", source=source, datastore=datastore, is_writable=False, kind=DiskKind.CDROM
    )


def _serving() -> Inventory:
    served = replace(a_disk(), address="192.0.2.1")
    serving = replace(a_host(H1), addresses=frozenset({"192.0.2.1"}))
    return with_hosts(serving, vms=(a_vm(1, host=H2, disks=[served]),))


def _fewer(trait: str) -> Inventory:
    """Targets that give a VM no huge pages, NUMA nodes or machine type."""
    vm = {
        "vm.huge_pages": replace(a_vm(1), huge_page_kib=2048),
        "vm.numa": replace(a_vm(1), numa_nodes=frozenset({3})),
        "vm.machine": replace(a_vm(1), machine="pc-q35-8.2"),
    }[trait]
    target = replace(a_host(H2), numa_nodes=frozenset({0}), machines=frozenset({"pc-q35-7.2"}))
    return an_inventory([vm], hosts=[a_host(H1), target])


def _busy_mate() -> Inventory:
    return leaving(grouped(1), replace(grouped(2), host=H2, busy_with="an outgoing migration"))


def _room_to_be_made() -> Inventory:
    """Of 8 GiB that leave h1; h2 would have room for them without its own, small VM."""
    hosts = [a_host(H1), a_host(H2, memory_mib=10_000), a_host(H3, memory_mib=4000)]
    vms = [a_vm(1, memory_mib=8000), a_vm(2, host=H2, memory_mib=2500)]
    return an_inventory(vms, hosts=hosts, clusters=[a_cluster(memory_ceiling=1.0)])


def _soft_rule_that_gives() -> Inventory:
    """Rather apart from one that runs on the only other host."""
    vms = [a_vm(1), a_vm(9, host=H2)]
    rule = Rule(
        name="apart",
        kind=RuleKind.ANTI_AFFINITY,
        vms=tuple(vm.id for vm in vms),
        is_hard=False,
    )
    return an_inventory(vms, hosts=[a_host(H1), a_host(H2)], clusters=[a_cluster(rules=(rule,))])


def _rule_against_all() -> Inventory:
    rule = Rule(name="r", kind=RuleKind.HOST_AFFINITY, vms=("vm1",), hosts=(H1,))
    return an_inventory([a_vm(1)], clusters=[a_cluster(rules=[rule])])


def _overflowing(vm: Vm | None = None) -> Inventory:
    """h2 is full, and h3 belongs to a cluster that takes who finds no place."""
    return an_inventory(
        [vm or a_vm(1)],
        hosts=[a_host(H1), a_host(H2, memory_mib=1024), a_host(H3, cluster=C2)],
        clusters=[a_cluster(overflow=[C2]), a_cluster(C2)],
    )


def _site(code: str, subject: str, message: str) -> Inventory:
    return replace(leaving(a_vm(1)), site_findings=[(code, subject, message)])


def _unencrypted(wish: MigrationTls) -> Inventory:
    """A host that has no certificates, and somebody on it."""
    host = replace(a_host(H1), migration_tls=wish, tls=TlsMeans(trouble="it has none"))
    return with_hosts(host, vms=(a_vm(1),))


_DEVICE = a_vm(1, devices=["gpu"])
_NO_PATH = a_probe(peers={H2: Reach(because="timed out")})

TROUBLES: Mapping[str, Trouble] = {
    code: Trouble(inventory=inventory)
    for code, inventory in {
        "cluster.host_away": with_hosts(a_host(H2, mode=HostMode.MAINTENANCE)),
        "cluster.host_silent": with_hosts(a_host(H2, silent_because="off")),
        "cluster.too_small": an_inventory([a_vm(1)], hosts=[a_host(H1)]),
        "cluster.no_reserve": an_inventory(
            [a_vm(1)],
            hosts=[a_host(H1), a_host(H2)],
            clusters=[a_cluster(reserve=Reserve.N_PLUS_1)],
        ),
        "cluster.rule_unknown": an_inventory(
            [a_vm(1)],
            clusters=[
                a_cluster(rules=[Rule(name="r", kind=RuleKind.AFFINITY, vms=("vm1", "gone"))])
            ],
        ),
        "vm.crosses": _overflowing(),
        "cluster.storage_repair": probed(a_probe(repairs=["md0 is rebuilding"])),
        "probe.failed": probed(a_probe(troubles=["no /proc/mdstat"])),
        "host.silent": with_hosts(a_host(H1, silent_because="off")),
        "host.mode": with_hosts(a_host(H1, mode=HostMode.MAINTENANCE)),
        "host.kept_by_person": with_hosts(replace(a_host(H1), kept_empty_by="ann, at the host")),
        "guard.missing": with_hosts(a_host(H1, has_guard=False)),
        "guard.unproven": with_hosts(replace(a_host(H1), guard_trouble="no hook is installed")),
        "host.clock": probed(a_probe(clock_offset_s=-2.5)),
        "host.no_other_way_in": with_hosts(replace(a_host(H1), has_other_way_in=False)),
        "host.bmc_silent": probed(a_probe(bmc_answers=False)),
        "host.serves_disks": _serving(),
        "host.starts_guests": probed(a_probe(starts_guests_at_boot=True)),
        "host.open_port": probed(a_probe(open_ports=["libvirtd takes anybody on port 16509"])),
        "network.unreachable": probed(_NO_PATH, a_vm(1)),
        "network.unencrypted": _unencrypted(MigrationTls.WHEN_POSSIBLE),
        "network.tls_missing": _unencrypted(MigrationTls.REQUIRED),
        "network.latency": probed(a_probe(peers={H2: Reach(latency_ms=20.0)}), a_vm(1)),
        "network.slow": probed(a_probe(link=Link(interface="eth1", speed_mbit_s=100))),
        "network.no_redundancy": probed(a_probe(link=Link(interface="eth1", is_redundant=False))),
        "storage.unproven": an_inventory([a_vm(1)], datastores=[a_datastore(locked=Proof.UNKNOWN)]),
        "vm.error": leaving(a_vm(1, power=Power.ERROR)),
        "vm.io_error": leaving(replace(a_vm(1, power=Power.ERROR), has_io_error=True)),
        "vm.suspended": leaving(a_vm(1, power=Power.SUSPENDED)),
        "vm.paused": leaving(a_vm(1, power=Power.PAUSED)),
        "vm.busy": leaving(a_vm(1, busy_with="a backup")),
        "vm.two_copies": leaving(a_vm(1), a_vm(1, host=H2)),
        "vm.arriving": leaving(a_vm(1, is_arriving=True)),
        "vm.agent": leaving(a_vm(1, policy=VmPolicy(needs_agent=True))),
        "vm.definition_elsewhere": leaving(a_vm(1), a_vm(1, host=H2, power=Power.SHUT_OFF)),
        "vm.no_backup": _site("vm.no_backup", f"vm1 ({vm_id(1)})", "VM vm1 has no backup."),
        "vm.device": leaving(_DEVICE),
        "vm.hindrance": leaving(replace(a_vm(1), hindrances=("its clock is invariant",))),
        "vm.snapshot": leaving(replace(a_vm(1), snapshots=2)),
        "vm.local_disk": leaving(a_vm(1, disks=[a_disk(datastore=None)])),
        "vm.local_media": leaving(a_vm(1, disks=[a_disk(), medium()])),
        "vm.boot_file": leaving(replace(a_vm(1), boot_files=("/root/vmlinuz",))),
        "vm.checkpoint": leaving(replace(a_vm(1), checkpoints=3)),
        "vm.cpu_pins": leaving(replace(a_vm(1), has_cpu_pins=True)),
        "vm.tpm": leaving(replace(a_vm(1), has_tpm=True)),
        "vm.nvram": leaving(replace(a_vm(1), has_nvram=True)),
        "vm.held_handover": leaving(a_vm(1, disks=[])),
        "vm.no_target": an_inventory(
            [a_vm(1)], hosts=[a_host(H1), a_host(H2, networks=[]), a_host(H3, cpu_models=[])]
        ),
        "vm.no_room": leaving(a_vm(1, memory_mib=10**6)),
        "vm.cpu": leaving(a_vm(1, cpu_model="Skylake")),
        "vm.machine": _fewer("vm.machine"),
        "vm.disk": leaving(a_vm(1, disks=[a_disk(datastore="fast")])),
        "vm.network": leaving(a_vm(1, networks=["dmz"])),
        "vm.huge_pages": _fewer("vm.huge_pages"),
        "vm.numa": _fewer("vm.numa"),
        "vm.duplicate": leaving(
            *[a_vm(n, name="db", host=h) for n, h in ((1, H1), (2, H2), (3, H3))]
        ),
        "vm.rule": _rule_against_all(),
        "vm.makes_room": _room_to_be_made(),
        "vm.rule_gave": _soft_rule_that_gives(),
        "vm.policy": leaving(replace(a_vm(1), policy_troubles=("ha cannot be 'maybe'.",))),
        "vm.leave": leaving(wishing(OnMaintenance.LEAVE)),
        "vm.ask": leaving(wishing(OnMaintenance.ASK)),
        "vm.cold": leaving(
            wishing(OnMaintenance.COLD, replace(a_vm(1), hindrances=("a transient disk",)))
        ),
        "vm.ha_shut_down": leaving(
            replace(_DEVICE, policy=VmPolicy(on_maintenance=OnMaintenance.SHUT_DOWN, ha=True))
        ),
        "vm.group": leaving(grouped(1), grouped(2)),
        "vm.group_busy": _busy_mate(),
        "vm.group_split": leaving(grouped(1), wishing(OnMaintenance.LEAVE, grouped(2))),
    }.items()
} | {
    "vm.off_stays": Trouble(
        inventory=leaving(replace(a_vm(1, power=Power.SHUT_OFF), snapshots=1)),
        options=EnterOptions(scope=Scope.ALL),
    ),
}


def options(
    *,
    shut_down: tuple[VmId, ...] = (),
    override: tuple[str, ...] = (),
    strict: tuple[str, ...] = (),
    reason: str = "",
) -> EnterOptions:
    """How h1 is asked for, in a word."""
    return EnterOptions(shut_down=shut_down, override=override, strict=strict, reason=reason)
