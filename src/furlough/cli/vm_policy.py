"""The policy of a VM as people type it and read it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from furlough.cli import output
from furlough.core.vm_policy import NAMES, merged_words
from furlough.errors import Invalid

if TYPE_CHECKING:
    from furlough.wire.facts import VmView

OnMaintenance = Annotated[
    Literal["live", "cold", "suspend", "shut_down", "leave", "ask"] | None,
    typer.Option("--on-maintenance", help="What may be done with it where it cannot move live."),
]
Grace = Annotated[
    str | None,
    typer.Option("--shut-down-grace", help="How long its guest may take to shut down: 90s, 3m."),
]
IfIgnored = Annotated[
    Literal["keep", "power_off"] | None,
    typer.Option("--if-ignored", help="What follows when the guest does not shut down by then."),
]
Priority = Annotated[
    int | None,
    typer.Option(
        "--availability-priority",
        min=0,
        max=100,
        help="Who has more is shut down later and started earlier (0-100).",
    ),
]
Ha = Annotated[
    bool | None,
    typer.Option("--ha/--no-ha", help="It must find room after one more host is lost."),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--downtime-budget",
        help="Longest pause of a migration: 500ms, 2s; not used yet.",
    ),
]
PostCopy = Annotated[
    Literal["never", "if_needed"] | None,
    typer.Option(
        "--post-copy",
        help="Whether a migration may use it at need; not used yet.",
    ),
]
Affinity = Annotated[
    str | None,
    typer.Option("--affinity-group", help="It runs on one host with the others of this group."),
]
AntiAffinity = Annotated[
    str | None,
    typer.Option("--anti-affinity-group", help="It runs apart from the others of this group."),
]
HostAffinity = Annotated[
    str | None,
    typer.Option("--host-affinity", help="The hosts it may use, with commas between."),
]
NeedsAgent = Annotated[
    bool | None,
    typer.Option(
        "--needs-agent/--no-needs-agent", help="It is moved only while its guest agent answers."
    ),
]
Unset = Annotated[
    list[str] | None,
    typer.Option("--unset", help="A setting whose default is to hold again. Repeat for several."),
]

_BUDGET = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s)?")


def changes(unset: list[str], **given: Any) -> dict[str, Any]:
    """What a command changes: the settings named, and None for those that are taken away."""
    wanted = {name: value for name, value in given.items() if value is not None}
    for text in unset:
        name = _setting(text)
        if name in wanted:
            raise Invalid(
                "policy.contradiction",
                f"{name} is to be set and to be taken away.",
                remedy="Say one of them.",
            )
        wanted[name] = None
    if not wanted:
        raise Invalid(
            "policy.nothing",
            "Nothing is named that could be set.",
            remedy="See what there is: furlough vm set --help.",
        )
    return wanted


def _setting(text: str) -> str:
    """A setting by its name or by its option: shut_down_grace_s, shut-down-grace."""
    plain = text.removeprefix("--").replace("-", "_")
    for name in NAMES:
        if plain in (name, name.removesuffix("_s").removesuffix("_ms")):
            return name
    raise Invalid(
        "policy.unknown",
        f"There is no policy {text[:64]!r} of a VM.",
        remedy=f"Known are {', '.join(NAMES)}.",
    )


def whole_seconds(text: str | None) -> int | None:
    """A length of time as its setting wants it."""
    if text is None:
        return None
    found = output.seconds(text)
    if found != int(found):
        raise Invalid(
            "duration.fraction", f"{text!r} is no whole number of seconds.", remedy="Round it."
        )
    return int(found)


def milliseconds(text: str | None) -> int | None:
    """A short length of time: 500ms, 500, 0.5s."""
    if text is None:
        return None
    found = _BUDGET.fullmatch(text.strip())
    if not found or len(text) > 16:
        raise Invalid(
            "duration.malformed",
            f"{text[:64]!r} is no length of time.",
            remedy="Give milliseconds, or a number with ms or s: 500ms, 2s.",
        )
    return round(float(found[1]) * (1000 if found[2] == "s" else 1))


def print_vm(vm: VmView) -> None:
    """One VM, and under it every setting: what it is, and whether the VM says so itself."""
    facts = vm.model_dump(mode="json")
    for name in ("policy", "own_policy", "policy_troubles", "on_maintenance", "ha"):
        del facts[name]
    output.print_facts(facts)
    output.say()
    own = dict(merged_words(tuple(vm.own_policy.items()), {}))
    output.print_table(
        ("policy", "value", "from"),
        [
            (name, _words(vm.policy[name]), "the VM" if name in own else "default")
            for name in vm.policy
        ],
    )
    for trouble in vm.policy_troubles:
        output.say(f"  makes no sense and counts as not said: {trouble}")


def _words(value: object) -> str | None:
    """A setting for a person; None where it says nothing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or None
    return None if value in (None, "") else str(value)
