"""Whether a live migration comes to its end, and how to help one that does not.

Memory is copied in rounds: a round sends what was rewritten during the one before, and the last
one has to fit into the pause. A guest that writes about as fast as is copied is *restless*: its
rounds do not get smaller. The ladder, one rung at a time, never beyond what its policy allows:

    pause as long as the rest takes, where the budget allows that        raise_downtime_limit
    run on the target, and fetch the rest there, where policy allows it  start_post_copy
    let the hypervisor slow its CPUs, as it does by itself               (wait)
    stop its CPUs until all is sent, where policy lets it be stopped     pause_source
    give up: it stays where it is, and a person is told what could help  abort

A link that is silent is another thing: nothing moves at all. A slow one moves something.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from furlough.core.operation import Act
from furlough.core.vm_policy import OnMaintenance, PostCopy, VmPolicy

# The hypervisor's own limit, and what may be asked of a guest whose owner has not said.
USUAL_LIMIT_MS = 300
USUAL_BUDGET_MS = 1000
_STEPS = 4
# A round that is not much smaller than the one before.
_RESTLESS = 0.7
# Enough throttling has been seen to fail; where none is told, so many rounds.
_MOST_THROTTLE = 99
_ROUNDS_AT_MOST_THROTTLE = 3
_ROUNDS_UNTHROTTLED = 12
_ROUNDS_WHILE_THROTTLED = 60
# After so many, a pause that should do, and does not, is raised once more.
_ROUNDS_OF_PATIENCE = 5
# Remaining memory is measured some time before CPUs stop, and rates vary.
_MARGIN = 1.2
_LEAST_MIB_S = 0.01
_STOPPABLE = frozenset({OnMaintenance.COLD, OnMaintenance.SUSPEND, OnMaintenance.SHUT_DOWN})


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at a migration that copies. `at_s` on one clock; `rounds` as the hypervisor counts
    them, from wherever it began; the memory in MiB."""

    at_s: float
    rounds: int
    remaining_mib: float
    sent_mib: float
    throttle_percent: int = 0


@dataclass(frozen=True, kw_only=True)
class Course:
    """What the samples so far add up to.

    `peak_mib`: what the present round had to send at its beginning, as far as was seen;
    `restless`: so many rounds in a row were hardly smaller than the one before; `moved_s`: when
    memory was last seen to move; `rate_mib_s`: of late.
    """

    last: Sample
    first_round: int
    peak_mib: float
    moved_s: float
    rate_mib_s: float = 0.0
    restless: int = 0

    @property
    def silent_s(self) -> float:
        """How long nothing has moved, until the last look."""
        return self.last.at_s - self.moved_s

    @property
    def needed_ms(self) -> float:
        """The pause that would do now: all that a round has to send, at the present rate."""
        return 1000 * self.peak_mib / max(self.rate_mib_s, _LEAST_MIB_S)


def noted(course: Course | None, sample: Sample) -> Course:
    """The course after one more sample."""
    if course is None or sample.sent_mib < course.last.sent_mib:
        return Course(
            last=sample,
            first_round=sample.rounds,
            peak_mib=sample.remaining_mib,
            moved_s=sample.at_s,
        )
    last = course.last
    sent, took_s = sample.sent_mib - last.sent_mib, sample.at_s - last.at_s
    moved = sent > 0 or sample.rounds != last.rounds
    now = replace(
        course,
        last=sample,
        moved_s=sample.at_s if moved else course.moved_s,
        rate_mib_s=_rate(course.rate_mib_s, sent / took_s) if took_s > 0 else course.rate_mib_s,
    )
    if sample.rounds == last.rounds:
        return replace(now, peak_mib=max(course.peak_mib, sample.remaining_mib))
    peak = sample.remaining_mib
    if sample.rounds == last.rounds + 1:
        # Of what went since the last look, the end of the old round came first.
        peak += max(0.0, sent - last.remaining_mib)
    is_first = last.rounds == course.first_round
    is_restless = not is_first and peak > _RESTLESS * course.peak_mib
    return replace(now, peak_mib=peak, restless=course.restless + 1 if is_restless else 0)


def _rate(before: float, now: float) -> float:
    return now if before == 0 else (before + now) / 2


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What holds for one migration. `limit_ms`: how long it may pause as things stand;
    `may_post_copy`: it was begun so that it can; `stall_s`: how long a link may be silent."""

    policy: VmPolicy
    limit_ms: int
    may_post_copy: bool
    stall_s: float
    acts: frozenset[Act] = frozenset()

    @property
    def budget_ms(self) -> int:
        """The longest pause that its owner accepts."""
        given = self.policy.downtime_budget_ms
        return USUAL_BUDGET_MS if given is None else given

    @property
    def pause_ms(self) -> float:
        """The longest stop that its owner accepts: who lets it be stopped, and names no budget,
        lets it be stopped for as long as it takes."""
        is_stoppable = self.policy.on_maintenance in _STOPPABLE
        if is_stoppable and self.policy.downtime_budget_ms is None:
            return float("inf")
        return float(self.budget_ms) if is_stoppable else 0.0


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What to do now, and why. `limit_ms`: the new limit, where that is raised; `code` and
    `remedy`: where it is given up."""

    act: Act
    why: str
    limit_ms: int = 0
    code: str = ""
    remedy: str = ""


def first_limit_ms(policy: VmPolicy) -> int:
    """How long a migration may pause before anything is done to help it."""
    budget = policy.downtime_budget_ms
    return USUAL_LIMIT_MS if budget is None else min(USUAL_LIMIT_MS, budget)


def allows_post_copy(policy: VmPolicy) -> bool:
    """Whether its owner lets a VM go over to post-copy where nothing else brings it to an end."""
    return policy.post_copy is PostCopy.IF_NEEDED


def rung(course: Course, terms: Terms) -> Rung | None:
    """What to do now; None: go on looking."""
    if Act.ABORT in terms.acts or Act.START_POST_COPY in terms.acts:
        return None
    if course.silent_s >= terms.stall_s:
        return _stalled(course)
    if not course.restless or Act.PAUSE_SOURCE in terms.acts:
        return None
    if course.needed_ms <= terms.limit_ms and course.restless <= _ROUNDS_OF_PATIENCE:
        return None  # It will end by itself.
    return _raise_limit(course, terms) or _post_copy(course, terms) or _last_resort(course, terms)


def silence(course: Course, terms: Terms) -> str:
    """What is to be told of a link that is silent after the switch to post-copy, when nothing can
    be given up any more; empty where memory moves."""
    is_followed = Act.START_POST_COPY in terms.acts and Act.RECOVER_POST_COPY not in terms.acts
    if not is_followed or course.silent_s < terms.stall_s:
        return ""  # Of one whose link broke, the settling tells.
    return f"memory to move again: none has for {terms.stall_s:.0f} s, in post-copy"


def _stalled(course: Course) -> Rung:
    return Rung(
        act=Act.ABORT,
        why=f"no memory has moved for {course.silent_s:.0f} s",
        code="migration.stalled",
        remedy="Look at the migration network between both hosts; it is tried again.",
    )


def _raise_limit(course: Course, terms: Terms) -> Rung | None:
    """The lowest step below the budget that is long enough."""
    wanted, start = _MARGIN * course.needed_ms, first_limit_ms(terms.policy)
    width = (terms.budget_ms - start) / _STEPS
    for step in range(1, _STEPS + 1):
        limit = round(start + step * width)
        if limit >= wanted and limit > terms.limit_ms:
            why = f"{_words(course)}; it may pause {limit} ms of {terms.budget_ms} ms"
            return Rung(act=Act.RAISE_DOWNTIME_LIMIT, why=why, limit_ms=limit)
    return None


def _post_copy(course: Course, terms: Terms) -> Rung | None:
    if not (terms.may_post_copy and allows_post_copy(terms.policy)):
        return None
    why = f"{_words(course)}; its policy allows post-copy"
    return Rung(act=Act.START_POST_COPY, why=why)


def _last_resort(course: Course, terms: Terms) -> Rung | None:
    """Once slowing its CPUs was of no use: stop them for the rest, or give up."""
    if course.restless < _enough_rounds(course.last.throttle_percent):
        return None
    if _MARGIN * course.needed_ms <= terms.pause_ms:
        why = f"{_words(course)}; its policy lets it be stopped meanwhile"
        return Rung(act=Act.PAUSE_SOURCE, why=why)
    return Rung(
        act=Act.ABORT,
        why=_words(course),
        code="migration.not_converging",
        remedy=_remedy(course, terms),
    )


def _enough_rounds(throttle_percent: int) -> int:
    """How many restless rounds in a row show that slowing the guest does not help."""
    if throttle_percent >= _MOST_THROTTLE:
        return _ROUNDS_AT_MOST_THROTTLE
    return _ROUNDS_WHILE_THROTTLED if throttle_percent else _ROUNDS_UNTHROTTLED


def _words(course: Course) -> str:
    return (
        f"its guest rewrites {course.peak_mib:.0f} MiB in each round while "
        f"{course.rate_mib_s:.0f} MiB/s are copied, which would take a pause of "
        f"{course.needed_ms:.0f} ms"
    )


def _remedy(course: Course, terms: Terms) -> str:
    choices = []
    if not allows_post_copy(terms.policy):
        choices.append("allow post-copy (furlough vm set VM --post-copy if_needed)")
    elif not terms.may_post_copy:
        choices.append("prove the locks of its storage, without which there is no post-copy")
    choices += [
        f"accept a pause of {_MARGIN * course.needed_ms:.0f} ms (--downtime-budget)",
        "let it be stopped (--on-maintenance suspend or shut_down)",
        "quiet its guest",
    ]
    return f"Choose one and try again: {'; or '.join(choices)}."
