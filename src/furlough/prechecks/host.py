"""Prechecks of the host itself, and of the network between it and the targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from furlough.core.encryption import Wire
from furlough.core.findings import Finding, finding
from furlough.core.ids import HostName
from furlough.core.inventory import Host, Vm
from furlough.core.plan import Method
from furlough.planning.compatibility import unreachable
from furlough.planning.wires import wire_of
from furlough.prechecks.cases import Case, because, subject_of

MOST_CLOCK_OFFSET_S = 1.0
MOST_LATENCY_MS = 5.0
_VMS_NAMED = 5
_RUNS_ELSEWHERE = (Method.LIVE, Method.COLD)


def _check_host_answers(case: Case) -> Iterator[Finding]:
    if not case.host.is_connected:
        yield finding(
            "host.silent",
            case.host.name,
            f"Host {case.host.name} does not answer{because(case.host)}.",
        )


def _check_guard_program(case: Case) -> Iterator[Finding]:
    if case.host.is_connected and not case.host.has_guard:
        yield finding(
            "guard.missing",
            case.host.name,
            f"furlough-host does not answer on {case.host.name}, so nothing would keep it empty.",
        )


def _check_guard_proven(case: Case) -> Iterator[Finding]:
    host = case.host
    if host.is_connected and host.has_guard and host.guard_trouble:
        yield finding(
            "guard.unproven",
            host.name,
            f"The guard of {host.name} cannot be relied on: {host.guard_trouble.rstrip('.')}.",
        )


def _check_host_mode(case: Case) -> Iterator[Finding]:
    if case.host.is_away:
        owner = f" (operation {case.host.operation})" if case.host.operation else ""
        yield finding(
            "host.mode",
            case.host.name,
            f"Host {case.host.name} is {case.host.mode.value} already{owner}.",
        )


def _check_kept(case: Case) -> Iterator[Finding]:
    host = case.host
    if host.kept_empty_by:
        yield finding(
            "host.kept_by_person",
            host.name,
            f"Host {host.name} is kept empty by {host.kept_empty_by}.",
        )


def _check_serves_disks(case: Case) -> Iterator[Finding]:
    """Whoever runs elsewhere afterwards, movers included, and reads a disk from here."""
    served = [vm for vm in _running_afterwards(case) if _is_served(vm, case.host)]
    if served:
        names = ", ".join(f"{subject_of(vm)} on {vm.host}" for vm in served[:_VMS_NAMED])
        more = f" and {len(served) - _VMS_NAMED} more" if len(served) > _VMS_NAMED else ""
        yield finding(
            "host.serves_disks",
            case.host.name,
            f"{case.host.name} serves disks of {names}{more}.",
        )


def _running_afterwards(case: Case) -> Iterator[Vm]:
    for vm in case.inventory.vms:
        if vm.host != case.host.name:
            if vm.is_active:
                yield vm
        elif vm.is_active and not vm.is_arriving and case.method_of(vm) in _RUNS_ELSEWHERE:
            yield vm


def _is_served(vm: Vm, host: Host) -> bool:
    return any(disk.address in host.addresses for disk in vm.disks if disk.address)


def _check_clocks(case: Case) -> Iterator[Finding]:
    for host in case.usable_hosts:
        offset_s = host.probe.clock_offset_s if host.probe else None
        if offset_s is not None and abs(offset_s) > MOST_CLOCK_OFFSET_S:
            where = "ahead" if offset_s > 0 else "behind"
            yield finding(
                "host.clock",
                host.name,
                f"The clock of {host.name} is {abs(offset_s):.1f} s {where}.",
            )


def _check_way_in(case: Case) -> Iterator[Finding]:
    host = case.host
    if not host.has_other_way_in:
        yield finding(
            "host.no_other_way_in", host.name, f"Nothing but the network leads to {host.name}."
        )
    elif host.probe is not None and host.probe.bmc_answers is False:
        yield finding("host.bmc_silent", host.name, f"The BMC of {host.name} does not answer.")


def _check_boot(case: Case) -> Iterator[Finding]:
    if case.host.probe is not None and case.host.probe.starts_guests_at_boot:
        yield finding(
            "host.starts_guests",
            case.host.name,
            f"libvirt-guests on {case.host.name} would save or start VMs by itself.",
        )


def _check_open_ports(case: Case) -> Iterator[Finding]:
    for port in case.host.probe.open_ports if case.host.probe else ():
        yield finding("host.open_port", case.host.name, f"On {case.host.name}: {port}.")


def _check_probes(case: Case) -> Iterator[Finding]:
    for host in case.usable_hosts:
        for trouble in host.probe.troubles if host.probe else ():
            yield finding(
                "probe.failed",
                host.name,
                f"{host.name} could not be probed in full: {trouble.rstrip('.')}.",
            )


def _check_paths(case: Case) -> Iterator[Finding]:
    """The migration network between the host and each target, both ways."""
    if not case.live_or_stuck:
        return
    for target in case.targets:
        words = unreachable(case.host, target, case.inventory)
        if words and target.is_connected:
            yield finding("network.unreachable", target.name, f"{words.rstrip('.')}.")
            continue
        latency_ms = _latency_ms(case.host, target)
        if latency_ms > MOST_LATENCY_MS:
            yield finding(
                "network.latency",
                target.name,
                f"Between {case.host.name} and {target.name} a connection takes "
                f"{latency_ms:.1f} ms.",
            )


def _check_encryption(case: Case) -> Iterator[Finding]:
    """Whether memory would pass in clear, or could not pass at all for that; once for the host
    where that is so with every target, else per target."""
    targets = [one for one in case.targets if one.is_connected and case.host.is_connected]
    if not (targets and case.live_or_stuck):
        return
    wires = {target.name: wire_of(case.host, target) for target in targets}
    in_clear = {name: wire for name, wire in wires.items() if wire.because}
    if not any(wire.is_allowed for wire in wires.values()):
        yield finding(
            "network.tls_missing",
            case.host.name,
            f"Memory of {case.host.name} may not pass in clear, and passes encrypted to no target: "
            f"{_reasons(in_clear)}.",
        )
    elif len(in_clear) == len(wires):
        yield finding(
            "network.unencrypted",
            case.host.name,
            f"Memory of VMs leaves {case.host.name} in clear: {_reasons(in_clear)}.",
        )
    else:
        for name, wire in in_clear.items():
            what = "passes in clear" if wire.is_allowed else "may not pass in clear"
            yield finding(
                "network.unencrypted",
                name,
                f"From {case.host.name} to {name} memory {what}: {wire.because}.",
            )


def _reasons(wires: Mapping[HostName, Wire]) -> str:
    """Each reason once, however many targets have it."""
    return "; ".join(dict.fromkeys(wire.because for wire in wires.values()))


def _latency_ms(one: Host, other: Host) -> float:
    """The slower of both directions, in milliseconds; 0 where nobody measured."""
    found = [
        reach.latency_ms
        for source, target in ((one, other), (other, one))
        if source.probe is not None
        and (reach := source.probe.peers.get(target.name)) is not None
        and reach.latency_ms is not None
    ]
    return max(found, default=0.0)


def _check_links(case: Case) -> Iterator[Finding]:
    for host in case.usable_hosts:
        link = host.probe.link if host.probe else None
        if link is None:
            continue
        if link.speed_mbit_s is not None and link.speed_mbit_s < host.link_mbit_s:
            yield finding(
                "network.slow",
                host.name,
                f"{link.interface} of {host.name} runs at {link.speed_mbit_s} Mbit/s; it was "
                f"enrolled with {host.link_mbit_s}.",
            )
        if link.is_redundant is False and host.name == case.host.name:
            yield finding(
                "network.no_redundancy",
                host.name,
                f"{link.interface} of {host.name} has nothing that stands in for it.",
            )


HOST_PRECHECKS: tuple[Callable[[Case], Iterable[Finding]], ...] = (
    _check_host_answers,
    _check_guard_program,
    _check_guard_proven,
    _check_host_mode,
    _check_kept,
    _check_serves_disks,
    _check_clocks,
    _check_way_in,
    _check_boot,
    _check_open_ports,
    _check_probes,
    _check_paths,
    _check_encryption,
    _check_links,
)
