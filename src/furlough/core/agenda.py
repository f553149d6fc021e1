"""What an operation has to do now: a function of its state and the time, nothing else.

The engine asks after every event and carries out the answer. Slots and reservations are the
store's to grant; here stands only the order and what no longer makes sense.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from furlough.core.holding import Need, allowed, has_failed, need_of, stranded, waits_for_failed
from furlough.core.ids import HostName
from furlough.core.not_home import RETURNS, closing_list, is_incomplete, return_steps
from furlough.core.operation import Operation, Outcome, Step
from furlough.core.plan import Method, OperationKind, PlannedStep, numbered
from furlough.core.policy import CancelMode, EnterOptions, OnFailure
from furlough.core.states import HostMode, OperationState, StepState

# Steps of this wave and later run even when the operation is being cancelled.
CLOSING_WAVE = 10
_PENDING, _STARTED = StepState.PENDING, StepState.STARTED
# What takes a VM off its host by stopping it; what brings one back, and how that ends.
_STOPS = frozenset({Method.SHUT_DOWN, Method.SUSPEND})
_RETURNS = frozenset({Method.LIVE, Method.COLD, Method.START, Method.INSERT})
_GONE = frozenset({Outcome.MOVED, Outcome.STOPPED})
_COME_HOME = frozenset({Outcome.MOVED, Outcome.STARTED})


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an operation ends: its final state, a code, a sentence, and its hosts' modes then."""

    state: OperationState
    code: str | None
    message: str
    modes: Mapping[HostName, HostMode]


@dataclass(frozen=True, kw_only=True)
class Agenda:
    """What to do now.

    `start`: steps that may start, in order. `skip`: steps that make no sense any more, with the
    reason. `abort`: migrations in flight that are to stop. `extend`: steps that have become
    necessary. `put_back`: those that have left are to be brought back, by a plan that facts decide.
    `need`: what the operation as a whole waits for. `ending`: set when nothing is left. `wake_at`:
    when to ask again although nothing happened.
    """

    start: tuple[Step, ...] = ()
    skip: tuple[tuple[Step, str], ...] = ()
    abort: tuple[Step, ...] = ()
    extend: tuple[PlannedStep, ...] = ()
    put_back: bool = False
    need: Need | None = None
    ending: Ending | None = None
    wake_at: datetime | None = None


def agenda(operation: Operation, modes: Mapping[HostName, HostMode], now: datetime) -> Agenda:
    """What `operation` has to do at `now`, its hosts being in these modes."""
    if operation.state is OperationState.CANCELLING:
        return _winding_up(operation, modes, now)
    if operation.state not in (OperationState.RUNNING, OperationState.BLOCKED):
        return Agenda(wake_at=operation.deadline)
    skip = tuple(_pointless(operation))
    if skip:
        return Agenda(skip=skip)
    if all(step.is_final for step in operation.steps):
        if _is_to_be_put_back(operation, modes):
            return Agenda(put_back=True)
        return _closing(operation, modes, now)
    return _next(operation, now)


def _is_to_be_put_back(operation: Operation, modes: Mapping[HostName, HostMode]) -> bool:
    """Whether those that have left are to come back, and nothing has been planned for that yet."""
    options = operation.options
    if not isinstance(options, EnterOptions) or any(map(is_closing, operation.steps)):
        return False
    entering = {host for host in operation.hosts if modes.get(host) is HostMode.ENTERING}
    if not any(has_left(step) and step.planned.host in entering for step in operation.steps):
        return False
    if operation.state is OperationState.CANCELLING:
        return operation.cancel is CancelMode.PUT_BACK
    return options.on_failure is OnFailure.PUT_BACK and any(map(has_failed, operation.steps))


def has_left(step: Step) -> bool:
    """Whether a step of an entering has taken its VM off the host that is emptied. Who made room on
    another one stays where it went."""
    is_from_there = step.planned.source == step.planned.host
    return step.outcome in _GONE and is_from_there and not is_closing(step)


def is_closing(step: Step) -> bool:
    """Whether a step belongs to the end of an operation that did not come through."""
    return step.planned.wave >= CLOSING_WAVE


def _next(operation: Operation, now: datetime) -> Agenda:
    """The steps that may start now, and when the next one may."""
    due: list[Step] = []
    moments: list[datetime] = []
    for step in _unlocked(operation):
        if step.not_before is None or step.not_before <= now:
            due.append(step)
        else:
            moments.append(step.not_before)
    if operation.deadline is not None and operation.state is not OperationState.CANCELLING:
        moments.append(operation.deadline)
    if operation.state is OperationState.CANCELLING:
        return Agenda(start=tuple(due), wake_at=min(moments, default=None))
    return Agenda(
        start=tuple(allowed(due, operation)),
        need=need_of(operation, due),
        wake_at=min(moments, default=None),
    )


def _winding_up(operation: Operation, modes: Mapping[HostName, HostMode], now: datetime) -> Agenda:
    """Nothing new starts; what is in flight ends or is aborted; then it is over."""
    flying = [step for step in operation.steps if step.state is StepState.STARTED]
    unwanted = [step for step in flying if step.method is Method.LIVE and _is_cut(step, operation)]
    if unwanted or any(not is_closing(step) for step in flying):
        return Agenda(abort=tuple(unwanted))
    waiting = [
        step
        for step in operation.steps
        if step.state is StepState.PENDING and _is_called_off(step, operation)
    ]
    if waiting:
        why = "time is over" if operation.has_timed_out else "the operation was cancelled"
        return Agenda(skip=tuple((step, why) for step in waiting))
    if _is_to_be_put_back(operation, modes):
        return Agenda(put_back=True)
    return _closing(operation, modes, now)


def _is_cut(step: Step, operation: Operation) -> bool:
    """Whether a cancel aborts this migration. One that brings a VM back is what was asked for."""
    if operation.cancel is CancelMode.PUT_BACK:
        return not is_closing(step)
    return operation.cancel is CancelMode.STOP


def _is_called_off(step: Step, operation: Operation) -> bool:
    """Whether a cancel leaves this step undone. The guard is put right whatever is wanted."""
    if operation.cancel is CancelMode.PUT_BACK:
        return not is_closing(step)
    return not is_closing(step) or step.planned.vm is not None


def _closing(operation: Operation, modes: Mapping[HostName, HostMode], now: datetime) -> Agenda:
    """The last thing before the end: an exit that did not come through leaves a guard behind
    that admits nobody, and `maintenance` only where the host is seen empty again."""
    wanted = tuple(_closing_steps(operation))
    if wanted and all(step.planned.wave < CLOSING_WAVE for step in operation.steps):
        return Agenda(extend=numbered(wanted, first=len(operation.steps) + 1))
    skip = tuple(_pointless(operation))
    if skip:
        return Agenda(skip=skip)
    if not all(step.is_final for step in operation.steps):
        return _next(operation, now)
    return Agenda(ending=_ending(operation, modes))


def _closing_steps(operation: Operation) -> Iterator[PlannedStep]:
    if operation.kind is not OperationKind.EXIT:
        return
    for host in operation.hosts:
        if _succeeded(operation, host, Method.LOWER_GUARD):
            continue
        yield PlannedStep(number=0, method=Method.RAISE_GUARD, host=host, wave=CLOSING_WAVE)
        came_home = any(
            step.outcome in _COME_HOME and step.planned.host == host for step in operation.steps
        )
        if not came_home:
            yield PlannedStep(
                number=0, method=Method.CONFIRM_EMPTY, host=host, wave=CLOSING_WAVE + 1
            )


def _unlocked(operation: Operation) -> Iterator[Step]:
    """Pending steps whose host has no unfinished step of an earlier wave, in plan order."""
    # Asked after every event, of every step: the states are compared as they are.
    still_open = [
        step for step in operation.steps if step.state is _PENDING or step.state is _STARTED
    ]
    still_open += stranded(operation)
    open_wave: dict[HostName, int] = {}
    for step in still_open:
        host, wave = step.planned.host, step.planned.wave
        if wave < open_wave.get(host, wave + 1):
            open_wave[host] = wave
    for step in still_open:
        is_its_turn = step.state is _PENDING and step.planned.wave == open_wave[step.planned.host]
        if is_its_turn and all(operation.step(one).is_final for one in step.planned.after):
            yield step


def _pointless(operation: Operation) -> Iterator[tuple[Step, str]]:
    """Pending steps that depend on one that failed: without a guard nobody is moved, and a host
    on which a VM stayed is not confirmed empty."""
    forsaken = dict(_forsaken(operation))
    yield from ((operation.step(number), why) for number, why in forsaken.items())
    failed: dict[HostName, list[Step]] = {}
    waits = waits_for_failed(operation)
    for step in operation.steps:
        if has_failed(step) and not (waits and step.planned.vm is not None):
            failed.setdefault(step.planned.host, []).append(step)
    if not failed:
        return
    for step in operation.steps:
        if step.state is StepState.PENDING and step.number not in forsaken:
            for other in failed.get(step.planned.host, ()):
                if _forbids(other, step):
                    yield step, f"step {other.id} ({other.method.value}) failed"
                    break


def _forsaken(operation: Operation) -> Iterator[tuple[int, str]]:
    """Pending steps, by number, after one that did not come through: it has made no room, or
    brought no VM."""
    for step in operation.steps:
        if step.state is _PENDING and step.planned.after:
            for other in (operation.step(one) for one in step.planned.after):
                if other.state in (StepState.FAILED, StepState.SKIPPED):
                    yield (
                        step.number,
                        f"step {other.id} (VM {other.planned.vm_name}) did not come through",
                    )
                    break


def _forbids(failed: Step, step: Step) -> bool:
    """Whether `step` makes no sense once `failed`, of the same host, has failed. Nobody is
    stopped for a host that will not be empty anyway."""
    if failed.planned.wave >= step.planned.wave:
        return False
    if is_closing(step):
        # Whatever failed, the last word to a guard is said; the proof rests on it.
        return is_closing(failed) and failed.method is Method.RAISE_GUARD is not step.method
    if step.method is Method.CONFIRM_EMPTY or step.method in _STOPS or _leaves_cold(step):
        return True
    return failed.method is Method.RAISE_GUARD


def _leaves_cold(step: Step) -> bool:
    """Whether it takes a VM cold off the host that is to be emptied, and not home to it."""
    return step.method is Method.COLD and step.planned.source == step.planned.host


# --- endings -----------------------------------------------------------------------------------


def _ending(operation: Operation, modes: Mapping[HostName, HostMode]) -> Ending:
    state, code, message = _verdict(operation)
    return Ending(
        state=state,
        code=code,
        message=message,
        modes={
            host: after
            for host in operation.hosts
            if (after := _mode_after(operation, host, modes[host])) is not None
        },
    )


def _verdict(operation: Operation) -> tuple[OperationState, str | None, str]:
    done = all(step.state is StepState.SUCCEEDED or step.is_overtaken for step in operation.steps)
    if operation.state is OperationState.CANCELLING and not (done and operation.steps):
        if operation.has_timed_out:
            return OperationState.FAILED, "timed_out", f"Time was over. {_tally(operation)}"
        return OperationState.CANCELLED, "cancelled", f"Cancelled. {_tally(operation)}"
    failed = [step for step in operation.steps if has_failed(step)]
    if operation.kind in RETURNS and all(step.method in _RETURNS for step in failed):
        return _verdict_of_return(operation, failed)
    if not failed:
        return OperationState.SUCCEEDED, None, _tally(operation)
    first = failed[0].failure
    code = first.code if first is not None else "step_failed"
    return OperationState.FAILED, code, _tally(operation)


def _verdict_of_return(
    operation: Operation, failed: Sequence[Step]
) -> tuple[OperationState, str | None, str]:
    """The same where VMs were brought home: who was meant to be and is not makes it incomplete; a
    step that failed before another one brought its VM home does not."""
    has_lost_medium = any(step.method is Method.INSERT for step in failed)
    if is_incomplete(operation) or has_lost_medium:
        return OperationState.FAILED, "restore_incomplete", _tally(operation)
    return OperationState.SUCCEEDED, None, _tally(operation)


def _tally(operation: Operation) -> str:
    """How many VMs ended how, in a sentence, and who is not home, in another one."""
    return " ".join(filter(None, (_counts(operation), closing_list(operation))))


def _counts(operation: Operation) -> str:
    last = {step.planned.vm: step for step in _telling(operation)}
    counts = Counter(_fate(step) for step in last.values())
    touched = {step.planned.vm for step in operation.steps}
    left = sum(1 for entry in operation.roster if entry.vm not in touched)
    if left:
        counts["left"] = left
    if not counts:
        return ""
    words = ", ".join(
        f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(counts.items())
    )
    return f"VMs: {words}."


def _telling(operation: Operation) -> Iterable[Step]:
    """The steps that say what became of their VMs, in their order: of an operation that brings VMs
    home only those that do, and not that a medium is put back into its drive at the end."""
    if operation.kind in RETURNS:
        return [steps[-1] for steps in return_steps(operation).values()]
    return [step for step in operation.steps if step.planned.vm is not None]


def _fate(step: Step) -> str:
    """The outcome of a VM by the last step about it; one that came back did not end elsewhere."""
    if is_closing(step) and step.outcome is Outcome.MOVED:
        return "put back"
    return step.outcome.value


def _mode_after(operation: Operation, host: HostName, mode: HostMode) -> HostMode | None:
    """The mode a host goes to when its operation ends; None to leave it."""
    if operation.kind is OperationKind.CORDON and mode is HostMode.AVAILABLE:
        cancelled = operation.state is OperationState.CANCELLING
        return None if cancelled else HostMode.CORDONED
    if operation.kind is OperationKind.ENTER and mode is HostMode.ENTERING:
        return HostMode.CORDONED
    if operation.kind is OperationKind.UNCORDON and mode is HostMode.CORDONED:
        return HostMode.AVAILABLE if _is_let_in(operation, host) else None
    if operation.kind is OperationKind.EXIT and mode is HostMode.EXITING:
        lowered = _succeeded(operation, host, Method.LOWER_GUARD)
        return HostMode.AVAILABLE if lowered else HostMode.CORDONED
    return None


def _is_let_in(operation: Operation, host: HostName) -> bool:
    """Whether nothing keeps VMs off a host that is uncordoned: its guard was lowered, or there
    never was one, where no furlough-host is installed."""
    is_guarded = any(step.method is Method.LOWER_GUARD for step in operation.steps)
    if is_guarded:
        return _succeeded(operation, host, Method.LOWER_GUARD)
    return operation.state is not OperationState.CANCELLING


def _succeeded(operation: Operation, host: HostName, method: Method) -> bool:
    return any(
        step.state is StepState.SUCCEEDED and step.planned.host == host and step.method is method
        for step in operation.steps
    )
