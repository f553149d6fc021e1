"""Random evacuations whose VMs move cold, in random weather: no host is ever the last to forget a
VM, nobody runs twice, and at the end each VM is on one host, with what its firmware has written.

A run is void where nothing moved cold and nothing went wrong; a suite of calm seas proves nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from random import Random

import pytest
import structlog

from furlough.core.looks import Presence
from furlough.core.operation import Operation, Outcome
from furlough.core.plan import Method
from furlough.core.policy import CancelMode, EnterOptions, Scope
from furlough.scenario.stage import Setting, Stage, open_stage, vm_id
from furlough.sim.clock import run_virtually
from furlough.sim.faults import Odds, storm
from tests.engine.stories import words
from tests.engine.test_cold_moves import OFF, TIED, never_nowhere
from tests.simulation.asking import HOME, ask_to_enter, cancel, end_of

RUNS = int(os.environ.get("FURLOUGH_COLD_RUNS", "60"))
FIRST = int(os.environ.get("FURLOUGH_FIRST_SEED", "1"))
VMS = 6


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one run went: cold moves that arrived, that came back, and what fired."""

    seed: int
    arrived: int
    came_back: int
    faults: frozenset[str]
    violations: list[str]


def play(seed: int) -> Run:
    """Play one seed on virtual time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return run_virtually(_play(seed))


async def _play(seed: int) -> Run:
    random = Random(seed)
    odds = Odds(
        lost_request=random.choice((0, 0.05, 0.2)), lost_reply=random.choice((0, 0.05, 0.2))
    )
    async with open_stage(Setting(hosts=random.randint(3, 4), seed=seed, odds=odds)) as stage:
        _cast(stage, random)
        never_nowhere(stage)
        await stage.start_controller(kill_at=random.choice((None, random.randint(1, 60))))
        await stage.clock.sleep(1)
        options = EnterOptions(scope=Scope.ALL, timeout_s=random.choice((0, 0, 20, 600)))
        which = await ask_to_enter(stage, options)
        accidents = random.randint(0, 3)
        stage.cluster.spawn(storm(stage.cluster, stage.faults, accidents=accidents, within_s=40))
        if random.random() < 0.3:
            await stage.clock.sleep(random.uniform(0, 15))
            await cancel(stage, which, random.choice(list(CancelMode)))
        final = await end_of(stage, which)
        if final.is_final:
            _check_places(stage, final)
        cold = [step for step in final.steps if step.method is Method.COLD]
        return Run(
            seed=seed,
            arrived=sum(step.outcome is Outcome.MOVED for step in cold),
            came_back=sum(step.failure is not None for step in cold),
            faults=frozenset(stage.faults.fired),
            violations=list(stage.invariants.violations),
        )


def _cast(stage: Stage, random: Random) -> None:
    """Who is off, and who runs and may move cold."""
    for number in range(1, VMS + 1):
        traits: dict[str, object] = {
            "has_autostart": random.random() < 0.5,
            "has_nvram": random.random() < 0.5,
        }
        if random.random() < 0.5:
            stage.add_vm(1, number, **traits, **OFF)
            continue
        policy = words(
            on_maintenance="cold",
            shut_down_grace_s=random.choice((20, 60)),
            if_ignored=random.choice(("keep", "power_off")),
        )
        stage.add_vm(
            1,
            number,
            **traits,
            hindrances=TIED,
            own_policy=policy,
            ignores_shutdown=random.random() < 0.2,
            shutdown_takes_s=random.choice((1.0, 15.0)),
        )
    for host in stage.cluster.hosts.values():
        host.fails_starts = host.name != HOME and random.random() < 0.2


def _check_places(stage: Stage, final: Operation) -> None:
    """Each VM is known to one host; where the record says that it moved, that is the one."""
    for number in range(1, VMS + 1):
        holders = [name for name in stage.cluster.hosts if stage.cluster.copy(name, vm_id(number))]
        if len(holders) != 1:
            stage.invariants.report(f"S2: vm{number} is known to {holders}")
            continue
        steps = [step for step in final.steps if step.planned.vm == vm_id(number)]
        last = steps[-1]
        copy = stage.cluster.copy(holders[0], vm_id(number))
        assert copy is not None
        if last.outcome is Outcome.MOVED and last.where != holders[0]:
            stage.invariants.report(f"S9: vm{number} is on {holders}, its record: {last.where}")
        ran = last.planned.before.power.value == "running"
        if not ran and copy.presence is not Presence.SHUT_OFF:
            stage.invariants.report(f"S10: vm{number} was off and is {copy.presence}")
        state = stage.cluster.hosts[holders[0]].vm_state.get(vm_id(number))
        if copy.vm.has_nvram and state != f"state of vm{number}":
            stage.invariants.report(f"S2: what the firmware of vm{number} wrote is lost: {state}")


@pytest.mark.long
@pytest.mark.timeout(0)
def test_no_random_cold_move_breaks_a_promise() -> None:
    runs = [play(seed) for seed in range(FIRST, FIRST + RUNS)]
    broken = {run.seed: run.violations[:3] for run in runs if run.violations}
    assert not broken, broken
    if RUNS < 50:
        return
    assert sum(run.arrived for run in runs) > RUNS
    assert sum(run.came_back for run in runs) > RUNS / 5
    fired = {kind for run in runs for kind in run.faults}
    assert {"lost_request", "lost_reply", "dead_daemon", "cut_off", "dead_host"} <= fired
