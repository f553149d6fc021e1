"""`furlough exit` and `furlough record`, as people type and read them."""

from __future__ import annotations

import pytest

from tests.cli.commands import Furlough, complaint

pytestmark = pytest.mark.usefixtures("everything_as_before")


@pytest.fixture
def names(furlough: Furlough) -> list[str]:
    """The VMs of h2, which is in maintenance."""
    found = [one["name"] for one in furlough("vm", "list", "--host", "h2", "--json").json]
    assert len(found) > 3
    assert furlough("enter", "h2", "--wait").code == 0
    return sorted(found)


def test_the_precheck_shows_lists_and_who_stays(furlough: Furlough, names: list[str]) -> None:
    every = furlough("exit", "h2", "--check")
    assert every.code == 0
    assert every.out.startswith("h2: ok\nto migrate back live:\n")
    assert "stay where they are" not in every.out
    two = furlough("exit", "h2", "--check", "--live-migrate-back", f"{names[0]},{names[1]}").out
    coming, staying = two.split("stay where they are:")
    assert all(name in coming and name not in staying for name in names[:2])
    assert all(name in staying and name not in coming for name in names[2:])
    assert "it was not selected" in staying
    assert two.rstrip().splitlines()[-1].startswith("4 steps, 2 migrations, ")


def test_the_selected_come_home_and_the_ending_names_who_is_not(
    furlough: Furlough, names: list[str]
) -> None:
    ended = furlough(
        "exit", "h2", "--live-migrate-back", names[0], "--live-migrate-back", names[1], "--wait"
    )
    assert ended.code == 0
    assert f"Not home: {names[2]} (it was not selected)" in ended.out
    assert "the next furlough exit h2 may bring it home" in ended.out
    shown = furlough("record", "h2").out
    assert f"h2 (available): {len(names) - 2} VM(s) to come home" in shown
    assert "furlough record h2 --close" in shown
    assert furlough("exit", "h2", "--wait").code == 0
    assert furlough("record", "h2").out == "h2: nobody is on record who is to come home.\n"
    assert furlough("record", "h2", "--json").json["is_open"] is False


def test_a_record_is_closed_when_a_person_says_so(furlough: Furlough, names: list[str]) -> None:
    assert furlough("exit", "h2", "--restore", "none", "--wait").code == 0
    assert "go with --close" in complaint(furlough("record", "h2", "--reason", "why"))
    closed = furlough("record", "h2", "--close", "--reason", "they stay", "--wait")
    assert closed.code == 0
    assert f"Off the record: {names[0]}" in closed.out
    refused = furlough("exit", "h2")
    assert refused.code == 9
    assert "nobody is on record who is to come home" in refused.err
    for name in names:  # As before, for the stories that follow.
        assert furlough("vm", "migrate", name, "--to", "h2", "--wait").code == 0


def test_a_vm_that_is_not_on_record_is_no_choice(furlough: Furlough, names: list[str]) -> None:
    assert names
    for words in (("--power-on", "nobody"), ("--restore", "selected", "--power-on", "nobody")):
        refused = furlough("exit", "h2", *words)
        assert refused.code == 3
        assert "is not on the record of h2" in complaint(refused)
        assert "furlough exit h2 --check" in refused.err
    assert furlough("exit", "h2", "--restore", "none", "--power-on", names[0]).code == 2
