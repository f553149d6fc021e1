"""Policies that travel with a VM: what its owner wants done with it while its host is serviced.

A VM carries only what was set for it, as words (`on_maintenance` → `shut_down`); what it does
not say is the default of its cluster, and what that does not say is the default here. Words that
make no sense are told and count as not said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import lru_cache

from furlough.core.ids import HostName, parse_host_name
from furlough.errors import Invalid

# What a VM or a cluster says, as name and word, in the order of the names.
Words = tuple[tuple[str, str], ...]

_MOST_HOSTS = 256
_LONGEST_WORD = 16_384


class OnMaintenance(StrEnum):
    """What is done with a VM that has to leave its host. A VM that can move live moves live, but
    with the last two: `cold`, `suspend` and `shut_down` say what may be done where it cannot.
    `leave`: it is not touched. `ask`: somebody has to decide each time."""

    LIVE = "live"
    COLD = "cold"
    SUSPEND = "suspend"
    SHUT_DOWN = "shut_down"
    LEAVE = "leave"
    ASK = "ask"


class PostCopy(StrEnum):
    """Whether a migration that does not converge may go over to post-copy."""

    NEVER = "never"
    IF_NEEDED = "if_needed"


class IfIgnored(StrEnum):
    """What follows when the guest ignores the request to shut down until its grace is over."""

    KEEP = "keep"
    POWER_OFF = "power_off"


@dataclass(frozen=True, kw_only=True)
class VmPolicy:
    """What holds for one VM.

    `availability_priority` 0-100: who matters more moves, stops and starts as one that matters
    more. `ha`: it must find room after one more host is lost. `needs_agent`: it is moved only
    while its guest agent answers. Groups are names within its cluster; `host_affinity` the hosts
    it may use, none: all.
    """

    on_maintenance: OnMaintenance = OnMaintenance.LIVE
    shut_down_grace_s: int = 180
    if_ignored: IfIgnored = IfIgnored.KEEP
    availability_priority: int = 50
    ha: bool = False
    downtime_budget_ms: int | None = None
    post_copy: PostCopy = PostCopy.NEVER
    affinity_group: str = ""
    anti_affinity_group: str = ""
    host_affinity: tuple[HostName, ...] = ()
    needs_agent: bool = False


DEFAULT = VmPolicy()


@lru_cache(maxsize=4096)
def policy_of(words: Words, defaults: Words = ()) -> tuple[VmPolicy, tuple[str, ...]]:
    """The policy that these words make on top of a cluster's defaults, and what is wrong with
    the VM's own words."""
    policy, _ = _spoken(defaults, DEFAULT)
    return _spoken(words, policy)


def _spoken(words: Words, policy: VmPolicy) -> tuple[VmPolicy, tuple[str, ...]]:
    troubles: list[str] = []
    for name, word in words:
        try:
            # Each setting's parser gives what its field is for.
            policy = replace(policy, **{name: parse_word(name, word)})  # type: ignore[arg-type]
        except Invalid as error:
            troubles.append(error.message)
    return policy, tuple(troubles)


def parse_word(name: str, word: str) -> object:
    """The value of one setting; `Invalid` where there is no such setting or no such value."""
    parse = _PARSERS.get(name)
    if parse is None:
        raise Invalid(
            "policy.unknown",
            f"There is no policy {name[:64]!r} of a VM.",
            remedy=f"Known are {', '.join(_PARSERS)}.",
        )
    if len(word) > _LONGEST_WORD:
        raise Invalid(
            "policy.value",
            f"{name} is longer than {_LONGEST_WORD} characters.",
            remedy=f"Give {_ALLOWED[name]}.",
        )
    try:
        return parse(word)
    except (ValueError, Invalid) as error:
        raise Invalid(
            "policy.value",
            f"{name} cannot be {word[:64]!r}.",
            remedy=f"Give {_ALLOWED[name]}.",
        ) from error


def words_of(policy: Mapping[str, str]) -> Words:
    """Settings as a VM carries them; `Invalid` where one makes no sense."""
    for name, word in policy.items():
        parse_word(name, word)
    return tuple(sorted(policy.items()))


def merged_words(words: Words, changes: Mapping[str, str | None]) -> Words:
    """The words of a VM after these changes; None takes a word away. `Invalid` where a change
    makes no sense. What made no sense before is not kept: it counted as not said."""
    known = {name: word for name, word in words if _makes_sense(name, word)}
    for name, word in changes.items():
        if word is None and name in _PARSERS:
            known.pop(name, None)
        else:
            parse_word(name, word or "")
            known[name] = word or ""
    return tuple(sorted(known.items()))


def _makes_sense(name: str, word: str) -> bool:
    try:
        parse_word(name, word)
    except Invalid:
        return False
    return True


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(word: str) -> int:
        if not (word.isascii() and word.isdigit() and len(word) <= 9):
            raise ValueError(word)
        if not least <= int(word) <= most:
            raise ValueError(word)
        return int(word)

    return parse


def _truth(word: str) -> bool:
    if word not in ("true", "false"):
        raise ValueError(word)
    return word == "true"


def _group(word: str) -> str:
    """A name as hosts have them; nothing takes the VM out of its group."""
    return str(parse_host_name(word)) if word else ""


def _hosts(word: str) -> tuple[HostName, ...]:
    names = [part.strip() for part in word.split(",") if part.strip()]
    if len(names) > _MOST_HOSTS:
        raise ValueError(word)
    return tuple(parse_host_name(name) for name in names)


def _budget(word: str) -> int | None:
    return _whole(1, 600_000)(word) if word else None


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "on_maintenance": OnMaintenance,
    "shut_down_grace_s": _whole(1, 86_400),
    "if_ignored": IfIgnored,
    "availability_priority": _whole(0, 100),
    "ha": _truth,
    "downtime_budget_ms": _budget,
    "post_copy": PostCopy,
    "affinity_group": _group,
    "anti_affinity_group": _group,
    "host_affinity": _hosts,
    "needs_agent": _truth,
}


def _one_of(kind: Iterable[StrEnum]) -> str:
    return "one of " + ", ".join(one.value for one in kind)


_ALLOWED: Mapping[str, str] = {
    "on_maintenance": _one_of(OnMaintenance),
    "shut_down_grace_s": "seconds, 1 to 86400",
    "if_ignored": _one_of(IfIgnored),
    "availability_priority": "a whole number, 0 to 100",
    "ha": "true or false",
    "downtime_budget_ms": "milliseconds, 1 to 600000, or nothing",
    "post_copy": _one_of(PostCopy),
    "affinity_group": "a name of letters, digits, dots, dashes and underscores, or nothing",
    "anti_affinity_group": "a name of letters, digits, dots, dashes and underscores, or nothing",
    "host_affinity": "names of hosts with commas between, or nothing",
    "needs_agent": "true or false",
}

NAMES: tuple[str, ...] = tuple(one.name for one in fields(VmPolicy))


def allowed(name: str) -> str:
    """What a setting may be, in words, for help and documentation."""
    return _ALLOWED[name]


def word_of(value: object) -> str:
    """A value as it is written in words."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(str(one) for one in value)
    return str(value)
