"""Defaults of entering: who is asked first, and what each door expects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.doors import (
    DOORS,
    MAY_BE_LEFT_OPEN,
    Door,
    check_sense,
    completed,
    defaults_of,
    filled,
)
from furlough.core.findings import CODES
from furlough.core.inventory import Cluster
from furlough.core.policy import (
    Automation,
    EnterDefaults,
    EnterOptions,
    OnFailure,
    Order,
    Scope,
    StorageMode,
)
from furlough.errors import Invalid
from tests.core.builders import C1, C2, a_cluster

OPEN = EnterOptions(left_open=MAY_BE_LEFT_OPEN)


def cluster_with(defaults: EnterDefaults, name: str = C1) -> Cluster:
    cluster = a_cluster(C1 if name == C1 else C2)
    return replace(cluster, policy=replace(cluster.policy, maintenance=defaults))


def test_what_a_request_says_holds_whatever_the_defaults_are() -> None:
    said = EnterOptions(timeout_s=60, scope=Scope.ALL, automation=Automation.AUTOMATIC)
    others = EnterDefaults(timeout_s=5, scope=Scope.RUNNING, automation=Automation.OFF)
    assert completed(said, others) == said


def test_the_first_that_speaks_of_what_is_left_open_is_believed() -> None:
    cluster = EnterDefaults(automation=Automation.MANUAL)
    daemon = EnterDefaults(
        automation=Automation.OFF, storage=StorageMode.NONE, order=Order.MEMORY, timeout_s=90
    )
    found = completed(OPEN, cluster, daemon)
    assert (found.automation, found.storage) == (Automation.MANUAL, StorageMode.NONE)
    assert (found.order, found.timeout_s) == (Order.MEMORY, 90)
    assert (found.scope, found.on_failure) == (Scope.RUNNING, OnFailure.STOP)
    assert found.left_open == ()


def test_a_timeout_that_nobody_speaks_of_is_none_and_one_left_out_is_asked_for() -> None:
    assert completed(EnterOptions()).timeout_s == 0
    assert completed(EnterOptions(), EnterDefaults(timeout_s=7)).timeout_s == 7
    assert completed(OPEN).timeout_s == 0


def test_a_door_speaks_before_the_cluster_and_leaves_to_it_what_it_does_not_care_for() -> None:
    through = filled(OPEN, DOORS[Door.VSPHERE].entering)
    cluster = EnterDefaults(automation=Automation.MANUAL, on_failure=OnFailure.PUT_BACK)
    found = completed(through, cluster)
    assert (found.on_failure, found.automation) == (OnFailure.WAIT, Automation.MANUAL)


@pytest.mark.parametrize(
    ("door", "scope", "automation", "on_failure", "order", "restore"),
    [
        (Door.NATIVE, "running", "automatic", "stop", "schedule", "recorded"),
        (Door.VSPHERE, "running", "automatic", "wait", "schedule", "none"),
        (Door.CLOUDTOWER, "all", "automatic", "stop", "schedule", "selected"),
        (Door.VERGE, "running", "automatic", "wait", "schedule", "moved"),
        (Door.POWERVC, "running", "automatic", "stop", "memory", "none"),
    ],
)
def test_each_door_has_the_ways_of_its_users(
    door: Door, scope: str, automation: str, on_failure: str, order: str, restore: str
) -> None:
    ways = DOORS[door]
    found = completed(OPEN, ways.entering)
    assert (found.scope, found.automation, found.on_failure) == (scope, automation, on_failure)
    assert (found.order, ways.restore) == (order, restore)


def test_every_door_is_in_the_table_and_is_strict_about_findings_that_there_are() -> None:
    assert set(DOORS) == set(Door)
    assert {code for ways in DOORS.values() for code in ways.strict} <= set(CODES)


def test_a_request_is_meant_as_the_users_of_its_door_expect() -> None:
    options = replace(OPEN, strict=("vm.agent", "vm.no_backup"))
    found = DOORS[Door.POWERVC].asked(options)
    assert (found.order, found.scope) == (Order.MEMORY, Scope.RUNNING)
    assert found.strict == ("vm.agent", "vm.no_backup", "vm.group")


@pytest.mark.parametrize("door", list(Door))
def test_through_powervcs_door_nobody_leaves_its_cluster(door: Door) -> None:
    assert DOORS[door].asked(OPEN).within_cluster is (door is Door.POWERVC)
    assert DOORS[door].asked(replace(OPEN, within_cluster=True)).within_cluster


def test_clusters_that_differ_in_what_is_left_open_are_not_entered_by_one_request() -> None:
    one = cluster_with(EnterDefaults(automation=Automation.MANUAL))
    two = cluster_with(EnterDefaults(automation=Automation.OFF), C2)
    with pytest.raises(Invalid, match="c1 and c2 have different defaults of automation") as told:
        defaults_of([one, two], OPEN)
    assert told.value.code == "options.differ"
    said = replace(OPEN, left_open=("order",))
    assert defaults_of([one, two], said).automation is Automation.MANUAL
    assert defaults_of([one, one], OPEN).automation is Automation.MANUAL
    assert defaults_of([], OPEN) == EnterDefaults()


def test_what_nobody_carries_out_is_refused_and_not_passed_over() -> None:
    for mode in (StorageMode.KEEP_ACCESSIBLE, StorageMode.NONE):
        check_sense(EnterOptions(storage=mode))
    with pytest.raises(Invalid, match="copies no local disks"):
        check_sense(EnterOptions(storage=StorageMode.EVACUATE_ALL))


def test_not_to_wait_makes_sense_only_where_people_move() -> None:
    check_sense(EnterOptions(wait=False, automation=Automation.OFF))
    check_sense(EnterOptions())
    with pytest.raises(Invalid, match="only where nobody is moved by us"):
        check_sense(EnterOptions(wait=False))
