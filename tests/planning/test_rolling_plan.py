"""Rolling plans in names: what is asked of a file, and what is told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from furlough.errors import NotFound
from furlough.planning.inventory_file import Document, read
from furlough.planning.rolling_plan import RollingWishes, rolling_waves


def _document(*, reserve: str = "n+1", devices: tuple[str, ...] = ()) -> Document:
    """Three hosts of 64 GiB with a VM of 16 GiB each, the last one with these devices."""
    hosts = [
        {"name": f"h{n}", "cluster": "c1", "cpus": 32, "memory_mib": 65_536, "devices": ["gpu"]}
        for n in (1, 2, 3)
    ]
    for host in hosts[:2]:
        host["devices"] = []
    vms = [
        {
            "uuid": f"00000000-0000-4000-8000-00000000000{n}",
            "name": f"vm{n}",
            "host": f"h{n}",
            "vcpus": 2,
            "memory_mib": 16_384,
        }
        for n in (1, 2, 3)
    ]
    vms[2]["devices"] = list(devices)
    text = {
        "format": 1,
        "taken_at": "2026-11-22T10:00:00Z",
        "clusters": [{"name": "c1", "reserve": reserve}],
        "hosts": hosts,
        "vms": vms,
    }
    return read(json.dumps(text).encode())


def test_every_host_is_away_once_and_its_vms_have_left_by_then() -> None:
    plan = rolling_waves(_document(), RollingWishes(cluster="c1"))
    assert sorted(host for wave in plan.waves for host in wave.hosts) == ["h1", "h2", "h3"]
    at = {"vm1": "h1", "vm2": "h2", "vm3": "h3"}
    for wave in plan.waves:
        for move in wave.moves:
            assert at[move.vm_name] == move.source
            at[move.vm_name] = move.target
        assert not set(at.values()) & set(wave.hosts)
        assert wave.keeps_reserve
    assert plan.migrations == sum(len(wave.moves) for wave in plan.waves) == plan.bound == 4


def test_a_host_that_cannot_be_emptied_is_named_with_the_vm_that_ties_it() -> None:
    plan = rolling_waves(_document(devices=("gpu",)), RollingWishes(cluster="c1"))
    assert plan.left == (("h3", "vm3"),)
    assert "h3" not in {host for wave in plan.waves for host in wave.hosts}


def test_by_the_rules_of_hroller_hosts_are_filled_to_the_brim() -> None:
    document = _document()
    # Two VMs fill a host: with the usual ceiling and N+1 no two hosts could be away at once.
    vms = replace(document.vms, memory_mib=[32_768, 16_384, 16_384])
    full = replace(document, vms=vms)
    ours = rolling_waves(full, RollingWishes(cluster="c1", width=2))
    theirs = rolling_waves(full, RollingWishes(cluster="c1", width=2, hroller_rules=True))
    assert max(len(wave.hosts) for wave in ours.waves) == 1
    assert max(len(wave.hosts) for wave in theirs.waves) == 2
    assert max(wave.fullest for wave in theirs.waves) > 0.9


def test_the_json_says_all_that_the_plan_knows() -> None:
    plan = rolling_waves(_document(), RollingWishes(cluster="c1", width=1))
    content = json.loads(json.dumps(plan.content()))
    assert (content["cluster"], content["width"], content["hroller_rules"]) == ("c1", 1, False)
    assert [wave["hosts"] for wave in content["waves"]] == [list(one.hosts) for one in plan.waves]
    assert content["waves"][0]["moves"][0]["vm_name"] == plan.waves[0].moves[0].vm_name
    assert content["migrations"] == content["bounds"]["migrations"] == 4
    assert (content["left"], content["unprotected"]) == ([], [])


def test_a_cluster_that_the_file_does_not_know_is_refused_with_those_it_knows() -> None:
    with pytest.raises(NotFound, match="'c7'") as caught:
        rolling_waves(_document(), RollingWishes(cluster="c7"))
    assert "c1" in caught.value.remedy
