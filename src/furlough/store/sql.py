"""The Store port over SQLAlchemy Core: SQLite in the data directory, in memory, or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection, text

from furlough.core.admission import Standing, Terms
from furlough.core.audit import Deed
from furlough.core.capacity import Reservation
from furlough.core.drift import HostNote
from furlough.core.enrolment import Enrolment
from furlough.core.ids import ClusterName, HostName, OperationId
from furlough.core.ids import operation_number as number_of
from furlough.core.journal import Entry, Event, HostModeChanged, OperationAccepted
from furlough.core.link_speed import LinkSpeed
from furlough.core.operation import Operation
from furlough.planning.record import Away
from furlough.planning.remedies import Remedied
from furlough.ports import Clock, IdempotencyKey
from furlough.store import (
    auditing,
    enrolling,
    learning,
    leases,
    noting,
    reading,
    schema,
    settings,
    writing,
)
from furlough.store.access import SqlAccess
from furlough.store.database import Database

_NO_TERMS = Terms()


class SqlStore:
    """Implements `ports.Store`. `url` is SQLAlchemy's; `sqlite://` lives in memory, inline."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._database = Database(url)
        self._clock = clock
        self._in_memory = url == "sqlite://"
        self._known_enrolment: Enrolment | None = None
        self._enrolled = 0
        self._access = SqlAccess(self._database, clock)

    @property
    def access(self) -> SqlAccess:
        return self._access

    async def open(self) -> None:
        prepare = schema.create_at_once if self._in_memory else schema.bring_up_to_date
        await self._database.prepare(prepare)

    async def close(self) -> None:
        await self._database.close()

    async def controller_id(self) -> str:
        return await self._database.read(settings.controller_id)

    # --- enrolment -------------------------------------------------------------------------

    async def enrolment(self) -> Enrolment:
        """Read once where nobody else can write."""
        if self._known_enrolment is not None:
            return self._known_enrolment
        before = self._enrolled
        found = await self._database.read(reading.read_enrolment)
        if self._enrolled == before and not self._database.is_postgres:
            self._known_enrolment = found
        return found

    async def _enrol(self, deed: Deed | None, work: Callable[[Connection], None]) -> None:
        """A change of what is enrolled, and its line in the trail."""
        at = self._clock.now()

        def both(connection: Connection) -> None:
            if deed is None:
                work(connection)
                return
            before = reading.read_enrolment(connection)
            work(connection)
            told = auditing.of_enrolment(deed, before, reading.read_enrolment(connection))
            auditing.add(connection, told, at)

        try:
            await self._database.write(both)
        finally:
            self._known_enrolment = None
            self._enrolled += 1

    async def enrol(
        self, additions: Enrolment, deed: Deed | None = None, based_on: Enrolment | None = None
    ) -> None:
        def put(connection: Connection) -> None:
            if based_on is not None:
                enrolling.check_unchanged(connection, additions, based_on)
            enrolling.put(connection, additions)

        await self._enrol(deed, put)

    async def remove_cluster(self, name: ClusterName, deed: Deed | None = None) -> None:
        await self._enrol(deed, lambda c: enrolling.remove_cluster(c, name))

    async def remove_datastore(self, name: str, deed: Deed | None = None) -> None:
        await self._enrol(deed, lambda c: enrolling.remove_datastore(c, name))

    async def remove_host(self, name: HostName, deed: Deed | None = None) -> None:
        await self._enrol(deed, lambda c: enrolling.remove_host(c, name))

    # --- what others hold ------------------------------------------------------------------

    async def standings(self) -> Mapping[HostName, Standing]:
        return await self._database.read(reading.read_standings)

    async def reservations(self) -> Sequence[Reservation]:
        return await self._database.read(reading.read_reservations)

    async def away(self) -> Sequence[Away]:
        return await self._database.read(reading.read_away)

    async def remedies(self) -> Sequence[Remedied]:
        return await self._database.read(reading.read_remedies)

    # --- operations ------------------------------------------------------------------------

    async def repeat_of(self, key: IdempotencyKey) -> Operation | None:
        return await self._database.read(lambda c: reading.read_repeat(c, key))

    async def accept(
        self,
        event: OperationAccepted,
        modes: Sequence[HostModeChanged],
        terms: Terms,
        key: IdempotencyKey | None = None,
        deed: Deed | None = None,
    ) -> Operation:
        at = self._clock.now()

        def both(connection: Connection) -> Operation:
            last = auditing.last_operation(connection)
            accepted = writing.accept(connection, event, modes, terms, key, at)
            # A repetition changes nothing, so it leaves no line.
            if deed is not None and number_of(accepted.id) > last:
                told = auditing.of_acceptance(deed, event, modes, accepted.id)
                auditing.add(connection, told, at)
            return accepted

        return await self._database.write(both)

    async def append(
        self,
        operation: Operation,
        events: Sequence[Event],
        terms: Terms | None = None,
        deed: Deed | None = None,
    ) -> Operation:
        at = self._clock.now()

        def both(connection: Connection) -> Operation:
            after = writing.append(connection, operation, events, terms or _NO_TERMS, at)
            if deed is not None:
                told = auditing.of_events(deed, operation, events, after)
                auditing.add(connection, told, at)
            return after

        return await self._database.write(both)

    async def claim(self, owner: str, lease_s: float) -> Sequence[Operation]:
        at = self._clock.now()
        return await self._database.write(
            lambda c: leases.claim(c, owner, lease_s, self._seconds(c), at)
        )

    async def renew(self, owner: str, lease_s: float) -> Sequence[OperationId]:
        return await self._database.write(
            lambda c: leases.renew(c, owner, lease_s, self._seconds(c))
        )

    async def void_leases(self) -> None:
        await self._database.write(leases.void)

    async def operation(self, operation: OperationId) -> Operation:
        return await self._database.read(lambda c: reading.read_operation(c, operation))

    async def operations(
        self,
        *,
        active: bool = False,
        host: HostName | None = None,
        limit: int = 100,
        before: OperationId | None = None,
    ) -> Sequence[Operation]:
        return await self._database.read(
            lambda c: reading.read_operations(
                c, active=active, at_host=host, limit=limit, before=before
            )
        )

    async def journal(self, operation: OperationId) -> Sequence[Entry]:
        return await self._database.read(lambda c: reading.read_journal(c, operation))

    async def entries(self, after: int, limit: int) -> Sequence[Entry]:
        return await self._database.read(lambda c: reading.read_entries(c, after, limit))

    async def last_sequence(self) -> int:
        return await self._database.read(reading.read_last_sequence)

    # --- notes about hosts -----------------------------------------------------------------

    async def note_host(self, notes: Sequence[HostNote]) -> None:
        await self._database.write(lambda c: noting.write(c, notes))

    async def host_notes(self, host: HostName, limit: int) -> Sequence[HostNote]:
        return await self._database.read(lambda c: noting.read(c, host, limit))

    async def open_notes(self) -> Sequence[HostNote]:
        return await self._database.read(noting.read_open)

    # --- what links carry --------------------------------------------------------------------

    async def learn_link_speed(self, speed: LinkSpeed) -> LinkSpeed:
        return await self._database.write(lambda c: learning.learn(c, speed))

    async def link_speeds(self) -> Sequence[LinkSpeed]:
        return await self._database.read(learning.read)

    def _seconds(self, connection: Connection) -> float:
        """The time of leases: PostgreSQL's own, since its clients' clocks may differ; else one
        that nobody can set. A SQLite file has one process, which ends all leases at its start."""
        if self._database.is_postgres:
            clock = text("SELECT extract(epoch FROM clock_timestamp())")
            return float(connection.execute(clock).scalar_one())
        return self._clock.monotonic()
