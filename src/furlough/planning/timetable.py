"""The timetable of a packing: the moves it chose, put in time.

Packing knows where everybody ends up, scheduling what can be in flight at once; here the one is
told to the other: room at the start, links, who must never meet, where a VM may be parked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from furlough.core.affinity import RuleKind
from furlough.core.policy import Limits, Order
from furlough.planning.board import FREE, Board
from furlough.planning.link_model import Job
from furlough.planning.packing import Packing
from furlough.planning.scheduling import NO_LIMITS, Schedule, Sites, Terms, schedule


def timetable(
    packing: Packing,
    *,
    limits: Limits = NO_LIMITS,
    order: Order = Order.SCHEDULE,
    stream_mib_s: float = math.inf,
) -> Schedule:
    """The schedule of a packing's moves. `stream_mib_s`: what one migration can move."""
    board = packing.board
    jobs = [job_of(board, vm, source, target) for vm, source, target in packing.moves]
    apart = apart_on(board)

    def may_park(vm: int, host: int) -> bool:
        return bool(packing.is_target[host]) and int(board.row(vm)[host]) == FREE

    terms = Terms(
        limits=limits,
        order=order,
        stream_mib_s=stream_mib_s,
        apart=apart,
        seats=seats_of(board, apart),
        may_park=may_park,
    )
    return schedule(jobs, sites_of(board), terms)


def job_of(board: Board, vm: int, source: int, target: int) -> Job:
    """A move as the schedule wants it."""
    vms = board.vms
    return Job(
        vm=vm,
        source=source,
        target=target,
        memory_mib=int(vms.memory_mib[vm]),
        vcpus=int(vms.vcpus[vm]),
        sends_mib=float(vms.sends_mib[vm]),
        dirty_mib_s=float(vms.dirty_mib_s[vm]),
        working_set_mib=float(vms.working_set_mib[vm]),
        priority=int(vms.priority[vm]),
    )


def apart_on(board: Board) -> list[tuple[int, ...]]:
    """The VMs of each group that must never meet."""
    return [
        group.members
        for group in board.groups
        if group.is_hard and group.kind is RuleKind.ANTI_AFFINITY
    ]


def seats_of(board: Board, apart: Iterable[Sequence[int]]) -> Mapping[int, int]:
    """Where those of these groups are now."""
    return {vm: int(board.vms.hosts[vm]) for members in apart for vm in members}


def sites_of(board: Board) -> Sites:
    """What the hosts have left before anything moves."""
    hosts, vms = board.hosts, board.vms
    count = len(hosts.names)
    taken_mib = np.bincount(vms.hosts, weights=vms.memory_mib * vms.is_on, minlength=count)
    taken_vcpus = np.bincount(vms.hosts, weights=vms.vcpus * vms.is_on, minlength=count)
    free_mib = hosts.memory_mib - hosts.held_memory_mib - taken_mib.astype(np.int64)
    free_vcpus = hosts.vcpus - hosts.held_vcpus - taken_vcpus.astype(np.int64)
    return Sites(
        room_memory_mib=free_mib.tolist(),
        room_vcpus=free_vcpus.tolist(),
        link_mib_s=hosts.link_mib_s.tolist(),
        clusters=hosts.clusters.tolist(),
    )
