"""Pictures of live plans and of what operations have done: what is drawn, and what it says."""

from __future__ import annotations

from dataclasses import replace

from lxml import etree

from furlough.core.operation import Operation, Outcome
from furlough.core.plan import Method, OperationKind, Plan
from furlough.core.states import Power, StepState
from furlough.planning.live_pictures import (
    emptied_by,
    fullest,
    gantt_of_plan,
    load_of_plan,
    loads,
    timeline,
)
from tests.core.builders import (
    H1,
    H2,
    H3,
    NOW,
    a_failure,
    a_plan,
    a_step,
    a_vm,
    an_attempt,
    an_inventory,
    an_operation,
    later,
    planned,
    vm_id,
)

_FULL_MIB = 65_536


def bars(tree: etree._Element | None) -> list[tuple[str, str]]:
    """Every bar of a picture: what it says, and its colour."""
    assert tree is not None
    return [(bar[0].text or "", bar.get("fill", "")) for bar in tree.iter("{*}rect")]


def moves() -> Plan:
    """VM 1 moves to h2, VM 2 moves cold to h3, VM 3 is shut down."""
    return a_plan(
        planned(1, Method.RAISE_GUARD),
        replace(planned(2, vm=vm_id(1), targets=[H2]), vm_name="web", duration_s=10.0,
                downtime_ms=40),
        replace(planned(3, Method.COLD, vm=vm_id(2)), targets=(H3,), vm_name="db", start_s=5.0,
                duration_s=20.0),
        replace(planned(4, Method.SHUT_DOWN, vm=vm_id(3), targets=[]), vm_name="old",
                duration_s=30.0),
    )  # fmt: skip


def test_the_load_of_every_host_is_what_its_vms_may_take_before_and_after() -> None:
    inventory = an_inventory(
        [a_vm(number, memory_mib=_FULL_MIB // 8) for number in (1, 2, 3)]
        + [a_vm(4, host=H2, memory_mib=_FULL_MIB // 4)]
    )
    found = {one.host: (one.before, one.after) for one in loads(moves(), inventory)}
    assert found == {H1: (0.375, 0.0), H2: (0.25, 0.375), H3: (0.0, 0.125)}
    drawn = [words for words, _ in bars(load_of_plan(moves(), inventory))]
    assert "h1: 37.5% before, 0.0% after" in drawn


def test_who_is_off_or_gone_takes_nothing_and_who_is_started_does() -> None:
    off = replace(planned(1, vm=vm_id(1), targets=[H2]), vm_name="off")
    gone = replace(planned(2, vm=vm_id(9), targets=[H2]), vm_name="gone")
    starts = replace(planned(3, Method.START, vm=vm_id(2), targets=[]), vm_name="starts")
    runs = replace(planned(4, Method.START, vm=vm_id(3), targets=[]), vm_name="runs")
    inventory = an_inventory(
        [
            a_vm(1, power=Power.SHUT_OFF, memory_mib=_FULL_MIB // 8),
            a_vm(2, power=Power.SHUT_OFF, memory_mib=_FULL_MIB // 4),
            a_vm(3, memory_mib=_FULL_MIB // 2),
        ]
    )
    found = {one.host: (one.before, one.after) for one in loads(a_plan(off, gone), inventory)}
    assert found == {H1: (0.5, 0.5), H2: (0.0, 0.0), H3: (0.0, 0.0)}
    plan = a_plan(starts, runs, kind=OperationKind.EXIT)
    assert {one.host: one.after for one in loads(plan, inventory)}[H1] == 0.75


def test_only_a_host_that_is_entered_is_drawn_as_emptied() -> None:
    assert emptied_by(moves()) == (H1,)
    full = a_vm(9, memory_mib=_FULL_MIB // 2)
    every = loads(moves(), an_inventory([full]))
    assert (fullest(moves(), every), every[0].after) == (0.0, 0.5)
    assert emptied_by(replace(moves(), kind=OperationKind.EXIT)) == ()


def test_a_plan_in_time_has_a_bar_for_every_step_about_a_vm() -> None:
    found = [words for words, _ in bars(gantt_of_plan(moves()))]
    assert found == [
        "web: h1 → h2, 0.0 s to 10.0 s, pause 40 ms",
        "db: cold h1 → h3, 5.0 s to 25.0 s, pause 0 ms",
        "old: shut down on h1, 0.0 s to 30.0 s",
    ]


def test_a_step_about_a_host_of_no_concern_is_pale_and_a_plan_without_moves_has_no_picture() -> (
    None
):
    elsewhere = replace(planned(1, host=H3, vm=vm_id(1), targets=[H2]), duration_s=5.0)
    mine = replace(planned(2, vm=vm_id(2), targets=[H2]), duration_s=5.0)
    (_, pale), (_, coloured) = bars(gantt_of_plan(a_plan(elsewhere, mine)))
    assert pale != coloured
    assert gantt_of_plan(a_plan(planned(1, Method.RAISE_GUARD))) is None


def test_what_was_done_is_drawn_attempt_by_attempt_and_says_how_each_ended() -> None:
    tried = an_attempt(H2, failure=a_failure(), started_at=later(5))
    again = an_attempt(H3, started_at=later(20))
    first = replace(planned(1, vm=vm_id(1)), vm_name="web")
    guard = planned(2, Method.RAISE_GUARD)
    stuck = replace(planned(3, vm=vm_id(2)), vm_name="db")
    operation: Operation = replace(
        an_operation(
            a_step(first, StepState.SUCCEEDED, outcome=Outcome.MOVED,
                   attempts=[replace(tried, ended_at=later(15)), again], ended_at=later(40)),
            a_step(guard, StepState.SUCCEEDED, attempts=[an_attempt(None)], ended_at=NOW),
            a_step(stuck, StepState.STARTED, attempts=[an_attempt(H2, started_at=later(30))]),
        ),
        started_at=NOW,
    )  # fmt: skip
    found = bars(timeline(operation, later(50)))
    assert [words for words, _ in found] == [
        "web: h1 → h2, 5.0 s to 15.0 s: It did not work.",
        "web: h1 → h3, 20.0 s to 40.0 s: succeeded",
        "h1: raise guard on h1, 0.0 s to 0.0 s: succeeded",
        "db: h1 → h2, 30.0 s to 50.0 s: started",
    ]
    failed, moved, other, under_way = (colour for _, colour in found)
    assert len({failed, moved, other}) == 3
    assert under_way == moved


def test_an_attempt_that_was_overtaken_by_our_own_crash_is_told_as_tried_again() -> None:
    lost = replace(an_attempt(H2), ended_at=later(3))
    step = a_step(
        replace(planned(1, vm=vm_id(1)), vm_name="web"),
        StepState.FAILED,
        attempts=[lost, an_attempt(H3, failure=a_failure(), started_at=later(4))],
    )
    first, _ = bars(timeline(replace(an_operation(step), started_at=NOW), later(9)))
    assert first[0].endswith(": tried again")


def test_an_operation_that_has_done_nothing_yet_has_no_timeline() -> None:
    assert timeline(an_operation(a_step(planned(1, vm=vm_id(1)))), later(5)) is None
