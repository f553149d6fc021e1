"""The audit trail: who asked for what, from where, and how it ended, each line chained to the last.

A line's hash covers its content and the hash of the line before it. Whoever changes or removes a
line breaks the chain there; whoever removes the newest lines is found by a checkpoint (number and
hash of a line) that was kept somewhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from furlough.core.access import Principal, PrincipalKind

DONE = "done"
# Written before an effect on a host that no transaction holds; a line of its own says how it ended.
BEGUN = "begun"
BEGINNING = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Deed:
    """What somebody asked for, before it is known how it ends. `subject`: the object it is
    about, for instance `host h1`; `before`, `after`: JSON text, empty where there is nothing to
    compare."""

    by: Principal
    action: str
    subject: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class AuditLine:
    """One line. `result`: `done`, `begun`, or the code of the refusal."""

    number: int
    at: datetime
    principal: str
    kind: PrincipalKind
    credential: str
    address: str
    request: str
    action: str
    subject: str
    before: str
    after: str
    result: str
    previous: str = field(repr=False)
    hash: str = ""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A line that was there once, and its hash."""

    number: int
    hash: str


def line_of(deed: Deed, result: str, at: datetime, last: Checkpoint) -> AuditLine:
    """The line for a deed, chained to the last one."""
    line = AuditLine(
        number=last.number + 1,
        at=at,
        principal=deed.by.name,
        kind=deed.by.kind,
        credential=deed.by.credential,
        address=deed.by.address,
        request=deed.by.request,
        action=deed.action,
        subject=deed.subject,
        before=deed.before,
        after=deed.after,
        result=result,
        previous=last.hash,
    )
    return sealed(line)


def sealed(line: AuditLine) -> AuditLine:
    """The same line with its hash."""
    content = [getattr(line, name) for name in _CONTENT]
    text = json.dumps([str(one) for one in content], ensure_ascii=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    values = {name: getattr(line, name) for name in _CONTENT}
    return AuditLine(**values, hash=digest)


_CONTENT = (
    "number",
    "at",
    "principal",
    "kind",
    "credential",
    "address",
    "request",
    "action",
    "subject",
    "before",
    "after",
    "result",
    "previous",
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Where a trail is not what was written: the number of the line, and why."""

    number: int
    why: str


def verify(
    lines: Iterable[AuditLine], after: Checkpoint, checkpoints: Iterable[Checkpoint] = ()
) -> tuple[Fault, ...]:
    """Every place where these lines, which follow `after`, are not what was written. Each of the
    checkpoints must be among them, or lie before them."""
    wanted = {one.number: one.hash for one in checkpoints if one.number > after.number}
    faults, last = [], after
    for line in lines:
        if line.number != last.number + 1:
            faults.append(_missing(last.number, line.number))
        elif line.previous != last.hash:
            why = "it does not follow the line before: that one was changed or replaced"
            faults.append(Fault(number=line.number, why=why))
        if sealed(line).hash != line.hash:
            faults.append(Fault(number=line.number, why="its content is not what was written"))
        elif wanted.get(line.number, line.hash) != line.hash:
            why = "its hash is not that of the checkpoint: the trail was written anew"
            faults.append(Fault(number=line.number, why=why))
        wanted.pop(line.number, None)
        last = Checkpoint(number=line.number, hash=line.hash)
    lost = [
        Fault(number=number, why="the checkpoint names it, and it is gone")
        for number in sorted(wanted)
    ]
    return (*faults, *lost)


def _missing(last: int, found: int) -> Fault:
    if found <= last:
        return Fault(number=found, why="the lines are not in the order of their numbers")
    which = str(last + 1) if found == last + 2 else f"{last + 1} to {found - 1}"
    return Fault(number=last + 1, why=f"line {which} is missing")
