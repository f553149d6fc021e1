"""Steering operations that are under way: a person's word, added to their journals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from furlough.core.holding import needs_approval, unapproved
from furlough.core.ids import OperationId
from furlough.core.journal import CancelRequested, Event, OperationUnblocked
from furlough.core.operation import Operation
from furlough.core.plan import OperationKind, Plan
from furlough.core.policy import CancelMode
from furlough.core.states import HostMode, OperationState
from furlough.core.steering import OperationPaused, OperationResumed, StepsApproved
from furlough.engine.supervisor import Supervisor
from furlough.engine.work import Work
from furlough.errors import Conflict, Invalid, Stale
from furlough.planning.homecoming import Return
from furlough.planning.put_back import plan_put_back
from furlough.prechecks.requests import check_hash
from furlough.service.authority import Authority

_MOST_TRIES = 20
_ACTIONS: dict[type[object], str] = {
    CancelRequested: "cancel",
    OperationPaused: "pause",
    OperationResumed: "resume",
    OperationUnblocked: "resume",
    StepsApproved: "approve",
}


@dataclass(frozen=True, kw_only=True)
class Approval:
    """What a person approves: the plan of this hash (None: the present one), all of it or the
    steps with these ids."""

    plan_hash: str | None = None
    steps: tuple[str, ...] = ()


class Steering:
    """Cancel, pause, resume, approve."""

    def __init__(self, work: Work, supervisor: Supervisor, authority: Authority) -> None:
        self._work = work
        self._authority = authority
        self._store = work.store
        self._supervisor = supervisor

    async def cancel(self, which: OperationId, mode: CancelMode, by: str) -> Operation:
        """Stop an operation. Asking twice is asking once; a final one cannot be cancelled."""

        def word(operation: Operation) -> Event:
            if mode is CancelMode.PUT_BACK:
                _check_entering(operation)
            return CancelRequested(mode=mode, by=by)

        return await self._steer(which, word)

    async def put_back_plan(self, which: OperationId) -> tuple[Plan, tuple[Return, ...]]:
        """What a cancel that puts back would do about who has left so far."""
        operation = await self._store.operation(which)
        _check_entering(operation)
        _check_not_final(operation)
        standings = await self._store.standings()
        hosts = [host for host in operation.hosts if standings[host].mode is HostMode.ENTERING]
        await self._work.observer.refresh()
        inventory = await self._work.observer.inventory()
        return plan_put_back(operation, inventory, hosts, await self._store.reservations())

    async def pause(self, which: OperationId, by: str) -> Operation:
        """Start nothing new; what is in flight ends. Pausing twice is pausing once."""
        operation = await self._store.operation(which)
        if operation.state is OperationState.PAUSED:
            return operation
        return await self._steer(which, lambda _: OperationPaused(by=by))

    async def resume(self, which: OperationId, by: str) -> Operation:
        """Let a paused or blocked operation go on, after a person has looked."""

        def word(operation: Operation) -> Event:
            _check_stands_still(operation)
            is_paused = operation.state is OperationState.PAUSED
            return OperationResumed(by=by) if is_paused else OperationUnblocked(by=by)

        _check_stands_still(await self._store.operation(which))
        return await self._steer(which, word)

    async def approve(self, which: OperationId, approval: Approval, by: str) -> Operation:
        """Let steps start that wait for it. `Conflict` with the present plan where it is another
        than the one that was approved."""

        def word(operation: Operation) -> Event:
            _check_asks(operation)
            check_hash(operation.plan, approval.plan_hash)
            return StepsApproved(
                plan_hash=operation.plan.hash, steps=_chosen(operation, approval.steps), by=by
            )

        return await self._steer(which, word)

    async def _steer(self, which: OperationId, word: Callable[[Operation], Event]) -> Operation:
        """Add a person's word to a journal that its runner writes to at the same time."""
        for _ in range(_MOST_TRIES):
            operation = await self._store.operation(which)
            _check_not_final(operation)
            event = word(operation)
            deed = self._authority.deed(_ACTIONS[type(event)], f"operation {which}")
            try:
                changed = await self._store.append(operation, [event], deed=deed)
            except Stale:
                continue
            self._work.notifier.notify()
            self._supervisor.nudge(which)
            return changed
        raise Conflict("operation.busy", f"{which} changes too fast.", remedy="Try again.")


def _chosen(operation: Operation, wanted: Iterable[str]) -> tuple[int, ...]:
    """The numbers of the steps with these ids; where none is named, of all that wait."""
    known: dict[str, int] = {step.id: step.number for step in operation.steps}
    names = list(wanted)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Invalid(
            "step.unknown",
            f"{operation.id} has no step {unknown[0][:64]!r}.",
            remedy=f"See its steps: furlough operation show {operation.id}.",
        )
    if names:
        return tuple(dict.fromkeys(known[name] for name in names))
    return tuple(step.number for step in unapproved(operation))


def _check_stands_still(operation: Operation) -> None:
    if operation.state not in (OperationState.PAUSED, OperationState.BLOCKED):
        raise Conflict(
            "operation.not_blocked",
            f"{operation.id} is {operation.state.value}; only a paused or blocked one can be "
            "resumed.",
            remedy=f"See what it does: furlough operation show {operation.id}.",
        )


def _check_asks(operation: Operation) -> None:
    if not needs_approval(operation):
        raise Conflict(
            "approval.not_asked",
            f"{operation.id} does not ask for approval: its automation is not manual.",
            remedy=f"See what it does: furlough operation show {operation.id}.",
        )
    if not unapproved(operation):
        raise Conflict(
            "approval.none",
            f"No step of {operation.id} waits for approval.",
            remedy=f"See what it does: furlough operation show {operation.id}.",
        )


def _check_entering(operation: Operation) -> None:
    if operation.kind is not OperationKind.ENTER:
        raise Conflict(
            "put_back.not_entering",
            f"{operation.id} ({operation.kind.value}) takes nobody off a host: there is nobody to "
            "put back.",
            remedy=f"Cancel it another way: furlough operation cancel {operation.id}.",
        )


def _check_not_final(operation: Operation) -> None:
    if operation.is_final:
        raise Conflict(
            "operation.final",
            f"{operation.id} is {operation.state.value} already.",
            remedy="Nothing of it is left to be changed.",
        )
