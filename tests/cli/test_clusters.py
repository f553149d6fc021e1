"""`furlough cluster set` and `show`: reserve, weights of findings, defaults of VMs, rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from furlough.client import Client
from tests.cli.commands import Furlough, complaint

pytestmark = pytest.mark.usefixtures("everything_as_before", "cluster_as_before")

FILE = """
[[cluster]]
name = "sim"
reserve = "n+1"

[cluster.vm_defaults]
on_maintenance = "shut_down"
shut_down_grace_s = 300
ha = false

[cluster.severity]
"vm.no_backup" = "blocker"

[[cluster.rule]]
name = "shop"
kind = "anti_affinity"
vms = ["web01", "web02"]
hard = false

[[cluster.rule]]
name = "licence"
kind = "host_affinity"
vms = ["db01"]
hosts = ["h1", "h2", "h3", "h4"]
"""


@pytest.fixture
def cluster_as_before(client: Client) -> Iterator[None]:
    """Each story leaves the cluster with the policy it had."""
    before = client.cluster("sim").policy
    yield
    client.change("clusters", "sim", before)
    assert client.cluster("sim").policy == before


def fact(shown: str, name: str) -> str:
    found = re.search(rf"^{name} +(.+)$", shown, re.MULTILINE)
    assert found is not None, shown
    return found[1]


def test_what_a_file_says_of_a_cluster_is_applied_and_shown(
    furlough: Furlough, tmp_path: Path
) -> None:
    file = tmp_path / "furlough.toml"
    file.write_text(FILE, encoding="utf-8")
    assert furlough("apply", str(file)).code == 0
    shown = furlough("cluster", "show", "sim").out
    assert fact(shown, "reserve") == "n+1"
    assert fact(shown, "vm defaults") == "ha=false, on_maintenance=shut_down, shut_down_grace_s=300"
    assert fact(shown, "severity") == "vm.no_backup=blocker"
    assert "rule shop: anti_affinity of web01, web02 (soft)" in shown
    assert "rule licence: host_affinity of db01 on h1, h2, h3, h4" in shown
    vm = furlough("vm", "show", "web01", "--json").json
    assert (vm["policy"]["shut_down_grace_s"], vm["own_policy"]) == (300, {})


def test_the_datastores_of_a_cluster_are_shown_with_what_is_proven_of_them(
    furlough: Furlough,
) -> None:
    lines = [line.split() for line in furlough("cluster", "show", "sim").out.splitlines()]
    assert ["DATASTORE", "KIND", "SHARED", "LOCKED", "PROVEN", "ON", "REASON"] in lines
    assert ["ssd", "rbd", "proven", "proven", "h1,", "h2,", "h3,", "h4", "-"] in lines


def test_datastores_of_other_clusters_are_not_shown(furlough: Furlough, client: Client) -> None:
    client.add("clusters", {"name": "spare"})
    try:
        assert "DATASTORE" not in furlough("cluster", "show", "spare").out
    finally:
        client.remove("clusters", "spare")


def test_a_vm_that_says_something_itself_is_not_moved_by_a_default(furlough: Furlough) -> None:
    furlough("cluster", "set", "sim", "--vm-default", "availability_priority=80")
    furlough("vm", "set", "web01", "--availability-priority", "20")
    one, two = (furlough("vm", "show", name, "--json").json for name in ("web01", "web02"))
    assert one["policy"]["availability_priority"] == 20
    assert two["policy"]["availability_priority"] == 80
    furlough("vm", "set", "web01", "--unset", "availability-priority")
    again = furlough("vm", "show", "web01", "--json").json
    assert again["policy"]["availability_priority"] == 80


def test_what_is_set_is_added_to_what_is_there_and_unset_takes_away(furlough: Furlough) -> None:
    assert furlough("cluster", "set", "sim", "--vm-default", "ha=true").code == 0
    furlough("cluster", "set", "sim", "--vm-default", "post_copy=if_needed", "--reserve", "n+1")
    furlough("cluster", "set", "sim", "--severity", "vm.paused=warning")
    policy = furlough("cluster", "show", "sim", "--json").json["policy"]
    assert policy["vm_defaults"] == {"ha": "true", "post_copy": "if_needed"}
    assert (policy["severity"], policy["reserve"]) == ({"vm.paused": "warning"}, "n+1")
    furlough("cluster", "set", "sim", "--unset", "ha", "--unset", "vm.paused")
    policy = furlough("cluster", "show", "sim", "--json").json["policy"]
    assert (policy["vm_defaults"], policy["severity"]) == ({"post_copy": "if_needed"}, {})


def test_a_cluster_may_have_all_of_it_from_the_start(furlough: Furlough) -> None:
    words = ("--reserve", "n+1", "--severity", "vm.paused=blocker", "--vm-default", "ha=true")
    assert furlough("cluster", "add", "spare", *words).code == 0
    policy = furlough("cluster", "show", "spare", "--json").json["policy"]
    assert furlough("cluster", "remove", "spare").code == 0
    assert policy["reserve"] == "n+1"
    assert policy["severity"] == {"vm.paused": "blocker"}
    assert policy["vm_defaults"] == {"ha": "true"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--vm-default", "ha"), "not of the form NAME=VALUE"),
        (("--vm-default", "=true"), "not of the form NAME=VALUE"),
        (("--vm-default", "ha=perhaps"), "ha cannot be 'perhaps'"),
        (("--vm-default", "colour=red"), "no policy 'colour'"),
        (("--severity", "vm.paused=dreadful"), "dreadful"),
        (("--severity", "no.such=info"), "no.such"),
        (("--unset", "ha"), "neither a default of VMs nor a finding's weight"),
    ],
)
def test_what_makes_no_sense_is_said_so_and_changes_nothing(
    furlough: Furlough, words: tuple[str, ...], why: str
) -> None:
    before = furlough("cluster", "show", "sim").out
    result = furlough("cluster", "set", "sim", *words)
    assert result.code == 2
    assert why in complaint(result)
    assert furlough("cluster", "show", "sim").out == before


def test_defaults_of_entering_are_set_shown_and_taken_away(
    furlough: Furlough, client: Client
) -> None:
    words = ("--automation", "manual", "--on-failure", "wait", "--timeout", "2h")
    assert furlough("cluster", "set", "sim", *words).code == 0
    assert furlough("cluster", "set", "sim", "--order", "memory").code == 0
    known = client.cluster("sim").policy["maintenance"]
    assert known == {
        "automation": "manual",
        "on_failure": "wait",
        "timeout_s": 7200.0,
        "order": "memory",
    }
    assert "automation=manual" in fact(furlough("cluster", "show", "sim").out, "maintenance")
    unset = ("--unset", "automation", "--unset", "on_failure", "--unset", "order")
    assert furlough("cluster", "set", "sim", *unset).code == 0
    assert client.cluster("sim").policy["maintenance"] == {"timeout_s": 7200.0}
    taken = furlough("cluster", "set", "sim", "--unset", "automation")
    assert (taken.code, "timeout_s" in complaint(taken)) == (2, True)


def test_a_reserve_that_is_none_is_a_mistake_of_usage(furlough: Furlough) -> None:
    result = furlough("cluster", "set", "sim", "--reserve", "much")
    assert (result.code, result.out) == (2, "")
    assert "--reserve" in result.err
