"""Steps about a host: raise its guard, confirm that it is empty, lower its guard.

All three may be carried out any number of times: raising and lowering set a state, confirming
only looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from furlough.core.admission import terms_of
from furlough.core.holding import waits_for_failed
from furlough.core.ids import VmId
from furlough.core.inventory import Inventory, Vm
from furlough.core.journal import (
    Event,
    HostModeChanged,
    PlanExtended,
    StepFailed,
    StepStarted,
    StepSucceeded,
)
from furlough.core.operation import Evidence, Failure, Operation, RosterEntry, Step
from furlough.core.plan import Method, OperationKind, PlannedStep
from furlough.core.policy import Automation, EnterOptions
from furlough.core.retry import retry_at
from furlough.core.states import HostMode, OperationState, StepState
from furlough.engine.ledger import Ledger
from furlough.engine.work import Work
from furlough.errors import Conflict, FurloughError, Refused, Stale, Unreachable
from furlough.planning.assessment import Assessment
from furlough.planning.candidates import arriving, movers
from furlough.planning.hands_off import still_there
from furlough.planning.planner import before, plan_remainder
from furlough.ports import Occupancy
from furlough.prechecks.assessing import assess

# How often one VM may reappear on a host that is being emptied before a person is asked.
_MOST_RETURNS = 3
# How long a cancelled operation waits for a silent host before it leaves the step undone.
_PATIENCE_S = 30.0


class HostStep:
    """One step about a host. Subclasses say what is done."""

    def __init__(self, work: Work, ledger: Ledger, number: int) -> None:
        self._work = work
        self._ledger = ledger
        self._number = number
        self._host = self._step.planned.host

    @property
    def _step(self) -> Step:
        return self._ledger.operation.step(self._number)

    async def attempt(self) -> None:
        """Write the intent, then act until it is done, refused, or nobody wants it any more."""
        intent = StepStarted(step=self._number, target=None, epoch=self._ledger.operation.epoch)
        try:
            await self._ledger.record_if_unchanged(intent)
        except Stale:
            return
        await self.adopt()

    async def adopt(self) -> None:
        """The same for a step that is started already: what it does may be done twice."""
        since = self._work.clock.monotonic()
        while self._step.state is StepState.STARTED:
            try:
                await self._act()
            except Unreachable as error:
                await self._wait(error.code, error.message)
                waited_s = self._work.clock.monotonic() - since
                if self._is_cancelling and waited_s >= _PATIENCE_S:
                    await self._fail(error)
            except Refused as error:
                await self._fail(error)
            if self._step.state is StepState.STARTED:
                await self._work.clock.sleep(self._work.pace.poll_s)

    async def abort(self) -> None:
        """Nothing of it needs to be stopped."""

    async def _act(self) -> None:
        """Do it once; record the success, or return to be called again."""
        raise NotImplementedError

    @property
    def _is_cancelling(self) -> bool:
        return self._ledger.operation.state is OperationState.CANCELLING

    async def _fail(self, error: FurloughError) -> None:
        await self._wait("", "")
        failure = Failure(code=error.code, message=error.message, remedy=error.remedy)
        again = retry_at(self._step, failure, self._work.clock.now())
        if self._is_cancelling:
            again = None
        await self._ledger.record(
            StepFailed(step=self._number, failure=failure, not_before=again, where=self._host)
        )

    async def _succeed(self, meaning: str, *more: Event) -> None:
        await self._wait("", "")
        evidence = Evidence(meaning=meaning)
        await self._ledger.record(StepSucceeded(step=self._number, evidence=evidence), *more)

    async def _wait(self, code: str, words: str) -> None:
        await self._ledger.wait(self._number, code, words)


class GuardRaising(HostStep):
    """From now on nothing starts there but the VMs that are admitted."""

    async def _act(self) -> None:
        operation = self._ledger.operation
        marker = self._work.marker(operation.id, operation.epoch, self._step.planned.admit)
        with suppress(Unreachable):  # In doubt: the look tells.
            await self._work.hypervisor.raise_guard(self._host, marker)
        seen = (await self._work.hypervisor.occupancy(self._host)).marker
        if seen is None or seen.epoch < operation.epoch or set(seen.admit) != set(marker.admit):
            raise Unreachable("guard.unseen", f"The marker on {self._host} is not as written.")
        await self._succeed(f"marker of {operation.id}, epoch {operation.epoch}, seen on the host")
        await self._work.observer.refresh([self._host])


class GuardLowering(HostStep):
    """From now on the host takes VMs again."""

    async def _act(self) -> None:
        operation = self._ledger.operation
        marker = self._work.marker(operation.id, operation.epoch)
        with suppress(Unreachable):  # In doubt: the look tells.
            await self._work.hypervisor.lower_guard(self._host, marker)
        if (await self._work.hypervisor.occupancy(self._host)).marker is not None:
            raise Unreachable("guard.unseen", f"The marker on {self._host} is still there.")
        await self._succeed("no marker seen on the host")
        await self._work.observer.refresh([self._host])


class Emptiness(HostStep):
    """The proof that a host is empty, and with it the mode `maintenance`.

    Marker seen, nothing listed, no process, nothing under way, twice with a pause between: a
    start that had passed the hook just before the marker would show up the second time. A VM that
    appeared meanwhile joins the operation.
    """

    async def _act(self) -> None:
        if self._is_entering and self._is_cancelling:
            raise Refused("cancelled", "The operation was cancelled before the proof.")
        first = await self._work.hypervisor.occupancy(self._host)
        if not await self._accepts(first):
            return
        await self._check_hook()
        await self._work.clock.sleep(self._work.pace.empty_pause_s)
        second = await self._work.hypervisor.occupancy(self._host)
        if not await self._accepts(second):
            return
        standing = (await self._work.store.standings())[self._host]
        change = HostModeChanged(host=self._host, before=standing.mode, after=HostMode.MAINTENANCE)
        try:
            await self._succeed("no VM listed, no process, nothing under way, twice", change)
        except Conflict as error:
            await self._wait(error.code, error.message)

    async def _check_hook(self) -> None:
        """A marker keeps nobody away unless the hook that reads it was seen to refuse. Where an
        operator accepted that it was not, the host is shown as unproven."""
        if UNPROVEN in _options(self._ledger.operation).override:
            return
        await self._work.observer.refresh([self._host])
        host = (await self._work.observer.inventory()).host(self._host)
        if not host.is_connected:
            raise Unreachable("host.silent", f"{self._host} does not answer.")
        trouble = host.guard_trouble and await self._work.hypervisor.prove_guard(self._host)
        if trouble:
            raise Refused(
                UNPROVEN,
                f"Nothing is sure to keep {self._host} empty: {trouble}.",
                remedy=f"Mend it (furlough host prepare {self._host}) and enter again, or accept "
                f"it: --override {UNPROVEN} --reason WHY.",
            )

    async def _accepts(self, seen: Occupancy) -> bool:
        """Whether this look shows an empty, guarded host; what it shows instead is dealt with."""
        if seen.marker is None or seen.marker.operation != self._ledger.operation.id:
            raise Refused(
                "guard.missing",
                f"The marker on {self._host} is gone or of another operation.",
                remedy="Find out who took it away, then enter again.",
            )
        is_left = self._is_entering and await self._is_left_to_people()
        if seen.is_empty and not is_left:
            return True
        if not self._is_entering:
            raise Refused("host.not_empty", seen.words)
        if is_left:
            return False
        if seen.active:
            await self._work.observer.refresh()
            await self._take_in(seen, await self._work.observer.inventory())
        else:
            await self._wait("host.not_empty", seen.words)
        return False

    @property
    def _is_entering(self) -> bool:
        return self._ledger.operation.kind is OperationKind.ENTER

    async def _is_left_to_people(self) -> bool:
        """Whether people, who do the moving themselves, have yet to take VMs off the host; if so,
        the operation says which."""
        options = _options(self._ledger.operation)
        if options.automation is not Automation.OFF:
            return False
        await self._work.observer.refresh([self._host])
        inventory = await self._work.observer.inventory()
        left = still_there(inventory, self._host, options)
        if left:
            names = ", ".join(vm.name for vm in left)
            await self._wait(
                "awaiting_empty",
                f"people to move or shut down {len(left)} VM(s) on {self._host}: {names}",
            )
        return bool(left)

    async def _take_in(self, seen: Occupancy, inventory: Inventory) -> None:
        """Plan for the VMs that are there all the same, and come back when they have left."""
        here = movers(inventory, self._host)
        coming = arriving(inventory, self._host)
        found = [vm for vm in here if self._may_return(vm)]
        if not here and coming:
            names = ", ".join(vm.name for vm in coming)
            await self._wait("host.not_empty", f"still arriving on {self._host}: {names}")
            return
        if not here:
            # A process without a VM that runs: nobody can move that.
            await self._wait("host.not_empty", seen.words)
            return
        if not found:
            names = ", ".join(vm.name for vm in here)
            await self._wait("host.refills", f"VM(s) keep appearing on {self._host}: {names}")
            return
        assessment = await self._assess(found, inventory)
        steps = plan_remainder(
            inventory,
            self._host,
            assessment,
            first=len(self._ledger.operation.steps) + 1,
            order=_options(self._ledger.operation).order,
        )
        steps = tuple(step for step in steps if step.vm in {vm.id for vm in found})
        if not steps:
            await self._say_who_stays(here, assessment)
            return
        try:
            await self._extend(steps, found, inventory)
        except (Refused, Conflict) as error:
            # Somebody else has the VM or the room; until they are done.
            await self._wait(error.code, error.message)
            return
        await self._wait("", "")

    async def _say_who_stays(self, here: Sequence[Vm], assessment: Assessment) -> None:
        """Nobody can be taken off any more. Where all that stay are to be left, as the operator
        has accepted, that is the end of it; else a person has to do something."""
        chosen = {one.vm: one for one in assessment.dispositions if one.host == self._host}
        left = [vm for vm in here if chosen[vm.id].method is Method.LEAVE]
        waits = waits_for_failed(self._ledger.operation)
        if (
            not waits
            and len(left) == len(here)
            and LEAVE in _options(self._ledger.operation).override
        ):
            names = ", ".join(f"{vm.name} ({vm.id})" for vm in left)
            raise Refused(
                "vm.left",
                f"{self._host} is not empty: {names} stay(s), as accepted.",
                remedy="Service it as it is, or move or shut down these by hand and enter again.",
            )
        code = LEAVE if len(left) == len(here) else "vm.no_target"
        reasons = "; ".join(f"{vm.name}: {chosen[vm.id].reason}" for vm in here)
        await self._wait(
            code, f"a person: {self._host} is not empty, and nobody can be moved on: {reasons}"
        )

    async def _extend(
        self, steps: tuple[PlannedStep, ...], found: Sequence[Vm], inventory: Inventory
    ) -> None:
        """This step stands back behind those that take away who was found."""
        failure = Failure(code="host.not_empty", message="VMs appeared while it was emptied.")
        handled = {step.vm for step in steps}
        newcomers = [vm for vm in found if vm.id in handled]
        await self._ledger.record(
            StepFailed(
                step=self._number,
                failure=failure,
                counts=False,
                not_before=self._work.clock.now(),
            ),
            PlanExtended(
                steps=steps,
                roster=_new_entries(newcomers, self._ledger.operation),
                why="VMs appeared after the plan was made",
            ),
            terms=terms_of(inventory, {step.targets[0] for step in steps if step.targets}),
        )

    async def _assess(self, found: Sequence[Vm], inventory: Inventory) -> Assessment:
        """What is to be done with those that were found, by policy. What this operation holds for
        them already, from an earlier move, is theirs to use again."""
        which, again = self._ledger.operation.id, {vm.id for vm in found}
        reservations = [
            one
            for one in await self._work.store.reservations()
            if one.operation != which or one.vm not in again
        ]
        options = _options(self._ledger.operation)
        return assess(inventory, [self._host], options, reservations)

    def _may_return(self, vm: Vm) -> bool:
        moves = [
            step
            for step in self._ledger.operation.steps
            if step.planned.vm == vm.id and not step.is_overtaken
        ]
        return len(moves) < _MOST_RETURNS


UNPROVEN, LEAVE = "guard.unproven", "vm.leave"


def _options(operation: Operation) -> EnterOptions:
    return operation.options if isinstance(operation.options, EnterOptions) else EnterOptions()


def _new_entries(vms: Sequence[Vm], operation: Operation) -> tuple[RosterEntry, ...]:
    """Roster entries for those that the operation was not about before."""
    known: set[VmId] = {entry.vm for entry in operation.roster}
    return tuple(
        RosterEntry(vm=vm.id, name=vm.name, host=vm.host, before=before(vm))
        for vm in vms
        if vm.id not in known
    )


HOST_STEPS: dict[Method, type[HostStep]] = {
    Method.RAISE_GUARD: GuardRaising,
    Method.LOWER_GUARD: GuardLowering,
    Method.CONFIRM_EMPTY: Emptiness,
}
