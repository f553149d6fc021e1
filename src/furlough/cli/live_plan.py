"""A plan of live hosts, seen as one from a file: so it can be drawn, and checked by the checker
that shares no code with the planner.

    PlanView, what the daemon says of the hosts ─► WhatIf ─► page, violations
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from json import dumps
from pathlib import Path
from typing import Any

from furlough.cli import output, reports
from furlough.cli.daemon_access import connect
from furlough.cli.planning import moves_of, print_violations
from furlough.client import Client
from furlough.core.load_after import LoadAfter
from furlough.core.plan import Method
from furlough.core.policy import Limits
from furlough.core.states import Power
from furlough.core.timing import Range
from furlough.planning.board import board_of_file
from furlough.planning.checking import Terms, violations
from furlough.planning.inventory_file import Document, read
from furlough.planning.plan_page import page
from furlough.planning.unplaced import StayingVm
from furlough.planning.what_if import HostLoad, Step, WhatIf, Wishes, loads_of, waves_of
from furlough.wire.plans import PlannedStepView, PlanView, UnplacedView

_STOPS = (Method.SHUT_DOWN.value, Method.SUSPEND.value)


def plan_live(
    hosts: list[str],
    options: Mapping[str, Any],
    *,
    verify: bool,
    html: Path | None,
    json: bool,
    restore: bool = False,
) -> int:
    """Ask the daemon for a plan, print and draw it; the exit code, 1 if it would break things.
    `restore`: the way back as well."""
    with connect() as client:
        found = client.plan(hosts, options, restore=restore)
        seen = LivePlan.seen_by(client, found) if verify or html is not None else None
        broken, keeps_reserve = None, True
        if seen is not None and verify:
            keeps_reserve = "cluster.no_reserve" not in _codes(client, hosts, options)
            broken = seen.violations(_limits(client, seen), keeps_reserve=keeps_reserve)
    if seen is not None and html is not None:
        seen.write_page(html)
        output.warn(f"Written to {html}.")
    if json:
        checked = {} if broken is None else {"violations": broken}
        output.print_text(dumps({**found.model_dump(mode="json"), **checked}, indent=2))
    else:
        reports.print_plan(found)
        if found.restore is not None:
            output.say("\nThe way back, as it would be right after:")
            reports.print_plan(found.restore)
        print_violations(broken, keeps_reserve=keeps_reserve)
    return output.FAILED if broken else output.DONE


def _limits(client: Client, seen: LivePlan) -> Limits:
    """Of the cluster concerned; of several the widest ones."""
    names = {host.cluster for host in seen.facts.hosts if host.name in seen.plan.hosts}
    known = [client.cluster(name).policy["limits"] for name in sorted(names)]
    return Limits(**{what: max(one[what] for one in known) for what in known[0]})


def _codes(client: Client, hosts: list[str], options: Mapping[str, Any]) -> set[str]:
    """The codes of the findings that stand against a plan, which the plan itself does not list."""
    asked = {what: value for what, value in options.items() if what != "order"}
    return {one.code for report in client.check(hosts, asked) for one in report.findings}


@dataclass(frozen=True, kw_only=True)
class LivePlan:
    """A plan, and the facts of the clusters at about the same time."""

    plan: PlanView
    facts: Document

    @staticmethod
    def seen_by(client: Client, plan: PlanView) -> LivePlan:
        """With what the daemon says of its clusters now."""
        return LivePlan(plan=plan, facts=read(client.inventory_file()))

    def write_page(self, path: Path) -> None:
        """Write the page with pictures."""
        text = page(self._as_what_if(), known_as=(self.plan.id, self.plan.hash))
        path.write_text(text, encoding="utf-8")

    def violations(self, limits: Limits, *, keeps_reserve: bool) -> list[str]:
        """What an independent checker finds against the plan. `limits`: of migrations in flight;
        `keeps_reserve` is False where a finding says already that it does not."""
        terms = Terms(
            leaving=frozenset(self.plan.hosts),
            staying=frozenset(one.vm_uuid for one in self.plan.unplaced),
            per_source=limits.per_source,
            per_target=limits.per_target,
            per_cluster=limits.per_cluster,
            keeps_reserve=keeps_reserve,
        )
        return violations(self._facts_afterwards(), moves_of(self._as_what_if()), terms)

    def _as_what_if(self) -> WhatIf:
        plan, steps = self.plan, self._steps()
        return WhatIf(
            taken_at=self.facts.taken_at,
            wishes=Wishes(hosts=tuple(plan.hosts)),
            steps=tuple(steps),
            unplaced=tuple(_staying(one) for one in plan.unplaced),
            makespan_s=max((one.end_s for one in steps), default=0.0),
            eta=Range(low=plan.eta_s.low, high=plan.eta_s.high),
            eta_reasons=tuple(plan.eta_reasons),
            bound_s=plan.bounds.makespan_s,
            bound_migrations=plan.bounds.migrations,
            loads=self._loads(),
            load_after=LoadAfter(max=plan.load_after.max, sd=plan.load_after.sd),
            broken={},
            gaps={},
        )

    def _moves(self) -> list[PlannedStepView]:
        return [one for one in self.plan.steps if one.method == Method.LIVE.value]

    def _steps(self) -> list[Step]:
        moves = self._moves()
        waves = waves_of([(one.start_s, one.start_s + one.duration_s) for one in moves])
        return [
            Step(
                vm_uuid=one.vm_uuid or "",
                vm_name=one.vm_name,
                source=one.source or "",
                target=one.target or "",
                wave=wave,
                start_s=one.start_s,
                duration_s=one.duration_s,
                downtime_ms=one.downtime_ms,
                is_detour=False,
            )
            for one, wave in zip(moves, waves, strict=True)
        ]

    def _loads(self) -> tuple[HostLoad, ...]:
        before, after = board_of_file(self.facts), board_of_file(self._facts_afterwards())
        host_at = {name: place for place, name in enumerate(before.hosts.names)}
        vm_at = {uuid: place for place, uuid in enumerate(before.vms.uuids)}
        seats = before.vms.hosts.copy()
        for one in self._moves():
            # Somebody may have removed it since the plan was made.
            if one.vm_uuid in vm_at and one.target in host_at:
                seats[vm_at[one.vm_uuid]] = host_at[one.target]
        return loads_of((before, before.vms.hosts), (after, seats), before.places(self.plan.hosts))

    def _facts_afterwards(self) -> Document:
        """The facts with those off that are stopped: they hold no group together or apart."""
        stopped = {one.vm_uuid for one in self.plan.steps if one.method in _STOPS}
        vms = self.facts.vms
        power = [
            Power.SHUT_OFF if uuid in stopped else power
            for uuid, power in zip(vms.uuid, vms.power, strict=True)
        ]
        return replace(self.facts, vms=replace(vms, power=power))


def _staying(one: UnplacedView) -> StayingVm:
    reasons = {host: tuple(words) for host, words in one.reasons.items()}
    why = "; ".join(f"{host}: {', '.join(words)}" for host, words in reasons.items())
    return StayingVm(vm_uuid=one.vm_uuid, vm_name=one.vm_name, why=why, reasons=reasons)
