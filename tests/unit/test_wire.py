"""Shapes: what a client may say becomes exactly what it meant; what enrols a thing describes it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from furlough.core.doors import MAY_BE_LEFT_OPEN
from furlough.core.inventory import Proof
from furlough.core.policy import (
    ActionOptions,
    Automation,
    EnterOptions,
    ExitOptions,
    RestoreMode,
    Scope,
)
from furlough.errors import Invalid
from furlough.wire import enrolment, remedies, requests
from furlough.wire.enrolment import (
    ClusterBody,
    DatastoreBody,
    EnrolmentBody,
    HostBody,
    cluster_body,
    host_body,
)
from furlough.wire.exits import ExitBody
from furlough.wire.requests import (
    ActionBody,
    EnterBody,
    EnterOperation,
    EnterRequest,
    ExitRequest,
    OperationBody,
    PolicyBody,
)
from furlough.wire.shapes import Body

BODIES = [
    one
    for module in (enrolment, remedies, requests)
    for one in vars(module).values()
    if isinstance(one, type) and issubclass(one, Body) and one is not Body
]


def test_options_without_words_are_the_defaults() -> None:
    open_ones = EnterOptions(left_open=MAY_BE_LEFT_OPEN)
    assert EnterBody().to_core() == EnterRequest().to_core() == open_ones
    assert ExitBody().to_core() == ExitRequest().to_core() == ExitOptions()
    assert ActionBody().to_core() == ActionOptions()


@pytest.mark.parametrize("shape", [EnterBody, EnterRequest])
def test_options_of_entering_arrive_as_they_were_meant(shape: type[EnterBody]) -> None:
    said = {"timeout_s": 60, "target_hosts": ["h2", "h3"], "reason": "fans", "ticket": "T-1"}
    meant = shape.model_validate({**said, "purpose": "p"}).to_core()
    assert (meant.timeout_s, meant.target_hosts) == (60, ("h2", "h3"))
    assert (meant.reason, meant.ticket, meant.purpose) == ("fans", "T-1", "p")
    said = {"shut_down": ["web 01", "<b>"], "override": ["a.b", "c.d", "a.b"], "strict": ["e.f"]}
    meant = shape.model_validate(said).to_core()
    assert meant.shut_down == ("web 01", "<b>")  # whoever that is
    assert (meant.override, meant.strict) == (("a.b", "c.d"), ("e.f",))


def test_what_is_said_of_the_options_is_not_left_open() -> None:
    words = {"scope": "all", "automation": "off", "wait": False, "order": None}
    meant = EnterBody.model_validate(words).to_core()
    assert (meant.scope, meant.automation, meant.wait) == (Scope.ALL, Automation.OFF, False)
    assert meant.left_open == ("timeout_s", "on_failure", "storage", "order")


def test_defaults_of_entering_in_a_cluster_come_back_as_they_were_said() -> None:
    said = {"automation": "manual", "timeout_s": 60.0}
    body = ClusterBody.model_validate({"name": "c1", "maintenance": said})
    cluster = body.to_core()
    assert cluster.policy.maintenance.automation is Automation.MANUAL
    assert cluster_body(cluster)["maintenance"] == said
    assert ClusterBody.model_validate(cluster_body(cluster)) == body


def test_settings_of_a_vm_become_the_words_it_carries() -> None:
    policy = {"ha": True, "shut_down_grace_s": 90, "host_affinity": ["h1", "h2"], "post_copy": None}
    assert PolicyBody.model_validate({"policy": policy}).to_core() == {
        "ha": "true",
        "shut_down_grace_s": "90",
        "host_affinity": "h1,h2",
        "post_copy": None,
    }


def test_defaults_of_vms_may_be_written_as_toml_has_them() -> None:
    defaults = {"ha": False, "shut_down_grace_s": 300, "on_maintenance": "ask"}
    cluster = ClusterBody.model_validate({"name": "c1", "vm_defaults": defaults}).to_core()
    assert dict(cluster.vm_defaults) == {
        "ha": "false",
        "shut_down_grace_s": "300",
        "on_maintenance": "ask",
    }


@pytest.mark.parametrize("shape", [ExitBody, ExitRequest])
def test_options_of_exiting_arrive_as_they_were_meant(shape: type[ExitBody]) -> None:
    meant = shape.model_validate({"restore": "moved", "timeout_s": 9}).to_core()
    assert (meant.restore, meant.timeout_s) == (RestoreMode.MOVED, 9)


def test_a_plan_hash_is_no_option() -> None:
    assert EnterRequest(plan_hash="a" * 64).to_core() == EnterBody().to_core()
    assert ExitRequest(plan_hash="a" * 64).to_core() == ExitOptions()


@pytest.mark.parametrize("shape", BODIES)
def test_no_shape_accepts_what_it_does_not_know(shape: type[BaseModel]) -> None:
    with pytest.raises(ValidationError) as caught:
        shape.model_validate({"surprise": 1})
    assert "extra_forbidden" in {one["type"] for one in caught.value.errors()}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 10**400])
def test_no_number_is_without_end(number: float) -> None:
    for shape, name in ((EnterBody, "timeout_s"), (ExitBody, "timeout_s"), (ActionBody, "grace_s")):
        with pytest.raises(ValidationError):
            shape.model_validate({name: number})
    with pytest.raises(ValidationError):
        ClusterBody.model_validate({"name": "c1", "memory_ceiling": number})


def test_a_timeout_of_an_act_is_at_most_a_year() -> None:
    """What is longer would not even fit into a date."""
    assert ActionBody(timeout_s=366 * 86_400).to_core().timeout_s == 366 * 86_400
    with pytest.raises(ValidationError):
        ActionBody(timeout_s=366 * 86_400 + 1)


def test_the_kind_of_an_operation_decides_its_shape() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(OperationBody)
    found = adapter.validate_python({"kind": "enter", "hosts": ["h1"]})
    assert isinstance(found, EnterOperation)
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "cordon", "hosts": ["h1"], "options": {"restore": "none"}})


def test_a_cluster_as_it_is_can_be_enrolled_again() -> None:
    one = ClusterBody(
        name="c1", memory_ceiling=0.8, vcpu_overcommit=2, max_hosts_away=3, trusts_own_proofs=True,
        limits={"per_source": 1, "per_target": 3, "per_cluster": 5},  # type: ignore[arg-type]
    )  # fmt: skip
    core = one.to_core()
    assert core.policy.limits.per_target == 3
    assert ClusterBody.model_validate(cluster_body(core)) == one
    assert set(cluster_body(core)) == set(ClusterBody.model_fields)


def test_a_host_as_it_is_can_be_enrolled_again() -> None:
    one = HostBody.model_validate(
        {
            "name": "h1",
            "cluster": "c1",
            "address": "192.0.2.1",
            "transport": "tls",
            "user": "f",
            "migration_address": "198.51.100.1",
            "link_mbit_s": 25_000,
            "reserved_memory_mib": 1024,
            "datastores": ["a", "b"],
            "program": "local",
        }
    )
    assert HostBody.model_validate(host_body(one.to_core())) == one


def test_a_datastore_may_be_declared_but_not_proven_by_words() -> None:
    said = {"name": "d", "cluster": "c1", "kind": "nbd", "address": "192.0.2.1"}
    declared = DatastoreBody.model_validate({**said, "shared": "declared", "reason": "NFS"})
    assert declared.to_core().shared is Proof.DECLARED
    with pytest.raises(ValidationError):
        DatastoreBody.model_validate({**said, "shared": "proven"})


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\x00", "-a", "a-", "a b", "é", "a\n"])
def test_a_datastore_has_a_name_that_can_stand_in_an_address(name: str) -> None:
    with pytest.raises(ValidationError):
        DatastoreBody.model_validate({"name": name, "cluster": "c1", "kind": "nbd"})


@pytest.mark.parametrize("table", ["cluster", "datastore", "host"])
def test_a_name_that_stands_twice_in_a_file_is_a_mistake(table: str) -> None:
    rows = {
        "cluster": {"name": "x"},
        "datastore": {"name": "x", "cluster": "c", "kind": "nbd", "address": "192.0.2.1"},
        "host": {"name": "x", "cluster": "c", "address": "192.0.2.1"},
    }
    body = EnrolmentBody.model_validate({table: [rows[table], rows[table]]})
    with pytest.raises(Invalid) as caught:
        body.to_core()
    assert caught.value.code == "name.repeated"
    assert f"two {table}s named 'x'" in caught.value.message


def test_rules_weights_and_defaults_of_a_cluster_come_back_as_they_were_enrolled() -> None:
    told = {
        "name": "c1",
        "reserve": "n+1",
        "severity": {"host.clock": "blocker"},
        "rule": [
            {"name": "apart", "kind": "anti_affinity", "vms": ["db1", "db2"], "hard": False},
            {"name": "licence", "kind": "host_affinity", "vms": ["erp"], "hosts": ["h1", "h2"]},
        ],
    }
    one = ClusterBody.model_validate(told)
    core = one.to_core()
    apart, licence = core.rules
    assert (apart.vms, apart.is_hard, licence.hosts) == (("db1", "db2"), False, ("h1", "h2"))
    assert core.policy.reserve == "n+1"
    assert core.policy.severity == (("host.clock", "blocker"),)
    assert ClusterBody.model_validate(cluster_body(core)) == one


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"severity": {"host.grumpy": "info"}}, "severity.code"),
        ({"severity": {"vm.two_copies": "info"}}, "severity.fixed"),
        ({"rule": [{"name": "r", "kind": "host_affinity", "vms": ["a"]}]}, "rule.hosts"),
        (
            {"rule": [{"name": "r", "kind": "affinity", "vms": ["a"], "hosts": ["h1"]}]},
            "rule.hosts",
        ),
        ({"rule": [{"name": "r", "kind": "affinity", "vms": ["a"]}] * 2}, "name.repeated"),
        ({"vm_defaults": {"dance": "yes"}}, "policy.unknown"),
    ],
)
def test_a_cluster_whose_policy_makes_no_sense_is_refused(told: dict[str, Any], code: str) -> None:
    with pytest.raises(Invalid) as refusal:
        ClusterBody.model_validate({"name": "c1", **told}).to_core()
    assert refusal.value.code == code
    assert refusal.value.remedy
