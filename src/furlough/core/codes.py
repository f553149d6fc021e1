"""Codes of findings about clusters, hosts, storage and networks; those about VMs are in
`vm_codes`. The two tables together are `findings.CODES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """`blocker` forbids the operation, `warning` deserves a thought, `info` is worth knowing."""

    INFO = "info"
    WARNING = "warning"
    BLOCKER = "blocker"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A code's usual severity, what it means, and what a person can do. `may_be_overridden`:
    whether an operator may accept it as a blocker, with a reason; `apply`: the remedy that
    Furlough can carry out itself, empty if there is none."""

    severity: Severity
    meaning: str
    remedy: str
    may_be_overridden: bool = True
    apply: str = ""


_BLOCKER, _WARNING, _INFO = Severity.BLOCKER, Severity.WARNING, Severity.INFO

CLUSTER_CODES: Mapping[str, Kind] = {
    "cluster.host_away": Kind(
        severity=_BLOCKER,
        meaning="As many hosts of the cluster as its policy allows are in maintenance.",
        remedy="Exit maintenance there first, or raise max_hosts_away of the cluster.",
        may_be_overridden=False,
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
        may_be_overridden=False,
    ),
    "cluster.no_reserve": Kind(
        severity=_BLOCKER,
        meaning="After the evacuation, the loss of one more host would leave VMs without room: "
        "all VMs count where the cluster's reserve is n+1, and VMs marked ha everywhere (a "
        "warning where the reserve is none).",
        remedy="Free memory in the cluster, add a host, or accept the risk for this time.",
    ),
    "cluster.rule_unknown": Kind(
        severity=Severity.WARNING,
        meaning="A rule of the cluster, or a VM's host affinity, names a VM or a host that is not "
        "there: it is held for the others alone.",
        remedy="Correct the name there, or take it out.",
    ),
    "cluster.storage_repair": Kind(
        severity=_BLOCKER,
        meaning="Storage of the cluster is being repaired: an array is rebuilding on a host, or "
        "the site's own storage probe says so.",
        remedy="Wait until the repair is over.",
    ),
    "probe.failed": Kind(
        severity=_WARNING,
        meaning="A host could not be probed in full, or a probe command of the site gave no "
        "verdict, so something stays unknown.",
        remedy="Look at what the message says; run the probe by hand on that machine.",
    ),
}

# What the precheck of an exit says about the VMs of the record.
RESTORE_CODES: Mapping[str, Kind] = {
    "restore.hindered": Kind(
        severity=_WARNING,
        meaning="A VM of the record is meant to come home and cannot at present; the others come, "
        "the exit ends as restore_incomplete, and the VM stays on record.",
        remedy="Remove what the message names; a later furlough exit HOST brings it home, also "
        "while the host is in service.",
    ),
    "restore.changed": Kind(
        severity=_INFO,
        meaning="Somebody has changed, moved, stopped or started a VM of the record since it was "
        "evacuated. It comes back as it is now, or stays where it was put.",
        remedy="Nothing has to be done. To have it elsewhere: furlough vm migrate, furlough vm "
        "start.",
    ),
}

HOST_CODES: Mapping[str, Kind] = {
    "host.silent": Kind(
        severity=_BLOCKER,
        meaning="The host does not answer, so nothing is known of its VMs.",
        remedy="Bring its management connection back, or repair the host.",
        may_be_overridden=False,
    ),
    "host.mode": Kind(
        severity=_BLOCKER,
        meaning="The host is in maintenance already, or on the way in or out.",
        remedy="Wait for the operation that has it, cancel it, or exit maintenance.",
        may_be_overridden=False,
    ),
    "host.kept_by_person": Kind(
        severity=_BLOCKER,
        meaning="A person keeps the host empty with its own command, furlough-host maintenance "
        "enter: whatever is planned there is for that person to say.",
        remedy="Ask that person, or end it at the host: furlough-host maintenance exit.",
        may_be_overridden=False,
    ),
    "guard.missing": Kind(
        severity=_BLOCKER,
        meaning="furlough-host does not answer on the host, so nothing would keep it empty and "
        "nobody could see a VM process that libvirt has lost.",
        remedy="Install furlough-host and its hook: furlough host prepare HOST.",
        may_be_overridden=False,
    ),
    "guard.unproven": Kind(
        severity=_BLOCKER,
        meaning="The host's hook is not installed, or was not seen to refuse a VM since the "
        "hypervisor's daemon started, so VMs could start there during maintenance.",
        remedy="Install and prove it: furlough host prepare HOST.",
        apply="prepare",
    ),
    "host.clock": Kind(
        severity=_WARNING,
        meaning="The host's clock differs from the controller's by more than a second: pauses "
        "are measured wrongly and logs cannot be compared.",
        remedy="Synchronise the clocks of all hosts, for instance with chrony.",
    ),
    "host.no_other_way_in": Kind(
        severity=_WARNING,
        meaning="Nothing but the network leads to the host: if it does not come back after the "
        "maintenance, somebody has to walk there.",
        remedy="Enrol its BMC, or set has_other_way_in for the host.",
    ),
    "host.bmc_silent": Kind(
        severity=_WARNING,
        meaning="The host's BMC does not answer, so the host could not be switched on from here.",
        remedy="Look at the BMC's address, cable and power before the host goes down.",
    ),
    "host.serves_disks": Kind(
        severity=_BLOCKER,
        meaning="VMs that will run elsewhere read their disks from this host; they would stop "
        "when it goes down.",
        remedy="Move these disks to another server, or shut these VMs down first.",
    ),
    "host.starts_guests": Kind(
        severity=_WARNING,
        meaning="The libvirt-guests service of the host would save VMs at shutdown or start them "
        "at boot by itself.",
        remedy="Set ON_BOOT=ignore and ON_SHUTDOWN=shutdown for libvirt-guests, or disable it.",
    ),
    "host.open_port": Kind(
        severity=_WARNING,
        meaning="A daemon of the host lets in anybody who reaches its port.",
        remedy="Switch on TLS with client certificates for it, or close the port.",
    ),
    "network.unreachable": Kind(
        severity=_WARNING,
        meaning="Source and target do not reach each other on the migration network, so the "
        "target is not used.",
        remedy="Open the migration ports between the two hosts, both ways; look at routes, "
        "firewalls and migration_address.",
    ),
    "network.unencrypted": Kind(
        severity=_WARNING,
        meaning="Between source and target the memory of VMs passes in clear, or, where encryption "
        "is required, that target is not used.",
        remedy="Place certificates for migrations on both hosts, or set migration_tls=off where "
        "nobody can listen; see docs/how-to/encrypt-migrations.md.",
    ),
    "network.tls_missing": Kind(
        severity=_BLOCKER,
        meaning="Migrations have to be encrypted (migration_tls = required), and between the host "
        "and its targets they cannot be.",
        remedy="Place certificates for migrations on the hosts that the message names; see "
        "docs/how-to/encrypt-migrations.md.",
        may_be_overridden=False,
    ),
    "network.slow": Kind(
        severity=_WARNING,
        meaning="The host's migration link is slower than it was enrolled with, so estimates are "
        "too short.",
        remedy="Look at cable, switch port and negotiation, or correct link_mbit_s.",
    ),
    "network.latency": Kind(
        severity=_WARNING,
        meaning="Opening a connection between source and target takes long for a migration "
        "network: pauses grow.",
        remedy="Look for a detour, or for load on the way between the two hosts.",
    ),
    "network.no_redundancy": Kind(
        severity=_INFO,
        meaning="One cable carries the host's migrations: if it breaks, they fail.",
        remedy="Bond two interfaces, or live with it: a failed migration leaves the VM running.",
    ),
    "storage.unproven": Kind(
        severity=_INFO,
        meaning="It is not proven of a datastore that all its hosts see the same files (then it "
        "is a warning), or that a lock held on one host stops the others.",
        remedy="See: furlough cluster show. The proof is made by itself once all hosts that list "
        "the datastore answer; else declare it with a reason.",
    ),
}
