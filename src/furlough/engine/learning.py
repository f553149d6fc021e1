"""Learning what the links carry: which migrations share them now, and what each has moved.

One process drives all migrations, so it sees who shares a link with whom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from furlough.core.estimate import FINISH_S, SET_UP_S, rate_mib_s
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory
from furlough.core.link_speed import LinkSpeed, Passage, shown_by
from furlough.errors import FurloughError
from furlough.ports import Clock, MigrationReport, Store

log = structlog.get_logger()

# Enough passages to know whom the longest migration has met; older ones are forgotten.
_MOST = 1000


@dataclass(eq=False)
class Journey:
    """One call of the hypervisor."""

    called_s: float
    passage: Passage


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
    def watched(self, source: HostName, target: HostName) -> Iterator[Journey]:
        """While a call of the hypervisor lasts, its memory is counted as on the way, but for the
        time of setting up, which is what the last one has taken."""
        called_s = self._clock.monotonic()
        began_s = called_s + self._set_up_s
        passage = Passage(source=source, target=target, began_s=began_s)
        journey = Journey(called_s=called_s, passage=passage)
        self._journeys = [*self._journeys[-_MOST:], journey]
        try:
            yield journey
        finally:
            ended_s = max(began_s, self._clock.monotonic() - FINISH_S)
            journey.passage = replace(journey.passage, ended_s=ended_s)

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
        over = journey.passage
        passage = replace(over, began_s=max(journey.called_s, over.ended_s - report.copying_s))
        # Now it is known exactly, for those that shared its links as well.
        journey.passage = passage
        self._set_up_s = passage.began_s - journey.called_s
        others = [one.passage for one in self._journeys if one is not journey]
        rates = {host.name: rate_mib_s(host, host) for host in inventory.hosts}
        if not {passage.source, passage.target} <= rates.keys():
            return None  # One of them was removed meanwhile.
        return shown_by(report.sent_mib, passage, others, rates, self._clock.now())
