"""Clusters, datastores and hosts as one enrols them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field

from furlough.core.affinity import Rule, RuleKind
from furlough.core.encryption import MigrationTls
from furlough.core.enrolment import (
    DatastoreKind,
    EnrolledDatastore,
    EnrolledHost,
    Enrolment,
    Program,
    Transport,
)
from furlough.core.ids import parse_cluster_name, parse_host_name
from furlough.core.inventory import Cluster, Proof
from furlough.core.policy import (
    Automation,
    ClusterPolicy,
    EnterDefaults,
    Limits,
    OnFailure,
    Order,
    Reserve,
    Scope,
    StorageMode,
)
from furlough.core.vm_policy import words_of
from furlough.errors import Invalid
from furlough.prechecks.weighing import check_weight
from furlough.wire.shapes import (
    AddressableName,
    Body,
    Name,
    PathText,
    PolicyValue,
    Text,
    TimeoutS,
    View,
    policy_word,
)


class LimitsBody(Body):
    """Live migrations in flight at once."""

    per_source: int = Field(default=2, ge=1, le=64)
    per_target: int = Field(default=2, ge=1, le=64)
    per_cluster: int = Field(default=8, ge=1, le=1000)


class MaintenanceBody(Body):
    """What holds in a cluster for options of entering that a request leaves open. null: what the
    daemon's settings say."""

    timeout_s: TimeoutS | None = None
    scope: Scope | None = None
    automation: Automation | None = None
    on_failure: OnFailure | None = None
    storage: StorageMode | None = None
    order: Order | None = None


class RuleBody(Body):
    """A rule about VMs of a cluster, by their names or UUIDs. `hosts`: those that they may use,
    with host affinity only. One that is not hard is held where that costs nothing else."""

    name: Name
    kind: RuleKind
    vms: list[Name] = Field(min_length=1, max_length=10_000)
    hosts: list[Name] = Field(default_factory=list, max_length=10_000)
    hard: bool = True

    def to_core(self) -> Rule:
        if (self.kind is RuleKind.HOST_AFFINITY) is not bool(self.hosts):
            raise Invalid(
                "rule.hosts",
                f"Rule {self.name!r} of kind {self.kind.value} names "
                f"{'hosts' if self.hosts else 'no hosts'}.",
                remedy="A rule of kind host_affinity names hosts, and no other does.",
            )
        return Rule(
            name=self.name,
            kind=self.kind,
            vms=tuple(self.vms),
            hosts=tuple(parse_host_name(host) for host in self.hosts),
            is_hard=self.hard,
        )


class ClusterBody(Body):
    """A cluster, as one enrols it. `overflow_clusters`: whose hosts may take VMs of this one that
    find no place in it, the first one first; `severity`: what findings weigh here, by their codes;
    `vm_defaults`: policies of the VMs that do not say otherwise."""

    name: Name
    memory_ceiling: float = Field(default=0.9, gt=0, le=1)
    vcpu_overcommit: float = Field(default=4.0, gt=0, le=100)
    max_hosts_away: int = Field(default=1, ge=1, le=10000)
    trusts_own_proofs: bool = False
    reserve: Reserve = Reserve.NONE
    migration_tls: MigrationTls = MigrationTls.WHEN_POSSIBLE
    overflow_clusters: list[Name] = Field(default_factory=list, max_length=100)
    limits: LimitsBody = Field(default_factory=LimitsBody)
    maintenance: MaintenanceBody = Field(default_factory=MaintenanceBody)
    severity: dict[str, str] = Field(default_factory=dict, max_length=1000)
    vm_defaults: dict[str, PolicyValue] = Field(default_factory=dict, max_length=100)
    rule: list[RuleBody] = Field(default_factory=list, max_length=10_000)

    def to_core(self) -> Cluster:
        _check_named_once("rule", [one.name for one in self.rule])
        for code, severity in self.severity.items():
            check_weight(code, severity)
        apart = {"name", "limits", "maintenance", "severity", "vm_defaults", "rule"}
        rest = self.model_dump(exclude={*apart, "overflow_clusters"})
        policy = ClusterPolicy(
            **rest,
            overflow_clusters=tuple(
                dict.fromkeys(parse_cluster_name(name) for name in self.overflow_clusters)
            ),
            limits=Limits(**self.limits.model_dump()),
            maintenance=EnterDefaults(**self.maintenance.model_dump()),
            severity=tuple(sorted(self.severity.items())),
        )
        return Cluster(
            name=parse_cluster_name(self.name),
            policy=policy,
            vm_defaults=words_of(
                {name: policy_word(one) for name, one in self.vm_defaults.items()}
            ),
            rules=tuple(one.to_core() for one in self.rule),
        )


class DatastoreBody(Body):
    """A datastore, as one enrols it."""

    name: AddressableName
    cluster: Name
    kind: DatastoreKind
    path: PathText = ""
    address: str = Field(default="", max_length=253)
    shared: Literal["unknown", "declared"] = "unknown"
    locked: Literal["unknown", "declared"] = "unknown"
    reason: Text = ""

    def to_core(self) -> EnrolledDatastore:
        rest = self.model_dump(exclude={"cluster", "shared", "locked"})
        return EnrolledDatastore(
            **rest,
            cluster=parse_cluster_name(self.cluster),
            shared=Proof(self.shared),
            locked=Proof(self.locked),
        )


class DatastoreView(View):
    """A datastore as it is: a proof replaces a declaration."""

    name: str
    cluster: str
    kind: DatastoreKind
    path: str
    address: str
    shared: Proof
    locked: Proof
    reason: str
    proven_on: list[str]


class HostBody(Body):
    """A host, as one enrols it."""

    name: Name
    cluster: Name
    address: str = Field(min_length=1, max_length=253)
    transport: Transport = Transport.SSH
    user: str = Field(default="root", max_length=32)
    migration_address: str = Field(default="", max_length=253)
    link_mbit_s: int = Field(default=1000, ge=1, le=10_000_000)
    reserved_memory_mib: int = Field(default=512, ge=0, le=1 << 30)
    datastores: list[Name] = Field(default_factory=list, max_length=1000)
    program: Program = Program.NONE
    namespace: str = Field(default="", max_length=63)
    bmc: str = Field(default="", max_length=261)
    has_other_way_in: bool = False
    migration_tls: MigrationTls | None = None
    tls_name: str = Field(default="", max_length=253)

    def to_core(self) -> EnrolledHost:
        rest = self.model_dump(exclude={"name", "cluster", "datastores"})
        return EnrolledHost(
            **rest,
            name=parse_host_name(self.name),
            cluster=parse_cluster_name(self.cluster),
            datastores=tuple(self.datastores),
        )


class EnrolmentBody(Body):
    """A set of clusters, datastores and hosts: the tables of `furlough.toml`."""

    cluster: list[ClusterBody] = Field(default_factory=list, max_length=10_000)
    datastore: list[DatastoreBody] = Field(default_factory=list, max_length=10_000)
    host: list[HostBody] = Field(default_factory=list, max_length=100_000)

    def to_core(self) -> Enrolment:
        for table in ("cluster", "datastore", "host"):
            _check_named_once(table, [one.name for one in getattr(self, table)])
        return Enrolment(
            clusters=[one.to_core() for one in self.cluster],
            datastores=[one.to_core() for one in self.datastore],
            hosts=[one.to_core() for one in self.host],
        )


def _check_named_once(table: str, names: list[str]) -> None:
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise Invalid(
            "name.repeated",
            f"There are two {table}s named {twice!r}: which of them is meant?",
            remedy="Name each once.",
        )


def cluster_body(cluster: Cluster) -> dict[str, Any]:
    """A cluster as one would enrol it."""
    policy = cluster.policy
    return {
        "name": cluster.name,
        "memory_ceiling": policy.memory_ceiling,
        "vcpu_overcommit": policy.vcpu_overcommit,
        "max_hosts_away": policy.max_hosts_away,
        "trusts_own_proofs": policy.trusts_own_proofs,
        "reserve": policy.reserve.value,
        "migration_tls": policy.migration_tls.value,
        "overflow_clusters": list(policy.overflow_clusters),
        "limits": {
            "per_source": policy.limits.per_source,
            "per_target": policy.limits.per_target,
            "per_cluster": policy.limits.per_cluster,
        },
        "maintenance": {
            name: word for name, word in asdict(policy.maintenance).items() if word is not None
        },
        "severity": dict(policy.severity),
        "vm_defaults": dict(cluster.vm_defaults),
        "rule": [
            {
                "name": rule.name,
                "kind": rule.kind.value,
                "vms": list(rule.vms),
                "hosts": list(rule.hosts),
                "hard": rule.is_hard,
            }
            for rule in cluster.rules
        ],
    }


def host_body(host: EnrolledHost) -> dict[str, Any]:
    """A host as one would enrol it."""
    return {name: getattr(host, name) for name in HostBody.model_fields} | {
        "datastores": list(host.datastores)
    }
