"""What if: the plan of an inventory file, what it says of load, of time, and of those who stay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from bench.clusters import Recipe, Variant, cluster_document
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.policy import Limits, Order
from furlough.errors import NotFound
from furlough.planning import inventory_file
from furlough.planning.board import board_of_file
from furlough.planning.checking import Move, Terms, violations
from furlough.planning.inventory_file import Document
from furlough.planning.link_model import Job
from furlough.planning.packing import evacuate
from furlough.planning.timetable import timetable
from furlough.planning.unplaced import staying_vms
from furlough.planning.what_if import WhatIf, Wishes, _seats, waves_of, what_if
from tests.core.builders import repeatable
from tests.planning.boards import Row, host, vm


def a_file(hosts: Sequence[Row], vms: Sequence[Row], **cluster: object) -> Document:
    """The document of these, in one cluster without ceiling and reserve."""
    return inventory_file.parse(
        {
            "format": 1,
            "taken_at": "2026-11-22T10:00:00Z",
            "clusters": [{"name": "c1", "memory_ceiling": 1.0, **cluster}],
            "hosts": list(hosts),
            "vms": list(vms),
        }
    )


def planned(document: Document, *hosts: str, **more: Any) -> WhatIf:
    return what_if(document, Wishes(hosts=hosts, **more))


def three_hosts(*vms: Row, **cluster: object) -> Document:
    return a_file([host(name) for name in ("h1", "h2", "h3")], vms, **cluster)


# --- who goes where, and when --------------------------------------------------------------------


def test_each_vm_of_the_host_gets_a_step_with_target_start_and_length() -> None:
    plan = planned(three_hosts(vm("a", "h1"), vm("b", "h1"), vm("c", "h2")), "h1")

    assert [(one.vm_name, one.source) for one in plan.steps] == [("a", "h1"), ("b", "h1")]
    assert {one.target for one in plan.steps} <= {"h2", "h3"}
    assert all(one.duration_s > 1 and one.downtime_ms >= 100 for one in plan.steps)
    assert plan.makespan_s == max(one.end_s for one in plan.steps)
    assert plan.eta.low <= plan.makespan_s <= plan.eta.high
    assert plan.bound_s <= plan.makespan_s
    assert (plan.bound_migrations, plan.unplaced) == (2, ())


def test_a_host_named_twice_is_emptied_once() -> None:
    plan = planned(three_hosts(vm("a", "h1")), "h1", "h1")
    assert plan.wishes.hosts == ("h1",)
    assert len(plan.steps) == 1


def test_only_targets_asked_for_are_used() -> None:
    document = three_hosts(vm("a", "h1"), vm("b", "h1"))
    assert {one.target for one in planned(document, "h1", targets=("h3",)).steps} == {"h3"}


def test_most_memory_goes_first_where_that_is_asked_for() -> None:
    vms = [vm("s", "h1", gib=1), vm("m", "h1", gib=4), vm("l", "h1", gib=16)]
    plan = planned(
        three_hosts(*vms), "h1", order=Order.MEMORY, limits=Limits(per_source=1, per_cluster=1)
    )
    assert [one.vm_name for one in plan.steps] == ["l", "m", "s"]
    assert [one.wave for one in plan.steps] == [0, 1, 2]


def test_steps_that_overlap_are_of_one_wave() -> None:
    assert waves_of([(0, 5), (1, 3), (3, 9), (5, 6), (9, 10)]) == [0, 0, 1, 1, 2]
    assert waves_of([(0, 9), (9, 12), (9, 10), (10, 11)]) == [0, 1, 1, 2]
    assert waves_of([]) == []


def test_a_vm_that_makes_room_for_another_moves_too() -> None:
    document = a_file(
        [host("h1"), host("h2", 20), host("h3", 20)],
        [vm("big", "h1", gib=16), vm("x", "h2", gib=8), vm("y", "h3", gib=8)],
    )
    plan = planned(document, "h1")
    assert [(one.vm_name, one.source, one.target) for one in plan.steps] == [
        ("x", "h2", "h3"),
        ("big", "h1", "h2"),
    ]
    assert plan.steps[1].start_s >= plan.steps[0].end_s
    assert (plan.bound_migrations, plan.unplaced) == (2, ())


# --- who stays, and why --------------------------------------------------------------------------


def staying(plan: WhatIf) -> dict[str, tuple[str, dict[str, tuple[str, ...]]]]:
    return {one.vm_name: (one.why, dict(one.reasons)) for one in plan.unplaced}


def test_vms_whose_policy_keeps_them_stay_and_are_listed() -> None:
    document = three_hosts(vm("a", "h1", on_maintenance="leave"), vm("b", "h1"))
    plan = planned(document, "h1")
    why = "its policy for maintenance says leave"
    assert staying(plan) == {"a": (why, {"h1": (why,)})}
    assert [one.vm_name for one in plan.steps] == ["b"]


def test_vms_that_are_off_stay_and_nobody_is_told() -> None:
    plan = planned(three_hosts(vm("a", "h1", power="shut_off")), "h1")
    assert (plan.steps, plan.unplaced, plan.makespan_s) == ((), (), 0.0)


def test_what_stands_against_a_vm_is_said_for_every_host() -> None:
    document = a_file(
        [
            host("h1", devices=["gpu"], networks=["lan", "dmz"], cpu_models=["EPYC", "Zen5"]),
            host("off", mode="maintenance"),
            host("cpu", cpu_models=["EPYC"]),
            host("disk", datastores=["nas"], cpu_models=["Zen5"]),
            host("net", cpu_models=["Zen5"]),
            host("device", cpu_models=["Zen5"], networks=["lan", "dmz"]),
            host("small", 2, cpu_models=["Zen5"], networks=["lan", "dmz"], devices=["gpu"]),
        ],
        [vm("a", "h1", cpu_model="Zen5", networks=["lan", "dmz"], devices=["gpu"])],
    )
    why, reasons = staying(planned(document, "h1"))["a"]
    assert reasons == {
        "h1": ("it is to be emptied itself",),
        "off": ("it is maintenance",),
        "cpu": ("it cannot give CPU model Zen5",),
        "disk": ("it does not reach datastore san",),
        "net": ("it has no network dmz",),
        "device": ("it has no device gpu",),
        "small": ("8192 MiB and 1 vCPU(s) are needed, 2048 MiB and 256 are left there",),
    }
    assert why == (
        "no host can take it: 2 not open to it, 1 without its CPU, 1 out of reach of its disks, "
        "1 without its networks, 1 without its devices, 1 without the room"
    )


def test_targets_left_out_local_disks_rules_and_equal_cpus_have_words_of_their_own() -> None:
    document = a_file(
        [host("h1", cpu_models=["EPYC"]), host("h2", cpu_models=["Zen5"]), host("h3")],
        [
            vm("local", "h1", disks=[{"datastore": None}], on_maintenance="shut_down"),
            vm("same", "h1", cpu_model="host-passthrough"),
            vm("bound", "h1", host_affinity=["h1"], cpu_model=None),
        ],
    )
    found = staying(planned(document, "h1", targets=("h2",)))
    why, reasons = found["local"]
    assert why.endswith("; its policy allows to shut it down instead")
    assert reasons["h2"] == ("it cannot give CPU model EPYC",)
    assert reasons["h3"] == ("a disk of the VM is local to h1",)
    assert found["same"][1]["h2"] == ("its CPU is not that of h1, which the VM needs",)
    assert found["same"][1]["h3"] == ("it is not among the targets asked for",)
    assert found["bound"][1]["h2"] == (
        "a rule of the VM, or of those it has to be with or without, forbids it",
    )


def test_a_cluster_of_one_host_has_nobody_to_ask() -> None:
    why, reasons = staying(planned(a_file([host("h1")], [vm("a", "h1")]), "h1"))["a"]
    assert why == "no host can take it: 1 not open to it"
    assert reasons == {"h1": ("it is to be emptied itself",)}


def test_a_vm_for_whose_move_no_moment_is_found_stays_where_it_is() -> None:
    document = three_hosts(vm("a", "h1"))
    board = board_of_file(document)
    packing = evacuate(board, [0], targets=[1])
    schedule = replace(timetable(packing), moves=(), stuck=(a_job(vm=0, source=0, target=1),))
    (one,) = staying_vms(document, packing, schedule, [0])
    why = "its move to h2 and others wait for each other, and no host could park a VM"
    assert (one.vm_name, one.why, one.reasons) == ("a", why, {"h2": (why,)})
    assert _seats(packing, schedule).tolist() == [0]
    assert _seats(packing, timetable(packing)).tolist() == [1]


def a_job(*, vm: int, source: int, target: int) -> Job:
    return Job(vm=vm, source=source, target=target, memory_mib=8192, vcpus=1, sends_mib=8192)


# --- load, rules, reserve ------------------------------------------------------------------------


def test_load_is_told_before_and_after_of_the_hosts_of_the_cluster() -> None:
    hosts = [host("h1"), host("h2"), host("h3"), host("z1", cluster="c2")]
    vms = [vm("a", "h1", gib=32), vm("b", "h2", gib=16)]
    clusters = [{"name": name, "memory_ceiling": 1.0} for name in ("c1", "c2")]
    document = inventory_file.parse(
        {"format": 1, "taken_at": "2026-11-22T10:00:00Z", "clusters": clusters,
         "hosts": hosts, "vms": vms}
    )  # fmt: skip
    plan = planned(document, "h1")
    assert [(one.host, one.before, one.after) for one in plan.loads] == [
        ("h1", 0.5, 0.0),
        ("h2", 0.25, 0.25),
        ("h3", 0.0, 0.5),
    ]
    assert (plan.load_after.max, plan.load_after.sd) == (0.5, 0.125)


def test_without_a_host_that_stays_no_load_is_left() -> None:
    plan = planned(a_file([host("h1")], []), "h1")
    assert (plan.load_after.max, plan.load_after.sd) == (0.0, 0.0)


def test_a_reserve_that_cannot_be_kept_is_told_with_the_vms_it_would_cost() -> None:
    document = three_hosts(
        vm("a", "h1", gib=40), vm("b", "h2", gib=40), vm("c", "h3", gib=20), reserve="n+1"
    )
    plan = planned(document, "h1")
    assert plan.gaps == {"h2": ("b",), "h3": ("a",)}


def test_an_affinity_group_that_cannot_be_brought_together_is_named() -> None:
    vms = [
        vm("a", "h1", affinity_groups=["web"]),
        vm("b", "h2", affinity_groups=["web"], host_affinity=["h2"]),
    ]
    plan = planned(three_hosts(*vms), "h1", targets=("h3",))
    assert plan.broken == {"affinity group web": ("a", "b")}


# --- the whole -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wishes", [Wishes(hosts=("h9",)), Wishes(hosts=("h1",), targets=("h9",))])
def test_a_host_that_is_not_in_the_file_is_refused_with_those_that_are(wishes: Wishes) -> None:
    with pytest.raises(NotFound, match="'h9'") as caught:
        what_if(three_hosts(), wishes)
    assert "3 host(s): h1, h2, h3." in caught.value.remedy


def test_of_many_hosts_some_are_named_and_of_none_that_is_said() -> None:
    with pytest.raises(NotFound) as caught:
        planned(a_file([host(f"h{number}") for number in range(12)], []), "x")
    assert caught.value.remedy.endswith("h7, ….")
    with pytest.raises(NotFound, match="no hosts at all"):
        planned(a_file([], []), "x")


def test_equal_files_give_equal_plans_and_another_decision_another_hash() -> None:
    document = three_hosts(vm("a", "h1"), vm("b", "h1"))
    one, again = planned(document, "h1"), planned(document, "h1")
    other = planned(document, "h1", targets=("h2",))
    assert (one.hash, one.content()) == (again.hash, again.content())
    assert one.id == f"plan-{one.hash[:12]}"
    assert one.hash != other.hash


def test_the_json_of_a_plan_has_the_shape_that_programs_know() -> None:
    document = three_hosts(vm("a", "h1"), vm("b", "h1", on_maintenance="ask"))
    found = json.loads(json.dumps(planned(document, "h1").content()))
    assert set(found) >= {
        "id", "hash", "hosts", "steps", "unplaced", "eta_s", "bounds", "migrations", "load_after",
    }  # fmt: skip
    (step,) = found["steps"]
    assert (step["vm_name"], step["method"], step["source"]) == ("a", "live", "h1")
    assert set(step) >= {"vm_uuid", "target", "wave", "start_s", "duration_s", "downtime_ms"}
    assert found["unplaced"][0]["reasons"] == {"h1": ["its policy for maintenance says ask"]}
    assert set(found["bounds"]) == {"makespan_s", "migrations"}
    assert set(found["eta_s"]) == {"low", "high"}
    assert found["taken_at"] == "2026-11-22T10:00:00+00:00"


@repeatable
@given(
    variant=st.sampled_from(Variant),
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.6, 0.75]),
    order=st.sampled_from(Order),
)
def test_the_checker_finds_nothing_against_whatever_is_planned(
    variant: Variant, seed: int, share: float, order: Order
) -> None:
    recipe = Recipe(hosts=5, vms=40, variant=variant, memory_share=share)
    document = inventory_file.parse(cluster_document(recipe, seed))
    plan = planned(document, "host-0000", "host-0003", order=order)
    moves = [
        Move(vm=one.vm_uuid, source=one.source, target=one.target, start_s=one.start_s,
             end_s=one.end_s)
        for one in plan.steps
    ]  # fmt: skip
    limits = plan.wishes.limits
    terms = Terms(
        leaving=frozenset(plan.wishes.hosts),
        staying=frozenset(one.vm_uuid for one in plan.unplaced),
        per_source=limits.per_source,
        per_target=limits.per_target,
        per_cluster=limits.per_cluster,
        keeps_reserve=not plan.gaps,
    )
    assert violations(document, moves, terms) == []


def test_a_plan_is_polished_when_asked_and_is_never_worse() -> None:
    """Somebody has to make room; the exact search moves no more than that takes."""
    vms = [vm("large", "h1", gib=40), vm("a", "h2", gib=28), vm("b", "h3", gib=34)]
    plain, polished = (
        planned(three_hosts(*vms), "h1", is_polished=wanted) for wanted in (False, True)
    )
    assert polished.wishes.is_polished
    assert polished.unplaced == ()
    assert {one.vm_name for one in polished.steps} == {"large", "a"}
    assert len(polished.steps) <= len(plain.steps)
