"""Two lab clusters: a VM that finds no place in its own one moves to the other, and comes home."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from furlough.lab.blueprint import Options
from furlough.lab.patience import unix_now
from tests.lab.conftest import driven, own_name
from tests.lab.fleet import Fleet, downtimes

pytestmark = [pytest.mark.timeout(300), pytest.mark.lab]

# Two guests on h1; h2 beside it, h3 in the other cluster.
SIZE_MIB = 128
HOLDS_ONE_MIB = 200


@pytest.fixture(scope="module")
def two_clusters(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    options = Options(vms=2, on="h1", memory_mib=SIZE_MIB, clusters=2)
    yield from driven(own_name("k"), options, tmp_path_factory)


def test_who_finds_no_room_crosses_and_everybody_comes_home(two_clusters: Fleet) -> None:
    fleet = two_clusters
    since = unix_now()
    (h2,) = [one for one in fleet.furlough("host", "list", "--json").json if one["name"] == "h2"]
    # What VMs may take there: 90 % of what is not reserved.
    reserved = h2["memory_mib"] - round(HOLDS_ONE_MIB / 0.9)
    fleet.check(fleet.furlough("host", "set", "h2", "--reserved-memory-mib", str(reserved)))
    (report,) = fleet.furlough("check", "h1", "--json").json
    (told,) = [one for one in report["findings"] if one["code"] == "vm.crosses"]
    assert "moves to h3 of cluster" in told["message"]
    refused = fleet.furlough("check", "h1", "--within-cluster")
    assert refused.code == 3
    assert "vm.no_room" in refused.output

    entered = fleet.furlough("enter", "h1", "--wait", "--json")
    assert entered.code == 0, entered.complaint
    assert fleet.lab.host("h1").vms("--all") == []
    assert sorted(fleet.running().values()) == [["h2"], ["h3"]]
    exited = fleet.furlough("exit", "h1", "--wait", "--json")
    assert exited.code == 0, exited.complaint
    assert fleet.running() == {vm: ["h1"] for vm in fleet.lab.vm_names}
    longest = {
        vm: max(one[vm] or 0 for one in (downtimes(entered.json), downtimes(exited.json)))
        for vm in fleet.lab.vm_names
    }
    fleet.check_witness(since, dict(longest))
