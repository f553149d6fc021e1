"""Findings: what a precheck has to say, and the table of every code it may say it with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from furlough.core.codes import CLUSTER_CODES, HOST_CODES, RESTORE_CODES, Kind, Severity
from furlough.core.vm_codes import VM_CODES

__all__ = ["CODES", "Finding", "Kind", "Severity", "Verdict", "finding", "verdict"]

CODES: Mapping[str, Kind] = {**CLUSTER_CODES, **HOST_CODES, **VM_CODES, **RESTORE_CODES}


class Verdict(StrEnum):
    """What the findings of one host come to."""

    OK = "ok"
    WARNINGS = "warnings"
    BLOCKED = "blocked"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result of a precheck. `subject` is the host or the VM's name and UUID."""

    code: str
    severity: Severity
    subject: str
    message: str
    remedy: str


def finding(code: str, subject: str, message: str, *, severity: Severity | None = None) -> Finding:
    """A finding of a known code, with the remedy of the table, and its severity unless the case
    gives it another one."""
    kind = CODES[code]
    return Finding(
        code=code,
        severity=severity or kind.severity,
        subject=subject,
        message=message,
        remedy=kind.remedy,
    )


def verdict(findings: Iterable[Finding]) -> Verdict:
    """What these findings come to: the worst of them decides."""
    severities = {one.severity for one in findings}
    if Severity.BLOCKER in severities:
        return Verdict.BLOCKED
    return Verdict.WARNINGS if Severity.WARNING in severities else Verdict.OK
