"""Values for the stories: a small fleet, what users ask for, and a runner that carries it out.

The fleet is one cluster with hosts a, b, c and d; VMs go by small numbers.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec

from furlough.core.admission import Room, Terms
from furlough.core.capacity import Load
from furlough.core.enrolment import DatastoreKind, EnrolledDatastore, EnrolledHost, Enrolment
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Cluster
from furlough.core.journal import (
    Entry,
    Event,
    HostModeChanged,
    OperationAccepted,
    OperationEnded,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from furlough.core.operation import Failure, Operation, Outcome, RosterEntry
from furlough.core.plan import Before, Method, OperationKind, Plan, PlannedStep, numbered
from furlough.core.policy import ActionOptions, EnterOptions, ExitOptions, Limits, Options
from furlough.core.states import HostMode, OperationState, Power
from furlough.ports import Clock, IdempotencyKey, Store
from furlough.store.sql import SqlStore
from tests.conformance.invariants import check, everything

T0 = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
RACK = ClusterName("rack")
A, B, C, D = HostName("a"), HostName("b"), HostName("c"), HostName("d")
LONG_S = 3600.0
P = ParamSpec("P")


def told(story: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that tells this story in an event loop of its own."""

    @functools.wraps(story)
    def tell(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(story(*arguments, **named))

    return tell


class SettableClock:
    """Implements `ports.Clock`: time passes when a test says so, and it may be set wrongly."""

    def __init__(self) -> None:
        self._now = T0
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, duration_s: float) -> None:
        self.advance(duration_s)

    def advance(self, duration_s: float) -> None:
        """Time passes."""
        self._monotonic += duration_s
        self.jump(duration_s)

    def jump(self, distance_s: float) -> None:
        """Somebody sets the clock on the wall; no time passes."""
        self._now += timedelta(seconds=distance_s)


@asynccontextmanager
async def opened(url: str, clock: Clock) -> AsyncIterator[SqlStore]:
    """A store of one process, closed whatever happens."""
    store = SqlStore(url, clock)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


# --- the fleet -----------------------------------------------------------------------------------


def host(name: str, cluster: ClusterName = RACK, **changes: Any) -> EnrolledHost:
    """An enrolled host of the fleet's kind."""
    plain = EnrolledHost(name=HostName(name), cluster=cluster, address=f"{name}.example")
    return replace(plain, **changes)


def datastore(name: str, cluster: ClusterName = RACK) -> EnrolledDatastore:
    """A directory that hosts mount."""
    return EnrolledDatastore(
        name=name, cluster=cluster, kind=DatastoreKind.DIRECTORY, path=f"/srv/{name}"
    )


FLEET = Enrolment(
    clusters=[Cluster(name=RACK)],
    datastores=[datastore("images")],
    hosts=[host(name, datastores=("images",)) for name in "abcd"],
)


# --- what users ask for --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a store is asked to accept."""

    event: OperationAccepted
    modes: tuple[HostModeChanged, ...]
    terms: Terms

    async def accept(self, store: Store, key: IdempotencyKey | None = None) -> Operation:
        """The operation that the store makes of it."""
        return await store.accept(self.event, self.modes, self.terms, key)


def terms(
    limits: Limits | None = None, *, away: int = 4, **free_mib: int | tuple[int, set[VmId]]
) -> Terms:
    """Room by host name as MiB, or as MiB and the VMs seen there; no room named: no limit."""
    rooms = {}
    for name, room in free_mib.items():
        mib, seen = room if isinstance(room, tuple) else (room, set[VmId]())
        rooms[HostName(name)] = Room(free=Load(memory_mib=mib, vcpus=1000), seen=frozenset(seen))
    return Terms(rooms=rooms, limits={RACK: limits or Limits()}, most_away={RACK: away})


def vm(number: int) -> VmId:
    """The VM of this number."""
    return VmId(f"00000000-0000-4000-8000-{number:012d}")


def move(number: int, source: HostName, *targets: HostName, memory_mib: int = 1024) -> PlannedStep:
    """A VM of this number moves live to the first of these targets that will do."""
    return PlannedStep(
        number=0,
        method=Method.LIVE,
        host=source,
        wave=1,
        vm=vm(number),
        vm_name=f"vm{number}",
        source=source,
        targets=targets,
        load=Load(memory_mib=memory_mib, vcpus=2),
        before=Before(power=Power.RUNNING, has_autostart=number % 2 == 0),
        duration_s=2.5,
        sent_mib=memory_mib,
    )


def stop(number: int, source: HostName, method: Method = Method.SHUT_DOWN) -> PlannedStep:
    """A VM of this number is stopped where it is."""
    return replace(move(number, source), method=method)


def start(number: int, where: HostName) -> PlannedStep:
    """A VM of this number is started where it is."""
    return replace(move(number, where, where), method=Method.START)


def entering(
    source: HostName,
    *moves: PlannedStep,
    given: Terms | None = None,
    mode: HostMode = HostMode.AVAILABLE,
    options: EnterOptions | None = None,
) -> Ask:
    """Empty a host: step 1 raises the guard, the moves follow, the last confirms it empty."""
    steps = (
        PlannedStep(number=0, method=Method.RAISE_GUARD, host=source),
        *moves,
        PlannedStep(number=0, method=Method.CONFIRM_EMPTY, host=source, wave=2),
    )
    modes = [change(source, mode, HostMode.ENTERING)]
    if mode is HostMode.AVAILABLE:
        modes = [
            change(source, HostMode.AVAILABLE, HostMode.CORDONED),
            change(source, HostMode.CORDONED, HostMode.ENTERING),
        ]
    return _ask(OperationKind.ENTER, source, steps, options or EnterOptions(), modes, given)


def exiting(home: HostName, *moves: PlannedStep, given: Terms | None = None) -> Ask:
    """Bring VMs home: step 1 admits them, the moves follow, the last lowers the guard."""
    steps = (
        PlannedStep(number=0, method=Method.RAISE_GUARD, host=home),
        *(replace(one, host=home) for one in moves),
        PlannedStep(number=0, method=Method.LOWER_GUARD, host=home, wave=2),
    )
    modes = [change(home, HostMode.MAINTENANCE, HostMode.EXITING)]
    return _ask(OperationKind.EXIT, home, steps, ExitOptions(), modes, given)


def cordoning(which: HostName) -> Ask:
    """Take a host out of use; nothing moves."""
    return _ask(OperationKind.CORDON, which, (), ActionOptions(), [], None)


def uncordoning(which: HostName) -> Ask:
    """Put a cordoned host back into use."""
    step = PlannedStep(number=0, method=Method.LOWER_GUARD, host=which)
    return _ask(OperationKind.UNCORDON, which, (step,), ActionOptions(), [], None)


def migrating(one: PlannedStep, *, given: Terms | None = None) -> Ask:
    """Move one VM because its owner wants it."""
    return _ask(OperationKind.MIGRATE_VM, one.host, (one,), ActionOptions(), [], given)


def starting(number: int, where: HostName, *, given: Terms | None = None) -> Ask:
    """Start a VM that is off."""
    step = replace(move(number, where, where), method=Method.START)
    return _ask(OperationKind.START_VM, where, (step,), ActionOptions(), [], given)


def shutting_down(number: int, where: HostName) -> Ask:
    """Shut a VM down where it is."""
    step = replace(move(number, where), method=Method.SHUT_DOWN)
    return _ask(OperationKind.SHUT_DOWN_VM, where, (step,), ActionOptions(), [], None)


def _ask(
    kind: OperationKind,
    where: HostName,
    steps: tuple[PlannedStep, ...],
    options: Options,
    modes: list[HostModeChanged],
    given: Terms | None,
) -> Ask:
    plan = Plan(kind=kind, hosts=(where,), steps=numbered(steps))
    event = OperationAccepted(
        operation_kind=kind,
        hosts=plan.hosts,
        options=options,
        plan=plan,
        roster=tuple(roster_entry(step) for step in plan.steps if step.vm is not None),
        requested_by="alice",
    )
    return Ask(event=event, modes=tuple(modes), terms=given or terms())


def roster_entry(step: PlannedStep) -> RosterEntry:
    """The VM of a step, as it was when the operation was accepted."""
    assert step.vm is not None
    assert step.source is not None
    return RosterEntry(vm=step.vm, name=step.vm_name, host=step.source, before=step.before)


def change(which: HostName, before: HostMode, after: HostMode) -> HostModeChanged:
    """A host's mode takes a step."""
    return HostModeChanged(host=which, before=before, after=after)


# --- carrying it out -----------------------------------------------------------------------------


_OUTCOMES = {
    Method.LIVE: Outcome.MOVED,
    Method.START: Outcome.STARTED,
    Method.SHUT_DOWN: Outcome.STOPPED,
    Method.SUSPEND: Outcome.STOPPED,
}


class Runner:
    """Drives one claimed operation, and looks after every write whether all promises hold."""

    def __init__(self, store: Store, operation: Operation) -> None:
        self.store = store
        self.operation = operation
        self._seen: list[Entry] = []

    async def write(self, *events: Event, given: Terms | None = None) -> Operation:
        """Append these events. Those that were there before are as they were."""
        self.operation = await self.store.append(self.operation, events, given)
        seen = await everything(self.store)
        check(seen)
        assert list(seen.entries[: len(self._seen)]) == self._seen, "S8: an event has changed"
        self._seen = list(seen.entries)
        assert [entry.event for entry in self._seen[-len(events) :]] == list(events)
        return self.operation

    async def start(
        self, number: int, target: HostName | None = None, *, given: Terms | None = None
    ) -> None:
        """Write the intent of a step, by default with the target whose turn it is."""
        chosen = target or self.operation.step(number).next_target
        intent = StepStarted(step=number, target=chosen, epoch=self.operation.epoch)
        await self.write(intent, given=given or terms())

    async def succeed(self, number: int) -> None:
        """A started step had its effect."""
        step = self.operation.step(number)
        outcome = _OUTCOMES.get(step.method, Outcome.PENDING)
        where = step.planned.source if outcome is Outcome.STOPPED else step.target
        await self.write(StepSucceeded(step=number, outcome=outcome, where=where))

    async def carry_out(self, *numbers: int) -> None:
        """These steps, one after another, each with success."""
        for number in numbers:
            await self.start(number)
            await self.succeed(number)

    async def fail(self, number: int, *, again: bool = False) -> None:
        """An attempt had no effect; `again`: it is tried once more, at once."""
        failure = Failure(code="target.refused", message="This target will not.")
        source = self.operation.step(number).planned.source
        not_before = T0 if again else None
        await self.write(
            StepFailed(step=number, failure=failure, where=source, not_before=not_before)
        )

    async def skip(self, *numbers: int) -> None:
        """Nothing is to be done about these steps any more."""
        for number in numbers:
            await self.write(StepSkipped(step=number, why="the operation was cancelled"))

    async def end(self, state: OperationState, *before: Event) -> None:
        """The last entry, after these others."""
        await self.write(*before, OperationEnded(state=state))


async def begun(store: Store, ask: Ask, owner: str = "p1") -> Runner:
    """The operation accepted and claimed, for a long time."""
    operation = await ask.accept(store)
    claimed = {one.id: one for one in await store.claim(owner, LONG_S)}
    check(await everything(store))
    return Runner(store, claimed[operation.id])


async def evacuated(store: Store, source: HostName, *moves: PlannedStep) -> Runner:
    """A host in maintenance, its VMs moved away, its operation over."""
    runner = await begun(store, entering(source, *moves))
    last = len(runner.operation.steps)
    await runner.carry_out(*range(1, last))
    await runner.start(last)
    await runner.write(
        StepSucceeded(step=last), change(source, HostMode.ENTERING, HostMode.MAINTENANCE)
    )
    await runner.end(OperationState.SUCCEEDED)
    return runner
