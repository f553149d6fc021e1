"""What is true of every store after every transaction, as far as its port shows it.

S4   a VM or a host has one owner
S8   the stored operation is the fold of its journal
L6   an operation that is over holds nothing
S11  what is seen on a host and what is held there fits, where its limit is given
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from furlough.core.admission import OWNS_HOSTS, Standing
from furlough.core.capacity import Reservation
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.journal import fold
from furlough.core.operation import Operation
from furlough.ports import Store


async def check(store: Store) -> None:
    """Raises `AssertionError` where S4, S8 or L6 does not hold."""
    operations = await store.operations(limit=1000)
    standings = await store.standings()
    _check_owners(operations, standings)
    _check_nothing_left(operations, standings, await store.reservations())
    for operation in operations:
        assert fold(await store.journal(operation.id)) == operation, f"S8: {operation.id}"


def _check_owners(operations: Sequence[Operation], standings: Mapping[HostName, Standing]) -> None:
    vms: dict[VmId, OperationId] = {}
    hosts: dict[HostName, OperationId] = {}
    for operation in operations:
        if operation.is_final:
            continue
        for entry in operation.roster:
            assert entry.vm not in vms, f"S4: {entry.vm}: {vms[entry.vm]} and {operation.id}"
            vms[entry.vm] = operation.id
        for host in operation.hosts if operation.kind in OWNS_HOSTS else ():
            assert host not in hosts, f"S4: {host}: {hosts[host]} and {operation.id}"
            hosts[host] = operation.id
    owned = {name: one.operation for name, one in standings.items() if one.operation}
    assert owned == hosts, "S4 or L6: owners of hosts"


def _check_nothing_left(
    operations: Sequence[Operation],
    standings: Mapping[HostName, Standing],
    reservations: Sequence[Reservation],
) -> None:
    over = {operation.id for operation in operations if operation.is_final}
    assert not [one for one in reservations if one.operation in over], "L6: reservations"
    assert not [one for one in standings.values() if one.operation in over], "L6: hosts"
    assert not [one.id for one in operations if one.is_final and one.owner], "L6: leases"


def check_room(
    limits_mib: Mapping[HostName, int],
    seen: Mapping[HostName, Mapping[VmId, int]],
    reservations: Sequence[Reservation],
) -> None:
    """Raises `AssertionError` where S11 does not hold: a VM that is seen on a host counts there
    once, whatever is held for it."""
    for host, limit_mib in limits_mib.items():
        taken = {one.vm: one.load.memory_mib for one in reservations if one.host == host}
        taken.update(seen.get(host, {}))
        assert sum(taken.values()) <= limit_mib, f"S11: {host} holds {taken} of {limit_mib} MiB"
