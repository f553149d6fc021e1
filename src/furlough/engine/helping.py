"""Watching a migration that copies, and helping it to its end: the ladder of `core.convergence`.

Each rung is written before it is made. One that the hypervisor refuses is made no second time
where it cannot help any more; what became of the migration is found by looking, as always.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog

from furlough.core.convergence import (
    USUAL_LIMIT_MS,
    Course,
    Rung,
    Sample,
    Terms,
    first_limit_ms,
    noted,
    rung,
    silence,
)
from furlough.core.ids import HostName, VmId
from furlough.core.looks import Job, Presence
from furlough.core.operation import Act, Failure
from furlough.core.vm_policy import VmPolicy
from furlough.engine.traffic import Lane
from furlough.engine.work import Work
from furlough.errors import Conflict, FurloughError, Refused
from furlough.ports import Progress

log = structlog.get_logger()

_MOST_REFUSALS = 3
_KEEPS_LINK = frozenset({Act.RAISE_DOWNTIME_LIMIT, Act.START_POST_COPY, Act.PAUSE_SOURCE})


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Whose migration it is, out of which host, what it is expected to send, what its owner
    allows, and how it was begun."""

    vm: VmId
    source: HostName
    sends_mib: float
    policy: VmPolicy
    may_post_copy: bool


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How help speaks: `announce` makes an act durable before it is made; `acts` are those made so
    far; `show` is given the progress, for whoever follows it; `wait` says what is being waited for
    (code and words; without a code: for nothing any more)."""

    announce: Callable[[Act, HostName, str], Awaitable[None]]
    acts: Callable[[], frozenset[Act]]
    show: Callable[[Progress], None]
    wait: Callable[[str, str], Awaitable[None]]


class Helper:
    """Helps one migration while it lasts. `gave_up`: why it was ended, if it was; `throttled`: by
    how many percent its CPUs were slowed at most."""

    def __init__(self, work: Work, patient: Patient, voice: Voice, lane: Lane) -> None:
        self.gave_up: Failure | None = None
        self.throttled = 0
        self._work = work
        self._patient = patient
        self._voice = voice
        self._lane = lane
        self._limit_ms = USUAL_LIMIT_MS
        self._course: Course | None = None
        self._was_free = False
        self._silence = ""
        self._refused: dict[Act, int] = {}
        # Who counts the milliseconds of its pause shares no link in them.
        is_counted = patient.policy.downtime_budget_ms is not None
        lane.keeps_link = is_counted or not voice.acts().isdisjoint(_KEEPS_LINK)

    @asynccontextmanager
    async def at_hand(self) -> AsyncIterator[None]:
        """Watch and help while the block lasts."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(self) -> None:
        clock, pace = self._work.clock, self._work.pace
        while True:
            await clock.sleep(pace.progress_s)
            try:
                progress = await self._work.hypervisor.progress(
                    self._patient.source, self._patient.vm
                )
                if progress is not None:
                    self._work.traffic.note_left(self._lane, self._left_mib(progress))
                    self._voice.show(progress)
                    await self._consider(progress)
            except Conflict:
                return  # Its outcome came first: there is nothing left to help.
            except FurloughError as error:
                # The settling notices a silent host; what came of a rung, the next look.
                log.info("no help for a migration", vm=self._patient.vm, because=error.message)

    async def _consider(self, progress: Progress) -> None:
        """One look: whether it comes to its end, and what helps if not."""
        self.throttled = max(self.throttled, progress.throttle_percent)
        await self._insist(self._voice.acts())
        await self._set_first_limit()
        if self._lane.is_free and not self._was_free:
            self._course = None  # In the shadow it was slow because it was told to be.
        self._was_free = self._lane.is_free
        self._course = noted(self._course, self._sample(progress))
        await self._tell(silence(self._course, self._terms()))
        found = rung(self._course, self._terms())
        if found is not None and (self._was_free or found.code == "migration.stalled"):
            await self._make(found)

    def _left_mib(self, progress: Progress) -> float:
        """What it has to send yet, at least: pages without contents count as remaining and are
        not sent, so what was expected to be sent says it as well."""
        expected_mib = max(0.0, self._patient.sends_mib - progress.sent_mib)
        return min(progress.remaining_mib, expected_mib)

    async def _tell(self, words: str) -> None:
        """What it waits for, where that is another thing than before."""
        if words == self._silence:
            return
        self._silence = words
        if words:
            await self._wait("migration.postcopy_silent", words)
        else:
            await self._wait("", "")

    async def _wait(self, code: str, words: str) -> None:
        await self._voice.wait(code, words)

    def _sample(self, progress: Progress) -> Sample:
        return Sample(
            at_s=self._work.clock.monotonic(),
            rounds=progress.rounds,
            remaining_mib=progress.remaining_mib,
            sent_mib=progress.sent_mib,
            throttle_percent=progress.throttle_percent,
        )

    def _terms(self) -> Terms:
        return Terms(
            policy=self._patient.policy,
            limit_ms=self._limit_ms,
            may_post_copy=self._patient.may_post_copy
            and self._refused.get(Act.START_POST_COPY, 0) < _MOST_REFUSALS,
            stall_s=self._work.pace.stall_s,
            acts=self._voice.acts() - self._in_vain,
        )

    @property
    def _in_vain(self) -> frozenset[Act]:
        """What the hypervisor has refused so often that it counts as never done."""
        return frozenset(act for act, times in self._refused.items() if times >= _MOST_REFUSALS)

    async def _set_first_limit(self) -> None:
        """An owner who accepts less than is usual."""
        first = first_limit_ms(self._patient.policy)
        if first < self._limit_ms and Act.RAISE_DOWNTIME_LIMIT not in self._voice.acts():
            await self._work.hypervisor.set_downtime_limit(
                self._patient.source, self._patient.vm, first
            )
            self._limit_ms = first

    async def _make(self, found: Rung) -> None:
        """Write the rung, then make it."""
        await self._voice.announce(found.act, self._patient.source, found.why)
        if found.act is Act.ABORT:
            self.gave_up = Failure(
                code=found.code, message=f"It was stopped: {found.why}.", remedy=found.remedy
            )
        # Much of its memory is still to come then: the next one has to wait until that is over.
        self._lane.keeps_link = self._lane.keeps_link or found.act in _KEEPS_LINK
        if found.act is Act.RAISE_DOWNTIME_LIMIT:
            await self._work.hypervisor.set_downtime_limit(
                self._patient.source, self._patient.vm, found.limit_ms
            )
            self._limit_ms = found.limit_ms
        else:
            await self._carry_out(found.act)

    async def _insist(self, acts: frozenset[Act]) -> None:
        """Make again what was announced and is not seen: the call got lost, or whoever announced
        it died before it."""
        for act in (Act.ABORT, Act.START_POST_COPY, Act.PAUSE_SOURCE):
            if act not in acts or self._refused.get(act, 0) >= _MOST_REFUSALS:
                continue
            look = await self._work.hypervisor.look(self._patient.source, self._patient.vm)
            runs = look.presence is Presence.RUNNING
            if look.job is Job.OUTGOING and (runs or act is Act.ABORT):
                await self._carry_out(act)

    async def _carry_out(self, act: Act) -> None:
        source, vm, hypervisor = self._patient.source, self._patient.vm, self._work.hypervisor
        try:
            if act is Act.ABORT:
                await hypervisor.abort(source, vm)
                return
            if act is Act.START_POST_COPY:
                await hypervisor.start_post_copy(source, vm)
            else:
                await hypervisor.suspend(source, vm)
        except Refused as refusal:
            self._refused[act] = self._refused.get(act, 0) + 1
            log.warning("no help", vm=vm, act=act.value, because=refusal.message)
