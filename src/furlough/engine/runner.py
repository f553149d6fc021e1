"""One operation, from its claim to its end.

Level-triggered: after every change the agenda is asked what is to be done now, and that is done.
Nothing is replayed. A step that was left started by a dead process is adopted: settled by looking.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

import structlog

from furlough.core.admission import Flight
from furlough.core.agenda import Agenda, Ending, agenda
from furlough.core.bandwidth import STREAM_MIB_S, Flow, stream_mib_s
from furlough.core.estimate import carried_mib_s
from furlough.core.holding import Need
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Inventory
from furlough.core.journal import (
    DeadlinePassed,
    Event,
    HostModeChanged,
    OperationBlocked,
    OperationEnded,
    OperationUnblocked,
    PlanExtended,
    StepSkipped,
)
from furlough.core.operation import Outcome, Step
from furlough.core.plan import Method
from furlough.core.policy import Limits
from furlough.core.states import OperationState, StepState
from furlough.engine.cold_moving import COLD_STEPS
from furlough.engine.departing import Candidate, Departures
from furlough.engine.guarding import HOST_STEPS
from furlough.engine.host_power import HOST_POWER_STEPS
from furlough.engine.ledger import Ledger, SteppedDown
from furlough.engine.migrating import Migration
from furlough.engine.observer import modes_of
from furlough.engine.powering import POWER_STEPS
from furlough.engine.remedying import MEDIUM_STEPS
from furlough.engine.replanning import LOOK_EVERY_S, Replanning
from furlough.engine.returning import latecomers
from furlough.engine.work import Work
from furlough.errors import Conflict, NotFound, Refused, Stale, Unreachable
from furlough.planning.sending import way_of

log = structlog.get_logger()

MOST_CRASHES = 3
# A step that a bug has stopped is tried again so often while its operation is being cancelled.
_BROKEN_AGAIN_S = 60.0
# In these states an operation's time runs.
_TIMED = (OperationState.RUNNING, OperationState.BLOCKED, OperationState.PAUSED)
# Steps are numbered from 1; this is the number under which the operation itself waits.
_WHOLE = 0


class Executor(Protocol):
    """Whatever carries out one step."""

    async def attempt(self) -> None: ...

    async def adopt(self) -> None: ...

    async def abort(self) -> None: ...


@dataclass
class _Aside:
    """A step that a bug has stopped: it is left alone until a person says: go on."""

    words: str
    since: float
    was_cancelling: bool
    is_told: bool = False


class Runner:
    """Drives one claimed operation. `run` returns when it is final or must wait for a person
    after too many crashes; it raises `SteppedDown` when somebody else has taken it over."""

    def __init__(self, work: Work, ledger: Ledger) -> None:
        self._work = work
        self._ledger = ledger
        self._active: dict[int, Executor] = {}
        self._aborting: set[int] = set()
        self._resting: dict[int, float] = {}
        self._aside: dict[int, _Aside] = {}
        self._limits: Mapping[ClusterName, Limits] = {}
        self._cluster_of: Mapping[HostName, ClusterName] = {}
        self._is_stale = False
        self._facts = Inventory(taken_at=work.clock.now(), clusters=(), hosts=(), vms=())
        self._streams: dict[tuple[int, HostName], float] = {}
        self._replanning = Replanning(work, ledger)

    def nudge(self) -> None:
        """Something has changed in the store: read it."""
        self._is_stale = True
        self._ledger.changed.set()

    async def run(self) -> None:
        if await self._is_for_a_person():
            return
        operation = self._ledger.operation
        log.info("operation claimed", operation=operation.id, epoch=operation.epoch)
        enrolment = await self._work.store.enrolment()
        self._limits = {one.name: one.policy.limits for one in enrolment.clusters}
        self._cluster_of = {one.name: one.cluster for one in enrolment.hosts}
        links = {one.name: carried_mib_s(one.link_mbit_s) for one in enrolment.hosts}
        self._work.traffic.know(links)
        if any(step.method is Method.LIVE for step in operation.steps):
            self._facts = await self._work.observer.inventory()
        with self._work.traffic.told_to(self._ledger.changed):
            async with asyncio.TaskGroup() as tasks:
                while not self._ledger.operation.is_final:
                    try:
                        await self._advance(tasks)
                    except Unreachable as error:
                        log.warning("store unavailable", because=error.message)
                        await self._work.clock.sleep(self._work.pace.poll_s)
        final = self._ledger.operation
        log.info("operation ended", operation=final.id, state=final.state.value, code=final.code)

    async def _is_for_a_person(self) -> bool:
        """Whether it may not go on by itself. What else a dead process of ours waited for is
        forgotten: whoever still has to wait will say so again."""
        operation = self._ledger.operation
        if operation.state is OperationState.CANCELLING:
            return False
        if operation.code == "crash_loop":
            return True
        if operation.crashes >= MOST_CRASHES:
            await self._ledger.record(
                OperationBlocked(
                    code="crash_loop",
                    waiting_for=f"a person: the controller died {operation.crashes} times in it "
                    f"without progress; then: furlough operation resume {operation.id}",
                )
            )
            return True
        if operation.waiting_for is not None:
            await self._ledger.record(OperationUnblocked())
        return False

    async def _advance(self, tasks: asyncio.TaskGroup) -> None:
        """One round: ask what is to be done, do it, wait for a change."""
        self._ledger.changed.clear()
        if self._is_stale:
            self._is_stale = False
            await self._ledger.refresh()
        now = self._work.clock.now()
        if self._is_late(now):
            with suppress(Stale):
                await self._ledger.record_if_unchanged(DeadlinePassed())
            return
        await self._mind_the_broken()
        if await self._replanning.round({*self._active, *self._aside}):
            return
        todo = await self._agenda(now)
        with suppress(Stale):
            if await self._conclude(todo):
                return
        await self._tell_need(todo.need)
        self._adopt(tasks)
        self._abort(tasks, todo.abort)
        self._start(tasks, todo.start)
        await self._wait(todo.wake_at)

    def _is_late(self, now: datetime) -> bool:
        operation = self._ledger.operation
        return (
            operation.deadline is not None
            and operation.deadline <= now
            and operation.state in _TIMED
        )

    async def _tell_need(self, need: Need | None) -> None:
        """What the operation as a whole waits for, beside what its steps wait for."""
        code, words = ("", "") if need is None else (need.code, need.words)
        await self._ledger.wait(_WHOLE, code, words)

    async def _agenda(self, now: datetime) -> Agenda:
        modes = modes_of(await self._work.store.standings())
        return agenda(self._ledger.operation, modes, now)

    async def _conclude(self, todo: Agenda) -> bool:
        """Record what needs no act; whether anything was recorded."""
        events: list[Event] = []
        if todo.skip:
            inventory = await self._work.observer.inventory()
            events += [_skipped(step, why, inventory) for step, why in todo.skip]
        if todo.extend:
            events.append(
                PlanExtended(steps=todo.extend, roster=(), why="the guard must be put right")
            )
        if events:
            await self._ledger.record_if_unchanged(*events)
            return True
        if todo.put_back:
            await self._put_back()
            return True
        if todo.ending is not None and not self._active:
            if not await self._take_latecomers():
                await self._end(todo.ending)
            return True
        return False

    async def _take_latecomers(self) -> bool:
        """Whether VMs that could not come home before can now; then it is not over yet."""
        more = await latecomers(self._work, self._ledger.operation)
        if more is None:
            return False
        try:
            await self._ledger.record_if_unchanged(more.event, terms=more.terms)
        except Stale:
            raise
        except (Refused, Conflict):
            return False  # Somebody else has the room or the VM by now.
        return True

    async def _put_back(self) -> None:
        """Plan the way back of those who have left. Where facts change meanwhile, a moment later
        again."""
        try:
            await self._replanning.plan_way_back()
        except (Refused, Conflict) as error:
            log.info("way back not planned yet", because=error.message)
            await self._work.clock.sleep(self._work.pace.poll_s)
            await self._ledger.refresh()

    async def _end(self, ending: Ending) -> None:
        """The last entry, with the modes of the hosts in the same transaction."""
        standings = await self._work.store.standings()
        changes = [
            HostModeChanged(host=host, before=standings[host].mode, after=after)
            for host, after in ending.modes.items()
        ]
        end = OperationEnded(state=ending.state, code=ending.code, message=ending.message)
        await self._work.observer.refresh(self._touched())
        await self._ledger.record_if_unchanged(*changes, end)

    def _touched(self) -> set[HostName]:
        operation = self._ledger.operation
        hosts = set(operation.hosts)
        for step in operation.steps:
            hosts.update(host for host in (step.planned.source, step.target) if host is not None)
        return hosts

    # --- steps ---------------------------------------------------------------------------------

    def _adopt(self, tasks: asyncio.TaskGroup) -> None:
        for step in self._ledger.operation.steps:
            if step.state is not StepState.STARTED:
                continue
            if step.number not in self._active and step.number not in self._aside:
                executor = self._executor(step)
                self._run(tasks, step, executor, executor.adopt)

    def _abort(self, tasks: asyncio.TaskGroup, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.number in self._active and step.number not in self._aborting:
                self._aborting.add(step.number)
                tasks.create_task(self._stop(step, self._active[step.number]))

    async def _stop(self, step: Step, executor: Executor) -> None:
        """Abort one step; what goes wrong with that is no reason to drop the others."""
        try:
            await executor.abort()
        except SteppedDown:
            raise
        except Exception:
            log.exception("abort failed", step=step.id)
            self._aborting.discard(step.number)

    def _start(self, tasks: asyncio.TaskGroup, steps: Sequence[Step]) -> None:
        """Begin steps in order, as far as our own flights, and older operations that wait, leave
        slots; the store has the last word, since it knows the flights of all operations."""
        now = self._work.clock.monotonic()
        active = [
            self._ledger.operation.step(number)
            for number in self._active
            if not self._merely_waits(number)
        ]
        departures = Departures(
            limits=self._limits,
            outlook=self._work.traffic.outlook,
            flying=[flight for step in active if (flight := self._flight_of(step)) is not None],
            begun=[flow for step in active if (flow := self._flow_of(step)) is not None],
            ahead=self._work.queue.before(self._ledger.operation.id, now),
        )
        for step in departures.chosen(self._candidates(steps, departures.full)):
            executor = self._executor(step)
            self._run(tasks, step, executor, executor.attempt)
        for step in departures.unable:
            self._work.queue.leave(step.id)
        for step in departures.yielding:
            self._resting[step.number] = now + self._work.pace.poll_s

    def _candidates(self, steps: Sequence[Step], full: Set[HostName]) -> Iterator[Candidate]:
        """Those of these steps that are neither under way nor resting, and leave no host that is
        full by then."""
        now = self._work.clock.monotonic()
        for step in steps:
            if step.planned.source in full and step.method is Method.LIVE:
                continue
            is_idle = step.number not in self._active and step.number not in self._aside
            if is_idle and self._resting.get(step.number, 0.0) <= now:
                flow = partial(self._flow_of, step)
                yield Candidate(step=step, flight=self._flight_of(step), flow=flow)

    def _flow_of(self, step: Step) -> Flow | None:
        flight, vm = self._flight_of(step), step.planned.vm
        if flight is None or vm is None:
            return None
        return Flow(
            vm=vm,
            source=flight.source,
            target=flight.target,
            left_mib=step.planned.sent_mib or math.inf,
            stream_mib_s=self._stream_mib_s(step.number, vm, flight),
        )

    def _stream_mib_s(self, number: int, vm: VmId, flight: Flight) -> float:
        """What it moves at most, by what was known when this operation was taken up: how it is
        really sent is settled when it begins."""
        key = number, flight.target
        if key not in self._streams:
            try:
                way = way_of(vm, flight.source, flight.target, self._facts)
            except NotFound:  # A host that came later.
                return STREAM_MIB_S
            self._streams[key] = stream_mib_s(way.connections)
        return self._streams[key]

    def _merely_waits(self, number: int) -> bool:
        """Whether a step has not begun and waits for somebody else's job: it takes no slot."""
        is_pending = self._ledger.operation.step(number).state is StepState.PENDING
        return is_pending and self._ledger.is_waiting(number)

    async def _mind_the_broken(self) -> None:
        """Tell which steps a bug has stopped, until it is told; take them up again once a person
        said: go on, and in a cancel, which nobody can steer any more, from time to time."""
        operation = self._ledger.operation
        now = self._work.clock.monotonic()
        for number, aside in list(self._aside.items()):
            is_cancelling = operation.state is OperationState.CANCELLING
            is_due = is_cancelling and (
                not aside.was_cancelling or now - aside.since >= _BROKEN_AGAIN_S
            )
            is_resumed = aside.is_told and not self._ledger.is_waiting(number)
            if operation.step(number).is_final or is_due or is_resumed:
                del self._aside[number]
                await self._ledger.wait(number, "", "")
            elif not aside.is_told:
                await self._ledger.wait(number, "bug", aside.words)
                aside.is_told = True

    def _put_aside(self, step: Step, error: Exception) -> None:
        operation = self._ledger.operation
        self._aside[step.number] = _Aside(
            words=f"a person: {step.id} was stopped by a bug ({type(error).__name__}: {error}); "
            f"then: furlough operation resume {operation.id}",
            since=self._work.clock.monotonic(),
            was_cancelling=operation.state is OperationState.CANCELLING,
        )

    def _run(
        self,
        tasks: asyncio.TaskGroup,
        step: Step,
        executor: Executor,
        work: Callable[[], Awaitable[None]],
    ) -> None:
        number = step.number

        async def carry_out() -> None:
            try:
                await work()
            except Unreachable as error:
                # The store, mostly. If the step is started, it is adopted in the next round.
                log.warning("step interrupted", step=step.id, because=error.message)
            except SteppedDown:
                raise
            except Exception as error:  # a bug in one step does not stop the others
                log.exception("step stopped by a bug", step=step.id)
                self._put_aside(step, error)
            finally:
                del self._active[number]
                # Not started after all (no slot): not again at once.
                self._resting[number] = self._work.clock.monotonic() + self._work.pace.poll_s
                self._ledger.changed.set()

        self._active[number] = executor
        tasks.create_task(carry_out())

    def _executor(self, step: Step) -> Executor:
        if step.method is Method.LIVE:
            return Migration(self._work, self._ledger, step.number)
        if step.method in COLD_STEPS:
            return COLD_STEPS[step.method](self._work, self._ledger, step.number)
        if step.method in HOST_STEPS:
            return HOST_STEPS[step.method](self._work, self._ledger, step.number)
        if step.method in HOST_POWER_STEPS:
            return HOST_POWER_STEPS[step.method](self._work, self._ledger, step.number)
        if step.method in MEDIUM_STEPS:
            return MEDIUM_STEPS[step.method](self._work, self._ledger, step.number)
        return POWER_STEPS[step.method](self._work, self._ledger, step.number)

    def _flight_of(self, step: Step) -> Flight | None:
        """The migration that a step is, or would be; None for other steps and ended ones."""
        source = step.planned.source
        target = step.target if step.state is StepState.STARTED else step.next_target
        if step.method is not Method.LIVE or step.is_final or source is None or target is None:
            return None
        return Flight(
            source=source,
            target=target,
            cluster=self._cluster_of[source],
            into=self._cluster_of.get(target),
        )

    async def _wait(self, wake_at: datetime | None) -> None:
        """Until something changes, or it is time to look again."""
        pace = self._work.pace
        longest_s = pace.poll_s if self._resting or self._aside else pace.reread_s
        if self._replanning.is_watching:
            longest_s = min(longest_s, LOOK_EVERY_S)
        if wake_at is not None:
            left_s = (wake_at - self._work.clock.now()).total_seconds()
            longest_s = max(0.0, min(longest_s, left_s))
        now = self._work.clock.monotonic()
        self._resting = {step: until for step, until in self._resting.items() if until > now}
        try:
            async with asyncio.timeout(longest_s):
                await self._ledger.changed.wait()
        except TimeoutError:
            self._is_stale = True


def _skipped(step: Step, why: str, inventory: Inventory) -> StepSkipped:
    """A step that will not be done any more; its VM is where it was last seen."""
    vm = step.planned.vm
    if vm is None:
        return StepSkipped(step=step.number, why=why, outcome=Outcome.PENDING)
    copies = inventory.copies_of(vm)
    where = inventory.vm(vm).host if copies else step.planned.source
    return StepSkipped(step=step.number, why=why, outcome=Outcome.STAYED, where=where)
