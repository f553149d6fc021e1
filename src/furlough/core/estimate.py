"""How long a live migration should take: pre-copy in rounds over a link.

    round 1 sends the memory in use; each later round sends what the guest wrote meanwhile,
    at most its working set; when the rest fits into the downtime limit, the VM is switched over

Constants are those of measured libvirt and QEMU (docs/explanation/estimates.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from furlough.core.inventory import Host, Inventory, Vm

SET_UP_S = 0.6
FINISH_S = 0.4
DOWNTIME_LIMIT_S = 0.3
LINK_EFFICIENCY = 0.94
MOST_ROUNDS = 30
# Guesses, not measurements: a guest that obeys, a start up to the running process, a local disk.
SHUT_DOWN_S = 20.0
START_S = 5.0
SAVE_MIB_S = 200.0
_MIB_PER_MBIT = 1e6 / 8 / 2**20


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One migration: its length, its pause, the memory it sends."""

    duration_s: float
    downtime_ms: int
    sent_mib: int


@dataclass(frozen=True, kw_only=True)
class Range:
    """An estimate that admits what it does not know, in seconds."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        """One after the other."""
        return Range(low=round(self.low + other.low, 1), high=round(self.high + other.high, 1))


NO_TIME = Range(low=0.0, high=0.0)


def rate_mib_s(source: Host, target: Host) -> float:
    """What one migration can move between two hosts when it has the link for itself."""
    return max(1, min(source.link_mbit_s, target.link_mbit_s)) * _MIB_PER_MBIT * LINK_EFFICIENCY


def estimate_move(vm: Vm, target: Host, inventory: Inventory) -> Estimate:
    """The estimate for moving this VM to that host, alone on the link."""
    return estimate_live(vm, rate_mib_s(inventory.host(vm.host), target))


def estimate_live(vm: Vm, rate: float) -> Estimate:
    """The estimate for a live migration of `vm` at `rate` MiB/s."""
    round_mib = float(_memory_to_send(vm))
    sent_mib = 0.0
    for _ in range(MOST_ROUNDS):
        sent_mib += round_mib
        rewritten = min(_working_set(vm), (vm.dirty_mib_s or 0.0) * round_mib / rate)
        if rewritten / rate <= DOWNTIME_LIMIT_S:
            round_mib = rewritten
            break
        round_mib = rewritten
    pause_s = round_mib / rate
    sent_mib += round_mib
    return Estimate(
        duration_s=round(SET_UP_S + sent_mib / rate + FINISH_S, 2),
        downtime_ms=round(1000 * pause_s) + 100,
        sent_mib=round(sent_mib),
    )


def estimate_save(vm: Vm) -> float:
    """Seconds that writing this VM's memory to its host's disk may take."""
    return round(1 + _memory_to_send(vm) / SAVE_MIB_S, 2)


def side_by_side(durations_s: Sequence[float], graces_s: Sequence[float]) -> Range:
    """How long VMs that are stopped or started together take: the slowest one counts, and a
    guest may take all of its grace. Not empty, equally long."""
    return Range(
        low=max(durations_s),
        high=max(max(grace, 3 * usual) for usual, grace in zip(durations_s, graces_s, strict=True)),
    )


def _memory_to_send(vm: Vm) -> int:
    return vm.memory_mib if vm.memory_used_mib is None else vm.memory_used_mib


def _working_set(vm: Vm) -> float:
    return vm.memory_mib if vm.working_set_mib is None else vm.working_set_mib


def makespan(sent_mib: Sequence[int], rate: float, at_once: int) -> Range:
    """How long migrations that send this much take over one link, `at_once` in flight.

    The low end is the bytes over the link and one set-up; the high end adds every set-up that
    the others in flight may fail to hide, and half of the bytes again for guests that write.
    """
    if not sent_mib:
        return NO_TIME
    copying_s = sum(sent_mib) / rate
    turns = -(-len(sent_mib) // max(1, at_once))
    return Range(
        low=round(copying_s + SET_UP_S + FINISH_S, 1),
        high=round(1.5 * copying_s + (turns + 1) * (SET_UP_S + FINISH_S), 1),
    )
