"""Live migration of one VM: look, write the intent, call, settle by looking, verify, record.

pending ── look ──► started ── call ──► settle ──► verify ──► succeeded
             │                            │
             └► skipped (nothing to do)   └► failed, or pending again with the next target
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from furlough.core.admission import Flight, terms_of
from furlough.core.bandwidth import NO_LIMIT, Flow, stream_mib_s
from furlough.core.encryption import Wire
from furlough.core.estimate import link_mib_s
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory
from furlough.core.journal import StepActed, StepFailed, StepSkipped, StepStarted, StepSucceeded
from furlough.core.looks import Job, Look, Presence, Why
from furlough.core.operation import Act, Evidence, Failure, Outcome, Step
from furlough.core.plan import Handover
from furlough.core.retry import retry_at
from furlough.core.settlement import Call, Conclusion, Trail
from furlough.core.states import OperationState, StepState
from furlough.engine.helping import Helper, Patient
from furlough.engine.helping import Voice as Help
from furlough.engine.learning import Journey
from furlough.engine.ledger import Ledger
from furlough.engine.settling import Dispute, Settled, Voice
from furlough.engine.traffic import Lane
from furlough.engine.whereabouts import fate_at_home, fate_elsewhere, search
from furlough.engine.work import Work
from furlough.errors import Bug, Conflict, FurloughError, Refused, Stale, Unreachable
from furlough.planning.handover import handover_of
from furlough.planning.sending import way_of
from furlough.planning.wires import wire_of
from furlough.ports import MigrationOrder, MigrationReport, Progress

_ABORT_AGAIN_S = 1.0
_NO_REPORT = MigrationReport()
_NEVER_BEGAN = Failure(
    code="hypervisor.lost", message="The controller stopped before the migration began."
)


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What came of the call: the hypervisor's report, or its failure, and what both are worth."""

    call: Call
    report: MigrationReport = _NO_REPORT
    journey: Journey | None = None
    failure: Failure = _NEVER_BEGAN


class Migration:
    """One step that moves one VM."""

    def __init__(self, work: Work, ledger: Ledger, number: int) -> None:
        self._work = work
        self._ledger = ledger
        self._number = number
        planned = self._step.planned
        if planned.vm is None or planned.source is None:
            raise Bug("plan.incomplete", f"{self._step.id} moves nothing from nowhere.")
        self._vm: VmId = planned.vm
        self._source: HostName = planned.source
        # As it is just before the start: its owner may have changed it since it was planned.
        self._seen: Look | None = None
        self._clear_because = ""
        self._inventory: Inventory | None = None
        self._helper: Helper | None = None

    @property
    def _step(self) -> Step:
        return self._ledger.operation.step(self._number)

    # --- a new attempt ---------------------------------------------------------------------

    async def attempt(self) -> None:
        """Begin the next attempt, if its time has come and there is a slot; see it through."""
        target = self._step.next_target
        if target is None or not await self._is_ready(target):
            return
        if await self._start(target):
            async with self._helped(target, is_begun=False) as lane:
                result = await self._call(target, lane)
                if result.call is not Call.UNKNOWN:
                    self._work.traffic.leave_link(lane)
                await self._see_through(result, counts=True)

    async def adopt(self) -> None:
        """See a step through that a dead process of ours has left started."""
        if self._step.target is None:
            raise Bug("step.no_target", f"{self._step.id} was started without a target.")
        async with self._helped(self._step.target, is_begun=True):
            await self._see_through(_Result(call=Call.UNKNOWN), counts=False)

    async def abort(self) -> None:
        """Ask the hypervisor to stop it, again and again until it is over."""
        if Act.ABORT not in self._step.acts:
            try:
                await self._announce(Act.ABORT, self._source, "the operation is being cancelled")
            except Conflict:
                return  # Its outcome came first: there is nothing left to abort.
        while self._step.state is StepState.STARTED:
            with suppress(FurloughError):  # Not begun yet, or over: the settling tells which.
                look = await self._work.hypervisor.look(self._source, self._vm)
                if look.job is Job.OUTGOING:
                    await self._work.hypervisor.abort(self._source, self._vm)
            await self._work.clock.sleep(_ABORT_AGAIN_S)

    async def _is_ready(self, target: HostName) -> bool:
        """Look before the start: whether the VM is where the plan has it, and may go."""
        while self._step.state is StepState.PENDING:
            source_look, target_look = await asyncio.gather(
                self._work.hypervisor.look(self._source, self._vm),
                self._work.hypervisor.look(target, self._vm),
            )
            if source_look.presence is Presence.SILENT:
                await self._wait("host.silent", f"{self._source} does not answer")
            elif source_look.job is not Job.NONE:
                await self._wait("vm.busy", f"another job has {self._step.planned.vm_name}")
            elif source_look.standstill:
                name, words = self._step.planned.vm_name, source_look.standstill
                await self._wait("vm.stands_still", f"a person to mend VM {name}: {words}")
            else:
                await self._wait("", "")
                return await self._judge(source_look, target_look)
            await self._work.clock.sleep(self._work.pace.poll_s)
        await self._wait("", "")
        return False

    async def _judge(self, source: Look, target: Look) -> bool:
        """Whether the attempt may start; if not, why is on record."""
        if source.presence not in (Presence.RUNNING, Presence.PAUSED):
            await self._skip(source, target)
            return False
        if target.presence is Presence.SILENT:
            await self._refuse(target.host, "host.silent", f"Target {target.host} is silent.")
            return False
        if target.presence is not Presence.ABSENT or target.has_process:
            await self._refuse(
                target.host, "target.refused", f"Something of this VM is on the target: {target}."
            )
            return False
        self._seen = source
        return True

    async def _start(self, target: HostName) -> bool:
        """Write the intent, where slots, room and the target's mode allow it."""
        if self._step.planned.after:
            # Its room has only just been made: what was known of the target is too old.
            await self._work.observer.refresh([target])
        inventory = self._inventory = await self._work.observer.inventory()
        wire = wire_of(inventory.host(self._source), inventory.host(target))
        if not wire.is_allowed:
            await self._refuse_clear(target, wire)
            return False
        self._clear_because = wire.because
        planned, copies = self._step.planned, inventory.running_copies_of(self._vm)
        # Disks and proofs may have changed since the plan: as careful as the stricter of both.
        is_held = planned.handover is Handover.HELD or any(
            handover_of(vm, inventory) is Handover.HELD for vm in copies
        )
        handover = Handover.HELD if is_held else Handover.NORMAL
        was_paused = self._seen is not None and self._seen.presence is Presence.PAUSED
        way = way_of(self._vm, self._source, target, inventory)
        may_post_copy = way.may_post_copy and not is_held and not was_paused
        intent = StepStarted(
            step=self._number,
            target=target,
            epoch=self._ledger.operation.epoch,
            was_paused=was_paused,
            handover=handover,
            connections=0 if may_post_copy else way.connections,
            may_post_copy=may_post_copy,
            is_encrypted=wire.is_encrypted,
        )
        try:
            await self._ledger.record_if_unchanged(intent, terms=terms_of(inventory, [target]))
        except Stale:
            return False
        except Conflict as error:
            if error.code != "slot.none":
                raise
            self._wait_for_slot(target, inventory)
            return False
        except Refused as error:
            await self._refuse(target, error.code, error.message)
            return False
        self._work.queue.leave(self._step.id)
        return True

    def _wait_for_slot(self, target: HostName, inventory: Inventory) -> None:
        """Said again at every try, of which there is one a poll."""
        here, there = (inventory.host(name).cluster for name in (self._source, target))
        flight = Flight(source=self._source, target=target, cluster=here, into=there)
        until_s = self._work.clock.monotonic() + 2 * self._work.pace.poll_s
        self._work.queue.wait(self._step.operation, self._step.id, flight, until_s=until_s)

    async def _refuse_clear(self, target: HostName, wire: Wire) -> None:
        """Certificates may have gone, or the wish may have come, since the plan."""
        message = f"Memory may not pass to {target} in clear: {wire.because}."
        await self._refuse(target, "target.refused", message)

    async def _refuse(self, target: HostName, code: str, message: str) -> None:
        """The attempt failed before it began: on to the next target, or later."""
        failure = Failure(code=code, message=message)
        await self._conclude(
            StepFailed(
                step=self._number,
                failure=failure,
                target=target,
                where=self._source,
                not_before=retry_at(self._step, failure, self._work.clock.now()),
            )
        )

    async def _conclude(self, event: StepFailed | StepSkipped) -> None:
        """Record how a step ended. One that has not started may be skipped by a cancel at the
        same moment: then the cancel was first."""
        if self._step.state is StepState.STARTED:
            await self._ledger.record(event)
            return
        with suppress(Stale):
            if self._step.state is StepState.PENDING:
                await self._ledger.record_if_unchanged(event)

    @asynccontextmanager
    async def _helped(self, target: HostName, *, is_begun: bool) -> AsyncIterator[Lane]:
        """With a place on the links, and help at hand, until it is over."""
        inventory = self._inventory or await self._work.observer.inventory()
        attempt, sends_mib = self._step.attempts[-1], self._step.planned.sent_mib or math.inf
        flow = Flow(
            vm=self._vm,
            source=self._source,
            target=target,
            left_mib=sends_mib,
            stream_mib_s=stream_mib_s(attempt.connections),
        )
        links = {host.name: link_mib_s(host) for host in inventory.hosts}
        patient = Patient(
            vm=self._vm,
            source=self._source,
            sends_mib=sends_mib,
            policy=way_of(self._vm, self._source, target, inventory).policy,
            may_post_copy=attempt.may_post_copy,
        )
        voice = Help(
            announce=self._announce,
            acts=lambda: frozenset(self._step.acts),
            show=self._show,
            wait=self._wait_named,
        )
        async with self._work.traffic.lane(flow, links, is_begun=is_begun) as lane:
            self._helper = Helper(self._work, patient, voice, lane)
            async with self._helper.at_hand():
                yield lane

    def _order(self, target: HostName) -> MigrationOrder:
        """What the hypervisor is told, as the intent has it."""
        planned, attempt = self._step.planned, self._step.attempts[-1]
        return MigrationOrder(
            vm=self._vm,
            source=self._source,
            target=target,
            handover=attempt.handover,
            carries_definition=planned.before.is_persistent
            if self._seen is None
            else self._seen.is_persistent,
            waives_storage_check=planned.waives_storage_check
            and attempt.handover is planned.handover,
            operation=self._ledger.operation.id,
            epoch=self._ledger.operation.epoch,
            is_encrypted=attempt.is_encrypted,
            connections=attempt.connections,
            may_post_copy=attempt.may_post_copy,
        )

    async def _call(self, target: HostName, lane: Lane) -> _Result:
        """The call itself. Whatever it says, the settling looks."""
        order = replace(self._order(target), speed_mib_s=lane.told_mib_s or NO_LIMIT)
        try:
            speeds, is_free = self._work.observer.link_speeds, lane.is_free
            with speeds.watched(self._source, target, is_free=is_free) as journey:
                lane.on_free = lambda: speeds.let_go(journey)
                report = await self._work.hypervisor.migrate_live(order)
        except Refused as error:
            return _Result(call=Call.REFUSED, failure=_failure(error))
        except Unreachable as error:
            return _Result(call=Call.UNKNOWN, failure=_failure(error))
        return _Result(call=Call.DONE, report=report, journey=journey)

    # --- settling and verifying --------------------------------------------------------------

    async def _see_through(self, result: _Result, *, counts: bool) -> None:
        attempt, target = self._step.attempts[-1], self._step.target
        if target is None:
            raise Bug("step.no_target", f"{self._step.id} was started without a target.")
        dispute = Dispute(
            vm=self._vm,
            source=self._source,
            target=target,
            epoch=self._ledger.operation.epoch,
        )
        trail = Trail(
            call=result.call,
            handover=attempt.handover,
            was_paused=attempt.was_paused,
            acts=frozenset(self._step.acts),
        )
        voice = Voice(announce=self._announce, wait=self._wait_named, recover=self._recover)
        settled = await self._work.settler.settle(dispute, trail, voice)
        self._work.board.put(self._ledger.operation.id, self._number, None)
        if settled.conclusion is Conclusion.MOVED:
            await self._succeed(settled, result.report)
            await self._learn(result)
        elif settled.conclusion is Conclusion.AT_HOME:
            await self._fail(settled, result.failure, counts=counts)
        else:
            await self._skip(settled.source, settled.target, settled)

    async def _succeed(self, settled: Settled, report: MigrationReport) -> None:
        """It has moved: bring along what the hypervisor does not, then record it."""
        settled, notes = await self._carry_over(settled)
        if throttled := self._helper.throttled if self._helper is not None else 0:
            slowed = f"Its guest was slowed by up to {throttled} % until its memory was copied."
            notes = (*notes, slowed)
        if settled.ruling.code:
            notes = (*notes, settled.ruling.meaning)
        if self._clear_because:
            notes = (*notes, f"Its memory passed in clear: {self._clear_because}.")
        await self._ledger.record(
            StepSucceeded(
                step=self._number,
                outcome=Outcome.MOVED,
                where=settled.target.host,
                downtime_ms=_downtime_ms(settled, report, self._step.attempts[-1].handover),
                sent_mib=report.sent_mib,
                evidence=settled.evidence,
                notes=(*report.notes, *notes),
            )
        )

    async def _learn(self, result: _Result) -> None:
        """What the links have carried: after the outcome, which is not to wait for that, nor to
        suffer from it."""
        if result.journey is None:
            return
        with suppress(FurloughError):
            inventory = await self._work.observer.inventory()
            await self._work.observer.link_speeds.learn(result.journey, result.report, inventory)

    async def _carry_over(self, settled: Settled) -> tuple[Settled, tuple[str, ...]]:
        """Autostart as before, no definition left behind, persistent as before; what cannot be
        mended becomes a note."""
        before = self._step.planned.before
        notes: list[str] = []
        hypervisor, vm = self._work.hypervisor, self._vm
        try:
            if before.has_autostart and not settled.target.has_autostart:
                await self._announce(Act.SET_AUTOSTART, settled.target.host, "it had autostart")
                await hypervisor.set_autostart(settled.target.host, vm, on=True)
            # Never the last definition that there is.
            if settled.source.presence is Presence.SHUT_OFF and settled.target.is_persistent:
                await self._announce(
                    Act.UNDEFINE_SOURCE, self._source, "its definition was left on the source"
                )
                epoch = self._ledger.operation.epoch
                await hypervisor.undefine(self._source, vm, epoch)
        except FurloughError as error:
            notes.append(f"Not mended: {error.message}")
        if Act.SET_AUTOSTART in self._step.acts or Act.UNDEFINE_SOURCE in self._step.acts:
            source, target = await asyncio.gather(
                hypervisor.look(self._source, vm), hypervisor.look(settled.target.host, vm)
            )
            settled = replace(settled, source=source, target=target)
        return settled, (*notes, *_differences(settled, before.is_persistent, before.has_autostart))

    async def _fail(self, settled: Settled, failure: Failure, *, counts: bool) -> None:
        """It stayed on its source: once more, unless that is of no use or not wanted."""
        operation, now = self._ledger.operation, self._work.clock.now()
        if self._helper is not None and self._helper.gave_up is not None:
            failure = self._helper.gave_up
        again = retry_at(self._step, failure, now)
        if operation.state is OperationState.CANCELLING:
            again = None
            if Act.ABORT in self._step.acts:
                code = "timed_out" if operation.has_timed_out else "cancelled"
                failure = Failure(code=code, message="The migration was stopped in flight.")
        elif not counts:
            again = now
        await self._ledger.record(
            StepFailed(
                step=self._number,
                failure=failure,
                counts=counts,
                where=self._source,
                evidence=settled.evidence,
                not_before=again,
            )
        )

    async def _skip(self, source: Look, target: Look, settled: Settled | None = None) -> None:
        """It runs on neither host: say what became of it, after looking everywhere."""
        looks: list[Look] = [source, target]
        outcome, why = fate_at_home(source)
        where: HostName | None = self._source
        if source.presence is Presence.ABSENT or source.why is Why.MIGRATED:
            found = await search(self._work, self._ledger, self._number, self._vm, self._source)
            looks = found or looks
            outcome, why, where = fate_elsewhere(found, self._source)
        evidence = Evidence(looks=tuple(looks), meaning=settled.ruling.meaning if settled else why)
        lost = outcome in (Outcome.DIED, Outcome.MISSING) and settled is not None
        event: StepFailed | StepSkipped
        if lost:
            failure = Failure(code=f"vm.{outcome.value}", message=f"{why}.")
            event = StepFailed(
                step=self._number,
                failure=failure,
                outcome=outcome,
                where=where,
                evidence=evidence,
            )
        else:
            event = StepSkipped(
                step=self._number, why=why, outcome=outcome, where=where, evidence=evidence
            )
        await self._conclude(event)

    # --- speaking ------------------------------------------------------------------------------

    async def _announce(self, act: Act, host: HostName, why: str) -> None:
        await self._ledger.record(StepActed(step=self._number, act=act, host=host, why=why))

    async def _wait(self, code: str, words: str) -> None:
        await self._ledger.wait(self._number, code, words)

    async def _wait_named(self, ruled: str, words: str) -> None:
        """What a settling says of "it", with the name that people know it by."""
        await self._wait(ruled, f"VM {self._step.planned.vm_name}: {words}" if ruled else "")

    def _show(self, progress: Progress) -> None:
        self._work.board.put(self._ledger.operation.id, self._number, progress)

    async def _recover(self) -> str:
        """Let a post-copy go on whose link broke; why it does not, empty if it has ended."""
        target = self._step.target
        if target is None:
            raise Bug("step.no_target", f"{self._step.id} was started without a target.")
        order = replace(self._order(target), resumes_post_copy=True)
        try:
            await self._work.hypervisor.migrate_live(order)
        except FurloughError as error:
            return error.message
        return ""


def _failure(error: FurloughError) -> Failure:
    return Failure(code=error.code, message=error.message, remedy=error.remedy)


def _downtime_ms(settled: Settled, report: MigrationReport, handover: Handover) -> int | None:
    """The pause: by our own clock where we ended it, else as the hypervisor measured it."""
    if settled.resumed_at is not None and report.stopped_at is not None:
        return round(1000 * (settled.resumed_at - report.stopped_at))
    if handover is Handover.HELD:
        return None
    return report.downtime_ms


def _differences(settled: Settled, persistent: bool, autostart: bool) -> tuple[str, ...]:
    """What is not as it was before, after all mending."""
    found = []
    if settled.target.is_persistent != persistent:
        found.append(f"On {settled.target.host} it is {_word(settled.target.is_persistent)}.")
    if autostart and not settled.target.has_autostart:
        found.append(f"Its autostart is not set on {settled.target.host}.")
    if settled.source.presence is not Presence.ABSENT:
        found.append(f"Something of it is left: {settled.source}.")
    return tuple(found)


def _word(persistent: bool) -> str:
    return "persistent now, and was not" if persistent else "not persistent any more"
