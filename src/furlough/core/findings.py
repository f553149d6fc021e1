"""Findings: what a precheck has to say, and the table of every code it may say it with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """`blocker` forbids the operation, `warning` deserves a thought, `info` is worth knowing."""

    INFO = "info"
    WARNING = "warning"
    BLOCKER = "blocker"


class Verdict(StrEnum):
    """What the findings of one host come to."""

    OK = "ok"
    WARNINGS = "warnings"
    BLOCKED = "blocked"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result of a precheck. `subject` is the host or the VM's name and UUID."""

    code: str
    severity: Severity
    subject: str
    message: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A code's usual severity, what it means, and what a person can do."""

    severity: Severity
    meaning: str
    remedy: str


_BLOCKER, _WARNING, _INFO = Severity.BLOCKER, Severity.WARNING, Severity.INFO

CODES: Mapping[str, Kind] = {
    "host.silent": Kind(
        severity=_BLOCKER,
        meaning="The host does not answer, so nothing is known of its VMs.",
        remedy="Bring its management connection back, or repair the host.",
    ),
    "host.mode": Kind(
        severity=_BLOCKER,
        meaning="The host is in maintenance already, or on the way in or out.",
        remedy="Wait for the operation that has it, cancel it, or exit maintenance.",
    ),
    "guard.missing": Kind(
        severity=_BLOCKER,
        meaning="furlough-host does not answer on the host, so nothing would keep it empty and "
        "nobody could see a VM process that libvirt has lost.",
        remedy="Install furlough-host and its hook on the host, and enrol how it is reached.",
    ),
    "cluster.host_away": Kind(
        severity=_BLOCKER,
        meaning="As many hosts of the cluster as its policy allows are in maintenance.",
        remedy="Exit maintenance there first, or raise max_hosts_away of the cluster.",
    ),
    "cluster.host_silent": Kind(
        severity=_BLOCKER,
        meaning="Another host of the cluster does not answer: its VMs are unknown.",
        remedy="Repair that host, or remove it from the cluster.",
    ),
    "cluster.too_small": Kind(
        severity=_BLOCKER,
        meaning="The cluster has no other host that could take VMs.",
        remedy="Uncordon or add a host, or name other targets.",
    ),
    "vm.no_target": Kind(
        severity=_BLOCKER,
        meaning="No host can take this VM; the message says why for each.",
        remedy="Remove the cause on one of the hosts named, or shut the VM down.",
    ),
    "vm.no_room": Kind(
        severity=_BLOCKER,
        meaning="Hosts that fit have not enough room left once the others are placed.",
        remedy="Free memory on one of the hosts named, or shut down a VM that may be off.",
    ),
    "vm.cpu": Kind(
        severity=_BLOCKER,
        meaning="The VM needs a CPU that no target gives; host-passthrough needs an equal one.",
        remedy="Give the VM a CPU model that all hosts offer, or add a host of the same kind.",
    ),
    "vm.disk": Kind(
        severity=_BLOCKER,
        meaning="A disk of the VM cannot be reached on any target.",
        remedy="Move the disk to a datastore that the targets list, or enrol its datastore.",
    ),
    "vm.network": Kind(
        severity=_BLOCKER,
        meaning="A network the VM is attached to exists on no target.",
        remedy="Create the network on a target, or attach the VM to one that is there.",
    ),
    "vm.duplicate": Kind(
        severity=_BLOCKER,
        meaning="Every target already has a VM of this name or UUID.",
        remedy="Rename or undefine the other VM, after looking which one is the right one.",
    ),
    "vm.device": Kind(
        severity=_BLOCKER,
        meaning="A device of the host is passed through to the VM, which ties it to the host.",
        remedy="Detach the device, or shut the VM down for the maintenance.",
    ),
    "vm.error": Kind(
        severity=_BLOCKER,
        meaning="The VM is in error: crashed, or stopped by an I/O error.",
        remedy="Look at its log and its storage; repair it or power it off.",
    ),
    "vm.suspended": Kind(
        severity=_BLOCKER,
        meaning="The guest has put itself to sleep; a VM that sleeps cannot move live.",
        remedy="Wake it, or shut it down.",
    ),
    "vm.busy": Kind(
        severity=_BLOCKER,
        meaning="A job runs on the VM: a backup, a block copy or somebody's migration.",
        remedy="Wait until the job is over, or stop it.",
    ),
    "vm.two_copies": Kind(
        severity=_BLOCKER,
        meaning="Two hosts list this VM as active. Its disks are in danger.",
        remedy="Find out which copy is the right one and stop the other by hand, now.",
    ),
    "vm.arriving": Kind(
        severity=_WARNING,
        meaning="Somebody's migration is bringing this VM to the host at this moment.",
        remedy="Nothing to do: it is sent on once it is there, and maintenance waits for it. Or "
        "abort that migration.",
    ),
    "vm.paused": Kind(
        severity=_INFO,
        meaning="The VM is paused; it moves and stays paused.",
        remedy="Nothing to do.",
    ),
    "vm.held_handover": Kind(
        severity=_INFO,
        meaning="No storage lock is proven for the VM's disks: it waits paused on the target "
        "until its copy on the source is seen gone. Downtime grows by one round trip.",
        remedy="Prove the lock of its datastore to shorten the pause.",
    ),
}


def finding(code: str, subject: str, message: str) -> Finding:
    """A finding of a known code, with the severity and the remedy of the table."""
    kind = CODES[code]
    return Finding(
        code=code, severity=kind.severity, subject=subject, message=message, remedy=kind.remedy
    )


def verdict(findings: Iterable[Finding]) -> Verdict:
    """What these findings come to: the worst of them decides."""
    severities = {one.severity for one in findings}
    if Severity.BLOCKER in severities:
        return Verdict.BLOCKED
    return Verdict.WARNINGS if Severity.WARNING in severities else Verdict.OK
