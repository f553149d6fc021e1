"""The timetable of a live plan: when each of its moves starts, and how long all of it takes.

Moves are put in time by `scheduling`, as those of plans from files are: links with strict priority,
the slots of the cluster's policy. A plan of live hosts holds the room of all its moves from the
start, so none waits for another one's room. VMs are stopped or started after the moves of their
host, wave by wave.

    steps ─► moves by cluster ─► schedule ─► steps in the order of their starts, with times ─► Timed
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from furlough.core.estimate import NO_TIME, Range, link_mib_s, side_by_side
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory
from furlough.core.plan import Method, PlannedStep
from furlough.core.policy import Order
from furlough.planning.handover import job_of
from furlough.planning.link_model import Job
from furlough.planning.scheduling import Schedule, Sites, Terms, TimedMove, schedule

_POWER_METHODS = frozenset({Method.SHUT_DOWN, Method.SUSPEND, Method.START})
_ENOUGH = 2**62


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Steps, wave by wave, the moves of a wave by their starts; how long all take together, and
    why that is a range; `bound_s`: no order of the moves could take less."""

    steps: tuple[PlannedStep, ...]
    eta: Range
    reasons: tuple[str, ...]
    bound_s: float


def put_in_time(
    steps: Sequence[PlannedStep], inventory: Inventory, order: Order = Order.SCHEDULE
) -> Timed:
    """Give these steps their places in time, from the start of the first one."""
    moves = [step for step in steps if step.method is Method.LIVE]
    timed: dict[int, TimedMove] = {}
    spans: dict[HostName, Range] = {}
    reasons: dict[str, None] = {}
    bound_s = 0.0
    for together in _by_cluster(moves, inventory):
        found = _schedule(together, inventory, order)
        timed.update({id(together[one.vm]): one for one in found.moves})
        spans.update(_spans(together, found))
        reasons.update(dict.fromkeys(found.reasons))
        bound_s = max(bound_s, found.bound_s)
    placed = sorted(
        (_placed(step, timed.get(id(step))) for step in _in_turn(steps, timed)),
        key=lambda step: step.wave,
    )
    starts, ranges = _power_times(placed, spans)
    return Timed(
        steps=tuple(
            replace(one, start_s=starts.get(place, one.start_s)) for place, one in enumerate(placed)
        ),
        eta=Range(
            low=max((one.low for one in ranges), default=0.0),
            high=max((one.high for one in ranges), default=0.0),
        ),
        reasons=tuple(reasons),
        bound_s=bound_s,
    )


def _in_turn(steps: Iterable[PlannedStep], timed: Mapping[int, TimedMove]) -> Sequence[PlannedStep]:
    """Moves by their starts, the larger ones first; what else there is keeps its order."""

    def turn(step: PlannedStep) -> tuple[float, int]:
        move = timed.get(id(step))
        return (move.start_s, move.vm) if move else (0.0, 0)

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


def _schedule(moves: Sequence[PlannedStep], inventory: Inventory, order: Order) -> Schedule:
    """The schedule of the moves of one cluster; its VMs are places in `moves`."""
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
    limits = inventory.cluster_of(hosts[0]).policy.limits
    return schedule(jobs, sites, Terms(limits=limits, order=order))


def _job(
    place: int, step: PlannedStep, number_of: Mapping[HostName, int], inventory: Inventory
) -> Job:
    source = step.source or step.host
    vm = next(vm for vm in inventory.vms_on(source) if vm.id == step.vm)
    job = job_of(vm, number_of[source], number_of[step.targets[0]], inventory)
    return replace(job, vm=place)


def _placed(step: PlannedStep, move: TimedMove | None) -> PlannedStep:
    if move is None:
        return step
    return replace(
        step,
        start_s=move.start_s,
        duration_s=move.duration_s,
        downtime_ms=move.downtime_ms,
        sent_mib=move.sent_mib,
    )


def _spans(moves: Sequence[PlannedStep], found: Schedule) -> Mapping[HostName, Range]:
    """How long the moves of each host of the plan take: its share of what all take at least, and
    the slack of all."""
    ends: dict[HostName, float] = {}
    for one in found.moves:
        host = moves[one.vm].host
        ends[host] = max(ends.get(host, 0.0), one.end_s)
    slack_s = found.eta.high - found.makespan_s
    share = found.eta.low / found.makespan_s
    return {
        host: Range(low=round(share * end_s, 1), high=round(end_s + slack_s, 1))
        for host, end_s in ends.items()
    }


def _power_times(
    steps: Sequence[PlannedStep], spans: Mapping[HostName, Range]
) -> tuple[Mapping[int, float], Sequence[Range]]:
    """When steps that stop or start VMs begin, by their place among the steps, and how long the
    moves and these take together, per host."""
    starts: dict[int, float] = {}
    ranges = []
    for host in dict.fromkeys(step.host for step in steps):
        taken = spans.get(host, NO_TIME)
        at_s = max((one.start_s + one.duration_s for one in _moves_of(steps, host)), default=0.0)
        for places in _power_waves(steps, host):
            starts.update(dict.fromkeys(places, round(at_s, 2)))
            durations_s = [steps[place].duration_s for place in places]
            taken += side_by_side(durations_s, [steps[place].grace_s for place in places])
            at_s += max(durations_s)
        ranges.append(taken)
    return starts, ranges


def _moves_of(steps: Iterable[PlannedStep], host: HostName) -> Iterator[PlannedStep]:
    return (one for one in steps if one.host == host and one.method is Method.LIVE)


def _power_waves(steps: Sequence[PlannedStep], host: HostName) -> list[list[int]]:
    """The steps that stop or start VMs of a host, in groups of those that do so together."""
    waves: dict[int, list[int]] = {}
    for place, step in enumerate(steps):
        if step.host == host and step.method in _POWER_METHODS:
            waves.setdefault(step.wave, []).append(place)
    return [waves[wave] for wave in sorted(waves)]
