"""What estimates are made of: constants, the rate of links, ranges.

Constants are those of measured libvirt and QEMU (docs/explanation/estimates.md); how migrations
follow from them, alone or many at once, is told by `planning/link_model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from furlough.core.inventory import Host, Vm

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


def link_mib_s(host: Host) -> float:
    """What the link of a host carries."""
    return max(1, host.link_mbit_s) * _MIB_PER_MBIT * LINK_EFFICIENCY


def estimate_save(vm: Vm) -> float:
    """Seconds that writing this VM's memory to its host's disk may take."""
    return round(1 + memory_to_send_mib(vm) / SAVE_MIB_S, 2)


def side_by_side(durations_s: Sequence[float], graces_s: Sequence[float]) -> Range:
    """How long VMs that are stopped or started together take: the slowest one counts, and a
    guest may take all of its grace. Not empty, equally long."""
    return Range(
        low=max(durations_s),
        high=max(max(grace, 3 * usual) for usual, grace in zip(durations_s, graces_s, strict=True)),
    )


def memory_to_send_mib(vm: Vm) -> int:
    """What moving or saving this VM has to copy at least."""
    return vm.memory_mib if vm.memory_used_mib is None else vm.memory_used_mib
