"""Learning what the links carry: which migrations share them now, and what each has moved.

One process drives all migrations, so it sees who shares a link with whom.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from furlough.core.bandwidth import TRICKLE_MIB_S
from furlough.core.estimate import rate_mib_s
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory
from furlough.core.link_speed import LinkSpeed, Passage, shown_by
from furlough.core.timing import DOWNTIME_LIMIT_S, FINISH_S, SET_UP_S
from furlough.errors import FurloughError
from furlough.ports import Clock, MigrationReport, Store

log = structlog.get_logger()

# Enough passages to know whom the longest migration has met; older ones are forgotten.
_MOST = 1000


@dataclass(eq=False)
class Journey:
    """One call of the hypervisor. `freed_s`: when it got its links for itself, None while it waits
    at a trickle."""

    called_s: float
    passage: Passage
    freed_s: float | None = None


class LinkSpeeds:
    """What links carry: read from the store, and told to it when there is something new."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._journeys: list[Journey] = []
        self._set_up_s = SET_UP_S

    async def known(self) -> Mapping[tuple[HostName, HostName], LinkSpeed]:
        """By source and target."""
        return {(one.source, one.target): one for one in await self._store.link_speeds()}

    @contextmanager
    def watched(self, source: HostName, target: HostName, *, is_free: bool) -> Iterator[Journey]:
        """While a call of the hypervisor lasts, its memory is counted as on the way, but for the
        time of setting up, which is what the last one has taken. One that is not `is_free` waits
        at a trickle until it is `let_go`."""
        called_s = self._clock.monotonic()
        began_s = called_s + self._set_up_s
        passage = Passage(source=source, target=target, began_s=began_s if is_free else math.inf)
        journey = Journey(called_s=called_s, passage=passage, freed_s=called_s if is_free else None)
        self._journeys = [*self._journeys[-_MOST:], journey]
        try:
            yield journey
        finally:
            ended_s = max(began_s, self._clock.monotonic() - FINISH_S)
            journey.passage = replace(
                journey.passage, began_s=min(journey.passage.began_s, ended_s), ended_s=ended_s
            )

    def let_go(self, journey: Journey) -> None:
        """Now it has its links for itself."""
        if journey.freed_s is None:
            journey.freed_s = self._clock.monotonic()
            began_s = max(journey.freed_s, journey.called_s + self._set_up_s)
            journey.passage = replace(journey.passage, began_s=began_s)

    async def learn(self, journey: Journey, report: MigrationReport, inventory: Inventory) -> None:
        """Remember what a migration says of its links. What cannot be written is not learned."""
        speed = self._speed(journey, report, inventory)
        if speed is None:
            return
        try:
            await self._store.learn_link_speed(speed)
        except FurloughError as error:
            log.warning("link speed not learned", because=error.message)

    def _speed(
        self, journey: Journey, report: MigrationReport, inventory: Inventory
    ) -> LinkSpeed | None:
        if report.sent_mib is None or not report.copying_s:
            return None
        over, sent_mib = journey.passage, float(report.sent_mib)
        # Its last bytes went soon after its CPUs had stopped.
        ended_s = min(over.ended_s, (report.stopped_at or math.inf) + DOWNTIME_LIMIT_S)
        began_s = max(journey.called_s, ended_s - report.copying_s)
        if journey.freed_s is None:
            return None  # It was over before it had its links for itself.
        if journey.freed_s > began_s:
            sent_mib -= TRICKLE_MIB_S * (journey.freed_s - began_s)
            began_s = journey.freed_s
        else:
            self._set_up_s = began_s - journey.called_s
        passage = replace(over, began_s=began_s, ended_s=max(began_s, ended_s))
        # Now it is known exactly, for those that shared its links as well.
        journey.passage = passage
        others = [one.passage for one in self._journeys if one is not journey]
        rates = {host.name: rate_mib_s(host, host) for host in inventory.hosts}
        if not {passage.source, passage.target} <= rates.keys():
            return None  # One of them was removed meanwhile.
        return shown_by(sent_mib, passage, others, rates, self._clock.now())
