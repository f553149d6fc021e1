"""The journal: which event may follow which, what it changes, and that an end is an end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core import journal as journal_module
from furlough.core.journal import (
    CancelRequested,
    DeadlinePassed,
    Entry,
    Event,
    HostModeChanged,
    OperationAccepted,
    OperationBlocked,
    OperationClaimed,
    OperationEnded,
    OperationReleased,
    OperationUnblocked,
    PlanExtended,
    StepActed,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    apply,
    fold,
)
from furlough.core.looks import Presence
from furlough.core.operation import Act, Evidence, Failure, Operation, Outcome, RosterEntry
from furlough.core.plan import Before, Method, OperationKind
from furlough.core.policy import CancelMode
from furlough.core.states import HostMode, OperationState, Power, StepState
from furlough.errors import Bug, Conflict
from tests.core.builders import (
    H1,
    H2,
    H3,
    NOW,
    OPERATION,
    a_failure,
    a_look,
    a_plan,
    accepted,
    after,
    an_operation,
    later,
    planned,
    queued,
    repeatable,
    running,
    vm_id,
)

PLAN = a_plan(
    planned(1, Method.RAISE_GUARD),
    planned(2, Method.LIVE),
    planned(3, Method.CONFIRM_EMPTY),
)
CLAIMED = OperationClaimed(owner="second", epoch=2)
RELEASED = OperationReleased()
BLOCKED = OperationBlocked(code="host.silent", waiting_for="h1 does not answer")
UNBLOCKED = OperationUnblocked()
CANCEL = CancelRequested(mode=CancelMode.FINISH, by="ann")
LATE = DeadlinePassed()
SUCCEEDED = OperationEnded(state=OperationState.SUCCEEDED)
FAILED = OperationEnded(state=OperationState.FAILED, code="step_failed", message="VMs: 1 stayed.")
CANCELLED = OperationEnded(state=OperationState.CANCELLED, code="cancelled")
STARTED = StepStarted(step=2, target=H2, epoch=1)
EVIDENCE = Evidence(looks=(a_look(Presence.RUNNING, host=H2),), meaning="the target runs it")


# --- the operation -----------------------------------------------------------------------------


def test_an_accepted_operation_is_queued_and_knows_its_plan_and_every_vm_it_is_about() -> None:
    operation = apply(None, OPERATION, accepted(PLAN, deadline=later(600)), NOW)
    assert operation.id == OPERATION
    assert (operation.kind, operation.hosts) == (OperationKind.ENTER, (H1,))
    assert operation.state is OperationState.QUEUED
    assert [step.planned for step in operation.steps] == list(PLAN.steps)
    assert {step.state for step in operation.steps} == {StepState.PENDING}
    assert [entry.vm for entry in operation.roster] == [vm_id(2)]
    assert (operation.requested_by, operation.created_at) == ("ann", NOW)
    assert operation.deadline == later(600)
    assert operation.started_at is None


_REFUSED = None
_STATES: dict[str, dict[str, OperationState | None]] = {
    "queued": {
        "claimed": OperationState.RUNNING,
        "released": OperationState.QUEUED,
        "blocked": _REFUSED,
        "unblocked": OperationState.QUEUED,
        "cancel": OperationState.CANCELLING,
        "late": OperationState.CANCELLING,
        "succeeded": _REFUSED,
        "failed": _REFUSED,
        "cancelled": _REFUSED,
    },
    "running": {
        "claimed": OperationState.RUNNING,
        "released": OperationState.RUNNING,
        "blocked": OperationState.BLOCKED,
        "unblocked": OperationState.RUNNING,
        "cancel": OperationState.CANCELLING,
        "late": OperationState.CANCELLING,
        "succeeded": OperationState.SUCCEEDED,
        "failed": OperationState.FAILED,
        "cancelled": OperationState.CANCELLED,
    },
    "paused": {
        "claimed": OperationState.PAUSED,
        "released": OperationState.PAUSED,
        "blocked": OperationState.PAUSED,
        "unblocked": OperationState.PAUSED,
        "cancel": OperationState.CANCELLING,
        "late": OperationState.CANCELLING,
        "succeeded": _REFUSED,
        "failed": _REFUSED,
        "cancelled": _REFUSED,
    },
    "blocked": {
        "claimed": OperationState.BLOCKED,
        "released": OperationState.BLOCKED,
        "blocked": OperationState.BLOCKED,
        "unblocked": OperationState.RUNNING,
        "cancel": OperationState.CANCELLING,
        "late": OperationState.CANCELLING,
        "succeeded": OperationState.SUCCEEDED,
        "failed": OperationState.FAILED,
        "cancelled": OperationState.CANCELLED,
    },
    "cancelling": {
        "claimed": OperationState.CANCELLING,
        "released": OperationState.CANCELLING,
        "blocked": OperationState.CANCELLING,
        "unblocked": OperationState.CANCELLING,
        "cancel": OperationState.CANCELLING,
        "late": _REFUSED,
        "succeeded": OperationState.SUCCEEDED,
        "failed": OperationState.FAILED,
        "cancelled": OperationState.CANCELLED,
    },
}
_EVENTS: dict[str, Event] = {
    "claimed": CLAIMED,
    "released": RELEASED,
    "blocked": BLOCKED,
    "unblocked": UNBLOCKED,
    "cancel": CANCEL,
    "late": LATE,
    "succeeded": SUCCEEDED,
    "failed": FAILED,
    "cancelled": CANCELLED,
}


@pytest.mark.parametrize(
    ("state", "event", "wanted"),
    [(state, event, wanted) for state, row in _STATES.items() for event, wanted in row.items()],
)
def test_each_event_takes_an_operation_to_the_state_of_the_table_or_is_refused(
    state: str, event: str, wanted: OperationState | None
) -> None:
    before = an_operation(state=OperationState(state))
    if wanted is not None:
        assert after(before, _EVENTS[event]).state is wanted
        return
    with pytest.raises(Conflict) as refusal:
        after(before, _EVENTS[event])
    assert refusal.value.code == "state.transition"


@pytest.mark.parametrize("end", [SUCCEEDED, FAILED, CANCELLED])
@pytest.mark.parametrize("event", list(_EVENTS))
def test_the_state_in_which_an_operation_has_ended_never_changes(
    end: OperationEnded, event: str
) -> None:
    ended = after(running(PLAN), CANCEL, end)
    try:
        changed = after(ended, _EVENTS[event])
    except Conflict:
        return
    assert changed.state is end.state


def test_an_operation_starts_when_it_is_first_claimed_and_not_again() -> None:
    first = after(queued(PLAN), OperationClaimed(owner="first", epoch=1), at=later(5))
    again = after(first, RELEASED, CLAIMED, at=later(90))
    assert (first.started_at, again.started_at) == (later(5), later(5))
    assert (again.owner, again.epoch) == ("second", 2)


def test_an_owner_that_did_not_release_its_operation_has_died_in_it() -> None:
    operation = running(PLAN)
    assert after(operation, RELEASED, CLAIMED).crashes == 0
    crashed = after(operation, CLAIMED)
    assert crashed.crashes == 1
    assert after(crashed, OperationClaimed(owner="third", epoch=3)).crashes == 2


def test_an_outcome_shows_that_the_program_lives_and_a_mere_intent_does_not() -> None:
    crashed = after(running(PLAN), CLAIMED)
    assert after(crashed, StepStarted(step=1, target=None, epoch=2)).crashes == 1
    assert (
        after(crashed, StepStarted(step=1, target=None, epoch=2), StepSucceeded(step=1)).crashes
        == 0
    )


def test_a_blocked_operation_says_what_it_waits_for_until_it_has_come() -> None:
    blocked = after(running(PLAN), BLOCKED)
    assert (blocked.code, blocked.waiting_for) == ("host.silent", "h1 does not answer")
    other = after(blocked, OperationBlocked(code="vm.busy", waiting_for="a backup"))
    assert (other.code, other.waiting_for) == ("vm.busy", "a backup")
    free = after(other, UNBLOCKED)
    assert (free.code, free.waiting_for) == (None, None)


def test_a_person_who_lets_an_operation_go_on_forgives_its_crashes_and_the_program_does_not() -> (
    None
):
    blocked = after(running(PLAN), CLAIMED, BLOCKED)
    assert after(blocked, OperationUnblocked(by="ann")).crashes == 0
    assert after(blocked, UNBLOCKED).crashes == 1


def test_an_operation_that_is_cancelled_while_blocked_may_still_say_what_it_waits_for() -> None:
    waiting = after(running(PLAN), CANCEL, BLOCKED)
    assert waiting.state is OperationState.CANCELLING
    assert waiting.waiting_for == "h1 does not answer"
    assert after(waiting, UNBLOCKED).waiting_for is None


@pytest.mark.parametrize(
    ("wishes", "counts"),
    [
        ([CancelMode.FINISH], CancelMode.FINISH),
        ([CancelMode.STOP], CancelMode.STOP),
        ([CancelMode.FINISH, CancelMode.STOP], CancelMode.STOP),
        ([CancelMode.STOP, CancelMode.FINISH], CancelMode.STOP),
        ([CancelMode.FINISH, CancelMode.FINISH], CancelMode.FINISH),
    ],
)
def test_of_several_cancels_the_strictest_counts(
    wishes: Sequence[CancelMode], counts: CancelMode
) -> None:
    cancels = [CancelRequested(mode=wish, by="ann") for wish in wishes]
    assert after(running(PLAN), *cancels).cancel is counts


def test_an_operation_whose_time_is_over_stops_its_migrations_even_if_asked_to_finish_them() -> (
    None
):
    late = after(running(PLAN), LATE)
    assert late.has_timed_out
    assert late.cancel is CancelMode.STOP
    assert after(late, CANCEL).cancel is CancelMode.STOP


def test_an_ended_operation_says_how_and_when_and_belongs_to_nobody() -> None:
    ended = after(running(PLAN), BLOCKED, CANCEL, FAILED, at=later(30))
    assert (ended.code, ended.message) == ("step_failed", "VMs: 1 stayed.")
    assert ended.finished_at == later(30)
    assert (ended.owner, ended.waiting_for) == (None, None)


@pytest.mark.parametrize(
    ("old", "new", "is_allowed"),
    [
        (HostMode.ENTERING, HostMode.MAINTENANCE, True),
        (HostMode.AVAILABLE, HostMode.MAINTENANCE, False),
        (HostMode.MAINTENANCE, HostMode.AVAILABLE, False),
    ],
)
def test_a_hosts_mode_changes_only_along_its_table(
    old: HostMode, new: HostMode, is_allowed: bool
) -> None:
    change = HostModeChanged(host=H1, before=old, after=new)
    if is_allowed:
        operation = running(PLAN)
        assert after(operation, change) == replace(operation, events=operation.events + 1)
        return
    with pytest.raises(Conflict):
        after(running(PLAN), change)


def test_vms_that_appeared_later_join_the_plan_the_steps_and_the_roster() -> None:
    entry = RosterEntry(vm=vm_id(4), name="vm4", host=H1, before=Before(power=Power.RUNNING))
    extension = PlanExtended(steps=(planned(4),), roster=(entry,), why="vm4 appeared")
    extended = after(running(PLAN), extension)
    assert [step.number for step in extended.steps] == [1, 2, 3, 4]
    assert extended.plan.steps == (*PLAN.steps, planned(4))
    assert extended.step(4).id == "op-7.4"
    assert extended.roster[-1] == entry


# --- its steps ---------------------------------------------------------------------------------


def _of_step(state: str) -> Operation:
    """An operation whose step 2 is in this state."""
    ways: dict[str, list[Event]] = {
        "pending": [],
        "started": [STARTED],
        "succeeded": [STARTED, StepSucceeded(step=2)],
        "failed": [STARTED, StepFailed(step=2, failure=a_failure())],
        "skipped": [StepSkipped(step=2, why="the operation was cancelled")],
    }
    return after(running(PLAN), *ways[state])


_STEP_EVENTS: dict[str, Event] = {
    "starts": STARTED,
    "succeeds": StepSucceeded(step=2),
    "fails": StepFailed(step=2, failure=a_failure()),
    "fails for now": StepFailed(step=2, failure=a_failure(), not_before=later(5)),
    "is skipped": StepSkipped(step=2, why="nothing is left to do"),
}
_STEP_STATES: dict[str, dict[str, StepState]] = {
    "pending": {
        "starts": StepState.STARTED,
        "fails": StepState.FAILED,
        "fails for now": StepState.PENDING,
        "is skipped": StepState.SKIPPED,
    },
    "started": {
        "succeeds": StepState.SUCCEEDED,
        "fails": StepState.FAILED,
        "fails for now": StepState.PENDING,
        "is skipped": StepState.SKIPPED,
    },
    "succeeded": {},
    "failed": {},
    "skipped": {},
}


@pytest.mark.parametrize("state", list(_STEP_STATES))
@pytest.mark.parametrize("event", list(_STEP_EVENTS))
def test_each_event_takes_a_step_to_the_state_of_the_table_or_is_refused(
    state: str, event: str
) -> None:
    before = _of_step(state)
    wanted = _STEP_STATES[state].get(event)
    if wanted is not None:
        assert after(before, _STEP_EVENTS[event]).step(2).state is wanted
        return
    with pytest.raises(Conflict):
        after(before, _STEP_EVENTS[event])


def test_an_event_about_one_step_leaves_the_others_as_they_were() -> None:
    before, changed = running(PLAN), after(running(PLAN), STARTED)
    assert [changed.step(1), changed.step(3)] == [before.step(1), before.step(3)]


def test_the_intent_of_an_attempt_is_on_record_with_target_epoch_and_instant() -> None:
    step = after(running(PLAN), STARTED, at=later(3)).step(2)
    (attempt,) = step.attempts
    assert (attempt.target, attempt.epoch, attempt.started_at) == (H2, 1, later(3))
    assert attempt.ended_at is None


def test_acts_of_settling_are_on_record_in_their_order_under_the_attempt_they_belong_to() -> None:
    acts = [Act.ABORT, Act.REMOVE_TARGET]
    events = [StepActed(step=2, act=act, host=H2, why="it never ran") for act in acts]
    assert after(_of_step("started"), *events).step(2).acts == tuple(acts)


def test_a_step_that_succeeded_says_where_the_vm_is_how_long_it_paused_and_how_we_know() -> None:
    success = StepSucceeded(
        step=2,
        outcome=Outcome.MOVED,
        where=H2,
        downtime_ms=84,
        sent_mib=4100,
        evidence=EVIDENCE,
        notes=("its autostart was set again",),
    )
    step = after(after(running(PLAN), STARTED, at=later(1)), success, at=later(9)).step(2)
    assert (step.outcome, step.where) == (Outcome.MOVED, H2)
    assert (step.downtime_ms, step.sent_mib) == (84, 4100)
    assert step.evidence == EVIDENCE
    assert step.notes == ("its autostart was set again",)
    assert step.duration_s == 8
    assert step.attempts[-1].ended_at == later(9)


def test_a_failed_attempt_that_is_made_again_keeps_the_vm_pending_and_its_failure_on_record() -> (
    None
):
    failure = a_failure("hypervisor.busy")
    again = StepFailed(step=2, failure=failure, where=H1, not_before=later(5), evidence=EVIDENCE)
    step = after(_of_step("started"), again, at=later(2)).step(2)
    assert (step.state, step.outcome) == (StepState.PENDING, Outcome.PENDING)
    assert step.not_before == later(5)
    assert step.ended_at is None
    assert step.failure == failure
    assert step.attempts[-1].failure == failure
    assert step.attempts[-1].ended_at == later(2)
    assert step.next_target == H3


def test_the_next_attempt_forgets_the_waiting_and_a_success_forgets_the_failure() -> None:
    again = StepFailed(step=2, failure=a_failure(), not_before=later(5))
    second = StepStarted(step=2, target=H3, epoch=1)
    retried = after(_of_step("started"), again, second)
    assert retried.step(2).not_before is None
    done = after(retried, StepSucceeded(step=2, outcome=Outcome.MOVED, where=H3)).step(2)
    assert done.failure is None
    assert [attempt.failure is None for attempt in done.attempts] == [False, True]


def test_what_is_done_in_the_third_attempt_leaves_the_records_of_the_first_two_alone() -> None:
    busy = StepFailed(step=2, failure=a_failure("hypervisor.busy"), not_before=NOW)
    act = StepActed(step=2, act=Act.ABORT, host=H1, why="the operation is being cancelled")
    twice = after(running(PLAN), STARTED, act, busy, STARTED, busy).step(2)
    final = StepFailed(step=2, failure=a_failure())
    thrice = after(running(PLAN), STARTED, act, busy, STARTED, busy, STARTED, act, final).step(2)
    assert thrice.attempts[:2] == twice.attempts
    assert [attempt.acts for attempt in thrice.attempts] == [(Act.ABORT,), (), (Act.ABORT,)]


def test_an_attempt_that_never_began_does_not_count() -> None:
    crash = StepFailed(step=2, failure=a_failure(), counts=False, not_before=NOW)
    step = after(_of_step("started"), crash).step(2)
    assert step.failed_attempts == 0
    assert step.next_target == H2


def test_a_target_that_refused_before_the_start_is_on_record_as_an_attempt() -> None:
    refusal = StepFailed(step=2, failure=a_failure("target.refused"), target=H2, not_before=NOW)
    step = after(running(PLAN), refusal).step(2)
    assert step.state is StepState.PENDING
    (attempt,) = step.attempts
    assert attempt.target == H2
    assert attempt.epoch == 0, "nothing was sent to a host, so it was under no epoch"
    assert step.next_target == H3


def test_a_step_that_failed_for_good_says_what_became_of_its_vm() -> None:
    failure = a_failure("vm.died")
    end = StepFailed(step=2, failure=failure, outcome=Outcome.DIED, where=H1, evidence=EVIDENCE)
    step = after(_of_step("started"), end, at=later(7)).step(2)
    assert (step.state, step.outcome, step.where) == (StepState.FAILED, Outcome.DIED, H1)
    assert (step.failure, step.evidence, step.ended_at) == (failure, EVIDENCE, later(7))


def test_of_a_step_of_which_nothing_else_is_said_the_vm_has_stayed() -> None:
    failed = after(_of_step("started"), StepFailed(step=2, failure=a_failure()))
    assert failed.step(2).outcome is Outcome.STAYED
    assert _of_step("succeeded").step(2).outcome is Outcome.PENDING


def test_a_skipped_step_says_why_and_that_its_vm_stayed_where_it_was() -> None:
    step = after(running(PLAN), StepSkipped(step=2, why="time is over", where=H1)).step(2)
    assert (step.state, step.outcome, step.where) == (StepState.SKIPPED, Outcome.STAYED, H1)
    assert step.notes == ("time is over",)
    assert step.attempts == ()


# --- the fold ----------------------------------------------------------------------------------


def _entries(events: Sequence[Event]) -> list[Entry]:
    return [
        Entry(sequence=100 + n, operation=OPERATION, number=n, at=later(n), event=event)
        for n, event in enumerate(events, 1)
    ]


def test_a_journal_without_entries_is_a_bug() -> None:
    with pytest.raises(Bug) as bug:
        fold([])
    assert bug.value.code == "journal.empty"


def test_a_journal_that_does_not_begin_at_its_start_is_a_bug_that_names_the_operation() -> None:
    with pytest.raises(Bug, match=OPERATION) as bug:
        fold(_entries([CLAIMED]))
    assert bug.value.code == "journal.headless"


@dataclass(frozen=True, kw_only=True)
class _Foreign:
    """An event of a newer version of the program."""

    kind: str = "vm_blessed"


def test_an_event_that_this_version_does_not_know_stops_it_instead_of_being_passed_over() -> None:
    """F015: an old version does not go on with an operation that it cannot read."""
    with pytest.raises(Bug, match="_Foreign") as bug:
        after(running(PLAN), _Foreign())  # type: ignore[arg-type]
    assert bug.value.code == "journal.unknown"
    with pytest.raises(Bug, match="_Foreign"):
        journal_module._change_step(_Foreign(), _of_step("pending").step(2), NOW)


def test_the_number_of_events_counts_every_entry() -> None:
    journal: list[Event] = [accepted(PLAN), CLAIMED, BLOCKED, UNBLOCKED, STARTED]
    assert fold(_entries(journal)).events == len(journal)


@st.composite
def _journals(draw: st.DrawFn) -> list[Event]:
    """A journal as it could have been written: each event was allowed when it came."""
    journal: list[Event] = [accepted(PLAN)]
    operation = queued(PLAN)
    steps: list[Event] = [event for number in (1, 2, 3) for event in _about_step(number)]
    for event in draw(st.lists(st.sampled_from([*_EVENTS.values(), *steps]), max_size=25)):
        if operation.is_final:
            break
        try:
            operation = after(operation, event)
        except Conflict:
            continue
        journal.append(event)
    return journal


def _about_step(number: int) -> list[Event]:
    return [
        StepStarted(step=number, target=H2, epoch=1),
        StepSucceeded(step=number),
        StepFailed(step=number, failure=a_failure()),
        StepFailed(step=number, failure=a_failure(), not_before=later(5)),
        StepSkipped(step=number, why="time is over"),
    ]


@repeatable
@given(_journals())
def test_the_fold_of_a_journal_is_what_its_events_made_one_after_another(
    journal: list[Event],
) -> None:
    entries = _entries(journal)
    operation: Operation | None = None
    for length, entry in enumerate(entries, 1):
        operation = apply(operation, entry.operation, entry.event, entry.at)
        assert fold(entries[:length]) == operation
        assert operation.events == length


@repeatable
@given(_journals())
def test_a_step_that_has_ended_never_changes_again(journal: list[Event]) -> None:
    operation = queued(PLAN)
    for event in journal[1:]:
        changed = after(operation, event)
        for old, new in zip(operation.steps, changed.steps, strict=True):
            assert not old.is_final or new == old
        operation = changed


@repeatable
@given(_journals())
def test_every_attempt_but_the_last_is_over_and_failed(journal: list[Event]) -> None:
    for step in fold(_entries(journal)).steps:
        for attempt in step.attempts[:-1]:
            assert attempt.ended_at is not None
            assert attempt.failure is not None
        if step.attempts:
            is_open = step.attempts[-1].ended_at is None
            assert is_open is (step.state is StepState.STARTED)


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_an_act_within_a_step_that_has_ended_is_refused(state: str) -> None:
    with pytest.raises(Conflict):
        after(_of_step(state), StepActed(step=2, act=Act.ABORT, host=H1, why="cancelled"))


def test_an_act_within_a_step_that_has_not_begun_is_refused() -> None:
    with pytest.raises(Conflict):
        after(_of_step("pending"), StepActed(step=2, act=Act.ABORT, host=H1, why="cancelled"))


@pytest.mark.parametrize(
    "event",
    [CLAIMED, RELEASED, UNBLOCKED, STARTED, PlanExtended(steps=(planned(4),), roster=(), why="")],
    ids=lambda event: event.kind,
)
def test_an_operation_that_has_ended_takes_no_event_any_more(event: Event) -> None:
    with pytest.raises(Conflict):
        after(after(running(PLAN), FAILED), event)


def test_an_operation_cannot_be_accepted_twice() -> None:
    again: OperationAccepted = accepted(PLAN)
    with pytest.raises((Conflict, Bug)):
        after(after(running(PLAN), SUCCEEDED), again)


def test_an_attempt_that_was_never_made_is_no_progress_of_an_operation_that_keeps_dying() -> None:
    """F017: die in the call, settle at home, try again, for ever, would never be noticed."""
    operation = after(running(PLAN), STARTED, CLAIMED, CLAIMED)
    assert operation.crashes == 2
    failed = StepFailed(
        step=STARTED.step, failure=Failure(code="hypervisor.lost", message=""), counts=False
    )
    assert after(operation, failed).crashes == 2
    assert after(operation, replace(failed, counts=True)).crashes == 0


def test_an_attempt_remembers_how_its_vm_was_seen_before_it() -> None:
    operation = after(running(PLAN), replace(STARTED, was_paused=True))
    assert operation.step(STARTED.step).attempts[-1].was_paused
