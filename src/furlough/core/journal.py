"""The journal: every kind of event, and the fold that turns events into an operation.

The journal is append-only and is the truth about what we meant and what we saw. The stored rows
of an operation are its fold, always. An effect on a host comes after the event that announces
it (`StepStarted`, `StepActed`), and before the event that says how it ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import singledispatch
from typing import Literal

from furlough.core import steering
from furlough.core.ids import HostName, OperationId
from furlough.core.operation import (
    NO_EVIDENCE,
    Act,
    Attempt,
    Evidence,
    Failure,
    Operation,
    Outcome,
    RosterEntry,
    Step,
)
from furlough.core.plan import Handover, OperationKind, Plan
from furlough.core.policy import CancelMode, Options
from furlough.core.states import HostMode, OperationState, StepState, advance
from furlough.errors import Bug, Conflict

# --- events ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OperationAccepted:
    """A user asked for it, it was checked, and it will be carried out by this plan."""

    operation_kind: OperationKind
    hosts: tuple[HostName, ...]
    options: Options
    plan: Plan
    roster: tuple[RosterEntry, ...]
    requested_by: str
    deadline: datetime | None = None
    kind: Literal["operation_accepted"] = "operation_accepted"


@dataclass(frozen=True, kw_only=True)
class OperationClaimed:
    """A process took it over, under an epoch higher than any before."""

    owner: str
    epoch: int
    kind: Literal["operation_claimed"] = "operation_claimed"


@dataclass(frozen=True, kw_only=True)
class OperationReleased:
    """Its process is stopping in good order: this was no crash."""

    kind: Literal["operation_released"] = "operation_released"


@dataclass(frozen=True, kw_only=True)
class OperationBlocked:
    """It waits for something that only the world or a person can bring."""

    code: str
    waiting_for: str
    kind: Literal["operation_blocked"] = "operation_blocked"


@dataclass(frozen=True, kw_only=True)
class OperationUnblocked:
    """What it waited for has come, or a person told it to go on (`by`)."""

    by: str = ""
    kind: Literal["operation_unblocked"] = "operation_unblocked"


@dataclass(frozen=True, kw_only=True)
class CancelRequested:
    """A user wants it to stop. `plan_hash`: of the put-back that was shown and is to be carried
    out."""

    mode: CancelMode
    by: str
    plan_hash: str | None = None
    kind: Literal["cancel_requested"] = "cancel_requested"


@dataclass(frozen=True, kw_only=True)
class DeadlinePassed:
    """Its time is over: it stops as if cancelled, and fails."""

    kind: Literal["deadline_passed"] = "deadline_passed"


@dataclass(frozen=True, kw_only=True)
class OperationEnded:
    """Final. Nothing of it runs any more."""

    state: OperationState
    code: str | None = None
    message: str = ""
    kind: Literal["operation_ended"] = "operation_ended"


@dataclass(frozen=True, kw_only=True)
class HostModeChanged:
    """A host's mode took a step of its transition table."""

    host: HostName
    before: HostMode
    after: HostMode
    kind: Literal["host_mode_changed"] = "host_mode_changed"


@dataclass(frozen=True, kw_only=True)
class PlanExtended(steering.Extension):
    """Facts changed: VMs appeared after the plan was made, or steps cannot be carried out as they
    were planned; these steps take care of them."""

    kind: Literal["plan_extended"] = "plan_extended"


@dataclass(frozen=True, kw_only=True)
class StepStarted:
    """The intent: from now on its effect may be on the world. `was_paused`: so the VM was seen
    just before, and so it has to arrive. `handover`: as facts allow it now, which may be less
    than the plan thought; so `is_encrypted`, too. `connections`, `may_post_copy`: how its memory is
    sent. `boot_id`: the boot of the host that the step is to end."""

    step: int
    target: HostName | None
    epoch: int
    was_paused: bool = False
    handover: Handover = Handover.NORMAL
    connections: int = 0
    may_post_copy: bool = False
    boot_id: str = ""
    is_encrypted: bool = False
    kind: Literal["step_started"] = "step_started"


@dataclass(frozen=True, kw_only=True)
class StepActed:
    """The intent of one more effect within a started step, while settling or verifying it."""

    step: int
    act: Act
    host: HostName
    why: str
    kind: Literal["step_acted"] = "step_acted"


@dataclass(frozen=True, kw_only=True)
class StepSucceeded:
    """Its effect was seen."""

    step: int
    outcome: Outcome = Outcome.PENDING
    where: HostName | None = None
    downtime_ms: int | None = None
    sent_mib: int | None = None
    evidence: Evidence = NO_EVIDENCE
    notes: tuple[str, ...] = ()
    kind: Literal["step_succeeded"] = "step_succeeded"


@dataclass(frozen=True, kw_only=True)
class StepFailed:
    """An attempt was seen to have had no effect. Tried again from `not_before`, if that is set.

    `counts` is False where the attempt never began (we died before the call): it costs the VM
    none of its attempts. `target` is set where it was refused before the step could start.
    """

    step: int
    failure: Failure
    target: HostName | None = None
    counts: bool = True
    where: HostName | None = None
    outcome: Outcome = Outcome.STAYED
    evidence: Evidence = NO_EVIDENCE
    not_before: datetime | None = None
    kind: Literal["step_failed"] = "step_failed"


@dataclass(frozen=True, kw_only=True)
class StepSkipped:
    """Nothing was left to do, or nothing may be done any more; seen, not assumed."""

    step: int
    why: str
    outcome: Outcome = Outcome.STAYED
    where: HostName | None = None
    evidence: Evidence = NO_EVIDENCE
    kind: Literal["step_skipped"] = "step_skipped"


StepEvent = StepStarted | StepActed | StepSucceeded | StepFailed | StepSkipped

Event = (
    OperationAccepted
    | OperationClaimed
    | OperationReleased
    | OperationBlocked
    | OperationUnblocked
    | CancelRequested
    | DeadlinePassed
    | OperationEnded
    | HostModeChanged
    | PlanExtended
    | steering.Steered
    | StepEvent
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An event as the journal holds it: `sequence` counts the store's events, `number` those of
    its operation, both from 1."""

    sequence: int
    operation: OperationId
    number: int
    at: datetime
    event: Event


# --- the fold ----------------------------------------------------------------------------------


def fold(entries: Iterable[Entry]) -> Operation:
    """The operation that these entries, its first among them, add up to."""
    operation: Operation | None = None
    for entry in entries:
        operation = apply(operation, entry.operation, entry.event, entry.at)
    if operation is None:
        raise Bug("journal.empty", "An operation without a journal cannot be.")
    return operation


def apply(
    operation: Operation | None, operation_id: OperationId, event: Event, at: datetime
) -> Operation:
    """The operation after one more event. `Conflict` where a transition is not in its table, and
    for every event after its end: what has ended stays as it ended (S8)."""
    if operation is None:
        if not isinstance(event, OperationAccepted):
            raise Bug(
                "journal.headless", f"The journal of {operation_id} does not begin at its start."
            )
        return _accepted(operation_id, event, at)
    if isinstance(event, OperationAccepted):
        raise Bug("journal.twice", f"Operation {operation_id} was accepted already.")
    if operation.is_final:
        raise Conflict(
            "operation.over",
            f"Operation {operation_id} is {operation.state.value}; nothing more happens in it.",
            remedy=f"See how it ended: furlough operation show {operation_id}.",
            operation=operation_id,
        )
    return replace(_change(event, operation, at), events=operation.events + 1)


@singledispatch
def _change(event: object, operation: Operation, at: datetime) -> Operation:
    """The operation after one event; one registered function per kind of event."""
    raise Bug("journal.unknown", f"{operation.id} at {at}: unknown event {event!r}.")


def _accepted(operation_id: OperationId, event: OperationAccepted, at: datetime) -> Operation:
    return Operation(
        id=operation_id,
        kind=event.operation_kind,
        hosts=event.hosts,
        options=event.options,
        plan=event.plan,
        requested_by=event.requested_by,
        created_at=at,
        deadline=event.deadline,
        steps=tuple(Step(planned=step, operation=operation_id) for step in event.plan.steps),
        roster=event.roster,
        events=1,
    )


@_change.register
def _claimed(event: OperationClaimed, operation: Operation, at: datetime) -> Operation:
    first = operation.state is OperationState.QUEUED
    return replace(
        operation,
        owner=event.owner,
        epoch=event.epoch,
        # An owner that is still written down did not release it: it died.
        crashes=operation.crashes + (operation.owner is not None),
        state=advance(operation.state, OperationState.RUNNING) if first else operation.state,
        started_at=at if first else operation.started_at,
    )


@_change.register
def _released(_event: OperationReleased, operation: Operation, _at: datetime) -> Operation:
    return replace(operation, owner=None)


@_change.register
def _blocked(event: OperationBlocked, operation: Operation, _at: datetime) -> Operation:
    state = operation.state
    return replace(
        operation,
        # While it is being cancelled or paused it stays so, and says what it waits for.
        state=state
        if state in (OperationState.CANCELLING, OperationState.PAUSED, OperationState.BLOCKED)
        else advance(state, OperationState.BLOCKED),
        code=event.code,
        waiting_for=event.waiting_for,
    )


@_change.register
def _unblocked(event: OperationUnblocked, operation: Operation, _at: datetime) -> Operation:
    state = operation.state
    return replace(
        operation,
        state=advance(state, OperationState.RUNNING) if state is OperationState.BLOCKED else state,
        code=None,
        waiting_for=None,
        crashes=0 if event.by else operation.crashes,
        urged=operation.urged + bool(event.by),
    )


@_change.register
def _cancel_requested(event: CancelRequested, operation: Operation, _at: datetime) -> Operation:
    state = operation.state
    return replace(
        operation,
        # Asked twice: the stricter wish counts.
        state=state
        if state is OperationState.CANCELLING
        else advance(state, OperationState.CANCELLING),
        cancel=CancelMode.STOP if operation.cancel is CancelMode.STOP else event.mode,
    )


@_change.register
def _deadline_passed(_event: DeadlinePassed, operation: Operation, _at: datetime) -> Operation:
    return replace(
        operation,
        state=advance(operation.state, OperationState.CANCELLING),
        has_timed_out=True,
        cancel=CancelMode.STOP,
    )


@_change.register
def _ended(event: OperationEnded, operation: Operation, at: datetime) -> Operation:
    flying = [step.id for step in operation.steps if step.state is StepState.STARTED]
    if flying:
        raise Conflict(
            "operation.in_flight", f"{operation.id} cannot end: {', '.join(flying)} is under way."
        )
    return replace(
        operation,
        state=advance(operation.state, event.state),
        code=event.code,
        message=event.message,
        waiting_for=None,
        finished_at=at,
        owner=None,
    )


@_change.register
def _mode_changed(event: HostModeChanged, operation: Operation, _at: datetime) -> Operation:
    advance(event.before, event.after)
    return operation


_change.register(PlanExtended)(steering.extended)
_change.register(steering.OperationPaused)(steering.paused)
_change.register(steering.OperationResumed)(steering.resumed)
_change.register(steering.StepsApproved)(steering.approved)
_change.register(steering.StepOvertaken)(steering.overtaken)


@_change.register
def _step_changed(event: StepEvent, operation: Operation, at: datetime) -> Operation:
    index = event.step - 1
    steps = (
        *operation.steps[:index],
        _change_step(event, operation.steps[index], at),
        *operation.steps[index + 1 :],
    )
    # An outcome shows that we live: crashes are counted in a row, without progress between. An
    # attempt that was not made because we died is none.
    progressed = not isinstance(event, StepStarted | StepActed)
    if isinstance(event, StepFailed) and not event.counts:
        progressed = False
    return replace(operation, steps=steps, crashes=0 if progressed else operation.crashes)


@singledispatch
def _change_step(event: object, step: Step, at: datetime) -> Step:
    """The step after one event about it."""
    raise Bug("journal.unknown", f"{step.id} at {at}: unknown event {event!r}.")


@_change_step.register
def _started(event: StepStarted, step: Step, at: datetime) -> Step:
    attempt = Attempt(
        target=event.target,
        epoch=event.epoch,
        started_at=at,
        was_paused=event.was_paused,
        handover=event.handover,
        connections=event.connections,
        may_post_copy=event.may_post_copy,
        boot_id=event.boot_id,
        is_encrypted=event.is_encrypted,
    )
    return replace(
        step,
        state=advance(step.state, StepState.STARTED),
        attempts=(*step.attempts, attempt),
        not_before=None,
    )


@_change_step.register
def _acted(event: StepActed, step: Step, _at: datetime) -> Step:
    if step.state is not StepState.STARTED:
        raise Conflict(
            "step.not_started",
            f"Step {step.id} is {step.state.value}: nothing can be done within it.",
        )
    last = step.attempts[-1]
    return replace(
        step, attempts=(*step.attempts[:-1], replace(last, acts=(*last.acts, event.act)))
    )


@_change_step.register
def _succeeded(event: StepSucceeded, step: Step, at: datetime) -> Step:
    return replace(
        _closed(step, StepState.SUCCEEDED, at),
        outcome=event.outcome,
        where=event.where,
        downtime_ms=event.downtime_ms,
        sent_mib=event.sent_mib,
        evidence=event.evidence,
        notes=event.notes,
    )


@_change_step.register
def _failed(event: StepFailed, step: Step, at: datetime) -> Step:
    again = event.not_before is not None
    if step.state is StepState.PENDING:
        attempt = Attempt(target=event.target, epoch=0, started_at=at)
        step = replace(step, state=StepState.STARTED, attempts=(*step.attempts, attempt))
    closed = _closed(step, StepState.PENDING if again else StepState.FAILED, at)
    last = replace(closed.attempts[-1], failure=event.failure, counts=event.counts)
    return replace(
        closed,
        attempts=(*closed.attempts[:-1], last),
        ended_at=None if again else at,
        outcome=Outcome.PENDING if again else event.outcome,
        where=event.where,
        failure=event.failure,
        evidence=event.evidence,
        not_before=event.not_before,
    )


@_change_step.register
def _skipped(event: StepSkipped, step: Step, at: datetime) -> Step:
    return replace(
        _closed(step, StepState.SKIPPED, at),
        outcome=event.outcome,
        where=event.where,
        evidence=event.evidence,
        notes=(event.why,),
    )


def _closed(step: Step, state: StepState, at: datetime) -> Step:
    """The step in its new state, with its open attempt, if any, ended."""
    attempts = step.attempts
    if attempts and attempts[-1].ended_at is None:
        attempts = (*attempts[:-1], replace(attempts[-1], ended_at=at))
    return replace(
        step, state=advance(step.state, state), attempts=attempts, ended_at=at, failure=None
    )
