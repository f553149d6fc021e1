"""Which pages there are, which blocks they have, and how a page is renewed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from scripts.reference import codes, commands, routes, settings, states
from scripts.reference.tables import rows_of

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"

# Given the text that a block has now, the text that it should have.
Block = Callable[[str], str]

PAGES: Mapping[Path, Mapping[str, Block]] = {
    REFERENCE / "commands.md": commands.blocks(),
    REFERENCE / "settings.md": settings.BLOCKS,
    REFERENCE / "codes.md": codes.BLOCKS,
    REFERENCE / "states.md": states.BLOCKS,
    REFERENCE / "api.md": routes.BLOCKS,
}

_BLOCK = re.compile(
    r"^<!-- begin: (?P<name>[^>\n]+?) -->\n(?P<text>.*?)^<!-- end: (?P=name) -->$",
    re.DOTALL | re.MULTILINE,
)


def block_names(page: str) -> list[str]:
    """The names of the blocks of a page, in their order."""
    return [found["name"] for found in _BLOCK.finditer(page)]


def renewed(page: str, blocks: Mapping[str, Block]) -> str:
    """The page with every block as it should be. `KeyError` for a block that nobody writes."""

    def fresh(found: re.Match[str]) -> str:
        name = found["name"]
        text = blocks[name](found["text"]).strip("\n")
        return f"<!-- begin: {name} -->\n{text}\n<!-- end: {name} -->"

    return _BLOCK.sub(fresh, page)


def gaps(page: str) -> Iterator[str]:
    """The first cells of all rows in blocks that have an empty cell."""
    for found in _BLOCK.finditer(page):
        for row in rows_of(found["text"]):
            if not all(row):
                yield f"{found['name']}: {row[0]}"
