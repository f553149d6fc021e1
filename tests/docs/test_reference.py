"""The reference is what the code says: nothing is missing, nothing is there that is not true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scripts.reference.codes import BLOCKS, COMPUTED, NO_CODES, all_codes
from scripts.reference.commands import commands
from scripts.reference.pages import PAGES, REFERENCE, block_names, gaps, renewed
from scripts.reference.routes import routes
from scripts.reference.settings import setting_fields, variables
from scripts.reference.sources import constants, uses
from scripts.reference.tables import rows_of

from furlough.config import settings_of
from furlough.core.states import HOST_MODES, OPERATION_STATES, STEP_STATES
from furlough.errors import Invalid

RENEW = "Run `python -m scripts.reference` and fill what it asks for."
pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


def _text(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def _first_cells(text: str) -> list[str]:
    return [row[0].strip("`") for row in rows_of(text)]


@pages
def test_every_page_is_what_the_generator_would_write(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    fresh = renewed(text, PAGES[path])
    stale = [line for line in fresh.splitlines() if line not in text.splitlines()]
    gone = [line for line in text.splitlines() if line not in fresh.splitlines()]
    assert fresh == text, f"{RENEW} Missing: {stale[:5]}. No longer so: {gone[:5]}."


@pages
def test_every_page_has_each_of_its_blocks_once(path: Path) -> None:
    assert sorted(block_names(path.read_text(encoding="utf-8"))) == sorted(PAGES[path]), RENEW


@pages
def test_no_cell_that_a_person_must_fill_is_empty(path: Path) -> None:
    assert list(gaps(path.read_text(encoding="utf-8"))) == []


def test_every_code_in_the_source_is_documented_and_no_other() -> None:
    documented = set()
    for name in ("findings", "waiting", "failures", "endings", "errors", "lab errors", "bugs"):
        documented |= set(_first_cells(BLOCKS[name](_text("codes.md"))))
    assert documented == all_codes()
    assert documented <= set(_first_cells(_text("codes.md")))


def test_strings_that_are_excused_from_being_codes_are_still_in_the_source() -> None:
    assert {text for text, _ in constants()} >= NO_CODES
    assert {one.code for one in uses() if "{}" in one.code} == set(COMPUTED)


def test_every_setting_and_every_environment_variable_is_documented_and_no_other() -> None:
    cells = set(_first_cells(_text("settings.md")))
    settings = {name for name, _ in setting_fields()}
    assert {cell for cell in cells if cell.startswith("[")} == settings
    assert {cell for cell in cells if cell.isupper()} == variables()


def test_the_limits_of_numbers_on_the_page_are_those_that_the_loader_keeps() -> None:
    rows = [row for row in rows_of(_text("settings.md")) if row[0].startswith("`[")]
    limited = [(row[0].strip("`"), row[3]) for row in rows if row[1] == "number"]
    assert len(limited) >= 3
    for name, words in limited:
        table, setting = name.removeprefix("[").split("] ")
        least = re.search(r"at least ([0-9.]+)", words)
        most = 366 * 86_400.0
        assert "at most a year" in words, name
        _load(table, setting, most)
        outside = [most + 1] + ([float(least[1]) - 0.01] if least else [])
        for value in outside:
            with pytest.raises(Invalid):
                _load(table, setting, value)
        _load(table, setting, float(least[1]) if least else -1.0)


def _load(table: str, setting: str, value: float) -> None:
    settings_of({table: {setting: value}}, Path("furlough.toml"))


def test_every_route_has_a_section_of_its_own_and_no_other_has_one() -> None:
    sections = [line[4:] for line in _text("api.md").splitlines() if line.startswith("### ")]
    documented = {one for one in sections if " /" in one}
    assert documented == {
        f"{method} {path.removeprefix('/api/v1')}" for method, path, _ in routes()
    }


def test_every_command_has_a_section_with_its_exit_codes_and_an_example() -> None:
    sections = {
        part.split("\n", 1)[0]: part for part in _text("commands.md").split("\n### furlough ")[1:]
    }
    assert set(sections) == set(commands())
    for words, text in sections.items():
        after = text.split(f"<!-- end: command {words} -->")[1]
        assert "\nExit codes: " in after, words
        assert f"\nfurlough {words}" in after.split("```")[1], words


def test_the_diagrams_show_each_transition_of_the_tables_and_no_other() -> None:
    drawn = {
        tuple(part.strip() for part in line.split("-->"))
        for line in _text("states.md").splitlines()
        if " --> " in line and "[*]" not in line
    }
    allowed = {
        (state.value, follower.value)
        for table in (HOST_MODES, OPERATION_STATES, STEP_STATES)
        for state, followers in table.items()
        for follower in followers
    }
    assert drawn == allowed
