"""Which migrations begin now: as far as slots, links and the order of the plan let them.

In the order of the plan, but first those that nobody slows down at their target: who leaves a busy
host had better go where the link is free. Beyond what links have a
use for, none is begun: it would wait, and write its pages again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from furlough.core.admission import Flight, has_slot, is_full
from furlough.core.bandwidth import Flow, Outlook
from furlough.core.ids import ClusterName, HostName
from furlough.core.operation import Step
from furlough.core.policy import Limits


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A step that may start, and, where it is a live migration, what that takes."""

    step: Step
    flight: Flight | None = None
    flow: Flow | None = None


@dataclass(kw_only=True)
class Departures:
    """`flying`, `begun`: the migrations of this operation that are to begin or have begun;
    `outlook`: what links will have for one more, beside these and those of other operations;
    `ahead`: those of older operations that wait for a slot. The store has the last word on slots,
    since it knows the flights of all operations. What comes of it besides: `unable`, who could not
    begin whatever others wait for, and `yielding`, who leaves its slot to an older operation."""

    limits: Mapping[ClusterName, Limits]
    outlook: Callable[[Sequence[Flow]], Outlook]
    flying: list[Flight]
    begun: list[Flow]
    ahead: Sequence[Flight] = ()
    unable: list[Step] = field(default_factory=list)
    yielding: list[Step] = field(default_factory=list)
    _full: set[HostName] = field(default_factory=set)
    _now: Outlook | None = None

    def chosen(self, candidates: Iterable[Candidate]) -> list[Step]:
        """Those of these that start now."""
        found, held_up = [], []
        for one in candidates:
            if one.flight is None:
                found.append(one.step)
            elif self._may_begin(one, one.flight):
                if one.flow is not None and self._links.is_held_up(one.flow):
                    held_up.append((one, one.flight))
                else:
                    found.append(self._begin(one, one.flight))
        for one, flight in held_up:
            if self._may_begin(one, flight):
                found.append(self._begin(one, flight))
        return found

    def _may_begin(self, one: Candidate, flight: Flight) -> bool:
        has_use = one.flow is None or self._links.has_use_for(one.flow)
        if not self._has_slot(flight) or not has_use:
            self.unable.append(one.step)
            return False
        if self.ahead and not has_slot(flight, [*self.flying, *self.ahead], self.limits):
            self.yielding.append(one.step)
            return False
        return True

    def _has_slot(self, flight: Flight) -> bool:
        if flight.source in self._full:
            return False  # Hundreds may wait behind one source: it is counted once.
        if has_slot(flight, self.flying, self.limits):
            return True
        if is_full(flight.source, self.flying, self.limits.get(flight.cluster, Limits())):
            self._full.add(flight.source)
        return False

    @property
    def _links(self) -> Outlook:
        if self._now is None:
            self._now = self.outlook(self.begun)
        return self._now

    def _begin(self, one: Candidate, flight: Flight) -> Step:
        self.flying.append(flight)
        if one.flow is not None:
            self.begun.append(one.flow)
            self._now = None
        return one.step
