"""What the operator has told us about clusters, hosts and datastores: how to reach them, what
they may carry. Facts come from the hosts; this is only where to ask and what was declared.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from furlough.core.encryption import MigrationTls
from furlough.core.ids import ClusterName, HostName
from furlough.core.inventory import Cluster, Datastore, Proof
from furlough.errors import Invalid, NotFound

_DNS_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
# An IPv6 address stands in brackets where a port follows.
_WITH_PORT = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,5})")
_BMC_PORT = 443
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]{0,30}/[a-z0-9][a-z0-9-]{0,30}")


class Transport(StrEnum):
    """How the hypervisor's daemon on a host is reached."""

    SSH = "ssh"
    TLS = "tls"
    TCP = "tcp"
    LOCAL = "local"


class Program(StrEnum):
    """How furlough-host on a host is reached: by ssh, in a lab host's namespaces, directly on
    this machine, or not at all."""

    NONE = "none"
    SSH = "ssh"
    NAMESPACE = "namespace"
    LOCAL = "local"


class DatastoreKind(StrEnum):
    """What a datastore is: a directory that hosts mount, or a server of network disks."""

    DIRECTORY = "directory"
    NBD = "nbd"
    RBD = "rbd"
    ISCSI = "iscsi"


@dataclass(frozen=True, kw_only=True)
class EnrolledDatastore:
    """A datastore: `path` for a directory, `address` for a server. `shared` and `locked` may be
    declared by the operator, with a reason; a proof replaces a declaration. `proven_on`: the
    hosts among which it holds."""

    name: str
    cluster: ClusterName
    kind: DatastoreKind
    path: str = ""
    address: str = ""
    shared: Proof = Proof.UNKNOWN
    locked: Proof = Proof.UNKNOWN
    reason: str = ""
    proven_on: tuple[HostName, ...] = ()

    def holds(self, *, path: str = "", protocol: str = "", address: str = "") -> bool:
        """Whether a disk's source lies in this datastore."""
        if self.kind is DatastoreKind.DIRECTORY:
            return posixpath.normpath(path).startswith(posixpath.normpath(self.path) + "/")
        return protocol == self.kind.value and address == self.address


@dataclass(frozen=True, kw_only=True)
class EnrolledHost:
    """A host: where it answers, where migrations go, what it may use.

    `namespace` is LAB/HOST, for a host of the lab. `uuid` is filled in at the first contact, and
    a host that answers with another one later is not this host. `bmc`: the address of its
    management controller, with a port behind a colon if it is not 443. `has_other_way_in`: there is
    a way to the machine besides the network and a BMC, as the operator says (a console, hands).
    `migration_tls`: whether migrations are encrypted, None as its cluster has it; `tls_name`: the
    name in its certificate for migrations, empty where that is its own (see `certified_name`).
    """

    name: HostName
    cluster: ClusterName
    address: str
    transport: Transport = Transport.SSH
    user: str = "root"
    migration_address: str = ""
    link_mbit_s: int = 1000
    reserved_memory_mib: int = 512
    datastores: tuple[str, ...] = ()
    program: Program = Program.NONE
    namespace: str = ""
    uuid: str = ""
    bmc: str = ""
    has_other_way_in: bool = False
    migration_tls: MigrationTls | None = None
    tls_name: str = ""


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """Everything enrolled."""

    clusters: Sequence[Cluster] = ()
    datastores: Sequence[EnrolledDatastore] = ()
    hosts: Sequence[EnrolledHost] = ()

    def host(self, name: HostName) -> EnrolledHost:
        """The host of this name; `NotFound` where there is none."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise NotFound(
            "host.unknown", f"There is no host {name!r}.", remedy="See: furlough host list."
        )

    def cluster(self, name: ClusterName) -> Cluster:
        """The cluster of this name; `NotFound` where there is none."""
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        raise NotFound(
            "cluster.unknown",
            f"There is no cluster {name!r}.",
            remedy="See: furlough cluster list.",
        )

    def datastores_of(self, cluster: ClusterName) -> list[EnrolledDatastore]:
        """The datastores of a cluster."""
        return [one for one in self.datastores if one.cluster == cluster]


def users_of(datastore: EnrolledDatastore, hosts: Iterable[EnrolledHost]) -> list[HostName]:
    """The hosts that list a datastore."""
    return [host.name for host in hosts if datastore.name in host.datastores]


def facts_of(datastore: EnrolledDatastore, hosts: Iterable[EnrolledHost]) -> Datastore:
    """What planning needs to know of a datastore. A proof holds only if every host that lists it
    took part: one that came later may see something else."""
    holds = set(users_of(datastore, hosts)) <= set(datastore.proven_on)
    return Datastore(
        name=datastore.name,
        path=datastore.path,
        shared=_standing(datastore.shared, holds=holds),
        locked=_standing(datastore.locked, holds=holds),
    )


def _standing(proof: Proof, *, holds: bool) -> Proof:
    return Proof.UNKNOWN if proof is Proof.PROVEN and not holds else proof


def check_address(text: str, *, what: str) -> str:
    """An IP address or a DNS name, and nothing that could be an option, a path or a URI."""
    # Behind a % anything may stand as the zone of an IPv6 address.
    if "%" not in text:
        with suppress(ValueError):
            return str(ipaddress.ip_address(text))
    if len(text) <= 253 and all(_DNS_LABEL.fullmatch(label) for label in text.split(".")):
        return text
    raise Invalid(
        "address.malformed",
        f"{text!r} is no address for {what}.",
        remedy="Give an IP address or a DNS name, without scheme, port or path.",
    )


def bmc_of(host: EnrolledHost) -> tuple[str, int]:
    """Address and port of a host's management controller; `Invalid` where it is not one."""
    found = _WITH_PORT.fullmatch(host.bmc)
    address, port = (found[1] or found[2], int(found[3])) if found else (host.bmc, _BMC_PORT)
    if not 0 < port < 1 << 16:
        raise Invalid(
            "host.bmc",
            f"Host {host.name}: {port} is no port of a management controller.",
            remedy="Give an address, or ADDRESS:PORT with a port from 1 to 65535.",
        )
    return check_address(address, what=f"the management controller of host {host.name}"), port


def certified_name(host: EnrolledHost) -> str:
    """The name that a host's certificate for migrations has to bear: as enrolled, else the DNS name
    to which migrations go, else, where that is an IP address, the host's own name."""
    if host.tls_name:
        return host.tls_name
    address = host.migration_address or host.address
    return host.name if _is_ip(address) else address


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def check_host(host: EnrolledHost) -> EnrolledHost:
    """The same host if it can be used as enrolled; else `Invalid`, naming the field."""
    check_address(host.address, what=f"host {host.name}")
    if host.migration_address:
        check_address(host.migration_address, what=f"migrations to host {host.name}")
    if host.tls_name:
        check_address(host.tls_name, what=f"the certificate of host {host.name}")
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", host.user):
        raise Invalid(
            "host.user",
            f"{host.user!r} is no user name for host {host.name}.",
            remedy="Give a Unix user name: small letters, digits, _ and -.",
        )
    if host.bmc:
        bmc_of(host)
    if host.program is Program.NAMESPACE and not _NAMESPACE.fullmatch(host.namespace):
        raise Invalid(
            "host.namespace",
            f"Host {host.name}: namespace {host.namespace!r} is not LAB/HOST.",
            remedy="It is written by `furlough lab up`.",
        )
    return host


def check_datastore(datastore: EnrolledDatastore) -> EnrolledDatastore:
    """The same datastore if it can be used as enrolled; else `Invalid`, naming the field."""
    where = f"datastore {datastore.name}"
    if datastore.kind is DatastoreKind.DIRECTORY:
        parts = datastore.path.split("/")
        is_root = not any(part not in ("", ".") for part in parts)
        if not datastore.path.startswith("/") or ".." in parts or is_root:
            raise Invalid(
                "datastore.path",
                f"{where}: path {datastore.path!r} is no absolute directory below /.",
                remedy="Give the directory that all its hosts mount, without `..`.",
            )
    else:
        check_address(datastore.address, what=where)
    declared = Proof.DECLARED in (datastore.shared, datastore.locked)
    if declared and not datastore.reason:
        raise Invalid(
            "datastore.reason",
            f"{where} is declared shared or locked without a reason.",
            remedy="Say in `reason` how you know.",
        )
    return datastore
