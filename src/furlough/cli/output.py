"""What commands print: tables for people, JSON for programs, errors with their exit code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from furlough.errors import (
    Conflict,
    FurloughError,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Unreachable,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

DONE, FAILED, USAGE, REFUSED, TIMED_OUT, CANCELLED = range(6)
UNREACHABLE, NOT_ALLOWED, NEEDS_PERSON, CONFLICT = range(6, 10)
INTERRUPTED = 130

_EXIT_CODES: dict[type[FurloughError], int] = {
    Invalid: USAGE,
    NotFound: USAGE,
    NotAllowed: NOT_ALLOWED,
    Refused: REFUSED,
    Conflict: CONFLICT,
}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|m|h|d)?")
_LONGEST_S = 366 * 86_400
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def exit_code_of(error: FurloughError) -> int:
    """The exit code for an error; see the table in the reference."""
    if isinstance(error, Unreachable):
        return UNREACHABLE if error.code.startswith("daemon.") else FAILED
    for kind in type(error).__mro__:
        if kind in _EXIT_CODES:
            return _EXIT_CODES[kind]
    return FAILED


def complain(error: FurloughError) -> None:
    """An error for a person: what, why, and what to do."""
    lines = [f"furlough: {error.message}"]
    findings = error.facts.get("findings")
    blockers = [one for one in findings if _is_blocker(one)] if isinstance(findings, list) else []
    if blockers:
        lines = ["furlough: refused, and nothing was changed:"]
        for one in blockers:
            lines += [f"  {one['code']}: {one['message']}", f"    -> {one['remedy']}"]
    if error.remedy:
        lines.append(f"  -> {error.remedy}")
    warn(*lines)


def _is_blocker(finding: object) -> bool:
    if not isinstance(finding, dict):
        return False
    return finding.get("severity") == "blocker" and {"code", "message", "remedy"} <= set(finding)


def seconds(text: str) -> float:
    """A length of time: 90, 90s, 5m, 2h, 1d, at most 366 days. Raises `Invalid`."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise Invalid(
            "duration.malformed",
            f"{text!r} is no length of time.",
            remedy="Give seconds, or a number with s, m, h or d: 90s, 5m.",
        )
    length_s = float(found[1]) * _SECONDS[found[2] or "s"]
    if length_s > _LONGEST_S:
        raise Invalid(
            "duration.absurd",
            f"{text!r} is longer than a year.",
            remedy="Give less; 0 means for ever.",
        )
    return length_s


def say(text: str = "") -> None:
    """One line for a person, whatever is in the text."""
    print(printable(text), flush=True)  # noqa: T201


def warn(*lines: str) -> None:
    """Lines for a person, beside what the command prints."""
    text = "\n".join(printable(line) for line in lines)
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def printable(text: str) -> str:
    """The text on one line, with control characters shown, not obeyed: names are chosen by
    strangers, and one with a line break in it could forge a line of ours."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _SHOWN.get(char, "?") for char in text)


_SHOWN = {"\n": " "}


def print_json(shape: BaseModel | Sequence[BaseModel]) -> None:
    """What programs read."""
    if isinstance(shape, Sequence):
        found: Any = [one.model_dump(mode="json") for one in shape]
    else:
        found = shape.model_dump(mode="json")
    print_text(json.dumps(found, indent=2))


def print_indented(content: object) -> None:
    """Plain JSON, which may be long, one column further in at each level. Of texts that no file
    can hold (halves of characters) it must be free."""
    import msgspec

    text = json.dumps(content)  # in ASCII, which the other library would not keep to
    print_text(msgspec.json.format(text, indent=1))


def print_text(text: str) -> None:
    """Lines for programs, in ASCII: what every terminal can show and no name can abuse."""
    print(text, flush=True)  # noqa: T201


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A plain table, its columns as wide as they need to be. Control characters in names are
    shown, not obeyed."""
    texts = [[_plain(cell) for cell in row] for row in rows]
    widths = [
        max([len(column), *(len(row[index]) for row in texts)])
        for index, column in enumerate(columns)
    ]
    for row in ([column.upper() for column in columns], *texts):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def print_facts(facts: Mapping[str, object]) -> None:
    """What is known of one thing, one fact to a line; what is not known is left out."""
    known = {name: _plain(value) for name, value in facts.items() if value not in (None, "")}
    width = max(len(name) for name in known)
    for name, value in known.items():
        say(f"{name.replace('_', ' ').ljust(width)}  {value}")


def _plain(cell: object) -> str:
    return "-" if cell is None else printable(str(cell))


def mib(value: float) -> str:
    """Memory for a person."""
    return f"{value / 1024:.1f} GiB" if value >= 10_240 else f"{value:.0f} MiB"


def span(value: float) -> str:
    """A length of time for a person."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
