"""The record of maintenances: a row from the moment a VM was seen away from home, or stopped, until
it is home, others have decided about it, or a person closes the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, insert, select

from furlough.core.ids import HostName, VmId
from furlough.core.journal import StepSucceeded
from furlough.core.not_home import RETURNS
from furlough.core.operation import Operation, Outcome
from furlough.core.plan import OperationKind, PlannedStep
from furlough.errors import Bug
from furlough.planning.record import Away, is_closed_by
from furlough.store import codec, reading, tables


def remember(connection: Connection, operation: Operation, event: StepSucceeded) -> None:
    """What the success of a step means for the record."""
    planned = operation.step(event.step).planned
    if event.outcome not in _RECORDED or planned.vm is None or event.where is None:
        return
    row = connection.execute(
        select(tables.away.c.body).where(tables.away.c.vm == planned.vm)
    ).scalar_one_or_none()
    known = None if row is None else codec.AWAY.value(row)
    evacuated = operation.kind is OperationKind.ENTER
    is_on_its_way = operation.kind in RETURNS and planned.host == _home_of(known)
    if event.outcome is Outcome.STOPPED:
        if evacuated:
            _remember_away(connection, _stopped(operation, planned, event.where, known))
    elif known is not None and event.where == known.home:
        _forget_away(connection, [planned.vm])
    elif event.outcome is Outcome.MOVED and is_on_its_way and known is not None:
        # It waits on a third host: if nothing more comes of it, a later exit finds it there.
        _remember_away(connection, replace(known, left_on=event.where))
    elif event.outcome is Outcome.MOVED and evacuated and (known or _is_from_its_host(planned)):
        _remember_away(connection, _moved(operation, planned, event.where, known))
    elif event.outcome is Outcome.STARTED and known is not None and known.was_stopped:
        _remember_away(connection, replace(known, was_stopped=False))


def _is_from_its_host(planned: PlannedStep) -> bool:
    """Not so of who made room on a host that stays: it is not brought back."""
    return planned.source == planned.host


def _home_of(known: Away | None) -> HostName | None:
    return None if known is None else known.home


# The endings of steps that change what is on record about a VM.
_RECORDED = frozenset({Outcome.MOVED, Outcome.STOPPED, Outcome.STARTED})


def _moved(
    operation: Operation, planned: PlannedStep, left_on: HostName, known: Away | None
) -> Away:
    """A VM that was away already keeps its home and its past; only its whereabouts change."""
    if known is None:
        return _new_away(operation, planned, left_on)
    return replace(
        known,
        left_on=left_on,
        operation=operation.id,
        was_stopped=False,
        method=planned.method,
        load=planned.load,
    )


def _stopped(
    operation: Operation, planned: PlannedStep, left_on: HostName, known: Away | None
) -> Away:
    """As it is to be again once its host is back."""
    away = _new_away(operation, planned, left_on)
    if known is not None:
        away = replace(away, home=known.home, since=known.since)
    return replace(away, was_stopped=True)


def _new_away(operation: Operation, planned: PlannedStep, left_on: HostName) -> Away:
    if planned.vm is None:
        raise Bug("step.no_vm", f"A step of {operation.id} that is about no VM ended like one.")
    return Away(
        vm=planned.vm,
        name=planned.vm_name,
        home=planned.source or left_on,
        left_on=left_on,
        operation=operation.id,
        since=operation.created_at,
        before=planned.before,
        method=planned.method,
        load=planned.load,
    )


def _remember_away(connection: Connection, row: Away) -> None:
    _forget_away(connection, [row.vm])
    connection.execute(
        insert(tables.away).values(vm=row.vm, home=row.home, body=codec.AWAY.text(row))
    )


def forget_closed(connection: Connection, operation: Operation) -> None:
    """Take off the record whom the end of this operation closes it for."""
    record = reading.read_away(connection)
    _forget_away(connection, [one.vm for one in record if is_closed_by(operation, one)])


def _forget_away(connection: Connection, vms: Sequence[VmId]) -> None:
    if vms:
        connection.execute(delete(tables.away).where(tables.away.c.vm.in_(vms)))
