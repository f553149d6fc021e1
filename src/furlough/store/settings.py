"""Single values of an installation: its name, the epoch counter, the gate row."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, insert, select, update

from furlough.store.tables import setting


def prepare(connection: Connection) -> None:
    """Make the rows that have to be there. Doing it twice changes nothing."""
    known = set(connection.scalars(select(setting.c.name)))
    for name, value in (
        ("gate", ""),
        ("epoch", "0"),
        ("controller", f"furlough-{secrets.token_hex(6)}"),
    ):
        if name not in known:
            connection.execute(insert(setting).values(name=name, value=value))


def controller_id(connection: Connection) -> str:
    """The name of this installation, as markers on hosts carry it."""
    row = select(setting.c.value).where(setting.c.name == "controller")
    return str(connection.execute(row).scalar_one())


def next_epoch(connection: Connection) -> int:
    """A number higher than any before, for one more claim."""
    row = select(setting.c.value).where(setting.c.name == "epoch")
    epoch = int(connection.execute(row).scalar_one()) + 1
    connection.execute(update(setting).where(setting.c.name == "epoch").values(value=str(epoch)))
    return epoch
