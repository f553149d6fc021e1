"""Which operations this process drives: claims them, runs them, keeps their leases, lets go.

One task group holds everything. A bug in one operation blocks that one; the others go on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from furlough.core.ids import OperationId
from furlough.core.journal import OperationBlocked, OperationReleased
from furlough.core.operation import Operation
from furlough.engine.ledger import Ledger, SteppedDown
from furlough.engine.runner import Runner
from furlough.engine.work import Work
from furlough.errors import FurloughError, Unreachable

log = structlog.get_logger()


class Supervisor:
    """Drives operations under the name `owner`, which must be new at every start."""

    def __init__(self, work: Work, owner: str) -> None:
        self._work = work
        self._owner = owner
        self._runners: dict[OperationId, Runner] = {}
        self._tasks: dict[OperationId, asyncio.Task[None]] = {}
        self._wanted = asyncio.Event()
        self._parked: dict[OperationId, Operation] = {}

    async def run(self) -> None:
        """Drive operations until cancelled; then let go of them in good order."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_leases(tasks))
                while True:
                    self._wanted.clear()
                    await self._claim(tasks)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._work.pace.reread_s):
                            await self._wanted.wait()
        finally:
            await self._release()

    def nudge(self, operation: OperationId | None = None) -> None:
        """There is a new operation, or news for this one."""
        runner = self._runners.get(operation) if operation is not None else None
        if runner is not None:
            runner.nudge()
        self._wanted.set()

    async def _claim(self, tasks: asyncio.TaskGroup) -> None:
        try:
            claimed = await self._work.store.claim(self._owner, self._work.pace.lease_s)
            await self._unpark(tasks)
        except Unreachable as error:
            log.warning("store unavailable", because=error.message)
            return
        for operation in claimed:
            self._begin(tasks, operation)

    def _begin(self, tasks: asyncio.TaskGroup, operation: Operation) -> None:
        if operation.id in self._tasks:
            return
        ledger = Ledger(operation, self._work.store, self._work.clock, self._work.notifier)
        runner = Runner(self._work, ledger)
        self._runners[operation.id] = runner
        self._tasks[operation.id] = tasks.create_task(self._drive(runner, ledger))

    async def _drive(self, runner: Runner, ledger: Ledger) -> None:
        """Run it to its end; what goes wrong in it stays in it."""
        which = ledger.operation.id
        try:
            await runner.run()
        except* SteppedDown:
            log.warning("operation taken over by another process", operation=which)
        except* Exception as errors:  # a bug must not take the others down
            log.exception("operation blocked by a bug", operation=which)
            await self._block(ledger, errors.exceptions[0])
        finally:
            self._runners.pop(which, None)
            self._tasks.pop(which, None)
        if not ledger.operation.is_final:
            self._parked[which] = ledger.operation

    async def _block(self, ledger: Ledger, error: BaseException) -> None:
        with suppress(FurloughError, SteppedDown):
            await ledger.refresh()
            await ledger.record(
                OperationBlocked(
                    code="bug",
                    waiting_for=f"a person: {type(error).__name__}: {error}; then: "
                    f"furlough operation resume {ledger.operation.id}",
                )
            )

    async def _unpark(self, tasks: asyncio.TaskGroup) -> None:
        """Run again what was put aside, once somebody has touched it (resume, cancel)."""
        for which, known in list(self._parked.items()):
            current = await self._work.store.operation(which)
            if current.epoch != known.epoch or current.is_final:
                del self._parked[which]
            elif current.events != known.events:
                del self._parked[which]
                self._begin(tasks, current)

    async def _keep_leases(self, tasks: asyncio.TaskGroup) -> None:
        """Renew in time; what is no longer ours is dropped before its lease ends elsewhere."""
        while True:
            await self._work.clock.sleep(self._work.pace.heartbeat_s)
            try:
                mine = set(await self._work.store.renew(self._owner, self._work.pace.lease_s))
                await self._take_up(tasks, mine)
            except Unreachable as error:
                log.warning("store unavailable", because=error.message)
                continue
            for which, task in list(self._tasks.items()):
                if which not in mine:
                    log.warning("lease lost", operation=which)
                    task.cancel()

    async def _take_up(self, tasks: asyncio.TaskGroup, mine: set[OperationId]) -> None:
        """Drive what is ours without our knowing: its claim was committed, and the answer was
        lost. Nobody else would, as long as we keep its lease (F018)."""
        for which in mine - set(self._tasks) - set(self._parked):
            operation = await self._work.store.operation(which)
            if operation.owner == self._owner and not operation.is_final:
                log.warning("claim found after its answer was lost", operation=which)
                self._begin(tasks, operation)

    async def _release(self) -> None:
        """A stop in good order is no crash: give the operations back."""
        for operation in [*self._parked.values()]:
            await self._give_back(operation.id)
        for which in await self._owned():
            await self._give_back(which)

    async def _owned(self) -> list[OperationId]:
        try:
            return list(await self._work.store.renew(self._owner, self._work.pace.lease_s))
        except FurloughError:
            return []

    async def _give_back(self, which: OperationId) -> None:
        with suppress(FurloughError):
            current = await self._work.store.operation(which)
            if current.owner == self._owner and not current.is_final:
                await self._work.store.append(current, [OperationReleased()])
