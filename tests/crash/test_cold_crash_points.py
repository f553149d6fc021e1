"""Cold moves, killed before and after every write and every effect, then started again: the VM is
known to a host at every moment, runs on one if it ran, and is where the journal says (F071,
F072)."""

from __future__ import annotations

import pytest
import structlog

from furlough.core.looks import Presence
from furlough.core.operation import Operation, Outcome
from furlough.core.policy import CancelMode, EnterOptions, Scope
from furlough.core.states import HostMode, OperationState
from furlough.errors import Conflict, FurloughError
from furlough.scenario.stage import Setting, Stage, host_name, open_stage, vm_id
from furlough.sim.clock import run_virtually
from tests.crash.test_crash_points import HOME, answered, named
from tests.engine.stories import step_of
from tests.engine.test_cold_moves import COLD, OFF, TIED, never_nowhere

STATE = "what the firmware of vm2 has written"


def cast(stage: Stage) -> None:
    """One that runs and may move cold, one that is off with variables of its firmware."""
    stage.add_vm(1, 1, hindrances=TIED, own_policy=COLD, has_autostart=True, has_tpm=True)
    stage.add_vm(1, 2, has_autostart=True, has_nvram=True, **OFF)
    stage.cluster.hosts[HOME].vm_state[vm_id(2)] = STATE


async def all_leave(stage: Stage) -> Operation:
    """Entering, with everybody leaving."""
    asked = await answered(
        stage,
        lambda: stage.service.enter([HOME], EnterOptions(scope=Scope.ALL), named("enter")),
    )
    final = await stage.until_final(asked.id)
    assert final.state is OperationState.SUCCEEDED
    assert (await stage.store.standings())[HOME].mode is HostMode.MAINTENANCE
    assert not stage.cluster.hosts[HOME].copies
    for number, presence in ((1, Presence.RUNNING), (2, Presence.SHUT_OFF)):
        where = step_of(final, number).where
        assert where is not None
        copy = stage.cluster.copy(where, vm_id(number))
        assert copy is not None
        assert (copy.presence, copy.has_autostart) == (presence, True)
    where = step_of(final, 2).where
    assert where is not None
    assert stage.cluster.hosts[where].vm_state[vm_id(2)] == STATE
    return final


async def none_starts_there(stage: Stage) -> Operation:
    """Entering, where no other host can start anything: what ran runs at home again."""
    for machine in stage.cluster.hosts.values():
        machine.fails_starts = machine.name != HOME
    asked = await answered(
        stage,
        lambda: stage.service.enter([HOME], EnterOptions(scope=Scope.ALL), named("enter")),
    )
    final = await stage.until_final(asked.id)
    assert final.state is OperationState.FAILED
    assert (await stage.store.standings())[HOME].mode is HostMode.CORDONED
    assert stage.cluster.running_on(vm_id(1)) == [HOME]
    copy = stage.cluster.copy(HOME, vm_id(1))
    assert copy is not None
    assert copy.has_autostart
    marker = stage.cluster.hosts[HOME].marker
    assert marker is not None
    return final


async def cancelled(stage: Stage) -> Operation:
    """Entering, cancelled while its guest shuts down."""
    asked = await answered(
        stage,
        lambda: stage.service.enter([HOME], EnterOptions(scope=Scope.ALL), named("enter")),
    )
    await stage.clock.sleep(2)

    async def cancel() -> Operation:
        try:
            return await stage.service.cancel(asked.id, CancelMode.STOP, "client")
        except Conflict:
            return await stage.store.operation(asked.id)

    await answered(stage, cancel)
    final = await stage.until_final(asked.id)
    step = step_of(final, 1)
    assert step.outcome in (Outcome.MOVED, Outcome.STAYED)
    assert stage.cluster.running_on(vm_id(1)) == [step.where]
    return final


STORIES = {
    "all leave": all_leave,
    "none starts there": none_starts_there,
    "cancelled": cancelled,
}


async def play(name: str, kill_at: int | None) -> list[str]:
    """The moments of the first life of the controller."""
    async with open_stage(Setting(hosts=3)) as stage:
        cast(stage)
        never_nowhere(stage)
        await stage.start_controller(kill_at)
        first_life = stage.process
        await stage.clock.sleep(1)
        final = await STORIES[name](stage)
        await stage.invariants.check_final(final.id)
        assert stage.invariants.violations == []
        for number in (1, 2):
            holders = [
                host
                for host in (host_name(1), host_name(2), host_name(3))
                if stage.cluster.copy(host, vm_id(number)) is not None
            ]
            assert len(holders) == 1, f"vm{number} is known to {holders}"
        return first_life.trace


@pytest.mark.parametrize("name", STORIES)
def test_f071_f072_killed_at_any_moment_a_cold_move_ends_in_one_place(name: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    trace = run_virtually(play(name, None))
    assert "after shut_down" in trace
    if name == "all leave":
        assert {"after copy_state", "before copy_definition", "after undefine"} <= set(trace)
    for moment, call in enumerate(trace, start=1):
        try:
            run_virtually(play(name, moment))
        except (AssertionError, FurloughError) as error:
            pytest.fail(f"killed at moment {moment} ({call}): {error}")


def test_every_effect_of_a_cold_move_made_twice_is_made_once() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))

    async def twice() -> None:
        async with open_stage(Setting(hosts=3)) as stage:
            cast(stage)
            never_nowhere(stage)
            stage.repeats_effects = True
            await stage.start_controller()
            await stage.clock.sleep(1)
            final = await all_leave(stage)
            await stage.invariants.check_final(final.id)
            assert stage.invariants.violations == []

    run_virtually(twice())
