"""How far an operation is, and how much longer it will take: plan, steps and live progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from furlough.core.estimate import side_by_side
from furlough.core.ids import HostName
from furlough.core.operation import Operation, Step
from furlough.core.plan import Method, PlannedStep
from furlough.core.states import OperationState, StepState
from furlough.core.timing import NO_TIME, PROOF, Range

_MIB = 2**20
# From this share of the memory on, the pace that was seen says more than the plan.
_TELLS_ENOUGH, _LEAST_REACHED = 0.3, 0.05
_SEEN_LOW, _SEEN_HIGH = 0.8, 1.3


@dataclass(frozen=True, kw_only=True)
class Copied:
    """Of one migration in flight: memory left to send and memory sent so far, in MiB."""

    remaining_mib: int
    sent_mib: int


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """`percent` counts memory as the plan expected it, so that it does not go back when a step
    has sent less, and VMs that are stopped or started where no memory is sent; what ended otherwise
    than well stays at what it reached. `eta` is None when the operation is final. Bytes are of
    guest memory, of steps that are done what they really sent."""

    percent: int
    eta: Range | None
    bytes_done: int
    bytes_total: int


def outlook(operation: Operation, live: Mapping[int, Copied], now: datetime) -> Outlook:
    """The outlook at `now`; `live` holds, by step number, the migrations in flight."""
    done_mib = sum(_done_mib(step, live.get(step.number)) for step in operation.steps)
    total_mib = sum(_weight_mib(step) for step in operation.steps)
    expected_mib = sum(step.planned.sent_mib for step in operation.steps)
    reached_mib = sum(_reached_mib(step, live.get(step.number)) for step in operation.steps)
    reached = int(100 * reached_mib / expected_mib) if expected_mib else _steps_over(operation)
    is_done = operation.state is OperationState.SUCCEEDED
    percent = 100 if is_done else min(99, reached)
    return Outlook(
        percent=percent,
        eta=None if operation.is_final else _eta(operation, live, now),
        bytes_done=done_mib * _MIB,
        bytes_total=total_mib * _MIB,
    )


def _steps_over(operation: Operation) -> int:
    """The share of those to be stopped or started that are, in percent."""
    steps = [step for step in operation.steps if step.method in _POWER]
    return 100 * sum(step.is_final for step in steps) // max(1, len(steps))


def _weight_mib(step: Step) -> int:
    """What a step counts: the memory it is expected to send, or has sent."""
    return step.sent_mib if step.sent_mib is not None else step.planned.sent_mib


def _done_mib(step: Step, copied: Copied | None) -> int:
    return _weight_mib(step) if step.state is StepState.SUCCEEDED else _reached_mib(step, copied)


def _reached_mib(step: Step, copied: Copied | None) -> int:
    """Of the memory that the step was expected to send: how much need not be sent any more."""
    expected_mib = step.planned.sent_mib
    if step.state is StepState.SUCCEEDED:
        return expected_mib
    if step.state is not StepState.STARTED or copied is None:
        return 0
    # What is left is certain; what has been sent may be more than the guest has.
    return max(0, min(expected_mib - copied.remaining_mib, expected_mib))


def _eta(operation: Operation, live: Mapping[int, Copied], now: datetime) -> Range:
    """The plan's own range for the moves that are left, at the pace seen so far, and then what
    follows the moves."""
    tail = _power_left(operation) + _proof_left(operation)
    moves = [step for step in operation.steps if step.method is Method.LIVE]
    expected_mib = sum(step.planned.sent_mib for step in moves)
    if not expected_mib or all(step.is_final for step in moves):
        return tail
    left_mib = sum(
        step.planned.sent_mib - _reached_mib(step, live.get(step.number))
        for step in moves
        if not step.is_final
    )
    left = left_mib / expected_mib
    pace = _pace(operation, moves, 1 - left, now)
    return Range(low=round(left * pace.low, 1), high=round(left * pace.high, 1)) + tail


def _pace(operation: Operation, moves: Sequence[Step], reached: float, now: datetime) -> Range:
    """How long all moves would take at the pace seen so far. The plan is believed until some part
    is reached or its time is over; then what was seen counts more and more, so that the time left
    neither leaps at the first bytes nor stays what it was when all stands still."""
    whole = _without_what_follows(operation)
    expected_s = max(step.planned.start_s + step.planned.duration_s for step in moves)
    expected_s = expected_s or (whole.low + whole.high) / 2
    elapsed_s = _elapsed_s(operation, moves, now)
    if expected_s <= 0 or elapsed_s <= 0:
        return whole
    overdue = (elapsed_s - expected_s) / expected_s
    trust = min(1.0, max(reached / _TELLS_ENOUGH, overdue, 0.0))
    seen_s = elapsed_s / max(reached, _LEAST_REACHED)
    return Range(
        low=(1 - trust) * whole.low + trust * _SEEN_LOW * seen_s,
        high=(1 - trust) * whole.high + trust * _SEEN_HIGH * seen_s,
    )


def _without_what_follows(operation: Operation) -> Range:
    """The plan's range for the moves alone."""
    planned, after = operation.plan.eta, NO_TIME
    if any(step.method is Method.CONFIRM_EMPTY for step in operation.steps):
        after += PROOF
    after += _power_time(operation.steps)
    return Range(
        low=max(0.0, planned.low - after.low),
        high=max(0.0, planned.high - after.high, planned.low - after.low),
    )


def _elapsed_s(operation: Operation, moves: Sequence[Step], now: datetime) -> float:
    """Since the first move began; a clock that was set back has let no time pass."""
    began = [step.attempts[0].started_at for step in moves if step.attempts]
    since = min(began, default=operation.started_at)
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def _proof_left(operation: Operation) -> Range:
    """What it takes to see a host empty, where that is still to be done."""
    proofs = [step for step in operation.steps if step.method is Method.CONFIRM_EMPTY]
    return NO_TIME if all(step.is_final for step in proofs) else PROOF


def _power_left(operation: Operation) -> Range:
    """How long it takes to stop or start those that are left to be, wave after wave."""
    return _power_time([step for step in operation.steps if not step.is_final])


def _power_time(steps: Sequence[Step]) -> Range:
    waves: dict[tuple[HostName, int], list[PlannedStep]] = {}
    for step in steps:
        if step.method in _POWER:
            waves.setdefault((step.planned.host, step.planned.wave), []).append(step.planned)
    per_host: dict[HostName, Range] = {}
    for (host, _), wave in waves.items():
        taken = side_by_side([one.duration_s for one in wave], [one.grace_s for one in wave])
        per_host[host] = per_host.get(host, NO_TIME) + taken
    return Range(
        low=max((one.low for one in per_host.values()), default=0.0),
        high=max((one.high for one in per_host.values()), default=0.0),
    )


_POWER = frozenset({Method.SHUT_DOWN, Method.SUSPEND, Method.START, Method.COLD})
