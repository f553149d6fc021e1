"""Random histories of operations on one store, with the promises looked at after every step.

Here too VMs are somewhere and take room: what a runner would observe is known, so that S11 can be
checked against the truth. Told on SQLite in memory; the other two stores share its code path.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from furlough.core.admission import Room, Terms
from furlough.core.capacity import NOTHING, Load
from furlough.core.enrolment import Enrolment
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Cluster
from furlough.core.journal import (
    CancelRequested,
    Event,
    HostModeChanged,
    OperationEnded,
    OperationReleased,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from furlough.core.operation import Failure, Operation, Outcome, Step
from furlough.core.plan import Method, OperationKind, PlannedStep
from furlough.core.policy import CancelMode, Limits
from furlough.core.states import HostMode, OperationState, StepState, is_final, may_advance
from furlough.errors import Conflict, Refused, Stale
from furlough.store.sql import SqlStore
from tests.conformance.builders import (
    RACK,
    A,
    Ask,
    B,
    C,
    SettableClock,
    change,
    entering,
    exiting,
    host,
    migrating,
    move,
    uncordoning,
    vm,
)
from tests.conformance.invariants import NOTHING_YET, check, check_room, everything

T = TypeVar("T")
HOSTS = (A, B, C)
LIMIT_MIB = 7000
VMS_MIB = {vm(1): 1000, vm(2): 1500, vm(3): 2000, vm(4): 2500, vm(5): 3000}
LIMITS = Limits(per_source=1, per_target=1, per_cluster=2)
FAILURE = Failure(code="target.refused", message="This target will not.")


ENDS = [state for state in OperationState if is_final(state)]
WANTED = (
    "enter", "exit", "migrate_vm", "enter: host.busy", "enter: cluster.host_away",
    "enter: target.not_available", "enter: target.no_room", "step_started", "step_succeeded",
    "step_failed", "step_skipped", "host_mode_changed", "operation_ended", "cancel_requested",
    "claim", "late write",
)  # fmt: skip


class History(RuleBasedStateMachine):
    """Users, runners and processes that die, in any order."""

    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.Runner()
        self._clock = SettableClock()
        self._store = SqlStore("sqlite://", self._clock)
        self._vms: dict[VmId, HostName] = {}
        self._outdated: list[Operation] = []
        self._now = NOTHING_YET

    @initialize(homes=st.tuples(*[st.sampled_from(HOSTS)] * len(VMS_MIB)))
    def begin(self, homes: tuple[HostName, ...]) -> None:
        self._run(self._store.open())
        fleet = Enrolment(clusters=[Cluster(name=RACK)], hosts=[host(name) for name in HOSTS])
        self._run(self._store.enrol(fleet))
        used = dict.fromkeys(HOSTS, 0)
        for one, home in zip(VMS_MIB, homes, strict=True):
            roomy = (
                home if used[home] + VMS_MIB[one] <= LIMIT_MIB else min(used, key=used.__getitem__)
            )
            used[roomy] += VMS_MIB[one]
            self._vms[one] = roomy
        self._now = self._run(everything(self._store))

    def teardown(self) -> None:
        self._run(self._store.close())
        self._loop.close()

    # --- what users ask for ----------------------------------------------------------------

    @rule(
        source=st.sampled_from(HOSTS),
        ranking=st.permutations(HOSTS),
        most_away=st.integers(min_value=1, max_value=2),
        goes=st.sampled_from(("not on", "on", "there and back")),
    )
    def enter(
        self, source: HostName, ranking: Sequence[HostName], most_away: int, goes: str
    ) -> None:
        there = [one for one, where in self._vms.items() if where == source]
        moves = [
            self._move(one, [*ranking[n % 3 :], *ranking[: n % 3]]) for n, one in enumerate(there)
        ]
        mode = self._now.standings[source].mode
        given = replace(self._terms(), most_away={RACK: most_away})
        if not self._ask(entering(source, *moves, mode=mode, given=given)) or goes == "not on":
            return
        self._carry_out(self._now.operations[0])
        if goes == "there and back" and source in self._in(HostMode.MAINTENANCE):
            self._exit(source)

    @rule(one=st.sampled_from(list(VMS_MIB)), ranking=st.permutations(HOSTS))
    def migrate(self, one: VmId, ranking: Sequence[HostName]) -> None:
        self._ask(migrating(self._move(one, ranking), given=self._terms()))

    @precondition(lambda self: self._in(HostMode.MAINTENANCE, HostMode.EXITING))
    @rule(choice=st.data(), is_smooth=st.booleans())
    def exit(self, choice: st.DataObject, is_smooth: bool) -> None:
        away = self._in(HostMode.MAINTENANCE, HostMode.EXITING)
        if self._exit(choice.draw(st.sampled_from(away))) and is_smooth:
            self._carry_out(self._now.operations[0])

    def _exit(self, home: HostName) -> bool:
        comers = [one.vm for one in self._now.away if one.home == home]
        moves = [self._move(one, (home,)) for one in comers if self._vms[one] != home]
        return self._ask(exiting(home, *moves, given=self._terms()))

    @precondition(lambda self: self._in(HostMode.CORDONED))
    @rule(choice=st.data())
    def uncordon(self, choice: st.DataObject) -> None:
        self._ask(uncordoning(choice.draw(st.sampled_from(self._in(HostMode.CORDONED)))))

    @precondition(lambda self: self._active)
    @rule(choice=st.data(), mode=st.sampled_from(CancelMode))
    def cancel(self, choice: st.DataObject, mode: CancelMode) -> None:
        self._append(choice.draw(self._any_active()), CancelRequested(mode=mode, by="alice"))

    # --- what a runner does ------------------------------------------------------------------

    @precondition(lambda self: self._steps(StepState.PENDING))
    @rule(choice=st.data())
    def start(self, choice: st.DataObject) -> None:
        pending = self._steps(StepState.PENDING)
        moves = [(one, step) for one, step in pending if step.method is Method.LIVE]
        operation, step = choice.draw(st.sampled_from(moves or pending))
        targets = step.planned.targets
        target = choice.draw(st.sampled_from(targets)) if targets else None
        intent = StepStarted(step=step.number, target=target, epoch=operation.epoch)
        self._append(operation, intent)

    @precondition(lambda self: self._steps(StepState.STARTED))
    @rule(choice=st.data())
    def succeed(self, choice: st.DataObject) -> None:
        self._succeed(*choice.draw(self._any_step(StepState.STARTED)))

    def _succeed(self, operation: Operation, step: Step) -> bool:
        done, vm_id, target = StepSucceeded(step=step.number), step.planned.vm, step.target
        if vm_id is None or target is None:
            return self._append(operation, done, *self._proof(operation, step))
        assert self._append(operation, replace(done, outcome=Outcome.MOVED, where=target))
        self._vms[vm_id] = target
        return True

    @precondition(lambda self: self._steps(StepState.STARTED))
    @rule(choice=st.data(), again=st.booleans())
    def fail(self, choice: st.DataObject, again: bool) -> None:
        operation, step = choice.draw(self._any_step(StepState.STARTED))
        not_before = self._clock.now() if again else None
        failed = StepFailed(step=step.number, failure=FAILURE, not_before=not_before)
        assert self._append(operation, failed)

    @precondition(lambda self: self._steps(StepState.PENDING))
    @rule(choice=st.data())
    def skip(self, choice: st.DataObject) -> None:
        operation, step = choice.draw(self._any_step(StepState.PENDING))
        assert self._append(operation, StepSkipped(step=step.number, why="not any more"))

    @precondition(lambda self: self._active)
    @rule(choice=st.data(), state=st.sampled_from(ENDS))
    def end(self, choice: st.DataObject, state: OperationState) -> None:
        """Nothing of it may be in flight."""
        operation = choice.draw(self._any_active())
        if any(step.state is StepState.STARTED for step in operation.steps):
            return
        is_early = not may_advance(operation.state, state)
        cancel = CancelRequested(mode=CancelMode.STOP, by="alice")
        self._end(operation, *([cancel] if is_early else []), OperationEnded(state=state))

    def _end(self, operation: Operation, *events: Event) -> None:
        """The last entries, with the modes that its hosts go to."""
        assert self._append(operation, *self._retreat(operation), *events)

    def _carry_out(self, operation: Operation) -> None:
        """A whole operation without trouble, as far as it can; chance alone gets nowhere."""
        self.claim("p1", 15.0)
        for number in range(1, len(operation.steps) + 1):
            operation = self._fresh(operation)
            step = operation.step(number)
            target, epoch = step.next_target, operation.epoch
            intent = StepStarted(step=number, target=target, epoch=epoch)
            if step.state is StepState.PENDING and not self._append(operation, intent):
                return
            operation = self._fresh(operation)
            step = operation.step(number)
            if step.state is StepState.STARTED and not self._succeed(operation, step):
                return
        operation = self._fresh(operation)
        if may_advance(operation.state, OperationState.SUCCEEDED):
            self._end(operation, OperationEnded(state=OperationState.SUCCEEDED))

    def _fresh(self, operation: Operation) -> Operation:
        """The operation as it is by now."""
        return next(one for one in self._now.operations if one.id == operation.id)

    # --- processes ---------------------------------------------------------------------------

    @rule(owner=st.sampled_from(("p1", "p2")), lease_s=st.sampled_from((0.0, 15.0)))
    def claim(self, owner: str, lease_s: float) -> None:
        known = self._now.operations
        highest = max((one.epoch for one in known), default=0)
        claimed = self._run(self._store.claim(owner, lease_s))
        self._look()
        self.tally["claim"] += len(claimed)
        self._outdated += [old for old in known if old.id in {one.id for one in claimed}]
        assert all(one.epoch > highest and one.owner == owner for one in claimed)
        assert len({one.epoch for one in claimed}) == len(claimed)

    @rule(duration_s=st.sampled_from((1.0, 20.0)))
    def time_passes(self, duration_s: float) -> None:
        self._clock.advance(duration_s)

    @precondition(lambda self: self._owned)
    @rule(choice=st.data())
    def release(self, choice: st.DataObject) -> None:
        assert self._append(choice.draw(st.sampled_from(self._owned)), OperationReleased())

    @precondition(lambda self: self._outdated)
    @rule(choice=st.data())
    def write_late(self, choice: st.DataObject) -> None:
        """A process that was frozen goes on with what it knew (F012)."""
        old = choice.draw(st.sampled_from(self._outdated))
        late: list[Event] = [OperationReleased(), OperationEnded(state=OperationState.FAILED)]
        late += [
            StepSucceeded(step=step.number, outcome=Outcome.MOVED, where=step.target)
            for step in old.steps
            if step.state is StepState.STARTED
        ]
        with pytest.raises(Stale):
            self._run(self._store.append(old, [choice.draw(st.sampled_from(late))]))
        self.tally["late write"] += 1
        assert self._run(everything(self._store)) == self._now

    # --- what is true all the time -------------------------------------------------------------

    def _look(self) -> None:
        """Look at everything that has changed, and that nothing has that may not."""
        before, self._now = self._now, self._run(everything(self._store))
        check(self._now)
        assert self._now.entries[: len(before.entries)] == before.entries, "S8: the journal"
        self._check_slots()
        self._check_modes()

    @invariant()
    def there_is_room(self) -> None:
        """A VM that has just arrived counts where it is, so this waits for the end of a rule."""
        active: dict[HostName, dict[VmId, int]] = {name: {} for name in HOSTS}
        for one, where in self._vms.items():
            active[where][one] = VMS_MIB[one]
        check_room(dict.fromkeys(HOSTS, LIMIT_MIB), self._now.reservations, active)

    def _check_slots(self) -> None:
        flights = [
            (step.planned.source, step.target)
            for _, step in self._steps(StepState.STARTED)
            if step.method is Method.LIVE
        ]
        sources, targets = [one for one, _ in flights], [one for _, one in flights]
        assert len(flights) <= LIMITS.per_cluster, "slots"
        assert all(sources.count(name) <= LIMITS.per_source for name in HOSTS), "slots"
        assert all(targets.count(name) <= LIMITS.per_target for name in HOSTS), "slots"

    def _check_modes(self) -> None:
        """The part of S3 that a store can promise."""
        for name, standing in self._now.standings.items():
            if standing.mode is HostMode.MAINTENANCE:
                assert name not in {one.host for one in self._now.reservations}, "S3"

    # --- choosing and doing --------------------------------------------------------------------

    def _in(self, *modes: HostMode) -> list[HostName]:
        return [name for name, one in self._now.standings.items() if one.mode in modes]

    @property
    def _active(self) -> list[Operation]:
        return [one for one in self._now.operations if not one.is_final]

    @property
    def _owned(self) -> list[Operation]:
        return [one for one in self._active if one.owner is not None]

    def _any_active(self) -> st.SearchStrategy[Operation]:
        return st.sampled_from(self._active)

    def _steps(self, state: StepState) -> list[tuple[Operation, Step]]:
        return [(one, step) for one in self._active for step in one.steps if step.state is state]

    def _any_step(self, state: StepState) -> st.SearchStrategy[tuple[Operation, Step]]:
        return st.sampled_from(self._steps(state))

    def _move(self, one: VmId, ranking: Sequence[HostName]) -> PlannedStep:
        source = self._vms[one]
        ranked = tuple(name for name in ranking if name != source)
        number = list(VMS_MIB).index(one) + 1
        return move(number, source, *ranked, memory_mib=VMS_MIB[one])

    def _terms(self) -> Terms:
        """What a look at all hosts gives now."""
        rooms = {}
        for name in HOSTS:
            seen = [one for one, where in self._vms.items() if where == name]
            used = sum((Load(memory_mib=VMS_MIB[one], vcpus=2) for one in seen), NOTHING)
            limit = Load(memory_mib=LIMIT_MIB, vcpus=100)
            rooms[name] = Room(free=limit - used, seen=frozenset(seen))
        return Terms(rooms=rooms, limits={RACK: LIMITS})

    def _proof(self, operation: Operation, step: Step) -> list[Event]:
        """A host that is seen empty is in maintenance."""
        where = step.planned.host
        is_proof = step.method is Method.CONFIRM_EMPTY and where not in self._vms.values()
        if is_proof and self._now.standings[where].mode is HostMode.ENTERING:
            return [change(where, HostMode.ENTERING, HostMode.MAINTENANCE)]
        return []

    def _retreat(self, operation: Operation) -> list[HostModeChanged]:
        """The modes that the hosts of an operation go to when it ends."""
        ends = {
            (OperationKind.ENTER, HostMode.ENTERING): HostMode.CORDONED,
            (OperationKind.EXIT, HostMode.EXITING): HostMode.AVAILABLE,
            (OperationKind.UNCORDON, HostMode.CORDONED): HostMode.AVAILABLE,
        }
        modes = {name: self._now.standings[name].mode for name in operation.hosts}
        return [
            change(name, mode, ends[operation.kind, mode])
            for name, mode in modes.items()
            if (operation.kind, mode) in ends
        ]

    def _ask(self, ask: Ask) -> bool:
        return self._attempt(ask.event.operation_kind.value, ask.accept(self._store))

    def _append(self, operation: Operation, *events: Event) -> bool:
        """Whether the store took it."""
        work = self._store.append(operation, events, self._terms())
        if self._attempt(events[-1].kind, work):
            self._outdated.append(operation)
            return True
        return False

    def _attempt(self, what: str, work: Coroutine[Any, Any, object]) -> bool:
        """Whether it was done; if it was refused, nothing has changed."""
        before = self._now
        try:
            self._run(work)
        except (Conflict, Refused) as refusal:
            self.tally[f"{what}: {refusal.code}"] += 1
            assert self._run(everything(self._store)) == before
            return False
        self.tally[what] += 1
        self._look()
        return True

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)


def test_whatever_happens_in_whatever_order_the_promises_hold() -> None:
    History.tally.clear()
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=36,
            stateful_step_count=40,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # shrinking a history takes minutes; these can be read
            suppress_health_check=list(HealthCheck),
        ),
    )
    # A run in which one of these never happened has shown nothing.
    missing = [what for what in WANTED if not History.tally[what]]
    assert missing == [], History.tally
