"""How much of their memory VMs rewrite while they run, as it was measured, and for how long such a
measurement holds.

    a short look ─► MiB/s ─► does it matter on this link? ─► a longer look ─► the working set
                                     └─ no: the short look will do

A guest that rewrites the same pages again and again has rewritten less in five seconds than five
times what it has in one: then what it rewrote in five is about all that it keeps rewriting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from furlough.core.estimate import memory_to_send
from furlough.core.ids import VmId
from furlough.core.inventory import Vm
from furlough.core.states import Power

SHORT_LOOK_S = 1
LONG_LOOK_S = 5
HOLDS = timedelta(minutes=5)
# Below this share of its memory, what a VM rewrites during the first round changes little.
_MATTERS = 0.1
# Rewritten in the longer look, as a share of what the short one would have it: below, it repeats.
_REPEATS = 0.75


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How fast a VM rewrites memory; `working_set_mib` is the part that it keeps rewriting, None
    where a look did not show its bounds."""

    dirty_mib_s: float
    at: datetime
    working_set_mib: int | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it is young enough to plan with. One from the future is as good as none."""
        return timedelta() <= now - self.at <= HOLDS


def can_be_measured(vm: Vm) -> bool:
    """Only a guest that runs writes, and one that another job has must not be disturbed."""
    return vm.power is Power.RUNNING and not vm.busy_with and not vm.is_arriving


def deserves_longer_look(vm: Vm, dirty_mib_s: float, rate_mib_s: float) -> bool:
    """Whether so much is rewritten while a link of `rate_mib_s` carries the memory once that it
    matters how often it is the same, and longer than a look takes."""
    memory_mib = memory_to_send(vm)
    round_s = memory_mib / rate_mib_s
    return round_s > LONG_LOOK_S and dirty_mib_s * round_s > _MATTERS * memory_mib


def working_set(short_mib_s: float, long_mib_s: float) -> int | None:
    """In MiB, from the rates that a short and a longer look have shown; None where the longer one
    found new pages to the end."""
    if long_mib_s >= _REPEATS * short_mib_s:
        return None
    # Rates are told in whole MiB/s, rounded down.
    return round((long_mib_s + 0.5) * LONG_LOOK_S)


def with_writing(vm: Vm, known: Mapping[VmId, Writing], now: datetime) -> Vm:
    """The VM as it was measured, if that still holds; a guest that is paused writes nothing."""
    if vm.power is Power.PAUSED:
        return replace(vm, dirty_mib_s=0.0, dirty_measured_at=None)
    found = known.get(vm.id)
    if found is None or vm.power is not Power.RUNNING or not found.holds(now):
        return vm
    return replace(
        vm,
        dirty_mib_s=found.dirty_mib_s,
        working_set_mib=found.working_set_mib,
        dirty_measured_at=found.at,
    )
