"""Codes of findings about VMs; those about clusters and hosts are in `codes`."""

from __future__ import annotations

from collections.abc import Mapping

from furlough.core.codes import Kind, Severity

_BLOCKER, _WARNING, _INFO = Severity.BLOCKER, Severity.WARNING, Severity.INFO
_OR_SHUT_DOWN = "or let it be shut down: on_maintenance=shut_down, or name it in the request."

# What the VM is doing now.
STATE_CODES: Mapping[str, Kind] = {
    "vm.error": Kind(
        severity=_BLOCKER,
        meaning="The VM is in error: it has crashed.",
        remedy="Look at its log; repair it or power it off.",
        may_be_overridden=False,
    ),
    "vm.io_error": Kind(
        severity=_BLOCKER,
        meaning="An I/O error has stopped the VM.",
        remedy="Repair its storage and resume it, or power it off.",
        may_be_overridden=False,
    ),
    "vm.suspended": Kind(
        severity=_BLOCKER,
        meaning="The guest has put itself to sleep; a VM that sleeps cannot move live.",
        remedy="Wake it, or power it off.",
        may_be_overridden=False,
    ),
    "vm.paused": Kind(
        severity=_INFO,
        meaning="The VM is paused; it moves and stays paused.",
        remedy="Nothing to do.",
    ),
    "vm.busy": Kind(
        severity=_BLOCKER,
        meaning="A job runs on the VM: a start, a save, a backup, a block copy or somebody's "
        "migration.",
        remedy="Wait until the job is over, or stop it.",
        may_be_overridden=False,
    ),
    "vm.two_copies": Kind(
        severity=_BLOCKER,
        meaning="Two hosts list this VM as active. Its disks are in danger.",
        remedy="Find out which copy is the right one and stop the other by hand, now.",
        may_be_overridden=False,
    ),
    "vm.arriving": Kind(
        severity=_WARNING,
        meaning="Somebody's migration is bringing this VM to the host at this moment.",
        remedy="Nothing to do: it is sent on once it is there, and maintenance waits for it. Or "
        "abort that migration.",
    ),
    "vm.agent": Kind(
        severity=_BLOCKER,
        meaning="The VM's policy (or the request) wants its guest agent connected before it "
        "moves, and it is not.",
        remedy="Start the guest agent in the guest, or set needs_agent=false for the VM.",
    ),
    "vm.definition_elsewhere": Kind(
        severity=_WARNING,
        meaning="Another host holds a definition with this VM's UUID, shut off. A migration would "
        "replace it without asking, so that host is not used.",
        remedy="Compare the two; if it is a left-over, undefine it there.",
    ),
    "vm.no_backup": Kind(
        severity=_WARNING,
        meaning="The site's backup probe says that the VM has no recent backup.",
        remedy="Make one first.",
    ),
}

# What ties the VM to its host.
TIE_CODES: Mapping[str, Kind] = {
    "vm.device": Kind(
        severity=_BLOCKER,
        meaning="A device of the host is passed through to the VM, which ties it to the host.",
        remedy=f"Detach the device, {_OR_SHUT_DOWN}",
        may_be_overridden=False,
    ),
    "vm.hindrance": Kind(
        severity=_BLOCKER,
        meaning="The VM has a trait that the hypervisor refuses to migrate live.",
        remedy=f"Remove the trait that the message names, {_OR_SHUT_DOWN}",
        may_be_overridden=False,
    ),
    "vm.snapshot": Kind(
        severity=_BLOCKER,
        meaning="The VM has snapshots, and libvirt migrates no VM that has any.",
        remedy=f"Delete the snapshots (their metadata is enough), {_OR_SHUT_DOWN}",
        may_be_overridden=False,
    ),
    "vm.local_disk": Kind(
        severity=_BLOCKER,
        meaning="A disk of the VM lies on no enrolled datastore, so only its host has it.",
        remedy=f"Move the disk to a datastore, or enrol the one it is on, {_OR_SHUT_DOWN}",
        may_be_overridden=False,
    ),
    "vm.local_media": Kind(
        severity=_BLOCKER,
        meaning="A CD-ROM or floppy of the VM holds an image that only its host has.",
        remedy="Eject it (furlough check HOST --apply vm.local_media does, and puts it back at "
        "exit), or move the image to a datastore.",
        may_be_overridden=False,
        apply="eject",
    ),
    "vm.boot_file": Kind(
        severity=_WARNING,
        meaning="The VM's kernel, initial ramdisk or firmware lies neither on a datastore nor "
        "where the distribution keeps firmware: its target may lack it.",
        remedy="Move the file to a datastore, or copy it to the same place on every host.",
    ),
    "vm.checkpoint": Kind(
        severity=_WARNING,
        meaning="The VM has checkpoints; a migration drops them, and the next backup is a full "
        "one.",
        remedy="Plan for a full backup, or redefine the checkpoints after the migration.",
    ),
    "vm.cpu_pins": Kind(
        severity=_WARNING,
        meaning="The VM's CPUs are pinned to processors of its host; the target has to have "
        "processors of these numbers, and they may be used by others.",
        remedy="Compare the processors of the hosts, or remove the pins.",
    ),
    "vm.tpm": Kind(
        severity=_INFO,
        meaning="The VM has a TPM; its state travels with a live migration.",
        remedy="Nothing to do.",
    ),
    "vm.nvram": Kind(
        severity=_INFO,
        meaning="The VM has UEFI variables; they travel with a live migration.",
        remedy="Nothing to do.",
    ),
    "vm.held_handover": Kind(
        severity=_INFO,
        meaning="No storage lock is proven for the VM's disks: it waits paused on the target "
        "until its copy on the source is seen gone. Downtime grows by one round trip.",
        remedy="Prove the lock of its datastore to shorten the pause.",
    ),
}

# Where it could go: used when all hosts share the cause.
TARGET_CODES: Mapping[str, Kind] = {
    "vm.crosses": Kind(
        severity=_INFO,
        meaning="No host of its own cluster takes the VM, and the cluster's policy lets it move to "
        "another one. It comes home at the exit.",
        remedy="Nothing to do; to forbid it, ask for --within-cluster or change the cluster's "
        "overflow_clusters.",
    ),
    "vm.no_target": Kind(
        severity=_BLOCKER,
        meaning="No host can take this VM; the message says why for each.",
        remedy=f"Remove the cause on one of the hosts named, {_OR_SHUT_DOWN}",
        may_be_overridden=False,
    ),
    "vm.no_room": Kind(
        severity=_BLOCKER,
        meaning="Hosts that fit have not enough room left once the others are placed.",
        remedy=f"Free memory on one of the hosts named, {_OR_SHUT_DOWN}",
        may_be_overridden=False,
    ),
    "vm.cpu": Kind(
        severity=_BLOCKER,
        meaning="The VM needs a CPU that no target gives; host-passthrough needs an equal one.",
        remedy="Give the VM a CPU model that all hosts offer, add a host of the same kind, "
        + _OR_SHUT_DOWN,
        may_be_overridden=False,
    ),
    "vm.machine": Kind(
        severity=_BLOCKER,
        meaning="No target knows the VM's machine type, or the emulators there are older.",
        remedy=f"Upgrade the emulator of a target to that of the source, {_OR_SHUT_DOWN}",
        may_be_overridden=False,
    ),
    "vm.disk": Kind(
        severity=_BLOCKER,
        meaning="A disk of the VM cannot be reached on any target.",
        remedy="Move the disk to a datastore that the targets list, or enrol its datastore.",
        may_be_overridden=False,
    ),
    "vm.network": Kind(
        severity=_BLOCKER,
        meaning="A network the VM is attached to exists on no target.",
        remedy="Create the network on a target, or attach the VM to one that is there.",
        may_be_overridden=False,
    ),
    "vm.huge_pages": Kind(
        severity=_BLOCKER,
        meaning="No target has enough free huge pages of the VM's size.",
        remedy=f"Reserve huge pages on a target, {_OR_SHUT_DOWN}",
        may_be_overridden=False,
    ),
    "vm.numa": Kind(
        severity=_BLOCKER,
        meaning="The VM is bound to NUMA nodes that no target has.",
        remedy=f"Change its numatune, {_OR_SHUT_DOWN}",
        may_be_overridden=False,
    ),
    "vm.duplicate": Kind(
        severity=_BLOCKER,
        meaning="Every target already has a VM of this name or UUID.",
        remedy="Rename or undefine the other VM, after looking which one is the right one.",
        may_be_overridden=False,
    ),
    "vm.rule": Kind(
        severity=_BLOCKER,
        meaning="Rules (affinity, anti-affinity, host affinity) leave the VM no target.",
        remedy="Change the rule, or make it a soft one, " + _OR_SHUT_DOWN,
        may_be_overridden=False,
    ),
}

# What its policy and its group say.
POLICY_CODES: Mapping[str, Kind] = {
    "vm.policy": Kind(
        severity=_WARNING,
        meaning="The policy that the VM carries has words that make no sense; they count as not "
        "said.",
        remedy="Set it right: furlough vm set VM NAME=WORD.",
    ),
    "vm.leave": Kind(
        severity=_BLOCKER,
        meaning="The VM's policy says that it is not touched, so the host cannot become empty.",
        remedy="Stop it yourself or change on_maintenance; or accept it: then all others leave "
        "and the host stays cordoned.",
    ),
    "vm.ask": Kind(
        severity=_BLOCKER,
        meaning="The VM's policy says that somebody has to decide each time.",
        remedy="Ask its owner; then accept this finding, or name the VM to be shut down.",
    ),
    "vm.cold": Kind(
        severity=_INFO,
        meaning="The VM cannot move live, and its policy lets it move cold: it is shut down, "
        "moved, and started on its target.",
        remedy="Nothing to do, if its outage is acceptable now.",
    ),
    "vm.off_stays": Kind(
        severity=_WARNING,
        meaning="All VMs are to leave, and this one, which is powered off, stays.",
        remedy="Remove the cause, or leave it: it keeps nobody from entering maintenance.",
    ),
    "vm.ha_shut_down": Kind(
        severity=_BLOCKER,
        meaning="A VM marked ha would be shut down, suspended or moved cold.",
        remedy="Remove what keeps it from moving live, or accept its outage with a reason.",
    ),
    "vm.group": Kind(
        severity=_INFO,
        meaning="The VM belongs to an affinity group with several running members.",
        remedy="Nothing to do: those on one host move together.",
    ),
    "vm.makes_room": Kind(
        severity=_WARNING,
        meaning="The VM is on a host that stays, and moves to another one so that a VM that has to "
        "leave fits where it was. It is not brought back.",
        remedy="Nothing to do; to forbid it, have it weigh as a blocker: --strict vm.makes_room.",
    ),
    "vm.rule_gave": Kind(
        severity=_INFO,
        meaning="A soft rule about the VM cannot be held on any target that has room, or only at "
        "the cost of others.",
        remedy="Nothing to do; or free room where the rule can be held, and check again.",
    ),
    "vm.group_busy": Kind(
        severity=_BLOCKER,
        meaning="Another member of the VM's affinity group is migrating, starting or otherwise "
        "busy.",
        remedy="Wait until that is over.",
    ),
    "vm.group_split": Kind(
        severity=_BLOCKER,
        meaning="A member of the VM's hard affinity group would stay behind on the host, so the "
        "group would be torn apart.",
        remedy="Let the other member leave too, or accept that they run apart.",
    ),
}

VM_CODES: Mapping[str, Kind] = {**STATE_CODES, **TIE_CODES, **TARGET_CODES, **POLICY_CODES}
