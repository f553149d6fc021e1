"""The promises about what has to happen in time, once faults have stopped.

A watch samples the books every few seconds: from when faults have stopped it knows since when each
operation owes something, and says so once it has owed it for too long.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from furlough.core.agenda import agenda
from furlough.core.ids import HostName
from furlough.core.looks import Job
from furlough.core.operation import Operation, Step
from furlough.core.plan import Method
from furlough.core.policy import CancelMode
from furlough.core.states import OperationState, StepState
from furlough.engine.observer import modes_of
from furlough.scenario.promises import Books
from furlough.sim.cluster import SimCluster

SAMPLE_S = 5.0
# One window before the act of a settling and one after it: 35 s each, and the looks between.
_SETTLES_WITHIN_S = 90.0
_CANCELS_WITHIN_S = 120.0
_ENDS_AFTER_DEADLINE_S = 60.0 + _SETTLES_WITHIN_S
# A look every few seconds, and one call to the store that is as late as a call may be.
_TAKEOVER_WITHIN_S = 20.0
_NO_HOSTAGE_WITHIN_S = 90.0
_STUCK_AFTER_S = 400.0


@dataclass(kw_only=True)
class Liveness:
    """Since when somebody owes what, in monotonic seconds. `lease_s`: how long a dead process may
    be taken for alive."""

    lease_s: float
    _since: dict[Hashable, float] = field(default_factory=dict)

    def sample(
        self, cluster: SimCluster, books: Books, alive: Collection[str], calm_since: datetime
    ) -> Iterator[str]:
        """What has not come in time. `alive`: the names of the processes that live."""
        now_s, now = cluster.clock.monotonic(), cluster.clock.now()
        owed: dict[Hashable, float] = {}
        for operation in books.active:
            debts = self._debts(cluster, books, operation, now)
            if operation.owner is not None and operation.owner not in alive:
                debts = itertools.chain(debts, [self._orphaned(operation, alive)])
            for what, most_s, words in debts:
                owed[what] = since = self._since.get(what, now_s)
                if now_s - since > most_s:
                    yield f"{words} for {now_s - since:.0f} s"
                    owed[what] = now_s + 1e9  # Told once.
            yield from late(operation, now, calm_since)
        self._since = owed

    def _debts(
        self, cluster: SimCluster, books: Books, operation: Operation, now: datetime
    ) -> Iterator[tuple[Hashable, float, str]]:
        for step in in_doubt(cluster, operation):
            # Whoever takes it over begins its windows anew.
            doubt = ("L2", step.id, len(step.attempts), len(step.acts), operation.epoch)
            yield doubt, _SETTLES_WITHIN_S, f"L2: {step.id} is in doubt, both hosts answer"
        if is_cancelled_in_vain(cluster, operation):
            cancel = ("L3", operation.id, len(cluster.migrations), operation.epoch)
            yield cancel, _CANCELS_WITHIN_S, f"L3: {operation.id} is being cancelled"
        for step in hostages(cluster, books, operation, now):
            words = f"L5: {step.id} waits, and could go"
            yield ("L5", step.id, len(step.attempts)), _NO_HOSTAGE_WITHIN_S, words
        if is_idle(cluster, operation):
            stuck = ("L1", operation.id, operation.events)
            yield stuck, _STUCK_AFTER_S, f"L1: nothing happens in {operation.id}"

    def _orphaned(
        self, operation: Operation, alive: Collection[str]
    ) -> tuple[Hashable, float, str]:
        """One that dies while it waits for the lease of another leaves that to the next one."""
        words = f"L4: {operation.id} belongs to a dead process"
        since = ("L4", operation.id, operation.epoch, *sorted(alive))
        return since, self.lease_s + _TAKEOVER_WITHIN_S, words


def late(operation: Operation, now: datetime, calm_since: datetime) -> Iterator[str]:
    """L1: it ends by its deadline, or says what it waits for."""
    if operation.deadline is None or operation.waiting_for is not None:
        return
    late_s = (now - max(operation.deadline, calm_since)).total_seconds()
    most_s = _ENDS_AFTER_DEADLINE_S
    if most_s < late_s <= most_s + SAMPLE_S:
        yield f"L1: {operation.id} is {operation.state.value} {late_s:.0f} s after its deadline"


def in_doubt(cluster: SimCluster, operation: Operation) -> Iterator[Step]:
    """L2: migrations that are over, between hosts that both answer, and have no outcome yet."""
    if operation.waiting_for is not None:
        return
    for step in operation.steps:
        vm, source, target = step.planned.vm, step.planned.source, step.target
        if step.state is not StepState.STARTED or step.method is not Method.LIVE:
            continue
        is_over = vm is not None and vm not in cluster.migrations
        if is_over and answers(cluster, source) and answers(cluster, target):
            yield step


def answers(cluster: SimCluster, host: HostName | None) -> bool:
    """Whether the controller gets an answer from this host."""
    machine = None if host is None else cluster.hosts[host]
    return machine is not None and machine.is_up and machine.has_daemon and machine.is_reachable


def is_cancelled_in_vain(cluster: SimCluster, operation: Operation) -> bool:
    """L3: it is being cancelled and nothing of it has to come to its end first."""
    if operation.state is not OperationState.CANCELLING or operation.waiting_for is not None:
        return False
    flying = any(step.planned.vm in cluster.migrations for step in operation.steps)
    stopping = any(
        step.state is StepState.STARTED and step.method in (Method.SHUT_DOWN, Method.SUSPEND)
        for step in operation.steps
    )
    # Those that go on flying are let come to their end, or bring somebody back.
    return not ((flying or stopping) and operation.cancel is not CancelMode.STOP)


def hostages(
    cluster: SimCluster, books: Books, operation: Operation, now: datetime
) -> Iterator[Step]:
    """L5: steps that may start, and nothing is in flight that could have their slots."""
    if cluster.migrations or operation.state is not OperationState.BLOCKED:
        return
    todo = agenda(operation, modes_of(books.standings), now)
    for step in todo.start:
        target = step.next_target
        if step.method is not Method.LIVE or target is None or step.planned.vm is None:
            continue
        copy = cluster.copy(step.planned.host, step.planned.vm)
        is_ready = copy is not None and copy.has_process and copy.job is Job.NONE
        others = step.planned.vm in cluster.touched
        if is_ready and answers(cluster, target) and not others:
            yield step


def is_idle(cluster: SimCluster, operation: Operation) -> bool:
    """L1: neither over, nor waiting for anybody, and nothing in flight."""
    if operation.waiting_for is not None:
        return False
    return not any(step.planned.vm in cluster.migrations for step in operation.steps)
