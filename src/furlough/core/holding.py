"""What holds steps of an entering back though their turn has come: an approval that is missing, or
a VM that cannot leave while the operation is to wait for it.

    automation manual   steps about VMs start once somebody has approved them
    on_failure wait     whoever has failed is waited for: nobody is stopped, and nothing is proven,
                        before it has left
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from furlough.core.operation import Operation, Step
from furlough.core.policy import Automation, EnterOptions, OnFailure
from furlough.core.states import OperationState, StepState

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Need:
    """What an operation as a whole waits for, as a code and in words."""

    code: str
    words: str


def needs_approval(operation: Operation) -> bool:
    """Whether its steps about VMs wait for somebody's approval."""
    options = operation.options
    return isinstance(options, EnterOptions) and options.automation is Automation.MANUAL


def waits_for_failed(operation: Operation) -> bool:
    """Whether it waits for a VM that cannot leave, instead of giving up."""
    options = operation.options
    if operation.state is OperationState.CANCELLING:
        return False
    return isinstance(options, EnterOptions) and options.on_failure is OnFailure.WAIT


def unapproved(operation: Operation) -> tuple[Step, ...]:
    """The steps that somebody has yet to approve."""
    if not needs_approval(operation):
        return ()
    known = set(operation.approved)
    return tuple(
        step
        for step in operation.steps
        if step.planned.vm is not None and not step.is_final and step.number not in known
    )


def stranded(operation: Operation) -> tuple[Step, ...]:
    """The steps that have failed and that the operation waits for."""
    if not waits_for_failed(operation):
        return ()
    return tuple(step for step in operation.steps if has_failed(step) and step.planned.vm)


def has_failed(step: Step) -> bool:
    """Whether a step has failed and nothing has overtaken it."""
    return step.state is StepState.FAILED and not step.is_overtaken


def allowed(ready: Iterable[Step], operation: Operation) -> list[Step]:
    """Of the steps whose turn has come: those that nobody has to approve any more."""
    held = {step.number for step in unapproved(operation)}
    return [step for step in ready if step.number not in held]


def need_of(operation: Operation, ready: Sequence[Step]) -> Need | None:
    """What the operation waits for where the turn of these steps has come."""
    held = {step.number for step in unapproved(operation)}
    asking = [step for step in ready if step.number in held]
    if asking:
        return _approval_of(operation, unapproved(operation))
    failed = stranded(operation)
    return _departure_of(operation, failed) if failed else None


def _approval_of(operation: Operation, steps: Sequence[Step]) -> Need:
    digest = operation.plan.hash
    names = _some([step.planned.vm_name for step in steps])
    return Need(
        code="awaiting_approval",
        words=f"a person to approve {len(steps)} step(s) of plan {digest[:12]} ({names}): "
        f"furlough operation approve {operation.id} --hash {digest}",
    )


def _departure_of(operation: Operation, steps: Sequence[Step]) -> Need:
    told = "; ".join(
        f"{step.planned.vm_name} on {step.planned.host}: {_why(step)}" for step in steps
    )
    return Need(
        code="vm.cannot_leave",
        words=f"VM(s) that cannot leave: {told}. It is tried again when something about them or "
        f"their targets changes, or now: furlough operation resume {operation.id}",
    )


def _why(step: Step) -> str:
    return step.failure.message.rstrip(".") if step.failure is not None else "it failed"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
