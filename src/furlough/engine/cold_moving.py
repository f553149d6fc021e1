"""Cold move of one VM: it is off, or is shut down; its definition goes; it is started if it ran.

pending ── look ──► started ── rule ──► act ── look ──► rule ... ──► succeeded
             │                   │
             └► skipped          └► failed, at home again, running if it ran

What comes next is decided by `core.cold_rules` from two looks and the journal, so a restart in the
middle goes on where the hosts are. Every act is journaled before it is made. Once the target has
the definition a cancel no longer turns it round: the shortest way to a VM that runs is ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from furlough.core.admission import terms_of
from furlough.core.cold_rules import ColdRuling, ColdTrail, Next, cold_rule
from furlough.core.ids import HostName
from furlough.core.journal import StepActed, StepFailed, StepStarted, StepSucceeded
from furlough.core.looks import Job, Look, Presence
from furlough.core.operation import Act, Evidence, Failure, Outcome
from furlough.core.plan import Method, OperationKind
from furlough.core.retry import retry_at
from furlough.core.states import Power, StepState
from furlough.engine.ledger import Ledger
from furlough.engine.powering import ShuttingDown
from furlough.engine.whereabouts import fate_at_home, fate_elsewhere, search
from furlough.engine.work import Work
from furlough.errors import Bug, FurloughError, Refused, Stale, Unreachable
from furlough.ports import ColdOrder

# A start that fails is tried again so often, and so long after.
_MOST_STARTS = 3
_START_AGAIN_S = 2.0


class ColdMove(ShuttingDown):
    """One step that moves one VM cold. What asks its guest to shut down is inherited."""

    outcome = Outcome.MOVED

    def __init__(self, work: Work, ledger: Ledger, number: int) -> None:
        super().__init__(work, ledger, number)
        planned = self._step.planned
        if planned.source is None:
            raise Bug("plan.incomplete", f"{self._step.id} moves nothing from nowhere.")
        # What is inherited acts where the VM is, which on the way home is not the step's host.
        self._host: HostName = planned.source
        self._has_to_run = planned.before.power is not Power.SHUT_OFF
        self._failed_starts = 0
        self._why_back: FurloughError | None = None
        self._off_since: float | None = None
        self._is_seen_moved = False
        self._seen_at = 0.0

    # --- before it begins ----------------------------------------------------------------------

    async def attempt(self) -> None:
        """Look, write the intent where the target takes it, and see it through."""
        target = self._step.next_target
        if target is None or not await self._is_ready_for(target):
            return
        operation = self._ledger.operation
        terms = terms_of(await self._work.observer.inventory(), [target])
        intent = StepStarted(step=self._number, target=target, epoch=operation.epoch)
        try:
            await self._ledger.record_if_unchanged(intent, terms=terms)
        except Stale:
            return
        except Refused as error:
            await self._refuse(error, target)
            return
        await self.adopt()

    async def _is_ready_for(self, target: HostName) -> bool:
        """Whether the VM is as the plan has it, and the target has nothing of it."""
        while self._step.state is StepState.PENDING:
            source_look, target_look = await self._look(target)
            if source_look.presence is Presence.SILENT:
                await self._wait("host.silent", f"{self._host} does not answer")
            elif source_look.job is not Job.NONE:
                await self._wait("vm.busy", f"another job has {self._step.planned.vm_name}")
            else:
                await self._wait("", "")
                return await self._judge(source_look, target_look)
            await self._work.clock.sleep(self._work.pace.poll_s)
        await self._wait("", "")
        return False

    async def _judge(self, source: Look, target: Look) -> bool:
        """Whether the attempt may start; if not, why is on record."""
        is_off = source.presence is Presence.SHUT_OFF and not source.has_process
        if not source.is_here and (self._has_to_run or not is_off):
            await self._skip(source)
            return False
        trouble = self._against(source, target) or await self._against_copying(target.host)
        if trouble is not None:
            await self._refuse(trouble, target.host)
            return False
        return True

    async def _against_copying(self, target: HostName) -> FurloughError | None:
        """Nobody is shut down for a move that cannot come about."""
        try:
            await self._work.hypervisor.check_cold(self._order(self._host, target))
        except (Refused, Unreachable) as error:
            return error
        return None

    def _against(self, source: Look, target: Look) -> Refused | None:
        name = self._step.planned.vm_name
        if source.is_here and not self._has_to_run:
            return Refused(
                "vm.changed",
                f"VM {name} was off when it was planned, and is {source.presence.value} now.",
                remedy="Enter again: what runs is moved otherwise.",
            )
        if not source.is_persistent:
            return self._would_be_gone()
        if source.presence is Presence.PAUSED:
            return Refused(
                "vm.changed",
                "It is paused, so its guest cannot shut itself down.",
                remedy=f"Let it run, or power it off: furlough vm power-off {self._vm}.",
            )
        if target.presence is Presence.SILENT:
            return Refused("host.silent", f"Target {target.host} is silent.")
        if target.presence is not Presence.ABSENT or target.has_process:
            return Refused("target.refused", f"Something of this VM is on the target: {target}.")
        return None

    async def _refuse(self, error: FurloughError, target: HostName) -> None:
        """The attempt failed before it began: on to the next target, or later."""
        failure = _failure(error)
        await self._conclude(
            StepFailed(
                step=self._number,
                failure=failure,
                target=target,
                where=self._host,
                not_before=retry_at(self._step, failure, self._work.clock.now()),
            )
        )

    # --- under way -----------------------------------------------------------------------------

    async def adopt(self) -> None:
        """See it through from wherever it is."""
        self._began_at = self._work.clock.monotonic()
        while self._step.state is StepState.STARTED:
            source, target = await self._look(self._target)
            ruling = cold_rule(source, target, self._trail())
            self._note(source)
            try:
                is_done = await self._follow(ruling, source, target)
            except Unreachable as error:
                self._trouble = error
                await self._wait(error.code, error.message)
                is_done = False
            except Refused as error:
                is_done = await self._bear(error, ruling)
            if not is_done and self._step.state is StepState.STARTED:
                await self._work.clock.sleep(self._work.pace.poll_s)

    @property
    def _target(self) -> HostName:
        target = self._step.target
        if target is None:
            raise Bug("step.no_target", f"{self._step.id} was started without a target.")
        return target

    async def _look(self, target: HostName) -> tuple[Look, Look]:
        hypervisor = self._work.hypervisor
        return await asyncio.gather(
            hypervisor.look(self._host, self._vm), hypervisor.look(target, self._vm)
        )

    def _trail(self) -> ColdTrail:
        return ColdTrail(
            has_to_run=self._has_to_run,
            was_stopped=bool(_STOPS & set(self._step.acts)),
            is_unwanted=self._is_unwanted,
            acts=frozenset(self._step.acts),
        )

    def _note(self, source: Look) -> None:
        """Since when its guest has been off: that is its downtime."""
        if not source.is_here and self._off_since is None:
            self._off_since = self._work.clock.monotonic()

    async def _follow(self, ruling: ColdRuling, source: Look, target: Look) -> bool:
        """Do what comes next; whether to look again at once."""
        if ruling.next in (Next.WAIT, Next.ASK):
            await self._wait(ruling.code, f"VM {self._step.planned.vm_name}: {ruling.meaning}")
            return False
        if ruling.next is Next.STOP:
            await self._advance(source)
            return False
        await self._wait("", "")
        if ruling.next in _ACTS:
            await self._do(ruling)
            return True
        ends = {
            Next.MOVED: self._arrive,
            Next.AT_HOME: self._stay,
            Next.CHANGED: self._leave_changed,
            Next.GONE: self._leave_changed,
            Next.REFUSED: self._turn_back,
        }
        return await ends[ruling.next](ruling, source, target)

    async def _do(self, ruling: ColdRuling) -> None:
        """One effect, announced first."""
        acts: dict[Next, Callable[[str], Awaitable[None]]] = {
            Next.COPY: self._copy,
            Next.UNDEFINE_SOURCE: self._undefine_source,
            Next.START_TARGET: self._start_target,
            Next.DEFINE_SOURCE: self._define_source,
            Next.REMOVE_TARGET: self._remove_target,
            Next.START_SOURCE: self._start_source,
        }
        await acts[ruling.next](ruling.meaning)

    async def _copy(self, why: str) -> None:
        await self._announce_once(Act.COPY_STATE, self._target, why)
        copied = await self._work.hypervisor.copy_state(self._order(self._host, self._target))
        words = "; ".join(copied) or "it has no state beside its definition"
        await self._announce_once(Act.DEFINE_TARGET, self._target, words)
        await self._work.hypervisor.copy_definition(self._order(self._host, self._target))

    async def _undefine_source(self, why: str) -> None:
        await self._announce_once(Act.UNDEFINE_SOURCE, self._host, why)
        epoch = self._ledger.operation.epoch
        await self._work.hypervisor.undefine(self._host, self._vm, epoch)

    async def _start_target(self, why: str) -> None:
        self._is_seen_moved = False
        await self._announce_once(Act.START_TARGET, self._target, why)
        await self._work.hypervisor.start(self._target, self._vm)

    async def _define_source(self, why: str) -> None:
        await self._announce_once(Act.DEFINE_SOURCE, self._host, why)
        order = self._order(self._target, self._host)
        await self._work.hypervisor.copy_state(order)
        await self._work.hypervisor.copy_definition(order)

    async def _remove_target(self, why: str) -> None:
        epoch = self._ledger.operation.epoch
        await self._announce_once(Act.REMOVE_TARGET, self._target, why)
        await self._work.hypervisor.undefine(self._target, self._vm, epoch)

    async def _start_source(self, why: str) -> None:
        """Its host may be kept empty by this very operation: then it is let in for that."""
        await self._announce_once(Act.START_SOURCE, self._host, why)
        await self._set_admission()
        await self._work.hypervisor.start(self._host, self._vm)

    async def _set_admission(self) -> None:
        """The marker of an evacuation admits those who are just being started at home again, and
        nobody else."""
        operation = self._ledger.operation
        if operation.kind is not OperationKind.ENTER or self._host not in operation.hosts:
            return
        returning = tuple(
            sorted(
                step.planned.vm
                for step in operation.steps
                if step.state is StepState.STARTED
                and step.planned.vm is not None
                and step.planned.source == self._host
                and Act.START_SOURCE in step.acts
            )
        )
        marker = self._work.marker(operation.id, operation.epoch, returning)
        await self._work.hypervisor.raise_guard(self._host, marker)

    def _order(self, source: HostName, target: HostName) -> ColdOrder:
        operation = self._ledger.operation
        return ColdOrder(
            vm=self._vm,
            source=source,
            target=target,
            operation=operation.id,
            epoch=operation.epoch,
        )

    async def _announce_once(self, act: Act, host: HostName, why: str) -> None:
        """Make an act durable before it is made; one that is made again is announced already."""
        if act not in self._step.acts:
            await self._ledger.record(StepActed(step=self._number, act=act, host=host, why=why))

    # --- what goes wrong -----------------------------------------------------------------------

    async def _bear(self, error: Refused, ruling: ColdRuling) -> bool:
        """An act was refused; whether to look again at once."""
        if ruling.next is Next.STOP:
            await self._fail(error)
        elif ruling.next in (Next.COPY, Next.UNDEFINE_SOURCE):
            await self._give_up_on(error)
        elif ruling.next in (Next.START_TARGET, Next.START_SOURCE):
            return await self._start_failed(error, ruling)
        else:
            await self._wait("migration.act_failed", f"{ruling.next.value} fails: {error.message}")
            return False
        return True

    async def _give_up_on(self, error: FurloughError) -> None:
        """From here on it goes back, whatever restarts."""
        self._why_back = error
        await self._announce_once(Act.GIVE_UP, self._target, error.message.rstrip("."))

    async def _start_failed(self, error: Refused, ruling: ColdRuling) -> bool:
        """Once more, some times; then back home, or, at home, the end of what we can do."""
        self._failed_starts += 1
        if self._failed_starts < _MOST_STARTS:
            await self._work.clock.sleep(_START_AGAIN_S)
            return True
        self._failed_starts = 0
        why = Refused(
            "vm.start_failed",
            f"It could not be started after its move: {error.message}",
            remedy=f"See why, then start it: furlough vm start {self._vm}.",
        )
        if ruling.next is Next.START_TARGET:
            await self._give_up_on(why)
        else:
            await self._end_off(why)
        return True

    async def _end_off(self, error: Refused) -> None:
        """It is at home, off, and does not start there either."""
        await self._conclude(
            StepFailed(
                step=self._number,
                failure=_failure(error),
                outcome=Outcome.STOPPED,
                where=self._host,
                evidence=Evidence(meaning="it is at home, off"),
            )
        )
        await self._close_admission()

    # --- how it ends ---------------------------------------------------------------------------

    async def _arrive(self, _ruling: ColdRuling, source: Look, target: Look) -> bool:
        """It is there. One that was started has to be there a moment later as well."""
        if self._has_to_run and not self._is_seen_moved:
            self._is_seen_moved, self._seen_at = True, self._work.clock.monotonic()
            return False
        notes = await self._carry_autostart(target)
        await self._ledger.record(
            StepSucceeded(
                step=self._number,
                outcome=Outcome.MOVED,
                where=target.host,
                downtime_ms=self._downtime_ms(),
                evidence=Evidence(looks=(source, target), meaning="moved cold"),
                notes=notes,
            )
        )
        return True

    def _downtime_ms(self) -> int | None:
        """From the moment it was first seen off until it was seen to run; unknown after a restart
        of ours."""
        if not self._has_to_run or self._off_since is None:
            return None
        return round(1000 * (self._seen_at - self._off_since))

    async def _carry_autostart(self, target: Look) -> tuple[str, ...]:
        """Autostart as before: only now, when no other host could start it at its boot."""
        if not self._step.planned.before.has_autostart or target.has_autostart:
            return ()
        try:
            await self._announce_once(Act.SET_AUTOSTART, target.host, "it had autostart")
            await self._work.hypervisor.set_autostart(target.host, self._vm, on=True)
        except FurloughError as error:
            return (f"Its autostart is not set on {target.host}: {error.message}",)
        return ()

    async def _stay(self, ruling: ColdRuling, source: Look, target: Look) -> bool:
        """It is at home as it was: the attempt has failed."""
        error = self._why_back or Refused(
            "vm.immovable", "It could not be moved cold, and was brought back."
        )
        await self._restore_autostart(source)
        failure = _failure(error)
        again = retry_at(self._step, failure, self._work.clock.now())
        await self._conclude(
            StepFailed(
                step=self._number,
                failure=failure,
                not_before=None if self._is_cancelling else again,
                where=self._host,
                evidence=Evidence(looks=(source, target), meaning=ruling.meaning),
            )
        )
        await self._close_admission()
        return True

    async def _restore_autostart(self, source: Look) -> None:
        if self._step.planned.before.has_autostart and not source.has_autostart:
            with suppress(FurloughError):
                await self._work.hypervisor.set_autostart(self._host, self._vm, on=True)

    async def _close_admission(self) -> None:
        """Nobody is let in any more. What fails here is mended by the next marker, and told by the
        proof that the host is empty: it names whoever came in."""
        with suppress(FurloughError):
            await self._set_admission()

    async def _leave_changed(self, ruling: ColdRuling, source: Look, target: Look) -> bool:
        """Others have changed it: say what became of it."""
        if ruling.next is Next.GONE:
            found = await search(self._work, self._ledger, self._number, self._vm, self._host)
            outcome, why, where = fate_elsewhere(found, self._host)
            await self._leave(outcome, why, where or self._host, found or [source, target])
            return True
        looks = [source, target]
        if source.is_here or target.is_here:
            where = source.host if source.is_here else target.host
            await self._leave(Outcome.CHANGED_BY_OTHERS, ruling.meaning, where, looks)
        else:
            off = target if target.presence is Presence.SHUT_OFF else source
            outcome, why = fate_at_home(off)
            await self._leave(outcome, f"{why} ({ruling.meaning})", off.host, looks)
        return True

    async def _turn_back(self, ruling: ColdRuling, _source: Look, _target: Look) -> bool:
        """It cannot go on: to what it was, and, if it ran, running."""
        error = Refused(ruling.code, f"{ruling.meaning[:1].upper()}{ruling.meaning[1:]}.")
        if ruling.code == "cancelled":
            code = "timed_out" if self._ledger.operation.has_timed_out else "cancelled"
            error = Refused(code, "It was not moved any more, and is as it was.")
        await self._give_up_on(error)
        return True


_STOPS = frozenset({Act.SHUT_DOWN, Act.POWER_OFF})
_ACTS = frozenset(
    {
        Next.COPY,
        Next.UNDEFINE_SOURCE,
        Next.START_TARGET,
        Next.DEFINE_SOURCE,
        Next.REMOVE_TARGET,
        Next.START_SOURCE,
    }
)


def _failure(error: FurloughError) -> Failure:
    return Failure(code=error.code, message=error.message, remedy=error.remedy)


COLD_STEPS: dict[Method, type[ColdMove]] = {Method.COLD: ColdMove}
