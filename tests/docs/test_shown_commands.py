"""Commands and files that the documents show are commands and files that work."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.reference.commands import commands, options_of
from scripts.reference.pages import ROOT

from furlough.config import settings_of
from furlough.daemon import enrolment_of
from tests.docs.pages import DOCUMENTS, blocks_of, lines_of

_IN_FENCE = re.compile(r"^(?:\$ )?(?:\S*/)?furlough (?P<rest>.+)$")
_IN_SPAN = re.compile(r"^furlough (?P<rest>.+)$")
_WORD = re.compile(r"[a-z][a-z-]*(\|[a-z][a-z-]*)*")


def _shown(path: Path) -> Iterator[tuple[str, str]]:
    """Every command that a document shows, with its place."""
    for line in lines_of(path):
        if line.language is None:
            found = [_IN_SPAN.match(span) for span in line.spans]
        else:
            found = [_IN_FENCE.match(line.text.strip())]
        yield from ((line.where, match["rest"]) for match in found if match)


def _mistakes(shown: str) -> Iterator[str]:
    """What is wrong with a command: `check|plan HOST... [--json]`, an explanation behind it."""
    typed = re.split(r" {2,}| #|;| \[?-- ", shown.replace("\\|", "|"))[0]
    tokens = typed.replace("[", " ").replace("]", " ").split()
    words = list(itertools.takewhile(_WORD.fullmatch, tokens))
    used = {one.split("=")[0] for token in tokens for one in token.split("|") if one[:1] == "-"}
    for spelt in itertools.product(*(word.split("|") for word in words)) if words else ():
        yield from _mistakes_of(spelt, used)


def _mistakes_of(words: tuple[str, ...], used: set[str]) -> Iterator[str]:
    known = commands()
    name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in known), None)
    if name is not None:
        unknown = sorted(used - options_of(known[name]))
        if unknown:
            yield f"furlough {name} has no option {', '.join(unknown)}"
    elif len(words) > 1 or not any(one.startswith(f"{words[0]} ") for one in known):
        yield f"there is no command furlough {' '.join(words)}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_shown_exists_with_these_options(path: Path) -> None:
    wrong = [f"{where}: {mistake}" for where, shown in _shown(path) for mistake in _mistakes(shown)]
    assert wrong == []


def test_the_first_pages_show_commands_and_a_wrong_one_would_be_noticed() -> None:
    assert len(list(_shown(ROOT / "README.md"))) >= 8
    assert len(list(_shown(ROOT / "docs" / "tutorial.md"))) >= 3
    assert list(_mistakes("enter|leave h1 --wait")) == ["there is no command furlough leave"]
    assert list(_mistakes("enter h1 --force  moves all")) == [
        "furlough enter has no option --force"
    ]
    assert list(_mistakes("host paint h1")) == ["there is no command furlough host paint"]


_TOML = [path for path in DOCUMENTS if "```toml" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", _TOML, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_settings_file_that_is_shown_is_accepted(path: Path) -> None:
    for text in blocks_of(path, "toml"):
        settings = settings_of(tomllib.loads(text), path)
        enrolment = enrolment_of(settings.enrolment)
        assert len(enrolment.hosts) == text.count("[[host]]")
        assert len(enrolment.clusters) == text.count("[[cluster]]")
