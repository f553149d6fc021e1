"""Steering operations that are under way: a person's word, added to their journals."""

from __future__ import annotations

from furlough.core.ids import OperationId
from furlough.core.journal import CancelRequested, Event, OperationUnblocked
from furlough.core.operation import Operation
from furlough.core.policy import CancelMode
from furlough.core.states import OperationState
from furlough.engine.supervisor import Supervisor
from furlough.engine.work import Work
from furlough.errors import Conflict, Stale

_MOST_TRIES = 20


class Steering:
    """Cancel, resume."""

    def __init__(self, work: Work, supervisor: Supervisor) -> None:
        self._work = work
        self._store = work.store
        self._supervisor = supervisor

    async def cancel(self, which: OperationId, mode: CancelMode, by: str) -> Operation:
        """Stop an operation. Asking twice is asking once; a final one cannot be cancelled."""
        return await self._steer(which, CancelRequested(mode=mode, by=by))

    async def resume(self, which: OperationId, by: str) -> Operation:
        """Let a blocked operation go on, after a person has looked."""
        operation = await self._store.operation(which)
        if operation.state is not OperationState.BLOCKED:
            raise Conflict(
                "operation.not_blocked",
                f"{which} is {operation.state.value}; only a blocked one can be resumed.",
                remedy=f"See what it does: furlough operation show {which}.",
            )
        return await self._steer(which, OperationUnblocked(by=by))

    async def _steer(self, which: OperationId, event: Event) -> Operation:
        """Add a person's word to a journal that its runner writes to at the same time."""
        for _ in range(_MOST_TRIES):
            operation = await self._store.operation(which)
            if operation.is_final:
                raise Conflict(
                    "operation.final",
                    f"{which} is {operation.state.value} already.",
                    remedy="Nothing of it is left to be changed.",
                )
            try:
                changed = await self._store.append(operation, [event])
            except Stale:
                continue
            self._work.notifier.notify()
            self._supervisor.nudge(which)
            return changed
        raise Conflict("operation.busy", f"{which} changes too fast.", remedy="Try again.")
