"""The timetable of a live plan: when each of its moves starts, and how long all of it takes.

Moves are put in order by `scheduling`, as those of plans from files are: links with strict
priority, the slots of the cluster's policy. A plan of live hosts holds the room of all its moves
from the start, so none waits for another one's room. How long they take in this order is told by
`moving_time`, by the same priorities.
VMs are stopped or started after the moves of their host, wave by wave.

    steps ─► moves by cluster ─► schedule ─► steps in their order ─► moving_time ─► Timed
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from furlough.core.estimate import link_mib_s, memory_to_send, side_by_side
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory
from furlough.core.plan import Method, PlannedStep, numbered
from furlough.core.policy import Order
from furlough.core.timing import NO_TIME, Range
from furlough.planning.handover import job_of
from furlough.planning.link_model import Job
from furlough.planning.moving_time import moving_time, vm_of
from furlough.planning.scheduling import (
    Schedule,
    Sites,
    Terms,
    TimedMove,
    least_time_s,
    schedule,
)

_POWER_METHODS = frozenset({Method.SHUT_DOWN, Method.SUSPEND, Method.START, Method.COLD})
_ENOUGH = 2**62


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Steps, wave by wave, the moves of a wave in the order of their starts, numbered from 1; how
    long all take together, and why that is a range; `bound_s`: no order of the moves could
    take less."""

    steps: tuple[PlannedStep, ...]
    eta: Range
    reasons: tuple[str, ...]
    bound_s: float


def put_in_time(
    steps: Sequence[PlannedStep], inventory: Inventory, order: Order = Order.SCHEDULE
) -> Timed:
    """Give these steps their order and their places in time, from the start of the first one."""
    moves = [step for step in steps if step.method is Method.LIVE]
    scheduled: dict[int, TimedMove] = {}
    bound_s = 0.0
    for together in _by_cluster(moves, inventory):
        found, least_s = _schedule(together, inventory, order)
        scheduled.update({id(together[one.vm]): one for one in found.moves})
        bound_s = max(bound_s, least_s)
    in_turn = numbered(tuple(sorted(_in_turn(steps, scheduled), key=lambda step: step.wave)))
    moving = moving_time([step for step in in_turn if step.method is Method.LIVE], inventory)
    placed = [moving.steps.get(step.number, step) for step in in_turn]
    starts, ranges = _power_times(placed, moving.ranges)
    return Timed(
        steps=tuple(replace(one, start_s=starts.get(one.number, one.start_s)) for one in placed),
        eta=Range(
            low=max((one.low for one in ranges), default=0.0),
            high=max((one.high for one in ranges), default=0.0),
        ),
        reasons=moving.reasons,
        bound_s=bound_s,
    )


def _in_turn(steps: Iterable[PlannedStep], timed: Mapping[int, TimedMove]) -> Sequence[PlannedStep]:
    """Moves by their starts, the larger ones first, each later than those that it comes after;
    what else there is keeps its order."""
    depths: dict[int, int] = {}
    for step in sorted(steps, key=lambda step: step.number):  # Each after those with lower numbers.
        depths[step.number] = 1 + max((depths[one] for one in step.after), default=-1)

    def turn(step: PlannedStep) -> tuple[int, float, int]:
        move = timed.get(id(step))
        return (depths[step.number], move.start_s, move.vm) if move else (0, 0.0, 0)

    return sorted(steps, key=turn)


def _by_cluster(moves: Iterable[PlannedStep], inventory: Inventory) -> Iterable[list[PlannedStep]]:
    """The moves of each cluster: they share no link and no slot with others. The largest first,
    then those that matter more, so that equal starts have an order as well."""
    found: dict[str, list[PlannedStep]] = {}
    for step in moves:
        found.setdefault(inventory.host(step.source or step.host).cluster, []).append(step)
    return [
        sorted(own, key=lambda step: (-step.load.memory_mib, step.vm_name, step.vm or ""))
        for own in found.values()
    ]


def _schedule(
    moves: Sequence[PlannedStep], inventory: Inventory, order: Order
) -> tuple[Schedule, float]:
    """The schedule of the moves of one cluster, its VMs being places in `moves`; and the seconds
    that no order of these moves could do with less of, by the memory in use."""
    names = sorted({name for step in moves for name in (step.source or step.host, step.targets[0])})
    number_of = {name: number for number, name in enumerate(names)}
    jobs = [_job(place, step, number_of, inventory) for place, step in enumerate(moves)]
    hosts = [inventory.host(name) for name in names]
    sites = Sites(
        room_memory_mib=[_ENOUGH] * len(hosts),
        room_vcpus=[_ENOUGH] * len(hosts),
        link_mib_s=[link_mib_s(host) for host in hosts],
        clusters=[0] * len(hosts),
    )
    # Who crosses to another cluster is under the limits of both; here those of its own count.
    limits = inventory.cluster_of(inventory.host(moves[0].source or moves[0].host)).policy.limits
    in_use = [
        replace(job, sends_mib=float(memory_to_send(vm_of(step, inventory))))
        for job, step in zip(jobs, moves, strict=True)
    ]
    least_s = round(least_time_s(in_use, sites, math.inf), 2)
    return schedule(jobs, sites, Terms(limits=limits, order=order)), least_s


def _job(
    place: int, step: PlannedStep, number_of: Mapping[HostName, int], inventory: Inventory
) -> Job:
    source = step.source or step.host
    vm = vm_of(step, inventory)
    job = job_of(vm, number_of[source], number_of[step.targets[0]], inventory)
    return replace(job, vm=place)


def _power_times(
    steps: Sequence[PlannedStep], moving: Mapping[HostName, Range]
) -> tuple[Mapping[int, float], Sequence[Range]]:
    """When steps that stop or start VMs begin, by their numbers, and how long the moves and
    these take together, per host."""
    starts: dict[int, float] = {}
    ranges = []
    for host in dict.fromkeys(step.host for step in steps):
        taken = moving.get(host, NO_TIME)
        at_s = max((one.start_s + one.duration_s for one in _moves_of(steps, host)), default=0.0)
        for wave in _power_waves(steps, host):
            starts.update({one.number: round(at_s, 2) for one in wave})
            durations_s = [one.duration_s for one in wave]
            taken += side_by_side(durations_s, [one.grace_s for one in wave])
            at_s += max(durations_s)
        ranges.append(taken)
    return starts, ranges


def _moves_of(steps: Iterable[PlannedStep], host: HostName) -> Iterator[PlannedStep]:
    return (one for one in steps if one.host == host and one.method is Method.LIVE)


def _power_waves(steps: Iterable[PlannedStep], host: HostName) -> list[list[PlannedStep]]:
    """The steps that stop or start VMs of a host, in groups of those that do so together."""
    waves: dict[int, list[PlannedStep]] = {}
    for step in steps:
        if step.host == host and step.method in _POWER_METHODS:
            waves.setdefault(step.wave, []).append(step)
    return [waves[wave] for wave in sorted(waves)]
