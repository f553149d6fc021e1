"""Names of VMs are chosen by strangers: on a terminal they are text on one line. Numbers are those
of the fault catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.cli import output
from tests.api.running import Running
from tests.api.strange import FORGED, NAMES, SECOND, TWICE, id_of, running_with_strange_names
from tests.cli.commands import Furlough, complaint

SHOWN = "x furlough: all is well?]0;owned?"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Running]:
    with running_with_strange_names() as daemon:
        yield daemon


def _is_plain(text: str) -> bool:
    """Whether a text does nothing to a terminal but to fill its lines."""
    return all(line.isprintable() for line in text.split("\n"))


def test_f084_every_name_is_one_line_of_a_listing(furlough: Furlough) -> None:
    said = furlough("vm", "list", "--host", "h1").out
    assert _is_plain(said)
    lines = said.splitlines()[1:]
    assert len(lines) == len(NAMES) + 1
    for number, name in enumerate(NAMES, start=1):
        (line,) = [one for one in lines if one.endswith(id_of(number))]
        assert line.startswith(output.printable(name))


def test_f084_one_is_asked_for_by_its_uuid_and_a_dash_is_no_option(furlough: Furlough) -> None:
    for number, name in enumerate(NAMES, start=1):
        shown = furlough("vm", "show", id_of(number), "--json")
        assert (shown.code, shown.json["name"]) == (0, name)
    assert furlough("vm", "show", "--json", "--", "-x").json["uuid"] == id_of(4)
    twice = furlough("vm", "show", TWICE)
    assert twice.code == 2
    assert SECOND in complaint(twice)


def test_f084_no_name_forges_a_line_of_a_check_of_a_journey_or_of_a_log(
    furlough: Furlough,
) -> None:
    """What we say begins its lines with words of ours; a line break in a name begins none."""
    said = [
        furlough("check", "h1"),
        furlough("plan", "h1"),
        furlough("enter", "h1", "--wait"),
        furlough("operation", "list"),
        furlough("host", "log", "h1", "-n", "1000"),
        furlough("exit", "h1", "--check"),
        furlough("exit", "h1", "--wait"),
    ]
    assert [one.code for one in said] == [0] * len(said)
    for one in said:
        assert _is_plain(one.out)
        assert _is_plain(one.err)
        assert not any(line.startswith("furlough: all") for line in one.out.splitlines())
    for one in (said[0], said[1], said[2], said[4], said[5]):
        assert SHOWN in one.out


def test_f084_nor_of_a_complaint(furlough: Furlough, daemon: Running) -> None:
    refused = furlough("enter", "h1", "--shut-down", f"no {FORGED}")
    assert refused.code == 2
    assert _is_plain(complaint(refused))
    assert "\nfurlough: all" not in refused.err


@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=40))
def test_f084_whatever_a_name_is_it_is_shown_on_one_line_of_plain_text(name: str) -> None:
    shown = output.printable(name)
    assert shown.isprintable()
    assert len(shown) == len(name)
    assert shown == name or not name.isprintable()
