"""Rows to core values. Functions of a connection; the store runs them in its threads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy import Connection, Row, bindparam, func, or_, select

from furlough.core.admission import Flight, Standing
from furlough.core.capacity import Load, Reservation
from furlough.core.enrolment import Enrolment
from furlough.core.ids import ClusterName, HostName, OperationId, VmId, operation_id
from furlough.core.ids import operation_number as number_of
from furlough.core.journal import Entry
from furlough.core.operation import Operation
from furlough.core.plan import Method
from furlough.core.states import HostMode, StepState
from furlough.errors import Bug, Invalid, NotFound
from furlough.planning.record import Away
from furlough.planning.remedies import Remedied
from furlough.ports import IdempotencyKey
from furlough.store import codec
from furlough.store.tables import (
    away,
    cluster,
    datastore,
    event,
    host,
    idempotency,
    operation,
    operation_host,
    remedied,
    reservation,
    step,
    vm_owner,
)

log = structlog.get_logger()

# Built once: composing a statement costs more than running it on SQLite.
_STANDINGS = select(host.c.name, host.c.cluster, host.c.mode, host.c.operation).order_by(
    host.c.position
)
_OPERATION = select(operation).where(operation.c.number == bindparam("wanted"))
_STEPS = select(step.c.body).where(step.c.operation == bindparam("wanted")).order_by(step.c.number)
_RESERVATIONS = select(reservation)
_RESERVATIONS_ON = _RESERVATIONS.where(reservation.c.host.in_(bindparam("hosts", expanding=True)))
_FLIGHTS = (
    select(step.c.source, step.c.target, host.c.cluster)
    .join(host, host.c.name == step.c.source)
    .where(step.c.state == StepState.STARTED.value, step.c.method == Method.LIVE.value)
)


def read_enrolment(connection: Connection) -> Enrolment:
    """Everything enrolled, in the order of enrolment."""

    def bodies(table: object) -> list[str]:
        return list(
            connection.scalars(select(table.c.body).order_by(table.c.position))  # type: ignore[attr-defined]
        )

    return Enrolment(
        clusters=[codec.CLUSTER.value(text) for text in bodies(cluster)],
        datastores=[codec.DATASTORE.value(text) for text in bodies(datastore)],
        hosts=[codec.HOST.value(text) for text in bodies(host)],
    )


def read_standings(connection: Connection) -> dict[HostName, Standing]:
    """Every host's mode and owner."""
    rows = connection.execute(_STANDINGS)
    return {
        HostName(row.name): Standing(
            host=HostName(row.name),
            cluster=ClusterName(row.cluster),
            mode=HostMode(row.mode),
            operation=None if row.operation is None else operation_id(row.operation),
        )
        for row in rows
    }


def read_operation(connection: Connection, which: OperationId) -> Operation:
    """One operation with all its steps; `NotFound` where there is none."""
    row = connection.execute(_OPERATION, {"wanted": number_of(which)}).one_or_none()
    if row is None:
        raise unknown_operation(which)
    return _operation_of(connection, row)


def unknown_operation(which: OperationId) -> NotFound:
    """The error for an operation that is not there."""
    return NotFound(
        "operation.unknown",
        f"There is no operation {which}.",
        remedy="See: furlough operation list.",
    )


def read_operations(
    connection: Connection,
    *,
    active: bool,
    at_host: HostName | None,
    limit: int,
    before: OperationId | None = None,
) -> list[Operation]:
    """Operations, newest first. One whose rows are damaged is left out, loudly."""
    query = select(operation).order_by(operation.c.number.desc()).limit(limit)
    if active:
        query = query.where(operation.c.is_final.is_(False))
    if before is not None:
        query = query.where(operation.c.number < number_of(before))
    if at_host is not None:
        query = query.join(operation_host).where(operation_host.c.host == at_host)
    found = []
    for row in connection.execute(query).all():
        try:
            found.append(_operation_of(connection, row))
        except Bug as error:
            log.critical("operation unreadable", operation=row.number, because=error.message)
    return found


def _operation_of(connection: Connection, row: Row[tuple[object, ...]]) -> Operation:
    bodies = connection.scalars(_STEPS, {"wanted": row.number})
    return codec.whole(row.body, row.plan, row.roster, list(bodies))


def read_repeat(connection: Connection, key: IdempotencyKey) -> Operation | None:
    """The operation that this idempotency key has made, if any; `Invalid` where it was used for
    another request."""
    row = connection.execute(
        select(idempotency).where(
            idempotency.c.principal == key.principal, idempotency.c.key == key.key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.content != key.content:
        raise Invalid(
            "idempotency.mismatch",
            f"The idempotency key {key.key!r} was used for another request.",
            remedy="Use a new key for a new request.",
        )
    return read_operation(connection, operation_id(row.operation))


def read_journal(connection: Connection, which: OperationId) -> list[Entry]:
    """All events of one operation, in their order."""
    rows = connection.execute(
        select(event).where(event.c.operation == number_of(which)).order_by(event.c.number)
    )
    return [_entry_of(row) for row in rows]


def read_entries(connection: Connection, after: int, limit: int) -> list[Entry]:
    """Events of all operations after a sequence number."""
    rows = connection.execute(
        select(event).where(event.c.sequence > after).order_by(event.c.sequence).limit(limit)
    )
    return [_entry_of(row) for row in rows]


def read_last_sequence(connection: Connection) -> int:
    """The sequence number of the newest event, 0 before the first."""
    return connection.scalar(select(func.max(event.c.sequence))) or 0


def _entry_of(row: Row[tuple[object, ...]]) -> Entry:
    return Entry(
        sequence=row.sequence,
        operation=operation_id(row.operation),
        number=row.number,
        at=datetime.fromisoformat(row.at),
        event=codec.EVENT.value(row.body),
    )


def read_reservations(
    connection: Connection, hosts: Sequence[HostName] | None = None
) -> list[Reservation]:
    """The room held on these hosts, or on all."""
    if hosts is None:
        rows = connection.execute(_RESERVATIONS)
    else:
        rows = connection.execute(_RESERVATIONS_ON, {"hosts": list(hosts)})
    return [
        Reservation(
            operation=operation_id(row.operation),
            vm=VmId(row.vm),
            host=HostName(row.host),
            load=Load(memory_mib=row.memory_mib, vcpus=row.vcpus),
        )
        for row in rows
    ]


def read_away(connection: Connection) -> list[Away]:
    """Every VM that an evacuation has taken from its home host."""
    return [codec.AWAY.value(text) for text in connection.scalars(select(away.c.body))]


def read_remedies(connection: Connection) -> list[Remedied]:
    """Every medium that a remedy took out of a drive and that is to be put back."""
    return [codec.REMEDIED.value(text) for text in connection.scalars(select(remedied.c.body))]


def read_vm_owners(connection: Connection, vms: Sequence[VmId]) -> dict[VmId, OperationId]:
    """Those of these VMs that an operation owns, with the operation."""
    rows = connection.execute(select(vm_owner).where(vm_owner.c.vm.in_(vms)))
    return {VmId(row.vm): operation_id(row.operation) for row in rows}


def work_of(connection: Connection, name: HostName) -> OperationId | None:
    """The oldest operation that is not over and is about this host, holds room on it, or has a
    step from it or to it that is still to be done."""
    steps = (
        select(operation.c.number)
        .join(step, operation.c.number == step.c.operation)
        .where(
            operation.c.is_final.is_(False),
            step.c.state.in_([StepState.PENDING.value, StepState.STARTED.value]),
            or_(step.c.source == name, step.c.target == name),
        )
    )
    operations = (
        select(operation.c.number)
        .join(operation_host)
        .where(operation.c.is_final.is_(False), operation_host.c.host == name)
    )
    found = {row.number for query in (steps, operations) for row in connection.execute(query)}
    held = {number_of(one.operation) for one in read_reservations(connection, [name])}
    return operation_id(min(found | held)) if found or held else None


def read_flights(connection: Connection, *, but_of: OperationId | None = None) -> list[Flight]:
    """Every live migration that is started and not over, of whichever operation, `but_of` one."""
    query = _FLIGHTS if but_of is None else _FLIGHTS.where(step.c.operation != number_of(but_of))
    rows = connection.execute(query)
    return [
        Flight(
            source=HostName(row.source),
            target=HostName(row.target),
            cluster=ClusterName(row.cluster),
        )
        for row in rows
    ]
