"""Pictures for the pages that operators watch: a plan of live hosts before it is carried out, and
what an operation has done so far.

Values of `core` go in, trees for `pictures` come out.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from lxml import etree

from furlough.core.capacity import limit_of, used_by
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory
from furlough.core.operation import Operation, Step
from furlough.core.plan import Method, OperationKind, Plan, PlannedStep
from furlough.core.states import StepState
from furlough.planning.pictures import Span, loads_tree, spans_tree
from furlough.planning.what_if import HostLoad, load_of_the_rest

_MOVES = frozenset({Method.LIVE, Method.COLD})
_STOPS = frozenset({Method.SHUT_DOWN, Method.SUSPEND, Method.POWER_OFF})
# A bar that is too short to be seen says nothing: this much of the whole is drawn at least.
_LEAST = 0.004
_FAILED_COLOUR = 4


def loads(plan: Plan, inventory: Inventory) -> tuple[HostLoad, ...]:
    """The memory load of every host of the clusters concerned, as a share of what its VMs may
    take by the cluster's policy, before the plan and after it."""
    clusters = {inventory.host(name).cluster for name in plan.hosts}
    hosts = [host for host in inventory.hosts if host.cluster in clusters]
    before = {host.name: used_by(inventory.vms_on(host.name)).memory_mib for host in hosts}
    after = dict(before)
    for step in plan.steps:
        for host, change_mib in _shifts(step, inventory):
            after[host] = after.get(host, 0) + change_mib
    limits = {
        host.name: max(1, limit_of(host, inventory.cluster_of(host).policy).memory_mib)
        for host in hosts
    }
    return tuple(
        HostLoad(
            host=host.name,
            before=round(before[host.name] / limits[host.name], 4),
            after=round(max(0, after[host.name]) / limits[host.name], 4),
        )
        for host in hosts
    )


def _shifts(step: PlannedStep, inventory: Inventory) -> list[tuple[HostName, int]]:
    """By how many MiB a step changes what is taken on which host. Who is off takes nothing."""
    if step.vm is None or not inventory.copies_of(step.vm):
        return []
    vm = inventory.vm(step.vm)
    if step.method in _MOVES and vm.is_active and step.targets:
        return [(step.source or vm.host, -vm.memory_mib), (step.targets[0], vm.memory_mib)]
    if step.method in _STOPS and vm.is_active:
        return [(vm.host, -vm.memory_mib)]
    if step.method is Method.START and not vm.is_active:
        return [(vm.host, vm.memory_mib)]
    return []


def load_of_plan(plan: Plan, inventory: Inventory) -> etree._Element:
    """Two bars per host: its memory load before the plan and after it."""
    return loads_tree(loads(plan, inventory), emptied_by(plan))


def fullest(plan: Plan, every: Iterable[HostLoad]) -> float:
    """The load of the fullest host afterwards, of those that the plan does not empty."""
    return load_of_the_rest(every, emptied_by(plan)).max


def emptied_by(plan: Plan) -> tuple[HostName, ...]:
    """The hosts that a plan empties: those that are entered."""
    return plan.hosts if plan.kind is OperationKind.ENTER else ()


def gantt_of_plan(plan: Plan) -> etree._Element | None:
    """One bar per step about a VM, from its planned start to its planned end; None without any."""
    steps = [step for step in plan.steps if step.vm is not None and step.duration_s > 0]
    title = "The moves in time, in seconds from the start of the plan"
    return spans_tree([_planned(step, plan) for step in steps], title, "steps") if steps else None


def _planned(step: PlannedStep, plan: Plan) -> Span:
    end_s = step.start_s + step.duration_s
    way = _way(step.method, step.source or step.host, step.targets[0] if step.targets else None)
    pause = f", pause {step.downtime_ms} ms" if step.method in _MOVES else ""
    return Span(
        name=step.vm_name,
        label=way,
        words=f"{step.vm_name}: {way}, {step.start_s:.1f} s to {end_s:.1f} s{pause}",
        start_s=step.start_s,
        end_s=end_s,
        colour=plan.hosts.index(step.host) if step.host in plan.hosts else -1,
    )


def _way(method: Method, source: str, target: str | None) -> str:
    """What a step does, in few words."""
    what = "" if method is Method.LIVE else f"{method.value.replace('_', ' ')} "
    return f"{what}{source} → {target}" if target and target != source else f"{what}on {source}"


def timeline(operation: Operation, now: datetime) -> etree._Element | None:
    """One bar per attempt of a step, from its start to its end or to now; None before the first.
    Attempts that failed have a colour, and say why."""
    began = operation.started_at or operation.created_at
    spans = [span for step in operation.steps for span in _attempts(step, began, now)]
    if not spans:
        return None
    length_s = max(span.end_s for span in spans)
    title = "What was done, in seconds from the start of the operation"
    return spans_tree(_visible(spans, length_s), title, "steps")


def _attempts(step: Step, began: datetime, now: datetime) -> Iterable[Span]:
    for number, attempt in enumerate(step.attempts, start=1):
        is_last = number == len(step.attempts)
        ended = attempt.ended_at or (step.ended_at if is_last else None) or now
        start_s = max(0.0, (attempt.started_at - began).total_seconds())
        end_s = max(start_s, (ended - began).total_seconds())
        way = _way(step.method, step.planned.source or step.planned.host, attempt.target)
        how = _ending(step, is_last=is_last) if attempt.failure is None else attempt.failure.message
        yield Span(
            name=step.planned.vm_name or step.planned.host,
            label=way,
            words=f"{step.planned.vm_name or step.planned.host}: {way}, {start_s:.1f} s to "
            f"{end_s:.1f} s: {how}",
            start_s=start_s,
            end_s=end_s,
            colour=_colour(step, has_failed=attempt.failure is not None),
        )


def _ending(step: Step, *, is_last: bool) -> str:
    return step.state.value if is_last else "tried again"


def _colour(step: Step, *, has_failed: bool) -> int:
    if has_failed or step.state is StepState.FAILED:
        return _FAILED_COLOUR
    return 0 if step.method in _MOVES else -1


def _visible(spans: Iterable[Span], length_s: float) -> list[Span]:
    least_s = _LEAST * max(1.0, length_s)
    return [
        span
        if span.end_s - span.start_s >= least_s
        else Span(
            name=span.name,
            label=span.label,
            words=span.words,
            start_s=span.start_s,
            end_s=span.start_s + least_s,
            colour=span.colour,
        )
        for span in spans
    ]
