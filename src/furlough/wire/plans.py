"""Prechecks, plans, and what an exit would do."""

from __future__ import annotations

from typing import Literal

from furlough.core.plan import Plan, PlannedStep
from furlough.core.timing import Range
from furlough.planning.assessment import Report
from furlough.planning.dispositions import Disposition
from furlough.wire.shapes import View


class FindingView(View):
    """One result of a precheck."""

    code: str
    severity: Literal["info", "warning", "blocker"]
    subject: str
    message: str
    remedy: str


class DispositionView(View):
    """What will happen to one VM."""

    uuid: str
    name: str
    method: str
    target: str | None
    reason: str
    duration_s: float
    downtime_ms: int


class ReportView(View):
    """The precheck of one host."""

    host: str
    verdict: Literal["ok", "warnings", "blocked"]
    findings: list[FindingView]
    vms: list[DispositionView]


class RangeView(View):
    """An estimate, in seconds."""

    low: float
    high: float


class PlannedStepView(View):
    """One step of a plan. `after`: the numbers of steps that must have succeeded before."""

    number: int
    after: list[int]
    vm_uuid: str | None
    vm_name: str
    method: str
    source: str | None
    target: str | None
    wave: int
    start_s: float
    duration_s: float
    downtime_ms: int


class UnplacedView(View):
    """A VM that fits nowhere, with the reasons per host."""

    vm_uuid: str
    vm_name: str
    reasons: dict[str, list[str]]


class BoundsView(View):
    """What no plan could do better: the time the bytes need, and the migrations it takes."""

    makespan_s: float
    migrations: int


class LoadView(View):
    """Memory load of the hosts that stay: the fullest, and the standard deviation."""

    max: float
    sd: float


class PlanView(View):
    """A plan. `restore`: the plan of the exit that would follow at once, where it was asked for."""

    id: str
    hash: str
    hosts: list[str]
    steps: list[PlannedStepView]
    unplaced: list[UnplacedView]
    eta_s: RangeView
    eta_reasons: list[str]
    bounds: BoundsView
    migrations: int
    load_after: LoadView
    restore: PlanView | None = None


def report_view(report: Report) -> ReportView:
    return ReportView(
        host=report.host,
        verdict=report.verdict.value,
        findings=[FindingView.model_validate(one, from_attributes=True) for one in report.findings],
        vms=[_disposition_view(one) for one in report.dispositions],
    )


def _disposition_view(one: Disposition) -> DispositionView:
    return DispositionView(
        uuid=one.vm,
        name=one.vm_name,
        method=one.method.value if one.method else "leave",
        target=one.target,
        reason=one.reason,
        duration_s=one.duration_s,
        downtime_ms=one.downtime_ms,
    )


def plan_view(plan: Plan, back: Plan | None = None) -> PlanView:
    return PlanView(
        id=plan.id,
        hash=plan.hash,
        hosts=list(plan.hosts),
        steps=[_planned_view(step) for step in plan.steps],
        unplaced=[
            UnplacedView(
                vm_uuid=one.vm,
                vm_name=one.vm_name,
                reasons={host: list(reasons) for host, reasons in one.reasons.items()},
            )
            for one in plan.unplaced
        ],
        eta_s=range_view(plan.eta),
        eta_reasons=list(plan.eta_reasons),
        bounds=BoundsView(makespan_s=plan.bound_s, migrations=len(plan.migrations)),
        migrations=len(plan.migrations),
        load_after=LoadView(max=plan.load_after.max, sd=plan.load_after.sd),
        restore=None if back is None else plan_view(back),
    )


def _planned_view(step: PlannedStep) -> PlannedStepView:
    return PlannedStepView(
        number=step.number,
        after=list(step.after),
        vm_uuid=step.vm,
        vm_name=step.vm_name,
        method=step.method.value,
        source=step.source or step.host,
        target=step.targets[0] if step.targets else None,
        wave=step.wave,
        start_s=step.start_s,
        duration_s=step.duration_s,
        downtime_ms=step.downtime_ms,
    )


def range_view(one: Range) -> RangeView:
    """An estimate for the wire."""
    return RangeView(low=one.low, high=one.high)
