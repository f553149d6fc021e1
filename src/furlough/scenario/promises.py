"""The promises about what is so: each a function of the simulator's truth and the store's books.

Each yields one sentence per violation and nothing where all is well. What a call must not do is in
`effects`, what has to happen in time in `liveness`; `invariants` asks all of them at their moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from furlough.core.admission import OWNS_HOSTS, Standing, owned
from furlough.core.agenda import is_closing
from furlough.core.capacity import NOTHING, Load, Reservation
from furlough.core.enrolment import Enrolment
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.journal import Event, HostModeChanged, StepStarted
from furlough.core.looks import Job, Presence, Why
from furlough.core.not_home import RETURNS, not_home
from furlough.core.operation import Act, Operation, Outcome, RosterEntry, Step
from furlough.core.plan import Method, OperationKind
from furlough.core.policy import EnterOptions
from furlough.core.states import HostMode, OperationState, Power, StepState
from furlough.planning.record import Away
from furlough.sim.cluster import Copy, SimCluster, SimHost
from furlough.sim.migration import SimMigration

_ABORTS_WITHIN_S = 15.0
# A stray process that came after our second look is nobody's fault.
_SEEN_FOR_SURE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Books:
    """What the store holds at one instant."""

    operations: Mapping[OperationId, Operation]
    standings: Mapping[HostName, Standing]
    reservations: Sequence[Reservation]
    enrolment: Enrolment

    @property
    def active(self) -> list[Operation]:
        """Operations that are not over."""
        return [one for one in self.operations.values() if not one.is_final]


# --- at every moment ---------------------------------------------------------------------------


def runs_twice(cluster: SimCluster) -> Iterator[str]:
    """S1: nobody runs on two hosts."""
    seen: set[VmId] = set()
    twice: set[VmId] = set()
    for host in cluster.hosts.values():
        twice |= seen.intersection(host.copies)
        seen.update(host.copies)
    for vm in sorted(twice):
        running = cluster.running_on(vm)
        if len(running) > 1:
            yield f"S1: {vm} runs on {running}"


def is_not_empty(cluster: SimCluster, books: Books) -> Iterator[str]:
    """S3, while it stays: a host in maintenance holds no process that a hypervisor started."""
    for host, standing in books.standings.items():
        if standing.mode is HostMode.MAINTENANCE:
            left = [one.vm.name for one in cluster.hosts[host].copies.values() if one.has_process]
            if left:
                yield f"S3: {host} is in maintenance and holds {left}"


# --- at every commit ---------------------------------------------------------------------------


def declared_too_early(
    cluster: SimCluster, books: Books, operation: Operation, events: Iterable[Event]
) -> Iterator[str]:
    """S3, when it is written: nothing runs there, comes there, or is expected there, and a marker
    that somebody reads keeps it so."""
    for event in events:
        if isinstance(event, HostModeChanged) and event.after is HostMode.MAINTENANCE:
            yield from _not_ready(cluster, books, operation, event.host)


def _not_ready(
    cluster: SimCluster, books: Books, operation: Operation, host: HostName
) -> Iterator[str]:
    machine = cluster.hosts[host]
    old = cluster.clock.monotonic() - _SEEN_FOR_SURE_S
    strays = [one for one, since in machine.strays.items() if since <= old]
    coming = [one.vm for one in books.reservations if one.host == host]
    coming += [
        step.planned.vm
        for one in books.active
        for step in one.steps
        if step.state is StepState.STARTED and step.method in _MOVES and step.target == host
        if step.planned.vm is not None
    ]
    if strays or machine.provisioning:
        yield f"S3: {host} was called empty beside {strays or machine.provisioning}"
    if coming:
        yield f"S3: {host} was called empty while {sorted(set(coming))} are expected there"
    if not _is_guarded(machine, operation):
        yield f"S3: {host} was called empty without a guard that is read"


def _is_guarded(machine: SimHost, operation: Operation) -> bool:
    options = operation.options
    accepted = options.override if isinstance(options, EnterOptions) else ()
    return machine.refuses or "guard.unproven" in accepted


def owned_twice(books: Books) -> Iterator[str]:
    """S4: one operation per VM, one per host that is worked on."""
    vms: dict[VmId, OperationId] = {}
    hosts: dict[HostName, OperationId] = {}
    for operation in books.active:
        for vm in owned(operation.options, operation.roster):
            if vms.setdefault(vm, operation.id) != operation.id:
                yield f"S4: {vm} belongs to {vms[vm]} and {operation.id}"
        for host in operation.hosts if operation.kind in OWNS_HOSTS else ():
            if hosts.setdefault(host, operation.id) != operation.id:
                yield f"S4: {host} belongs to {hosts[host]} and {operation.id}"


def written_by_another(
    operation: OperationId, owner: str, writer: str, events: Sequence[Event]
) -> Iterator[str]:
    """S5: only the process that owns an operation adds to its journal, and people."""
    ours = [event.kind for event in events if not _is_from_people(event)]
    if ours and owner != writer:
        yield f"S5: {writer or 'nobody'} wrote {ours} into {operation}, which {owner} owns"


def _is_from_people(event: Event) -> bool:
    return event.kind == "cancel_requested" or bool(getattr(event, "by", ""))


def rewritten(before: Operation | None, after: Operation, added: int) -> Iterator[str]:
    """S8: what has ended stays as it ended, and a journal only grows."""
    if before is None:
        return
    if before.is_final:
        yield f"S8: {after.id} was {before.state.value} and has changed"
    forgets = before.state is OperationState.CANCELLING and not after.is_final
    if forgets and after.state is not OperationState.CANCELLING:
        yield f"S9: {after.id} was being cancelled and is {after.state.value}"
    if after.events != before.events + added:
        yield f"S8: {after.id} had {before.events} events, got {added}, has {after.events}"
    for old, new in zip(before.steps, after.steps, strict=False):
        if old.is_final and old is not new and not _is_same_ending(old, new):
            yield f"S8: step {old.id} was {old.state.value} and has changed"


def _is_same_ending(old: Step, new: Step) -> bool:
    """What was overtaken has failed all the same; only the words about its VM are others."""
    if new.is_overtaken and old.state is StepState.FAILED:
        return new.state is old.state and new.attempts == old.attempts
    return old == new


def overfull(cluster: SimCluster, books: Books) -> Iterator[str]:
    """S11: where room is held, it is there beside what runs. Hosts on which others have filled it
    are left out."""
    by_host: dict[HostName, dict[VmId, Load]] = {}
    for one in books.reservations:
        by_host.setdefault(one.host, {})[one.vm] = one.load
    for host, held in by_host.items():
        machine = cluster.hosts[host]
        used = NOTHING
        for vm, copy in machine.copies.items():
            if copy.has_process:
                used += Load(memory_mib=copy.vm.memory_mib, vcpus=copy.vm.vcpus)
                held.pop(vm, None)
        taken = sum(held.values(), used)
        limit = _limit(machine, books)
        if not taken.fits_in(limit) and host not in cluster.upset:
            yield f"S11: {host} has {taken} of {limit} taken"


def _limit(machine: SimHost, books: Books) -> Load:
    enrolled = books.enrolment.host(machine.name)
    policy = books.enrolment.cluster(enrolled.cluster).policy
    memory_mib = machine.memory_mib - enrolled.reserved_memory_mib
    return Load(
        memory_mib=int(memory_mib * policy.memory_ceiling),
        vcpus=int(machine.cpus * policy.vcpu_overcommit),
    )


def bad_target(books: Books, operation: Operation, events: Iterable[Event]) -> Iterator[str]:
    """S12: a migration or a start is meant only for a host that is available, or that is coming
    back in this very operation, or to which a put-back brings a VM home."""
    for event in events:
        if not isinstance(event, StepStarted) or event.target is None:
            continue
        mode = books.standings[event.target].mode
        if mode is not HostMode.AVAILABLE and not _lets_in(operation, event, mode):
            yield f"S12: {operation.id} chose {event.target}, which is {mode.value}"


def _lets_in(operation: Operation, event: StepStarted, mode: HostMode) -> bool:
    """Whether the host is the home of a VM that this very operation brings back."""
    if event.target not in operation.hosts:
        return False
    is_put_back = mode is HostMode.ENTERING and is_closing(operation.step(event.step))
    return is_put_back or (operation.kind is OperationKind.EXIT and mode is HostMode.EXITING)


def stopped_by_a_bug(operation: Operation) -> Iterator[str]:
    """F016: what goes wrong in the simulator is foreseen; nothing of it is a bug to the engine."""
    if operation.code == "bug":
        yield f"bug: {operation.id} waits for {operation.waiting_for}"


# --- at the end of an operation ------------------------------------------------------------------


def lost(cluster: SimCluster, operation: Operation) -> Iterator[str]:
    """S2: everybody is active on one host, or was off, or the record says what became of it."""
    is_ours = bool(owned(operation.options, operation.roster))
    for entry in operation.roster:
        steps = _steps_about(operation, entry.vm)
        outcomes = {step.outcome for step in steps}
        if Outcome.PENDING in outcomes:
            yield f"S2: the record of {operation.id} does not say what became of {entry.name}"
        active = _active_on(cluster, entry.vm)
        # Where people move the VMs, the operation does nothing with them.
        by_hand = not is_ours and not steps
        excused = by_hand or outcomes & _EXPLAINED or _is_excused(cluster, entry.vm)
        if len(active) != 1 and not (excused or _was_left_off(entry, active, outcomes)):
            yield f"S2: {entry.name} is active on {active}, outcomes {sorted(outcomes)}"


def blamed_falsely(
    cluster: SimCluster, operation: Operation, all_operations: Iterable[Operation]
) -> Iterator[str]:
    """S2: what the record blames on others, on guests or on hosts, they have done. Others are also
    those who had another operation do something with the VM."""
    others = [one for one in all_operations if one.id != operation.id]
    acted_on = {step.planned.vm for one in others for step in one.steps if step.attempts}
    for step in operation.steps:
        vm = step.planned.vm
        if vm is None or (step.outcome is Outcome.CHANGED_BY_OTHERS and vm in acted_on):
            continue
        if step.outcome in _BLAMES and not _is_excused(cluster, vm):
            yield f"S2: {step.planned.vm_name} is called {step.outcome.value}; nobody did that"


_BLAMES = frozenset(
    {Outcome.STOPPED_BY_GUEST, Outcome.CHANGED_BY_OTHERS, Outcome.DIED, Outcome.MISSING}
)


def not_aborted(operation: Operation, cancelled_at: datetime) -> Iterator[str]:
    """S9, of a cancel that is to stop what is in flight: it was told to stop."""
    for step in operation.steps:
        if step.method is not Method.LIVE or not step.attempts or step.ended_at is None:
            continue
        was_flying = step.attempts[-1].started_at <= cancelled_at
        went_on_s = (step.ended_at - cancelled_at).total_seconds()
        if was_flying and went_on_s > _ABORTS_WITHIN_S and Act.ABORT not in step.acts:
            yield f"S9: {step.id} went on for {went_on_s:.0f} s after the cancel"


def misplaced(cluster: SimCluster, operation: Operation) -> Iterator[str]:
    """S9, of every ending: each VM is where the record says, and nothing of ours is under way."""
    for entry in operation.roster:
        steps = _steps_about(operation, entry.vm)
        active = _active_on(cluster, entry.vm)
        explained = {step.outcome for step in steps} & _EXPLAINED
        is_elsewhere = steps and active and steps[-1].where not in active
        if is_elsewhere and not (explained or _is_excused(cluster, entry.vm)):
            yield f"S9: {entry.name} is on {active}, its record says {steps[-1].where}"
    for vm, flight in cluster.migrations.items():
        is_ours = isinstance(flight, SimMigration) and flight.order.operation == operation.id
        if is_ours and vm not in cluster.touched:
            yield f"S9: {operation.id} is over and still moves {vm}"


def done_twice(cluster: SimCluster, operation: Operation) -> Iterator[str]:
    """S7: no VM is moved, started or stopped twice by one operation, unless both were meant."""
    if operation.kind not in (OperationKind.ENTER, *RETURNS):
        return
    for entry in operation.roster:
        if _is_excused(cluster, entry.vm):
            continue
        for once in (Outcome.MOVED, Outcome.STARTED, Outcome.STOPPED):
            ended = [one for one in _steps_about(operation, entry.vm) if one.outcome is once]
            if len(ended) > _meant_times(ended):
                yield f"S7: {entry.name} was {once.value} twice by {operation.id}"


def _meant_times(ended: Sequence[Step]) -> int:
    """How often a VM may end so. There and, by a put-back, back again are two effects that were
    both meant; and one that waits on a third host is moved there, and then home."""
    ways = {(is_closing(step), step.where if step.planned.after else "") for step in ended}
    waited = len({step.where for step in ended}) == 2 and bool(ended[-1].planned.after)
    return 2 if waited else max(1, len(ways))


def changed_on_the_way(cluster: SimCluster, operation: Operation) -> Iterator[str]:
    """S10, of whoever moved: it is paused, persistent and starts with its host as before; what is
    not so is told by a note."""
    for entry in operation.roster:
        steps = [one for one in _steps_about(operation, entry.vm) if one.outcome is Outcome.MOVED]
        if not steps or _is_excused(cluster, entry.vm) or _is_told(steps[-1]):
            continue
        last = steps[-1]
        copy = cluster.copy(last.where, entry.vm) if last.where is not None else None
        if last is not _steps_about(operation, entry.vm)[-1]:
            continue
        if copy is not None and (words := _difference(entry, last, copy)):
            yield f"S10: {entry.name} on {last.where} {words}"


def _is_told(step: Step) -> bool:
    return any(note.startswith("Not mended") for note in step.notes)


def _difference(entry: RosterEntry, step: Step, copy: Copy) -> str:
    before = entry.before
    if copy.is_persistent != before.is_persistent:
        return f"is persistent: {copy.is_persistent}, was {before.is_persistent}"
    if copy.has_autostart != before.has_autostart and copy.is_persistent:
        return f"has autostart: {copy.has_autostart}, had {before.has_autostart}"
    was_off = before.power is Power.SHUT_OFF
    if was_off or step.method is Method.COLD:
        is_off = copy.presence is Presence.SHUT_OFF
        return "" if was_off == is_off else f"is {copy.presence.value}, was {before.power.value}"
    was_paused = step.attempts[-1].was_paused
    if copy.presence is Presence.PAUSED and copy.why in _STANDS_STILL:
        return ""
    if was_paused != (copy.presence is Presence.PAUSED):
        return f"is {copy.presence.value}, was {'paused' if was_paused else 'running'}"
    return ""


def not_restored(
    cluster: SimCluster, operation: Operation, record: Iterable[Away]
) -> Iterator[str]:
    """S10, of an exit that succeeded: those on record are home again and run, or are off as before,
    unless others have changed them or the closing list names them. Nobody else was brought."""
    if operation.kind not in RETURNS or operation.state is not OperationState.SUCCEEDED:
        return
    told: set[VmId | None] = {one.vm for one in not_home(operation)}
    told |= {step.planned.vm for step in operation.steps if step.state is StepState.SKIPPED}
    planned = {entry.vm for entry in operation.roster}
    known = {one.vm for one in record}
    for one in record:
        if one.vm in told or one.vm not in planned or _is_excused(cluster, one.vm):
            continue
        was_off = one.before.power is Power.SHUT_OFF
        active = _active_on(cluster, one.vm)
        if active != ([] if was_off else [one.awaits]):
            yield f"S10: {one.name} is active on {active}, and was to come to {one.awaits}"
    for step in operation.steps:
        vm = step.planned.vm
        if vm is not None and step.method in (*_MOVES, Method.START) and vm not in known:
            yield f"S10: {vm} was not on record and was brought back"


def undoes_others(operation: Operation, record: Iterable[Away]) -> Iterator[str]:
    """S10: an exit moves nobody whom others have moved since."""
    left_on = {one.vm: one.left_on for one in record}
    for step in operation.plan.steps:
        if step.method not in _MOVES or step.vm not in left_on or step.after:
            continue
        if step.source != left_on[step.vm]:
            yield f"S10: {step.vm_name} was left on {left_on[step.vm]}, is taken from {step.source}"


def timed_out_early(
    operation: Operation, events: Iterable[Event], since_s: float, now_s: float
) -> Iterator[str]:
    """F030: no time is over before it has passed. `since_s`, `now_s`: by a clock nobody sets."""
    timeout_s = operation.options.timeout_s or 0.0
    passed_s = now_s - since_s
    if any(event.kind == "deadline_passed" for event in events) and passed_s < 0.9 * timeout_s:
        yield f"L1: {operation.id} timed out after {passed_s:.0f} of {timeout_s:.0f} s"


def not_as_recorded(
    cluster: SimCluster, operation: Operation, record: Iterable[Away]
) -> Iterator[str]:
    """S10, of an evacuation: those that it stopped are on record for it, and are off."""
    if operation.kind is not OperationKind.ENTER:
        return
    on_record = {one.vm for one in record if one.was_stopped}
    for step in operation.steps:
        vm = step.planned.vm
        if step.outcome is not Outcome.STOPPED or vm is None or _is_excused(cluster, vm):
            continue
        if step.method not in _STOPS or step is not _steps_about(operation, vm)[-1]:
            continue
        if vm not in on_record:
            yield f"S10: {step.planned.vm_name} was stopped and is not on record"
        if _active_on(cluster, vm):
            yield f"S10: {step.planned.vm_name} is on record as stopped, and is not off"


def held_too_long(cluster: SimCluster, books: Books, operation: Operation) -> Iterator[str]:
    """L6: nothing is held for an operation that is over, and no host that takes VMs refuses them;
    no paused copy is left beside the VM."""
    room = [one.vm for one in books.reservations if one.operation == operation.id]
    hosts = [one.host for one in books.standings.values() if one.operation == operation.id]
    if room or hosts:
        yield f"L6: {operation.id} is over and still holds {room or hosts}"
    for host in operation.hosts:
        marker = cluster.hosts[host].marker
        is_ours = marker is not None and marker.operation == operation.id
        if is_ours and books.standings[host].mode is HostMode.AVAILABLE:
            yield f"L6: {host} is available, and the marker of {operation.id} is still there"
    # Whom it did not own, another operation may be moving now.
    ours = set(owned(operation.options, operation.roster))
    for entry in operation.roster:
        active = _active_on(cluster, entry.vm)
        if len(active) > 1 and entry.vm in ours and not _is_excused(cluster, entry.vm):
            yield f"L6: something of {entry.name} is left: it is active on {active}"


# --- who is where --------------------------------------------------------------------------------


_EXPLAINED = frozenset(
    {
        Outcome.STOPPED,
        Outcome.STOPPED_BY_GUEST,
        Outcome.CHANGED_BY_OTHERS,
        Outcome.DIED,
        Outcome.MISSING,
    }
)


# Nobody has paused it: its storage or its guest has.
_STANDS_STILL = (Why.IO_ERROR, Why.CRASHED, Why.ASLEEP)
_MOVES = (Method.LIVE, Method.COLD)
_STOPS = (Method.SHUT_DOWN, Method.SUSPEND)


def _steps_about(operation: Operation, vm: VmId) -> list[Step]:
    return [step for step in operation.steps if step.planned.vm == vm]


def _active_on(cluster: SimCluster, vm: VmId) -> list[HostName]:
    return [
        name
        for name, host in cluster.hosts.items()
        if (copy := host.copies.get(vm)) is not None and copy.has_process
        if not (copy.is_orphan or (copy.job is Job.INCOMING and vm in cluster.migrations))
    ]


def _is_excused(cluster: SimCluster, vm: VmId) -> bool:
    """Whether others have changed it, or its host died under it."""
    return vm in cluster.touched or vm in cluster.victims


def _was_left_off(entry: RosterEntry, active: Sequence[HostName], outcomes: set[Outcome]) -> bool:
    was_off = entry.before.power is Power.SHUT_OFF
    return was_off and not active and Outcome.STARTED not in outcomes
