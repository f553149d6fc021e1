"""Operations as they stand: what a user asked for, its steps, and every VM it is about.

These are values: `journal.apply` makes the next one from an event. Nothing else changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from furlough.core.ids import HostName, OperationId, StepId, VmId, step_id
from furlough.core.looks import Look
from furlough.core.plan import Before, Handover, Method, OperationKind, Plan, PlannedStep
from furlough.core.policy import CancelMode, Options
from furlough.core.states import OperationState, StepState, is_final


class Outcome(StrEnum):
    """What became of a VM. Together they leave no sixth case to S2 (none is lost)."""

    PENDING = "pending"
    MOVED = "moved"
    STAYED = "stayed"
    STARTED = "started"
    STOPPED = "stopped"
    STOPPED_BY_GUEST = "stopped_by_guest"
    REMEDIED = "remedied"
    CHANGED_BY_OTHERS = "changed_by_others"
    DIED = "died"
    MISSING = "missing"


class Act(StrEnum):
    """Effects within a step, of helping it to its end, settling and verifying: each is journaled
    before it is made."""

    ABORT = "abort"
    RAISE_DOWNTIME_LIMIT = "raise_downtime_limit"
    START_POST_COPY = "start_post_copy"
    RECOVER_POST_COPY = "recover_post_copy"
    PAUSE_SOURCE = "pause_source"
    RESUME_TARGET = "resume_target"
    RESUME_SOURCE = "resume_source"
    SUSPEND_SOURCE = "suspend_source"
    POWER_OFF_SOURCE = "power_off_source"
    REMOVE_TARGET = "remove_target"
    UNDEFINE_SOURCE = "undefine_source"
    SET_AUTOSTART = "set_autostart"
    SHUT_DOWN = "shut_down"
    REBOOT_HOST = "reboot_host"
    POWER_OFF_HOST = "power_off_host"
    POWER_OFF = "power_off"
    SAVE = "save"
    COPY_STATE = "copy_state"
    DEFINE_TARGET = "define_target"
    START_TARGET = "start_target"
    GIVE_UP = "give_up"
    DEFINE_SOURCE = "define_source"
    START_SOURCE = "start_source"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was seen when a step was settled, and what it was taken to mean."""

    looks: tuple[Look, ...] = ()
    meaning: str = ""


NO_EVIDENCE = Evidence()


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt ended without its effect."""

    code: str
    message: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try of a step: with which target and epoch, which acts followed, how it ended."""

    target: HostName | None
    epoch: int
    started_at: datetime
    acts: tuple[Act, ...] = ()
    ended_at: datetime | None = None
    failure: Failure | None = None
    counts: bool = True
    was_paused: bool = False
    handover: Handover = Handover.NORMAL
    connections: int = 0
    may_post_copy: bool = False
    boot_id: str = ""
    is_encrypted: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """A planned step and how far it is. `is_overtaken`: it was skipped or had failed, and another
    step, or somebody else, takes care of its VM instead."""

    planned: PlannedStep
    operation: OperationId
    state: StepState = StepState.PENDING
    attempts: tuple[Attempt, ...] = ()
    not_before: datetime | None = None
    ended_at: datetime | None = None
    where: HostName | None = None
    outcome: Outcome = Outcome.PENDING
    downtime_ms: int | None = None
    sent_mib: int | None = None
    failure: Failure | None = None
    evidence: Evidence = NO_EVIDENCE
    notes: tuple[str, ...] = ()
    is_overtaken: bool = False

    @property
    def id(self) -> StepId:
        return step_id(self.operation, self.planned.number)

    @property
    def number(self) -> int:
        return self.planned.number

    @property
    def method(self) -> Method:
        return self.planned.method

    @property
    def is_final(self) -> bool:
        return is_final(self.state)

    @property
    def target(self) -> HostName | None:
        """Where the present or last attempt goes; before the first, where it would."""
        if self.attempts:
            return self.attempts[-1].target
        return self.planned.targets[0] if self.planned.targets else None

    @property
    def failed_attempts(self) -> int:
        """Real tries that failed. A crash of ours between costs the VM nothing."""
        return sum(1 for attempt in self.attempts if attempt.failure and attempt.counts)

    @property
    def next_target(self) -> HostName | None:
        """The target of the next attempt: ranked ones in turn, round again if there are few."""
        targets = self.planned.targets
        return targets[self.failed_attempts % len(targets)] if targets else None

    @property
    def acts(self) -> tuple[Act, ...]:
        """The acts of the present attempt."""
        return self.attempts[-1].acts if self.attempts else ()

    @property
    def duration_s(self) -> float | None:
        """From the start of the last attempt to its end."""
        if not self.attempts or self.ended_at is None:
            return None
        return (self.ended_at - self.attempts[-1].started_at).total_seconds()


@dataclass(frozen=True, kw_only=True)
class RosterEntry:
    """A VM that an operation is about, as it was when the operation was accepted."""

    vm: VmId
    name: str
    host: HostName
    before: Before


@dataclass(frozen=True, kw_only=True)
class Replan:
    """A plan that was made anew under way: why, the hashes before and after, and what is different
    for whom, in words."""

    at: datetime
    before: str
    after: str
    why: str
    changes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """Everything known about one operation. `approved`: the numbers of the steps that a person has
    approved; `urged`: how often a person has said: go on."""

    id: OperationId
    kind: OperationKind
    hosts: tuple[HostName, ...]
    options: Options
    plan: Plan
    requested_by: str
    created_at: datetime
    state: OperationState = OperationState.QUEUED
    steps: tuple[Step, ...] = ()
    roster: tuple[RosterEntry, ...] = ()
    code: str | None = None
    message: str = ""
    waiting_for: str | None = None
    deadline: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    cancel: CancelMode | None = None
    has_timed_out: bool = False
    owner: str | None = None
    epoch: int = 0
    crashes: int = 0
    events: int = 0
    approved: tuple[int, ...] = ()
    urged: int = 0
    replans: tuple[Replan, ...] = ()

    @property
    def is_final(self) -> bool:
        return is_final(self.state)

    def step(self, number: int) -> Step:
        """The step with this number; steps are numbered from 1 in their order."""
        return self.steps[number - 1]
