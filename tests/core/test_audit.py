"""The chain of the audit trail: what is written holds, and whatever is done to it shows."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.access import Principal, PrincipalKind
from furlough.core.audit import BEGINNING, AuditLine, Checkpoint, Deed, line_of, sealed, verify

T0 = datetime(2026, 1, 1, tzinfo=UTC)
START = Checkpoint(number=0, hash=BEGINNING)
ALICE = Principal(
    name="alice",
    kind=PrincipalKind.SESSION,
    address="192.0.2.1",
    credential="session-1",
    request="r-1",
)


def trail(length: int, *, result: str = "done") -> list[AuditLine]:
    lines: list[AuditLine] = []
    last = START
    for number in range(1, length + 1):
        deed = Deed(by=ALICE, action="cordon", subject=f"host h{number}", after='{"a": 1}')
        lines.append(line_of(deed, result, T0 + timedelta(seconds=number), last))
        last = Checkpoint(number=number, hash=lines[-1].hash)
    return lines


def mark(line: AuditLine) -> Checkpoint:
    return Checkpoint(number=line.number, hash=line.hash)


def test_a_line_says_who_from_where_what_and_how_it_ended() -> None:
    (line,) = trail(1, result="access.denied")
    assert (line.principal, line.kind, line.address) == ("alice", "session", "192.0.2.1")
    assert (line.credential, line.request) == ("session-1", "r-1")
    assert (line.action, line.subject, line.result) == ("cordon", "host h1", "access.denied")
    assert (line.number, line.previous) == (1, BEGINNING)


@pytest.mark.parametrize("length", [0, 1, 7])
def test_what_was_written_is_intact(length: int) -> None:
    lines = trail(length)
    assert verify(lines, START) == ()
    assert verify(lines, START, [mark(line) for line in lines]) == ()


def test_a_part_of_it_is_intact_after_the_line_before() -> None:
    lines = trail(6)
    assert verify(lines[3:], mark(lines[2]), [mark(lines[0]), mark(lines[4])]) == ()


@pytest.mark.parametrize("name", [one.name for one in fields(AuditLine)])
def test_no_field_of_a_line_can_be_changed_unseen(name: str) -> None:
    lines = trail(4)
    other: dict[str, object] = {
        "number": 99,
        "at": T0,
        "kind": PrincipalKind.LOCAL,
        "previous": "f" * 64,
        "hash": "f" * 64,
    }
    lines[1] = replace(lines[1], **{name: other.get(name, "forged")})  # type: ignore[arg-type]
    found = verify(lines, START)
    assert found
    assert found[0].number in (2, 3)


def test_a_line_that_is_written_anew_with_its_hash_breaks_the_next_one() -> None:
    lines = trail(4)
    lines[1] = sealed(replace(lines[1], principal="bob"))
    assert [one.number for one in verify(lines, START)] == [3]


@pytest.mark.parametrize(("gone", "why"), [([2], "line 3 is"), ([2, 3], "line 3 to 4 is")])
def test_lines_that_are_gone_are_named(gone: list[int], why: str) -> None:
    lines = [line for index, line in enumerate(trail(6)) if index not in gone]
    (fault,) = verify(lines, START)
    assert (fault.number, fault.why) == (3, f"{why} missing")


def test_lines_that_come_twice_are_named() -> None:
    lines = trail(3)
    found = verify([*lines, lines[1]], START)
    assert [(one.number, "order" in one.why) for one in found] == [(2, True)]


def test_a_tail_that_is_cut_off_is_found_by_a_checkpoint_alone() -> None:
    lines = trail(6)
    assert verify(lines[:4], START) == ()
    (fault,) = verify(lines[:4], START, [mark(lines[1]), mark(lines[5])])
    assert (fault.number, "gone" in fault.why) == (6, True)


def test_a_trail_that_is_written_anew_as_a_whole_is_found_by_a_checkpoint() -> None:
    kept = mark(trail(5)[3])
    anew = trail(5, result="forged")
    assert verify(anew, START) == ()
    (fault,) = verify(anew, START, [kept])
    assert (fault.number, "checkpoint" in fault.why) == (4, True)


@given(st.text(), st.text())
def test_no_two_lines_that_differ_have_the_same_hash(one: str, other: str) -> None:
    """Not even where what one field ends with could be what the next begins with."""
    (line,) = trail(1)
    first = sealed(replace(line, before=one, after=other))
    second = sealed(replace(line, before=one + other, after=""))
    assert (first.hash == second.hash) is (other == "")
