"""Operations, their steps, and what became of each VM."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import Field

from furlough.core.accounting import account
from furlough.core.hostlog import Level, LogLine
from furlough.core.inventory import Inventory
from furlough.core.operation import Attempt, Failure, Operation, Step
from furlough.core.outlook import Copied, outlook
from furlough.core.states import OperationState, Power, StepState
from furlough.wire.plans import RangeView, range_view
from furlough.wire.shapes import View


class ErrorView(View):
    """Why something ended without its effect."""

    code: str
    message: str
    remedy: str = ""


class ProgressView(View):
    """A migration in flight."""

    remaining_mib: int
    sent_mib: int


class StepView(View):
    """One step and how far it is."""

    id: str
    vm_uuid: str | None
    vm_name: str
    method: str
    source: str | None
    target: str | None
    state: StepState
    attempts: int
    duration_s: float | None
    downtime_ms: int | None
    bytes: int | None
    error: ErrorView | None
    notes: list[str]
    expected_mib: int
    progress: ProgressView | None


class AttemptView(View):
    """One try."""

    target: str | None
    error: ErrorView | None


class AccountView(View):
    """What became of one VM."""

    uuid: str
    name: str
    host: str | None
    power: Power | None
    outcome: str
    attempts: list[AttemptView]
    why: str = ""
    remedy: str


class ReplanView(View):
    """A plan that was made anew under way, and what is different for whom."""

    at: datetime
    before: str
    after: str
    why: str
    changes: list[str]


class OperationView(View):
    """An operation."""

    id: str
    kind: str
    hosts: list[str]
    state: OperationState
    code: str | None
    message: str
    waiting_for: str | None
    requested_by: str
    plan_hash: str
    progress_percent: int
    eta_s: RangeView | None
    bytes_done: int
    bytes_total: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline: datetime | None
    replans: list[ReplanView] = Field(default_factory=list)
    steps: list[StepView]
    vms: list[AccountView]


class EntryView(View):
    """An event of the journal."""

    sequence: int
    operation: str
    number: int
    at: datetime
    kind: str
    event: dict[str, Any]


class LogLineView(View):
    """A line of a host's log; `vm_name` is empty where it is about the host itself, `operation`
    null where it belongs to none."""

    at: datetime
    level: Level
    operation: str | None
    vm_name: str
    message: str


def log_line_view(line: LogLine) -> LogLineView:
    return LogLineView(
        at=line.at,
        level=line.level,
        operation=line.operation,
        vm_name=line.vm_name,
        message=line.message,
    )


def operation_view(
    operation: Operation, inventory: Inventory, live: Mapping[int, Copied], now: datetime
) -> OperationView:
    seen = outlook(operation, live, now)
    return OperationView(
        id=operation.id,
        kind=operation.kind.value,
        hosts=list(operation.hosts),
        state=operation.state,
        code=operation.code,
        message=operation.message,
        waiting_for=operation.waiting_for,
        requested_by=operation.requested_by,
        plan_hash=operation.plan.hash,
        progress_percent=seen.percent,
        eta_s=range_view(seen.eta) if seen.eta else None,
        bytes_done=seen.bytes_done,
        bytes_total=seen.bytes_total,
        created_at=operation.created_at,
        started_at=operation.started_at,
        finished_at=operation.finished_at,
        deadline=operation.deadline,
        replans=[ReplanView.model_validate(one) for one in operation.replans],
        steps=[_step_view(step, live.get(step.number)) for step in operation.steps],
        vms=[
            AccountView(
                uuid=one.vm,
                name=one.name,
                host=one.host,
                power=one.power,
                outcome=one.outcome.value,
                attempts=[_attempt_view(attempt) for attempt in one.attempts],
                why=one.why,
                remedy=one.remedy,
            )
            for one in account(operation, inventory)
        ],
    )


def _step_view(step: Step, copied: Copied | None) -> StepView:
    return StepView(
        id=step.id,
        vm_uuid=step.planned.vm,
        vm_name=step.planned.vm_name,
        method=step.method.value,
        source=step.planned.source or step.planned.host,
        target=step.target,
        state=step.state,
        attempts=len(step.attempts),
        duration_s=step.duration_s,
        downtime_ms=step.downtime_ms,
        bytes=None if step.sent_mib is None else step.sent_mib * 2**20,
        error=_error_view(step.failure),
        notes=list(step.notes),
        expected_mib=step.planned.sent_mib,
        progress=ProgressView(remaining_mib=copied.remaining_mib, sent_mib=copied.sent_mib)
        if copied and step.state is StepState.STARTED
        else None,
    )


def _attempt_view(attempt: Attempt) -> AttemptView:
    return AttemptView(target=attempt.target, error=_error_view(attempt.failure))


def _error_view(failure: Failure | None) -> ErrorView | None:
    if failure is None:
        return None
    return ErrorView(code=failure.code, message=failure.message, remedy=failure.remedy)
