"""How long the moves of a plan take, each and together: an estimate that admits what it does not
know.

Three forecasts are made of the same moves: as expected, as it may go if all goes well, and as it
may go if everything is somewhat worse than it was measured. The first gives each step its times;
the other two are the ends of the range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from furlough.core.bandwidth import stream_mib_s
from furlough.core.estimate import (
    downtime_ms,
    known_speed,
    memory_to_send,
    rate_between,
    rate_mib_s,
)
from furlough.core.forecast import Course, Move, forecast
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory, Vm
from furlough.core.plan import Handover, PlannedStep
from furlough.core.timing import FINISH_S, SET_UP_S, Range
from furlough.planning.handover import HELD_S
from furlough.planning.sending import way_of

_MOST_LINKS_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class _Mood:
    """What is assumed of whatever nobody knows exactly. `pace`: of what links carry; `writing`: of
    measured dirty rates, which are whole numbers rounded down, so `more_mib_s` on top; `unknown`:
    written again of a VM of which nobody measured how much it writes, as a share of its memory;
    `around`: of the time for setting up and finishing; `own_mib`: the
    emulator's own memory in what its process has in use, and `least_memory` what that leaves."""

    pace: float = 1.0
    writing: float = 1.0
    more_mib_s: float = 0.0
    unknown: float = 0.0
    around: float = 1.0
    own_mib: float = 0.0
    least_memory: float = 1.0
    is_repeating: bool = False


_EXPECTED = _Mood()
_GOOD = _Mood(pace=1.03, writing=0.8, around=0.5, own_mib=80, least_memory=0.7, is_repeating=True)
_BAD = _Mood(pace=0.85, writing=1.25, more_mib_s=1.0, unknown=0.5, around=1.5)


@dataclass(frozen=True, kw_only=True)
class MovingTime:
    """The steps with their times, how long the moves of each host take, and why we think so."""

    steps: Mapping[int, PlannedStep]
    ranges: Mapping[HostName, Range]
    reasons: tuple[str, ...]


def moving_time(steps: Sequence[PlannedStep], inventory: Inventory) -> MovingTime:
    """Of live migrations in the order in which they may begin."""
    courses = _courses(steps, inventory, _EXPECTED)
    good = _courses(steps, inventory, _GOOD)
    bad = _courses(steps, inventory, _BAD)
    timed = {step.number: _timed(step, course) for step, course in zip(steps, courses, strict=True)}
    ranges: dict[HostName, Range] = {}
    for step, *three in zip(steps, courses, good, bad, strict=True):
        ends = [course.end_s for course in three]
        known = ranges.get(step.host, Range(low=0.0, high=0.0))
        ranges[step.host] = Range(
            low=max(known.low, round(min(ends), 1)), high=max(known.high, round(max(ends), 1))
        )
    return MovingTime(steps=timed, ranges=ranges, reasons=tuple(_reasons(steps, inventory)))


def _courses(steps: Sequence[PlannedStep], inventory: Inventory, mood: _Mood) -> list[Course]:
    places = {step.number: place for place, step in enumerate(steps)}
    moves = [
        replace(
            _move(step, inventory, mood),
            after=tuple(places[one] for one in step.after if one in places),
        )
        for step in steps
    ]
    links = {host.name: rate_mib_s(host, host) for host in inventory.hosts}
    limits = {one.name: one.policy.limits for one in inventory.clusters}
    return forecast(moves, links, limits)


def _move(step: PlannedStep, inventory: Inventory, mood: _Mood) -> Move:
    vm, (source, target) = vm_of(step, inventory), _ends(step)
    here, there = inventory.host(source), inventory.host(target)
    nominal, memory = rate_mib_s(here, there), float(memory_to_send(vm))
    memory = max(mood.least_memory * memory, memory - mood.own_mib)
    dirty = 0.0 if vm.dirty_mib_s is None else mood.writing * vm.dirty_mib_s + mood.more_mib_s
    if vm.dirty_mib_s is None:
        memory *= 1 + mood.unknown
    stream = stream_mib_s(way_of(vm.id, source, target, inventory).connections)
    nominal = min(nominal, stream)
    known = min(stream, rate_between(here, there, inventory))
    return Move(
        source=source,
        target=target,
        cluster=here.cluster,
        memory_mib=memory,
        dirty_mib_s=dirty,
        working_set_mib=_working_set(vm, mood),
        pace=mood.pace * known / nominal,
        stream_mib_s=stream,
        set_up_s=mood.around * SET_UP_S,
        finish_s=mood.around * (FINISH_S + (HELD_S if step.handover is Handover.HELD else 0.0)),
    )


def _working_set(vm: Vm, mood: _Mood) -> float:
    """Where nobody found its bounds: at best what is written in a second, at worst all."""
    if vm.working_set_mib is not None:
        return vm.working_set_mib
    return (vm.dirty_mib_s or 0.0) if mood.is_repeating else vm.memory_mib


def vm_of(step: PlannedStep, inventory: Inventory) -> Vm:
    """The VM of a step that moves one, as it is on the host that it leaves, or where it is before
    an earlier step brings it there."""
    here = (vm for vm in inventory.vms_on(_ends(step)[0]) if vm.id == step.vm)
    return next(here, None) or inventory.vm(step.vm or VmId(""))


def _ends(step: PlannedStep) -> tuple[HostName, HostName]:
    return step.source or step.host, step.targets[0]


def _timed(step: PlannedStep, course: Course) -> PlannedStep:
    held = HELD_S if step.handover is Handover.HELD else 0.0
    start_s, end_s = round(course.start_s, 2), round(course.end_s, 2)
    return replace(
        step,
        start_s=start_s,
        # Of what is shown, so that a slot is free when the next one is said to take it.
        duration_s=round(end_s - start_s, 2),
        downtime_ms=downtime_ms(course) + round(1000 * held),
        sent_mib=round(course.sent_mib),
    )


# --- why we think so -----------------------------------------------------------------------------


def _reasons(steps: Sequence[PlannedStep], inventory: Inventory) -> Iterable[str]:
    yield from _about_links(steps, inventory)
    yield from _about_guests([vm_of(step, inventory) for step in steps], inventory)


def _about_links(steps: Sequence[PlannedStep], inventory: Inventory) -> Iterable[str]:
    pairs = dict.fromkeys(_ends(step) for step in steps)
    known = [one for pair in pairs if (one := known_speed(*pair, inventory)) is not None]
    for one in known[:_MOST_LINKS_NAMED]:
        migrations = f"{one.migrations} migration{'s' if one.migrations > 1 else ''}"
        yield f"{migrations} from {one.source} to {one.target}: {one.mib_s:.0f} MiB/s"
    if len(known) > _MOST_LINKS_NAMED:
        yield f"so for {len(known) - _MOST_LINKS_NAMED} more links"
    if len(known) < len(pairs):
        yield f"{len(pairs) - len(known)} link(s) as enrolled: nothing has moved there yet"


def _about_guests(vms: Sequence[Vm], inventory: Inventory) -> Iterable[str]:
    ages = [
        (inventory.taken_at - vm.dirty_measured_at).total_seconds()
        for vm in vms
        if vm.dirty_measured_at is not None
    ]
    if ages:
        yield f"how much {len(ages)} VM(s) write was measured up to {max(ages):.0f} s ago"
    unknown = sum(vm.dirty_mib_s is None for vm in vms)
    if unknown:
        yield f"nobody measured how much {unknown} VM(s) write"
