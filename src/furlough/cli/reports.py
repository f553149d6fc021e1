"""Prechecks and plans for people."""

from __future__ import annotations

from furlough.cli.output import print_table, say, span
from furlough.wire.plans import (
    DispositionView,
    FindingView,
    PlanView,
    ReportView,
)

_HEADINGS = {
    "blocker": "forbids entering",
    "warning": "deserves a thought",
    "info": "worth knowing",
}


def print_reports(reports: list[ReportView]) -> None:
    """Findings first, the worst of them foremost, then what happens to each VM."""
    for report in reports:
        say(f"{report.host}: {report.verdict}")
        for severity, heading in _HEADINGS.items():
            _print_findings(heading, [one for one in report.findings if one.severity == severity])
        if report.vms:
            say()
            print_table(
                ("vm", "method", "target", "seconds", "downtime", "reason"),
                [_disposition_row(vm) for vm in report.vms],
            )
        say()


def _print_findings(heading: str, findings: list[FindingView]) -> None:
    """The findings of one severity; a remedy that many share is told once, below them."""
    if findings:
        say(f"  {heading}:")
    for (code, remedy), group in _by_remedy(findings).items():
        for one in group:
            say(f"    {code}: {one.message}")
        say(f"      -> {remedy}")


def _by_remedy(findings: list[FindingView]) -> dict[tuple[str, str], list[FindingView]]:
    groups: dict[tuple[str, str], list[FindingView]] = {}
    for one in findings:
        groups.setdefault((one.code, one.remedy), []).append(one)
    return groups


def _disposition_row(vm: DispositionView) -> tuple[object, ...]:
    moves = vm.target is not None
    return (
        vm.name,
        vm.method.replace("_", " "),
        vm.target,
        f"{vm.duration_s:.1f}" if moves or vm.duration_s else None,
        f"{vm.downtime_ms} ms" if moves else None,
        vm.reason,
    )


def print_plan(plan: PlanView) -> None:
    """Steps in their order, then the whole."""
    print_table(
        ("step", "vm", "from", "to", "start", "seconds", "downtime"),
        [
            (
                step.method.replace("_", " "),
                step.vm_name,
                step.source,
                step.target,
                f"{step.start_s:.1f}" if step.vm_uuid else None,
                f"{step.duration_s:.1f}" if step.vm_uuid else None,
                f"{step.downtime_ms} ms" if step.vm_uuid else None,
            )
            for step in plan.steps
        ],
    )
    for one in plan.unplaced:
        reasons = "; ".join(f"{host}: {', '.join(why)}" for host, why in one.reasons.items())
        say(f"{one.vm_name} fits nowhere: {reasons}")
    say()
    say(
        f"{plan.migrations} migrations, {span(plan.eta_s.low)} to {span(plan.eta_s.high)}; then "
        f"the fullest host holds {100 * plan.load_after.max:.0f} % of its memory "
        f"(deviation {100 * plan.load_after.sd:.1f} %)."
    )
    for reason in plan.eta_reasons:
        say(f"  {reason}")
    say(f"{plan.id}, hash {plan.hash}")
