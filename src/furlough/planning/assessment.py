"""The precheck of hosts as a plan needs it: what was found, and what is to become of each VM."""

from __future__ import annotations

from dataclasses import dataclass

from furlough.core.findings import Finding, Verdict, verdict
from furlough.core.ids import HostName
from furlough.planning.dispositions import Disposition
from furlough.planning.placement import Placement


@dataclass(frozen=True, kw_only=True)
class Report:
    """The precheck of one host."""

    host: HostName
    findings: tuple[Finding, ...]
    dispositions: tuple[Disposition, ...]

    @property
    def verdict(self) -> Verdict:
        return verdict(self.findings)


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """The precheck of all hosts that are to be entered, and the placement it rests on."""

    reports: tuple[Report, ...]
    placement: Placement

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """All that forbids entering."""
        return tuple(
            one
            for report in self.reports
            for one in report.findings
            if verdict([one]) is Verdict.BLOCKED
        )

    @property
    def dispositions(self) -> tuple[Disposition, ...]:
        """What will happen to every VM of these hosts, host by host."""
        return tuple(one for report in self.reports for one in report.dispositions)
