"""What a host and its VMs are, asked of libvirt. Functions of a connection; they run in threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import libvirt

from furlough import hardened_xml
from furlough.core.enrolment import EnrolledDatastore
from furlough.core.ids import HostName
from furlough.core.inventory import Vm
from furlough.core.looks import Job
from furlough.drivers.libvirt import errors, states
from furlough.drivers.libvirt.domain_xml import parse_definition

_MIB_OF_KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A host by its libvirt: identity, size, what it can give."""

    uuid: str
    cpus: int
    memory_mib: int
    cpu_models: frozenset[str]
    networks: frozenset[str]


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
    """Identity and size of the host, and its libvirt networks that are up."""
    capabilities = hardened_xml.parse(connection.getCapabilities(), what="capabilities")
    _model, memory_mib, cpus, *_rest = connection.getInfo()
    networks = connection.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
    return Machine(
        uuid=capabilities.findtext("host/uuid", ""),
        cpus=cpus,
        memory_mib=memory_mib,
        cpu_models=cpu_models,
        networks=frozenset(network.name() for network in networks),
    )


def read_vms(
    connection: libvirt.virConnect, host: HostName, datastores: Iterable[EnrolledDatastore]
) -> tuple[Vm, ...]:
    """Every VM that the host lists, powered off ones included."""
    stores = list(datastores)
    memory_used_mib = _memory_used_mib(connection)
    found = []
    for domain in connection.listAllDomains(0):
        try:
            found.append(_read_vm(domain, host, stores, memory_used_mib))
        except libvirt.libvirtError as error:
            if not errors.is_absent(error):
                raise
            # It went away while we were asking.
    return tuple(found)


def _read_vm(
    domain: libvirt.virDomain,
    host: HostName,
    stores: list[EnrolledDatastore],
    memory_used_mib: Mapping[str, int],
) -> Vm:
    definition = parse_definition(domain.XMLDesc(0), stores)
    state, reason = domain.state()
    is_active = bool(domain.isActive())
    job, busy_with = read_job(domain) if is_active else (Job.NONE, "")
    return Vm(
        id=definition.id,
        name=definition.name,
        host=host,
        power=states.power_of(state, reason),
        vcpus=definition.vcpus,
        memory_mib=definition.memory_mib,
        memory_used_mib=memory_used_mib.get(definition.id),
        cpu_model=definition.cpu_model,
        disks=definition.disks,
        nics=definition.nics,
        devices=definition.devices,
        is_persistent=bool(domain.isPersistent()),
        has_autostart=bool(domain.autostart()) if domain.isPersistent() else False,
        busy_with=busy_with,
        is_arriving=job is Job.INCOMING,
    )


def _memory_used_mib(connection: libvirt.virConnect) -> dict[str, int]:
    """By VM, the memory of its process: what a migration will have to send, at most. Left out
    where it would have to be waited for: a VM on its way in answers no question for minutes."""
    flags = (
        libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
        | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    )
    try:
        told = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_BALLOON, flags)
    except libvirt.libvirtError as error:
        if errors.is_lost(error):
            raise
        return {}
    return {
        domain.UUIDString(): stats["balloon.rss"] // _MIB_OF_KIB
        for domain, stats in told
        if "balloon.rss" in stats
    }


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
    """The VMs with a process by libvirt's own list, and starts and restores under way."""
    vms = read_vms(connection, host, datastores)
    under_way = []
    for domain in connection.listAllDomains(0):
        job, words = read_job(domain)
        if words and job is not Job.OUTGOING:
            under_way.append(f"{words} of VM {domain.name()}")
    return tuple(vm for vm in vms if vm.is_active), tuple(under_way)
