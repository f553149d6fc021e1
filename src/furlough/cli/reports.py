"""Prechecks and plans for people."""

from __future__ import annotations

from furlough.cli.output import print_table, say, span
from furlough.wire.plans import ExitCheckView, PlanView, ReportView


def print_reports(reports: list[ReportView]) -> None:
    """Findings first, then what happens to each VM."""
    for report in reports:
        say(f"{report.host}: {report.verdict}")
        for one in report.findings:
            say(f"  {one.severity:8} {one.code}: {one.message}")
            if one.severity != "info":
                say(f"           -> {one.remedy}")
        if report.vms:
            say()
            print_table(
                ("vm", "method", "target", "seconds", "downtime", "reason"),
                [
                    (
                        vm.name,
                        vm.method,
                        vm.target,
                        f"{vm.duration_s:.1f}" if vm.target else None,
                        f"{vm.downtime_ms} ms" if vm.target else None,
                        vm.reason,
                    )
                    for vm in report.vms
                ],
            )
        say()


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
    say(f"{plan.id}, hash {plan.hash}")


def print_exit_checks(checks: list[ExitCheckView]) -> None:
    """Who would come home, who would not, and why."""
    for check in checks:
        say(f"{check.host}: {len(check.plan.steps)} steps, {check.plan.migrations} migrations")
        if check.vms:
            print_table(
                ("vm", "now on", "action", "reason"),
                [(vm.name, vm.now_on, vm.action.replace("_", " "), vm.reason) for vm in check.vms],
            )
        say()
