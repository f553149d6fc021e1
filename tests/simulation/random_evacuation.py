"""One evacuation of a random cluster in random weather, all of it drawn from one seed.

The invariants are watched all the time; at the end every VM must be accounted for. A run in which
nothing went wrong and nothing moved proves nothing and is counted as void.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import structlog

from furlough.cli import following
from furlough.core.ids import OperationId
from furlough.core.inventory import Disk
from furlough.core.looks import Presence
from furlough.core.operation import Operation, Outcome
from furlough.core.policy import CancelMode, EnterOptions, ExitOptions
from furlough.core.states import HostMode, OperationState, StepState
from furlough.errors import FurloughError
from furlough.planning.record import Away
from furlough.scenario.stage import REQUEST, Setting, Stage, host_name, open_stage
from furlough.sim.clock import run_virtually
from furlough.sim.faults import Odds, storm
from tests.engine.stories import words

HOME = host_name(1)
# Blocked for these, an operation rightly waits for a person for ever.
# To be blocked by a bug of ours is no end.
FOR_A_PERSON = following.FOR_A_PERSON - {"bug"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one run went. `stopped`, `started`: VMs that the evacuation has stopped, and the exit
    has started again."""

    seed: int
    state: OperationState
    code: str | None
    moved: int
    stopped: int
    started: int
    faults: dict[str, int]
    violations: list[str]

    @property
    def is_void(self) -> bool:
        return not self.moved and not self.stopped and not self.faults


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
        operation = await ask_to_enter(
            stage, EnterOptions(timeout_s=random.choice((0, 0, 0, 20, 600)))
        )
        stage.cluster.spawn(storm(stage.cluster, stage.faults, accidents=accidents, within_s=60))
        if random.random() < 0.2:
            await stage.clock.sleep(random.uniform(0, 20))
            await cancel(stage, operation, random.choice(list(CancelMode)))
        final = await end_of(stage, operation)
        await _check_stopped(stage, final)
        back = await _exit(stage) if final.is_final and random.random() < 0.5 else None
        return Run(
            seed=seed,
            state=final.state,
            code=final.code,
            moved=sum(1 for step in final.steps if step.sent_mib is not None),
            stopped=_count(final, Outcome.STOPPED),
            started=_count(back, Outcome.STARTED),
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

    for host in stage.cluster.hosts.values():
        host.devices = frozenset(_DEVICE)
    for number in range(11, random.choice((11, 11, 12, 13, 14))):
        _tied(stage, number, random)


_DEVICE = ("usb 0951:1666",)
_LOCAL = (Disk(target="vda", source="/var/lib/local.img", datastore=None),)


def _tied(stage: Stage, number: int, random: Random) -> None:
    """A VM that cannot leave its host and may be stopped there, as its policy says."""
    method = random.choice(("shut_down", "suspend"))
    policy = words(
        on_maintenance=method,
        shut_down_grace_s=random.choice((20, 90)),
        if_ignored=random.choice(("keep", "power_off")),
        availability_priority=random.choice((10, 50, 90)),
    )
    ties = {"devices": _DEVICE} if method == "shut_down" else {"disks": _LOCAL}
    stage.add_vm(
        1,
        number,
        own_policy=policy,
        has_autostart=random.random() < 0.3,
        ignores_shutdown=random.random() < 0.2,
        reboots_instead=random.random() < 0.1,
        shutdown_takes_s=random.choice((3.0, 15.0)),
        memory_mib=random.choice((512, 4096)),
        **ties,
    )


async def ask_to_enter(stage: Stage, options: EnterOptions) -> OperationId:
    """As a client does that repeats its request until it is answered."""
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


async def cancel(stage: Stage, operation: OperationId, mode: CancelMode) -> None:
    try:
        async with asyncio.timeout(10):
            await stage.service.cancel(operation, mode, "random")
    except (TimeoutError, FurloughError):
        return  # The controller died of it, or it was over: both are allowed.


async def end_of(stage: Stage, operation: OperationId) -> Operation:
    """Final, or waiting for a person for good. Everything else has to end by itself."""
    still = await stage.until_still(operation)
    while not still.is_final and still.code not in FOR_A_PERSON:
        still = await stage.until_changed(still)
        still = await stage.until_still(operation)
    stage.invariants.hosts_have_died |= "dead_host" in stage.faults.fired
    if still.is_final:
        await stage.invariants.check_final(operation)
    return still


def _count(operation: Operation | None, outcome: Outcome) -> int:
    steps = () if operation is None else operation.steps
    return sum(step.outcome is outcome for step in steps)


async def _check_stopped(stage: Stage, final: Operation) -> None:
    """Exactly those that the evacuation says to have stopped are off and on record for it."""
    stopped = {step.planned.vm for step in final.steps if step.outcome is Outcome.STOPPED}
    record = {one.vm for one in await stage.store.away() if one.was_stopped}
    if stopped != record:
        stage.invariants.report(f"S10: {stopped} were stopped, on record are {record}")
    for vm in record:
        copy = stage.cluster.copy(HOME, vm)
        if copy is None or copy.has_process:
            stage.invariants.report(f"S10: {vm} is on record as stopped, and is not off")


async def _check_started(stage: Stage, record: Sequence[Away], back: Operation) -> None:
    """Exactly those that were on record run again, each where it was."""
    if back.state is not OperationState.SUCCEEDED or stage.invariants.hosts_have_died:
        return
    changed = {step.planned.vm for step in back.steps if step.state is StepState.SKIPPED}
    left = {one.vm for one in back.plan.unplaced}
    for one in record:
        if one.was_stopped and one.vm not in changed | left:
            copy = stage.cluster.copy(HOME, one.vm)
            if copy is None or copy.presence is not Presence.RUNNING:
                stage.invariants.report(f"S10: {one.vm} was stopped and does not run again")


async def _exit(stage: Stage) -> Operation | None:
    """Bring them home through the same weather."""
    if (await stage.store.standings())[HOME].mode is not HostMode.MAINTENANCE:
        return None
    record = await stage.store.away()
    try:
        async with asyncio.timeout(30):
            asked = await stage.service.exit([HOME], ExitOptions(timeout_s=1800), REQUEST)
    except (TimeoutError, FurloughError):
        return None
    back = await end_of(stage, asked.id)
    await _check_started(stage, record, back)
    return back
