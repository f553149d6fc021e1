"""Every code a person may meet, from the tables and the source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from types import UnionType
from typing import Any, get_args

from furlough import errors
from furlough.api import problems
from furlough.cli import output
from furlough.cli.following import FOR_A_PERSON
from furlough.core import journal
from furlough.core.findings import CODES
from furlough.core.operation import Act, Outcome
from furlough.core.retry import REFUSALS
from furlough.core.settlement import Conclusion
from scripts.reference.sources import DOTTED, ERROR_CLASSES, Use, constants, uses
from scripts.reference.tables import code, merged, plain, table

# Codes that are put together at run time, and what they can become.
COMPUTED = {
    "vm.{}": ("vm.died", "vm.missing"),
    "{}.exists": ("cluster.exists", "datastore.exists", "host.exists"),
    "{}.unknown": ("cluster.unknown", "datastore.unknown", "host.unknown"),
    "http.{}": ("http.404", "http.405", "http.413"),
}
# Strings that look like a code and are none: names of files, and a few others.
FILE_ENDINGS = (
    "json", "py", "c", "conf", "d", "db", "dep", "toml", "lock", "log", "pid", "port", "builtin",
)  # fmt: skip
NO_CODES = frozenset(
    {
        "balloon.rss",
        "dirtyrate.calc_status",
        "dirtyrate.megabytes_per_second",
        "lab.furlough",
        "furlough.host",
        "fuse.sshfs",
        "certificate.pem",
        "key.pem",
    }
)
# A proof of emptiness waits for these as well: the store's refusals, passed on.
_ALSO_WAITED_FOR = ("host.expects_vms", "target.no_room", "vm.owned")
# Raised in core, by what only steps call.
_OF_STEPS_ALONE = ("host.in_flight",)
# Where requests are answered; errors of drivers and engine end up in steps.
_OF_STEPS = ("engine/", "drivers/")
# But for this one, which answers a request.
_OF_REQUESTS = ("drivers/libvirt/preparing.py",)
_NEVER_OF_STEPS = ("Invalid", "NotFound", "Bug")
_WAITS = ("_wait", "_ask", "Ruling", "OperationBlocked", "Need")
_WAITING = ("engine/", "core/")


def all_codes() -> set[str]:
    """Every code: those in tables, those given to something, and whatever looks like one."""
    given = {one.code for one in uses() if _is_wait(one) or one.how not in _WAITS}
    found = set(CODES) | set(REFUSALS) | _expanded(given)
    loose = {text for text, _ in constants() if DOTTED.fullmatch(text)}
    named = {text for text in loose if text.rsplit(".", 1)[1] in FILE_ENDINGS}
    return found | (loose - named - NO_CODES)


def _expanded(found: Iterable[str]) -> set[str]:
    """Codes with the computed ones spelt out. `KeyError` for one that is not known above."""
    spelt = [COMPUTED[one] if "{}" in one else (one,) for one in found]
    return {word for words in spelt for word in words}


def request_codes() -> dict[str, set[str]]:
    """The codes of errors that answer a request or end a command, with their classes."""
    found: dict[str, set[str]] = {}
    for one in uses():
        if one.how in ERROR_CLASSES and (one.how in _NEVER_OF_STEPS or not _is_of_step(one)):
            for word in _expanded([one.code]) - set(_OF_STEPS_ALONE):
                found.setdefault(word, set()).add(one.how)
    for one in uses():
        if one.how == "Problem":
            for word in _expanded([one.code]):
                found.setdefault(word, set())
    return found


def _is_of_step(one: Use) -> bool:
    return one.module.startswith(_OF_STEPS) and one.module not in _OF_REQUESTS


def waiting_codes() -> set[str]:
    """The codes of what an operation may wait for."""
    found = [one.code for one in uses() if _is_wait(one)]
    found += [text for text, module in constants() if _is_settling(text, module)]
    return _expanded(found) | set(_ALSO_WAITED_FOR)


def _is_wait(one: Use) -> bool:
    if one.how == "Unreachable":
        return _is_of_step(one)
    return one.how in _WAITS and one.module.startswith(_WAITING)


def _is_settling(text: str, module: str) -> bool:
    return module == "engine/settling.py" and bool(DOTTED.fullmatch(text))


def failure_codes() -> set[str]:
    """The codes an attempt or a step may fail with."""
    given = [
        one.code
        for one in uses()
        if one.how in ("Failure", "_refuse") or (one.how == "Refused" and _is_of_step(one))
    ]
    return _expanded(given) | set(REFUSALS) | set(_OF_STEPS_ALONE)


def ending_codes() -> set[str]:
    """The codes an operation may end with, beside those of its first failed step."""
    return _expanded(one.code for one in uses() if one.how == "ending")


# --- blocks ------------------------------------------------------------------------------------


def _findings(_old: str) -> str:
    rows = [
        (
            code(name),
            one.severity.value,
            "yes" if one.may_be_overridden else "no",
            plain(one.meaning),
            plain(one.remedy),
        )
        for name, one in CODES.items()
    ]
    return table(("code", "severity", "override", "what it means", "what to do"), rows)


def _errors(group: str, old: str) -> str:
    """The errors of one group: "errors", "lab errors" or "bugs"."""
    rows = [
        (code(name), *_answers(name, kinds))
        for name, kinds in sorted(request_codes().items())
        if _group_of(name, kinds) == group
    ]
    header = ("code", "class", "HTTP", "exit", "what it means", "what to do")
    return merged(old, header, rows, by_hand=2)


def _group_of(name: str, kinds: set[str]) -> str:
    if kinds == {"Bug"}:
        return "bugs"
    return "lab errors" if name.startswith("lab.") else "errors"


def _answers(name: str, kinds: set[str]) -> tuple[str, str, str]:
    """Class, HTTP status and exit code of an error."""
    if not kinds:
        return "-", name.removeprefix("http.") if name.startswith("http.") else "-", "-"
    made = [getattr(errors, kind)(name, "") for kind in sorted(kinds)]
    statuses = {str(problems._status_of(one)[0].value) for one in made}  # noqa: SLF001
    exits = {str(output.exit_code_of(one)) for one in made}
    return ", ".join(sorted(kinds)), ", ".join(sorted(statuses)), ", ".join(sorted(exits))


def _waiting(old: str) -> str:
    rows = [
        (code(name), "a person" if name in FOR_A_PERSON else "the world")
        for name in sorted(waiting_codes())
    ]
    return merged(old, ("code", "for", "what it waits for", "what to do"), rows, by_hand=2)


def _failures(old: str) -> str:
    rows = [(code(name), _again(name)) for name in sorted(failure_codes())]
    return merged(old, ("code", "tried again", "what it means", "what to do"), rows, by_hand=2)


def _again(name: str) -> str:
    if name not in REFUSALS:
        return "no"
    delay_s = REFUSALS[name].delay_s
    if delay_s is None:
        return "no"
    return f"after {delay_s:g} s" if delay_s else "at once, on the next target"


def _endings(old: str) -> str:
    rows = [(code(name),) for name in sorted(ending_codes())]
    return merged(old, ("code", "what it means", "what to do"), rows, by_hand=2)


def event_types(union: Any = journal.Event) -> list[type[Any]]:
    """Every kind of event, in the order of the journal's own list."""
    found: list[type[Any]] = []
    for one in get_args(union):
        found += event_types(one) if isinstance(one, UnionType) else [one]
    return found


def _events(old: str) -> str:
    rows = []
    for one in event_types():
        carried = [field.name for field in fields(one) if field.name != "kind"]
        words = (one.__doc__ or "").split("\n\n")[0]
        rows.append((code(one.kind), plain(words), ", ".join(map(code, carried)) or "nothing"))
    return merged(old, ("event", "meaning", "carries", "when you see it"), rows, by_hand=1)


def _words(kind: Any, header: tuple[str, ...], old: str) -> str:
    return merged(old, header, [(code(one.value),) for one in kind], by_hand=len(header) - 1)


def _exits(old: str) -> str:
    names = (
        "DONE", "FAILED", "USAGE", "REFUSED", "TIMED_OUT", "CANCELLED", "UNREACHABLE",
        "NOT_ALLOWED", "NEEDS_PERSON", "CONFLICT",
    )  # fmt: skip
    rows = [(str(getattr(output, name)), name.lower().replace("_", " ")) for name in names]
    rows.append(("130", "interrupted"))
    return merged(old, ("exit code", "name", "when"), rows, by_hand=1)


BLOCKS: Mapping[str, Callable[[str], str]] = {
    "exit codes": _exits,
    "findings": _findings,
    "waiting": _waiting,
    "failures": _failures,
    "endings": _endings,
    "errors": partial(_errors, "errors"),
    "lab errors": partial(_errors, "lab errors"),
    "bugs": partial(_errors, "bugs"),
    "outcomes": partial(_words, Outcome, ("outcome", "what it means", "what to do")),
    "acts": partial(_words, Act, ("act", "what is done, and when")),
    "conclusions": partial(_words, Conclusion, ("conclusion", "what it means")),
    "events": _events,
}
