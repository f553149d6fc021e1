"""The record of media that remedies took out of drives: a row from the moment one was seen out
until it was seen back, or until its owner has done something else with the drive."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert

from furlough.core.journal import StepSkipped, StepSucceeded
from furlough.core.operation import Operation, Outcome
from furlough.core.plan import Method, PlannedStep
from furlough.planning.remedies import Remedied
from furlough.store import codec, tables


def remember(connection: Connection, operation: Operation, event: StepSucceeded) -> None:
    """What the success of a step means for the record."""
    step = operation.step(event.step)
    if step.method is Method.INSERT:
        _forget(connection, step.planned)
    if step.method is not Method.EJECT or step.planned.vm is None:
        return
    planned = step.planned
    row = Remedied(
        vm=step.planned.vm,
        name=planned.vm_name,
        home=planned.host,
        drive=planned.drive,
        medium=planned.medium,
        operation=operation.id,
        since=step.ended_at or operation.created_at,
    )
    _forget(connection, planned)
    connection.execute(
        insert(tables.remedied).values(
            vm=row.vm, drive=row.drive, home=row.home, body=codec.REMEDIED.text(row)
        )
    )


def forget_if_changed(connection: Connection, operation: Operation, event: StepSkipped) -> None:
    """A drive that its owner has used since is not ours any more."""
    step = operation.step(event.step)
    if step.method is Method.INSERT and event.outcome is Outcome.CHANGED_BY_OTHERS:
        _forget(connection, step.planned)


def _forget(connection: Connection, planned: PlannedStep) -> None:
    connection.execute(
        delete(tables.remedied).where(
            tables.remedied.c.vm == planned.vm, tables.remedied.c.drive == planned.drive
        )
    )
