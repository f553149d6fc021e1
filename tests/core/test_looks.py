"""Looks: the evidence of one host, comparable and readable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.looks import Job, Look, Presence, Why
from tests.core.builders import H1, H2, a_look, later


def test_two_looks_that_say_the_same_at_different_times_have_equal_facts() -> None:
    assert a_look(Presence.RUNNING).facts == a_look(Presence.RUNNING, at=later(30)).facts


@pytest.mark.parametrize(
    "changed",
    [
        replace(a_look(Presence.RUNNING), host=H2),
        replace(a_look(Presence.RUNNING), presence=Presence.PAUSED),
        replace(a_look(Presence.RUNNING), why=Why.MIGRATED),
        replace(a_look(Presence.RUNNING), job=Job.OTHER),
        replace(a_look(Presence.RUNNING), has_process=False),
        replace(a_look(Presence.RUNNING), is_persistent=False),
        replace(a_look(Presence.RUNNING), has_autostart=True),
        replace(a_look(Presence.SHUT_OFF), has_managed_save=True),
    ],
)
def test_any_other_difference_between_two_looks_counts(changed: Look) -> None:
    assert changed.facts != a_look(Presence.RUNNING).facts


@pytest.mark.parametrize(
    ("look", "is_here"),
    [
        (a_look(Presence.RUNNING), True),
        (a_look(Presence.PAUSED), True),
        (a_look(Presence.RUNNING, has_process=False), True),
        (a_look(Presence.PAUSED, has_process=False), True),
        (a_look(Presence.SHUT_OFF), False),
        (a_look(Presence.SILENT), False),
        (a_look(Presence.ABSENT), False),
        (a_look(Presence.ABSENT, has_process=True), True),
        (a_look(Presence.SHUT_OFF, has_process=True), True),
    ],
)
def test_a_vm_is_here_if_the_hypervisor_has_it_active_or_a_process_of_it_is_left(
    look: Look, is_here: bool
) -> None:
    assert look.is_here is is_here


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (a_look(Presence.SILENT, Why.USER), "h1: silent"),
        (a_look(Presence.ABSENT), "h1: absent"),
        (a_look(Presence.ABSENT, has_process=True), "h1: absent but a process is left"),
        (a_look(Presence.RUNNING, Why.MIGRATED), "h1: running (migrated)"),
        (a_look(Presence.RUNNING, job=Job.OUTGOING), "h1: running job outgoing"),
        (
            a_look(Presence.SHUT_OFF, Why.CRASHED, has_process=True),
            "h1: shut_off (crashed) but a process is left",
        ),
    ],
)
def test_a_look_reads_as_one_line_of_evidence(look: Look, words: str) -> None:
    assert str(look) == words
    assert look.host == H1


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (a_look(Presence.PAUSED, why=Why.IO_ERROR), "an I/O error has stopped it"),
        (a_look(Presence.PAUSED, why=Why.CRASHED), "it has crashed"),
        (a_look(Presence.PAUSED, why=Why.ASLEEP), "its guest sleeps"),
        (a_look(Presence.PAUSED, why=Why.USER), ""),
        (a_look(Presence.PAUSED), ""),
        (a_look(Presence.RUNNING), ""),
        (a_look(Presence.SHUT_OFF, why=Why.CRASHED), ""),
    ],
)
def test_a_vm_that_somebody_paused_does_not_stand_still_as_one_that_has_crashed_does(
    look: Look, words: str
) -> None:
    assert look.standstill == words
