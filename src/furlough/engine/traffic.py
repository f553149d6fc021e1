"""Who of the migrations in flight has the links: what `core.bandwidth` decides, carried out.

One process drives all migrations, so it sees who shares a link with whom. Speeds only rise: a
later migration begins at a trickle and is let go when those before it have left it the link, which
is when their CPUs stop (an event) or when they are over. One that a dead process of ours has left
is taken in as it is and let go in its turn; none stays at a trickle.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace

from furlough.core.bandwidth import (
    NO_LIMIT,
    Flow,
    Outlook,
    is_near_its_end,
    outlook,
    speeds,
)
from furlough.core.ids import HostName
from furlough.errors import FurloughError
from furlough.ports import Clock, Hypervisor

# Until its memory is being copied, a migration cannot be told anything.
_AGAIN_S = 0.05
# What it takes on a link that is full, until that has been seen.
_SET_UP_S = 1.5


@dataclass(eq=False)
class Lane:
    """One migration's place. `told_mib_s`: the limit that holds for it, None where nobody knows;
    `keeps_link`: also when its CPUs stop on the source, since most is still to be sent then;
    `on_free`: called when those before it have left it the link; `called_s`: when it was begun
    beside others, while it is being set up."""

    flow: Flow
    told_mib_s: int | None
    keeps_link: bool = False
    on_free: Callable[[], None] = lambda: None
    called_s: float | None = None
    wanted_mib_s: int = NO_LIMIT
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_free(self) -> bool:
        """Whether nobody is before it: it sends as fast as it can."""
        return self.told_mib_s == NO_LIMIT

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to tell: it has what it is to have, or more."""
        if self.wanted_mib_s == NO_LIMIT:
            return self.told_mib_s == NO_LIMIT
        return (
            self.told_mib_s is None
            or self.told_mib_s == NO_LIMIT
            or self.wanted_mib_s <= self.told_mib_s
        )


class Traffic:
    """The lanes of all migrations that this process drives, in the order in which they began."""

    def __init__(self, hypervisor: Hypervisor, clock: Clock) -> None:
        self._hypervisor = hypervisor
        self._clock = clock
        self._lanes: list[Lane] = []
        self._link_mib_s: dict[HostName, float] = {}
        self._waiting: list[asyncio.Event] = []
        self._set_up_s = _SET_UP_S

    @contextmanager
    def told_to(self, wanted: asyncio.Event) -> Iterator[None]:
        """Set this event whenever a link is or soon will be free for others, until the block
        ends."""
        self._waiting.append(wanted)
        try:
            yield
        finally:
            self._waiting.remove(wanted)

    def know(self, link_mib_s: Mapping[HostName, float]) -> None:
        """What the links of these hosts carry, each way."""
        self._link_mib_s.update(link_mib_s)

    def outlook(self, begun: Sequence[Flow]) -> Outlook:
        """What the links will have for one more in a moment. `begun`: those that are to begin or
        have begun, and have no lane yet."""
        placed = {one.flow.vm for one in self._lanes}
        soon = [one for one in begun if one.vm not in placed and self.knows(one)]
        flows = [*(one.flow for one in self._lanes), *soon]
        return outlook(flows, self._link_mib_s, self._set_up_s)

    def knows(self, flow: Flow) -> bool:
        """Whether it is known what its links carry."""
        return {flow.source, flow.target} <= self._link_mib_s.keys()

    @asynccontextmanager
    async def lane(
        self, flow: Flow, link_mib_s: Mapping[HostName, float], *, is_begun: bool
    ) -> AsyncIterator[Lane]:
        """A place for a migration, until it is over. `told_mib_s` of it is what it has to begin
        with; `is_begun`: it has begun already, at a speed that nobody knows."""
        self.know(link_mib_s)
        lane = Lane(flow=flow, told_mib_s=None)
        self._lanes.append(lane)
        self._share_out()
        if not is_begun:
            lane.told_mib_s = lane.wanted_mib_s
            # Beside others it takes longer: what hosts say to each other waits for the same link.
            lane.called_s = None if lane.is_free else self._clock.monotonic()
        tasks = [
            asyncio.create_task(self._keep_told(lane)),
            asyncio.create_task(self._listen(lane)),
        ]
        try:
            yield lane
        finally:
            for task in tasks:
                task.cancel()
            self._lanes.remove(lane)
            self._share_out()

    def note_left(self, lane: Lane, left_mib: float) -> None:
        """So much it has to send yet, if its guest wrote nothing more; told from when on its
        memory is copied."""
        if lane.called_s is not None:
            took_s = self._clock.monotonic() - lane.called_s
            # Up at once, down by and by: one that comes too late leaves its link idle.
            self._set_up_s = max(took_s, (self._set_up_s + took_s) / 2)
            lane.called_s = None
        was_near = is_near_its_end(lane.flow, self._link_mib_s, self._set_up_s)
        lane.flow = replace(lane.flow, left_mib=left_mib)
        is_near = is_near_its_end(lane.flow, self._link_mib_s, self._set_up_s)
        if is_near and not was_near and not lane.flow.is_past:
            self._tell()

    def leave_link(self, lane: Lane) -> None:
        """Nothing but its last bytes, if at all, goes over its links any more."""
        lane.flow = replace(lane.flow, is_past=True)
        self._share_out()
        self._tell()

    def _tell(self) -> None:
        for one in self._waiting:
            one.set()

    def _share_out(self) -> None:
        wanted = speeds([one.flow for one in self._lanes], self._link_mib_s)
        for lane in self._lanes:
            lane.wanted_mib_s = wanted[lane.flow.vm]
            if not lane.is_settled:
                lane.changed.set()

    async def _keep_told(self, lane: Lane) -> None:
        """Tell the hypervisor what a migration may send, until it has taken it."""
        flow = lane.flow
        while True:
            lane.changed.clear()
            wanted = lane.wanted_mib_s
            if lane.is_settled:
                await lane.changed.wait()
                continue
            try:
                await self._hypervisor.set_speed(flow.source, flow.vm, wanted)
            except FurloughError:
                await self._clock.sleep(_AGAIN_S)
            else:
                lane.told_mib_s = wanted
                if lane.is_free:
                    lane.on_free()

    async def _listen(self, lane: Lane) -> None:
        """The link is the next one's as soon as the CPUs stop; the call ends a while later."""
        with suppress(FurloughError):
            await self._hypervisor.until_stopped(lane.flow.source, lane.flow.vm)
            if not lane.keeps_link:
                self.leave_link(lane)
