"""The audit trail's rows: added, read, never changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, desc, func, insert, select

from furlough.core.access import PrincipalKind
from furlough.core.audit import BEGINNING, DONE, AuditLine, Checkpoint, Deed, line_of
from furlough.core.enrolment import Enrolment
from furlough.core.ids import OperationId
from furlough.core.journal import Event, HostModeChanged, OperationAccepted
from furlough.core.operation import Operation
from furlough.store import codec
from furlough.store.access_tables import audit
from furlough.store.codec import Codec
from furlough.store.tables import operation

_LAST = select(audit.c.number, audit.c.hash).order_by(desc(audit.c.number)).limit(1)
_LONGEST = 63


def add(connection: Connection, deed: Deed, at: datetime, result: str = DONE) -> None:
    """One more line. Every write stands behind the gate, so none comes between."""
    line = line_of(deed, result[:_LONGEST], at, last(connection))
    values = {name: getattr(line, name) for name in audit.c.keys()}  # noqa: SIM118  # columns
    values |= {"at": line.at.isoformat(), "kind": line.kind.value}
    connection.execute(insert(audit).values(values))


def last(connection: Connection) -> Checkpoint:
    """The newest line."""
    row = connection.execute(_LAST).one_or_none()
    if row is None:
        return Checkpoint(number=0, hash=BEGINNING)
    return Checkpoint(number=row.number, hash=row.hash)


def read(
    connection: Connection, *, after: int, limit: int, principal: str | None
) -> Sequence[AuditLine]:
    """Lines after a number, oldest first."""
    query = select(audit).where(audit.c.number > after).order_by(audit.c.number).limit(limit)
    if principal is not None:
        query = query.where(audit.c.principal == principal)
    return [_line_of(row) for row in connection.execute(query)]


def read_newest(
    connection: Connection, *, before: int | None, limit: int, principal: str | None
) -> Sequence[AuditLine]:
    """Lines before a number, newest first."""
    query = select(audit).order_by(desc(audit.c.number)).limit(limit)
    if before is not None:
        query = query.where(audit.c.number < before)
    if principal is not None:
        query = query.where(audit.c.principal == principal)
    return [_line_of(row) for row in connection.execute(query)]


def last_operation(connection: Connection) -> int:
    """The number of the newest operation; 0 where there is none."""
    return connection.execute(select(func.max(operation.c.number))).scalar_one() or 0


def of_acceptance(
    deed: Deed, event: OperationAccepted, modes: Iterable[HostModeChanged], which: OperationId
) -> Deed:
    """A deed that made an operation: what was asked for, and what it changed at once."""
    changes = list(modes)
    before = {one.host: one.before.value for one in reversed(changes)}
    after = {
        "operation": which,
        "plan": event.plan.hash,
        "modes": {one.host: one.after.value for one in changes},
        "options": json.loads(codec.OPTIONS.text(event.options)),
    }
    return replace(deed, before=json.dumps({"modes": before}), after=json.dumps(after))


def of_events(deed: Deed, before: Operation, events: Sequence[Event], after: Operation) -> Deed:
    """A deed that said something to an operation under way."""
    said = [json.loads(codec.EVENT.text(one)) for one in events]
    return replace(
        deed,
        before=json.dumps({"state": before.state.value}),
        after=json.dumps({"state": after.state.value, "events": said}),
    )


def of_enrolment(deed: Deed, before: Enrolment, after: Enrolment) -> Deed:
    """A deed that enrolled, changed or removed things: each of them before and after."""
    old, new = _written(before), _written(after)
    changed = [one for one in {**old, **new} if old.get(one) != new.get(one)]
    told = [{name: known[name] for name in changed if name in known} for known in (old, new)]
    return replace(deed, before=json.dumps(told[0]), after=json.dumps(told[1]))


def _written(enrolment: Enrolment) -> dict[str, object]:
    """Everything enrolled as JSON, by kind and name."""
    kinds: tuple[tuple[str, Sequence[Any], Codec[Any]], ...] = (
        ("cluster", enrolment.clusters, codec.CLUSTER),
        ("datastore", enrolment.datastores, codec.DATASTORE),
        ("host", enrolment.hosts, codec.HOST),
    )
    return {
        f"{kind} {one.name}": json.loads(written.text(one))
        for kind, several, written in kinds
        for one in several
    }


def _line_of(row: Row[tuple[object, ...]]) -> AuditLine:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    at, kind = datetime.fromisoformat(row.at), PrincipalKind(row.kind)
    return AuditLine(**{**values, "at": at, "kind": kind})
