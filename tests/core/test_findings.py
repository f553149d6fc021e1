"""Findings: every code means something, says what to do, and the worst one decides."""

from __future__ import annotations

import re

import pytest

from furlough.core.findings import CODES, Finding, Severity, Verdict, finding, verdict


def _of(severity: Severity) -> Finding:
    return Finding(code="test", severity=severity, subject="h1", message="m", remedy="r")


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_says_what_it_means_and_what_a_person_can_do(code: str) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", code)
    assert CODES[code].meaning.endswith(".")
    assert CODES[code].remedy.endswith(".")


def test_a_finding_takes_severity_and_remedy_from_the_table() -> None:
    found = finding("host.silent", "h1", "Host h1 does not answer.")
    assert found.severity is Severity.BLOCKER
    assert found.remedy == CODES["host.silent"].remedy
    assert (found.subject, found.message) == ("h1", "Host h1 does not answer.")


def test_a_case_may_give_a_finding_another_severity_than_the_table() -> None:
    found = finding("vm.device", "vm1", "It will be shut down.", severity=Severity.INFO)
    assert found.severity is Severity.INFO


def test_a_code_that_is_not_in_the_table_cannot_be_used() -> None:
    with pytest.raises(KeyError):
        finding("host.grumpy", "h1", "Host h1 is grumpy.")


@pytest.mark.parametrize(
    ("severities", "wanted"),
    [
        ([], Verdict.OK),
        ([Severity.INFO], Verdict.OK),
        ([Severity.INFO, Severity.WARNING], Verdict.WARNINGS),
        ([Severity.WARNING, Severity.BLOCKER, Severity.INFO], Verdict.BLOCKED),
    ],
)
def test_the_worst_finding_decides_the_verdict(severities: list[Severity], wanted: Verdict) -> None:
    assert verdict(_of(severity) for severity in severities) is wanted
