"""How far an operation is, and how much longer it will take: plan, steps and live progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from furlough.core.estimate import FINISH_S, NO_TIME, SET_UP_S, Range, side_by_side
from furlough.core.ids import HostName
from furlough.core.operation import Operation, Step
from furlough.core.plan import Method, PlannedStep
from furlough.core.states import StepState

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Copied:
    """Of one migration in flight: memory left to send and memory sent so far, in MiB."""

    remaining_mib: int
    sent_mib: int


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """`percent` counts memory as the plan expected it, so that it does not go back when a step
    has sent less, and VMs that are stopped or started where no memory is sent; `eta` is None when
    the operation is final. Bytes are of guest memory, of steps that are done what they really
    sent."""

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
    percent = 100 if operation.is_final else min(99, reached)
    return Outlook(
        percent=percent,
        eta=None if operation.is_final else _eta(operation, done_mib, total_mib, now),
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


def _eta(operation: Operation, done_mib: int, total_mib: int, now: datetime) -> Range:
    """The plan's own range, corrected by what was moved in the time that has passed."""
    started = operation.started_at
    elapsed_s = 0.0 if started is None else (now - started).total_seconds()
    planned = operation.plan.eta
    # Less than no time has passed where the clock was set back: the plan knows better.
    if not done_mib or elapsed_s <= 0:
        return Range(low=round(planned.low, 1), high=round(planned.high, 1))
    rest_s = elapsed_s * (total_mib - done_mib) / done_mib
    waiting = sum(1 for step in operation.steps if step.state is StepState.PENDING)
    moves = Range(low=0.8 * rest_s, high=1.3 * rest_s + waiting * (SET_UP_S + FINISH_S))
    return moves + _power_left(operation)


def _power_left(operation: Operation) -> Range:
    """How long it takes to stop or start those that are left to be, wave after wave."""
    waves: dict[tuple[HostName, int], list[PlannedStep]] = {}
    for step in operation.steps:
        if step.method in _POWER and not step.is_final:
            waves.setdefault((step.planned.host, step.planned.wave), []).append(step.planned)
    per_host: dict[HostName, Range] = {}
    for (host, _), wave in waves.items():
        taken = side_by_side([one.duration_s for one in wave], [one.grace_s for one in wave])
        per_host[host] = per_host.get(host, NO_TIME) + taken
    return Range(
        low=max((one.low for one in per_host.values()), default=0.0),
        high=max((one.high for one in per_host.values()), default=0.0),
    )


_POWER = frozenset({Method.SHUT_DOWN, Method.SUSPEND, Method.START})
