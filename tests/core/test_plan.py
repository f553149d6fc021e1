"""Plans: what an operator approves is what is carried out, so the hash covers every decision."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.load_after import LoadAfter
from furlough.core.plan import (
    Handover,
    Method,
    OperationKind,
    Plan,
    PlannedStep,
    Unplaced,
    WhyStays,
    numbered,
)
from furlough.core.timing import Range
from tests.core.builders import H1, H2, H3, a_plan, planned, vm_id

STEP = planned(2, targets=[H2, H3])
PLAN = a_plan(planned(1, Method.RAISE_GUARD), STEP, planned(3, Method.CONFIRM_EMPTY))


def _with(step: PlannedStep) -> Plan:
    return replace(PLAN, steps=(PLAN.steps[0], step, PLAN.steps[2]))


@pytest.mark.parametrize(
    "changed",
    [
        replace(PLAN, kind=OperationKind.EXIT),
        replace(PLAN, hosts=(H1, H2)),
        replace(PLAN, steps=PLAN.steps[:-1]),
        replace(PLAN, steps=PLAN.steps[::-1]),
        _with(replace(STEP, number=7)),
        _with(replace(STEP, method=Method.SHUT_DOWN)),
        _with(replace(STEP, host=H2)),
        _with(replace(STEP, wave=0)),
        _with(replace(STEP, vm=vm_id(9))),
        _with(replace(STEP, source=H3)),
        _with(replace(STEP, targets=(H3, H2))),
        _with(replace(STEP, targets=(H2,))),
        _with(replace(STEP, handover=Handover.HELD)),
        _with(replace(STEP, waives_storage_check=True)),
        _with(replace(STEP, admit=(vm_id(9),))),
    ],
    ids=[
        "kind",
        "hosts",
        "fewer steps",
        "order",
        "number",
        "method",
        "host",
        "wave",
        "vm",
        "source",
        "ranking of targets",
        "fewer targets",
        "handover",
        "waived storage check",
        "admitted VMs",
    ],
)
def test_any_other_decision_gives_the_plan_another_hash(changed: Plan) -> None:
    assert changed.hash != PLAN.hash
    assert changed.id != PLAN.id


@pytest.mark.parametrize(
    "changed",
    [
        _with(replace(STEP, start_s=17.0)),
        _with(replace(STEP, duration_s=17.0)),
        _with(replace(STEP, downtime_ms=900)),
        _with(replace(STEP, sent_mib=17)),
        _with(replace(STEP, vm_name="renamed")),
        replace(PLAN, eta=Range(low=1, high=2)),
        replace(PLAN, load_after=LoadAfter(max=0.5, sd=0.1)),
    ],
    ids=["start", "duration", "downtime", "memory", "name", "eta", "load after"],
)
def test_estimates_and_names_may_change_under_an_approved_plan(changed: Plan) -> None:
    assert changed.hash == PLAN.hash


def test_the_same_decisions_have_the_same_hash_in_every_process() -> None:
    """Written down once: an approval must survive a restart and an upgrade."""
    assert a_plan().hash == "72b72b070a580b84be09ac1a1264496177077c67352812eec3639e039d6a8664"


def test_a_plan_goes_by_a_short_name_that_comes_from_its_hash() -> None:
    assert PLAN.id == f"plan-{PLAN.hash[:12]}"
    assert len(PLAN.hash) == 64


def test_the_migrations_of_a_plan_are_the_steps_that_move_a_vm() -> None:
    assert PLAN.migrations == (STEP,)


def test_steps_are_numbered_in_their_order_from_wherever_is_asked() -> None:
    steps = (planned(0, Method.RAISE_GUARD), planned(0, Method.CONFIRM_EMPTY))
    assert [step.number for step in numbered(steps)] == [1, 2]
    assert [step.number for step in numbered(steps, first=8)] == [8, 9]


def test_steps_that_come_after_others_still_do_when_they_are_numbered_anew() -> None:
    second = replace(planned(2), after=(7,))
    first, moved = numbered((planned(7), second), first=4)
    assert (first.number, moved.number, moved.after) == (4, 5, (4,))


def test_the_reasons_of_a_vm_that_stays_make_one_sentence_each_once() -> None:
    left = Unplaced(vm=vm_id(1), vm_name="vm1", reasons={H1: ("a", "b"), H2: ("b",)})
    assert (left.words, left.why) == ("a; b", WhyStays.HINDERED)
