"""What is not as we left it on a host that is to be empty, and what the host's log says of it.

A *trouble* is something that lasts: a VM on a host in maintenance, a guard that is gone or proves
nothing any more, a person at the host who keeps it empty. A look shows which ones there are; the
difference to those known before becomes notes, one when a trouble begins and one when it is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from furlough.core.hostlog import Level, LogLine
from furlough.core.ids import HostName
from furlough.core.inventory import Host, Intruder, Vm
from furlough.core.states import HostMode
from furlough.errors import Refused

# The name of whoever raised a marker without a controller: a person, with the host's own command.
PERSON = "local"


class Concern(StrEnum):
    """What kind of trouble it is; also the code of its notes."""

    VIOLATION = "maintenance.violated"
    UNPROVEN = "guard.unproven"
    KEPT = "host.kept_by_person"


@dataclass(frozen=True, kw_only=True, order=True)
class Trouble:
    """One thing that is not as it should be; the same as long as both fields are."""

    concern: Concern
    what: str


@dataclass(frozen=True, kw_only=True)
class HostNote:
    """A line about a host that belongs to no operation: `what` has begun, or is over."""

    host: HostName
    at: datetime
    level: Level
    code: str
    what: str
    message: str
    is_over: bool = False


@dataclass(frozen=True, kw_only=True)
class Held:
    """The marker that a host has: who put it there, and since when, in that one's words."""

    controller: str
    since: str = ""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What one look at a host shows.

    `active`: VMs listed with a process; `processes`: VM processes as "pid name" or "pid (name)".
    `is_whole`: furlough-host answered too; without it processes and marker are not known, so
    nothing that was seen before can be said to be over.
    """

    mode: HostMode
    active: tuple[Vm, ...] = ()
    processes: tuple[str, ...] = ()
    held: Held | None = None
    guard_trouble: str = ""
    is_whole: bool = True


def troubles(sight: Sight, controller: str) -> frozenset[Trouble]:
    """Everything that is not as it should be, as the controller of this name has left it."""
    if sight.mode is not HostMode.MAINTENANCE:
        kept = kept_empty_by(sight.held)
        return frozenset({Trouble(concern=Concern.KEPT, what=kept)} if kept else ())
    found = [Trouble(concern=Concern.VIOLATION, what=what) for what in _intruders(sight)]
    if sight.is_whole:
        found += _of_marker(sight.held, controller)
    if sight.guard_trouble:
        found.append(Trouble(concern=Concern.UNPROVEN, what=sight.guard_trouble))
    return frozenset(replace(one, what=_storable(one.what)) for one in found)


def _storable(text: str) -> str:
    """Names come from strangers: without what no text may hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")


def kept_empty_by(held: Held | None) -> str:
    """The person at the host who keeps it empty, in words; empty where it is nobody's doing."""
    if held is None or held.controller != PERSON:
        return ""
    return f"a person at the host since {held.since}" if held.since else "a person at the host"


def _intruders(sight: Sight) -> Iterator[str]:
    """A process of a VM that is listed is the VM's own and not told twice."""
    for vm in sight.active:
        yield f"VM {vm.name} ({vm.id})"
    names = {vm.name for vm in sight.active}
    for process in sight.processes:
        if _name_in(process) not in names:
            yield f"VM process {process}"


def _name_in(process: str) -> str:
    name = process.partition(" ")[2]
    return name[1:-1] if name.startswith("(") and name.endswith(")") else name


def _of_marker(held: Held | None, controller: str) -> Iterator[Trouble]:
    if held is None:
        yield Trouble(concern=Concern.VIOLATION, what="nothing: the guard's marker is gone")
    elif held.controller != controller:
        whose = kept_empty_by(held) or f"controller {held.controller}"
        yield Trouble(concern=Concern.VIOLATION, what=f"a foreign marker, of {whose}")


# --- beginnings and ends -----------------------------------------------------------------------


def still_open(
    known: Mapping[Trouble, datetime], sight: Sight, seen: frozenset[Trouble], at: datetime
) -> dict[Trouble, datetime]:
    """The troubles after a look, each with its beginning: what a look in part does not show is
    not over."""
    lasting = known if not sight.is_whole and sight.mode is HostMode.MAINTENANCE else {}
    return {one: known.get(one, at) for one in sorted({*seen, *lasting})}


def notes_between(
    host: HostName,
    before: Mapping[Trouble, datetime],
    after: Mapping[Trouble, datetime],
    at: datetime,
) -> tuple[HostNote, ...]:
    """What the log has to say: first what is over, then what has begun."""
    return (
        *(_note(host, one, at, is_over=True) for one in sorted(set(before) - set(after))),
        *(_note(host, one, after[one], is_over=False) for one in sorted(set(after) - set(before))),
    )


_BEGUN: Mapping[Concern, tuple[Level, str]] = {
    Concern.VIOLATION: (Level.ERROR, "maintenance is violated: there is {what}"),
    Concern.UNPROVEN: (Level.WARNING, "the guard is not proven: {what}"),
    Concern.KEPT: (Level.WARNING, "kept empty by {what}: nothing is placed here"),
}
_OVER: Mapping[Concern, str] = {
    Concern.VIOLATION: "maintenance is no longer violated by {what}",
    Concern.UNPROVEN: "no longer true of the guard: {what}",
    Concern.KEPT: "no longer kept empty by {what}",
}


def _note(host: HostName, trouble: Trouble, at: datetime, *, is_over: bool) -> HostNote:
    level, words = _BEGUN[trouble.concern]
    if is_over:
        level, words = Level.INFO, _OVER[trouble.concern]
    return HostNote(
        host=host,
        at=at,
        level=level,
        code=trouble.concern.value,
        what=trouble.what,
        message=words.format(what=trouble.what),
        is_over=is_over,
    )


def opened_by(notes: Iterable[HostNote]) -> dict[HostName, dict[Trouble, datetime]]:
    """The troubles, by host, that these notes without an end have begun."""
    found: dict[HostName, dict[Trouble, datetime]] = {}
    for note in notes:
        trouble = Trouble(concern=Concern(note.code), what=note.what)
        found.setdefault(note.host, {})[trouble] = note.at
    return found


def intruders(open_troubles: Mapping[Trouble, datetime]) -> tuple[Intruder, ...]:
    """What of these violates a maintenance, the oldest first."""
    found = [
        Intruder(what=one.what, since=since)
        for one, since in open_troubles.items()
        if one.concern is Concern.VIOLATION
    ]
    return tuple(sorted(found, key=lambda one: (one.since, one.what)))


def line_of(note: HostNote) -> LogLine:
    """A note as a line of the host's log."""
    return LogLine(at=note.at, level=note.level, operation=None, vm_name="", message=note.message)


def check_unviolated(host: Host) -> None:
    """`Refused` where something is on a host in maintenance that may not be there (S13)."""
    if host.intruders:
        found = "; ".join(f"{one.what} since {one.since:%H:%M:%S} UTC" for one in host.intruders)
        raise Refused(
            "maintenance.violated",
            f"The maintenance of {host.name} is violated: there is {found}.",
            remedy="Move it away or shut it down, see who started it, then ask again.",
        )
