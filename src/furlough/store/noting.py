"""Notes about hosts: what was seen there outside of any operation, when it began, when it ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Row, func, insert, select

from furlough.core.drift import HostNote
from furlough.core.hostlog import Level
from furlough.core.ids import HostName
from furlough.store.tables import host_note

_NEWEST = select(func.max(host_note.c.number)).group_by(
    host_note.c.host, host_note.c.code, host_note.c.what
)
_OPEN = (
    select(host_note)
    .where(host_note.c.number.in_(_NEWEST), host_note.c.is_over.is_(False))
    .order_by(host_note.c.number)
)


def write(connection: Connection, notes: Sequence[HostNote]) -> None:
    """Add these, but for what the newest note about the same thing says already."""
    for note in notes:
        if _is_over_now(connection, note) is not note.is_over:
            connection.execute(
                insert(host_note).values(
                    host=note.host,
                    at=note.at.isoformat(),
                    level=note.level.value,
                    code=note.code,
                    what=note.what,
                    message=note.message,
                    is_over=note.is_over,
                )
            )


def _is_over_now(connection: Connection, note: HostNote) -> bool:
    """Whether the thing a note is about is over; what never began is."""
    newest = (
        select(host_note.c.is_over)
        .where(
            host_note.c.host == note.host,
            host_note.c.code == note.code,
            host_note.c.what == note.what,
        )
        .order_by(host_note.c.number.desc())
        .limit(1)
    )
    known: bool | None = connection.execute(newest).scalar_one_or_none()
    return True if known is None else known


def read(connection: Connection, host: HostName, limit: int) -> list[HostNote]:
    """The newest notes about a host, the newest first."""
    query = (
        select(host_note)
        .where(host_note.c.host == host)
        .order_by(host_note.c.number.desc())
        .limit(limit)
    )
    return [_note_of(row) for row in connection.execute(query)]


def read_open(connection: Connection) -> list[HostNote]:
    """What has begun and is not over, of all hosts."""
    return [_note_of(row) for row in connection.execute(_OPEN)]


def _note_of(row: Row[tuple[object, ...]]) -> HostNote:
    return HostNote(
        host=HostName(row.host),
        at=datetime.fromisoformat(row.at),
        level=Level(row.level),
        code=row.code,
        what=row.what,
        message=row.message,
        is_over=row.is_over,
    )
