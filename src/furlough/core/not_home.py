"""Who is not home at the end of an exit or a restore, and why: the closing list.

has a step that ended at its home      -> home
has steps, none of which came through  -> not home, for the reason of the last one
was left where it is by the plan       -> not home, for the plan's reason, unless brought later
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from furlough.core.ids import HostName, VmId
from furlough.core.operation import Operation, Outcome, Step
from furlough.core.plan import Method, OperationKind, WhyStays
from furlough.core.states import StepState

# Operations that bring VMs home, and the steps that do so.
RETURNS = frozenset({OperationKind.EXIT, OperationKind.RESTORE})
RETURN_STEPS = frozenset({Method.LIVE, Method.COLD, Method.START})
# In the ending's one sentence; all of them are in the operation itself.
_MOST_NAMED = 5
# What others did to a VM before its turn came.
_DECIDED_BY_OTHERS = {
    Outcome.CHANGED_BY_OTHERS: WhyStays.LET_GO,
    Outcome.STOPPED_BY_GUEST: WhyStays.POSTPONED,
}


@dataclass(frozen=True, kw_only=True)
class NotHome:
    """A VM that is not home, or not running again. `why` is a sentence without its stop; `stays`
    says what follows; `host`: whose exit or restore brings it back."""

    vm: VmId
    name: str
    host: HostName
    why: str
    stays: WhyStays


def not_home(operation: Operation) -> tuple[NotHome, ...]:
    """Everybody of the record whom an operation of `RETURNS` has not brought home so far."""
    return tuple(_found(operation)) if operation.kind in RETURNS else ()


def is_incomplete(operation: Operation) -> bool:
    """Whether somebody is left who was meant to come home."""
    return any(one.stays is WhyStays.HINDERED for one in not_home(operation))


def return_steps(operation: Operation) -> dict[VmId, list[Step]]:
    """The steps that bring each VM home, in their order."""
    found: dict[VmId, list[Step]] = {}
    for step in operation.steps:
        if step.planned.vm is not None and step.method in RETURN_STEPS:
            found.setdefault(step.planned.vm, []).append(step)
    return found


def has_arrived(steps: Sequence[Step]) -> bool:
    """Whether one of these has brought its VM to its home, not only to a place on the way, or has
    found it there."""
    return any(
        step.where == step.planned.host
        and (step.state is StepState.SUCCEEDED or step.outcome is Outcome.CHANGED_BY_OTHERS)
        for step in steps
    )


def closing_list(operation: Operation) -> str:
    """The list in a sentence; empty if everybody is home. Where a person has closed a record: who
    was on it."""
    if operation.kind is OperationKind.CLOSE_RECORD:
        return f"Off the record: {', '.join(one.vm_name for one in operation.plan.unplaced)}."
    left = not_home(operation)
    if not left:
        return ""
    named = "; ".join(f"{one.name} ({one.why})" for one in left[:_MOST_NAMED])
    more = f"; and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
    return f"Not home: {named}{more}."


def _found(operation: Operation) -> Iterator[NotHome]:
    by_vm = return_steps(operation)
    for vm, steps in by_vm.items():
        if not has_arrived(steps):
            last = steps[-1]
            yield NotHome(
                vm=vm,
                name=last.planned.vm_name,
                host=last.planned.host,
                why=_reason(last),
                stays=_DECIDED_BY_OTHERS.get(last.outcome, WhyStays.HINDERED),
            )
    for left in operation.plan.unplaced:
        if left.vm not in by_vm:
            yield NotHome(
                vm=left.vm,
                name=left.vm_name,
                host=next(iter(left.reasons)),
                why=left.words,
                stays=left.why,
            )


def _reason(step: Step) -> str:
    """Why a step did not come through, or that it has not yet."""
    if step.failure is not None:
        return step.failure.message.rstrip(".")
    return "; ".join(step.notes).rstrip(".") or "its turn has not come yet"
