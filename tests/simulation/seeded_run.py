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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

import structlog

from furlough.cli import following
from furlough.core.ids import HostName, OperationId
from furlough.core.inventory import Disk
from furlough.core.operation import Operation, Outcome
from furlough.core.plan import OperationKind
from furlough.core.policy import (
    ActionOptions,
    CancelMode,
    ClusterPolicy,
    EnterOptions,
    ExitOptions,
    Limits,
)
from furlough.core.states import HostMode
from furlough.errors import FurloughError, Stale, Unreachable
from furlough.ports import IdempotencyKey
from furlough.scenario.liveness import SAMPLE_S
from furlough.scenario.stage import Setting, Stage, host_name, open_stage
from furlough.service import Request
from furlough.sim.clock import Standstill, run_virtually
from furlough.sim.faults import Odds, storm
from furlough.sim.others import meddling
from tests.engine.stories import words

LEAST_FAULTS = 3
# Blocked for these, an operation rightly waits for a person; to be blocked by a bug is no end.
FOR_A_PERSON = following.FOR_A_PERSON - {"bug"}
_LIMIT_S = 3 * 3600.0
_ASK_WITHIN_S, _ASKS = 30.0, 20
# Refusals that may be over soon: a host that was silent when it was asked.
_AGAIN = frozenset({"precheck.blocked", "host.silent"})
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
    async with open_stage(_setting(run.seed, random)) as stage:
        _people(stage, random)
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


def _setting(seed: int, random: Random) -> Setting:
    return Setting(
        hosts=random.randint(3, 5),
        seed=seed,
        is_locked=random.random() < 0.5,
        link_mbit_s=random.choice((1000, 1000, 10_000)),
        memory_mib=random.choice((24_576, 65_536)),
        policy=ClusterPolicy(
            max_hosts_away=random.choice((1, 3, 3)),
            limits=Limits(per_source=random.choice((1, 2, 4)), per_target=random.choice((1, 2))),
        ),
        is_shaken=True,
        is_shared=True,
    )


def _weather(random: Random) -> Odds:
    """Mostly some of it, never all of it at its worst."""

    def chance(*some: float) -> float:
        return random.choice((0.0, *some))

    return Odds(
        lost_request=chance(0.02, 0.1),
        lost_reply=chance(0.02, 0.1),
        refused=chance(0.1),
        lost_finish=chance(0.1, 0.3),
        delayed=chance(0.02, 0.1),
        late=chance(0.02, 0.1),
        refused_effect=chance(0.03),
        lost_write=chance(0.02, 0.08),
        lost_commit=chance(0.02, 0.08),
        slow_store=chance(0.02, 0.1),
    )


_DEVICE = ("usb 0951:1666",)
_LOCAL = (Disk(target="vda", source="/var/lib/local.img", datastore=None),)


def _people(stage: Stage, random: Random) -> None:
    """The VMs."""
    for host in stage.cluster.hosts.values():
        host.devices = frozenset(_DEVICE)
    for number in range(1, random.randint(4, 10) + 1):
        stage.add_vm(
            random.choice((1, 1, 1, 2, 3)),
            number,
            has_autostart=random.random() < 0.3,
            is_persistent=random.random() < 0.9,
            memory_mib=random.choice((512, 2048, 4096)),
            dirty_mib_s=random.choice((0, 10, 100)),
            working_set_mib=random.choice((0, 64, 512)),
        )
    for number in range(11, random.choice((11, 11, 12, 13))):
        method = random.choice(("shut_down", "suspend"))
        ties = {"devices": _DEVICE} if method == "shut_down" else {"disks": _LOCAL}
        stage.add_vm(
            random.choice((1, 1, 2)),
            number,
            own_policy=words(
                on_maintenance=method,
                shut_down_grace_s=random.choice((20, 90)),
                if_ignored=random.choice(("keep", "power_off")),
            ),
            ignores_shutdown=random.random() < 0.2,
            reboots_instead=random.random() < 0.1,
            has_autostart=random.random() < 0.3,
            memory_mib=random.choice((512, 4096)),
            **ties,
        )


@dataclass(kw_only=True)
class _Story:
    """What happens in one run."""

    stage: Stage
    random: Random
    run: SeededRun

    async def tell(self) -> None:
        stage, random = self.stage, self.random
        watch = asyncio.create_task(self._sample())
        stage.faults.odds = _weather(random)
        first = random.sample([1, 1, 2, 3], k=random.choice((1, 1, 2, 3)))
        hosts = [host_name(number) for number in dict.fromkeys(first)]
        asking = [asyncio.create_task(self._enter(host)) for host in hosts]
        await stage.clock.sleep(random.uniform(0, 4))
        self._begin_troubles()
        await stage.clock.sleep(random.uniform(20, 60))
        await asyncio.gather(*asking)
        await self._calm_down()
        for host in hosts:
            await self._go_on(host)
        watch.cancel()
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
        options = EnterOptions(timeout_s=random.choice((0, 0, 0, 30, 600)))
        await self.stage.clock.sleep(random.choice((0.0, random.uniform(0, 3))))
        is_cancelled = random.random() < (0.6 if again else 0.2)
        mode = random.choice(list(CancelMode)) if is_cancelled else None
        key = IdempotencyKey(principal="client", key=f"enter {host} {again}", content=host)
        request = Request(by="client", key=key)
        which = await self._asked(lambda: self.stage.service.enter([host], options, request))
        if which is not None and mode is not None:
            await self.stage.clock.sleep(random.uniform(0, 4 if again else 15))
            await self._asked(lambda: self.stage.service.cancel(which, mode, "client"))
        return which

    async def _exit(self, host: HostName) -> OperationId | None:
        key = IdempotencyKey(principal="client", key=f"exit {host}", content=host)
        options = ExitOptions(timeout_s=self.random.choice((0, 1800)))
        request = Request(by="client", key=key)
        return await self._asked(lambda: self.stage.service.exit([host], options, request))

    async def _reboot(self, host: HostName) -> OperationId | None:
        key = IdempotencyKey(principal="client", key=f"reboot {host}", content=host)
        kind, options = OperationKind.REBOOT_HOST, ActionOptions(timeout_s=600)
        request = Request(by="client", key=key)
        return await self._asked(
            lambda: self.stage.service.change_host_power(kind, host, options, request)
        )

    async def _asked(self, ask: Callable[[], Awaitable[Operation]]) -> OperationId | None:
        """Ask as a client does: again, with the same key, until there is an answer."""
        stage = self.stage
        for _ in range(_ASKS):
            try:
                async with asyncio.timeout(_ASK_WITHIN_S):
                    return (await ask()).id
            except (TimeoutError, Unreachable, Stale):
                await stage.clock.sleep(2)
            except FurloughError as error:
                if error.code not in _AGAIN:
                    return None
                await stage.clock.sleep(5)
            if stage.process.died.is_set():
                await stage.revive()
        return None

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
        while open_ := [one for one in await stage.store.operations(active=True) if _owes(one)]:
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


def _owes(operation: Operation) -> bool:
    return operation.code not in FOR_A_PERSON or operation.waiting_for is None
