"""Steps that change the power of one VM where it is: start, shut down, suspend, power off.

Each looks first, acts, and looks again until the effect is seen; what is so already is not done.

    an evacuation stops a VM    off before its turn, not by us  -> skipped, saying what became of it
                                no definition                   -> refused: it would be gone
    an exit starts a VM         active elsewhere, or gone       -> skipped: others have changed it
"""

from __future__ import annotations

from contextlib import suppress

from furlough.core.admission import terms_of
from furlough.core.ids import HostName, VmId
from furlough.core.journal import StepActed, StepFailed, StepSkipped, StepStarted, StepSucceeded
from furlough.core.looks import Job, Look, Presence, Why
from furlough.core.not_home import RETURNS
from furlough.core.operation import Act, Evidence, Failure, Outcome, Step
from furlough.core.plan import Method, OperationKind
from furlough.core.policy import ActionOptions, CancelMode
from furlough.core.retry import retry_at
from furlough.core.states import OperationState, Power, StepState
from furlough.engine.ledger import Ledger
from furlough.engine.whereabouts import fate_at_home, fate_elsewhere, look_everywhere, search
from furlough.engine.work import Work
from furlough.errors import Bug, FurloughError, Refused, Stale, Unreachable

_DEFAULT_GRACE_S = 120.0
_SEEN_WITHIN_S = 20.0
# A guest that was asked may still obey after nobody wants it any more: so long it is watched.
_AFTERTHOUGHT_S = 30.0
# How long a process may take to die, and how often its power is cut until then.
_DIES_WITHIN_S = 60.0
_CUT_AGAIN_S = 10.0


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
        self._began_at = 0.0
        self._unwanted_at: float | None = None
        self._trouble: Unreachable | None = None

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
        self._began_at = self._work.clock.monotonic()
        while self._step.state is StepState.STARTED:
            look = await self._work.hypervisor.look(self._host, self._vm)
            try:
                await self._advance(look)
            except Unreachable as error:
                self._trouble = error
                await self._wait(error.code, error.message)
            except Refused as error:
                await self._fail(error)
            if self._step.state is StepState.STARTED:
                await self._work.clock.sleep(self._work.pace.poll_s)

    async def abort(self) -> None:
        """Nothing of it can be stopped; the cancel is seen at the next look."""

    async def _advance(self, look: Look) -> None:
        """One look further: it is done, it is too late, or there is something to do."""
        if look.presence is Presence.SILENT:
            await self._wait("host.silent", f"{self._host} does not answer")
        elif self._is_done(look):
            await self._succeed(look)
        elif self._is_unwanted:
            await self._give_up()
        elif self._waited_s >= self._patience_s:
            await self._fail(self._trouble or self._too_late())
        else:
            await self._act(look)

    @property
    def _waited_s(self) -> float:
        return self._work.clock.monotonic() - self._began_at

    @property
    def _patience_s(self) -> float:
        return _SEEN_WITHIN_S

    @property
    def _is_cancelling(self) -> bool:
        return self._ledger.operation.state is OperationState.CANCELLING

    @property
    def _is_unwanted(self) -> bool:
        return self._is_cancelling

    def _is_done(self, look: Look) -> bool:
        return look.presence in (Presence.SHUT_OFF, Presence.ABSENT) and not look.has_process

    async def _act(self, look: Look) -> None:
        raise NotImplementedError

    async def _give_up(self) -> None:
        """The operation is being cancelled, or its time is over, and it is not done."""
        await self._fail(self._cancelled())

    def _cancelled(self) -> Refused:
        if self._ledger.operation.has_timed_out:
            return Refused("timed_out", "Time was over before it was done.")
        return Refused("cancelled", "The operation was cancelled before it was done.")

    def _too_late(self) -> Refused:
        return Refused("hypervisor.failed", f"No effect was seen in {self._patience_s:.0f} s.")

    async def _announce(self, act: Act, why: str) -> None:
        await self._ledger.record(StepActed(step=self._number, act=act, host=self._host, why=why))

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
        await self._conclude(
            StepFailed(step=self._number, failure=failure, where=self._host, not_before=again)
        )

    async def _skip(self, look: Look) -> None:
        """Others have changed it: say what became of it, after looking everywhere."""
        outcome, why = fate_at_home(look)
        looks, where = [look], self._host
        if look.presence is Presence.ABSENT or look.why is Why.MIGRATED:
            found = await search(self._work, self._ledger, self._number, self._vm, self._host)
            outcome, why, seen_on = fate_elsewhere(found, self._host)
            looks, where = found or looks, seen_on or self._host
        await self._leave(outcome, why, where, looks)

    async def _leave(self, outcome: Outcome, why: str, where: HostName, looks: list[Look]) -> None:
        await self._wait("", "")
        await self._conclude(
            StepSkipped(
                step=self._number,
                why=why,
                outcome=outcome,
                where=where,
                evidence=Evidence(looks=tuple(looks), meaning=why),
            )
        )

    async def _conclude(self, event: StepFailed | StepSkipped) -> None:
        """Record how it ended. One that has not started may be skipped by a cancel at the same
        moment: then the cancel was first."""
        if self._step.state is StepState.STARTED:
            await self._ledger.record(event)
            return
        with suppress(Stale):
            if self._step.state is StepState.PENDING:
                await self._ledger.record_if_unchanged(event)

    async def _wait(self, code: str, words: str) -> None:
        await self._ledger.wait(self._number, code, words)


class Starting(PowerStep):
    """Start a VM, after seeing that no host runs it: a second copy is the worst there is."""

    outcome = Outcome.STARTED

    def _is_done(self, look: Look) -> bool:
        was_paused = self._step.planned.before.power is Power.PAUSED
        # A saved VM that was paused goes on paused.
        return look.presence is Presence.RUNNING or (
            look.presence is Presence.PAUSED and was_paused
        )

    async def _act(self, look: Look) -> None:
        looks = await look_everywhere(self._work, self._vm, self._host)
        silent = [one.host for one in looks if one.presence is Presence.SILENT]
        running = [one.host for one in looks if one.is_here and one.host != self._host]
        if running and self._is_return:
            why = f"somebody started it on {running[0]}"
            await self._leave(Outcome.CHANGED_BY_OTHERS, why, running[0], looks)
        elif running:
            raise Refused(
                "vm.changed",
                f"It is active on {', '.join(running)} already.",
                remedy="Move it, or shut it down there first.",
            )
        elif silent:
            raise Unreachable("host.silent", f"{', '.join(silent)}: the VM may run there")
        elif look.presence is Presence.ABSENT and self._is_return:
            await self._skip(look)
        elif not look.is_here:
            self._trouble = None
            await self._work.hypervisor.start(self._host, self._vm)

    @property
    def _is_return(self) -> bool:
        """Whether an exit starts it, which leaves alone what others have changed since."""
        return self._ledger.operation.kind in RETURNS


class Stopping(PowerStep):
    """A VM that is stopped on request, or that leaves its host by being stopped there."""

    outcome = Outcome.STOPPED

    @property
    def _is_departure(self) -> bool:
        """Whether an evacuation stops it, which will be undone: then it has to be ours."""
        return self._ledger.operation.kind is OperationKind.ENTER

    async def attempt(self) -> None:
        if not self._is_departure or await self._is_ready():
            await super().attempt()

    async def _is_ready(self) -> bool:
        """Look before the start: whether the VM is as the plan has it, and may be stopped."""
        while self._step.state is StepState.PENDING:
            look = await self._work.hypervisor.look(self._host, self._vm)
            if look.presence is Presence.SILENT:
                await self._wait("host.silent", f"{self._host} does not answer")
            elif look.job is not Job.NONE:
                await self._wait("vm.busy", f"another job has {self._step.planned.vm_name}")
            elif not look.is_here:
                if self._has_acted:
                    return True  # An earlier attempt may have done it after all: that is told.
                await self._skip(look)
                return False
            elif not look.is_persistent:
                await self._fail(self._would_be_gone())
                return False
            else:
                await self._wait("", "")
                return True
            await self._work.clock.sleep(self._work.pace.poll_s)
        await self._wait("", "")
        return False

    def _would_be_gone(self) -> Refused:
        return Refused(
            "vm.transient",
            "It has no definition: once stopped it would be gone.",
            remedy="Define it (virsh dumpxml, virsh define), or shut it down by hand.",
        )

    async def _succeed(self, look: Look) -> None:
        if self._is_departure and not (self._has_acted and await self._was_ours(look)):
            await self._skip(look)
        else:
            await super()._succeed(look)

    @property
    def _has_acted(self) -> bool:
        """Whether any attempt so far has asked for its end."""
        return any(attempt.acts for attempt in self._step.attempts)

    async def _was_ours(self, look: Look) -> bool:
        """Whether it is off because we asked for it; what crashed meanwhile is not."""
        return look.why not in (Why.CRASHED, Why.FAILED)

    @property
    def _is_unwanted(self) -> bool:
        """In a cancel that lets what is in flight come to its end, a stop does so too."""
        return self._is_cancelling and self._ledger.operation.cancel is CancelMode.STOP


class ShuttingDown(Stopping):
    """Ask the guest to shut down, again and again, until it has or its grace is over. Its power
    is cut after that only where the plan says so."""

    def __init__(self, work: Work, ledger: Ledger, number: int) -> None:
        super().__init__(work, ledger, number)
        self._acted_at: dict[Act, float] = {}

    @property
    def _grace_s(self) -> float:
        planned, options = self._step.planned, self._ledger.operation.options
        if planned.grace_s > 0:
            return planned.grace_s
        return options.grace_s if isinstance(options, ActionOptions) else _DEFAULT_GRACE_S

    @property
    def _patience_s(self) -> float:
        cut_s = _DIES_WITHIN_S if self._step.planned.may_power_off else 0.0
        return self._grace_s + cut_s

    async def _act(self, look: Look) -> None:
        if self._waited_s >= self._grace_s:
            if self._is_due(Act.POWER_OFF, _CUT_AGAIN_S):
                await self._announce(Act.POWER_OFF, "its grace is over and its policy allows it")
                epoch = self._ledger.operation.epoch
                await self._work.hypervisor.power_off(self._host, self._vm, epoch)
        elif look.presence is Presence.PAUSED:
            raise Refused(
                "vm.changed",
                "It is paused, so its guest cannot shut itself down.",
                remedy=f"Let it run, or power it off: furlough vm power-off {self._vm}.",
            )
        elif self._is_due(Act.SHUT_DOWN, self._work.pace.shut_down_again_s):
            await self._announce(Act.SHUT_DOWN, "the guest is asked")
            await self._work.hypervisor.shut_down(self._host, self._vm)

    def _is_due(self, act: Act, again_s: float) -> bool:
        """Whether to do it now, for the first time or once more."""
        now = self._work.clock.monotonic()
        last = self._acted_at.get(act)
        if last is not None and now - last < again_s:
            return False
        self._acted_at[act] = now
        return True

    async def _give_up(self) -> None:
        """Whoever was asked may still obey: it is watched for a while, and asked no more."""
        now = self._work.clock.monotonic()
        if self._unwanted_at is None:
            self._unwanted_at = now
        if not self._has_acted or now - self._unwanted_at >= _AFTERTHOUGHT_S:
            await super()._give_up()

    def _cancelled(self) -> Refused:
        error = super()._cancelled()
        if not self._has_acted:
            return error
        return Refused(
            error.code,
            f"{error.message} Its guest was asked to shut down, and has not so far.",
            remedy=f"Should it still obey, start it again: furlough vm start {self._vm}.",
        )

    def _too_late(self) -> Refused:
        if self._step.planned.may_power_off:
            return Refused(
                "hypervisor.failed",
                f"Its process is still there {_DIES_WITHIN_S:.0f} s after its power was cut.",
                remedy=f"Look at its storage on {self._host}: a process that waits for a disk does "
                "not die.",
            )
        return Refused(
            "guest.ignored",
            f"The guest did not shut down within {self._grace_s:.0f} s.",
            remedy=f"Shut it down from inside, or power it off: furlough vm power-off {self._vm}.",
        )


class Suspending(Stopping):
    """Save a VM's memory to its host's disk and stop it; its next start goes on from there."""

    async def _advance(self, look: Look) -> None:
        if look.job is not Job.NONE and look.is_here:
            if not self._step.acts:
                await self._wait("vm.busy", f"another job has {self._step.planned.vm_name}")
            self._began_at = self._work.clock.monotonic()  # It takes as long as it takes.
            return
        await super()._advance(look)

    async def _was_ours(self, look: Look) -> bool:
        """Only what was saved goes on: a guest may have shut itself down just before, or have
        died with its host. A daemon that was started anew no longer knows why a VM is off."""
        if look.why is not Why.UNKNOWN:
            return look.why is Why.SAVED
        await self._work.observer.refresh([self._host])
        vms = (await self._work.observer.inventory()).vms_on(self._host)
        return any(vm.id == self._vm and vm.has_managed_save for vm in vms)

    async def _act(self, _look: Look) -> None:
        if Act.SAVE not in self._step.acts:
            await self._announce(Act.SAVE, "its memory is saved on its host")
        await self._work.hypervisor.save(self._host, self._vm)


class PoweringOff(Stopping):
    """Cut the power."""

    async def _act(self, _look: Look) -> None:
        await self._work.hypervisor.power_off(self._host, self._vm, self._ledger.operation.epoch)


POWER_STEPS: dict[Method, type[PowerStep]] = {
    Method.START: Starting,
    Method.SHUT_DOWN: ShuttingDown,
    Method.SUSPEND: Suspending,
    Method.POWER_OFF: PoweringOff,
}
