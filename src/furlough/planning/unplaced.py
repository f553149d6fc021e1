"""Why VMs stay on a host that is to be emptied, in words: per host, and in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.planning.board import CAUSES, FREE, Board, IntArray
from furlough.planning.causes import Cause
from furlough.planning.inventory_file import Document, HostRow
from furlough.planning.packing import Packing, Unplaced
from furlough.planning.scheduling import Schedule

_SHORT: Mapping[Cause, str] = {
    Cause.MODE: "not open to it",
    Cause.CPU: "without its CPU",
    Cause.DISK: "out of reach of its disks",
    Cause.NETWORK: "without its networks",
    Cause.DEVICE: "without its devices",
    Cause.RULE: "forbidden by a rule",
    Cause.ROOM: "without the room",
}
_ALLOWED = {
    "shut_down": "its policy allows to shut it down instead",
    "suspend": "its policy allows to suspend it instead",
    "cold": "its policy allows to move it while it is off",
}


@dataclass(frozen=True, kw_only=True)
class StayingVm:
    """A VM that stays where it is though its host is to be emptied: why in one sentence, and the
    reasons by host (its own host where no other one was asked)."""

    vm_uuid: str
    vm_name: str
    why: str
    reasons: Mapping[str, tuple[str, ...]]


def staying_vms(
    document: Document, packing: Packing, schedule: Schedule, leaving: Sequence[int]
) -> Iterator[StayingVm]:
    """Those that fit nowhere or may not be moved, then those for which no moment was found."""
    board = packing.board
    words = _Words(document, packing, leaving)
    for one in packing.unplaced:
        reasons = words.of(one)
        why = one.because or _sentence(one)
        instead = _ALLOWED.get(board.vms.on_maintenance[one.vm])
        if instead is not None:
            why = f"{why}; {instead}"
        yield _staying(board, one.vm, why, reasons or {_home(board, one.vm): (why,)})
    for job in schedule.stuck:
        target = board.hosts.names[job.target]
        why = f"its move to {target} and others wait for each other, and no host could park a VM"
        yield _staying(board, job.vm, why, {target: (why,)})


def _staying(board: Board, vm: int, why: str, reasons: Mapping[str, tuple[str, ...]]) -> StayingVm:
    return StayingVm(
        vm_uuid=board.vms.uuids[vm], vm_name=board.vms.names[vm], why=why, reasons=reasons
    )


def _home(board: Board, vm: int) -> str:
    return board.hosts.names[int(board.vms.hosts[vm])]


def _sentence(one: Unplaced) -> str:
    """How many hosts there are for each cause, its own host among them."""
    counts = sorted(one.histogram.items(), key=lambda entry: -entry[1])
    return "no host can take it: " + ", ".join(
        f"{count} {_SHORT[cause]}" for cause, count in counts
    )


class _Words:
    """The words for what stands against VMs on hosts, when all others have been placed."""

    def __init__(self, document: Document, packing: Packing, leaving: Sequence[int]) -> None:
        self._document = document
        self._board = packing.board
        self._leaving = frozenset(leaving)
        board, seats = packing.board, packing.seats
        self._free_mib = board.hosts.memory_mib - _taken(board, seats, board.vms.memory_mib)
        self._free_vcpus = board.hosts.vcpus - _taken(board, seats, board.vms.vcpus)

    def of(self, one: Unplaced) -> Mapping[str, tuple[str, ...]]:
        """By host, what stands against this VM there."""
        return {
            self._board.hosts.names[place]: (
                self._word(CAUSES[int(one.row[place]) - 1], one.vm, place),
            )
            for place in np.flatnonzero(one.row > FREE).tolist()
        }

    def _word(self, cause: Cause, vm: int, place: int) -> str:
        host, vms = self._document.hosts[place], self._document.vms
        if cause is Cause.MODE:
            return self._closed(host, place)
        if cause is Cause.CPU:
            return self._no_cpu(vm)
        if cause is Cause.DISK:
            return self._no_disk(vm, host)
        if cause is Cause.NETWORK:
            return f"it has no network {_missing(vms.networks[vm], host.networks)}"
        if cause is Cause.DEVICE:
            return f"it has no device {_missing(vms.devices[vm], host.devices)}"
        if cause is Cause.RULE:
            return "a rule of the VM, or of those it has to be with or without, forbids it"
        return (
            f"{vms.memory_mib[vm]} MiB and {vms.vcpus[vm]} vCPU(s) are needed, "
            f"{max(0, int(self._free_mib[place]))} MiB and "
            f"{max(0, int(self._free_vcpus[place]))} are left there"
        )

    def _closed(self, host: HostRow, place: int) -> str:
        if place in self._leaving:
            return "it is to be emptied itself"
        if host.mode != "available":
            return f"it is {host.mode}"
        return "it is not among the targets asked for"

    def _no_cpu(self, vm: int) -> str:
        model = self._document.vms.cpu_model[vm]
        if model == HOST_PASSTHROUGH:
            return f"its CPU is not that of {_home(self._board, vm)}, which the VM needs"
        return f"it cannot give CPU model {model}"

    def _no_disk(self, vm: int, host: HostRow) -> str:
        disks = self._document.vms.disks[vm]
        if any(disk.is_local for disk in disks):
            return f"a disk of the VM is local to {_home(self._board, vm)}"
        wanted = tuple(disk.datastore for disk in disks if disk.datastore is not None)
        return f"it does not reach datastore {_missing(wanted, host.datastores)}"


def _taken(board: Board, seats: IntArray, column: IntArray) -> IntArray:
    weights = column * board.vms.is_on
    count = len(board.hosts.names)
    return np.bincount(seats, weights=weights, minlength=count).astype(np.int64)


def _missing(wanted: Sequence[str], there: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(one for one in wanted if one not in there))
