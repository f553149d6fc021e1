"""The watch over hosts that are to stay empty: sees within seconds what is not as we left it.

Every host is looked at on its own, so one that hangs delays no other. What is seen is shown with
the host, told to the log, and kept in the store: a restart forgets nothing and tells nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import structlog

from furlough.core.drift import (
    PERSON,
    Held,
    HostNote,
    Sight,
    Trouble,
    intruders,
    notes_between,
    opened_by,
    still_open,
    troubles,
)
from furlough.core.hostlog import Level
from furlough.core.ids import HostName
from furlough.core.inventory import Intruder
from furlough.core.states import HostMode
from furlough.errors import FurloughError, Refused, Unreachable
from furlough.ports import Clock, HostFacts, Hypervisor, Marker, Store

log = structlog.get_logger()

_NO_PROGRAM = "furlough-host does not answer"


class Eyes(Protocol):
    """Who asks hosts for facts."""

    def facts_known(self, host: HostName) -> HostFacts | None:
        """The newest facts, None where the host is silent."""

    async def facts_now(self, host: HostName) -> HostFacts | None:
        """The same, asked for now."""


class Watch:
    """Looks at hosts in maintenance every `interval_s`, and for people who keep a host empty."""

    def __init__(
        self, hypervisor: Hypervisor, store: Store, clock: Clock, eyes: Eyes, interval_s: float
    ) -> None:
        self._hypervisor = hypervisor
        self._store = store
        self._clock = clock
        self._eyes = eyes
        self._interval_s = interval_s
        self._controller = ""
        self._open: dict[HostName, dict[Trouble, datetime]] = {}
        self._noted: dict[HostName, dict[Trouble, datetime]] | None = None
        self._looking: set[HostName] = set()

    def intruders(self, host: HostName) -> tuple[Intruder, ...]:
        """What violates the maintenance of a host, the oldest first."""
        return intruders(self._open.get(host, {}))

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    await self._begin_looks(tasks)
                except FurloughError as error:
                    log.warning("hosts not watched", because=error.message)
                await self._clock.sleep(self._interval_s)

    async def _begin_looks(self, tasks: asyncio.TaskGroup) -> None:
        """A look at every host of interest that no look is at already."""
        noted = self._noted if self._noted is not None else await self._read_back()
        for host, standing in (await self._store.standings()).items():
            if host in self._looking or not self._is_of_interest(host, standing.mode, noted):
                continue
            self._looking.add(host)
            tasks.create_task(self._look(host, standing.mode, noted))

    async def _read_back(self) -> dict[HostName, dict[Trouble, datetime]]:
        """What lasted when the process before us ended."""
        self._controller = await self._store.controller_id()
        self._noted = opened_by(await self._store.open_notes())
        self._open = {host: dict(known) for host, known in self._noted.items()}
        return self._noted

    def _is_of_interest(
        self, host: HostName, mode: HostMode, noted: Mapping[HostName, object]
    ) -> bool:
        if mode is HostMode.MAINTENANCE or self._open.get(host) or noted.get(host):
            return True
        facts = self._eyes.facts_known(host)
        return facts is not None and facts.marker is not None and _is_persons(facts.marker)

    async def _look(
        self, host: HostName, mode: HostMode, noted: dict[HostName, dict[Trouble, datetime]]
    ) -> None:
        """One look at one host; whatever goes wrong in it, the others are looked at."""
        try:
            sight = await self._sight_of(host, mode)
            if sight is not None:
                await self._take_in(host, sight, noted)
        except Exception as error:  # noqa: BLE001  # see above
            log.warning("host not watched", host=host, because=str(error) or repr(error))
        finally:
            self._looking.discard(host)

    async def _sight_of(self, host: HostName, mode: HostMode) -> Sight | None:
        """What is to be seen there; None where it is silent, or changed its mode meanwhile."""
        if mode is not HostMode.MAINTENANCE:
            facts = self._eyes.facts_known(host)
            return None if facts is None else Sight(mode=mode, held=held_of(facts.marker))
        facts = await self._eyes.facts_now(host)
        if facts is None:
            return None
        try:
            seen = await self._hypervisor.occupancy(host)
        except (Unreachable, Refused):
            sight = Sight(
                mode=mode,
                active=tuple(vm for vm in facts.vms if vm.is_active),
                guard_trouble=_NO_PROGRAM,
                is_whole=False,
            )
        else:
            sight = Sight(
                mode=mode,
                active=seen.active,
                processes=seen.processes,
                held=held_of(seen.marker),
                guard_trouble=facts.guard_trouble,
            )
        # An exit that began meanwhile brings VMs that may be there.
        standing = (await self._store.standings()).get(host)
        return sight if standing is not None and standing.mode is mode else None

    async def _take_in(
        self, host: HostName, sight: Sight, noted: dict[HostName, dict[Trouble, datetime]]
    ) -> None:
        """Show what was seen, tell the log, and keep it; what the store could not keep is told
        to it again after the next look."""
        now = self._clock.now()
        before = self._open.get(host, {})
        after = still_open(before, sight, troubles(sight, self._controller), now)
        self._open[host] = after
        for note in notes_between(host, before, after, now):
            _tell(note)
        notes = notes_between(host, noted.get(host, {}), after, now)
        if notes:
            await self._store.note_host(notes)
            noted[host] = dict(after)


def held_of(marker: Marker | None) -> Held | None:
    """Whose marker it is, and since when."""
    if marker is None:
        return None
    return Held(controller=marker.controller, since=marker.raised_at)


def _is_persons(marker: Marker) -> bool:
    return marker.controller == PERSON


def _tell(note: HostNote) -> None:
    tell = {Level.ERROR: log.error, Level.WARNING: log.warning}.get(note.level, log.info)
    tell(note.message, host=note.host, code=note.code, since=note.at.isoformat())
