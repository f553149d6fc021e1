"""Whose turn it is where slots are short: of several operations the oldest one (F104).

The store grants a slot to whoever asks first while one is free. A runner whose own migration has
just ended asks at once, so without a queue it would keep a target's only slot for all of its VMs,
however long an older operation has been waiting. One process drives all operations, so this needs
to be neither durable nor exact: who was refused a slot is written down here for a moment, and
younger operations leave as many slots free. Whoever cannot use a slot has not asked for one, and
keeps nobody waiting.
"""

from __future__ import annotations

from dataclasses import dataclass

from furlough.core.admission import Flight
from furlough.core.ids import OperationId, StepId, operation_number


@dataclass(frozen=True, kw_only=True)
class _Wish:
    operation: OperationId
    flight: Flight
    until_s: float


class SlotQueue:
    """Migrations that were refused a slot a moment ago, of all operations of this process."""

    def __init__(self) -> None:
        self._wishes: dict[StepId, _Wish] = {}

    def wait(self, operation: OperationId, step: StepId, flight: Flight, *, until_s: float) -> None:
        """This migration would start if it had a slot; forgotten at `until_s` (monotonic) unless
        said again."""
        self._wishes[step] = _Wish(operation=operation, flight=flight, until_s=until_s)

    def leave(self, step: StepId) -> None:
        """It has its slot, or wants none any more."""
        self._wishes.pop(step, None)

    def before(self, operation: OperationId, now_s: float) -> list[Flight]:
        """The migrations of older operations that wait for a slot at `now_s` (monotonic)."""
        self._wishes = {step: one for step, one in self._wishes.items() if one.until_s > now_s}
        return [
            one.flight
            for one in self._wishes.values()
            if operation_number(one.operation) < operation_number(operation)
        ]
