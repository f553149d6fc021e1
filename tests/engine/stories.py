"""What stories about the engine have in common: a stage, played on virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from furlough.core.ids import HostName, OperationId
from furlough.core.operation import Operation, Outcome, Step
from furlough.core.policy import EnterOptions, ExitOptions
from furlough.core.states import HostMode, OperationState
from furlough.core.vm_policy import Words, words_of
from furlough.scenario.stage import REQUEST, Setting, Stage, host_name, open_stage, vm_id
from furlough.sim.clock import run_virtually
from furlough.sim.migration import Phase, SimMigration

H1, H2, H3 = host_name(1), host_name(2), host_name(3)


def story(
    setting: Callable[[], Setting] = Setting,
) -> Callable[[Callable[[Stage], Awaitable[None]]], Callable[[], None]]:
    """Turn a coroutine about a stage into a test. At its end no invariant may have been broken."""

    def decorate(tell: Callable[[Stage], Awaitable[None]]) -> Callable[[], None]:
        def test() -> None:
            async def play() -> None:
                async with open_stage(setting()) as stage:
                    await tell(stage)
                    assert not stage.invariants.violations, stage.invariants.violations

            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
            run_virtually(play())

        test.__name__, test.__doc__ = tell.__name__, tell.__doc__
        return test

    return decorate


def slow() -> Setting:
    """Migrations that last long enough to be disturbed."""
    return Setting(link_mbit_s=1000)


async def enter(stage: Stage, host: HostName = H1, **options: object) -> OperationId:
    """Ask for a host to be emptied."""
    accepted = await stage.service.enter(
        [host],
        EnterOptions(**options),  # type: ignore[arg-type]
        REQUEST,
    )
    return accepted.id


async def entered(stage: Stage, host: HostName = H1, **options: object) -> Operation:
    """Empty a host and wait for the end, whatever it is."""
    final = await stage.until_final(await enter(stage, host, **options))
    await stage.invariants.check_final(final.id)
    return final


async def exited(stage: Stage, host: HostName = H1, **options: object) -> Operation:
    """Bring a host back and wait for the end, whatever it is."""
    accepted = await stage.service.exit(
        [host],
        ExitOptions(**options),  # type: ignore[arg-type]
        REQUEST,
    )
    final = await stage.until_final(accepted.id)
    await stage.invariants.check_final(final.id)
    return final


async def mode_of(stage: Stage, host: HostName = H1) -> HostMode:
    """The mode a host is in."""
    return (await stage.store.standings())[host].mode


def words(**policy: object) -> Words:
    """The policy that a VM carries with it."""
    return words_of({name: str(word) for name, word in policy.items()})


def step_of(operation: Operation, number: int) -> Step:
    """The last step about the n-th VM."""
    return [step for step in operation.steps if step.planned.vm == vm_id(number)][-1]


def hosts_running(stage: Stage, number: int) -> list[HostName]:
    """Where the n-th VM runs."""
    return stage.cluster.running_on(vm_id(number))


async def until_phase(stage: Stage, phase: Phase, number: int = 1) -> SimMigration:
    """The migration of the n-th VM, once it is in this phase."""
    while True:
        ongoing = stage.cluster.migrations.get(vm_id(number))
        if isinstance(ongoing, SimMigration) and ongoing.phase is phase:
            return ongoing
        await stage.clock.sleep(0.01)


def outcomes(operation: Operation) -> dict[Outcome, int]:
    """How many VMs ended how."""
    found: dict[Outcome, int] = {}
    for step in operation.steps:
        if step.planned.vm is not None:
            found[step.outcome] = found.get(step.outcome, 0) + 1
    return found


SUCCEEDED, FAILED, CANCELLED = (
    OperationState.SUCCEEDED,
    OperationState.FAILED,
    OperationState.CANCELLED,
)
