"""The promises about what is done: each a function of one call, of the store's books at that
moment, and of what was seen before. Each yields a sentence per violation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.looks import Look, Presence
from furlough.core.operation import Act, Operation, Step
from furlough.core.plan import Handover, Method
from furlough.core.states import HostMode, StepState
from furlough.ports import MigrationOrder
from furlough.scenario.promises import Books
from furlough.sim.cluster import SimCluster


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One call that changes something. `order`: what a migration is to do."""

    name: str
    host: HostName
    vm: VmId | None = None
    epoch: int | None = None
    operation: OperationId | None = None
    order: MigrationOrder | None = None


# Which steps make an effect, and which act of theirs announces it; without an act: their start.
_MEANT_BY: Mapping[str, tuple[tuple[Method, tuple[Act, ...]], ...]] = {
    "migrate_live": ((Method.LIVE, ()),),
    "start_post_copy": ((Method.LIVE, (Act.START_POST_COPY,)),),
    "abort": ((Method.LIVE, (Act.ABORT,)),),
    "resume": ((Method.LIVE, (Act.RESUME_TARGET, Act.RESUME_SOURCE)),),
    "suspend": ((Method.LIVE, (Act.SUSPEND_SOURCE, Act.PAUSE_SOURCE)),),
    "undefine": (
        (Method.LIVE, (Act.UNDEFINE_SOURCE, Act.REMOVE_TARGET)),
        (Method.COLD, (Act.UNDEFINE_SOURCE, Act.REMOVE_TARGET)),
    ),
    "set_autostart": (
        (Method.LIVE, (Act.SET_AUTOSTART,)),
        (Method.COLD, (Act.SET_AUTOSTART, Act.GIVE_UP)),
    ),
    "power_off": (
        (Method.LIVE, (Act.POWER_OFF_SOURCE, Act.REMOVE_TARGET)),
        (Method.SHUT_DOWN, (Act.POWER_OFF,)),
        (Method.COLD, (Act.POWER_OFF,)),
        (Method.POWER_OFF, ()),
    ),
    "start": ((Method.START, ()), (Method.COLD, (Act.START_TARGET, Act.START_SOURCE))),
    "shut_down": ((Method.SHUT_DOWN, (Act.SHUT_DOWN,)), (Method.COLD, (Act.SHUT_DOWN,))),
    "save": ((Method.SUSPEND, (Act.SAVE,)),),
    "copy_state": ((Method.COLD, (Act.COPY_STATE, Act.DEFINE_SOURCE)),),
    "copy_definition": ((Method.COLD, (Act.DEFINE_TARGET, Act.DEFINE_SOURCE)),),
    "change_medium": ((Method.EJECT, ()), (Method.INSERT, ())),
    "raise_guard": ((Method.RAISE_GUARD, ()), (Method.COLD, (Act.START_SOURCE,))),
    "lower_guard": ((Method.LOWER_GUARD, ()),),
    "reboot": ((Method.REBOOT_HOST, ()),),
    "power_off_host": ((Method.POWER_OFF_HOST, ()),),
}
EFFECTS = frozenset(_MEANT_BY)


def without_intent(books: Books, effect: Effect, *, is_stale: bool) -> Iterator[str]:
    """S6 and S18: the journal announces it, and so it is about a VM of the plan. A process that was
    frozen may be too late with what it had announced before."""
    meant = [step for one in books.operations.values() for step in _meant(one, effect, is_stale)]
    if not meant:
        about = effect.vm or effect.host
        known = any(
            entry.vm == effect.vm for one in books.active for entry in one.roster if effect.vm
        )
        if effect.vm and not known and not is_stale:
            yield f"S18: {effect.name} of {about}, which no operation is about"
        else:
            yield f"S6: {effect.name} of {about} on {effect.host} without an intent"
    elif effect.name == "migrate_live" and len(meant) > 1 and not is_stale:
        yield f"S7: {effect.vm} is meant to be migrated by {[step.id for step in meant]}"


def _meant(operation: Operation, effect: Effect, is_stale: bool) -> Iterator[Step]:
    if effect.operation is not None and operation.id != effect.operation:
        return
    if effect.epoch is not None and effect.epoch > operation.epoch:
        return
    for step in operation.steps:
        subject = step.planned.vm == effect.vm if effect.vm else step.planned.host == effect.host
        # Whom a guard has let in for its step, it keeps off again once that step is over.
        is_after = effect.name == "raise_guard" and step.method is Method.COLD
        if not subject or not (is_stale or is_after or step.state is StepState.STARTED):
            continue
        if any(
            step.method is method and _announced(step, acts, effect, is_stale)
            for method, acts in _MEANT_BY[effect.name]
        ):
            yield step


def _announced(step: Step, acts: tuple[Act, ...], effect: Effect, is_stale: bool) -> bool:
    attempts = step.attempts if is_stale else step.attempts[-1:]
    for attempt in attempts:
        if effect.order is not None and (
            attempt.target != effect.order.target or attempt.epoch != effect.order.epoch
        ):
            continue
        if effect.order is not None and effect.order.resumes_post_copy:
            return Act.RECOVER_POST_COPY in attempt.acts
        if not acts or set(acts) & set(attempt.acts):
            return True
    return False


def repeated(effect: Effect, books: Books, calls: Mapping[VmId, int]) -> Iterator[str]:
    """S7: a migration is called once for each attempt in the journal. `calls`: of each VM so far
    in this operation, with this one."""
    if effect.name != "migrate_live" or effect.vm is None or effect.operation is None:
        return
    operation = books.operations.get(effect.operation)
    steps = () if operation is None else operation.steps
    attempts = sum(len(one.attempts) for one in steps if one.planned.vm == effect.vm)
    if calls.get(effect.vm, 0) > attempts:
        yield f"S7: {effect.vm} is migrated {calls[effect.vm]} times for {attempts} attempt(s)"


def without_evidence(
    effect: Effect, step: Step | None, seen: Mapping[HostName, Look]
) -> Iterator[str]:
    """S15: a copy is powered off or undefined only if the other one was seen in the last look.
    `step`: the step that does it; `seen`: what hosts have last said of the VM."""
    if effect.name not in ("power_off", "undefine") or step is None:
        return
    if step.method not in (Method.LIVE, Method.COLD) or Act.POWER_OFF in step.acts:
        return
    others = [look for host, look in seen.items() if host != effect.host]
    if effect.name == "undefine":
        is_there = any(look.is_here or look.is_persistent for look in others)
    else:
        is_there = any(look.is_here for look in others)
    if not is_there:
        yield f"S15: {effect.name} of {effect.vm} on {effect.host}, and nobody else has it"


def ends_the_last(cluster: SimCluster, effect: Effect) -> Iterator[str]:
    """S15, by the simulator's own truth: no definition is ended that is the only one."""
    if effect.name != "undefine" or effect.vm is None:
        return
    holders = [name for name in cluster.hosts if cluster.copy(name, effect.vm) is not None]
    if holders == [effect.host]:
        yield f"S15: {effect.vm} is undefined on {effect.host}, and no other host has it"


def takes_a_silent_risk(cluster: SimCluster, effect: Effect, step: Step | None) -> Iterator[str]:
    """S14: the power of a VM is cut, and a copy is let run by itself, only where a policy or a
    proof allows it."""
    if effect.order is not None:
        vm = _copy_of(cluster, effect)
        if effect.order.handover is Handover.NORMAL and vm is not None and not vm:
            yield f"S14: {effect.vm} is handed over without proven locks"
        if effect.order.waives_storage_check:
            yield f"S14: the storage check of {effect.vm} is waived"
        if effect.order.may_post_copy and effect.order.handover is Handover.HELD:
            yield f"S14: {effect.vm} may be post-copied, and is handed over held"
    if step is None:
        return
    if effect.name == "start_post_copy" and not step.attempts[-1].may_post_copy:
        yield f"S14: {effect.vm} is post-copied, and its policy does not allow it"
    is_cut = effect.name == "power_off" and step.method in (Method.SHUT_DOWN, Method.COLD)
    if is_cut and not step.planned.may_power_off:
        yield f"S14: the power of {effect.vm} is cut, and its policy does not allow it"


def _copy_of(cluster: SimCluster, effect: Effect) -> bool | None:
    """Whether storage would stop a second copy of the VM; None where it is not there."""
    copy = None if effect.vm is None else cluster.copy(effect.host, effect.vm)
    return None if copy is None else cluster.is_locked(copy.vm)


def too_many(cluster: SimCluster, books: Books, order: MigrationOrder) -> Iterator[str]:
    """The limits of migrations in flight, by the simulator's truth."""
    clusters = {host.name: host.cluster for host in books.enrolment.hosts}
    limits = {one.name: one.policy.limits for one in books.enrolment.clusters}
    here, there = clusters[order.source], clusters[order.target]
    flying = [one for vm, one in cluster.migrations.items() if vm not in cluster.touched]
    leaving = sum(1 for one in flying if one.source == order.source)
    arriving = sum(1 for one in flying if one.target == order.target)
    if leaving >= limits[here].per_source or arriving >= limits[there].per_target:
        yield f"slots: {order.source} sends {leaving}, {order.target} gets {arriving}"
    for one in {here, there}:
        ends = [{clusters[flight.source], clusters[flight.target]} for flight in flying]
        within = sum(1 for both in ends if one in both)
        if within >= limits[one].per_cluster:
            yield f"slots: {within} migrations in cluster {one}"


def cuts_a_host(cluster: SimCluster, books: Books, effect: Effect) -> Iterator[str]:
    """S13: a host is rebooted or switched off only in maintenance, and empty."""
    if effect.name not in ("reboot", "power_off_host"):
        return
    if books.standings[effect.host].mode is not HostMode.MAINTENANCE:
        yield f"S13: {effect.host} is told to go down, and is not in maintenance"
    if any(copy.has_process for copy in cluster.hosts[effect.host].copies.values()):
        yield f"S13: {effect.host} is told to go down, and is not empty"


def resumes_beside(effect: Effect, seen: Mapping[HostName, Look]) -> Iterator[str]:
    """S1, before it happens: no copy is let run while another one was last seen running."""
    if effect.name in ("resume", "start"):
        running = [
            host
            for host, look in seen.items()
            if host != effect.host and look.presence is Presence.RUNNING
        ]
        if running:
            yield f"S1: {effect.name} of {effect.vm} on {effect.host}, and it runs on {running}"
