"""What comes next in a cold move, for every pair of looks; and that nothing is ever removed of
which the other host was not seen to have a copy."""

from __future__ import annotations

from itertools import chain, combinations, product

import pytest

from furlough.core.cold_rules import ColdRuling, ColdTrail, Next, cold_rule
from furlough.core.looks import Job, Look, Presence, Why
from furlough.core.operation import Act
from tests.core.builders import H1, H2, a_look

RUNNING, OFF, ABSENT = Presence.RUNNING, Presence.SHUT_OFF, Presence.ABSENT
PAUSED, SILENT = Presence.PAUSED, Presence.SILENT
OURS = (Act.COPY_STATE, Act.DEFINE_TARGET)
BACK = (*OURS, Act.GIVE_UP)


def ruled(
    source: Presence | Look,
    target: Presence | Look,
    *acts: Act,
    has_to_run: bool = True,
    was_stopped: bool = True,
    is_unwanted: bool = False,
) -> ColdRuling:
    """The ruling about one VM that h1 and h2 say this of."""
    here = source if isinstance(source, Look) else a_look(source, host=H1)
    there = target if isinstance(target, Look) else a_look(target, host=H2)
    trail = ColdTrail(
        has_to_run=has_to_run,
        was_stopped=was_stopped,
        is_unwanted=is_unwanted,
        acts=frozenset(acts),
    )
    return cold_rule(here, there, trail)


@pytest.mark.parametrize(
    ("source", "target", "acts", "expected"),
    [
        (RUNNING, ABSENT, (), Next.STOP),
        (RUNNING, ABSENT, OURS, Next.CHANGED),
        (RUNNING, OFF, OURS, Next.REMOVE_TARGET),
        (RUNNING, OFF, (), Next.REFUSED),
        (OFF, ABSENT, (), Next.COPY),
        (OFF, ABSENT, OURS, Next.COPY),
        (OFF, OFF, OURS, Next.UNDEFINE_SOURCE),
        (OFF, OFF, (), Next.REFUSED),
        (OFF, RUNNING, OURS, Next.UNDEFINE_SOURCE),
        (OFF, RUNNING, (), Next.CHANGED),
        (ABSENT, OFF, OURS, Next.START_TARGET),
        (ABSENT, OFF, (), Next.GONE),
        (ABSENT, RUNNING, OURS, Next.MOVED),
        (ABSENT, RUNNING, (), Next.GONE),
        (ABSENT, ABSENT, OURS, Next.GONE),
        (RUNNING, RUNNING, OURS, Next.ASK),
        (RUNNING, ABSENT, BACK, Next.AT_HOME),
        (RUNNING, OFF, BACK, Next.REMOVE_TARGET),
        (RUNNING, OFF, (Act.GIVE_UP,), Next.AT_HOME),
        (OFF, ABSENT, BACK, Next.START_SOURCE),
        (OFF, OFF, BACK, Next.REMOVE_TARGET),
        (OFF, OFF, (Act.GIVE_UP,), Next.ASK),
        (OFF, RUNNING, BACK, Next.UNDEFINE_SOURCE),
        (ABSENT, OFF, BACK, Next.DEFINE_SOURCE),
        (ABSENT, RUNNING, BACK, Next.MOVED),
        (ABSENT, ABSENT, BACK, Next.GONE),
    ],
)
def test_what_comes_next_of_a_vm_that_ran(
    source: Presence, target: Presence, acts: tuple[Act, ...], expected: Next
) -> None:
    found = ruled(source, target, *acts)
    assert found.next is expected
    assert found.meaning


def test_a_vm_that_was_off_is_neither_stopped_nor_started() -> None:
    assert ruled(RUNNING, ABSENT, has_to_run=False).next is Next.CHANGED
    assert ruled(OFF, ABSENT, has_to_run=False, was_stopped=False).next is Next.COPY
    assert ruled(ABSENT, OFF, *OURS, has_to_run=False).next is Next.MOVED
    assert ruled(OFF, ABSENT, *BACK, has_to_run=False).next is Next.AT_HOME


def test_one_that_is_off_without_our_doing_is_left_to_its_owner() -> None:
    assert ruled(OFF, ABSENT, was_stopped=False).next is Next.CHANGED
    for why in (Why.CRASHED, Why.FAILED):
        assert ruled(a_look(OFF, why), ABSENT).next is Next.CHANGED
    started = (*OURS, Act.START_TARGET)
    for why in (Why.SHUTDOWN, Why.DESTROYED):
        assert ruled(ABSENT, a_look(OFF, why, host=H2), *started).next is Next.CHANGED
    crashed = a_look(OFF, Why.CRASHED, host=H2)
    assert ruled(ABSENT, crashed, *started).next is Next.START_TARGET


def test_saved_memory_is_never_left_behind() -> None:
    saved = Look(
        host=H1, at=a_look(OFF).at, presence=OFF, is_persistent=True, has_managed_save=True
    )
    found = ruled(saved, ABSENT)
    assert (found.next, found.code) == (Next.REFUSED, "vm.managed_save")


def test_a_cancel_turns_back_only_what_has_not_gone_yet() -> None:
    found = ruled(OFF, ABSENT, is_unwanted=True)
    assert (found.next, found.code) == (Next.REFUSED, "cancelled")
    assert ruled(OFF, OFF, *OURS, is_unwanted=True).next is Next.UNDEFINE_SOURCE
    assert ruled(ABSENT, OFF, *OURS, is_unwanted=True).next is Next.START_TARGET


@pytest.mark.parametrize(
    ("look", "code"),
    [
        (a_look(SILENT), "host.silent"),
        (a_look(OFF, job=Job.OTHER), "vm.busy"),
        (a_look(OFF, has_process=True), "host.not_empty"),
        (a_look(ABSENT, has_process=True), "host.not_empty"),
    ],
)
def test_what_is_unsettled_on_either_host_is_waited_for(look: Look, code: str) -> None:
    for found in (ruled(look, OFF, *OURS), ruled(OFF, look, *OURS)):
        assert (found.next, found.code) == (Next.WAIT, code)


def test_s15_nothing_is_removed_unless_the_other_host_was_seen_to_have_it() -> None:
    acts = (Act.COPY_STATE, Act.DEFINE_TARGET, Act.UNDEFINE_SOURCE, Act.GIVE_UP)
    trails = chain.from_iterable(combinations(acts, size) for size in range(len(acts) + 1))
    for did, source, target in product(list(trails), Presence, Presence):
        for has_to_run, was_stopped, is_unwanted in product((True, False), repeat=3):
            found = ruled(
                source,
                target,
                *did,
                has_to_run=has_to_run,
                was_stopped=was_stopped,
                is_unwanted=is_unwanted,
            ).next
            if found is Next.UNDEFINE_SOURCE:
                assert target in (OFF, RUNNING, PAUSED)
                assert source is OFF
            if found is Next.REMOVE_TARGET:
                assert source in (OFF, RUNNING, PAUSED)
                assert target is OFF
                assert Act.DEFINE_TARGET in did
            if found in (Next.START_SOURCE, Next.START_TARGET):
                assert {source, target} == {OFF, ABSENT}
                assert has_to_run
