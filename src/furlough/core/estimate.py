"""How long one live migration should take, alone on its link, and what else takes time.

How migrations go together is in `forecast`; what becomes of a plan's moves in `moving_time`; what
takes the same everywhere in `timing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from furlough.core.forecast import Course, Move, forecast
from furlough.core.ids import ClusterName, HostName
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.link_speed import LinkSpeed
from furlough.core.timing import (
    FINISH_S,
    LINK_EFFICIENCY,
    SAVE_MIB_S,
    SET_UP_S,
    START_CPUS_S,
    Range,
)

_MIB_PER_MBIT = 1e6 / 8 / 2**20
_LEAST_MIB_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One migration: its length, its pause, the memory it sends."""

    duration_s: float
    downtime_ms: int
    sent_mib: int


def link_mib_s(host: Host) -> float:
    """What the link of a host carries, by the rate it was enrolled with."""
    return carried_mib_s(host.link_mbit_s)


def carried_mib_s(link_mbit_s: int) -> float:
    """What a link of this rate carries of memory."""
    return max(1, link_mbit_s) * _MIB_PER_MBIT * LINK_EFFICIENCY


def rate_mib_s(source: Host, target: Host) -> float:
    """What one migration can move between two hosts when it has both links for itself."""
    return min(link_mib_s(source), link_mib_s(target))


def rate_between(source: Host, target: Host, inventory: Inventory) -> float:
    """The same as migrations have shown it to be, where any have; else as enrolled."""
    known = known_speed(source.name, target.name, inventory)
    return rate_mib_s(source, target) if known is None else max(_LEAST_MIB_S, known.mib_s)


def known_speed(source: HostName, target: HostName, inventory: Inventory) -> LinkSpeed | None:
    """What was learned about the links between two hosts, if it still holds."""
    known = inventory.link_speeds.get((source, target))
    return known if known is not None and known.holds(inventory.taken_at) else None


def estimate_move(vm: Vm, target: Host, inventory: Inventory) -> Estimate:
    """The estimate for moving this VM to that host, alone on the link."""
    return estimate_live(vm, rate_between(inventory.host(vm.host), target, inventory))


def estimate_live(vm: Vm, rate: float) -> Estimate:
    """The estimate for a live migration of `vm` at `rate` MiB/s."""
    source, target = HostName("source"), HostName("target")
    move = Move(
        source=source,
        target=target,
        cluster=ClusterName(""),
        memory_mib=memory_to_send(vm),
        dirty_mib_s=vm.dirty_mib_s or 0.0,
        working_set_mib=vm.memory_mib if vm.working_set_mib is None else vm.working_set_mib,
        set_up_s=SET_UP_S,
        finish_s=FINISH_S,
    )
    (course,) = forecast([move], {source: rate, target: rate})
    return Estimate(
        duration_s=round(course.end_s, 2),
        downtime_ms=downtime_ms(course),
        sent_mib=round(course.sent_mib),
    )


def downtime_ms(course: Course) -> int:
    """The pause of a guest: the last bytes, and the start of its CPUs on the target."""
    return round(1000 * (course.pause_s + START_CPUS_S))


def estimate_save(vm: Vm) -> float:
    """Seconds that writing this VM's memory to its host's disk may take."""
    return round(1 + memory_to_send(vm) / SAVE_MIB_S, 2)


def side_by_side(durations_s: Sequence[float], graces_s: Sequence[float]) -> Range:
    """How long VMs that are stopped or started together take: the slowest one counts, and a
    guest may take all of its grace. Not empty, equally long."""
    return Range(
        low=max(durations_s),
        high=max(max(grace, 3 * usual) for usual, grace in zip(durations_s, graces_s, strict=True)),
    )


def memory_to_send(vm: Vm) -> int:
    """What is sent of a VM at least, in MiB. What its process has in use may be more than its
    memory: the emulator needs some itself."""
    return vm.memory_mib if vm.memory_used_mib is None else min(vm.memory_mib, vm.memory_used_mib)
