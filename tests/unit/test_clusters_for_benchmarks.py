"""The generator of clusters: repeatable, as full as asked, and legal as it stands."""

from __future__ import annotations

import json

import pytest
from bench.clusters import Recipe, Variant, cluster_document

from furlough.planning.checking import misfits
from furlough.planning.inventory_file import Document, parse


def _document(variant: Variant, seed: int = 1, **changes: float) -> Document:
    share = changes.get("memory_share", 0.68)
    return parse(
        cluster_document(Recipe(hosts=16, vms=200, variant=variant, memory_share=share), seed)
    )


@pytest.mark.parametrize("variant", Variant)
def test_the_same_seed_gives_the_same_cluster_and_another_one_another(variant: Variant) -> None:
    recipe = Recipe(hosts=8, vms=60, variant=variant)
    first, again, other = (json.dumps(cluster_document(recipe, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("seed", range(4))
def test_every_vm_stands_where_it_may_run_and_no_host_is_over_its_limit(
    variant: Variant, seed: int
) -> None:
    document = _document(variant, seed)
    hosts = {host.name: host for host in document.hosts}
    vms = document.vms
    for name, host in hosts.items():
        crew = [vm for vm in range(len(vms)) if vms.host[vm] == name]
        limit_mib = int((host.memory_mib - host.reserved_memory_mib) * 0.9)
        assert sum(vms.memory_mib[vm] for vm in crew) <= limit_mib
        assert sum(vms.vcpus[vm] for vm in crew) <= int(host.cpus * 4.0)
        assert [misfits(document, vm, host, host) for vm in crew] == [[]] * len(crew)
        apart = [group for vm in crew for group in vms.anti_affinity_groups[vm]]
        assert len(apart) == len(set(apart))


@pytest.mark.parametrize("share", [0.6, 0.75])
def test_hosts_are_as_full_as_asked(share: float) -> None:
    document = _document(Variant.PLAIN, memory_share=share)
    size_mib = sum(host.memory_mib - host.reserved_memory_mib for host in document.hosts)
    assert sum(document.vms.memory_mib) / size_mib == pytest.approx(share, abs=0.03)
    assert len({host.memory_mib for host in document.hosts}) == 2


def test_a_rich_cluster_has_every_kind_of_rule_and_pairs_share_a_host() -> None:
    vms = _document(Variant.RICH).vms
    homes: dict[str, set[str]] = {}
    for vm, groups in enumerate(vms.affinity_groups):
        for group in groups:
            homes.setdefault(group, set()).add(vms.host[vm])
    assert homes
    assert all(len(hosts) == 1 for hosts in homes.values())
    assert any(vms.anti_affinity_groups)
    assert any(vms.host_affinity)
    assert len(set(vms.cpu_model)) > 1
    assert len(set(vms.networks)) > 1


def test_without_room_for_its_vms_a_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        cluster_document(Recipe(hosts=2, vms=9, memory_share=5.0), 1)
