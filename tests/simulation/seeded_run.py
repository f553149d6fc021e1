"""One run of the whole service in random weather, all of it drawn from one seed.

One to three operations at once on a cluster whose every call to hosts and store may be lost, late,
refused or slow; hosts, daemons and links break; people, guests and other programs do what they
like; our own process is killed or frozen, and another one takes over; somebody sets the clock. Then
the faults stop, and everything has to come to an end.

What must be true is asked all the time by `scenario.invariants`. A run in which fewer than three
faults fired, or none while a migration was in flight, proves little and is void.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import structlog

from furlough.core.ids import HostName, OperationId
from furlough.core.operation import Outcome
from furlough.core.plan import OperationKind
from furlough.core.policy import (
    ActionOptions,
    CancelMode,
)
from furlough.core.states import HostMode
from furlough.errors import FurloughError
from furlough.ports import IdempotencyKey
from furlough.scenario.liveness import SAMPLE_S
from furlough.scenario.stage import Stage, host_name, open_stage
from furlough.service import Request
from furlough.sim.clock import Standstill, run_virtually
from furlough.sim.faults import Odds, storm
from furlough.sim.others import meddling
from tests.simulation import drawn
from tests.simulation.attending import Attendant

LEAST_FAULTS = 3
_LIMIT_S = 3 * 3600.0
# What is mended only after a while.
_LASTING = frozenset(
    {"dead_daemon", "cut_off", "slow_link", "dead_host", "others_pause", "others_run_by_hand"}
)
# The longest accident lasts so long, booting included.
_MENDED_AFTER_S = 95.0


@dataclass(kw_only=True)
class SeededRun:
    """How one run went."""

    seed: int
    evacuations: int = 0
    ends: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    faults_in_flight: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @property
    def is_void(self) -> bool:
        """Whether it did too little to prove anything."""
        return sum(self.faults.values()) < LEAST_FAULTS or not self.faults_in_flight


def play(seed: int, tell: Callable[[str], None] | None = None) -> SeededRun:
    """Play one seed on virtual time. `tell`: is given the journals at the end, in lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    run = SeededRun(seed=seed)
    try:
        run_virtually(_play(run, tell))
    except (Standstill, FurloughError, ExceptionGroup) as error:
        run.violations.append(f"L1: the run itself broke: {error!r}")
    return run


async def _play(run: SeededRun, tell: Callable[[str], None] | None) -> None:
    random = Random(run.seed)
    async with open_stage(drawn.setting(run.seed, random)) as stage:
        drawn.people(stage, random)
        stage.faults.odds = Odds()
        await stage.start_controller()
        await stage.clock.sleep(1)
        story = _Story(stage=stage, random=random, run=run)
        await story.tell()
        run.faults = dict(stage.faults.fired)
        run.faults_in_flight = stage.faults.fired_in_flight
        run.violations = list(stage.invariants.violations)
        if tell is not None:
            await _tell_all(stage, tell)


async def _tell_all(stage: Stage, tell: Callable[[str], None]) -> None:
    """Every event of every operation, and what was done by others."""
    for entry in await stage.store.entries(0, 100_000):
        words = {
            name: value
            for name, value in vars(entry.event).items()
            if value and name not in ("kind", "plan", "roster", "options", "steps")
        }
        tell(f"{entry.at:%H:%M:%S.%f} {entry.operation} {entry.event.kind} {words}")
    tell(f"touched by others: {stage.cluster.touched}; on hosts that died: {stage.cluster.victims}")


@dataclass(kw_only=True)
class _Story:
    """What happens in one run."""

    stage: Stage
    random: Random
    run: SeededRun

    def __post_init__(self) -> None:
        self._people = Attendant(self.stage, self.random)

    async def tell(self) -> None:
        stage, random = self.stage, self.random
        watch = [asyncio.create_task(one) for one in (self._sample(), self._people.attend())]
        stage.faults.odds = drawn.weather(random)
        # At least one host stays, for whoever has to leave the others.
        others = range(2, len(stage.cluster.hosts))
        besides = random.sample(others, k=min(len(others), random.choice((0, 1, 2, 3, 4))))
        hosts = [host_name(number) for number in (1, *besides)]
        asking = [asyncio.create_task(self._enter(host)) for host in hosts]
        await stage.clock.sleep(random.uniform(0, 4))
        self._begin_troubles()
        await stage.clock.sleep(random.uniform(20, 60))
        await asyncio.gather(*asking)
        await self._calm_down()
        for host in hosts:
            await self._go_on(host)
        for one in watch:
            one.cancel()
        await self._account()

    def _begin_troubles(self) -> None:
        stage, random = self.stage, self.random
        work = [
            storm(stage.cluster, stage.faults, accidents=random.randint(0, 2), within_s=30),
            meddling(stage.cluster, stage.faults, times=random.choice((0, 0, 1, 2)), within_s=30),
        ]
        ours = random.sample([self._die, self._freeze, self._lose_store, self._set_clock], k=2)
        work += [one() for one in ours]
        for one in work:
            stage.cluster.spawn(one)

    # --- our own troubles ------------------------------------------------------------------------

    async def _die(self) -> None:
        await self.stage.clock.sleep(self.random.uniform(0, 5))
        self.stage.faults.count("own_crash")
        process = self.stage.process
        process.kill_at = process.moments + self.random.randint(1, 30)

    async def _freeze(self) -> None:
        """F012."""
        await self.stage.clock.sleep(self.random.uniform(0, 10))
        self.stage.faults.count("own_freeze")
        await self.stage.freeze_controller()
        await self.stage.clock.sleep(self.random.uniform(1, 60))
        self.stage.thaw_controllers()

    async def _lose_store(self) -> None:
        """F019."""
        await self.stage.clock.sleep(self.random.uniform(0, 10))
        self.stage.faults.count("store_down")
        self.stage.faults.store_is_down = True
        await self.stage.clock.sleep(self.random.uniform(1, 40))
        self.stage.faults.store_is_down = False

    async def _set_clock(self) -> None:
        """F030, F031."""
        await self.stage.clock.sleep(self.random.uniform(0, 10))
        self.stage.faults.count("clock_set")
        self.stage.clock.set_wall(self.random.choice((3600.0, -3600.0)))

    # --- what people ask for ---------------------------------------------------------------------

    async def _enter(self, host: HostName, *, again: bool = False) -> OperationId | None:
        random = self.random
        options = drawn.entering(random)
        await self.stage.clock.sleep(random.choice((0.0, random.uniform(0, 3))))
        is_cancelled = random.random() < (0.6 if again else 0.2)
        mode = random.choice(list(CancelMode)) if is_cancelled else None
        key = IdempotencyKey(principal="client", key=f"enter {host} {again}", content=host)
        request = Request(by="client", key=key)
        which = await self._people.asked(lambda: self.stage.service.enter([host], options, request))
        if which is not None and random.random() < 0.1:
            await self.stage.clock.sleep(random.uniform(0, 10))
            await self._people.asked(lambda: self.stage.service.pause(which, "client"))
        if which is not None and mode is not None:
            await self.stage.clock.sleep(random.uniform(0, 4 if again else 15))
            await self._people.asked(lambda: self.stage.service.cancel(which, mode, "client"))
        return which

    async def _exit(self, host: HostName) -> OperationId | None:
        key = IdempotencyKey(principal="client", key=f"exit {host}", content=host)
        record = [one for one in await self.stage.store.away() if one.awaits == host]
        options = drawn.exiting(self.random, record)
        request = Request(by="client", key=key)
        return await self._people.asked(lambda: self.stage.service.exit([host], options, request))

    async def _uncordon(self, host: HostName) -> OperationId | None:
        key = IdempotencyKey(principal="client", key=f"uncordon {host}", content=host)
        request = Request(by="client", key=key)
        return await self._people.asked(
            lambda: self.stage.service.uncordon(host, ActionOptions(), request)
        )

    async def _reboot(self, host: HostName) -> OperationId | None:
        key = IdempotencyKey(principal="client", key=f"reboot {host}", content=host)
        kind, options = OperationKind.REBOOT_HOST, ActionOptions(timeout_s=600)
        request = Request(by="client", key=key)
        return await self._people.asked(
            lambda: self.stage.service.change_host_power(kind, host, options, request)
        )

    # --- and after -------------------------------------------------------------------------------

    async def _calm_down(self) -> None:
        """Nothing goes wrong with a call any more; accidents end by themselves."""
        stage = self.stage
        stage.faults.end()
        stage.thaw_controllers()
        has_broken = _LASTING & set(stage.faults.fired)
        await stage.clock.sleep(_MENDED_AFTER_S if has_broken else 15)
        stage.invariants.calm_since = stage.clock.now()

    async def _sample(self) -> None:
        while True:
            await self.stage.clock.sleep(SAMPLE_S)
            await self.stage.revive()
            await self.stage.invariants.sample()

    async def _go_on(self, host: HostName) -> None:
        """To the end of what was asked for this host; then back, if it is in maintenance."""
        await self._ends()
        standing = (await self.stage.store.standings())[host]
        if standing.mode is HostMode.CORDONED and self.random.random() < 0.5:
            await self._uncordon(host)
            await self._ends()
        if standing.mode is not HostMode.MAINTENANCE or self.random.random() < 0.3:
            return
        if self.random.random() < 0.1 and await self._reboot(host) is not None:
            await self._ends()
        if await self._exit(host) is not None:
            await self._ends()
        # Once more, now that nothing goes wrong: who promises less then has a bug.
        if self.random.random() < 0.5:
            await self._enter(host, again=True)
            await self._ends()

    async def _ends(self) -> None:
        """Every operation becomes final, or says what it waits for (L1)."""
        stage = self.stage
        by = stage.clock.monotonic() + _LIMIT_S
        # What was committed last is what the store has: it is not asked again after every event.
        known = stage.invariants.operations
        while open_ := [
            one for one in known.values() if not one.is_final and self._people.awaits(one)
        ]:
            if stage.clock.monotonic() > by:
                for one in open_:
                    stage.invariants.report(f"L1: {one.id} is {one.state.value} after hours")
                return
            await stage.revive()
            await stage.until_news()

    async def _account(self) -> None:
        for one in await self.stage.store.operations():
            self.run.evacuations += one.kind is OperationKind.ENTER
            self.run.ends.append(f"{one.kind.value} {one.state.value} {one.code or ''}".strip())
            for step in one.steps:
                if step.outcome is not Outcome.PENDING:
                    word = step.outcome.value
                    self.run.outcomes[word] = self.run.outcomes.get(word, 0) + 1
