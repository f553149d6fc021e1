"""What links carry: one row for each pair of hosts, changed by every migration that tells."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Row, delete, insert, or_, select

from furlough.core.ids import HostName
from furlough.core.link_speed import LinkSpeed, learned
from furlough.store.tables import link_speed


def learn(connection: Connection, new: LinkSpeed) -> LinkSpeed:
    """Add what one migration says; returns what is known now."""
    its_row = (link_speed.c.source == new.source, link_speed.c.target == new.target)
    row = connection.execute(select(link_speed).where(*its_row)).one_or_none()
    now_known = learned(None if row is None else _speed_of(row), new)
    connection.execute(delete(link_speed).where(*its_row))
    connection.execute(
        insert(link_speed).values(
            source=now_known.source,
            target=now_known.target,
            mib_s=now_known.mib_s,
            alone_s=now_known.alone_s,
            migrations=now_known.migrations,
            at=now_known.at.isoformat(),
        )
    )
    return now_known


def read(connection: Connection) -> list[LinkSpeed]:
    """Of all pairs."""
    order = (link_speed.c.source, link_speed.c.target)
    return [_speed_of(row) for row in connection.execute(select(link_speed).order_by(*order))]


def forget(connection: Connection, host: HostName) -> None:
    """A host that is removed: the next one of its name may be another machine."""
    either_end = or_(link_speed.c.source == host, link_speed.c.target == host)
    connection.execute(delete(link_speed).where(either_end))


def _speed_of(row: Row[tuple[object, ...]]) -> LinkSpeed:
    return LinkSpeed(
        source=HostName(row.source),
        target=HostName(row.target),
        mib_s=row.mib_s,
        alone_s=row.alone_s,
        migrations=row.migrations,
        at=datetime.fromisoformat(row.at),
    )
