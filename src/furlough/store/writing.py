"""Events into the journal and, in the same transaction, into the rows that are its fold.

Here the promises between operations are kept: one owner per VM and host, room reserved before it
is used, slots counted over all operations, a target that is still a target. What may be is judged
in `core.admission`; this module reads the rows for it and writes the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import singledispatch

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from furlough.core.admission import (
    OWNS_HOSTS,
    Flight,
    Room,
    Standing,
    Terms,
    check_hosts_free,
    check_hosts_known,
    check_most_away,
    check_room,
    check_target,
    check_vms_free,
    has_slot,
    owned,
)
from furlough.core.capacity import NOTHING, Load, Reservation
from furlough.core.ids import HostName, OperationId, VmId, operation_id
from furlough.core.ids import operation_number as number_of
from furlough.core.journal import (
    Event,
    HostModeChanged,
    OperationAccepted,
    OperationEnded,
    PlanExtended,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    apply,
)
from furlough.core.not_home import RETURNS
from furlough.core.operation import Operation, RosterEntry, Step
from furlough.core.plan import Method, OperationKind, PlannedStep
from furlough.core.states import HostMode, StepState
from furlough.errors import Conflict, Stale
from furlough.ports import IdempotencyKey
from furlough.store import codec, reading, recording, remedying, tables

# Built once: composing a statement costs more than running it on SQLite.
_VERSION = select(tables.operation.c.epoch, tables.operation.c.events).where(
    tables.operation.c.number == bindparam("wanted")
)
_NEW_EVENT = insert(tables.event)
_CHANGED_OPERATION = update(tables.operation).where(
    tables.operation.c.number == bindparam("wanted")
)
_NEW_STEP = insert(tables.step)
_CHANGED_STEP = update(tables.step).where(
    tables.step.c.operation == bindparam("wanted"), tables.step.c.number == bindparam("wanted_step")
)
_UNLIMITED = Room(free=Load(memory_mib=1 << 60, vcpus=1 << 30))


# --- accepting -----------------------------------------------------------------------------------


def accept(
    connection: Connection,
    event: OperationAccepted,
    modes: Sequence[HostModeChanged],
    terms: Terms,
    key: IdempotencyKey | None,
    at: datetime,
) -> Operation:
    """Store a new operation, or return the one that this idempotency key made before."""
    if key is not None and (known := reading.read_repeat(connection, key)) is not None:
        return known
    _check_acceptance(connection, event, modes, terms)
    number = _new_number(connection)
    if key is not None:
        connection.execute(
            insert(tables.idempotency).values(
                principal=key.principal, key=key.key, content=key.content, operation=number
            )
        )
    which = operation_id(number)
    accepted = _record(connection, None, which, event, at)
    for change in modes:
        accepted = _record(connection, accepted, which, change, at)
    _write_rows(connection, None, accepted)
    return accepted


def _new_number(connection: Connection) -> int:
    """A row for an operation that the same transaction will fill in."""
    blank = {
        **dict.fromkeys(("kind", "state", "body", "plan", "roster"), ""),
        **dict.fromkeys(("lease_until_s", "epoch", "events"), 0),
        "is_final": False,
    }
    result = connection.execute(
        insert(tables.operation).values(blank).returning(tables.operation.c.number)
    )
    return int(result.scalar_one())


def _check_acceptance(
    connection: Connection,
    event: OperationAccepted,
    modes: Sequence[HostModeChanged],
    terms: Terms,
) -> None:
    """Raises where another operation stands against this one; decided on rows, under the gate."""
    standings = reading.read_standings(connection)
    check_hosts_known(event.hosts, standings)
    if event.operation_kind in OWNS_HOSTS:
        check_hosts_free(event.hosts, standings)
    if event.operation_kind is OperationKind.ENTER:
        check_most_away(event.hosts, standings, terms.most_away)
    _check_owners(connection, owned(event.options, event.roster))
    for change in modes:
        standings[change.host] = replace(standings[change.host], mode=change.after)
    for step in event.plan.steps:
        for target in step.targets[:1]:
            check_target(event.operation_kind, event.hosts, target, standings, home=step.host)
    _check_places(connection, event.plan.steps, terms)


def _check_places(connection: Connection, steps: Iterable[PlannedStep], terms: Terms) -> None:
    """`Refused` where there is no room for all of these on the first of their targets."""
    taken: dict[HostName, Load] = {}
    held: dict[HostName, list[Reservation]] = {}
    for step in steps:
        for target in step.targets[:1]:
            if step.vm is None or step.after:
                continue  # Room that has to be made first is looked at once it is made.
            # Room is looked at with what these very steps take there before.
            room = terms.rooms.get(target, _UNLIMITED)
            room = replace(room, free=room.free - taken.get(target, NOTHING))
            if target not in held:
                held[target] = reading.read_reservations(connection, [target])
            check_room(step.vm, target, step.load, room, held[target])
            taken[target] = taken.get(target, NOTHING) + step.load


def _check_owners(connection: Connection, vms: Sequence[VmId]) -> None:
    check_vms_free(vms, reading.read_vm_owners(connection, vms))


# --- appending -----------------------------------------------------------------------------------


def append(
    connection: Connection,
    operation: Operation,
    events: Sequence[Event],
    terms: Terms,
    at: datetime,
) -> Operation:
    """The operation after these events. `Stale` where it is not what the caller thinks it is:
    another event came first, or another process has taken it over."""
    row = connection.execute(_VERSION, {"wanted": number_of(operation.id)}).one_or_none()
    if row is None:
        raise reading.unknown_operation(operation.id)
    if (row.epoch, row.events) != (operation.epoch, operation.events):
        raise Stale("operation.stale", f"{operation.id} has changed since it was read.")
    return record_all(connection, operation, events, at, terms)


def record_all(
    connection: Connection,
    operation: Operation,
    events: Sequence[Event],
    at: datetime,
    terms: Terms | None = None,
) -> Operation:
    """The operation after these events, written; it must be as the rows have it."""
    current = operation
    for event in events:
        if isinstance(event, StepStarted):
            step = current.step(event.step)
            _check_start(connection, current, step, event, terms or Terms())
        if isinstance(event, PlanExtended):
            _check_owners(connection, owned(current.options, event.roster))
            _check_places(connection, event.steps, terms or Terms())
        current = _record(connection, current, operation.id, event, at)
    _write_rows(connection, operation, current)
    return current


def _check_start(
    connection: Connection, operation: Operation, step: Step, event: StepStarted, terms: Terms
) -> None:
    """Raises `Refused` where the target may not take the VM any more, `Conflict` with the code
    `slot.none` where it has to wait for its turn."""
    target, vm = event.target, step.planned.vm
    if target is None or vm is None:
        return
    standings = reading.read_standings(connection)
    home = step.planned.host
    check_target(operation.kind, operation.hosts, target, standings, home=home)
    room = terms.rooms.get(target, _UNLIMITED)
    reservations = reading.read_reservations(connection, [target])
    check_room(vm, target, step.planned.load, room, reservations)
    if step.method is Method.LIVE and step.planned.source is not None:
        flight = _flight(step.planned.source, target, standings)
        # Our own rows are written after all events of this transaction.
        others = reading.read_flights(connection, but_of=operation.id)
        if not has_slot(flight, [*others, *_flights_of(operation, standings)], terms.limits):
            raise Conflict("slot.none", f"No slot is free for {step.planned.vm_name} yet.")


def _flight(source: HostName, target: HostName, standings: Mapping[HostName, Standing]) -> Flight:
    here, there = standings[source].cluster, standings[target].cluster
    return Flight(source=source, target=target, cluster=here, into=there)


def _flights_of(operation: Operation, standings: Mapping[HostName, Standing]) -> list[Flight]:
    """The migrations of one operation that are in flight."""
    return [
        _flight(step.planned.source, step.target, standings)
        for step in operation.steps
        if step.state is StepState.STARTED
        and step.method is Method.LIVE
        and step.planned.source is not None
        and step.target is not None
    ]


def _record(
    connection: Connection,
    operation: Operation | None,
    which: OperationId,
    event: Event,
    at: datetime,
) -> Operation:
    """One event into the journal, and its consequences into the tables beside it."""
    event, body = codec.EVENT.storable(event)
    after = apply(operation, which, event, at)
    row = {
        "operation": number_of(which),
        "number": after.events,
        "at": at.isoformat(),
        "kind": event.kind,
        "body": body,
    }
    connection.execute(_NEW_EVENT, row)
    _project(event, connection, after)
    return after


def _write_rows(connection: Connection, before: Operation | None, after: Operation) -> None:
    """The operation's own rows; steps that did not change are the same objects and are left."""
    number = number_of(after.id)
    values: dict[str, object] = {
        "wanted": number,
        "kind": after.kind.value,
        "state": after.state.value,
        "is_final": after.is_final,
        "owner": after.owner,
        "epoch": after.epoch,
        "events": after.events,
        "body": codec.head_text(after),
    }
    if after.owner is None:
        values["lease_until_s"] = 0.0
    if before is None or before.plan is not after.plan:
        values["plan"] = codec.PLAN.text(after.plan)
    if before is None or before.roster is not after.roster:
        values["roster"] = codec.ROSTER.text(after.roster)
    connection.execute(_CHANGED_OPERATION, values)
    known = () if before is None else before.steps
    for step in [new for old, new in zip(known, after.steps, strict=False) if new is not old]:
        wanted = {"wanted": number, "wanted_step": step.number}
        connection.execute(_CHANGED_STEP, {**_step_values(number, step), **wanted})
    for step in after.steps[len(known) :]:
        connection.execute(_NEW_STEP, _step_values(number, step))


def _step_values(operation: int, step: Step) -> Mapping[str, object]:
    return {
        "operation": operation,
        "number": step.number,
        "method": step.method.value,
        "state": step.state.value,
        "source": step.planned.source,
        "target": step.target,
        "body": codec.STEP.text(step),
    }


# --- consequences --------------------------------------------------------------------------------


@singledispatch
def _project(_event: object, _connection: Connection, _operation: Operation) -> None:
    """What an event means for the tables beside the operation's own; most mean nothing."""


@_project.register
def _accepted(event: OperationAccepted, connection: Connection, operation: Operation) -> None:
    number = number_of(operation.id)
    connection.execute(
        insert(tables.operation_host),
        [{"operation": number, "host": host} for host in event.hosts],
    )
    if event.operation_kind in OWNS_HOSTS:
        connection.execute(
            update(tables.host).where(tables.host.c.name.in_(event.hosts)).values(operation=number)
        )
    _own(connection, operation, event.roster)
    _reserve(connection, operation, event.plan.steps)


@_project.register
def _extended(event: PlanExtended, connection: Connection, operation: Operation) -> None:
    _own(connection, operation, event.roster)
    _reserve(connection, operation, event.steps)


@_project.register
def _mode_changed(event: HostModeChanged, connection: Connection, operation: Operation) -> None:
    if event.after is HostMode.MAINTENANCE:
        _check_nobody_comes(connection, event.host)
    changed = connection.execute(
        update(tables.host)
        .where(tables.host.c.name == event.host, tables.host.c.mode == event.before.value)
        .values(mode=event.after.value)
    )
    if changed.rowcount != 1:
        raise Conflict(
            "host.mode",
            f"Host {event.host} is no longer {event.before.value}.",
            remedy="Look at it and try again.",
            operation=operation.id,
        )


def _check_nobody_comes(connection: Connection, host: HostName) -> None:
    """A part of S3 that only the store can see: no place is held on the host for anybody, and
    nothing is flying to it."""
    held = reading.read_reservations(connection, [host])
    coming = [flight for flight in reading.read_flights(connection) if flight.target == host]
    if held or coming:
        raise Conflict(
            "host.expects_vms",
            f"{len(held) + len(coming)} VM(s) are still expected on {host}.",
            remedy="Wait for the operations that bring them.",
        )


@_project.register
def _step_started(event: StepStarted, connection: Connection, operation: Operation) -> None:
    planned = operation.step(event.step).planned
    if event.target is not None and planned.vm is not None:
        held = [replace(planned, targets=(event.target,))]
        _reserve(connection, operation, held, holds_later=False)


@_project.register
def _step_over(
    event: StepFailed | StepSkipped, connection: Connection, operation: Operation
) -> None:
    """A VM that goes nowhere any more needs no place. One that has arrived keeps its place until
    the operation ends, by when it has been observed there."""
    step = operation.step(event.step)
    if isinstance(event, StepSkipped):
        remedying.forget_if_changed(connection, operation, event)
    if step.is_final and step.planned.vm is not None and not step.planned.drive:
        connection.execute(
            delete(tables.reservation).where(
                tables.reservation.c.operation == number_of(operation.id),
                tables.reservation.c.vm == step.planned.vm,
            )
        )


@_project.register
def _step_succeeded(event: StepSucceeded, connection: Connection, operation: Operation) -> None:
    planned = operation.step(event.step).planned
    if planned.drive:
        remedying.remember(connection, operation, event)
    recording.remember(connection, operation, event)


@_project.register
def _ended(_event: OperationEnded, connection: Connection, operation: Operation) -> None:
    """Everything held is let go, whatever the ending was."""
    number = number_of(operation.id)
    connection.execute(delete(tables.vm_owner).where(tables.vm_owner.c.operation == number))
    connection.execute(delete(tables.reservation).where(tables.reservation.c.operation == number))
    connection.execute(
        update(tables.host).where(tables.host.c.operation == number).values(operation=None)
    )
    if operation.kind in (*RETURNS, OperationKind.CLOSE_RECORD):
        recording.forget_closed(connection, operation)


def _own(connection: Connection, operation: Operation, roster: Iterable[RosterEntry]) -> None:
    which = number_of(operation.id)
    rows = [{"vm": vm, "operation": which} for vm in owned(operation.options, roster)]
    if rows:
        connection.execute(insert(tables.vm_owner), rows)


def _reserve(
    connection: Connection,
    operation: Operation,
    steps: Iterable[PlannedStep],
    *,
    holds_later: bool = True,
) -> None:
    """Hold room for each VM on the first of its targets, and nowhere else. `holds_later`: a step
    that comes after others holds its room when it starts."""
    number = number_of(operation.id)
    rows = [
        {
            "operation": number,
            "vm": step.vm,
            "host": step.targets[0],
            "memory_mib": step.load.memory_mib,
            "vcpus": step.load.vcpus,
        }
        for step in steps
        if step.vm is not None and step.targets and not (step.after and holds_later)
    ]
    if not rows:
        return
    connection.execute(
        delete(tables.reservation).where(
            tables.reservation.c.operation == number,
            tables.reservation.c.vm.in_([row["vm"] for row in rows]),
        )
    )
    connection.execute(insert(tables.reservation), rows)
