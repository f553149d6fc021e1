"""Markdown tables: written from rows, read back, merged with what was written by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CELL_END = re.compile(r"(?<!\\)\|")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; an empty string where there are no rows."""
    lines = [list(row) for row in rows]
    if not lines:
        return ""
    ruler = ["---"] * len(header)
    return "".join(_line(row) for row in (header, ruler, *lines))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |\n"


def rows_of(text: str) -> list[list[str]]:
    """The cells of every row of every table in a text, without headers and rulers."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in _CELL_END.split(line.strip()[1:-1])]
        if all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            found.pop()  # What came before a ruler was the header.
        else:
            found.append(cells)
    return found


def merged(old: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, by_hand: int) -> str:
    """The table of these rows, whose last `by_hand` columns are taken from the old text, by the
    first cell; they are empty where the old text has no such row."""
    width = len(header) - by_hand
    written = {row[0]: row[width:] for row in rows_of(old) if len(row) == len(header)}
    nothing = [""] * by_hand
    return table(header, [(*row, *written.get(row[0], nothing)) for row in rows])


def code(text: str) -> str:
    """A word as it is typed; a bar in it would end the cell."""
    return "`" + text.replace("|", "\\|") + "`"


def plain(text: str) -> str:
    """Words for a cell."""
    return " ".join(text.split()).replace("|", "\\|")
