"""Following an operation: bars on a terminal, plain lines in a pipe, the end in a table.

The daemon may be restarted meanwhile: the operation goes on by itself, and so does the following.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from furlough.access_client import understood
from furlough.cli.output import (
    CANCELLED,
    DONE,
    FAILED,
    NEEDS_PERSON,
    TIMED_OUT,
    mib,
    print_table,
    printable,
    say,
    span,
    warn,
)
from furlough.client import Client
from furlough.clock import pause
from furlough.errors import Unreachable
from furlough.wire.operations import OperationView, StepView

_FINAL = ("succeeded", "failed", "cancelled")
# Blocked for these, an operation waits for a person; for others, for the world.
FOR_A_PERSON = frozenset(
    {
        "awaiting_approval",
        "awaiting_empty",
        "bug",
        "crash_loop",
        "host.refills",
        "migration.act_failed",
        "migration.both_paused",
        "migration.postcopy_failed",
        "migration.stale_source",
        "migration.stale_target",
        "migration.stray_copy",
        "vm.cannot_leave",
        "vm.leave",
        "vm.stands_still",
        "vm.two_copies",
    }
)
_OPERATION = TypeAdapter(OperationView)
_AGAIN_S = 1.0
_PATIENCE_S = 120


def follow(client: Client, which: str, *, is_quiet: bool = False) -> OperationView:
    """Show an operation until it is over, or needs a person and nobody is there."""
    if is_quiet:
        return _last(_until_decided(client, which, is_attended=False))
    if sys.stdout.isatty():
        return _follow_with_bars(client, which)
    return _follow_in_lines(client, which)


def exit_code_of(operation: OperationView) -> int:
    """What a script is told about how it ended."""
    if operation.state == "succeeded":
        return DONE
    if operation.state == "cancelled":
        return CANCELLED
    if operation.state == "failed":
        return TIMED_OUT if operation.code == "timed_out" else FAILED
    return NEEDS_PERSON


def _snapshots(client: Client, which: str) -> Iterator[OperationView]:
    """The operation whenever it changes; goes on when the daemon comes back."""
    silent_s = 0.0
    while True:
        try:
            for event in client.events(which):
                silent_s = 0.0
                if event.name == "operation":
                    operation = understood(_OPERATION, event.content)
                    yield operation
                    if operation.state in _FINAL:
                        return
        except Unreachable:
            if silent_s == 0.0:
                warn("furlough: lost the daemon; the operation goes on, waiting for it ...")
            silent_s += _AGAIN_S
            if silent_s > _PATIENCE_S:
                raise
        pause(_AGAIN_S)


def _until_decided(client: Client, which: str, *, is_attended: bool) -> Iterator[OperationView]:
    for operation in _snapshots(client, which):
        yield operation
        asks = operation.waiting_for and operation.code in FOR_A_PERSON
        if not is_attended and (asks or operation.state == "paused"):
            return


def _last(snapshots: Iterator[OperationView]) -> OperationView:
    return deque(snapshots, maxlen=1).pop()


# --- in a pipe ---------------------------------------------------------------------------------


def _follow_in_lines(client: Client, which: str) -> OperationView:
    """One line per change of a step."""
    told: dict[str, str] = {}
    waiting: str | None = None
    operation: OperationView | None = None
    for operation in _until_decided(client, which, is_attended=False):
        for step in operation.steps:
            line = _line_of(step)
            if line and told.get(step.id) != line:
                told[step.id] = line
                say(f"{operation.id} {operation.progress_percent:3d} %  {line}")
        if operation.waiting_for != waiting:
            waiting = operation.waiting_for
            if waiting:
                say(f"{operation.id}  waits for: {waiting}")
    if operation is None:
        return client.operation(which)
    return operation


def _line_of(step: StepView) -> str:
    """A step in words; empty while it waits for its turn."""
    what = f"{step.vm_name}: " if step.vm_name else f"{step.source}: {_words(step.method)} "
    if step.state == "started":
        aim = f"{step.source} -> {step.target}" if step.method == "live" else "under way"
        again = f" (attempt {step.attempts})" if step.attempts > 1 else ""
        return f"{what}{aim}{again}"
    if step.state == "succeeded":
        return f"{what}{_success_of(step)}"
    if step.state in ("failed", "skipped"):
        reason = step.error.message if step.error else "; ".join(step.notes)
        return f"{what}{step.state}: {reason}"
    if step.error is not None:
        return f"{what}will be tried again: {step.error.message}"
    return ""


def _success_of(step: StepView) -> str:
    if step.method != "live":
        return "done"
    pause_words = f", downtime {step.downtime_ms} ms" if step.downtime_ms is not None else ""
    notes = f" ({'; '.join(step.notes)})" if step.notes else ""
    return f"now on {step.target}, {span(step.duration_s or 0)}{pause_words}{notes}"


def _words(method: str) -> str:
    return method.replace("_", " ")


# --- on a terminal -----------------------------------------------------------------------------


def _follow_with_bars(client: Client, which: str) -> OperationView:
    """One bar per VM, one for the whole."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[says]}", markup=False),
    )
    operation: OperationView | None = None
    with Progress(*columns, console=Console(), transient=False) as progress:
        bars: dict[str, TaskID] = {}
        total = progress.add_task(which, total=100, says="")
        for operation in _until_decided(client, which, is_attended=True):
            for step in operation.steps:
                if step.state != "pending" or step.id in bars:
                    _show_step(progress, bars, step)
            progress.update(
                total,
                completed=operation.progress_percent,
                description=f"{_words(operation.kind)} {', '.join(operation.hosts)}",
                says=_says(operation),
            )
    return operation if operation is not None else client.operation(which)


def _show_step(progress: Progress, bars: dict[str, TaskID], step: StepView) -> None:
    size = max(1, step.expected_mib)
    if step.id not in bars:
        name = step.vm_name or f"{step.source} {_words(step.method)}"
        bars[step.id] = progress.add_task(printable(name)[:32], total=size, says="")
    done, says = 0, step.state.value
    if step.state == "succeeded":
        done, says = size, _success_of(step)
    elif step.progress is not None:
        done = max(0, size - step.progress.remaining_mib)
        says = f"-> {step.target}, {mib(step.progress.remaining_mib)} left"
    elif step.error is not None:
        says = printable(step.error.message)[:60]
    progress.update(bars[step.id], completed=done, says=says)


def _says(operation: OperationView) -> str:
    if operation.waiting_for:
        return f"waits for: {printable(operation.waiting_for)[:70]}"
    if operation.eta_s is None:
        return operation.state.value
    return (
        f"{operation.state.value}, {span(operation.eta_s.low)} to {span(operation.eta_s.high)} left"
    )


# --- at the end --------------------------------------------------------------------------------


def print_end(operation: OperationView) -> None:
    """Every VM that the operation was about, and how it ended."""
    moves = {
        step.vm_uuid: step for step in operation.steps if step.vm_uuid and step.method != "insert"
    }
    if operation.vms:
        say()
        print_table(
            ("vm", "from", "to", "outcome", "seconds", "downtime"),
            [_row(vm.name, vm.host, vm.outcome, moves.get(vm.uuid)) for vm in operation.vms],
        )
    say()
    what = f"{_words(operation.kind)} {', '.join(operation.hosts)}"
    code = f" [{operation.code}]" if operation.code else ""
    say(f"{operation.id} ({what}) {operation.state.value}{code}. {operation.message}".rstrip())
    _say_what_it_waits_for(operation)
    advice: dict[str, list[str]] = {}
    for vm in operation.vms:
        if vm.remedy:
            advice.setdefault(vm.remedy, []).append(vm.name)
    for remedy, names in advice.items():
        say(f"  {', '.join(names)}: {remedy}")
    for line in failures(operation):
        say(f"  {line}")
    for line in _next_steps(operation):
        say(f"  -> {line}")


def _say_what_it_waits_for(operation: OperationView) -> None:
    """What stands still, and the words by which a person lets it go on or stops it."""
    which = operation.id
    if operation.state == "paused":
        say(f"  -> To let it go on: furlough operation resume {which}")
    if not operation.waiting_for:
        return
    say(f"It waits for: {operation.waiting_for}")
    if operation.code == "awaiting_approval":
        say(f"  -> To approve it: furlough operation approve {which}")
    elif operation.code in FOR_A_PERSON:
        say(f"  -> Once you have looked: furlough operation resume {which}")
    say(f"  -> To stop it: furlough operation cancel {which}")


def failures(operation: OperationView) -> list[str]:
    """Steps about drives that failed: their VMs are where they should be, so the table is silent
    about them."""
    return [
        f"{step.vm_name}: {step.error.message} {step.error.remedy}".rstrip()
        for step in operation.steps
        if step.method in ("eject", "insert") and step.state == "failed" and step.error
    ]


def _next_steps(operation: OperationView) -> list[str]:
    """What a person may do about the hosts of an operation that did not succeed."""
    if operation.state not in ("failed", "cancelled"):
        return []
    hosts = " ".join(operation.hosts)
    if operation.kind == "enter":
        return [
            f"Enter again: furlough enter {hosts}",
            *(f"Or back into service: furlough host uncordon {one}" for one in operation.hosts),
        ]
    if operation.kind == "exit":
        return [f"See where it stands: furlough host show {one}" for one in operation.hosts]
    return []


def _row(name: str, host: str | None, outcome: str, step: StepView | None) -> tuple[object, ...]:
    if step is None:
        return (name, host, host, outcome, None, None)
    took = None if step.duration_s is None else f"{step.duration_s:.1f}"
    paused = None if step.downtime_ms is None else f"{step.downtime_ms} ms"
    return (name, step.source, host, outcome, took, paused)
