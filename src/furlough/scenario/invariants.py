"""What must be true of a simulated cluster at every moment, and asks for it all the time.

    after every change of a copy      S1
    after every commit                S3 S4 S5 S8 S11 S12, no bug
    before every effect               S1 S5 S6 S7 S13 S14 S15 S18, the limits of migrations
    every few seconds, after faults   L1 L2 L3 L4 L5
    at the end of an operation        S2 S7 S8 S9 S10 L6

The promises themselves are functions in `promises`, `effects` and `liveness`. Violations are
collected, not raised: they happen in other tasks than the one that reports them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.journal import (
    CancelRequested,
    Event,
    HostModeChanged,
    PlanExtended,
    StepStarted,
    fold,
)
from furlough.core.looks import Look
from furlough.core.not_home import RETURNS
from furlough.core.operation import Operation, Step
from furlough.core.policy import CancelMode
from furlough.core.states import StepState
from furlough.planning.record import Away
from furlough.ports import ColdOrder, Hypervisor, Marker, MigrationOrder, Store
from furlough.scenario import effects, promises
from furlough.scenario.effects import Effect
from furlough.scenario.liveness import Liveness
from furlough.scenario.promises import Books
from furlough.sim.cluster import SimCluster
from furlough.sim.faults import OwnProcess


@dataclass(kw_only=True)
class Witness:
    """What is known of one process: under which name it claims, and whether it was frozen."""

    process: OwnProcess
    owner: str = ""

    @property
    def was_frozen(self) -> bool:
        return self.process.was_frozen

    @property
    def is_alive(self) -> bool:
        return not (self.process.died.is_set() or self.process.is_frozen)


class Invariants:
    """Watches one cluster and its store. `is_strict`: room and owners are counted after every
    commit, and a bug of the engine's is no accident but a violation."""

    def __init__(
        self, cluster: SimCluster, store: Store, *, is_strict: bool = False, lease_s: float = 15.0
    ) -> None:
        self._is_strict = is_strict
        self.violations: list[str] = []
        self.peak = 0
        self.committed = asyncio.Event()
        self.operations: dict[OperationId, Operation] = {}
        self.liveness = Liveness(lease_s=lease_s)
        self.calm_since: datetime | None = None
        self._cluster = cluster
        self._store = store
        self._witnesses: list[Witness] = []
        self._since_s: dict[OperationId, float] = {}
        self._cancelled: dict[OperationId, datetime] = {}
        self._records: dict[OperationId, Sequence[Away]] = {}
        self._seen: dict[VmId, dict[HostName, Look]] = {}
        self._calls: dict[OperationId, Counter[VmId]] = {}
        cluster.watchers.append(self._check_copies)

    def witness(self, process: OwnProcess) -> Witness:
        """Somebody who follows what this process does."""
        self._witnesses.append(Witness(process=process))
        return self._witnesses[-1]

    def watch_store(self, witness: Witness) -> Store:
        """The store, with a look at every commit."""
        return cast("Store", _WatchedStore(self._store, self, witness))

    def watch_hypervisor(self, hypervisor: Hypervisor, witness: Witness) -> Hypervisor:
        """The hypervisor, with a look before every effect."""
        return cast("Hypervisor", _WatchedHypervisor(hypervisor, self, witness))

    def report(self, words: str) -> None:
        """A promise that a story has seen broken by itself."""
        self.violations.append(f"{self._cluster.clock.now():%H:%M:%S.%f} {words}")

    def _report_all(self, found: Iterable[str]) -> None:
        for words in found:
            if not any(known.endswith(words) for known in self.violations):
                self.report(words)

    # --- after every change ---------------------------------------------------------------------

    def _check_copies(self) -> None:
        self._report_all(promises.runs_twice(self._cluster))

    async def books(self, *, with_room: bool = False) -> Books:
        """What the store holds now; what room it holds only where that is asked for."""
        return Books(
            operations=self.operations,
            standings=await self._store.standings(),
            reservations=await self._store.reservations() if with_room else (),
            enrolment=await self._store.enrolment(),
        )

    async def after_commit(
        self, operation: Operation, events: Sequence[Event], witness: Witness
    ) -> None:
        """S3, S4, S5, S8, S11, S12."""
        before = self.operations.get(operation.id)
        self.operations[operation.id] = operation
        self.committed.set()
        self._remember(operation, events)
        if before is None and operation.kind in RETURNS:
            record = self._records[operation.id] = await self._store.away()
            self._report_all(promises.undoes_others(operation, record))
        is_new = before is None or any(
            isinstance(event, StepStarted | PlanExtended | HostModeChanged) for event in events
        )
        books = await self.books(with_room=is_new and (self._is_strict or before is None))
        cluster = self._cluster
        self._report_all(promises.rewritten(before, operation, len(events)))
        self._report_all(promises.is_not_empty(cluster, books))
        since_s, now_s = self._since_s[operation.id], cluster.clock.monotonic()
        self._report_all(promises.timed_out_early(operation, events, since_s, now_s))
        self._report_all(promises.declared_too_early(cluster, books, operation, events))
        self._report_all(promises.bad_target(books, operation, events))
        if is_new:
            self._report_all(promises.overfull(cluster, books))
            self._report_all(promises.owned_twice(books) if self._is_strict else ())
        if self._is_strict:
            self._report_all(promises.stopped_by_a_bug(operation))
            if operation.is_final:
                # Now, and not later: others may do something with its VMs from here on.
                await self.check_final(operation.id)
        if before is not None and operation.owner is not None:
            writer = witness.owner
            found = promises.written_by_another(operation.id, operation.owner, writer, events)
            self._report_all(found)

    def _remember(self, operation: Operation, events: Sequence[Event]) -> None:
        """When it was accepted, and when it was cancelled."""
        self._since_s.setdefault(operation.id, self._cluster.clock.monotonic())
        for event in events:
            if isinstance(event, CancelRequested) and event.mode is CancelMode.STOP:
                self._cancelled.setdefault(operation.id, self._cluster.clock.now())

    def record_of(self, operation: OperationId) -> Sequence[Away]:
        """Who was away when this exit was accepted."""
        return self._records.get(operation, ())

    def after_claim(self, claimed: Sequence[Operation], owner: str, witness: Witness) -> None:
        """From now on these belong to this process."""
        witness.owner = owner
        for operation in claimed:
            self._report_all(promises.rewritten(self.operations.get(operation.id), operation, 1))
            self.operations[operation.id] = operation
        if claimed:
            self.committed.set()

    # --- before every effect --------------------------------------------------------------------

    def saw(self, look: Look, vm: VmId) -> None:
        """What a host has said of a VM."""
        self._seen.setdefault(vm, {})[look.host] = look

    async def before_effect(self, effect: Effect, witness: Witness) -> None:
        """S1, S5, S6, S7, S13, S14, S15, S18 and the limits."""
        books, cluster = await self.books(), self._cluster
        is_stale = witness.was_frozen
        step = self._step_behind(effect)
        seen = self._seen.get(effect.vm, {}) if effect.vm is not None else {}
        if is_stale:
            self._note_stale(effect, witness)
        else:
            self._report_all(effects.without_evidence(effect, step, seen))
            self._report_all(effects.resumes_beside(effect, seen))
            self._report_all(effects.ends_the_last(cluster, effect))
        self._report_all(effects.without_intent(books, effect, is_stale=is_stale))
        self._report_all(effects.takes_a_silent_risk(cluster, effect, step))
        self._report_all(effects.cuts_a_host(cluster, books, effect))
        if effect.order is not None:
            self.peak = max(self.peak, len(cluster.migrations) + 1)
            calls = self._calls.setdefault(effect.order.operation, Counter())
            calls[effect.order.vm] += not effect.order.resumes_post_copy
            self._report_all(effects.repeated(effect, books, calls))
            if not is_stale:
                self._report_all(effects.too_many(cluster, books, effect.order))

    def _step_behind(self, effect: Effect) -> Step | None:
        for operation in self.operations.values():
            for step in operation.steps:
                if step.state is StepState.STARTED and step.planned.vm == effect.vm is not None:
                    return step
        return None

    def _note_stale(self, effect: Effect, witness: Witness) -> None:
        """A process that wakes up late may still ask libvirt for what has no epoch; then the VM is
        where nobody expects it, as if somebody else had moved it."""
        vm = effect.vm
        owners = {
            one.owner
            for one in self.operations.values()
            if any(entry.vm == vm for entry in one.roster)
        }
        if vm is not None and owners != {witness.owner}:
            self._cluster.touched[vm] = f"{effect.name} by a process that was frozen"
            self._cluster.upset.update(self._cluster.hosts)

    # --- in time --------------------------------------------------------------------------------

    async def sample(self) -> None:
        """L1 to L5, once faults have stopped."""
        if self.calm_since is None:
            return
        alive = {one.owner for one in self._witnesses if one.is_alive}
        self._report_all(
            self.liveness.sample(self._cluster, await self.books(), alive, self.calm_since)
        )

    # --- at the end -----------------------------------------------------------------------------

    async def check_final(self, which: OperationId) -> None:
        """S2, S7, S8, S9, S10 and L6 of an operation that is over."""
        operation, cluster = await self._store.operation(which), self._cluster
        if fold(await self._store.journal(which)) != operation:
            self.report(f"S8: {which} is not the fold of its journal")
        books = await self.books(with_room=True)
        for found in (
            promises.lost(cluster, operation),
            promises.misplaced(cluster, operation),
            promises.done_twice(cluster, operation),
            promises.changed_on_the_way(cluster, operation),
            promises.not_restored(cluster, operation, self.record_of(which)),
            promises.not_as_recorded(cluster, operation, await self._store.away()),
            promises.held_too_long(cluster, books, operation),
        ):
            self._report_all(found)
        if self._is_strict:
            self._report_all(promises.blamed_falsely(cluster, operation, self.operations.values()))
        cancelled_at, calm = self._cancelled.get(which), self.calm_since
        # In bad weather nobody may have been there to abort anything.
        if cancelled_at is not None and calm is not None and calm <= cancelled_at:
            self._report_all(promises.not_aborted(operation, cancelled_at))


# --- the watched ports ----------------------------------------------------------------------------


class _Watched:
    def __init__(self, port: object, invariants: Invariants, witness: Witness) -> None:
        self._port = port
        self._invariants = invariants
        self._witness = witness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


class _WatchedStore(_Watched):
    async def accept(self, *arguments: Any, **named: Any) -> Operation:
        port = cast("Store", self._port)
        operation = await port.accept(*arguments, **named)
        if operation.id not in self._invariants.operations:
            await self._invariants.after_commit(operation, (), self._witness)
        return operation

    async def append(
        self, operation: Operation, events: Sequence[Event], *more: Any, **named: Any
    ) -> Operation:
        port = cast("Store", self._port)
        after = await port.append(operation, events, *more, **named)
        await self._invariants.after_commit(after, events, self._witness)
        return after

    async def claim(self, owner: str, lease_s: float) -> Sequence[Operation]:
        claimed = await cast("Store", self._port).claim(owner, lease_s)
        self._invariants.after_claim(claimed, owner, self._witness)
        return claimed


class _WatchedHypervisor(_Watched):
    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name not in effects.EFFECTS:
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            await self._invariants.before_effect(_effect(name, arguments, named), self._witness)
            return await method(*arguments, **named)

        setattr(self, name, call)
        return call

    async def look(self, host: HostName, vm: VmId) -> Look:
        look = await cast("Hypervisor", self._port).look(host, vm)
        self._invariants.saw(look, vm)
        return look


def _effect(name: str, arguments: Sequence[Any], named: dict[str, Any]) -> Effect:
    """A call of the port as one value. Migrations are given an order, guards a marker, all others
    a host and a VM, and some an epoch."""
    first = arguments[0]
    if isinstance(first, MigrationOrder):
        return Effect(
            name=name,
            host=first.source,
            vm=first.vm,
            epoch=first.epoch,
            operation=first.operation,
            order=first,
        )
    if isinstance(first, ColdOrder):
        return Effect(
            name=name,
            host=first.target,
            vm=first.vm,
            epoch=first.epoch,
            operation=first.operation,
        )
    last = arguments[-1]
    if isinstance(last, Marker):
        return Effect(name=name, host=first, epoch=last.epoch, operation=last.operation)
    epoch = last if isinstance(last, int) else named.get("epoch")
    return Effect(name=name, host=first, vm=arguments[1], epoch=epoch)
