"""Items: what is placed as one. Usually a VM; VMs that hard affinity keeps together on a host are
one item, which goes to one host or nowhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from furlough.core.affinity import RuleKind
from furlough.planning.board import CODE_OF, FREE, Board, BoolArray, FloatArray, Group, IntArray
from furlough.planning.causes import Cause

_ON_THEIR_WAY = -1


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A rule that an item would like to be held: `mates` are the items it should be with, or
    apart from; `hosts` those it should use, only with host affinity."""

    kind: RuleKind
    mates: IntArray
    hosts: IntArray


@dataclass(frozen=True, kw_only=True)
class Items:
    """Items in columns of equal length; together they are all VMs that are on.

    `members`: the VMs of each; `of_vm`: the item of each VM, -1 for those that are off; `homes`:
    where each is now; `may_move`: each of its members may. `apart`, for the few that have any: the
    items that hard anti-affinity keeps off its host; `torn`: those that cannot be anywhere, since
    hard rules want their members both together and apart; `wishes`: soft rules, and affinity to
    those on other hosts; `pages`: how many huge pages by their size in KiB.
    """

    board: Board
    members: Sequence[tuple[int, ...]]
    of_vm: IntArray
    homes: IntArray
    memory_mib: IntArray
    vcpus: IntArray
    sends_mib: IntArray
    may_move: BoolArray
    apart: Mapping[int, IntArray]
    torn: frozenset[int]
    wishes: Mapping[int, tuple[Wish, ...]]
    pages: Mapping[int, Mapping[int, int]]

    @cached_property
    def demands(self) -> FloatArray:
        """Per item: memory, vCPUs, memory to send, and the squares of the three, as they multiply
        with the slopes of the hosts (see `seating`)."""
        first = np.stack([self.memory_mib, self.vcpus, self.sends_mib], axis=1).astype(np.float64)
        return np.concatenate([first, first * first], axis=1)

    @cached_property
    def demands_by_resource(self) -> FloatArray:
        """The first three of them, one row each."""
        return np.ascontiguousarray(self.demands[:, :3].T)

    @cached_property
    def has_pages(self) -> BoolArray:
        """Which of them need huge pages."""
        found = np.zeros(len(self.members), dtype=np.bool_)
        found[list(self.pages)] = True
        return found

    def may_use(self, item: int) -> BoolArray:
        """The hosts that nothing stands against but room and groups, for all of an item."""
        members = self.members[item]
        allowed: BoolArray = self.board.row(members[0]) == FREE
        for vm in members[1:]:
            allowed &= self.board.row(vm) == FREE
        return allowed

    def may_restart_on(self, item: int) -> BoolArray:
        """The same, if its host were lost."""
        members = self.members[item]
        allowed: BoolArray = self.board.failover_row(members[0]) == FREE
        for vm in members[1:]:
            allowed &= self.board.failover_row(vm) == FREE
        return allowed

    def could_restart_on(self, item: int) -> BoolArray:
        """The same, if every host were open."""
        allowed = np.ones(len(self.board.hosts.names), dtype=np.bool_)
        for vm in self.members[item]:
            row = self.board.failover_row(vm)
            allowed &= (row == FREE) | (row == CODE_OF[Cause.MODE])
        return allowed


def items_of(board: Board, together: Collection[int] = ()) -> Items:
    """All VMs of a board that are on, as items. `together`: VMs that leave their hosts anyway, so
    that hard affinity joins them wherever they are now."""
    vms = board.vms
    on = np.flatnonzero(vms.is_on)
    members = _members(board, on, frozenset(together))
    of_vm = np.full(len(vms.hosts), -1, dtype=np.int64)
    if len(members) == len(on):
        of_vm[on] = np.arange(len(on))
    else:
        for item, mates in enumerate(members):
            of_vm[list(mates)] = item
    stuck = np.bincount(of_vm[on], weights=~vms.may_move[on], minlength=len(members)) > 0
    apart, torn = _apart(board, of_vm)
    return Items(
        board=board,
        members=members,
        of_vm=of_vm,
        homes=vms.hosts[[one[0] for one in members]],
        memory_mib=_sum(of_vm, vms.memory_mib, on, len(members)),
        vcpus=_sum(of_vm, vms.vcpus, on, len(members)),
        sends_mib=_sum(of_vm, vms.sends_mib, on, len(members)),
        may_move=~stuck,
        apart=apart,
        torn=torn,
        wishes=_wishes(board, of_vm),
        pages=_pages(board, of_vm),
    )


def _sum(of_vm: IntArray, column: IntArray, on: IntArray, count: int) -> IntArray:
    """A column of VMs, added up by item. Whole numbers below 2^53 pass a float unharmed."""
    return np.bincount(of_vm[on], weights=column[on], minlength=count).astype(np.int64)


def _members(board: Board, on: IntArray, together: frozenset[int]) -> list[tuple[int, ...]]:
    """VMs on one host, or together on their way, that hard affinity joins, however many groups are
    between, in one tuple. Those that may not move are nobody's mates: they stay."""
    leader: dict[int, int] = {}

    def lead(vm: int) -> int:
        while leader.get(vm, vm) != vm:
            vm = leader[vm]
        return vm

    for group in board.groups:
        if group.kind is RuleKind.AFFINITY and group.is_hard:
            firsts: dict[int, int] = {}
            for vm in (one for one in group.members if board.vms.may_move[one]):
                here = _ON_THEIR_WAY if vm in together else int(board.vms.hosts[vm])
                first = firsts.setdefault(here, vm)
                leader[lead(vm)] = lead(first)
    if not leader:
        return [(vm,) for vm in on.tolist()]
    found: dict[int, list[int]] = {}
    for vm in on.tolist():
        found.setdefault(lead(vm) if vm in leader else vm, []).append(vm)
    return [tuple(one) for one in found.values()]


def _apart(board: Board, of_vm: IntArray) -> tuple[Mapping[int, IntArray], frozenset[int]]:
    found: dict[int, list[int]] = {}
    torn: set[int] = set()
    for group in board.groups:
        if group.kind is not RuleKind.ANTI_AFFINITY or not group.is_hard:
            continue
        items = of_vm[list(group.members)].tolist()
        if len(set(items)) < len(items):
            torn.update(one for one in items if items.count(one) > 1)
        for item in items:
            found.setdefault(item, []).extend(one for one in items if one != item)
    return {item: _column(mates) for item, mates in found.items()}, frozenset(torn)


def _wishes(board: Board, of_vm: IntArray) -> Mapping[int, tuple[Wish, ...]]:
    found: dict[int, list[Wish]] = {}
    for group in board.groups:
        for item, wish in _wishes_of(group, of_vm):
            found.setdefault(item, []).append(wish)
    return {item: tuple(wishes) for item, wishes in found.items()}


def _wishes_of(group: Group, of_vm: IntArray) -> Iterator[tuple[int, Wish]]:
    """One wish for each item of a group that its hard rules do not settle already."""
    if group.kind is RuleKind.ANTI_AFFINITY and group.is_hard:
        return
    items = set(of_vm[list(group.members)].tolist())
    if group.kind is not RuleKind.HOST_AFFINITY and len(items) == 1:
        return
    hosts = _column(group.hosts)
    for item in sorted(items):
        yield item, Wish(kind=group.kind, mates=_column(items - {item}), hosts=hosts)


def _pages(board: Board, of_vm: IntArray) -> Mapping[int, Mapping[int, int]]:
    found: dict[int, dict[int, int]] = {}
    for vm, (size_kib, count) in board.vms.pages.items():
        item = int(of_vm[vm])
        if item >= 0:
            own = found.setdefault(item, {})
            own[size_kib] = own.get(size_kib, 0) + count
    return found


def _column(numbers: Sequence[int] | set[int] | frozenset[int]) -> IntArray:
    return np.array(sorted(set(numbers)), dtype=np.int64)
