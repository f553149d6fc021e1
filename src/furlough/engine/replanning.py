"""Planning the remainder of an entering anew while it is under way: when facts have made a part of
it impossible, when a VM that has failed may leave after all, and when those that have left are to
come back. What is to be done is decided by `planning`; here it is seen that it is time, and the
answer is written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

import structlog

from furlough.core.admission import terms_of
from furlough.core.capacity import Reservation
from furlough.core.holding import has_failed, waits_for_failed
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory, Vm
from furlough.core.journal import PlanExtended
from furlough.core.looks import Look, Presence, Why
from furlough.core.operation import Evidence, Operation, Outcome, Step
from furlough.core.plan import Method, OperationKind, numbered
from furlough.core.policy import Automation, EnterOptions
from furlough.core.states import HostMode, OperationState, StepState
from furlough.core.steering import StepOvertaken
from furlough.engine.ledger import Ledger
from furlough.engine.observer import modes_of
from furlough.engine.whereabouts import fate_at_home, fate_elsewhere, look_everywhere
from furlough.engine.work import Work
from furlough.errors import Conflict, Refused
from furlough.planning.put_back import plan_put_back
from furlough.planning.remainder import (
    Circumstances,
    circumstances,
    differences,
    failed_steps,
    fresh_steps,
    impossible,
    vm_of,
    was_planned_anew,
)

log = structlog.get_logger()

LOOK_EVERY_S = 5.0
# One VM is planned anew at most so often, whatever changes around it; a person may ask for more.
_PATIENCE_S = 60.0


class Replanning:
    """Looks, from time to time, whether the plan of one operation still holds."""

    def __init__(self, work: Work, ledger: Ledger) -> None:
        self._work = work
        self._ledger = ledger
        self._next_look_s = 0.0
        # What has changed while nobody looked is not known: who has failed is tried once more.
        self._urged = -1 if failed_steps(ledger.operation) else ledger.operation.urged
        self._judged: set[int] = set()
        self._tried: dict[VmId, tuple[Circumstances, float]] = {}

    @property
    def _operation(self) -> Operation:
        return self._ledger.operation

    @property
    def is_watching(self) -> bool:
        """Whether it has to look again although nothing happens."""
        return self._options is not None and any(map(_is_doubtful, self._operation.steps))

    @property
    def _options(self) -> EnterOptions | None:
        """The options of an operation whose remainder may be planned anew; None of others."""
        operation, options = self._operation, self._operation.options
        if operation.kind is not OperationKind.ENTER or not isinstance(options, EnterOptions):
            return None
        under_way = operation.state in (OperationState.RUNNING, OperationState.BLOCKED)
        return options if under_way and options.automation is not Automation.OFF else None

    async def round(self, busy: Collection[int]) -> bool:
        """One look, if it is time; whether the operation was changed. `busy`: steps that are being
        carried out, or put aside."""
        options = self._options
        if options is None or not self._is_time():
            return False
        is_urged = self._operation.urged != self._urged
        self._urged = self._operation.urged
        inventory = await self._work.observer.inventory()
        reservations = await self._work.store.reservations()
        for step in failed_steps(self._operation):
            if await self._take_leave(step, inventory):
                return True
        stuck = self._stuck(inventory, reservations, busy, is_urged=is_urged)
        return await self._plan_anew(stuck, inventory, options, reservations)

    def _is_time(self) -> bool:
        """Whether to look again: something has failed, a person says so, or some time has passed
        in which moves wait for their turn."""
        now_s = self._work.clock.monotonic()
        if self._operation.urged == self._urged and now_s < self._next_look_s:
            steps = self._operation.steps
            news = (step for step in steps if has_failed(step) and step.number not in self._judged)
            if next(news, None) is None:
                return False
        self._next_look_s = now_s + LOOK_EVERY_S
        return any(map(_is_doubtful, self._operation.steps))

    # --- whose plan does not hold --------------------------------------------------------------

    def _stuck(
        self,
        inventory: Inventory,
        reservations: Sequence[Reservation],
        busy: Collection[int],
        *,
        is_urged: bool,
    ) -> dict[int, str]:
        """Steps to be planned anew, with the reasons."""
        operation = self._operation
        found = {
            number: why
            for number, why in impossible(operation, inventory, reservations).items()
            if number not in busy and self._is_new(operation.step(number), inventory)
        }
        for step in failed_steps(operation):
            if self._may_leave_now(step, inventory, is_urged=is_urged):
                found[step.number] = step.failure.message if step.failure else "it failed"
        self._judged |= {step.number for step in operation.steps if has_failed(step)}
        return found

    def _may_leave_now(self, step: Step, inventory: Inventory, *, is_urged: bool) -> bool:
        """Whether it is worth a new plan for a step that has failed."""
        if waits_for_failed(self._operation):
            return is_urged or self._is_new(step, inventory)
        # For the end that follows a failure one new plan is made, at once.
        return step.number not in self._judged and not was_planned_anew(step, self._operation)

    def _is_new(self, step: Step, inventory: Inventory) -> bool:
        """Whether the facts differ from those at which nothing could be done for this VM, or
        something was that has failed; and some time has passed."""
        vm = vm_of(step, inventory)
        if vm is None:
            return False
        now_s = self._work.clock.monotonic()
        facts = circumstances(vm, inventory)
        known = self._tried.get(vm.id)
        if known is None and step.state is StepState.FAILED:
            # These are the facts at which it failed, as far as anybody knows.
            self._tried[vm.id] = (facts, now_s - _PATIENCE_S)
            return False
        return known is None or (known[0] != facts and now_s - known[1] >= _PATIENCE_S)

    # --- planning anew -------------------------------------------------------------------------

    async def _plan_anew(
        self,
        stuck: dict[int, str],
        inventory: Inventory,
        options: EnterOptions,
        reservations: Sequence[Reservation],
    ) -> bool:
        for host in self._operation.hosts:
            here = {
                number: vm
                for number in stuck
                if (step := self._operation.step(number)).planned.host == host
                and (vm := vm_of(step, inventory)) is not None
            }
            if here and await self._replace(here, stuck, inventory, options, reservations):
                return True
        return False

    async def _replace(
        self,
        here: dict[int, Vm],
        stuck: dict[int, str],
        inventory: Inventory,
        options: EnterOptions,
        reservations: Sequence[Reservation],
    ) -> bool:
        """Write the steps that stand in for those of one host, if there are any."""
        operation, now_s = self._operation, self._work.clock.monotonic()
        vms = {vm.id: vm for vm in here.values()}
        for vm in vms.values():
            self._tried[vm.id] = (circumstances(vm, inventory), now_s)
        others = [one for one in reservations if one.operation != operation.id or one.vm not in vms]
        steps = fresh_steps(operation, list(vms.values()), inventory, options, others)
        handled = {step.vm: step for step in steps}
        replaces = tuple(
            number
            for number, vm in here.items()
            if vm.id in handled and self._is_better(operation.step(number), handled[vm.id].targets)
        )
        kept = {operation.step(number).planned.vm for number in replaces}
        steps = numbered(
            tuple(step for step in steps if step.vm in kept), first=len(operation.steps) + 1
        )
        if not steps:
            return False
        event = PlanExtended(
            steps=steps,
            roster=(),
            why="; ".join(dict.fromkeys(stuck[number] for number in replaces)),
            replaces=replaces,
            changes=differences(operation, replaces, steps),
        )
        targets = {step.targets[0] for step in steps if step.targets}
        # Refused: somebody else has the room; it is looked at again.
        with suppress(Refused, Conflict):
            await self._ledger.record_if_unchanged(event, terms=terms_of(inventory, targets))
            log.info("planned anew", operation=operation.id, changes=event.changes)
            return True
        return False

    def _is_better(self, step: Step, targets: Sequence[HostName]) -> bool:
        """Whether a new plan is worth it for a step: one that has failed and is not waited for is
        not sent again where it was refused."""
        if step.state is not StepState.FAILED or waits_for_failed(self._operation):
            return True
        return bool(targets) and targets[0] not in step.planned.targets

    # --- who has left by other hands -----------------------------------------------------------

    async def _take_leave(self, step: Step, inventory: Inventory) -> bool:
        """A VM that is waited for and is not on its host any more: say what became of it."""
        vm, host = step.planned.vm, step.planned.host
        if vm is None or not waits_for_failed(self._operation):
            return False
        if not inventory.host(host).is_connected or vm_of(step, inventory) is not None:
            return False
        looks = await look_everywhere(self._work, vm, host)
        fate = _fate_of(looks, host)
        if fate is None:
            return False
        outcome, why, where = fate
        with suppress(Conflict):
            await self._ledger.record_if_unchanged(
                StepOvertaken(
                    step=step.number,
                    why=why,
                    outcome=outcome,
                    where=where,
                    evidence=Evidence(looks=tuple(looks), meaning=why),
                )
            )
            return True
        return False

    # --- the way back --------------------------------------------------------------------------

    async def plan_way_back(self) -> None:
        """Write the steps that bring back who has left. `Refused` or `Conflict` where the facts
        have changed since they were planned."""
        operation = self._operation
        modes = modes_of(await self._work.store.standings())
        hosts = [host for host in operation.hosts if modes.get(host) is HostMode.ENTERING]
        await self._work.observer.refresh()
        inventory = await self._work.observer.inventory()
        reservations = await self._work.store.reservations()
        plan, _ = plan_put_back(operation, inventory, hosts, reservations)
        targets = {step.targets[0] for step in plan.steps if step.targets}
        await self._ledger.record_if_unchanged(
            PlanExtended(steps=plan.steps, roster=(), why="those that have left are put back"),
            terms=terms_of(inventory, targets),
        )


def _is_doubtful(step: Step) -> bool:
    """Whether the plan of a step may not hold: a move that has yet to begin, or one that has
    failed."""
    return has_failed(step) or (step.state is StepState.PENDING and step.method is Method.LIVE)


def _fate_of(looks: Sequence[Look], home: HostName) -> tuple[Outcome, str, HostName | None] | None:
    """What became of a VM by the looks at every host; None where it is at home, or may be."""
    at_home = next((look for look in looks if look.host == home), None)
    is_silent = any(look.presence is Presence.SILENT for look in looks)
    is_active = any(look.is_here for look in looks)
    if at_home is None or at_home.is_here or (is_silent and not is_active):
        return None
    if at_home.presence is Presence.SILENT:
        return None
    if at_home.presence is Presence.ABSENT or at_home.why is Why.MIGRATED:
        return fate_elsewhere(looks, home)
    outcome, why = fate_at_home(at_home)
    return outcome, why, home
