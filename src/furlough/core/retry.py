"""Trying again: whether a step that failed gets another attempt, and when.

What a driver says in its refusals decides; see `REFUSALS` for the classes and their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from furlough.core.operation import Failure, Step

MOST_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class RefusalClass:
    """What a refusal of this class means, and how long to wait before the next attempt; None:
    another attempt would end the same way."""

    meaning: str
    delay_s: float | None


REFUSALS: Mapping[str, RefusalClass] = {
    "hypervisor.busy": RefusalClass(
        meaning="Another job has the VM, or a lock was not free in time.", delay_s=5
    ),
    "hypervisor.aborted": RefusalClass(
        meaning="The migration was aborted, and not by this operation.", delay_s=5
    ),
    "hypervisor.lost": RefusalClass(
        meaning="A daemon died or stopped answering during the call; the VM stayed.", delay_s=60
    ),
    "hypervisor.failed": RefusalClass(
        meaning="The hypervisor failed; its own words are in the message.", delay_s=2
    ),
    "migration.stalled": RefusalClass(
        meaning="The link between both hosts carried nothing for a while; the VM stayed.",
        delay_s=60,
    ),
    "migration.not_converging": RefusalClass(
        meaning="Its guest writes as fast as is copied, and its policy allows no more help.",
        delay_s=None,
    ),
    "target.refused": RefusalClass(
        meaning="This target will not take the VM (CPU, memory, network, name, guard).", delay_s=0
    ),
    "target.no_room": RefusalClass(
        meaning="The target has no room left for the VM by the cluster's policy.", delay_s=10
    ),
    "target.not_available": RefusalClass(
        meaning="The target is no longer available for VMs.", delay_s=0
    ),
    "vm.immovable": RefusalClass(
        meaning="The hypervisor says that this VM cannot move live.", delay_s=None
    ),
    "vm.changed": RefusalClass(
        meaning="The VM is not in the state that the step was planned for.", delay_s=None
    ),
    "hypervisor.denied": RefusalClass(
        meaning="The hypervisor does not allow us to do this.", delay_s=None
    ),
    "guard.refused": RefusalClass(
        meaning="furlough-host refused: a newer epoch, or another controller's marker.",
        delay_s=None,
    ),
    "guest.ignored": RefusalClass(
        meaning="The guest did not shut down within its grace.", delay_s=None
    ),
    "vm.transient": RefusalClass(
        meaning="The VM has no definition: stopped, it would be gone.", delay_s=None
    ),
    "vm.start_failed": RefusalClass(
        meaning="The VM was moved cold and did not start on its target; it was brought home.",
        delay_s=None,
    ),
    "vm.managed_save": RefusalClass(
        meaning="The VM's memory was saved on its host; moved cold, it would lose that.",
        delay_s=None,
    ),
    "vm.left": RefusalClass(
        meaning="VMs are still on the host that are to be left as they are.", delay_s=None
    ),
    "guard.unproven": RefusalClass(
        meaning="The host's hook was not seen to refuse a VM.", delay_s=None
    ),
    "host.silent": RefusalClass(meaning="The host did not answer.", delay_s=10),
    "host.not_empty": RefusalClass(
        meaning="Something is left on the host, or under way there.", delay_s=None
    ),
}


def retry_at(step: Step, failure: Failure, now: datetime) -> datetime | None:
    """When to try this step again after one more failure of this kind; None: never.

    A target that refuses costs no time when there is another one to try.
    """
    if step.failed_attempts + 1 >= MOST_ATTEMPTS:
        return None
    refusal = REFUSALS.get(failure.code, REFUSALS["hypervisor.failed"])
    if refusal.delay_s is None:
        return None
    if refusal.delay_s == 0 and len(step.planned.targets) <= 1:
        return None
    return now + timedelta(seconds=refusal.delay_s)
