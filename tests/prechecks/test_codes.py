"""The table of finding codes: each is raised by the trouble it stands for, and only known ones."""

from __future__ import annotations

import pytest

from furlough.core.codes import RESTORE_CODES
from furlough.core.findings import CODES, Severity
from tests.prechecks.troubles import TROUBLES

# Whose severity is another one in the smallest cluster that raises it, and why.
_WEIGHED = {"cluster.no_reserve": Severity.BLOCKER, "storage.unproven": Severity.INFO}


def test_there_is_a_trouble_for_every_code_and_a_code_for_every_trouble() -> None:
    """Those of exits are raised by their own stories, in test_exiting."""
    assert set(TROUBLES) == set(CODES) - set(RESTORE_CODES)


@pytest.mark.parametrize("code", sorted(TROUBLES))
def test_each_trouble_raises_its_finding(code: str) -> None:
    (report,) = TROUBLES[code].assessment().reports
    found = [one for one in report.findings if one.code == code]
    assert found, [one.code for one in report.findings]
    assert {one.severity for one in found} == {_WEIGHED.get(code, CODES[code].severity)}


@pytest.mark.parametrize("code", sorted(TROUBLES))
def test_every_finding_names_its_subject_says_a_sentence_and_what_can_be_done(code: str) -> None:
    for found in TROUBLES[code].assessment().reports[0].findings:
        assert found.code in CODES
        assert found.remedy
        assert found.message.endswith(".")
        assert not found.message.endswith("..")
        assert found.subject.split(" ")[0] in found.message


@pytest.mark.parametrize("code", sorted(code for code, kind in CODES.items() if kind.apply))
def test_remedies_that_can_be_applied_are_the_two_that_are_safe(code: str) -> None:
    assert {"vm.local_media": "eject", "guard.unproven": "prepare"}[code] == CODES[code].apply


def test_whatever_endangers_disks_or_hides_vms_can_never_be_overridden() -> None:
    never = ("vm.two_copies", "guard.missing", "host.silent", "vm.device", "vm.snapshot")
    assert not any(CODES[code].may_be_overridden for code in never)
