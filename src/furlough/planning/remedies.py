"""Remedies that a program can apply: what each would change, the plan that changes it, and the
plan that puts it back.

A finding whose kind names a remedy in `apply` can be mended by a request. Before anything is done
the request says what it would change; what it changes about a VM is recorded, and undone when the
host exits maintenance, or sooner when asked for:

    finding ──► Change (told, agreed to) ──► eject step ──► Remedied (the record)
                                                               │ exit, or undo
                                              insert step ◄────┘

What the owner of the VM has done with the drive in the meantime is not ours to undo.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from furlough.core.findings import CODES, Finding
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Disk, Inventory, Vm, with_neighbours
from furlough.core.plan import Method, OperationKind, Plan, PlannedStep, numbered
from furlough.errors import Invalid
from furlough.planning.planner import LAST_POWER_WAVE, before

AT_EXIT = "It is put back when the host exits maintenance."


class Remedy(StrEnum):
    """What can be applied: take a medium out of a drive; install and prove the guard of a host."""

    EJECT = "eject"
    PREPARE = "prepare"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that a remedy would change, before it does. `vm` is None where it is about the
    host itself; `drive` and `medium` only where a medium is taken out or put back; `what` says it
    in words, `undo` what becomes of it later."""

    remedy: Remedy
    host: HostName
    vm: VmId | None = None
    vm_name: str = ""
    drive: str = ""
    medium: str = ""
    what: str
    undo: str


@dataclass(frozen=True, kw_only=True)
class Remedied:
    """A medium that was taken out of a drive of a VM, and is to be put back at home."""

    vm: VmId
    name: str
    home: HostName
    drive: str
    medium: str
    operation: OperationId
    since: datetime


def remedy_of(code: str) -> Remedy:
    """The remedy that can be applied against findings of this code; `Invalid` if there is none."""
    kind = CODES.get(code)
    if kind is None or not kind.apply:
        known = ", ".join(sorted(name for name, one in CODES.items() if one.apply))
        raise Invalid(
            "remedy.none",
            f"There is no remedy that a program could apply against {code[:64]!r}.",
            remedy=f"Such remedies are there for {known}; for others do what the finding says.",
        )
    return Remedy(kind.apply)


def changes(
    code: str, inventory: Inventory, host: HostName, findings: Iterable[Finding]
) -> tuple[Change, ...]:
    """What the remedy against these findings of one host would change there: nothing where none
    of them has this code."""
    remedy = remedy_of(code)
    subjects = [one.subject for one in findings if one.code == code]
    if remedy is Remedy.PREPARE:
        return (_preparing(host),) if subjects else ()
    return tuple(
        _ejecting(vm, disk)
        for vm in inventory.vms_on(host)
        if any(vm.id in subject for subject in subjects)
        for disk in vm.disks
        if is_local_medium(disk)
    )


def is_local_medium(disk: Disk) -> bool:
    """Whether a drive holds what only its host has, and what can be put back by its name: a file
    or a device."""
    is_named = disk.source.startswith(("/", "block "))
    return disk.is_medium and disk.datastore is None and is_named


def _preparing(host: HostName) -> Change:
    return Change(
        remedy=Remedy.PREPARE,
        host=host,
        what=f"Install furlough-host and its hook on {host}, beside whatever hook is there, and "
        "prove that the hook refuses: two tiny VMs are tried, and gone at once.",
        undo="It stays: the host needs it for every maintenance.",
    )


def _ejecting(vm: Vm, disk: Disk) -> Change:
    return Change(
        remedy=Remedy.EJECT,
        host=vm.host,
        vm=vm.id,
        vm_name=vm.name,
        drive=disk.target,
        medium=disk.source,
        what=f"Take {disk.source} out of drive {disk.target} of VM {vm.name}.",
        undo=AT_EXIT,
    )


# --- plans -------------------------------------------------------------------------------------


def plan_ejecting(host: HostName, wanted: Sequence[Change], inventory: Inventory) -> Plan:
    """The plan that takes these media out of their drives, all on one host."""
    steps = [
        _step(Method.EJECT, host, inventory.vm(one.vm), one.drive, one.medium)
        for one in wanted
        if one.vm is not None
    ]
    return Plan(kind=OperationKind.REMEDY_VM, hosts=(host,), steps=numbered(tuple(steps)))


def undoing(inventory: Inventory, home: HostName, record: Iterable[Remedied]) -> tuple[Change, ...]:
    """What putting back everything that was taken out on this host would change now, for the VMs
    that are there."""
    return tuple(
        Change(
            remedy=Remedy.EJECT,
            host=home,
            vm=one.vm,
            vm_name=one.name,
            drive=one.drive,
            medium=one.medium,
            what=f"Put {one.medium} back into drive {one.drive} of VM {one.name}.",
            undo=f"It was taken out by {one.operation}.",
        )
        for one in record
        if one.home == home and _is_on(inventory, one.vm, home)
    )


def plan_undoing(home: HostName, inventory: Inventory, record: Iterable[Remedied]) -> Plan:
    """The plan that puts back what was taken out on this host, for the VMs that are there."""
    steps = inserts(inventory, home, record, ())
    return Plan(kind=OperationKind.REMEDY_VM, hosts=(home,), steps=numbered(tuple(steps)))


def inserts(
    inventory: Inventory,
    home: HostName,
    record: Iterable[Remedied],
    comers: Collection[VmId],
) -> list[PlannedStep]:
    """Steps that put back what was taken out on this host, for the VMs that are there and for
    those that come home by the same plan. Last of all, since a medium can wait."""
    return [
        _step(Method.INSERT, home, inventory.vm(one.vm), one.drive, one.medium)
        for one in sorted(record, key=lambda one: (one.name, one.vm, one.drive))
        if one.home == home and inventory.copies_of(one.vm)
        if one.vm in comers or _is_on(inventory, one.vm, home)
    ]


def _is_on(inventory: Inventory, vm: VmId, host: HostName) -> bool:
    return any(copy.host == host for copy in inventory.copies_of(vm))


def _step(method: Method, host: HostName, vm: Vm, drive: str, medium: str) -> PlannedStep:
    return PlannedStep(
        number=0,
        method=method,
        host=host,
        wave=LAST_POWER_WAVE,
        vm=vm.id,
        vm_name=vm.name,
        source=vm.host,
        before=before(vm),
        drive=drive,
        medium=medium,
    )


# --- looking at a drive ------------------------------------------------------------------------


class DriveState(StrEnum):
    """What a drive was seen to hold: the medium in question, nothing, something else; or why it
    could not be seen: its host is silent, the VM is on another host, there is no such VM any
    more. A drive that was taken away looks empty; the hypervisor refuses to put anything in."""

    HOLDS = "holds"
    EMPTY = "empty"
    OTHER = "other"
    SILENT = "silent"
    ELSEWHERE = "elsewhere"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class DriveSight:
    """One look at a drive, with the words for it."""

    state: DriveState
    words: str


def look_at_drive(step: PlannedStep, inventory: Inventory) -> DriveSight:
    """What the drive that a step is about holds, by these facts."""
    host = inventory.host(step.host)
    if not host.is_connected:
        return _seen(DriveState.SILENT, f"{host.name} does not answer")
    copies = inventory.copies_of(step.vm) if step.vm is not None else ()
    here = next((copy for copy in copies if copy.host == step.host), None)
    if here is None:
        return _without(step, [copy.host for copy in copies], inventory)
    disk = next((one for one in here.disks if one.target == step.drive), None)
    if disk is None or not disk.source:
        # Facts list what a VM holds, not what it could hold.
        return _seen(DriveState.EMPTY, f"drive {step.drive} of VM {step.vm_name} is empty")
    if disk.source == step.medium:
        return _seen(DriveState.HOLDS, f"{step.medium} is in drive {step.drive}")
    return _seen(
        DriveState.OTHER, f"drive {step.drive} of VM {step.vm_name} holds {disk.source} by now"
    )


def _without(step: PlannedStep, others: Sequence[HostName], inventory: Inventory) -> DriveSight:
    """The VM is not on the host. It is gone only if no host that could have it is silent."""
    if others:
        return _seen(
            DriveState.ELSEWHERE, f"VM {step.vm_name} is on {others[0]}, not on {step.host}"
        )
    near = with_neighbours(inventory.host(step.host).cluster, inventory.clusters)
    silent = [one.name for one in inventory.hosts if one.cluster in near and not one.is_connected]
    if silent:
        return _seen(
            DriveState.ELSEWHERE, f"VM {step.vm_name} may be on {silent[0]}, which does not answer"
        )
    return _seen(DriveState.GONE, f"no host lists VM {step.vm_name} any more")


def _seen(state: DriveState, words: str) -> DriveSight:
    return DriveSight(state=state, words=words)
