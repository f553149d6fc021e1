"""Usage and options of every command, from the command line's own definitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache, partial
from typing import Any

import typer

from furlough.cli.main import app
from scripts.reference.tables import code, plain, table

# Typer wraps its own copy of its parser, whose classes it does not name in public.
Command = Any


@cache
def commands() -> dict[str, Command]:
    """Every command, by the words one types after `furlough`; groups are not among them."""
    return dict(_below(typer.main.get_command(app), ()))


def _below(command: Command, words: tuple[str, ...]) -> Iterator[tuple[str, Command]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(words), command
        return
    for name, child in children.items():
        yield from _below(child, (*words, name))


def options_of(command: Command) -> set[str]:
    """Every option of a command, in all its spellings, and the two for help."""
    spellings = {"-h", "--help"}
    for one in command.params:
        if _is_option(one):
            spellings.update((*one.opts, *one.secondary_opts))
    return spellings


def is_flag(command: Command, spelling: str) -> bool:
    """Whether this option of a command takes no value."""
    for one in command.params:
        if spelling in (*one.opts, *one.secondary_opts):
            return bool(one.is_flag)
    return True


def _is_option(one: Any) -> bool:
    return bool(one.param_type_name == "option")


def _block(words: str, command: Command, _old: str) -> str:
    usage = " ".join(["furlough", words, *(_usage(one) for one in command.params)])
    rows = [(code(_spelling(one)), plain(_meaning(one)), _default(one)) for one in command.params]
    paragraphs = [
        f"```\n{usage}\n```",
        *(" ".join(part.split()) for part in (command.help or "").split("\n\n")),
        table(("argument or option", "meaning", "default"), rows),
    ]
    return "\n\n".join(part for part in paragraphs if part)


def _usage(one: Any) -> str:
    if _is_option(one):
        return f"[{_spelling(one)}]" if not one.required else _spelling(one)
    return _argument(one) if one.required else f"[{_argument(one).strip('[]')}]"


def _spelling(one: Any) -> str:
    if not _is_option(one):
        return _argument(one)
    names = "|".join((*sorted(one.opts, key=len, reverse=True), *one.secondary_opts))
    return names if one.is_flag else f"{names} {_value(one)}"


def _argument(one: Any) -> str:
    return str(one.metavar or one.name.upper())


def _value(one: Any) -> str:
    """What stands for the value of an option."""
    return str(one.metavar or one.name.upper().replace("-", "_"))


def _meaning(one: Any) -> str:
    annotation = one.type_descriptor.annotation
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return f"{one.help} One of: {', '.join(str(member.value) for member in annotation)}."
    return str(one.help or "")


def _default(one: Any) -> str:
    if one.required:
        return "required"
    value = one.default.value if isinstance(one.default, Enum) else one.default
    return "-" if value in (None, "", False) else code(str(value))


def blocks() -> Mapping[str, Callable[[str], str]]:
    """One block for every command."""
    return {
        f"command {words}": partial(_block, words, command) for words, command in commands().items()
    }
