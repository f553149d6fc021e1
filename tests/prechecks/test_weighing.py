"""How much a finding weighs: by the table, the cluster, who asks, and what was accepted."""

from __future__ import annotations

import pytest

from furlough.core.findings import Finding, Severity, finding
from furlough.core.policy import Automation, ClusterPolicy, EnterOptions, OnFailure
from furlough.errors import Invalid
from furlough.prechecks.weighing import Weights, check_weight, may_weigh

CLOCK = finding("host.clock", "h1", "The clock of h1 is 2.5 s behind.")
SPLIT = finding("vm.group_split", "vm1", "VM vm1 is alone.")


def _weigh(found: Finding, options: EnterOptions | None = None, **severity: str) -> Finding:
    words = tuple((code.replace("__", "."), word) for code, word in severity.items())
    policy = ClusterPolicy(severity=words)
    return Weights(policy=policy, options=options or EnterOptions()).weigh(found)


def test_usually_a_finding_weighs_what_the_table_says() -> None:
    assert _weigh(CLOCK) == CLOCK


def test_a_cluster_may_make_a_warning_a_blocker_or_a_note() -> None:
    assert _weigh(CLOCK, host__clock="blocker").severity is Severity.BLOCKER
    assert _weigh(CLOCK, host__clock="info").severity is Severity.INFO


def test_a_cluster_may_accept_for_good_what_could_be_overridden_each_time() -> None:
    assert _weigh(SPLIT, vm__group_split="warning").severity is Severity.WARNING


@pytest.mark.parametrize("code", ["vm.two_copies", "guard.missing", "host.silent"])
def test_a_blocker_that_nobody_may_override_stays_one_in_every_cluster(code: str) -> None:
    found = finding(code, "x", "It is so.")
    policy = ClusterPolicy(severity=((code, "info"),))
    assert Weights(policy=policy, options=EnterOptions()).weigh(found) == found
    assert may_weigh(code, "blocker")


def test_whoever_asks_strictly_makes_a_blocker_of_anything() -> None:
    strict = EnterOptions(strict=("host.clock",))
    assert _weigh(CLOCK, strict, host__clock="info").severity is Severity.BLOCKER
    lowered = finding("vm.device", "vm1", "It will be shut down.", severity=Severity.INFO)
    assert _weigh(lowered, strict) == lowered
    assert _weigh(lowered, EnterOptions(strict=("vm.device",))).severity is Severity.BLOCKER


def test_what_policy_has_lowered_already_is_not_weighed_again() -> None:
    lowered = finding("host.clock", "h1", "It is known.", severity=Severity.INFO)
    assert _weigh(lowered, host__clock="blocker") == lowered


def test_an_accepted_blocker_is_a_warning_that_says_why() -> None:
    accepted = EnterOptions(override=("vm.group_split",), reason="the owner agreed")
    found = _weigh(SPLIT, accepted)
    assert found.severity is Severity.WARNING
    assert found.message == "VM vm1 is alone (accepted: the owner agreed)."


def test_accepting_what_blocks_nothing_changes_nothing() -> None:
    assert _weigh(CLOCK, EnterOptions(override=("host.clock",), reason="why not")) == CLOCK


@pytest.mark.parametrize(
    ("code", "severity", "error"),
    [
        ("host.grumpy", "info", "severity.code"),
        ("host.clock", "grave", "severity.value"),
        ("vm.two_copies", "warning", "severity.fixed"),
    ],
)
def test_a_severity_that_makes_no_sense_is_refused_when_it_is_set(
    code: str, severity: str, error: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        check_weight(code, severity)
    assert refusal.value.code == error
    assert refusal.value.remedy


def test_a_severity_that_makes_sense_is_taken() -> None:
    check_weight("host.clock", "blocker")
    check_weight("vm.two_copies", "blocker")
    assert not may_weigh("host.grumpy", "info")


# --- what a request can live with ----------------------------------------------------------------

TIED = finding("vm.device", "vm1", "VM vm1 has a device.")
MARKED = finding("vm.ha_shut_down", "vm1", "VM vm1 is marked ha.")
TOO_SMALL = finding("cluster.too_small", "c1", "There is no other host.")


def test_who_waits_bears_that_a_vm_cannot_leave_and_nothing_that_is_done_to_one() -> None:
    waits = EnterOptions(on_failure=OnFailure.WAIT)
    assert _weigh(TIED).severity is Severity.BLOCKER
    assert _weigh(TIED, waits).severity is Severity.WARNING
    assert _weigh(MARKED, waits).severity is Severity.BLOCKER
    assert _weigh(TOO_SMALL, waits).severity is Severity.BLOCKER


def test_where_people_move_nothing_about_our_moves_stands_against_asking() -> None:
    off = EnterOptions(automation=Automation.OFF)
    for found in (TIED, MARKED, TOO_SMALL):
        assert _weigh(found, off).severity is Severity.WARNING
    silent = finding("host.silent", "h1", "Host h1 does not answer.")
    assert _weigh(silent, off).severity is Severity.BLOCKER


def test_who_is_strict_about_something_bears_it_in_no_case() -> None:
    strict = EnterOptions(on_failure=OnFailure.WAIT, strict=("vm.device",))
    assert _weigh(TIED, strict).severity is Severity.BLOCKER
