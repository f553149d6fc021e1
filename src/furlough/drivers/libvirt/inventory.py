"""What a host and its VMs are, asked of libvirt. Functions of a connection; they run in threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import libvirt
from lxml.etree import _Element as Element

from furlough import hardened_xml
from furlough.core.enrolment import EnrolledDatastore
from furlough.core.ids import HostName, parse_vm_id
from furlough.core.inventory import Vm
from furlough.core.looks import Job, Why
from furlough.drivers.libvirt import errors, states
from furlough.drivers.libvirt.domain_xml import Definition, parse_definition
from furlough.errors import Invalid

_MIB_OF_KIB = 1024
# Older emulators abort while they hand over the disks of a VM that arrived paused and has not run
# since (bdrv_inactivate_recurse; seen with 7.2): the VM would be lost as a process.
_MOVES_WHAT_NEVER_RAN = 10_000_000
_NEVER_RUN = (
    "it was brought here paused and has not run since, and QEMU before 10.0 crashes when such a "
    "VM is moved again (resume it for a moment, then pause it)"
)
# What furlough-host calls the VMs with which it tries the hook, and gives them.
_TRIAL_VM, _TRIAL_MIB = "furlough-probe-", 16


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A host by its libvirt: identity, size, what it can give. `emulator_version`: major *
    1,000,000 + minor * 1,000 + release; `free_huge_pages`: how many, by their size in KiB."""

    uuid: str
    cpus: int
    memory_mib: int
    cpu_models: frozenset[str]
    networks: frozenset[str]
    machines: frozenset[str] = frozenset()
    emulator_version: int = 0
    free_huge_pages: Mapping[int, int] = field(default_factory=dict)
    numa_nodes: frozenset[int] = frozenset()


def read_cpu_models(connection: libvirt.virConnect) -> frozenset[str]:
    """The CPU models that VMs can be given here. Slow: libvirt may have to ask its emulators."""
    found: set[str] = set()
    for kind in ("kvm", "qemu"):
        try:
            text = connection.getDomainCapabilities(None, None, None, kind)
        except libvirt.libvirtError as error:
            if errors.is_lost(error):
                raise
            continue  # No such kind of virtualization here.
        root = hardened_xml.parse(text, what="domain capabilities")
        models = root.iterfind("cpu/mode[@name='custom']/model[@usable='yes']")
        found.update(model.text for model in models if model.text)
    return frozenset(found)


def read_machine(connection: libvirt.virConnect, cpu_models: frozenset[str]) -> Machine:
    """Identity and size of the host, what its emulators offer, and its libvirt networks that are
    up."""
    capabilities = hardened_xml.parse(connection.getCapabilities(), what="capabilities")
    _model, memory_mib, cpus, *_rest = connection.getInfo()
    networks = connection.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
    nodes = frozenset(int(cell.get("id", "0")) for cell in _cells(capabilities))
    return Machine(
        uuid=capabilities.findtext("host/uuid", ""),
        cpus=cpus,
        memory_mib=memory_mib,
        cpu_models=cpu_models,
        networks=frozenset(network.name() for network in networks),
        machines=machines_of(capabilities),
        emulator_version=read_emulator_version(connection),
        free_huge_pages=_free_huge_pages(connection, capabilities, nodes),
        numa_nodes=nodes,
    )


def _cells(capabilities: Element) -> Iterable[Element]:
    return capabilities.iterfind("host/topology/cells/cell")


def machines_of(capabilities: Element) -> frozenset[str]:
    """The machine types that the host's emulators know, and the short names that stand for one."""
    found = capabilities.iterfind("guest/arch//machine")
    return frozenset(machine.text for machine in found if machine.text)


def read_emulator_version(connection: libvirt.virConnect) -> int:
    """Of the emulator for VMs of the host's own kind; 0 where there is none."""
    try:
        return int(connection.getVersion())
    except libvirt.libvirtError as error:
        if errors.is_lost(error):
            raise
        return 0


def _free_huge_pages(
    connection: libvirt.virConnect, capabilities: Element, nodes: frozenset[int]
) -> dict[int, int]:
    """How many are free on all nodes, by size in KiB; the smallest size is no huge one."""
    found = capabilities.iterfind("host/cpu/pages")
    sizes = sorted({int(page.get("size", "0")) for page in found})[1:]
    if not sizes or not nodes:
        return {}
    try:
        told = connection.getFreePages(sizes, min(nodes), len(nodes), 0)
    except libvirt.libvirtError as error:
        if errors.is_lost(error):
            raise
        return {}  # Not every hypervisor and not every container can say.
    return {size: sum(cell.get(size, 0) for cell in told.values()) for size in sizes}


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """What the statistics of running VMs tell, by UUID: the memory of the process, which is what a
    migration will have to send, at most; and those of which no vCPU has run in it yet."""

    memory_used_mib: Mapping[str, int]
    never_run: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """What libvirt tells of all VMs at once, each as the UUIDs of those it is true of: five calls
    per host instead of five per VM."""

    persistent: frozenset[str]
    autostarted: frozenset[str]
    saved: frozenset[str]
    snapshotted: frozenset[str]
    checkpointed: frozenset[str]
    figures: _Figures
    crashes_if_never_run: bool


def _read_listing(connection: libvirt.virConnect) -> _Listing:
    def those(flag: int) -> frozenset[str]:
        return frozenset(domain.UUIDString() for domain in connection.listAllDomains(flag))

    return _Listing(
        persistent=those(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT),
        autostarted=those(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART),
        saved=those(libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE),
        snapshotted=those(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT),
        checkpointed=those(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT),
        figures=_read_figures(connection),
        crashes_if_never_run=0 < read_emulator_version(connection) < _MOVES_WHAT_NEVER_RAN,
    )


def read_vms(
    connection: libvirt.virConnect, host: HostName, datastores: Iterable[EnrolledDatastore]
) -> tuple[Vm, ...]:
    """Every VM that the host lists, powered off ones included. Those with which furlough-host is
    just trying the hook are nobody's: planning them away would be in vain."""
    return tuple(vm for vm in _read_all(connection, host, datastores) if not _is_trial(vm))


def _is_trial(vm: Vm) -> bool:
    """A name alone hides no VM: one that somebody keeps has a definition, or a disk."""
    is_bare = not (vm.is_persistent or vm.disks) and vm.memory_mib == _TRIAL_MIB
    return is_bare and vm.name.startswith(_TRIAL_VM)


def _read_all(
    connection: libvirt.virConnect, host: HostName, datastores: Iterable[EnrolledDatastore]
) -> tuple[Vm, ...]:
    stores = list(datastores)
    # The VMs first: one that is defined a moment later must not be taken for one without.
    domains = connection.listAllDomains(0)
    listing = _read_listing(connection)
    found = []
    for domain in domains:
        try:
            found.append(_read_vm(domain, host, stores, listing))
        except libvirt.libvirtError as error:
            if not errors.is_absent(error):
                raise
            # It went away while we were asking.
    return tuple(found)


def _read_vm(
    domain: libvirt.virDomain,
    host: HostName,
    stores: list[EnrolledDatastore],
    listing: _Listing,
) -> Vm:
    uuid = domain.UUIDString()
    definition = _read_definition(domain, stores)
    state, reason = domain.state()
    is_active = state != libvirt.VIR_DOMAIN_SHUTOFF
    job, busy_with = read_job(domain) if is_active else (Job.NONE, "")
    is_persistent = uuid in listing.persistent
    traits = vars(definition) | {"busy_with": busy_with or definition.busy_with}
    is_paused = state == libvirt.VIR_DOMAIN_PAUSED and job is Job.NONE
    if is_paused and listing.crashes_if_never_run and uuid in listing.figures.never_run:
        traits["hindrances"] = (*definition.hindrances, _NEVER_RUN)
    return Vm(
        **traits,
        host=host,
        power=states.power_of(state, reason),
        memory_used_mib=listing.figures.memory_used_mib.get(uuid),
        is_persistent=is_persistent,
        has_autostart=is_persistent and uuid in listing.autostarted,
        is_arriving=job is Job.INCOMING,
        has_io_error=is_active and states.why_of(state, reason) is Why.IO_ERROR,
        snapshots=domain.snapshotNum() if uuid in listing.snapshotted else 0,
        checkpoints=len(domain.listAllCheckpoints()) if uuid in listing.checkpointed else 0,
        has_managed_save=uuid in listing.saved,
    )


def _read_definition(domain: libvirt.virDomain, stores: list[EnrolledDatastore]) -> Definition:
    """What its XML says. One that we cannot read hides no other VM: it is there, and stays."""
    text = domain.XMLDesc(0)
    try:
        return parse_definition(text, stores)
    except Invalid as error:
        return Definition(
            id=parse_vm_id(domain.UUIDString()),
            name=domain.name(),
            vcpus=1,
            memory_mib=domain.maxMemory() // _MIB_OF_KIB,
            hindrances=(f"a definition that cannot be read ({error.message.rstrip('.')})",),
        )


def _read_figures(connection: libvirt.virConnect) -> _Figures:
    """Left out where they would have to be waited for: a VM on its way in answers no question for
    minutes."""
    flags = (
        libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
        | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    )
    try:
        told = connection.getAllDomainStats(
            libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_VCPU, flags
        )
    except libvirt.libvirtError as error:
        if errors.is_lost(error):
            raise
        return _Figures(memory_used_mib={}, never_run=frozenset())
    by_vm = {domain.UUIDString(): stats for domain, stats in told}
    return _Figures(
        memory_used_mib={
            vm: stats["balloon.rss"] // _MIB_OF_KIB
            for vm, stats in by_vm.items()
            if "balloon.rss" in stats
        },
        never_run=frozenset(vm for vm, stats in by_vm.items() if has_never_run(stats)),
    )


def has_never_run(stats: Mapping[str, object]) -> bool:
    """Whether no vCPU has used any time in this process: the VM arrived paused and stayed so."""
    times = [
        told for name, told in stats.items() if name.startswith("vcpu.") and name.endswith(".time")
    ]
    return bool(times) and not any(times)


def read_job(domain: libvirt.virDomain) -> tuple[Job, str]:
    """The job that runs on a VM, and its name for people; none if it is off."""
    try:
        stats = domain.jobStats()
    except libvirt.libvirtError as error:
        if errors.is_lost(error):
            raise
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            # Of an incoming migration only the source has figures; that there is one we hear so.
            return Job.INCOMING, "an incoming migration"
        return Job.NONE, ""
    return states.job_of(stats), states.job_words(stats)


def read_active(
    connection: libvirt.virConnect, host: HostName, datastores: Iterable[EnrolledDatastore]
) -> tuple[tuple[Vm, ...], tuple[str, ...]]:
    """The VMs with a process by libvirt's own list, those of trials included: whoever calls a host
    empty leaves nobody out. And starts and restores under way."""
    vms = _read_all(connection, host, datastores)
    under_way = []
    for domain in connection.listAllDomains(0):
        job, words = read_job(domain)
        if words and job is not Job.OUTGOING:
            under_way.append(f"{words} of VM {domain.name()}")
    return tuple(vm for vm in vms if vm.is_active), tuple(under_way)
