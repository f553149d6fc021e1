"""The generator itself: what it keeps, what it renews, what it finds in the source."""

from __future__ import annotations

import ast

import pytest
from scripts.reference.pages import gaps, renewed
from scripts.reference.sources import found_in
from scripts.reference.tables import merged, rows_of, table


def test_what_was_written_by_hand_stays_with_its_row_when_rows_come_and_go() -> None:
    old = table(("code", "kind", "meaning"), [("`a`", "old", "about a"), ("`b`", "x", "about b")])
    new = merged(old, ("code", "kind", "meaning"), [("`c`", "y"), ("`a`", "new")], by_hand=1)
    assert rows_of(new) == [["`c`", "y", ""], ["`a`", "new", "about a"]]


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert rows_of("| `a\\|b` | c |\n") == [["`a\\|b`", "c"]]


def test_only_blocks_are_renewed() -> None:
    page = "before\n<!-- begin: x -->\nold\n<!-- end: x -->\nafter\n"
    assert renewed(page, {"x": str.upper}) == page.replace("old", "OLD")


def test_a_block_that_nobody_writes_is_an_error() -> None:
    with pytest.raises(KeyError):
        renewed("<!-- begin: x -->\n<!-- end: x -->\n", {})


def test_an_empty_cell_is_a_gap() -> None:
    page = "<!-- begin: x -->\n| a | b |\n| --- | --- |\n| one |  |\n<!-- end: x -->\n"
    assert list(gaps(page)) == ["x: one"]


def test_codes_are_found_however_they_are_given() -> None:
    source = """
def one(state):
    raise Refused("vm.changed", "words")

def two(late):
    code = "timed_out" if late else "cancelled"
    return Failure(code=code, message="words")

def three(self, outcome):
    self._wait("host.silent", "words")
    return Failure(code=f"vm.{outcome}")

def four():
    return OperationState.FAILED, "restore_incomplete", "words"

LEAVE, OTHER = "vm.leave", 5

def five(self, alone):
    stays = LEAVE if alone else "vm.no_target"
    self._wait(stays, "words")

def six(kind):
    raise Conflict(f"{kind}.exists", "words")
"""
    assert {(one.how, one.code) for one in found_in("m.py", ast.parse(source))} == {
        ("Refused", "vm.changed"),
        ("Failure", "timed_out"),
        ("Failure", "cancelled"),
        ("_wait", "host.silent"),
        ("Failure", "vm.{}"),
        ("ending", "restore_incomplete"),
        ("_wait", "vm.leave"),
        ("_wait", "vm.no_target"),
        ("Conflict", "{}.exists"),
    }
