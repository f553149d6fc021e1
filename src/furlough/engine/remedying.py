"""Steps that take a medium out of a drive of a VM, or put it back.

Each looks first, acts, and looks again until the effect is seen. A drive in which the VM's owner
has put something else meanwhile is left as it is.
"""

from __future__ import annotations

from furlough.core.ids import VmId
from furlough.core.journal import StepFailed, StepSkipped, StepStarted, StepSucceeded
from furlough.core.operation import Evidence, Failure, Outcome, Step
from furlough.core.plan import Method
from furlough.core.retry import retry_at
from furlough.core.states import OperationState, StepState
from furlough.engine.ledger import Ledger
from furlough.engine.work import Work
from furlough.errors import Bug, FurloughError, Refused, Stale, Unreachable
from furlough.planning.remedies import DriveSight, DriveState, look_at_drive

_SEEN_WITHIN_S = 20.0


class MediumStep:
    """One step about one drive of one VM. Subclasses say what is wanted of the drive."""

    wanted: DriveState
    """How the drive is when the step is done."""
    before: DriveState
    """How it is when there is something to do."""
    advice: str

    def __init__(self, work: Work, ledger: Ledger, number: int) -> None:
        self._work = work
        self._ledger = ledger
        self._number = number
        planned = self._step.planned
        if planned.vm is None or not planned.drive:
            raise Bug("plan.incomplete", f"{self._step.id} is about no drive of a VM.")
        self._vm: VmId = planned.vm

    @property
    def _step(self) -> Step:
        return self._ledger.operation.step(self._number)

    async def attempt(self) -> None:
        """Write the intent where there is something to do, then see it through."""
        sight = await self._look()
        try:
            if sight.state is not DriveState.SILENT and not self._is_to_do(sight):
                await self._ledger.record_if_unchanged(self._leaving(sight))
                return
            await self._ledger.record_if_unchanged(
                StepStarted(step=self._number, target=None, epoch=self._ledger.operation.epoch)
            )
        except Stale:
            return
        await self.adopt()

    async def adopt(self) -> None:
        """See it through: done is what a look shows."""
        began = self._work.clock.monotonic()
        while self._step.state is StepState.STARTED:
            sight = await self._look()
            waited_s = self._work.clock.monotonic() - began
            try:
                await self._go_on(sight, waited_s)
            except Unreachable as error:
                await self._wait(error.code, error.message)
            except Refused as error:
                await self._refused(error)
            if self._step.state is StepState.STARTED:
                await self._work.clock.sleep(self._work.pace.poll_s)

    async def abort(self) -> None:
        """Nothing of it can be stopped; the cancel is seen at the next look."""

    async def _go_on(self, sight: DriveSight, waited_s: float) -> None:
        if sight.state is DriveState.SILENT:
            await self._wait("host.silent", sight.words)
        elif sight.state is self.wanted:
            await self._succeed(sight)
        elif not self._is_to_do(sight):
            await self._wait("", "")
            await self._ledger.record(self._leaving(sight))
        elif waited_s >= _SEEN_WITHIN_S or self._is_cancelling:
            raise Refused("hypervisor.failed", f"No effect was seen: {sight.words}.")
        else:
            planned = self._step.planned
            await self._work.hypervisor.change_medium(
                planned.host, self._vm, planned.drive, self._medium
            )

    async def _look(self) -> DriveSight:
        planned = self._step.planned
        await self._work.observer.refresh([planned.host])
        return look_at_drive(planned, await self._work.observer.inventory())

    @property
    def _medium(self) -> str:
        """What is to be in the drive."""
        raise NotImplementedError

    def _is_to_do(self, sight: DriveSight) -> bool:
        return sight.state is self.before

    def _leaving(self, sight: DriveSight) -> StepSkipped:
        """Nothing is to be done, or nothing may be done any more."""
        is_away = sight.state is DriveState.ELSEWHERE
        return StepSkipped(
            step=self._number,
            why=sight.words,
            outcome=Outcome.STAYED if is_away else Outcome.CHANGED_BY_OTHERS,
            where=None if sight.state is DriveState.GONE else self._step.planned.source,
        )

    @property
    def _is_cancelling(self) -> bool:
        return self._ledger.operation.state is OperationState.CANCELLING

    async def _succeed(self, sight: DriveSight) -> None:
        await self._wait("", "")
        await self._ledger.record(
            StepSucceeded(
                step=self._number,
                outcome=Outcome.REMEDIED,
                where=self._step.planned.host,
                evidence=Evidence(meaning=sight.words),
            )
        )

    async def _refused(self, error: Refused) -> None:
        await self._fail(error)

    async def _fail(self, error: FurloughError) -> None:
        await self._wait("", "")
        failure = Failure(
            code=error.code, message=error.message, remedy=error.remedy or self._advice()
        )
        again = (
            None if self._is_cancelling else retry_at(self._step, failure, self._work.clock.now())
        )
        await self._ledger.record(
            StepFailed(
                step=self._number,
                failure=failure,
                where=self._step.planned.host,
                not_before=again,
            )
        )

    def _advice(self) -> str:
        planned = self._step.planned
        return self.advice.format(
            host=planned.host, vm=planned.vm, drive=planned.drive, medium=planned.medium
        )

    async def _wait(self, code: str, words: str) -> None:
        await self._ledger.wait(self._number, code, words)


class Ejecting(MediumStep):
    """Take out what the plan names, and nothing else."""

    wanted, before = DriveState.EMPTY, DriveState.HOLDS
    advice = (
        "Unmount the medium inside the guest, which may have locked its drive, and try again; or "
        "take it out by hand: virsh change-media {vm} {drive} --eject."
    )

    @property
    def _medium(self) -> str:
        return ""


class Inserting(MediumStep):
    """Put back what was taken out, if the drive is still as we left it."""

    wanted, before = DriveState.HOLDS, DriveState.EMPTY
    advice = (
        "Is {medium} still there? Put it back by hand: virsh change-media {vm} {drive} {medium} "
        "--insert; or try again: furlough check {host} --undo."
    )

    @property
    def _medium(self) -> str:
        return self._step.planned.medium

    async def _refused(self, error: Refused) -> None:
        """A drive that is gone is its owner's doing, like one that holds something else."""
        if error.code != "vm.changed" or (await self._look()).state is not self.before:
            await self._fail(error)
            return
        await self._wait("", "")
        gone = DriveSight(state=DriveState.OTHER, words=error.message)
        await self._ledger.record(self._leaving(gone))


MEDIUM_STEPS: dict[Method, type[MediumStep]] = {
    Method.EJECT: Ejecting,
    Method.INSERT: Inserting,
}
