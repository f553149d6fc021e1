"""The checker: each way in which a plan could hurt somebody is found, and a good plan is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from furlough.planning.checking import Move, Terms, violations
from furlough.planning.inventory_file import Document, parse
from tests.core.builders import vm_id

Json = dict[str, Any]
V1, V2, V3, V4 = (vm_id(number) for number in range(1, 5))
LEAVING_H1 = Terms(leaving=frozenset({"h1"}))


def _host(name: str, **changes: object) -> Json:
    return {
        "name": name,
        "cluster": "c1",
        "cpus": 4,
        "memory_mib": 10_000,
        "cpu_models": ["EPYC"],
        "networks": ["lan"],
        "datastores": ["san"],
        **changes,
    }


def _vm(uuid: str, host: str = "h1", **changes: object) -> Json:
    return {
        "uuid": uuid,
        "name": f"vm{int(uuid[-2:])}",
        "host": host,
        "vcpus": 2,
        "memory_mib": 4000,
        "cpu_model": "EPYC",
        "networks": ["lan"],
        "disks": [{"datastore": "san"}],
        **changes,
    }


def _document(vms: list[Json], hosts: list[Json] | None = None, reserve: str = "none") -> Document:
    """Hosts of 10,000 MiB and 16 vCPUs each, unless others are said."""
    cluster = {"name": "c1", "memory_ceiling": 1.0, "vcpu_overcommit": 4.0, "reserve": reserve}
    return parse(
        {
            "format": 1,
            "taken_at": "2026-11-22T10:00:00Z",
            "clusters": [cluster, {**cluster, "name": "c2"}],
            "hosts": hosts or [_host("h1"), _host("h2"), _host("h3")],
            "vms": vms,
        }
    )


def _move(
    vm: str = V1,
    target: str = "h2",
    start_s: float = 0.0,
    end_s: float = 10.0,
    source: str = "h1",
) -> Move:
    return Move(vm=vm, source=source, target=target, start_s=start_s, end_s=end_s)


def _only(found: list[str], *words: str) -> None:
    """There is one violation, and it says this."""
    assert len(found) == 1, found
    for word in words:
        assert word in found[0]


def test_an_evacuation_that_fits_breaks_nothing() -> None:
    document = _document([_vm(V1), _vm(V2), _vm(V3, "h2")])
    moves = [_move(V1), _move(V2, "h3", 5, 12)]
    assert violations(document, moves, LEAVING_H1) == []


@pytest.mark.parametrize(
    ("move", "words"),
    [
        (_move("nobody"), "no VM nobody"),
        (_move(target="h9"), "no host h9"),
        (_move(start_s=5, end_s=5), "from 5 s to 5 s"),
        (_move(start_s=-1), "from -1 s"),
        (_move(start_s=5, end_s=5.0001), "within a millisecond"),
    ],
)
def test_moves_that_mean_nothing_are_told_and_nothing_else_is_judged(
    move: Move, words: str
) -> None:
    _only(violations(_document([_vm(V1)]), [move], LEAVING_H1), words)


def test_both_copies_are_counted_while_a_move_runs() -> None:
    """vm1 may come to h2 only when vm2 has left it for good."""
    document = _document([_vm(V1, memory_mib=7000), _vm(V2, "h2", memory_mib=7000)])
    away = _move(V2, "h3", 0, 10, source="h2")
    _only(violations(document, [away, _move(start_s=9.9, end_s=20)], LEAVING_H1), "14000 MiB")
    assert violations(document, [away, _move(start_s=10, end_s=20)], LEAVING_H1) == []


def test_the_source_is_not_free_for_others_before_a_move_is_over() -> None:
    document = _document([_vm(V1, memory_mib=7000), _vm(V2, "h2", memory_mib=7000)])
    swap = [_move(V1, "h3", 0, 10), _move(V2, "h1", 5, 15, source="h2")]
    found = violations(document, swap, Terms(leaving=frozenset()))
    _only(found, "at 5.00 s", "14000 MiB", "10000 MiB")


def test_vcpus_are_limited_by_the_overcommit_and_memory_by_the_reserve_of_the_host() -> None:
    document = _document([_vm(V1, vcpus=10), _vm(V2, "h2", vcpus=7)])
    _only(violations(document, [_move()], LEAVING_H1), "17 vCPUs", "16 are allowed")
    hosts = [_host("h1"), _host("h2", reserved_memory_mib=3000)]
    document = _document([_vm(V1), _vm(V2, "h2")], hosts)
    _only(violations(document, [_move()], LEAVING_H1), "8000 MiB", "7000 MiB")


def test_a_vm_that_is_off_takes_no_room_and_need_not_leave() -> None:
    off = _vm(V1, power="shut_off", memory_mib=9000)
    document = _document([off, _vm(V2, "h2", memory_mib=9000)])
    assert violations(document, [], LEAVING_H1) == []
    assert violations(document, [_move()], LEAVING_H1) == []


@pytest.mark.parametrize(
    ("vm", "target", "words"),
    [
        ({}, {"cpu_models": ["Haswell"]}, "CPU model EPYC"),
        ({"cpu_model": "host-passthrough"}, {"cpu_models": ["EPYC", "Rome"]}, "not that of h1"),
        ({"networks": ["lan", "dmz"]}, {}, "no network dmz"),
        ({"devices": ["gpu"]}, {}, "no device gpu"),
        ({}, {"datastores": []}, "datastore san"),
        ({"disks": [{"datastore": "san", "shared": False}]}, {}, "local to h1"),
        ({"disks": [{"datastore": None}]}, {}, "local to h1"),
        ({"host_affinity": ["h1", "h3"]}, {}, "host affinity"),
        ({"on_maintenance": "leave"}, {}, "left where it is"),
        ({}, {"mode": "cordoned"}, "cordoned"),
        ({}, {"mode": "maintenance"}, "maintenance"),
        ({}, {"cluster": "c2"}, "cluster c2"),
    ],
)
def test_a_target_that_cannot_or_must_not_take_a_vm_is_a_violation(
    vm: Json, target: Json, words: str
) -> None:
    document = _document([_vm(V1, **vm)], [_host("h1"), _host("h2", **target), _host("h3")])
    _only(violations(document, [_move()], LEAVING_H1), words)


def test_a_vm_that_asks_for_no_cpu_model_or_finds_the_same_cpu_may_go() -> None:
    for model in (None, "host-passthrough"):
        assert violations(_document([_vm(V1, cpu_model=model)]), [_move()], LEAVING_H1) == []


def test_a_host_that_is_to_be_emptied_is_no_target_and_others_may_be_ruled_out() -> None:
    document = _document([_vm(V1)])
    both = Terms(leaving=frozenset({"h1", "h2"}))
    found = violations(document, [_move()], both)
    assert len(found) == 2
    assert "leaving" in found[0]
    assert "still on h2" in found[1]
    restricted = replace(LEAVING_H1, target_hosts=frozenset({"h3"}))
    _only(violations(document, [_move()], restricted), "not among the targets")
    assert violations(document, [_move(target="h3")], restricted) == []


def test_a_vm_moves_from_where_it_is_and_once_at_a_time() -> None:
    document = _document([_vm(V1)])
    terms = Terms(leaving=frozenset())
    _only(violations(document, [_move(source="h3")], terms), "on h1, not on h3")
    _only(violations(document, [_move(target="h1")], terms), "there already")
    found = violations(document, [_move(), _move(target="h3", start_s=5, end_s=15)], terms)
    _only(found, "at 5.00 s", "on its way already")


def test_a_detour_over_a_third_host_is_fine() -> None:
    document = _document([_vm(V1)])
    detour = [_move(V1, "h3", 0, 5), _move(V1, "h2", 5, 9, source="h3")]
    assert violations(document, detour, LEAVING_H1) == []


def test_vms_that_must_not_meet_do_not_meet_even_on_the_way() -> None:
    vms = [_vm(V1, anti_affinity_groups=["db"]), _vm(V2, "h2", anti_affinity_groups=["db"])]
    document = _document(vms)
    away = _move(V2, "h3", 0, 10, source="h2")
    found = violations(document, [away, _move(start_s=5, end_s=15)], LEAVING_H1)
    _only(found, "vm2", "group db", "is there")
    assert violations(document, [away, _move(start_s=10, end_s=15)], LEAVING_H1) == []
    off = _document([vms[0], {**vms[1], "power": "shut_off"}])
    assert violations(off, [_move()], LEAVING_H1) == []


def test_vms_that_belong_together_may_travel_apart_but_not_end_apart() -> None:
    vms = [_vm(V1, affinity_groups=["web"]), _vm(V2, affinity_groups=["web"])]
    document = _document(vms)
    together = [_move(V1), _move(V2, start_s=10, end_s=20)]
    assert violations(document, together, LEAVING_H1) == []
    apart = [_move(V1), _move(V2, "h3", 10, 20)]
    _only(violations(document, apart, LEAVING_H1), "group web", "h2, h3")


def test_a_group_of_which_the_plan_says_that_one_stays_is_not_torn_unseen() -> None:
    document = _document([_vm(V1, affinity_groups=["web"]), _vm(V2, affinity_groups=["web"])])
    assert violations(document, [_move(V1)], replace(LEAVING_H1, staying=frozenset({V2}))) == []


def test_vms_that_were_apart_before_are_not_the_plans_fault() -> None:
    document = _document([_vm(V1, affinity_groups=["web"]), _vm(V2, "h3", affinity_groups=["web"])])
    assert violations(document, [_move()], LEAVING_H1) == []


def test_whoever_is_left_behind_has_to_be_listed() -> None:
    document = _document([_vm(V1), _vm(V2)])
    _only(violations(document, [_move(V1)], LEAVING_H1), "vm2", "still on h1")
    assert violations(document, [_move(V1)], replace(LEAVING_H1, staying=frozenset({V2}))) == []


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (replace(LEAVING_H1, per_source=1), "2 moves leave h1 at once, 1 are allowed"),
        (replace(LEAVING_H1, per_target=1), "2 moves go there at once"),
        (replace(LEAVING_H1, per_cluster=1), "2 moves are in flight in c1"),
    ],
)
def test_no_more_moves_are_in_flight_than_allowed(terms: Terms, words: str) -> None:
    document = _document([_vm(V1), _vm(V2)])
    moves = [_move(V1), _move(V2, start_s=9, end_s=12)]
    _only(violations(document, moves, terms), words)
    later = [_move(V1), _move(V2, start_s=10, end_s=12)]
    assert violations(document, later, terms) == []


# --- N+1 ----------------------------------------------------------------------------------------


def test_without_room_for_one_more_lost_host_the_reserve_is_broken() -> None:
    vms = [_vm(V1), _vm(V2, "h2"), _vm(V3, "h3", memory_mib=7000)]
    found = violations(_document(vms, reserve="n+1"), [_move()], LEAVING_H1)
    assert [one for one in found if "N+1" not in one] == []
    assert "if h2 were lost" in found[0]
    assert violations(_document(vms), [_move()], LEAVING_H1) == []
    waived = replace(LEAVING_H1, keeps_reserve=False)
    assert violations(_document(vms, reserve="n+1"), [_move()], waived) == []


def test_with_room_for_one_more_lost_host_it_is_kept() -> None:
    vms = [_vm(V1), _vm(V2, "h2", memory_mib=1000)]
    assert violations(_document(vms, reserve="n+1"), [_move()], LEAVING_H1) == []


def test_vms_that_no_other_host_could_run_do_not_count_and_hosts_that_are_away_give_no_room() -> (
    None
):
    """The local disk dies with its host; the cordoned host could be lost but takes nobody."""
    local = _vm(V1, "h2", disks=[{"datastore": None}], memory_mib=9000)
    hosts = [_host("h1"), _host("h2"), _host("h3", mode="cordoned"), _host("h4")]
    document = _document([local, _vm(V2, "h3")], hosts, reserve="n+1")
    assert violations(document, [], LEAVING_H1) == []
    narrow = [*hosts[:3], _host("h4", mode="maintenance")]
    document = _document([local, _vm(V2, "h3")], narrow, reserve="n+1")
    _only(violations(document, [], LEAVING_H1), "if h3 were lost")


def test_the_reserve_is_found_where_the_largest_has_to_go_where_it_fits_tightest() -> None:
    """Emptiest first would put the 4,000 into the 5,000 where the 5,000 would have to go."""
    vms = [
        _vm(V1, "h2", memory_mib=5000, networks=["lan", "dmz"]),
        _vm(V2, "h2", memory_mib=5000),
        _vm(V3, "h3", memory_mib=3000),
        _vm(V4, "h4", memory_mib=4000),
    ]
    hosts = [
        _host("h1"),
        _host("h2", networks=["lan", "dmz"]),
        _host("h3", networks=["lan", "dmz"], memory_mib=8000),
        _host("h4", memory_mib=9500),
    ]
    assert violations(_document(vms, hosts, reserve="n+1"), [], LEAVING_H1) == []


def test_a_search_finds_the_reserve_where_simple_rules_do_not() -> None:
    """Six VMs fill two hosts in one way only: 4,500 + 2 x 2,250 and 3 x 3,000."""
    sizes = (4500, 3000, 3000, 3000, 2250, 2250)
    crew = [_vm(vm_id(10 + at), "h2", memory_mib=size) for at, size in enumerate(sizes)]
    hosts = [
        _host("h1"),
        _host("h2", memory_mib=20_000, cpus=16),
        _host("h3", memory_mib=9000, cpus=16),
        _host("h4", memory_mib=9000, cpus=16),
    ]
    assert violations(_document(crew, hosts, reserve="n+1"), [], LEAVING_H1) == []


def test_a_search_without_end_is_given_up_and_counts_as_no_reserve() -> None:
    """Each of 40 VMs of 3,001 MiB would leave a rest too small for the last one."""
    crew = [_vm(vm_id(10 + at), "h2", memory_mib=3001 + at % 2, vcpus=1) for at in range(40)]
    hosts = [_host("h1"), _host("h2", memory_mib=200_000, cpus=64)]
    hosts += [_host(f"t{at}", memory_mib=9004, cpus=64) for at in range(14)]
    _only(violations(_document(crew, hosts, reserve="n+1"), [], LEAVING_H1), "if h2 were lost")
