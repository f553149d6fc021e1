"""Steps that change the power of one VM where it is: start, shut down, power off.

Each looks first, acts, and looks again until the effect is seen; what is so already is not done.
"""

from __future__ import annotations

import asyncio

from furlough.core.admission import terms_of
from furlough.core.ids import HostName, VmId
from furlough.core.journal import StepActed, StepFailed, StepStarted, StepSucceeded
from furlough.core.looks import Look, Presence
from furlough.core.operation import Act, Evidence, Failure, Outcome, Step
from furlough.core.plan import Method
from furlough.core.policy import ActionOptions
from furlough.core.retry import retry_at
from furlough.core.states import OperationState, StepState
from furlough.engine.ledger import Ledger
from furlough.engine.work import Work
from furlough.errors import Bug, FurloughError, Refused, Stale, Unreachable

_DEFAULT_GRACE_S = 120.0
_SEEN_WITHIN_S = 20.0


class PowerStep:
    """One step about the power of one VM. Subclasses say what is done and when it is so."""

    outcome: Outcome

    def __init__(self, work: Work, ledger: Ledger, number: int) -> None:
        self._work = work
        self._ledger = ledger
        self._number = number
        planned = self._step.planned
        if planned.vm is None:
            raise Bug("plan.incomplete", f"{self._step.id} is about no VM.")
        self._vm: VmId = planned.vm
        self._host: HostName = planned.host

    @property
    def _step(self) -> Step:
        return self._ledger.operation.step(self._number)

    async def attempt(self) -> None:
        """Write the intent where it may be done, then see it through."""
        operation = self._ledger.operation
        target = self._step.next_target
        terms = terms_of(await self._work.observer.inventory(), self._step.planned.targets)
        try:
            await self._ledger.record_if_unchanged(
                StepStarted(step=self._number, target=target, epoch=operation.epoch), terms=terms
            )
        except Stale:
            return
        except Refused as error:
            await self._fail(error)
            return
        await self.adopt()

    async def adopt(self) -> None:
        """See it through: done is what a look shows."""
        began = self._work.clock.monotonic()
        while self._step.state is StepState.STARTED:
            look = await self._work.hypervisor.look(self._host, self._vm)
            waited_s = self._work.clock.monotonic() - began
            try:
                if look.presence is Presence.SILENT:
                    await self._wait("host.silent", f"{self._host} does not answer")
                elif self._is_done(look):
                    await self._succeed(look)
                elif waited_s >= self._patience_s or self._is_cancelling:
                    await self._fail(self._too_late())
                else:
                    await self._act(look)
            except Unreachable as error:
                await self._wait(error.code, error.message)
            except Refused as error:
                await self._fail(error)
            if self._step.state is StepState.STARTED:
                await self._work.clock.sleep(self._work.pace.poll_s)

    async def abort(self) -> None:
        """Nothing of it can be stopped; the cancel is seen at the next look."""

    @property
    def _patience_s(self) -> float:
        return _SEEN_WITHIN_S

    @property
    def _is_cancelling(self) -> bool:
        return self._ledger.operation.state is OperationState.CANCELLING

    def _is_done(self, look: Look) -> bool:
        return look.presence in (Presence.SHUT_OFF, Presence.ABSENT) and not look.has_process

    async def _act(self, _look: Look) -> None:
        raise NotImplementedError

    def _too_late(self) -> Refused:
        return Refused("hypervisor.failed", f"No effect was seen in {self._patience_s:.0f} s.")

    async def _succeed(self, look: Look) -> None:
        await self._wait("", "")
        await self._ledger.record(
            StepSucceeded(
                step=self._number,
                outcome=self.outcome,
                where=self._host,
                evidence=Evidence(looks=(look,), meaning="seen"),
            )
        )

    async def _fail(self, error: FurloughError) -> None:
        await self._wait("", "")
        failure = Failure(code=error.code, message=error.message, remedy=error.remedy)
        again = (
            None if self._is_cancelling else retry_at(self._step, failure, self._work.clock.now())
        )
        await self._ledger.record(
            StepFailed(step=self._number, failure=failure, where=self._host, not_before=again)
        )

    async def _wait(self, code: str, words: str) -> None:
        await self._ledger.wait(self._number, code, words)


class Starting(PowerStep):
    """Start a VM, after seeing that no host runs it: a second copy is the worst there is."""

    outcome = Outcome.STARTED

    def _is_done(self, look: Look) -> bool:
        return look.presence is Presence.RUNNING

    async def _act(self, _look: Look) -> None:
        hosts = await self._work.all_hosts(self._host)
        looks = await asyncio.gather(
            *(self._work.hypervisor.look(host, self._vm) for host in hosts)
        )
        silent = [one.host for one in looks if one.presence is Presence.SILENT]
        if silent:
            raise Unreachable("host.silent", f"{', '.join(silent)}: the VM may run there")
        running = [one.host for one in looks if one.is_here]
        if running and running != [self._host]:
            raise Refused("vm.changed", f"It is active on {', '.join(running)} already.")
        if not running:
            await self._work.hypervisor.start(self._host, self._vm)


class ShuttingDown(PowerStep):
    """Ask the guest to shut down, again and again, until it has or its grace is over."""

    outcome = Outcome.STOPPED

    def __init__(self, work: Work, ledger: Ledger, number: int) -> None:
        super().__init__(work, ledger, number)
        self._asked_at: float | None = None

    @property
    def _patience_s(self) -> float:
        options = self._ledger.operation.options
        return options.grace_s if isinstance(options, ActionOptions) else _DEFAULT_GRACE_S

    async def _act(self, _look: Look) -> None:
        now = self._work.clock.monotonic()
        again_s = self._work.pace.shut_down_again_s
        if self._asked_at is not None and now - self._asked_at < again_s:
            return
        self._asked_at = now
        await self._ledger.record(
            StepActed(
                step=self._number, act=Act.SHUT_DOWN, host=self._host, why="the guest is asked"
            )
        )
        await self._work.hypervisor.shut_down(self._host, self._vm)

    def _too_late(self) -> Refused:
        return Refused(
            "guest.ignored",
            f"The guest did not shut down within {self._patience_s:.0f} s.",
            remedy="Shut it down from inside, or power it off.",
        )


class PoweringOff(PowerStep):
    """Cut the power."""

    outcome = Outcome.STOPPED

    async def _act(self, _look: Look) -> None:
        await self._work.hypervisor.power_off(self._host, self._vm, self._ledger.operation.epoch)


POWER_STEPS: dict[Method, type[PowerStep]] = {
    Method.START: Starting,
    Method.SHUT_DOWN: ShuttingDown,
    Method.POWER_OFF: PoweringOff,
}
