"""Leases and epochs: which process drives which operation.

A lease is a hint, an epoch is a fact: a process that wakes up late finds its epoch overtaken and
every write refused. The owner is an incarnation (a name of this very start), never a mere name:
else a restarted process would keep alive the leases of its dead self.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy import Connection, select, update

from furlough.core.ids import OperationId, operation_id
from furlough.core.journal import OperationClaimed
from furlough.core.operation import Operation
from furlough.errors import Bug
from furlough.store import reading, settings
from furlough.store.tables import operation
from furlough.store.writing import record_all

log = structlog.get_logger()


def claim(
    connection: Connection, owner: str, lease_s: float, now_s: float, at: datetime
) -> list[Operation]:
    """Take every operation that is not final and whose lease has ended, under a new epoch."""
    numbers = connection.scalars(
        select(operation.c.number)
        .where(operation.c.is_final.is_(False), operation.c.lease_until_s <= now_s)
        .order_by(operation.c.number)
    ).all()
    claimed = []
    for number in numbers:
        try:
            current = reading.read_operation(connection, operation_id(number))
        except Bug as error:
            # It holds what it holds until a person has looked; the others go on.
            log.critical("operation unreadable", operation=number, because=error.message)
            continue
        epoch = settings.next_epoch(connection)
        event = OperationClaimed(owner=owner, epoch=epoch)
        claimed.append(record_all(connection, current, [event], at))
        _extend(connection, [number], now_s + lease_s)
    return claimed


def renew(connection: Connection, owner: str, lease_s: float, now_s: float) -> list[OperationId]:
    """Keep this owner's leases that have not ended; the operations it still owns."""
    numbers = connection.scalars(
        select(operation.c.number)
        .where(
            operation.c.is_final.is_(False),
            operation.c.owner == owner,
            operation.c.lease_until_s > now_s,
        )
        .order_by(operation.c.number)
    ).all()
    _extend(connection, numbers, now_s + lease_s)
    return [operation_id(number) for number in numbers]


def void(connection: Connection) -> None:
    """End every lease: no other process can be alive."""
    connection.execute(
        update(operation).where(operation.c.is_final.is_(False)).values(lease_until_s=0.0)
    )


def _extend(connection: Connection, numbers: Sequence[int], until_s: float) -> None:
    if numbers:
        connection.execute(
            update(operation).where(operation.c.number.in_(numbers)).values(lease_until_s=until_s)
        )
