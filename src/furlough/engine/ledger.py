"""The one copy of an operation that its runner works with, and the only way to add to it."""

from __future__ import annotations

import asyncio

from furlough.core.admission import Terms
from furlough.core.journal import Event, OperationBlocked, OperationUnblocked, StepStarted
from furlough.core.operation import Operation
from furlough.core.states import OperationState
from furlough.errors import Stale, Unreachable
from furlough.ports import Clock, Notifier, Store

_STORE_PAUSE_S = 1.0


class SteppedDown(Exception):
    """Another process has the operation now: stop, without another effect."""


class Ledger:
    """Records events of one claimed operation, one after another.

    What others add meanwhile (a cancel) is read in; an unknown outcome of a commit is looked up;
    a newer epoch ends the work with `SteppedDown`.
    """

    def __init__(
        self, operation: Operation, store: Store, clock: Clock, notifier: Notifier
    ) -> None:
        self.operation = operation
        self.changed = asyncio.Event()
        self._store = store
        self._clock = clock
        self._notifier = notifier
        self._lock = asyncio.Lock()
        self._waits: dict[int, tuple[str, str]] = {}

    async def record(self, *events: Event, terms: Terms | None = None) -> None:
        """Append these events, whatever others have added meanwhile."""
        async with self._lock:
            while not await self._try(events, terms):
                pass

    async def record_if_unchanged(self, *events: Event, terms: Terms | None = None) -> None:
        """Append these events only if nobody has added anything; else read it in and raise
        `Stale`: the decision has to be made anew."""
        async with self._lock:
            known = self.operation.events
            # A step that has waited for its moment finds out here that nothing new is to start.
            is_paused = self.operation.state is OperationState.PAUSED
            if is_paused and any(isinstance(event, StepStarted) for event in events):
                raise Stale("operation.stale", f"{self.operation.id} is paused.")
            if not await self._try(events, terms):
                raise Stale("operation.stale", f"{self.operation.id} changed at event {known}.")

    async def refresh(self) -> None:
        """Read in what others have added."""
        async with self._lock:
            await self._read()

    async def wait(self, step: int, code: str, words: str) -> None:
        """Step `step` (0: the operation as a whole) waits for something only the world or a person
        can bring; with an empty code: no longer."""
        if self.operation.is_final:
            return
        before = dict(self._waits)
        if code:
            self._waits[step] = (code, words)
        else:
            self._waits.pop(step, None)
        if self._waits == before:
            return
        try:
            await self._tell_the_worst()
        except BaseException:
            self._waits = before  # It was not told: whoever waits says it again.
            raise

    def is_waiting(self, step: int) -> bool:
        """Whether this step has said that it waits for something, and nobody said: go on."""
        return step in self._waits

    async def _tell_the_worst(self) -> None:
        """Of several steps that wait, the operation tells the one that matters most."""
        if not self._waits:
            await self.record(OperationUnblocked())
            return
        code, words = min(
            (wait for _, wait in sorted(self._waits.items())), key=lambda wait: _rank(wait[0])
        )
        if (self.operation.code, self.operation.waiting_for) != (code, words):
            await self.record(OperationBlocked(code=code, waiting_for=words))

    async def _try(self, events: tuple[Event, ...], terms: Terms | None) -> bool:
        """Whether the events are in the journal now; if not, what is there has been read in."""
        try:
            self.operation = await self._store.append(self.operation, events, terms)
        except Stale:
            await self._read()
            return False
        except Unreachable:
            # The commit may have happened. Nothing new is started until the store answers.
            return await self._find(events)
        self._tell()
        return True

    async def _find(self, events: tuple[Event, ...]) -> bool:
        """After a commit of unknown outcome: whether these events are there."""
        known = self.operation.events
        while True:
            await self._clock.sleep(_STORE_PAUSE_S)
            try:
                journal = await self._store.journal(self.operation.id)
                await self._read()
            except Unreachable:
                continue
            found = tuple(entry.event for entry in journal[known : known + len(events)])
            return found == events

    async def _read(self) -> None:
        fresh = await self._store.operation(self.operation.id)
        if fresh.epoch != self.operation.epoch:
            raise SteppedDown(fresh.id)
        if fresh.waiting_for is None:
            self._waits.clear()  # A person said: go on. What still waits will say so again.
        self.operation = fresh
        self.changed.set()

    def _tell(self) -> None:
        self.changed.set()
        self._notifier.notify()


def _rank(code: str) -> int:
    """Two copies first, then a bug of ours, what else is wrong with a migration, all the rest."""
    if code == "vm.two_copies":
        return 0
    if code == "bug":
        return 1
    return 2 if code.startswith("migration.") else 3
