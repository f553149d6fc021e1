"""Killed before and after every write and every effect, then started again: nothing is lost,
nothing is done twice. Each story is played once to count its moments, then once per moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import structlog

from furlough.core.inventory import Disk
from furlough.core.journal import OperationUnblocked, fold
from furlough.core.operation import Operation, Outcome, Step
from furlough.core.policy import CancelMode, EnterOptions, ExitOptions
from furlough.core.states import HostMode, OperationState
from furlough.errors import Conflict, FurloughError, Stale
from furlough.ports import IdempotencyKey
from furlough.scenario.stage import Setting, Stage, host_name, open_stage, vm_id
from furlough.service import Request
from furlough.sim.clock import run_virtually
from tests.engine.stories import words

VMS = 3
HOME = host_name(1)


@dataclass
class Played:
    """How a story went, and the moments at which its controller could have died."""

    trace: list[str] = field(default_factory=list)
    final: Operation | None = None


async def answered(stage: Stage, ask: Callable[[], Awaitable[Operation]]) -> Operation:
    """Ask as a client does: again, with the same idempotency key, until there is an answer."""
    while True:
        asking = asyncio.ensure_future(ask())
        dying = asyncio.create_task(stage.process.died.wait())
        await asyncio.wait((asking, dying), return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if not stage.process.died.is_set():
            return await asking
        asking.cancel()
        with suppress(asyncio.CancelledError, FurloughError):
            return await asking
        await stage.kill_controller()
        await stage.start_controller()
        await stage.clock.sleep(1)


def named(key: str) -> Request:
    return Request(by="client", key=IdempotencyKey(principal="client", key=key, content=key))


async def enter(stage: Stage) -> Operation:
    return await answered(
        stage, lambda: stage.service.enter([HOME], EnterOptions(), named("enter"))
    )


async def enter_story(stage: Stage) -> Operation:
    """Entering, to its end."""
    final = await stage.until_final((await enter(stage)).id)
    await stage.invariants.check_final(final.id)
    assert final.state is OperationState.SUCCEEDED
    assert (await stage.store.standings())[HOME].mode is HostMode.MAINTENANCE
    return final


async def exit_story(stage: Stage) -> Operation:
    """Entering and coming back."""
    await enter_story(stage)
    asked = await answered(stage, lambda: stage.service.exit([HOME], ExitOptions(), named("exit")))
    final = await stage.until_final(asked.id)
    assert final.state is OperationState.SUCCEEDED
    assert (await stage.store.standings())[HOME].mode is HostMode.AVAILABLE
    for number in range(1, VMS + 1):
        copy = stage.cluster.copy(HOME, vm_id(number))
        assert copy is not None
        assert copy.has_process
        assert copy.has_autostart is (number % 2 == 0)
    return final


async def cancel_story(stage: Stage) -> Operation:
    """Cancelling in the middle. The cancel is not forgotten and not turned into success, unless
    everything was done already."""
    asked = await enter(stage)
    await stage.clock.sleep(3)

    async def cancel() -> Operation:
        try:
            return await stage.service.cancel(asked.id, CancelMode.STOP, "client")
        except Conflict:
            return await stage.store.operation(asked.id)

    await answered(stage, cancel)
    final = await stage.until_final(asked.id)
    assert final.state is OperationState.CANCELLED
    assert (await stage.store.standings())[HOME].mode is HostMode.CORDONED
    assert not stage.cluster.migrations
    return final


def moving_cast(stage: Stage) -> None:
    """VMs that can all move live."""
    for number in range(1, VMS + 1):
        stage.add_vm(1, number, has_autostart=number % 2 == 0)


def mixed_cast(stage: Stage) -> None:
    """One that moves, one that is shut down, one that is suspended, as policy says."""
    device = ("usb 0951:1666",)
    local = Disk(target="vda", source="/var/lib/local.img", datastore=None)
    stage.cluster.hosts[HOME].devices = frozenset(device)
    stage.add_vm(1, 1)
    stage.add_vm(
        1, 2, has_autostart=True, devices=device, own_policy=words(on_maintenance="shut_down")
    )
    stage.add_vm(1, 3, disks=(local,), own_policy=words(on_maintenance="suspend"))


async def _play(
    story: Callable[[Stage], Awaitable[Operation]],
    setting: Setting,
    kill_at: int | None,
    cast: Callable[[Stage], None] = moving_cast,
) -> Played:
    async with open_stage(setting) as stage:
        cast(stage)
        await stage.start_controller(kill_at)
        first_life = stage.process
        await stage.clock.sleep(1)
        final = await story(stage)
        await stage.invariants.check_final(final.id)
        assert stage.invariants.violations == []
        return Played(trace=first_life.trace, final=final)


async def stops_story(stage: Stage) -> Operation:
    """Entering, with VMs that are stopped for it, and coming back: exactly those run again."""
    entered = await enter_story(stage)
    assert [one.outcome for one in _about_vms(entered)] == [
        Outcome.MOVED,
        Outcome.STOPPED,
        Outcome.STOPPED,
    ]
    assert {one.vm for one in await stage.store.away()} == {vm_id(n) for n in (1, 2, 3)}
    assert [stage.cluster.running_on(vm_id(number)) for number in (2, 3)] == [[], []]
    return await exit_story(stage)


async def stops_cancelled_story(stage: Stage) -> Operation:
    """Cancelling while VMs are being stopped: who is off is on record, who is not runs."""
    asked = await enter(stage)
    await stage.clock.sleep(5)

    async def cancel() -> Operation:
        try:
            return await stage.service.cancel(asked.id, CancelMode.STOP, "client")
        except Conflict:
            return await stage.store.operation(asked.id)

    await answered(stage, cancel)
    final = await stage.until_final(asked.id)
    record = {one.vm for one in await stage.store.away() if one.was_stopped}
    for number in (2, 3):
        runs = stage.cluster.running_on(vm_id(number)) == [HOME]
        assert runs is (vm_id(number) not in record)
    return final


def _about_vms(operation: Operation) -> list[Step]:
    return sorted(
        (step for step in operation.steps if step.planned.vm), key=lambda step: step.planned.vm_name
    )


STOP_STORIES = {"stops": stops_story, "stops, cancelled": stops_cancelled_story}
STORIES = {"enter": enter_story, "cancel": cancel_story, "exit": exit_story}


@pytest.mark.parametrize("is_locked", [False, True], ids=["held", "normal"])
@pytest.mark.parametrize("name", STORIES)
def test_killed_at_any_moment_the_story_ends_the_same(name: str, is_locked: bool) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    story = STORIES[name]

    def setting() -> Setting:
        return Setting(hosts=3, is_locked=is_locked)

    undisturbed = run_virtually(_play(story, setting(), None))
    assert len(undisturbed.trace) > 20
    for moment, call in enumerate(undisturbed.trace, start=1):
        try:
            run_virtually(_play(story, setting(), moment))
        except (AssertionError, FurloughError) as error:
            pytest.fail(f"killed at moment {moment} ({call}): {error}")


@pytest.mark.parametrize("name", STOP_STORIES)
def test_killed_at_any_moment_exactly_those_that_were_stopped_run_again(name: str) -> None:
    """S10 at every crash point, the steps that stop and start VMs included."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    story = STOP_STORIES[name]
    undisturbed = run_virtually(_play(story, Setting(hosts=3), None, mixed_cast))
    assert {"before shut_down", "after save"} <= set(undisturbed.trace)
    for moment, call in enumerate(undisturbed.trace, start=1):
        try:
            run_virtually(_play(story, Setting(hosts=3), moment, mixed_cast))
        except (AssertionError, FurloughError) as error:
            pytest.fail(f"killed at moment {moment} ({call}): {error}")


def test_a_late_writer_is_refused_at_every_point_of_the_journal() -> None:
    """A process that wakes up and still believes in an older state changes nothing (F012)."""

    async def play() -> None:
        async with open_stage(Setting(hosts=3)) as stage:
            for number in range(1, VMS + 1):
                stage.add_vm(1, number)
            await stage.start_controller()
            await stage.clock.sleep(1)
            operation = await enter_story(stage)
            journal = await stage.store.journal(operation.id)
            for known in range(1, len(journal)):
                with pytest.raises(Stale):
                    await stage.store.append(fold(journal[:known]), [OperationUnblocked()])
            assert await stage.store.journal(operation.id) == journal

    run_virtually(play())


@pytest.mark.parametrize("cast", [moving_cast, mixed_cast])
@pytest.mark.parametrize("is_locked", [False, True], ids=["held", "normal"])
def test_every_effect_made_twice_is_made_once(
    is_locked: bool, cast: Callable[[Stage], None]
) -> None:
    """Each call to the hypervisor is repeated, as after a restart that knows of no outcome; the
    second one is refused by the world or changes nothing."""

    async def play() -> None:
        async with open_stage(Setting(hosts=3, is_locked=is_locked)) as stage:
            cast(stage)
            stage.repeats_effects = True
            await stage.start_controller()
            await stage.clock.sleep(1)
            final = await exit_story(stage)
            await stage.invariants.check_final(final.id)
            assert stage.invariants.violations == []

    run_virtually(play())
