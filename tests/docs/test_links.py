"""Links between the documents lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scripts.reference.pages import ROOT

from tests.docs.pages import DOCUMENTS, anchors_of, lines_of

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(path: Path) -> None:
    dead = []
    for line in lines_of(path):
        links = _LINK.findall(line.text) if line.language is None else []
        for link in links:
            if "://" in link or link.startswith("mailto:"):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            if not target.exists():
                dead.append(f"{line.where}: {link}: there is no {name}")
            elif anchor and anchor not in anchors_of(target):
                dead.append(f"{line.where}: {link}: there is no such heading")
    assert dead == []


def test_there_are_links_to_look_at() -> None:
    found = sum(len(_LINK.findall(line.text)) for path in DOCUMENTS for line in lines_of(path))
    assert found > 100
