"""What is true of every store after every transaction, as far as its port shows it.

S4   a VM or a host has one owner
S8   the stored operation is the fold of its journal
L6   an operation that is over holds nothing
S11  what is seen on a host and what is held there fits into it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from furlough.core.admission import OWNS_HOSTS, Standing
from furlough.core.capacity import Reservation
from furlough.core.enrolment import EnrolledDatastore, EnrolledHost
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Cluster
from furlough.core.journal import Entry, fold
from furlough.core.operation import Operation
from furlough.planning.record import Away
from furlough.ports import Store

_ALL = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Everything:
    """All that a store shows. Equal means that nothing has changed."""

    clusters: Sequence[Cluster]
    datastores: Sequence[EnrolledDatastore]
    hosts: Sequence[EnrolledHost]
    standings: Mapping[HostName, Standing]
    reservations: Sequence[Reservation]
    away: Sequence[Away]
    operations: Sequence[Operation]
    entries: Sequence[Entry]


NOTHING_YET = Everything(
    clusters=[],
    datastores=[],
    hosts=[],
    standings={},
    reservations=[],
    away=[],
    operations=[],
    entries=[],
)


async def everything(store: Store) -> Everything:
    """What the store shows now, in an order of its own where it promises none."""
    enrolment = await store.enrolment()
    return Everything(
        clusters=list(enrolment.clusters),
        datastores=list(enrolment.datastores),
        hosts=list(enrolment.hosts),
        standings=await store.standings(),
        reservations=sorted(await store.reservations(), key=lambda one: (one.vm, one.operation)),
        away=sorted(await store.away(), key=lambda one: one.vm),
        operations=await store.operations(limit=_ALL),
        entries=await store.entries(0, _ALL),
    )


def check(seen: Everything) -> None:
    """Raises `AssertionError` where S4, S8 or L6 does not hold."""
    _check_owners(seen)
    _check_nothing_left(seen)
    journals: dict[OperationId, list[Entry]] = {}
    for entry in seen.entries:
        journals.setdefault(entry.operation, []).append(entry)
    assert list(journals) == [one.id for one in reversed(seen.operations)], "S8: operations"
    for operation in seen.operations:
        journal = journals[operation.id]
        assert fold(journal) == operation, f"S8: {operation.id}"
        assert [entry.number for entry in journal] == list(range(1, operation.events + 1))


def _check_owners(seen: Everything) -> None:
    vms: dict[VmId, OperationId] = {}
    hosts: dict[HostName, OperationId] = {}
    for operation in seen.operations:
        if operation.is_final:
            continue
        for entry in operation.roster:
            assert entry.vm not in vms, f"S4: {entry.vm}: {vms[entry.vm]} and {operation.id}"
            vms[entry.vm] = operation.id
        for host in operation.hosts if operation.kind in OWNS_HOSTS else ():
            assert host not in hosts, f"S4: {host}: {hosts[host]} and {operation.id}"
            hosts[host] = operation.id
    owned = {name: one.operation for name, one in seen.standings.items() if one.operation}
    assert owned == hosts, "S4 or L6: owners of hosts"


def _check_nothing_left(seen: Everything) -> None:
    over = {operation.id for operation in seen.operations if operation.is_final}
    assert not [one for one in seen.reservations if one.operation in over], "L6: reservations"
    assert not [one for one in seen.standings.values() if one.operation in over], "L6: hosts"
    assert not [one.id for one in seen.operations if one.is_final and one.owner], "L6: owners"


def check_room(
    limits_mib: Mapping[HostName, int],
    reservations: Sequence[Reservation],
    active: Mapping[HostName, Mapping[VmId, int]] | None = None,
) -> None:
    """Raises `AssertionError` where S11 does not hold: a VM that is active on a host counts there
    once, whatever is held for it."""
    for host, limit_mib in limits_mib.items():
        taken = {one.vm: one.load.memory_mib for one in reservations if one.host == host}
        taken.update((active or {}).get(host, {}))
        assert sum(taken.values()) <= limit_mib, f"S11: {host} holds {taken} of {limit_mib} MiB"
