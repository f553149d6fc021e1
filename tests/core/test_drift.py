"""What is not as we left it on a host that is to be empty: seen once, told once, over once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.drift import (
    Concern,
    Held,
    HostNote,
    Sight,
    Trouble,
    check_unviolated,
    intruders,
    kept_empty_by,
    line_of,
    notes_between,
    opened_by,
    still_open,
    troubles,
)
from furlough.core.hostlog import Level
from furlough.core.inventory import Intruder
from furlough.core.states import HostMode
from furlough.errors import Refused
from tests.core.builders import H1, H2, NOW, a_host, a_vm, later, vm_id

US = "furlough-1"
OURS = Held(controller=US, since="2026-11-22T09:00:00Z")
EMPTY = Sight(mode=HostMode.MAINTENANCE, held=OURS)
VM = Trouble(concern=Concern.VIOLATION, what=f"VM vm1 ({vm_id(1)})")


def _seen(sight: Sight) -> list[tuple[str, str]]:
    return sorted((one.concern.value, one.what) for one in troubles(sight, US))


def test_an_empty_host_with_our_marker_and_a_proven_hook_is_no_trouble() -> None:
    assert _seen(EMPTY) == []


def test_a_vm_that_appeared_is_told_once_although_list_and_processes_show_it() -> None:
    for process in ("4711 (vm1)", "4711 vm1"):
        sight = replace(EMPTY, active=(a_vm(1),), processes=(process,))
        assert _seen(sight) == [("maintenance.violated", f"VM vm1 ({vm_id(1)})")]


def test_a_process_that_the_hypervisor_does_not_list_is_a_violation_of_its_own() -> None:
    sight = replace(EMPTY, active=(a_vm(1),), processes=("1 (vm1)", "4712 (by hand)"))
    assert ("maintenance.violated", "VM process 4712 (by hand)") in _seen(sight)


@pytest.mark.parametrize(
    ("held", "what"),
    [
        (None, "nothing: the guard's marker is gone"),
        (Held(controller="furlough-2"), "a foreign marker, of controller furlough-2"),
        (
            Held(controller="local", since="2026-11-22T08:00:00Z"),
            "a foreign marker, of a person at the host since 2026-11-22T08:00:00Z",
        ),
    ],
)
def test_a_marker_that_is_gone_or_foreign_violates_a_maintenance(
    held: Held | None, what: str
) -> None:
    assert _seen(replace(EMPTY, held=held)) == [("maintenance.violated", what)]


def test_a_proof_that_is_lost_in_maintenance_is_told() -> None:
    sight = replace(EMPTY, guard_trouble="not tried since the daemon started")
    assert _seen(sight) == [("guard.unproven", "not tried since the daemon started")]


@pytest.mark.parametrize("mode", [one for one in HostMode if one is not HostMode.MAINTENANCE])
def test_outside_of_maintenance_vms_may_run_and_only_a_person_at_the_host_is_news(
    mode: HostMode,
) -> None:
    sight = replace(EMPTY, mode=mode, active=(a_vm(1),), held=None, guard_trouble="no hook")
    assert _seen(sight) == []
    kept = replace(sight, held=Held(controller="local"))
    assert _seen(kept) == [("host.kept_by_person", "a person at the host")]


def test_only_a_marker_without_a_controller_is_a_persons() -> None:
    assert kept_empty_by(None) == ""
    assert kept_empty_by(OURS) == ""
    assert (
        kept_empty_by(Held(controller="local", since="noon")) == "a person at the host since noon"
    )


def test_names_that_no_text_may_hold_are_spelt_out() -> None:
    sight = replace(EMPTY, processes=(b"7 (\xff\0)".decode(errors="surrogateescape"),))
    assert _seen(sight) == [("maintenance.violated", "VM process 7 (\\udcff\\0)")]


# --- beginnings and ends -----------------------------------------------------------------------


def test_what_lasts_keeps_its_beginning_and_is_not_told_again() -> None:
    sight = replace(EMPTY, active=(a_vm(1),))
    first = still_open({}, sight, troubles(sight, US), NOW)
    second = still_open(first, sight, troubles(sight, US), later(5))
    assert first == second == {VM: NOW}
    assert [one.message for one in notes_between(H1, {}, first, NOW)] == [
        f"maintenance is violated: there is VM vm1 ({vm_id(1)})"
    ]
    assert notes_between(H1, first, second, later(5)) == ()


def test_an_end_is_told_with_its_own_time_before_what_begins() -> None:
    lost = Trouble(concern=Concern.UNPROVEN, what="no hook")
    over, begun = notes_between(H1, {VM: NOW}, {lost: later(9)}, later(9))
    assert (over.is_over, over.at, over.level, over.what) == (True, later(9), Level.INFO, VM.what)
    assert (begun.is_over, begun.at, begun.level) == (False, later(9), Level.WARNING)
    assert begun.code == "guard.unproven"


def test_a_look_in_part_ends_nothing_but_may_begin_something() -> None:
    partial = replace(EMPTY, is_whole=False, held=None, active=(a_vm(2),), guard_trouble="silent")
    after = still_open({VM: NOW}, partial, troubles(partial, US), later(5))
    assert {one.what for one in after} == {VM.what, f"VM vm2 ({vm_id(2)})", "silent"}
    assert after[VM] == NOW


def test_the_end_of_the_maintenance_ends_its_violations() -> None:
    out = replace(EMPTY, mode=HostMode.EXITING, active=(a_vm(1),), is_whole=False)
    assert still_open({VM: NOW}, out, troubles(out, US), later(5)) == {}


def test_notes_without_an_end_give_back_what_was_open() -> None:
    before = {VM: NOW, Trouble(concern=Concern.UNPROVEN, what="no hook"): later(3)}
    notes = [*notes_between(H1, {}, before, later(3)), *notes_between(H2, {}, {VM: NOW}, NOW)]
    assert opened_by(notes) == {H1: before, H2: {VM: NOW}}


def test_a_host_shows_what_violates_its_maintenance_and_nothing_else_the_oldest_first() -> None:
    other = Trouble(concern=Concern.VIOLATION, what="VM process 1 (x)")
    lost = Trouble(concern=Concern.UNPROVEN, what="no hook")
    assert intruders({VM: later(5), other: NOW, lost: NOW}) == (
        Intruder(what=other.what, since=NOW),
        Intruder(what=VM.what, since=later(5)),
    )


def test_a_note_is_a_line_of_the_host_log_that_belongs_to_no_operation() -> None:
    (note,) = notes_between(H1, {}, {VM: NOW}, NOW)
    assert isinstance(note, HostNote)
    line = line_of(note)
    assert (line.at, line.level, line.operation) == (NOW, Level.ERROR, None)
    assert line.message == note.message


def test_a_violated_host_is_refused_with_what_is_there_and_since_when() -> None:
    check_unviolated(a_host(H1))
    violated = replace(a_host(H1), intruders=(Intruder(what=VM.what, since=NOW),))
    with pytest.raises(Refused, match=r"there is VM vm1 .* since 10:00:00 UTC") as refusal:
        check_unviolated(violated)
    assert refusal.value.code == "maintenance.violated"
    assert refusal.value.remedy
