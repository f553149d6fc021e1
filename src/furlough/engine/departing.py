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
    """A step that may start, and, where it is a live migration, what that takes. `flow` is asked
    for only once it has a slot: of a thousand that wait, few have."""

    step: Step
    flight: Flight | None = None
    flow: Callable[[], Flow | None] = lambda: None


@dataclass(kw_only=True)
class Departures:
    """`flying`, `begun`: the migrations of this operation that are to begin or have begun;
    `outlook`: what links will have for one more, beside these and those of other operations;
    `ahead`: those of older operations that wait for a slot. The store has the last word on slots,
    since it knows the flights of all operations. What comes of it besides: `unable`, who could not
    begin whatever others wait for, and `yielding`, who leaves its slot to an older operation;
    `full`: hosts that nobody else can leave now."""

    limits: Mapping[ClusterName, Limits]
    outlook: Callable[[Sequence[Flow]], Outlook]
    flying: list[Flight]
    begun: list[Flow]
    ahead: Sequence[Flight] = ()
    unable: list[Step] = field(default_factory=list)
    yielding: list[Step] = field(default_factory=list)
    full: set[HostName] = field(default_factory=set)
    _now: Outlook | None = None

    def chosen(self, candidates: Iterable[Candidate]) -> list[Step]:
        """Those of these that start now. They are taken one by one, so whoever gives them may
        leave out what is to leave a `full` host: hundreds may wait there."""
        found, held_up = [], []
        for one in candidates:
            if one.flight is None:
                found.append(one.step)
            elif self._has_slot(one.step, one.flight):
                flow = one.flow()
                if flow is not None and self._links.is_held_up(flow):
                    held_up.append((one.step, one.flight, flow))
                elif self._has_use(one.step, flow):
                    found.append(self._begin(one.step, one.flight, flow))
        for step, flight, flow in held_up:
            if self._has_slot(step, flight) and self._has_use(step, flow):
                found.append(self._begin(step, flight, flow))
        return found

    def _has_use(self, step: Step, flow: Flow | None) -> bool:
        if flow is None or self._links.has_use_for(flow):
            return True
        self.unable.append(step)
        return False

    def _has_slot(self, step: Step, flight: Flight) -> bool:
        if not has_slot(flight, self.flying, self.limits):
            self.unable.append(step)
            if is_full(flight.source, self.flying, self.limits.get(flight.cluster, Limits())):
                self.full.add(flight.source)
            return False
        if self.ahead and not has_slot(flight, [*self.flying, *self.ahead], self.limits):
            self.yielding.append(step)
            return False
        return True

    @property
    def _links(self) -> Outlook:
        if self._now is None:
            self._now = self.outlook(self.begun)
        return self._now

    def _begin(self, step: Step, flight: Flight, flow: Flow | None) -> Step:
        self.flying.append(flight)
        if flow is not None:
            self.begun.append(flow)
            self._now = None
        return step
