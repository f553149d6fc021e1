"""Operations: the list, and one page each with progress, timeline, steps, journal, and what a
person can say to it: approve, pause, resume, cancel with its three answers and what each costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from furlough.core.holding import unapproved
from furlough.core.hostlog import Level, log_lines
from furlough.core.ids import parse_host_name
from furlough.core.journal import Entry, OperationClaimed
from furlough.core.operation import Operation
from furlough.core.outlook import outlook
from furlough.core.plan import OperationKind, Plan
from furlough.core.policy import CancelMode
from furlough.core.states import OperationState, StepState
from furlough.errors import FurloughError, Invalid
from furlough.planning.homecoming import Return
from furlough.service import Approval
from furlough.ui.visit import Asked, Routes, go_to, listed
from furlough.wire.operations import StepView

_MOST = 1000
_STEPS_PER_PAGE = 100
_JOURNAL_LINES = 200


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """A step as its row shows it. `percent`: of the memory that it was expected to send."""

    view: StepView
    percent: int
    needs_approval: bool


@dataclass(frozen=True, kw_only=True)
class JournalRow:
    """An entry of the journal, and what it says about its host or VM where it says anything."""

    entry: Entry
    level: Level | None
    subject: str
    message: str


@dataclass(frozen=True, kw_only=True)
class CancelCost:
    """What the three answers to a cancel would come to now. `in_flight`: steps that are aborted or
    let finish; `left`: VMs that have left their host; `sent_bytes`: copied for those in flight and
    thrown away; `back`: the plan and who it is about, None where nobody can be put back, because of
    `trouble`."""

    in_flight: Sequence[StepView]
    left: Sequence[StepView]
    waiting: int
    sent_bytes: int
    low_s: float
    high_s: float
    back: tuple[Plan, tuple[Return, ...]] | None
    trouble: FurloughError | None


async def show_list(asked: Asked) -> Response:
    """Operations, newest first."""
    active, host = asked.said("active") == "yes", asked.said("host")
    name = parse_host_name(host) if host else None
    found = await asked.service.operations(active=active, host=name, limit=_MOST)
    page = listed(found, asked.page(), per_page=30)
    return asked.render(
        "operations",
        listing=page,
        views=[await asked.view(one) for one in page.items],
        is_cut=len(found) >= _MOST,
        active=active,
        host=host,
    )


async def show(asked: Asked) -> Response:
    """One operation."""
    # A daemon at rest carries no arrays: only who looks at pictures pays for them.
    from furlough.planning import live_pictures as drawing  # noqa: PLC0415

    operation = await asked.service.operation(asked.operation)
    view, entries = await asked.view(operation), await asked.service.journal(operation.id)
    held = {step.id for step in unapproved(operation)}
    rows = [_row(step, needs_approval=step.id in held) for step in view.steps]
    return asked.render(
        "operation",
        operation=view,
        is_final=operation.is_final,
        listing=listed(rows, asked.page(), per_page=_STEPS_PER_PAGE),
        counts=_counts(operation),
        held=len(held),
        may=_may(operation, has_held=bool(held)),
        options=operation.options,
        timeline_picture=drawing.timeline(operation, asked.service.now()),
        journal=_journal(operation, entries)[-_JOURNAL_LINES:][::-1],
        journal_total=len(entries),
        outcomes=_outcomes(view.vms),
    )


def _row(view: StepView, *, needs_approval: bool) -> StepRow:
    if view.state is StepState.SUCCEEDED:
        percent = 100
    elif view.progress is not None and view.expected_mib > 0:
        left = min(view.progress.remaining_mib, view.expected_mib)
        percent = min(99, 100 * (view.expected_mib - left) // view.expected_mib)
    else:
        percent = 0
    return StepRow(view=view, percent=percent, needs_approval=needs_approval)


def _counts(operation: Operation) -> dict[str, int]:
    """How many steps stand where."""
    return {
        state.value: sum(1 for step in operation.steps if step.state is state)
        for state in StepState
    }


def _outcomes(accounts: Sequence[object]) -> dict[str, int]:
    """How many VMs came to which outcome."""
    found: dict[str, int] = {}
    for one in accounts:
        outcome = str(getattr(one, "outcome", ""))
        found[outcome] = found.get(outcome, 0) + 1
    return found


def _may(operation: Operation, *, has_held: bool) -> frozenset[str]:
    """What can be said to an operation as it stands."""
    if operation.is_final:
        return frozenset()
    said = {"cancel"} if operation.state is not OperationState.CANCELLING else set()
    if operation.state in (OperationState.PAUSED, OperationState.BLOCKED):
        said.add("resume")
    if operation.state in (OperationState.RUNNING, OperationState.BLOCKED):
        said.add("pause")
    return frozenset(said | ({"approve"} if has_held else set()))


def _journal(operation: Operation, entries: Sequence[Entry]) -> list[JournalRow]:
    """Every entry; with the words of the host's log, where that has any for it."""
    return [_journal_row(operation, entry) for entry in entries]


def _journal_row(operation: Operation, entry: Entry) -> JournalRow:
    for host in operation.hosts:
        for line in log_lines(host, operation, [entry]):
            return JournalRow(
                entry=entry, level=line.level, subject=line.vm_name or host, message=line.message
            )
    number = getattr(entry.event, "step", None)
    if number is None:
        return JournalRow(entry=entry, level=None, subject="", message=_epoch(entry))
    planned = operation.step(number).planned
    method = planned.method.value.replace("_", " ")
    return JournalRow(
        entry=entry, level=None, subject=planned.vm_name or planned.host, message=method
    )


def _epoch(entry: Entry) -> str:
    """Under which epoch an operation was taken over, where this is what happened."""
    if not isinstance(entry.event, OperationClaimed):
        return ""
    return f"taken over under epoch {entry.event.epoch}"


# --- what a person says --------------------------------------------------------------------------


async def pause(asked: Asked) -> Response:
    """Start nothing new."""
    await asked.service.pause(asked.operation, asked.principal.name)
    return _back(asked)


async def resume(asked: Asked) -> Response:
    """Go on."""
    await asked.service.resume(asked.operation, asked.principal.name)
    return _back(asked)


async def approve(asked: Asked) -> Response:
    """Let steps start: those that were ticked, or all that wait."""
    everything = asked.said("all") == "yes"
    steps = () if everything else tuple(asked.fields.get("step", ()))
    if not everything and not steps:
        raise Invalid(
            "approval.nothing",
            "No step was ticked, so nothing was approved.",
            remedy="Tick the steps that may start, or approve all of them.",
        )
    approval = Approval(plan_hash=asked.said("plan_hash"), steps=steps)
    await asked.service.approve(asked.operation, approval, asked.principal.name)
    return _back(asked)


async def ask_cancel(asked: Asked) -> Response:
    """The three answers, and what each would come to now."""
    operation = await asked.service.operation(asked.operation)
    if operation.is_final:
        return _back(asked)
    return asked.render(
        "cancel", operation=await asked.view(operation), cost=await _cost(asked, operation)
    )


async def _cost(asked: Asked, operation: Operation) -> CancelCost:
    view = await asked.view(operation)
    flight = [one for one in view.steps if one.state is StepState.STARTED and one.vm_uuid]
    left = [
        one
        for one in view.steps
        if one.state is StepState.SUCCEEDED and one.vm_uuid and one.target != one.source
    ]
    seen = outlook(operation, asked.service.copied(operation), asked.service.now())
    back, trouble = None, None
    if operation.kind is OperationKind.ENTER:
        try:
            back = await asked.service.put_back_plan(operation.id)
        except FurloughError as error:
            trouble = error
    sent_mib = sum(one.progress.sent_mib for one in flight if one.progress is not None)
    return CancelCost(
        in_flight=flight,
        left=left,
        waiting=sum(1 for one in view.steps if one.state is StepState.PENDING and one.vm_uuid),
        sent_bytes=sent_mib * 2**20,
        low_s=seen.eta.low if seen.eta else 0.0,
        high_s=seen.eta.high if seen.eta else 0.0,
        back=back,
        trouble=trouble,
    )


async def cancel(asked: Asked) -> Response:
    """Stop it in the way that was chosen."""
    word = asked.said("mode")
    if word not in set(CancelMode):
        raise Invalid(
            "cancel.mode",
            "The form does not say how to cancel, so nothing was done.",
            remedy="Choose one of the three answers.",
        )
    await asked.service.cancel(asked.operation, CancelMode(word), asked.principal.name)
    return _back(asked)


def _back(asked: Asked) -> Response:
    return go_to(f"/operations/{asked.operation}")


ROUTES: Routes = {
    ("GET", "/operations"): show_list,
    ("GET", "/operations/{operation}"): show,
    ("GET", "/operations/{operation}/cancel"): ask_cancel,
    ("POST", "/operations/{operation}/cancel"): cancel,
    ("POST", "/operations/{operation}/pause"): pause,
    ("POST", "/operations/{operation}/resume"): resume,
    ("POST", "/operations/{operation}/approve"): approve,
}
