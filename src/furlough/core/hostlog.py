"""The log of a host: one line for each machine and event, made from the journals of its operations.

For people who want to read what happened, and for the log pages of other systems. When a host is
truly empty and guarded, the line is "Maintenance Mode".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import singledispatch

from furlough.core.ids import HostName, OperationId
from furlough.core.journal import (
    CancelRequested,
    DeadlinePassed,
    Entry,
    HostModeChanged,
    OperationAccepted,
    OperationBlocked,
    OperationEnded,
    OperationUnblocked,
    StepActed,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepSucceeded,
)
from furlough.core.operation import Operation, Outcome, Step
from furlough.core.plan import Method
from furlough.core.states import HostMode, OperationState


class Level(StrEnum):
    """How much a line matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line; `vm_name` is empty where it is about the host itself, `operation` is None where
    it belongs to none."""

    at: datetime
    level: Level
    operation: OperationId | None
    vm_name: str
    message: str


def log_lines(host: HostName, operation: Operation, journal: Iterable[Entry]) -> Iterator[LogLine]:
    """What an operation's journal says about one of its hosts, in its order."""
    for entry in journal:
        step = _step_of(entry.event, operation)
        if step is not None and step.planned.host != host:
            continue
        if isinstance(entry.event, HostModeChanged) and entry.event.host != host:
            continue
        said = _say(entry.event, step)
        if said is not None:
            level, message = said
            yield LogLine(
                at=entry.at,
                level=level,
                operation=operation.id,
                vm_name=step.planned.vm_name if step is not None else "",
                message=message,
            )


def _step_of(event: object, operation: Operation) -> Step | None:
    number = getattr(event, "step", None)
    return None if number is None else operation.step(number)


_Said = tuple[Level, str] | None

_MODES = {
    HostMode.AVAILABLE: "in service",
    HostMode.CORDONED: "cordoned: no new VMs",
    HostMode.ENTERING: "entering maintenance",
    HostMode.MAINTENANCE: "Maintenance Mode",
    HostMode.EXITING: "leaving maintenance",
}
_BEGUN = {
    Method.LIVE: "migrating from {source} to {target}",
    Method.COLD: "moving cold from {source} to {target}",
    Method.START: "starting",
    Method.SHUT_DOWN: "its guest is being shut down",
    Method.SUSPEND: "being suspended to disk",
    Method.POWER_OFF: "being powered off",
    Method.EJECT: "a medium is taken out of its drive",
    Method.INSERT: "its medium is put back",
}
_DONE = {
    Method.RAISE_GUARD: "guard raised: nothing starts here",
    Method.LOWER_GUARD: "guard lowered",
    Method.CONFIRM_EMPTY: "seen empty",
    Method.REBOOT_HOST: "has rebooted, empty and guarded as before",
    Method.POWER_OFF_HOST: "is off",
    Method.EJECT: "its medium was taken out",
    Method.INSERT: "its medium was put back",
}
# What is waited for in the ordinary course of things.
_ORDINARY_WAITS = frozenset({"host.rebooting", "host.going_down"})


@singledispatch
def _say(_event: object, _step: Step | None) -> _Said:
    """What one event says to a reader; None where it says nothing of interest."""
    return None


@_say.register
def _accepted(event: OperationAccepted, _step: Step | None) -> _Said:
    what = event.operation_kind.value.replace("_", " ")
    return Level.INFO, f"{what} requested by {event.requested_by}"


@_say.register
def _mode(event: HostModeChanged, _step: Step | None) -> _Said:
    return Level.INFO, _MODES[event.after]


@_say.register
def _blocked(event: OperationBlocked, _step: Step | None) -> _Said:
    level = Level.INFO if event.code in _ORDINARY_WAITS else Level.WARNING
    return level, f"waiting: {event.waiting_for}"


@_say.register
def _unblocked(event: OperationUnblocked, _step: Step | None) -> _Said:
    return Level.INFO, f"goes on, as told by {event.by}" if event.by else "goes on"


@_say.register
def _cancelled(event: CancelRequested, _step: Step | None) -> _Said:
    return Level.WARNING, f"cancel requested by {event.by}"


@_say.register
def _late(_event: DeadlinePassed, _step: Step | None) -> _Said:
    return Level.WARNING, "time is over"


@_say.register
def _ended(event: OperationEnded, _step: Step | None) -> _Said:
    level = Level.INFO if event.state is OperationState.SUCCEEDED else Level.ERROR
    return level, f"{event.state.value}. {event.message}".strip()


@_say.register
def _started(event: StepStarted, step: Step | None) -> _Said:
    words = None if step is None else _BEGUN.get(step.method)
    if words is None or step is None:
        return None
    return Level.INFO, words.format(source=step.planned.source, target=event.target)


@_say.register
def _acted(event: StepActed, _step: Step | None) -> _Said:
    return Level.INFO, f"{event.act.value.replace('_', ' ')} on {event.host}: {event.why}"


@_say.register
def _succeeded(event: StepSucceeded, step: Step | None) -> _Said:
    if step is not None and step.method in _DONE:
        return Level.INFO, _DONE[step.method]
    if event.outcome is not Outcome.MOVED:
        return Level.INFO, event.outcome.value.replace("_", " ")
    pause = "" if event.downtime_ms is None else f", downtime {event.downtime_ms} ms"
    return Level.INFO, f"now on {event.where}{pause}"


@_say.register
def _failed(event: StepFailed, _step: Step | None) -> _Said:
    words = f"{event.failure.message} {event.failure.remedy}".strip()
    if event.not_before is not None:
        return Level.WARNING, f"attempt failed, another follows: {words}"
    return Level.ERROR, f"failed: {words}"


@_say.register
def _skipped(event: StepSkipped, _step: Step | None) -> _Said:
    return Level.WARNING, f"left as it is: {event.why}"
