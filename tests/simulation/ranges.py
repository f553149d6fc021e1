"""One evacuation of a random cluster in fair weather, and what was said of it beforehand.

Guests are idle or write, links carry somewhat less than they should, limits are few or many; all
of it drawn from one seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import structlog

from furlough.core.operation import Operation, Step
from furlough.core.plan import Method
from furlough.core.policy import ClusterPolicy, EnterOptions, ExitOptions, Limits
from furlough.core.states import OperationState
from furlough.core.timing import PROOF, Range
from furlough.scenario.stage import REQUEST, Setting, Stage, host_name, open_stage
from furlough.sim.clock import run_virtually

HOME = host_name(1)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What was said of one operation, and what came; in seconds."""

    seed: int
    eta: Range
    took_s: float
    expected_s: float
    steps: tuple[Step, ...]
    reasons: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the end lay within the range."""
        return self.eta.low <= self.took_s <= self.eta.high

    @property
    def width(self) -> float:
        """How many times its low end the high end is."""
        return self.eta.high / self.eta.low

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: took {self.took_s:.1f} s, said {self.eta.low}-{self.eta.high} s, "
            f"expected {self.expected_s:.1f} s, {len(self.steps)} migrations"
        )


def play(seed: int) -> Kept:
    """Play one seed on virtual time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return run_virtually(_play(seed))


async def _play(seed: int) -> Kept:
    random = Random(seed)
    async with open_stage(_setting(seed, random)) as stage:
        _people(stage, random)
        for name in stage.cluster.hosts:
            stage.cluster.slow_down(name, factor=random.uniform(0.9, 1.0))
        await stage.start_controller()
        await stage.clock.sleep(1)
        return await _enter(stage, seed)


def play_again(seed: int) -> tuple[Kept, Kept]:
    """The same host is entered twice, over links that carry a third of what was enrolled."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return run_virtually(_play_again(seed))


async def _play_again(seed: int) -> tuple[Kept, Kept]:
    random = Random(seed)
    async with open_stage(Setting(hosts=3, seed=seed, link_mbit_s=1000)) as stage:
        for number in range(1, 7):
            stage.add_vm(1, number, memory_mib=random.choice((1024, 2048, 4096)))
        for name in stage.cluster.hosts:
            stage.cluster.slow_down(name, factor=0.33)
        await stage.start_controller()
        await stage.clock.sleep(1)
        first = await _enter(stage, seed)
        back = await stage.service.exit([HOME], ExitOptions(), REQUEST)
        await stage.until_final(back.id)
        return first, await _enter(stage, seed)


async def _enter(stage: Stage, seed: int) -> Kept:
    asked = await stage.service.enter([HOME], EnterOptions(), REQUEST)
    final = await stage.until_final(asked.id)
    assert final.state is OperationState.SUCCEEDED, final
    assert not stage.invariants.violations
    return kept(seed, final)


def kept(seed: int, final: Operation) -> Kept:
    """What an operation that is over says about its plan."""
    assert final.started_at is not None
    assert final.finished_at is not None
    moves = tuple(step for step in final.steps if step.method is Method.LIVE)
    return Kept(
        seed=seed,
        eta=final.plan.eta,
        took_s=(final.finished_at - final.started_at).total_seconds(),
        expected_s=max(step.planned.start_s + step.planned.duration_s for step in moves)
        + PROOF.low,
        steps=moves,
        reasons=final.plan.eta_reasons,
    )


def _setting(seed: int, random: Random) -> Setting:
    limits = Limits(
        per_source=random.choice((1, 2, 4)),
        per_target=random.choice((1, 2, 4)),
        per_cluster=random.choice((1, 4, 8)),
    )
    return Setting(
        hosts=random.randint(2, 6),
        seed=seed,
        is_locked=random.random() < 0.5,
        link_mbit_s=random.choice((1000, 2500, 10_000)),
        policy=ClusterPolicy(limits=limits),
    )


def _people(stage: Stage, random: Random) -> None:
    """All idle, all writing, or some of each."""
    share_writing = random.choice((0.0, 0.5, 1.0))
    for number in range(1, random.randint(2, 12) + 1):
        memory_mib = random.choice((1024, 2048, 4096, 4096))
        writes = random.random() < share_writing
        stage.add_vm(
            1,
            number,
            memory_mib=memory_mib,
            memory_used_mib=memory_mib * random.randint(40, 100) // 100,
            dirty_mib_s=random.uniform(1, 60) if writes else random.uniform(0, 0.5),
            working_set_mib=memory_mib // random.choice((4, 8, 32)),
        )
