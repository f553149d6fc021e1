"""The documents, and what is written in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.reference.pages import ROOT

DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
_FENCE = re.compile(r"^\s*```(?P<language>\w*)")
_SPAN = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a document. `language` is that of the fence around it, "" in one without a
    language, None in plain text."""

    path: Path
    number: int
    text: str
    language: str | None

    @property
    def where(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.number}"

    @property
    def spans(self) -> list[str]:
        """What stands between backticks on this line."""
        return _SPAN.findall(self.text)


def lines_of(path: Path) -> Iterator[Line]:
    """Every line of a document but the fences themselves."""
    language: str | None = None
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(text)
        if fence:
            language = fence["language"] if language is None else None
        else:
            yield Line(path=path, number=number, text=text, language=language)


def blocks_of(path: Path, language: str) -> Iterator[str]:
    """The text of every fenced block in this language."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE):
        indent = len(found[1])
        yield "\n".join(line[indent:] for line in found[2].splitlines())


def anchors_of(path: Path) -> set[str]:
    """The anchors that headings of a document give, as they are made from their words."""
    found: set[str] = set()
    for line in lines_of(path):
        heading = re.match(r"#+ (.+)", line.text)
        if heading and line.language is None:
            words = re.sub(r"[^\w\- ]", "", heading[1].strip().lower())
            found.add(words.replace(" ", "-"))
    return found
