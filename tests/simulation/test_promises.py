"""Every promise about what is so is seen to fire: a state that breaks it is made, and it says so.

Each story is an evacuation that went well, after which one thing is put wrong by hand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from furlough.core.capacity import Load, Reservation
from furlough.core.ids import OperationId
from furlough.core.journal import DeadlinePassed, HostModeChanged, OperationBlocked, StepStarted
from furlough.core.operation import Operation, Outcome, Step
from furlough.core.plan import Method
from furlough.core.policy import EnterOptions
from furlough.core.states import HostMode, OperationState
from furlough.scenario import promises
from furlough.scenario.promises import Books
from furlough.scenario.stage import Setting, Stage, open_stage, vm_id
from furlough.sim.clock import run_virtually
from tests.engine.stories import H1, H2, entered, exited, hosts_running

V1 = vm_id(1)
Broken = Callable[[Stage, Operation, Books], Awaitable[Iterable[str]] | Iterable[str]]


def told(break_it: Broken, *, comes_back: bool = False) -> list[str]:
    """What is said after a good evacuation (and return) of which one thing is put wrong; nothing
    is said before."""

    async def play() -> list[str]:
        async with open_stage(Setting(hosts=3, is_shaken=True)) as stage:
            for number in (1, 2):
                stage.add_vm(1, number, has_autostart=True)
            await stage.start_controller()
            await stage.clock.sleep(1)
            final = await entered(stage)
            if comes_back:
                final = await exited(stage)
            assert not stage.invariants.violations
            found = break_it(stage, final, await stage.invariants.books(with_room=True))
            return list(found if isinstance(found, Iterable) else await found)

    return run_virtually(play())


def with_step(operation: Operation, number: int, **changes: object) -> Operation:
    """The same operation with its step about the n-th VM changed."""

    def changed(step: Step) -> Step:
        is_it = step.planned.vm == vm_id(number)
        return replace(step, **changes) if is_it else step  # type: ignore[arg-type]

    return replace(operation, steps=tuple(changed(step) for step in operation.steps))


def runs_on(stage: Stage, number: int) -> None:
    """Beside where it is, the n-th VM runs on h1."""
    copy = stage.cluster.copy(hosts_running(stage, number)[0], vm_id(number))
    assert copy is not None
    stage.cluster.hosts[H1].copies[vm_id(number)] = replace(copy)


# --- the breaking of them ------------------------------------------------------------------------


def s1(stage: Stage, _final: Operation, _books: Books) -> Iterable[str]:
    runs_on(stage, 1)
    return promises.runs_twice(stage.cluster)


def s2_nowhere(stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    stage.cluster.remove(hosts_running(stage, 1)[0], V1)
    return promises.lost(stage.cluster, final)


def s2_no_word(stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    return promises.lost(stage.cluster, with_step(final, 1, outcome=Outcome.PENDING))


def s2_blamed(stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    blamed = with_step(final, 1, outcome=Outcome.CHANGED_BY_OTHERS)
    return promises.blamed_falsely(stage.cluster, blamed, [blamed])


def s3_while(stage: Stage, _final: Operation, books: Books) -> Iterable[str]:
    runs_on(stage, 1)
    return promises.is_not_empty(stage.cluster, books)


_DECLARED = HostModeChanged(host=H1, before=HostMode.ENTERING, after=HostMode.MAINTENANCE)


def s3_process(stage: Stage, final: Operation, books: Books) -> Iterable[str]:
    stage.cluster.hosts[H1].strays["4711 qemu"] = stage.clock.monotonic() - 60
    return promises.declared_too_early(stage.cluster, books, final, [_DECLARED])


def s3_expected(stage: Stage, final: Operation, books: Books) -> Iterable[str]:
    books = replace(books, reservations=[_place(final, 9, 1024)])
    return promises.declared_too_early(stage.cluster, books, final, [_DECLARED])


def s3_no_guard(stage: Stage, final: Operation, books: Books) -> Iterable[str]:
    stage.cluster.hosts[H1].marker = None
    return promises.declared_too_early(stage.cluster, books, final, [_DECLARED])


def _place(final: Operation, number: int, memory_mib: int) -> Reservation:
    load = Load(memory_mib=memory_mib, vcpus=1)
    return Reservation(operation=final.id, vm=vm_id(number), host=H1, load=load)


def s4(_stage: Stage, final: Operation, books: Books) -> Iterable[str]:
    one = replace(final, state=OperationState.RUNNING)
    two = replace(one, id=OperationId("op-99"))
    return promises.owned_twice(replace(books, operations={one.id: one, two.id: two}))


def s5(_stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    event = OperationBlocked(code="x", waiting_for="x")
    return promises.written_by_another(final.id, "controller:a", "controller:b", [event])


def s8_final(_stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    return promises.rewritten(final, replace(final, events=final.events + 1), 1)


def s8_lost(_stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    before = replace(final, state=OperationState.RUNNING)
    return promises.rewritten(before, replace(final, events=final.events + 1), 2)


def s9_forgotten(_stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    before = replace(final, state=OperationState.CANCELLING)
    after = replace(final, state=OperationState.RUNNING, events=final.events + 1)
    return promises.rewritten(before, after, 1)


def s9_not_aborted(_stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    step = next(step for step in final.steps if step.planned.vm == V1)
    cancelled_at = step.attempts[-1].started_at
    later = with_step(final, 1, ended_at=cancelled_at + timedelta(seconds=60))
    return promises.not_aborted(later, cancelled_at)


def s9_elsewhere(stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    return promises.misplaced(stage.cluster, with_step(final, 1, where=H1))


def s7(stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    again = [step for step in final.steps if step.planned.vm == V1]
    return promises.done_twice(stage.cluster, replace(final, steps=(*final.steps, *again)))


def s10_autostart(stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    copy = stage.cluster.copy(hosts_running(stage, 1)[0], V1)
    assert copy is not None
    copy.has_autostart = False
    return promises.changed_on_the_way(stage.cluster, final)


async def s10_not_home(stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    record = stage.invariants.record_of(final.id)
    assert record
    stage.cluster.hosts[H2].copies[V1] = stage.cluster.hosts[H1].copies.pop(V1)
    return promises.not_restored(stage.cluster, final, record)


async def s10_not_on_record(stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    return promises.not_restored(stage.cluster, final, ())


async def s10_undone(stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    record = [replace(one, left_on=H1) for one in stage.invariants.record_of(final.id)]
    return promises.undoes_others(final, record)


def s10_stopped(stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    planned = next(one.planned for one in final.steps if one.planned.vm == V1)
    planned = replace(planned, method=Method.SHUT_DOWN)
    stopped = with_step(final, 1, planned=planned, outcome=Outcome.STOPPED)
    return promises.not_as_recorded(stage.cluster, stopped, ())


def s11(stage: Stage, final: Operation, books: Books) -> Iterable[str]:
    books = replace(books, reservations=[_place(final, 9, 60_000)])
    return promises.overfull(stage.cluster, books)


def s12(_stage: Stage, final: Operation, books: Books) -> Iterable[str]:
    intent = StepStarted(step=1, target=H1, epoch=1)
    return promises.bad_target(books, final, [intent])


def l1_early(_stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    hurried = replace(final, options=EnterOptions(timeout_s=600))
    return promises.timed_out_early(hurried, [DeadlinePassed()], 0.0, 500.0)


def l6_room(stage: Stage, final: Operation, books: Books) -> Iterable[str]:
    books = replace(books, reservations=[_place(final, 1, 1024)])
    return promises.held_too_long(stage.cluster, books, final)


def l6_marker(stage: Stage, final: Operation, books: Books) -> Iterable[str]:
    free = replace(books.standings[H1], mode=HostMode.AVAILABLE)
    books = replace(books, standings={**books.standings, H1: free})
    return promises.held_too_long(stage.cluster, books, final)


def l6_copy(stage: Stage, final: Operation, books: Books) -> Iterable[str]:
    runs_on(stage, 1)
    return promises.held_too_long(stage.cluster, books, final)


def bug(_stage: Stage, final: Operation, _books: Books) -> Iterable[str]:
    return promises.stopped_by_a_bug(replace(final, code="bug", waiting_for="a person"))


BROKEN: dict[str, tuple[str, Broken]] = {
    "nobody runs twice": ("S1", s1),
    "nobody is nowhere": ("S2", s2_nowhere),
    "nobody is left without a word": ("S2", s2_no_word),
    "nobody is blamed falsely": ("S2", s2_blamed),
    "maintenance stays true": ("S3", s3_while),
    "no process at the proof": ("S3", s3_process),
    "nobody expected at the proof": ("S3", s3_expected),
    "a guard at the proof": ("S3", s3_no_guard),
    "one owner": ("S4", s4),
    "only the owner writes": ("S5", s5),
    "once only": ("S7", s7),
    "an end stays": ("S8", s8_final),
    "no event is lost": ("S8", s8_lost),
    "a cancel is kept": ("S9", s9_forgotten),
    "a cancel aborts": ("S9", s9_not_aborted),
    "where the record says": ("S9", s9_elsewhere),
    "as it was before": ("S10", s10_autostart),
    "who was stopped is on record": ("S10", s10_stopped),
    "room": ("S11", s11),
    "a good target": ("S12", s12),
    "no time is over early": ("L1", l1_early),
    "room is let go": ("L6", l6_room),
    "no marker is left": ("L6", l6_marker),
    "no copy is left": ("L6", l6_copy),
    "no bug": ("bug", bug),
}
BROKEN_ON_RETURN: dict[str, tuple[str, Broken]] = {
    "who was away is home": ("S10", s10_not_home),
    "nobody else comes": ("S10", s10_not_on_record),
    "what others did stays": ("S10", s10_undone),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_told(name: str) -> None:
    promise, break_it = BROKEN[name]
    found = told(break_it)
    assert found
    assert all(words.startswith(f"{promise}: ") for words in found)


@pytest.mark.parametrize("name", BROKEN_ON_RETURN)
def test_a_promise_broken_by_an_exit_is_told(name: str) -> None:
    promise, break_it = BROKEN_ON_RETURN[name]
    found = told(break_it, comes_back=True)
    assert found
    assert all(words.startswith(f"{promise}: ") for words in found)
