"""Clusters, datastores and hosts: created, changed, removed."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from furlough.core.enrolment import EnrolledDatastore, EnrolledHost, Enrolment
from furlough.core.ids import ClusterName, HostName
from furlough.core.states import HostMode
from furlough.errors import Conflict, NotFound, Stale
from furlough.store import codec, learning, reading
from furlough.store.tables import away, cluster, datastore, host


def put(connection: Connection, additions: Enrolment) -> None:
    """Add these, or change those of the same name; in one transaction, so all or none."""
    for one in additions.clusters:
        _put(connection, cluster, one.name, {"body": codec.CLUSTER.text(one)}, {})
    for two in additions.datastores:
        _put_datastore(connection, two)
    for three in additions.hosts:
        _put_host(connection, three)


def check_unchanged(connection: Connection, wanted: Enrolment, based_on: Enrolment) -> None:
    """`Stale` where one of the hosts and clusters that are to be changed is no longer what the
    change was made from: two editors, or two fields changed at once."""
    now = reading.read_enrolment(connection)
    for new, old, known in (
        (wanted.clusters, based_on.clusters, now.clusters),
        (wanted.hosts, based_on.hosts, now.hosts),
    ):
        names = {one.name for one in new}
        if [one for one in old if one.name in names] != [one for one in known if one.name in names]:
            raise Stale(
                "etag.mismatch",
                "It has been changed since it was read.",
                remedy="Read it again, and decide again.",
            )


def _put_datastore(connection: Connection, one: EnrolledDatastore) -> None:
    enrolment = reading.read_enrolment(connection)
    enrolment.cluster(one.cluster)
    known = next((two for two in enrolment.datastores if two.name == one.name), None)
    if known is not None and known.cluster != one.cluster:
        _check_unused(enrolment, one.name)
    proven = known is not None and known.proven_on and not one.proven_on
    if known is not None and proven and _place_of(known) == _place_of(one):
        # Enrolled again: what was proven of it stays proven.
        one = replace(one, shared=known.shared, locked=known.locked, proven_on=known.proven_on)
    body = {"cluster": one.cluster, "body": codec.DATASTORE.text(one)}
    _put(connection, datastore, one.name, body, {})


def _place_of(one: EnrolledDatastore) -> tuple[object, ...]:
    return one.kind, one.path, one.address


def _put_host(connection: Connection, one: EnrolledHost) -> None:
    """A host may not change its cluster while it has work there, and may list only datastores of
    its cluster."""
    enrolment = reading.read_enrolment(connection)
    enrolment.cluster(one.cluster)
    unknown = set(one.datastores) - {two.name for two in enrolment.datastores_of(one.cluster)}
    if unknown:
        raise NotFound(
            "datastore.unknown",
            f"Host {one.name} lists unknown datastore(s): {', '.join(sorted(unknown))}.",
            remedy=f"Enrol them in cluster {one.cluster} first.",
        )
    known = next((two for two in enrolment.hosts if two.name == one.name), None)
    if known is not None and known.cluster != one.cluster:
        check_idle(connection, one.name)
    if known is not None and known.address == one.address and not one.uuid:
        one = replace(one, uuid=known.uuid)  # Enrolled again: it keeps the identity we have seen.
    body = {"cluster": one.cluster, "body": codec.HOST.text(one)}
    _put(connection, host, one.name, body, {"mode": HostMode.AVAILABLE.value})


def remove_cluster(connection: Connection, name: ClusterName) -> None:
    """Remove an empty cluster."""
    for table, what in ((host, "hosts"), (datastore, "datastores")):
        left = connection.scalar(
            select(func.count()).select_from(table).where(table.c.cluster == name)
        )
        if left:
            raise Conflict(
                "cluster.not_empty",
                f"Cluster {name} still has {left} {what}.",
                remedy="Remove or move them first.",
            )
    _remove(connection, cluster, name)


def remove_datastore(connection: Connection, name: str) -> None:
    """Remove a datastore that no host lists."""
    _check_unused(reading.read_enrolment(connection), name)
    _remove(connection, datastore, name)


def _check_unused(enrolment: Enrolment, name: str) -> None:
    users = [one.name for one in enrolment.hosts if name in one.datastores]
    if users:
        raise Conflict(
            "datastore.in_use",
            f"Datastore {name} is listed by {', '.join(users)}.",
            remedy="Take it from those hosts first: furlough host set.",
        )


def remove_host(connection: Connection, name: HostName) -> None:
    """Remove a host without work: no operation, no maintenance, no VM that calls it home."""
    check_idle(connection, name)
    learning.forget(connection, name)
    _remove(connection, host, name)


def check_idle(connection: Connection, name: HostName) -> None:
    """`Conflict` where something of ours still concerns this host."""
    standing = reading.read_standings(connection).get(name)
    if standing is None:
        raise NotFound(
            "host.unknown", f"There is no host {name!r}.", remedy="See: furlough host list."
        )
    if standing.operation is not None:
        raise Conflict(
            "host.busy",
            f"Host {name} belongs to operation {standing.operation}, which is not over.",
            remedy=f"Wait for it or cancel it: furlough operation cancel {standing.operation}.",
            operation=standing.operation,
        )
    busy_with = reading.work_of(connection, name)
    if busy_with is not None:
        raise Conflict(
            "host.busy",
            f"Host {name} takes part in operation {busy_with}, which is not over.",
            remedy=f"Wait for it or cancel it: furlough operation cancel {busy_with}.",
            operation=busy_with,
        )
    if standing.mode is not HostMode.AVAILABLE:
        raise Conflict(
            "host.mode",
            f"Host {name} is {standing.mode.value}.",
            remedy="Exit maintenance or uncordon it first.",
        )
    waiting = connection.scalar(select(func.count()).select_from(away).where(away.c.home == name))
    if waiting:
        raise Conflict(
            "host.is_home",
            f"{waiting} VM(s) that were evacuated call {name} their home.",
            remedy="Bring them home, or close the record with an exit that restores none.",
        )


def _put(
    connection: Connection,
    table: Table,
    name: str,
    values: dict[str, str],
    defaults: dict[str, str],
) -> None:
    changed = connection.execute(update(table).where(table.c.name == name).values(values))
    if changed.rowcount == 0:
        last = connection.scalar(select(func.max(table.c.position))) or 0
        connection.execute(
            insert(table).values({**values, **defaults, "name": name, "position": last + 1})
        )


def _remove(connection: Connection, table: Table, name: str) -> None:
    if connection.execute(delete(table).where(table.c.name == name)).rowcount == 0:
        raise NotFound(
            f"{table.name}.unknown",
            f"There is no {table.name} {name!r}.",
            remedy="See: furlough cluster show CLUSTER."
            if table is datastore
            else f"See: furlough {table.name} list.",
        )
