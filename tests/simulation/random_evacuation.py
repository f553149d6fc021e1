"""One evacuation of a random cluster in random weather, all of it drawn from one seed.

The invariants are watched all the time; at the end every VM must be accounted for. A run in which
nothing went wrong and nothing moved proves nothing and is counted as void.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random

import structlog

from furlough.cli import following
from furlough.core.ids import OperationId
from furlough.core.operation import Operation
from furlough.core.policy import CancelMode, EnterOptions, ExitOptions
from furlough.core.states import HostMode, OperationState
from furlough.errors import FurloughError
from furlough.scenario.stage import REQUEST, Setting, Stage, host_name, open_stage
from furlough.sim.clock import run_virtually
from furlough.sim.faults import Odds, storm

HOME = host_name(1)
# Blocked for these, an operation rightly waits for a person for ever.
# To be blocked by a bug of ours is no end.
FOR_A_PERSON = following.FOR_A_PERSON - {"bug"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one run went."""

    seed: int
    state: OperationState
    code: str | None
    moved: int
    faults: dict[str, int]
    violations: list[str]

    @property
    def is_void(self) -> bool:
        return not self.moved and not self.faults


def play(seed: int) -> Run:
    """Play one seed on virtual time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return run_virtually(_play(seed))


async def _play(seed: int) -> Run:
    random = Random(seed)
    async with open_stage(_setting(seed, random)) as stage:
        _people(stage, random)
        await stage.start_controller(kill_at=random.choice((None, random.randint(1, 80))))
        await stage.clock.sleep(1)
        accidents = random.randint(0, 4)
        operation = await _ask_to_enter(stage, random)
        stage.cluster.spawn(storm(stage.cluster, stage.faults, accidents=accidents, within_s=60))
        if random.random() < 0.2:
            await stage.clock.sleep(random.uniform(0, 20))
            await _cancel(stage, operation, random.choice(list(CancelMode)))
        final = await _end_of(stage, operation)
        if final.is_final and random.random() < 0.5:
            await _exit(stage)
        return Run(
            seed=seed,
            state=final.state,
            code=final.code,
            moved=sum(1 for step in final.steps if step.sent_mib is not None),
            faults=dict(stage.faults.fired),
            violations=list(stage.invariants.violations),
        )


def _setting(seed: int, random: Random) -> Setting:
    return Setting(
        hosts=random.randint(3, 5),
        seed=seed,
        is_locked=random.random() < 0.5,
        link_mbit_s=random.choice((1000, 10_000)),
        odds=Odds(
            lost_request=random.choice((0, 0.05, 0.2)),
            lost_reply=random.choice((0, 0.05, 0.2)),
            refused=random.choice((0, 0.1)),
            lost_finish=random.choice((0, 0.1, 0.3)),
        ),
    )


def _people(stage: Stage, random: Random) -> None:
    for number in range(1, random.randint(3, 10) + 1):
        stage.add_vm(
            random.choice((1, 1, 1, 2, 3)),
            number,
            has_autostart=random.random() < 0.3,
            is_persistent=random.random() < 0.9,
            memory_mib=random.choice((512, 2048, 4096)),
            dirty_mib_s=random.choice((0, 10, 100)),
            working_set_mib=random.choice((0, 64, 512)),
        )


async def _ask_to_enter(stage: Stage, random: Random) -> OperationId:
    """As a client does that repeats its request until it is answered."""
    options = EnterOptions(timeout_s=random.choice((0, 0, 0, 20, 600)))
    while True:
        known = await stage.store.operations()
        if known:
            return known[0].id
        try:
            async with asyncio.timeout(10):
                return (await stage.service.enter([HOME], options, REQUEST)).id
        except (TimeoutError, FurloughError):
            await stage.kill_controller()
            await stage.start_controller()


async def _cancel(stage: Stage, operation: OperationId, mode: CancelMode) -> None:
    try:
        async with asyncio.timeout(10):
            await stage.service.cancel(operation, mode, "random")
    except (TimeoutError, FurloughError):
        return  # The controller died of it, or it was over: both are allowed.


async def _end_of(stage: Stage, operation: OperationId) -> Operation:
    """Final, or waiting for a person for good. Everything else has to end by itself."""
    still = await stage.until_still(operation)
    while not still.is_final and still.code not in FOR_A_PERSON:
        still = await stage.until_changed(still)
        still = await stage.until_still(operation)
    stage.invariants.hosts_have_died |= "dead_host" in stage.faults.fired
    if still.is_final:
        await stage.invariants.check_final(operation)
    return still


async def _exit(stage: Stage) -> None:
    """Bring them home through the same weather."""
    if (await stage.store.standings())[HOME].mode is not HostMode.MAINTENANCE:
        return
    try:
        async with asyncio.timeout(30):
            asked = await stage.service.exit([HOME], ExitOptions(timeout_s=1800), REQUEST)
    except (TimeoutError, FurloughError):
        return
    await _end_of(stage, asked.id)
