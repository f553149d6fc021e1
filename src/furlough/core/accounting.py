"""What became of every VM that an operation is about: none is left out (S2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from furlough.core.agenda import is_closing
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory, Vm
from furlough.core.not_home import not_home
from furlough.core.operation import Attempt, Operation, Outcome, RosterEntry, Step
from furlough.core.plan import Method, OperationKind, WhyStays
from furlough.core.states import OperationState, Power, StepState


@dataclass(frozen=True, kw_only=True)
class Account:
    """One VM: where it is now, what it does, how its part of the operation ended, what was
    tried, why it went no further (empty where it did), and what a person can do. `host` and `power`
    are None where no host lists it."""

    vm: VmId
    name: str
    host: HostName | None
    power: Power | None
    outcome: Outcome
    attempts: tuple[Attempt, ...]
    why: str
    remedy: str


def account(operation: Operation, inventory: Inventory) -> tuple[Account, ...]:
    """One entry for each VM of the operation's roster, and for everybody who is not home after an
    exit or a restore."""
    return (*_entries(operation, inventory), *_not_home(operation, inventory))


def _not_home(operation: Operation, inventory: Inventory) -> Iterator[Account]:
    """Those whom the operation has left where they are from the first."""
    known = {entry.vm for entry in operation.roster}
    for one in not_home(operation):
        if one.vm in known:
            continue
        now = inventory.vm(one.vm) if inventory.copies_of(one.vm) else None
        yield Account(
            vm=one.vm,
            name=one.name,
            host=now.host if now else None,
            power=now.power if now else None,
            outcome=Outcome.STAYED,
            attempts=(),
            why=f"Not home: {one.why}.",
            remedy=_WHEN_AWAY[one.stays].format(host=one.host, vm=one.vm),
        )


def _entries(operation: Operation, inventory: Inventory) -> Iterator[Account]:
    for entry in operation.roster:
        steps = _decisive([step for step in operation.steps if step.planned.vm == entry.vm])
        copies = inventory.copies_of(entry.vm)
        now = inventory.vm(entry.vm) if copies else None
        yield Account(
            vm=entry.vm,
            name=entry.name,
            host=now.host if now else None,
            power=now.power if now else None,
            outcome=steps[-1].outcome if steps else _fate(entry, now),
            attempts=tuple(attempt for step in steps for attempt in step.attempts),
            why=_why(operation, entry, steps),
            remedy=_remedy(operation, entry, steps, now),
        )


def _decisive(steps: list[Step]) -> list[Step]:
    """The steps that say what became of a VM: a medium that is put back after it came home does
    not, unless nothing else was done with the VM."""
    return [step for step in steps if step.method is not Method.INSERT] or steps


def _fate(entry: RosterEntry, now: Vm | None) -> Outcome:
    """What became of a VM with which the operation itself did nothing."""
    if now is None:
        return Outcome.MISSING
    is_there = now.host == entry.host and now.is_active
    return Outcome.STAYED if is_there else Outcome.CHANGED_BY_OTHERS


def _why(operation: Operation, entry: RosterEntry, steps: list[Step]) -> str:
    """Why it went no further than it did; empty where it went all the way."""
    if not steps:
        left = next((one for one in operation.plan.unplaced if one.vm == entry.vm), None)
        reasons = left.reasons if left is not None else {}
        return "; ".join(f"{host}: {', '.join(words)}" for host, words in reasons.items())
    last = steps[-1]
    if last.failure is not None:
        return last.failure.message
    return "; ".join(last.notes) if last.state is StepState.SKIPPED or last.is_overtaken else ""


def _remedy(operation: Operation, entry: RosterEntry, steps: list[Step], now: Vm | None) -> str:
    """What a person can do about a VM that did not end as planned."""
    if not steps:
        is_left = _is_left(operation, entry) and _fate(entry, now) is Outcome.STAYED
        return _LEFT.format(vm=entry.vm) if is_left else ""
    last = steps[-1]
    if is_closing(last):
        return "" if last.state is StepState.SUCCEEDED else _AWAY.format(home=entry.host)
    if last.failure is not None and last.failure.remedy:
        return last.failure.remedy
    if last.outcome is Outcome.MOVED and _is_in_vain(operation):
        made_room = last.planned.source != last.planned.host
        return (_MADE_ROOM if made_room else _AWAY).format(vm=entry.vm, home=entry.host)
    if last.outcome is Outcome.STOPPED and not _is_in_vain(operation):
        return ""
    return _REMEDIES.get(last.outcome, "").format(name=entry.name, vm=entry.vm, host=entry.host)


def _is_left(operation: Operation, entry: RosterEntry) -> bool:
    return any(one.vm == entry.vm for one in operation.plan.unplaced)


def _is_in_vain(operation: Operation) -> bool:
    """Whether VMs were stopped for a maintenance that did not come about."""
    over = operation.is_final and operation.state is not OperationState.SUCCEEDED
    return over and operation.kind is OperationKind.ENTER


_WHEN_AWAY = {
    WhyStays.HINDERED: "Once that has changed, the next furlough exit {host} brings it home.",
    WhyStays.POSTPONED: "It stays on record; the next furlough exit {host} may bring it home.",
    WhyStays.LET_GO: "It is off the record: whoever wants it home moves it: "
    "furlough vm migrate {vm}.",
}
_LEFT = (
    "It was left as it is. Move it or shut it down by hand, or let its policy say what may be "
    "done with it: furlough vm set {vm}."
)
_AWAY = (
    "Moved for a maintenance that did not come about, it stays where it is. Enter {home} again, or "
    "take it home: furlough host uncordon {home}, then furlough vm migrate VM --to {home}."
)
_MADE_ROOM = (
    "It made room for a maintenance that did not come about, and stays where it is. To take it "
    "back: furlough vm migrate {vm} --to {home}."
)
_REMEDIES = {
    Outcome.STAYED: "It runs where it was. Remove the cause, then try again, or move it alone: "
    "furlough vm migrate.",
    Outcome.STOPPED: "It was stopped for a maintenance that did not come about, and is on record: "
    "the next exit of {host} starts it. To start it now: furlough host uncordon {host}, then "
    "furlough vm start {vm}.",
    Outcome.STOPPED_BY_GUEST: "Its guest shut it down. Start it when wanted: "
    "furlough vm start {vm}.",
    Outcome.DIED: "It died. Look at its log on {host}, then start it: furlough vm start {vm}.",
    Outcome.MISSING: "No host knows it. Look at what was done to it before {host} lost it.",
    Outcome.CHANGED_BY_OTHERS: "Somebody else changed it; it was left as it is.",
}
