"""What tests of planning in columns are made of: inventory files of a few hosts and VMs.

A host is written as a name with its memory in GiB, a VM as a name with its host and memory in GiB;
a test says only what is special about its story.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from furlough.planning import inventory_file
from furlough.planning.board import Board, board_of_file
from furlough.planning.items import items_of
from furlough.planning.packing import Packing
from furlough.planning.seating import Seating

GIB = 1024
Row = dict[str, Any]


def host(name: str, gib: int = 64, **more: object) -> Row:
    """A host that may give all of its memory to VMs."""
    return {
        "name": name,
        "uuid": "",
        "cluster": "c1",
        "cpus": 64,
        "memory_mib": gib * GIB,
        "cpu_models": ["EPYC"],
        "networks": ["lan"],
        "datastores": ["san"],
        **more,
    }


def vm(name: str, on: str, gib: int = 8, **more: object) -> Row:
    """A running VM that any ordinary host can take."""
    number = int.from_bytes(name.encode(), "big") % 10**12
    return {
        "uuid": f"00000000-0000-4000-8000-{number:012d}",
        "name": name,
        "host": on,
        "vcpus": 1,
        "memory_mib": gib * GIB,
        "cpu_model": "EPYC",
        "networks": ["lan"],
        "disks": [{"datastore": "san", "size_mib": 100}],
        **more,
    }


def a_board(hosts: Sequence[Row], vms: Sequence[Row], **cluster: object) -> Board:
    """The board of these, in one cluster without ceiling and reserve."""
    clusters = [{"name": "c1", "memory_ceiling": 1.0, "vcpu_overcommit": 4.0, **cluster}]
    named = {"c1", *(str(one["cluster"]) for one in hosts)}
    clusters += [{**clusters[0], "name": name} for name in sorted(named - {"c1"})]
    document = {
        "format": 1,
        "taken_at": "2026-11-22T10:00:00Z",
        "clusters": clusters,
        "hosts": list(hosts),
        "vms": list(vms),
    }
    return board_of_file(inventory_file.parse(document))


def a_seating(board: Board, *leaving: str) -> Seating:
    """The seating of a board before anybody of the hosts that leave is placed."""
    places = board.places(leaving)
    items = items_of(board)
    is_target = board.hosts.is_open.copy()
    is_target[list(places)] = False
    waiting = [item for item, home in enumerate(items.homes.tolist()) if home in places]
    return Seating(items, waiting, is_target)


def at(board: Board, name: str) -> int:
    """The number of a VM."""
    return list(board.vms.names).index(name)


def where(packing: Packing) -> dict[str, str]:
    """Where each VM that has to leave, or makes room, goes, by names."""
    board = packing.board
    return {board.vms.names[vm]: board.hosts.names[target] for vm, _, target in packing.moves}


def names(board: Board, vms: Sequence[int]) -> set[str]:
    """The names of these VMs."""
    return {board.vms.names[one] for one in vms}
