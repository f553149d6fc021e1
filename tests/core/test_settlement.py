"""Settling: what two looks mean. Failure modes, section 3, row by row; then, over all pairs of
looks, that nothing is ever started, stopped or removed on a guess (S15).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furlough.core.ids import HostName
from furlough.core.looks import Job, Look, Presence, Why
from furlough.core.operation import Act
from furlough.core.plan import Handover
from furlough.core.settlement import Call, Conclusion, Patience, Ruling, Trail, rule
from tests.core.builders import H1, H2, NOW, a_look, repeatable

SILENT, ABSENT, SHUT_OFF = Presence.SILENT, Presence.ABSENT, Presence.SHUT_OFF
PAUSED, RUNNING = Presence.PAUSED, Presence.RUNNING


def _source(
    presence: Presence,
    why: Why = Why.UNKNOWN,
    job: Job = Job.NONE,
    *,
    has_process: bool | None = None,
) -> Look:
    return a_look(presence, why, host=H1, job=job, has_process=has_process)


def _target(
    presence: Presence,
    why: Why = Why.UNKNOWN,
    job: Job = Job.NONE,
    *,
    has_process: bool | None = None,
    is_persistent: bool | None = None,
) -> Look:
    return a_look(
        presence, why, host=H2, job=job, has_process=has_process, is_persistent=is_persistent
    )


def _trail(
    *acts: Act,
    call: Call = Call.UNKNOWN,
    handover: Handover = Handover.NORMAL,
    was_paused: bool = False,
) -> Trail:
    return Trail(call=call, handover=handover, was_paused=was_paused, acts=frozenset(acts))


NORMAL = _trail()
HELD = _trail(handover=Handover.HELD)
WAS_PAUSED = _trail(was_paused=True)


# --- the table ---------------------------------------------------------------------------------


class Row(NamedTuple):
    """A row of the table: both looks in its words and in ours, and what is to be concluded."""

    says: str
    source: Look
    target: Look
    trail: Trail
    conclusion: Conclusion
    act: Act | None = None
    patience: Patience = Patience.NONE
    code: str = ""


TABLE = [
    # going on: follow it
    Row(
        "running, job out | any",
        _source(RUNNING, job=Job.OUTGOING),
        _target(PAUSED, Why.MIGRATION, Job.INCOMING),
        NORMAL,
        Conclusion.FOLLOW,
    ),
    Row(
        "running, job out | any (even silent)",
        _source(RUNNING, job=Job.OUTGOING),
        _target(SILENT),
        NORMAL,
        Conclusion.FOLLOW,
    ),
    # failed or aborted, VM at home: step failed; may retry
    Row(
        "running, no job | absent, no process",
        _source(RUNNING),
        _target(ABSENT),
        NORMAL,
        Conclusion.AT_HOME,
        patience=Patience.WINDOW,
    ),
    Row(
        "running, no job | shut off, no process",
        _source(RUNNING, Why.MIGRATION_CANCELED),
        _target(SHUT_OFF),
        NORMAL,
        Conclusion.AT_HOME,
        patience=Patience.WINDOW,
    ),
    # held handover, or answer lost with PAUSED: remove the target's copy, only if it never ran
    Row(
        "running, no job | paused, no job; PAUSED flag in the journal, no resume sent by us",
        _source(RUNNING, Why.MIGRATION_CANCELED),
        _target(PAUSED, Why.USER),
        HELD,
        Conclusion.ACT,
        Act.REMOVE_TARGET,
        Patience.WINDOW,
    ),
    Row(
        "running, no job | paused, no job; without the PAUSED flag it may have run",
        _source(RUNNING, Why.MIGRATION_CANCELED),
        _target(PAUSED, Why.USER),
        NORMAL,
        Conclusion.ASK,
        patience=Patience.WINDOW,
        code="migration.stray_copy",
    ),
    Row(
        "running, no job | paused, no job; a resume was sent by us",
        _source(RUNNING, Why.MIGRATION_CANCELED),
        _target(PAUSED, Why.USER),
        replace(HELD, acts=frozenset({Act.RESUME_TARGET})),
        Conclusion.ASK,
        patience=Patience.WINDOW,
        code="migration.stray_copy",
    ),
    # success
    Row(
        "absent | running",
        _source(ABSENT),
        _target(RUNNING, Why.MIGRATED),
        NORMAL,
        Conclusion.MOVED,
    ),
    Row(
        "shut off (migrated) | running",
        _source(SHUT_OFF, Why.MIGRATED),
        _target(RUNNING, Why.MIGRATED),
        NORMAL,
        Conclusion.MOVED,
    ),
    # state is complete on the target, CPUs never started: resume if it ran before the step (F079)
    Row(
        "absent | paused (user)",
        _source(ABSENT),
        _target(PAUSED, Why.USER),
        HELD,
        Conclusion.ACT,
        Act.RESUME_TARGET,
    ),
    Row(
        "shut off (migrated) | paused (migration)",
        _source(SHUT_OFF, Why.MIGRATED),
        _target(PAUSED, Why.MIGRATION),
        NORMAL,
        Conclusion.ACT,
        Act.RESUME_TARGET,
    ),
    Row(
        "absent | paused; it was paused before the step",
        _source(ABSENT),
        _target(PAUSED, Why.USER),
        WAS_PAUSED,
        Conclusion.MOVED,
    ),
    # target has it; source is a stale copy, held back by a lock: power off the source copy
    Row(
        "paused (migration) | running (migrated)",
        _source(PAUSED, Why.MIGRATION),
        _target(RUNNING, Why.MIGRATED),
        NORMAL,
        Conclusion.ACT,
        Act.POWER_OFF_SOURCE,
        Patience.WINDOW,
    ),
    Row(
        "paused (API error) | running (migrated)",
        _source(PAUSED, Why.API_ERROR),
        _target(RUNNING, Why.MIGRATED),
        NORMAL,
        Conclusion.ACT,
        Act.POWER_OFF_SOURCE,
        Patience.WINDOW,
    ),
    # target never got it: resume on the source; failed
    Row(
        "paused (migration) | absent, no process",
        _source(PAUSED, Why.MIGRATION),
        _target(ABSENT),
        NORMAL,
        Conclusion.ACT,
        Act.RESUME_SOURCE,
        Patience.WINDOW,
    ),
    Row(
        "paused (API error) | absent, no process",
        _source(PAUSED, Why.API_ERROR),
        _target(ABSENT),
        NORMAL,
        Conclusion.ACT,
        Act.RESUME_SOURCE,
        Patience.WINDOW,
    ),
    # ran nowhere since the switchover. Any doubt: blocked
    Row(
        "paused (migration) | paused, no job; the target's copy never ran",
        _source(PAUSED, Why.MIGRATION),
        _target(PAUSED, Why.USER),
        HELD,
        Conclusion.ACT,
        Act.REMOVE_TARGET,
        Patience.WINDOW,
    ),
    Row(
        "paused (migration) | paused, no job; in doubt",
        _source(PAUSED, Why.MIGRATION),
        _target(PAUSED, Why.USER),
        NORMAL,
        Conclusion.ASK,
        patience=Patience.WINDOW,
        code="migration.both_paused",
    ),
    # two copies: suspend the source copy at once, critical finding, never power off by itself
    Row(
        "running (migration canceled) | running (migrated)",
        _source(RUNNING, Why.MIGRATION_CANCELED),
        _target(RUNNING, Why.MIGRATED),
        NORMAL,
        Conclusion.ACT,
        Act.SUSPEND_SOURCE,
        Patience.TWICE,
        "vm.two_copies",
    ),
    Row(
        "running | running, after the source was suspended by us: blocked",
        _source(PAUSED, Why.USER),
        _target(RUNNING, Why.MIGRATED),
        _trail(Act.SUSPEND_SOURCE),
        Conclusion.ASK,
        patience=Patience.WINDOW,
        code="vm.two_copies",
    ),
    # post-copy going on: follow; neither host may be powered off
    Row(
        "paused (post-copy), job | running (post-copy)",
        _source(PAUSED, Why.POSTCOPY, Job.OUTGOING),
        _target(RUNNING, Why.POSTCOPY),
        NORMAL,
        Conclusion.FOLLOW,
    ),
    # link broke: blocked. Destroy neither
    Row(
        "paused (post-copy failed) | running (post-copy failed)",
        _source(PAUSED, Why.POSTCOPY_FAILED),
        _target(RUNNING, Why.POSTCOPY_FAILED),
        NORMAL,
        Conclusion.ASK,
        patience=Patience.WINDOW,
        code="migration.postcopy_failed",
    ),
    # the VM died
    Row(
        "shut off (crashed) | absent",
        _source(SHUT_OFF, Why.CRASHED),
        _target(ABSENT),
        NORMAL,
        Conclusion.DIED,
        patience=Patience.WINDOW,
    ),
    Row(
        "shut off (failed) | absent",
        _source(SHUT_OFF, Why.FAILED),
        _target(ABSENT),
        NORMAL,
        Conclusion.DIED,
        patience=Patience.WINDOW,
    ),
    # deleted, moved on, or a transient VM died: search all hosts
    Row(
        "absent | absent",
        _source(ABSENT),
        _target(ABSENT),
        NORMAL,
        Conclusion.GONE,
        patience=Patience.WINDOW,
    ),
    # stay in doubt
    Row(
        "silent | running (migrated)",
        _source(SILENT),
        _target(RUNNING, Why.MIGRATED),
        NORMAL,
        Conclusion.WAIT,
        code="host.silent",
    ),
    Row(
        "silent | absent",
        _source(SILENT),
        _target(ABSENT),
        NORMAL,
        Conclusion.WAIT,
        code="host.silent",
    ),
    Row(
        "any | silent",
        _source(RUNNING),
        _target(SILENT),
        NORMAL,
        Conclusion.WAIT,
        code="host.silent",
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.says)
def test_the_table_of_section_3(row: Row) -> None:
    ruling = rule(row.source, row.target, row.trail)
    assert (ruling.conclusion, ruling.act) == (row.conclusion, row.act)
    assert ruling.patience is row.patience
    assert ruling.code == row.code
    assert ruling.meaning


# --- stories beside the table ------------------------------------------------------------------


def test_the_host_that_does_not_answer_is_named() -> None:
    assert "h2 does not answer" in rule(_source(ABSENT), _target(SILENT), NORMAL).meaning
    assert "h1 does not answer" in rule(_source(SILENT), _target(RUNNING), NORMAL).meaning


@pytest.mark.parametrize(
    ("why", "conclusion"),
    [
        (Why.SHUTDOWN, Conclusion.STOPPED_BY_GUEST),
        (Why.DESTROYED, Conclusion.STOPPED_BY_OTHERS),
        (Why.CRASHED, Conclusion.DIED),
        (Why.FAILED, Conclusion.DIED),
        (Why.UNKNOWN, Conclusion.GONE),
        (Why.MIGRATED, Conclusion.GONE),
    ],
)
def test_a_vm_that_stopped_on_its_source_is_said_to_have_stopped_as_it_did(
    why: Why, conclusion: Conclusion
) -> None:
    assert rule(_source(SHUT_OFF, why), _target(ABSENT), NORMAL).conclusion is conclusion


@pytest.mark.parametrize(
    ("call", "patience"),
    [
        (Call.UNKNOWN, Patience.WINDOW),
        (Call.REFUSED, Patience.TWICE),
        (Call.DONE, Patience.TWICE),
    ],
)
def test_a_call_whose_answer_was_lost_may_yet_begin_so_home_is_believed_only_after_the_window(
    call: Call, patience: Patience
) -> None:
    ruling = rule(_source(RUNNING), _target(ABSENT), _trail(call=call))
    assert (ruling.conclusion, ruling.patience) == (Conclusion.AT_HOME, patience)


@pytest.mark.parametrize(
    ("call", "patience"), [(Call.UNKNOWN, Patience.WINDOW), (Call.DONE, Patience.TWICE)]
)
def test_a_vm_on_neither_host_is_believed_gone_sooner_if_the_call_has_ended_well(
    call: Call, patience: Patience
) -> None:
    ruling = rule(_source(ABSENT), _target(ABSENT), _trail(call=call))
    assert (ruling.conclusion, ruling.patience) == (Conclusion.GONE, patience)


@pytest.mark.parametrize("source", [_source(RUNNING), _source(PAUSED, Why.MIGRATION)])
def test_while_the_target_waits_for_data_nothing_is_concluded(source: Look) -> None:
    ruling = rule(source, _target(PAUSED, Why.MIGRATION, Job.INCOMING), HELD)
    assert (ruling.conclusion, ruling.act) == (Conclusion.WAIT, None)


@pytest.mark.parametrize(
    "target",
    [
        _target(PAUSED, Why.MIGRATION, Job.INCOMING),
        _target(ABSENT, has_process=True),
    ],
)
def test_with_the_source_gone_a_target_that_is_not_ready_is_given_time(target: Look) -> None:
    assert rule(_source(ABSENT), target, NORMAL).conclusion is Conclusion.WAIT


@pytest.mark.parametrize("presence", [ABSENT, SHUT_OFF])
@pytest.mark.parametrize("target", [_target(RUNNING), _target(PAUSED), _target(ABSENT)])
def test_as_long_as_a_process_is_left_on_the_source_the_target_is_not_trusted(
    presence: Presence, target: Look
) -> None:
    ruling = rule(_source(presence, has_process=True), target, HELD)
    assert (ruling.conclusion, ruling.act) == (Conclusion.WAIT, None)


def test_a_process_left_on_the_target_keeps_the_source_from_being_resumed() -> None:
    ruling = rule(_source(PAUSED, Why.MIGRATION), _target(ABSENT, has_process=True), NORMAL)
    assert (ruling.conclusion, ruling.act) == (Conclusion.WAIT, None)


@pytest.mark.parametrize("presence", [ABSENT, SHUT_OFF])
def test_nothing_is_said_of_a_process_on_the_target_where_there_is_none(
    presence: Presence,
) -> None:
    meaning = rule(_source(RUNNING), _target(presence), NORMAL).meaning
    assert meaning == "it stayed on the source, running"


def test_a_source_that_does_not_list_the_vm_any_more_cannot_say_how_it_stopped() -> None:
    ruling = rule(_source(ABSENT, Why.SHUTDOWN), _target(ABSENT), NORMAL)
    assert ruling.conclusion is Conclusion.GONE


def test_a_dead_process_left_on_the_target_is_mentioned_when_the_vm_runs_at_home() -> None:
    """F038: the target's daemon was killed; its orphan is not the VM, and must not be forgotten."""
    ruling = rule(_source(RUNNING), _target(ABSENT, has_process=True), NORMAL)
    assert ruling.conclusion is Conclusion.AT_HOME
    assert "a dead process of it is left on the target" in ruling.meaning


def test_a_vm_stopped_by_an_io_error_on_the_target_is_there_and_is_not_started_blindly() -> None:
    ruling = rule(_source(ABSENT), _target(PAUSED, Why.IO_ERROR), NORMAL)
    assert (ruling.conclusion, ruling.act) == (Conclusion.MOVED, None)
    assert ruling.code == "vm.io_error"


def test_a_vm_that_was_paused_before_stays_paused_at_home() -> None:
    ruling = rule(_source(PAUSED, Why.MIGRATION), _target(ABSENT), WAS_PAUSED)
    assert (ruling.conclusion, ruling.act) == (Conclusion.AT_HOME, None)


def test_a_vm_that_somebody_paused_on_the_source_is_not_ours_to_resume() -> None:
    ruling = rule(_source(PAUSED, Why.USER), _target(ABSENT), NORMAL)
    assert (ruling.conclusion, ruling.act) == (Conclusion.AT_HOME, None)


def test_a_paused_vm_and_the_copy_of_it_that_never_ran_leave_only_the_vm() -> None:
    ruling = rule(_source(PAUSED, Why.USER), _target(PAUSED, Why.USER), WAS_PAUSED)
    assert (ruling.conclusion, ruling.act) == (Conclusion.ACT, Act.REMOVE_TARGET)


@pytest.mark.parametrize("target", [_target(RUNNING), _target(PAUSED)])
def test_if_somebody_paused_the_source_while_the_target_has_a_copy_a_person_is_asked(
    target: Look,
) -> None:
    ruling = rule(_source(PAUSED, Why.USER), target, HELD)
    assert (ruling.conclusion, ruling.code) == (Conclusion.ASK, "migration.stray_copy")


def test_the_definition_of_a_copy_that_we_removed_is_removed_too() -> None:
    removed = _trail(Act.REMOVE_TARGET, handover=Handover.HELD)
    left = _target(SHUT_OFF, Why.DESTROYED, is_persistent=True)
    ruling = rule(_source(RUNNING), left, removed)
    assert (ruling.conclusion, ruling.act) == (Conclusion.ACT, Act.REMOVE_TARGET)
    gone = _target(ABSENT)
    assert rule(_source(RUNNING), gone, removed).conclusion is Conclusion.AT_HOME


def test_a_definition_on_the_target_that_is_not_ours_is_left_alone() -> None:
    theirs = _target(SHUT_OFF, is_persistent=True)
    assert rule(_source(RUNNING), theirs, NORMAL).conclusion is Conclusion.AT_HOME


@pytest.mark.parametrize(
    ("trail", "never_ran"),
    [
        (Trail(call=Call.UNKNOWN, handover=Handover.NORMAL), False),
        (HELD, True),
        (WAS_PAUSED, True),
        (_trail(Act.RESUME_TARGET, handover=Handover.HELD), False),
        (_trail(Act.ABORT, handover=Handover.HELD), True),
    ],
)
def test_a_copy_never_ran_only_if_it_was_to_arrive_paused_and_we_did_not_resume_it(
    trail: Trail, never_ran: bool
) -> None:
    assert trail.never_ran_on_target is never_ran


@pytest.mark.parametrize("why", [Why.SHUTDOWN, Why.CRASHED, Why.DESTROYED])
def test_a_guest_that_ran_on_the_target_and_stopped_is_not_resumed_from_its_stale_source(
    why: Why,
) -> None:
    """The finish answer was lost, a lock held the source back, the target ran. Within the window
    that a power off of the source waits for, the guest stopped on the target."""
    ruling = rule(_source(PAUSED, Why.MIGRATION), _target(SHUT_OFF, why), NORMAL)
    assert ruling.act is not Act.RESUME_SOURCE


@pytest.mark.parametrize("why", [Why.SHUTDOWN, Why.CRASHED, Why.DESTROYED])
def test_a_guest_that_ran_on_at_home_and_stopped_is_not_resumed_from_the_targets_older_copy(
    why: Why,
) -> None:
    """Held handover, the finish answer was lost: the source restarted its CPUs, wrote to its disk
    and stopped before the target's paused copy was removed. Section 3: shut off *(migrated)*."""
    ruling = rule(_source(SHUT_OFF, why), _target(PAUSED, Why.USER), HELD)
    assert ruling.act is not Act.RESUME_TARGET


@pytest.mark.parametrize("why", [Why.MIGRATION, Why.API_ERROR])
def test_the_source_is_not_powered_off_while_the_target_runs_in_post_copy(why: Why) -> None:
    ruling = rule(_source(PAUSED, why), _target(RUNNING, Why.POSTCOPY), NORMAL)
    assert ruling.act is not Act.POWER_OFF_SOURCE


@pytest.mark.parametrize("why", [Why.USER, Why.MIGRATION])
def test_the_definition_of_a_removed_copy_is_removed_for_a_paused_vm_as_well(why: Why) -> None:
    removed = _trail(Act.REMOVE_TARGET, was_paused=True)
    left = _target(SHUT_OFF, Why.DESTROYED, is_persistent=True)
    assert rule(_source(PAUSED, why), left, removed).act is Act.REMOVE_TARGET


# --- properties over all pairs of looks --------------------------------------------------------

Case = tuple[Look, Look, Trail]

# What a hypervisor can say: with each presence its own reasons.
_REASONS = {
    RUNNING: (
        Why.UNKNOWN,
        Why.USER,
        Why.MIGRATED,
        Why.MIGRATION_CANCELED,
        Why.POSTCOPY,
        Why.POSTCOPY_FAILED,
    ),
    PAUSED: (
        Why.UNKNOWN,
        Why.USER,
        Why.MIGRATION,
        Why.API_ERROR,
        Why.IO_ERROR,
        Why.POSTCOPY,
        Why.POSTCOPY_FAILED,
    ),
    SHUT_OFF: (
        Why.UNKNOWN,
        Why.MIGRATED,
        Why.SHUTDOWN,
        Why.DESTROYED,
        Why.CRASHED,
        Why.FAILED,
    ),
}
_REMEMBERED = (Act.RESUME_TARGET, Act.SUSPEND_SOURCE, Act.REMOVE_TARGET)


def _sayable(host: HostName) -> Iterator[Look]:
    """Every look that a host can give."""
    yield a_look(SILENT, host=host)
    for has_process in (False, True):
        yield a_look(ABSENT, host=host, has_process=has_process)
        for why in _REASONS[SHUT_OFF]:
            yield a_look(SHUT_OFF, why, host=host, has_process=has_process)
    for presence in (RUNNING, PAUSED):
        for why, job in product(_REASONS[presence], (Job.NONE, Job.OUTGOING, Job.INCOMING)):
            yield a_look(presence, why, host=host, job=job)


def _trails() -> Iterator[Trail]:
    """Every trail that makes a difference to what is done."""
    subsets = [acts for size in range(4) for acts in combinations(_REMEMBERED, size)]
    for handover, was_paused, acts in product(Handover, (False, True), subsets):
        yield _trail(*acts, handover=handover, was_paused=was_paused)


@cache
def _rulings() -> tuple[tuple[Case, Ruling], ...]:
    """The ruling of every case there can be."""
    cases = product(tuple(_sayable(H1)), tuple(_sayable(H2)), tuple(_trails()))
    return tuple((case, rule(*case)) for case in cases)


def _leading_to(act: Act) -> list[Case]:
    cases = [case for case, ruling in _rulings() if ruling.act is act]
    assert cases, f"no case leads to {act}"
    return cases


def test_the_source_is_powered_off_only_while_the_target_is_seen_running() -> None:
    for source, target, _ in _leading_to(Act.POWER_OFF_SOURCE):
        assert target.presence is RUNNING
        assert source.presence is PAUSED, "what is powered off must not be running itself"


def test_the_targets_copy_is_removed_only_while_the_source_has_the_vm() -> None:
    for source, target, trail in _leading_to(Act.REMOVE_TARGET):
        assert source.presence in (RUNNING, PAUSED)
        assert trail.never_ran_on_target or Act.REMOVE_TARGET in trail.acts
        assert target.presence is not RUNNING


def test_the_target_is_resumed_only_when_the_source_has_neither_the_vm_nor_a_process() -> None:
    for source, target, trail in _leading_to(Act.RESUME_TARGET):
        assert source.presence in (ABSENT, SHUT_OFF)
        assert not source.has_process
        assert target.presence is PAUSED
        assert not trail.was_paused


def test_the_source_is_resumed_only_when_the_target_has_neither_the_vm_nor_a_process() -> None:
    for source, target, trail in _leading_to(Act.RESUME_SOURCE):
        assert target.presence in (ABSENT, SHUT_OFF)
        assert not target.has_process
        assert source.presence is PAUSED
        assert source.why in (Why.MIGRATION, Why.API_ERROR)
        assert not trail.was_paused
        assert Act.SUSPEND_SOURCE not in trail.acts, "what we suspended is stale"


def test_the_source_is_suspended_only_while_both_are_seen_running() -> None:
    for source, target, _ in _leading_to(Act.SUSPEND_SOURCE):
        assert (source.presence, target.presence) == (RUNNING, RUNNING)


def test_settling_makes_no_other_acts_than_these_five() -> None:
    acts = {ruling.act for _, ruling in _rulings()} - {None}
    assert acts == {
        Act.POWER_OFF_SOURCE,
        Act.REMOVE_TARGET,
        Act.RESUME_TARGET,
        Act.RESUME_SOURCE,
        Act.SUSPEND_SOURCE,
    }


def test_a_side_that_is_silent_always_means_waiting_unless_the_source_reports_its_job() -> None:
    for (source, target, _), ruling in _rulings():
        if SILENT in (source.presence, target.presence) and source.job is not Job.OUTGOING:
            assert (ruling.conclusion, ruling.act) == (Conclusion.WAIT, None)
            assert ruling.code == "host.silent"


def test_two_running_copies_never_lead_to_a_power_off_or_to_an_end() -> None:
    allowed = {Conclusion.ACT, Conclusion.ASK, Conclusion.FOLLOW}
    for (source, target, _), ruling in _rulings():
        if source.presence is RUNNING and target.presence is RUNNING:
            assert ruling.act in (None, Act.SUSPEND_SOURCE)
            assert ruling.conclusion in allowed


def test_nothing_is_done_to_either_copy_after_post_copy_has_failed() -> None:
    for (source, target, _), ruling in _rulings():
        if Why.POSTCOPY_FAILED in (source.why, target.why):
            assert ruling.act is None
            waiting = {Conclusion.ASK, Conclusion.WAIT}
            assert ruling.conclusion in waiting


_OVER = Trail(call=Call.UNKNOWN, handover=Handover.NORMAL, acts=frozenset({Act.START_POST_COPY}))


def test_a_post_copy_that_we_began_goes_on_once_both_sides_answer() -> None:
    """Whether libvirt still shows a job or not."""
    for job in (Job.NONE, Job.OUTGOING):
        source = _source(PAUSED, Why.POSTCOPY_FAILED, job)
        ruling = rule(source, _target(RUNNING, Why.POSTCOPY_FAILED), _OVER)
        assert (ruling.act, ruling.patience) == (Act.RECOVER_POST_COPY, Patience.TWICE)
        assert ruling.code == "migration.postcopy_failed"
        assert rule(source, _target(SILENT), _OVER).conclusion is Conclusion.WAIT


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((PAUSED, Why.POSTCOPY_FAILED), (ABSENT, Why.UNKNOWN)),
        ((SHUT_OFF, Why.UNKNOWN), (RUNNING, Why.POSTCOPY_FAILED)),
    ],
)
def test_f042_where_one_side_is_gone_nothing_goes_on_and_a_person_is_asked(
    source: tuple[Presence, Why], target: tuple[Presence, Why]
) -> None:
    ruling = rule(_source(*source), _target(*target), _OVER)
    assert (ruling.conclusion, ruling.act) == (Conclusion.ASK, None)
    assert "has lost its part" in ruling.meaning


@pytest.mark.parametrize("target", [ABSENT, SHUT_OFF, PAUSED, RUNNING])
@pytest.mark.parametrize("why", [Why.MIGRATION, Why.API_ERROR])
def test_after_post_copy_began_no_paused_source_is_resumed_removed_or_taken_for_stale(
    why: Why, target: Presence
) -> None:
    """A daemon that was started again may have forgotten why the source is paused."""
    ruling = rule(_source(PAUSED, why), _target(target), _OVER)
    assert (ruling.conclusion, ruling.act) == (Conclusion.ASK, None)


def test_a_source_that_we_paused_at_the_last_moment_is_resumed_where_it_stayed() -> None:
    """The migration had failed just before, so libvirt shows a VM that somebody paused."""
    paused = Trail(call=Call.REFUSED, handover=Handover.NORMAL, acts=frozenset({Act.PAUSE_SOURCE}))
    assert rule(_source(PAUSED, Why.USER), _target(ABSENT), paused).act is Act.RESUME_SOURCE
    theirs = replace(paused, was_paused=True)
    assert rule(_source(PAUSED, Why.USER), _target(ABSENT), theirs).act is None


def test_moved_is_concluded_only_when_the_target_has_the_vm_and_the_source_has_nothing() -> None:
    for (source, target, _), ruling in _rulings():
        if ruling.conclusion is Conclusion.MOVED:
            assert target.presence in (RUNNING, PAUSED)
            assert source.presence in (ABSENT, SHUT_OFF)
            assert not source.has_process


def test_at_home_is_concluded_only_when_the_source_has_the_vm_and_the_target_has_it_not() -> None:
    for (source, target, _), ruling in _rulings():
        if ruling.conclusion is Conclusion.AT_HOME:
            assert source.presence in (RUNNING, PAUSED)
            assert target.presence in (ABSENT, SHUT_OFF)


def test_a_vm_is_called_stopped_dead_or_gone_only_when_no_process_of_it_is_seen_anywhere() -> None:
    lost = {
        Conclusion.STOPPED_BY_GUEST,
        Conclusion.STOPPED_BY_OTHERS,
        Conclusion.DIED,
        Conclusion.GONE,
    }
    for (source, target, _), ruling in _rulings():
        if ruling.conclusion in lost and target.presence is not SHUT_OFF:
            assert not source.is_here
            assert not target.is_here


def test_every_question_has_a_code_and_every_ruling_says_what_it_means() -> None:
    for _, ruling in _rulings():
        assert ruling.meaning
        assert (ruling.act is not None) is (ruling.conclusion is Conclusion.ACT)
        assert ruling.code or ruling.conclusion is not Conclusion.ASK


def test_whatever_changes_a_copy_is_done_only_after_more_than_one_look_unless_it_cannot_hurt() -> (
    None
):
    """Resuming the target is urgent (F007): its source is gone, process and all. The definition
    of a copy that was removed before is no copy any more."""
    for (_, target, trail), ruling in _rulings():
        if ruling.act is Act.REMOVE_TARGET and Act.REMOVE_TARGET in trail.acts:
            assert ruling.patience is Patience.WINDOW or target.presence in (ABSENT, SHUT_OFF)
        elif ruling.act is Act.SUSPEND_SOURCE:
            assert ruling.patience is Patience.TWICE
        elif ruling.act is not None and ruling.act is not Act.RESUME_TARGET:
            assert ruling.patience is Patience.WINDOW


_EFFECTS = {
    Act.RESUME_TARGET: (None, _target(RUNNING, Why.USER)),
    Act.RESUME_SOURCE: (_source(RUNNING, Why.USER), None),
    Act.SUSPEND_SOURCE: (_source(PAUSED, Why.USER), None),
    Act.POWER_OFF_SOURCE: (_source(SHUT_OFF, Why.DESTROYED), None),
    Act.REMOVE_TARGET: (None, _target(ABSENT)),
}


def _settled(source: Look, target: Look, trail: Trail) -> Ruling:
    """The ruling after every act that is asked for has had its effect."""
    ruling = rule(source, target, trail)
    for _ in range(3):
        if ruling.act is None:
            return ruling
        new_source, new_target = _EFFECTS[ruling.act]
        source, target = new_source or source, new_target or target
        trail = replace(trail, acts=trail.acts | {ruling.act})
        ruling = rule(source, target, trail)
    return ruling


def test_every_act_leads_within_three_steps_to_an_end_or_to_a_question() -> None:
    for case, ruling in _rulings():
        if ruling.act is not None:
            end = _settled(*case)
            assert end.act is None
            assert end.conclusion not in (Conclusion.WAIT, Conclusion.FOLLOW)


_LOOKS = st.builds(
    Look,
    host=st.just(H1),
    at=st.just(NOW),
    presence=st.sampled_from(Presence),
    why=st.sampled_from(Why),
    job=st.sampled_from(Job),
    has_process=st.booleans(),
    is_persistent=st.booleans(),
    has_autostart=st.booleans(),
)
_TRAILS = st.builds(
    Trail,
    call=st.sampled_from(Call),
    handover=st.sampled_from(Handover),
    was_paused=st.booleans(),
    acts=st.frozensets(st.sampled_from(Act)),
)


@settings(repeatable, max_examples=200)
@given(_LOOKS, _LOOKS, _TRAILS)
def test_not_even_looks_that_make_no_sense_lead_to_an_act_without_evidence(
    source: Look, target: Look, trail: Trail
) -> None:
    """SEC-34: a host may lie. What is done to one copy still rests on what the other host said."""
    act = rule(source, target, trail).act
    if act is Act.POWER_OFF_SOURCE:
        assert target.presence is RUNNING
    if act is Act.REMOVE_TARGET:
        assert source.presence in (RUNNING, PAUSED)
        assert trail.never_ran_on_target or Act.REMOVE_TARGET in trail.acts
    if act is Act.RESUME_TARGET:
        assert source.presence in (ABSENT, SHUT_OFF)
        assert not source.has_process
    if act is Act.RESUME_SOURCE:
        assert target.presence in (ABSENT, SHUT_OFF)
        assert not target.has_process
    if SILENT in (source.presence, target.presence):
        assert act is None


@repeatable
@given(_LOOKS, _LOOKS, _TRAILS)
def test_when_a_look_was_taken_and_whether_autostart_is_set_do_not_change_the_ruling(
    source: Look, target: Look, trail: Trail
) -> None:
    other = replace(source, has_autostart=not source.has_autostart, is_persistent=False)
    assert rule(other, target, trail) == rule(source, target, trail)


@pytest.mark.parametrize("why", [Why.UNKNOWN, Why.FAILED, Why.SHUTDOWN])
def test_a_source_that_is_off_for_a_reason_nobody_knows_may_have_run_on(why: Why) -> None:
    """The finish answer was lost, the source ran on for an hour, then its host was restarted:
    the target's paused copy is an hour older than the disks."""
    lost = Trail(call=Call.UNKNOWN, handover=Handover.HELD)
    ruling = rule(_source(SHUT_OFF, why), _target(PAUSED, Why.USER), lost)
    assert (ruling.conclusion, ruling.code) == (Conclusion.ASK, "migration.stale_target")


def test_a_source_that_is_off_after_a_migration_that_came_back_well_did_not_run_on() -> None:
    """Its daemon was restarted a moment later and has forgotten the reason."""
    done = Trail(call=Call.DONE, handover=Handover.HELD)
    ruling = rule(_source(SHUT_OFF, Why.UNKNOWN), _target(PAUSED, Why.USER), done)
    assert ruling.act is Act.RESUME_TARGET
