"""The audit trail for those who may read it. A part of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from furlough.core.access import Privilege
from furlough.core.audit import BEGINNING, AuditLine, Checkpoint, Fault, verify
from furlough.engine.work import Work
from furlough.service.authority import Authority, needs

_PAGE = 1000


class Trail:
    """Read and verified, never changed."""

    def __init__(self, work: Work, authority: Authority) -> None:
        self._store = work.store.access
        self.authority = authority

    @needs(Privilege.READ_AUDIT, everywhere=True)
    async def newest(
        self, *, before: int | None = None, limit: int = 100, principal: str | None = None
    ) -> Sequence[AuditLine]:
        """Lines before this number, newest first; None: from the newest one on."""
        return await self._store.newest_audit(before=before, limit=limit, principal=principal)

    @needs(Privilege.READ_AUDIT, everywhere=True)
    async def lines(self, *, after: int, limit: int) -> Sequence[AuditLine]:
        """Lines after this number, oldest first: for an export."""
        return await self._store.audit(after=after, limit=limit)

    @needs(Privilege.READ_AUDIT, everywhere=True)
    async def checkpoint(self) -> Checkpoint:
        """The newest line's number and hash, to be kept somewhere else."""
        return await self._store.checkpoint()

    @needs(Privilege.READ_AUDIT, everywhere=True)
    async def verify(self, checkpoints: Sequence[Checkpoint] = ()) -> tuple[int, tuple[Fault, ...]]:
        """How many lines there are, and every place where they are not what was written."""
        last = Checkpoint(number=0, hash=BEGINNING)
        faults: list[Fault] = []
        count = 0
        async for page in self._pages():
            within = [one for one in checkpoints if one.number <= page[-1].number]
            faults += verify(page, last, within)
            count += len(page)
            last = Checkpoint(number=page[-1].number, hash=page[-1].hash)
        beyond = [one for one in checkpoints if one.number > last.number]
        faults += verify([], last, beyond)
        return count, tuple(faults)

    async def _pages(self) -> AsyncIterator[Sequence[AuditLine]]:
        after = 0
        while page := await self._store.audit(after=after, limit=_PAGE):
            yield page
            after = page[-1].number
