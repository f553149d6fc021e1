"""libvirt's states and reasons: every pair has a meaning, and a later libvirt's harms none."""

from __future__ import annotations

import pytest

from furlough.core.looks import Job, Presence, Why
from furlough.core.states import Power
from tests.drivers.binding import needing_libvirt

libvirt = needing_libvirt("libvirt")
states = needing_libvirt("furlough.drivers.libvirt.states")

STATES = {
    name: getattr(libvirt, f"VIR_DOMAIN_{name}")
    for name in ("RUNNING", "BLOCKED", "PAUSED", "SHUTDOWN", "SHUTOFF", "CRASHED", "PMSUSPENDED")
}
REASONS = [
    (STATES[state], getattr(libvirt, name))
    for state in STATES
    for name in dir(libvirt)
    if name.startswith(f"VIR_DOMAIN_{state}_")
]


def number(name: str) -> int:
    return int(getattr(libvirt, f"VIR_DOMAIN_{name}"))


@pytest.mark.parametrize(
    ("state", "reason", "presence", "why", "power"),
    [
        ("RUNNING", "RUNNING_BOOTED", Presence.RUNNING, Why.UNKNOWN, Power.RUNNING),
        ("RUNNING", "RUNNING_UNPAUSED", Presence.RUNNING, Why.UNKNOWN, Power.RUNNING),
        ("RUNNING", "RUNNING_MIGRATED", Presence.RUNNING, Why.MIGRATED, Power.RUNNING),
        (
            "RUNNING",
            "RUNNING_MIGRATION_CANCELED",
            Presence.RUNNING,
            Why.MIGRATION_CANCELED,
            Power.RUNNING,
        ),
        ("RUNNING", "RUNNING_POSTCOPY", Presence.RUNNING, Why.POSTCOPY, Power.RUNNING),
        (
            "RUNNING",
            "RUNNING_POSTCOPY_FAILED",
            Presence.RUNNING,
            Why.POSTCOPY_FAILED,
            Power.RUNNING,
        ),
        ("BLOCKED", "BLOCKED_UNKNOWN", Presence.RUNNING, Why.UNKNOWN, Power.RUNNING),
        ("SHUTDOWN", "SHUTDOWN_USER", Presence.RUNNING, Why.UNKNOWN, Power.RUNNING),
        ("PAUSED", "PAUSED_USER", Presence.PAUSED, Why.USER, Power.PAUSED),
        ("PAUSED", "PAUSED_MIGRATION", Presence.PAUSED, Why.MIGRATION, Power.PAUSED),
        ("PAUSED", "PAUSED_SAVE", Presence.PAUSED, Why.UNKNOWN, Power.PAUSED),
        ("PAUSED", "PAUSED_IOERROR", Presence.PAUSED, Why.IO_ERROR, Power.ERROR),
        ("PAUSED", "PAUSED_CRASHED", Presence.PAUSED, Why.CRASHED, Power.ERROR),
        ("PAUSED", "PAUSED_STARTING_UP", Presence.PAUSED, Why.UNKNOWN, Power.PAUSED),
        ("PAUSED", "PAUSED_POSTCOPY", Presence.PAUSED, Why.POSTCOPY, Power.PAUSED),
        ("PAUSED", "PAUSED_POSTCOPY_FAILED", Presence.PAUSED, Why.POSTCOPY_FAILED, Power.PAUSED),
        ("SHUTOFF", "SHUTOFF_SHUTDOWN", Presence.SHUT_OFF, Why.SHUTDOWN, Power.SHUT_OFF),
        ("SHUTOFF", "SHUTOFF_DESTROYED", Presence.SHUT_OFF, Why.DESTROYED, Power.SHUT_OFF),
        ("SHUTOFF", "SHUTOFF_CRASHED", Presence.SHUT_OFF, Why.CRASHED, Power.SHUT_OFF),
        ("SHUTOFF", "SHUTOFF_MIGRATED", Presence.SHUT_OFF, Why.MIGRATED, Power.SHUT_OFF),
        ("SHUTOFF", "SHUTOFF_SAVED", Presence.SHUT_OFF, Why.SAVED, Power.SHUT_OFF),
        ("SHUTOFF", "SHUTOFF_FAILED", Presence.SHUT_OFF, Why.FAILED, Power.SHUT_OFF),
        ("CRASHED", "CRASHED_PANICKED", Presence.PAUSED, Why.CRASHED, Power.ERROR),
        ("CRASHED", "CRASHED_UNKNOWN", Presence.PAUSED, Why.CRASHED, Power.ERROR),
        ("PMSUSPENDED", "PMSUSPENDED_UNKNOWN", Presence.PAUSED, Why.ASLEEP, Power.SUSPENDED),
    ],
)
def test_a_state_with_its_reason_is_said_in_our_words(
    state: str, reason: str, presence: Presence, why: Why, power: Power
) -> None:
    pair = number(state), number(reason)
    assert states.presence_of(pair[0]) is presence
    assert states.why_of(*pair) is why
    assert states.power_of(*pair) is power


def test_an_api_error_is_told_from_a_users_pause_whatever_the_binding_calls_it() -> None:
    assert states.why_of(libvirt.VIR_DOMAIN_PAUSED, 14) is Why.API_ERROR


@pytest.mark.parametrize(("state", "reason"), REASONS)
def test_every_pair_that_the_binding_names_has_a_meaning(state: int, reason: int) -> None:
    presence, power = states.presence_of(state), states.power_of(state, reason)
    assert (presence is Presence.SHUT_OFF) == (power is Power.SHUT_OFF)
    assert (presence is Presence.RUNNING) == (power is Power.RUNNING)


def test_the_binding_names_enough_pairs_to_make_that_worth_saying() -> None:
    assert len(REASONS) >= 40


@pytest.mark.parametrize("state", [0, 8, 99, -1])
@pytest.mark.parametrize("reason", [0, 1, 99, -1])
def test_a_state_of_a_later_libvirt_counts_as_active_and_not_running(
    state: int, reason: int
) -> None:
    assert states.presence_of(state) is Presence.PAUSED
    assert states.why_of(state, reason) is Why.UNKNOWN
    assert states.power_of(state, reason) is Power.PAUSED


def test_a_reason_of_a_later_libvirt_is_no_reason() -> None:
    for state in STATES.values():
        if state not in (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_PMSUSPENDED):
            assert states.why_of(state, 99) is Why.UNKNOWN


# --- jobs -----------------------------------------------------------------------------------------


def stats(operation: str) -> dict[str, int]:
    return {
        "type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
        "operation": getattr(libvirt, f"VIR_DOMAIN_JOB_OPERATION_{operation}"),
    }


@pytest.mark.parametrize(
    ("operation", "job", "words"),
    [
        ("MIGRATION_OUT", Job.OUTGOING, "an outgoing migration"),
        ("MIGRATION_IN", Job.INCOMING, "an incoming migration"),
        ("START", Job.OTHER, "a start"),
        ("RESTORE", Job.OTHER, "a restore from a save image"),
        ("BACKUP", Job.OTHER, "a backup"),
        ("SNAPSHOT_REVERT", Job.OTHER, "a job"),
    ],
)
def test_a_job_is_named(operation: str, job: Job, words: str) -> None:
    assert states.job_of(stats(operation)) is job
    assert states.job_words(stats(operation)) == words


def test_no_job_is_none_even_where_the_last_one_is_still_told_of() -> None:
    over = {**stats("MIGRATION_OUT"), "type": libvirt.VIR_DOMAIN_JOB_NONE}
    for told in ({}, {"type": libvirt.VIR_DOMAIN_JOB_NONE}, over):
        assert states.job_of(told) is Job.NONE
        assert states.job_words(told) == ""


def test_a_job_of_a_later_libvirt_is_a_job() -> None:
    told = {"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "operation": 99}
    assert states.job_of(told) is Job.OTHER
    assert states.job_words(told) == "a job"
    assert states.job_of({"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED}) is Job.OTHER
