"""What people say to an operation under way, and plans made anew: events, and what they change.

A part of the journal (see `journal`), which folds them. What has ended stays as it ended: a step
whose VM is taken care of in another way is not changed into something else, it is *overtaken*, and
no longer counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from furlough.core.ids import HostName
from furlough.core.operation import (
    NO_EVIDENCE,
    Evidence,
    Operation,
    Outcome,
    Replan,
    RosterEntry,
    Step,
)
from furlough.core.plan import PlannedStep
from furlough.core.states import OperationState, StepState, advance
from furlough.errors import Conflict


@dataclass(frozen=True, kw_only=True)
class OperationPaused:
    """A user wants nothing new to start; what is in flight ends."""

    by: str
    kind: Literal["operation_paused"] = "operation_paused"


@dataclass(frozen=True, kw_only=True)
class OperationResumed:
    """A user wants a paused operation to go on."""

    by: str
    kind: Literal["operation_resumed"] = "operation_resumed"


@dataclass(frozen=True, kw_only=True)
class StepsApproved:
    """A user has seen the plan of this hash and wants these of its steps carried out."""

    plan_hash: str
    steps: tuple[int, ...]
    by: str
    kind: Literal["steps_approved"] = "steps_approved"


@dataclass(frozen=True, kw_only=True)
class StepOvertaken:
    """A step that had failed does not matter any more: its VM was seen to have left by others'
    hands."""

    step: int
    why: str
    outcome: Outcome
    where: HostName | None = None
    evidence: Evidence = NO_EVIDENCE
    kind: Literal["step_overtaken"] = "step_overtaken"


@dataclass(frozen=True, kw_only=True)
class Extension:
    """More steps for a plan under way, with the roster entries of VMs that are new to it and the
    reason. `replaces`: the numbers of steps that these stand in for; `changes`: for whom what is
    different then, in words."""

    steps: tuple[PlannedStep, ...]
    roster: tuple[RosterEntry, ...]
    why: str
    replaces: tuple[int, ...] = ()
    changes: tuple[str, ...] = ()


def extended(event: Extension, operation: Operation, at: datetime) -> Operation:
    """The operation with a longer plan; where steps were replaced, with a line about that."""
    steps = _with(
        operation.steps,
        [_replaced(operation.step(number), event.why, at) for number in event.replaces],
    )
    plan = replace(operation.plan, steps=operation.plan.steps + event.steps)
    told: tuple[Replan, ...] = ()
    if event.replaces:
        told = (
            Replan(
                at=at,
                before=operation.plan.hash,
                after=plan.hash,
                why=event.why,
                changes=event.changes,
            ),
        )
    return replace(
        operation,
        plan=plan,
        steps=steps + tuple(Step(planned=step, operation=operation.id) for step in event.steps),
        roster=operation.roster + event.roster,
        replans=operation.replans + told,
    )


def paused(_event: OperationPaused, operation: Operation, _at: datetime) -> Operation:
    """The operation, paused. What it waited for is not what it stands still for now."""
    state = advance(operation.state, OperationState.PAUSED)
    return replace(operation, state=state, code=None, waiting_for=None)


def resumed(_event: OperationResumed, operation: Operation, _at: datetime) -> Operation:
    """The operation, going on. What still waits will say so again."""
    if operation.state is not OperationState.PAUSED:
        raise Conflict(
            "operation.not_paused", f"{operation.id} is {operation.state.value}, not paused."
        )
    state = advance(operation.state, OperationState.RUNNING)
    return replace(operation, state=state, code=None, waiting_for=None, crashes=0)


def approved(event: StepsApproved, operation: Operation, _at: datetime) -> Operation:
    """The operation with more steps that may start."""
    return replace(operation, approved=tuple(sorted({*operation.approved, *event.steps})))


def overtaken(event: StepOvertaken, operation: Operation, _at: datetime) -> Operation:
    """The operation with a failed step that no longer counts."""
    step = operation.step(event.step)
    if step.state is not StepState.FAILED:
        raise Conflict(
            "step.not_failed", f"Step {step.id} is {step.state.value}: nothing overtakes it."
        )
    done = replace(
        step,
        is_overtaken=True,
        outcome=event.outcome,
        where=event.where,
        evidence=event.evidence,
        notes=(*step.notes, event.why),
    )
    return replace(operation, steps=_with(operation.steps, [done]))


def _replaced(step: Step, why: str, at: datetime) -> Step:
    """A step that another stands in for: one that failed no longer counts, one that had not begun
    is skipped. `Conflict` where it is under way or done."""
    if step.state is StepState.FAILED:
        return replace(step, is_overtaken=True)
    if step.state is not StepState.PENDING:
        raise Conflict("step.under_way", f"Step {step.id} is {step.state.value}: it stays.")
    return replace(
        step,
        state=advance(step.state, StepState.SKIPPED),
        is_overtaken=True,
        outcome=Outcome.STAYED,
        where=step.planned.source,
        ended_at=at,
        not_before=None,
        notes=(f"planned anew: {why}",),
    )


def _with(steps: tuple[Step, ...], changed: Iterable[Step]) -> tuple[Step, ...]:
    new = {step.number: step for step in changed}
    return tuple(new.get(step.number, step) for step in steps)


Steered = OperationPaused | OperationResumed | StepsApproved | StepOvertaken
