"""Rolling maintenance: a whole cluster, wave by wave, with the fewest migrations.

    wave 1    the hosts with the fewest VMs; these land on hosts whose turn is yet to come, so they
              move a second time
    wave n    as many hosts as hosts that are finished can take the VMs of, without going over
              their limits, and, where it is kept, with N+1 all the while

Nobody else moves twice: whoever lands on a finished host stays there. Finished hosts are filled up
to their limit, so room accumulates and waves grow wider by themselves. The bound: every VM once,
and once more as many as stand on the emptiest hosts of the first wave.

With the memory ceiling at 1 and `keeps_reserve` off these are the rules of Ganeti's hroller, but
that nobody is moved back after each wave.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from furlough.core.affinity import RuleKind
from furlough.planning.board import FREE, Board, BoolArray, IntArray

# Where so many hosts did not fit into a wave, the next ones, fuller still, hardly will.
_MOST_MISSES = 8
_NO_ROOM_IS_SO_LARGE = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True)
class Rules:
    """`first_width`: hosts of the first wave; `most_width`: of any later one, None: as many as
    there is room for; `keeps_reserve`: whether the VMs of any host that stays find room on the
    others during each wave."""

    first_width: int
    most_width: int | None = None
    keeps_reserve: bool = True


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Hosts that are away together, and the moves before that: (VM, source, target) by position.
    `fullest` is the memory load of the fullest host that stays, as a share of its limit."""

    hosts: tuple[int, ...]
    moves: tuple[tuple[int, int, int], ...]
    fullest: float
    keeps_reserve: bool


@dataclass(frozen=True, kw_only=True)
class RollingPlan:
    """All waves. `left`: hosts whose turn never comes, since one of their VMs, the one named,
    finds no other host. `unprotected`: VMs that would find no room if their host were lost now,
    with no host away; N+1 is kept for all others. `bound`: with as many
    hosts in the first wave no plan that empties every host has fewer migrations."""

    waves: tuple[Wave, ...]
    left: tuple[tuple[int, int], ...]
    unprotected: tuple[int, ...]
    migrations: int
    bound: int


def roll(board: Board, cluster: int, rules: Rules) -> RollingPlan:
    """The plan for all available hosts of a cluster, by its position."""
    rolling = Rolling(board, cluster)
    width = max(1, min(rules.first_width, len(rolling.due)))
    counts = [len(rolling.on[host]) for host in rolling.due]
    waves: list[Wave] = []
    rolling.find_unprotected()
    while rolling.due:
        wave = rolling.next_wave(rules, width if not waves else rules.most_width)
        if wave is not None:
            waves.append(wave)
    first = len(waves[0].hosts) if waves else 0
    return RollingPlan(
        waves=tuple(waves),
        left=tuple(rolling.left),
        unprotected=tuple(sorted(rolling.unprotected)),
        migrations=sum(len(wave.moves) for wave in waves),
        bound=least_migrations(counts, first),
    )


def least_migrations(counts: Sequence[int], first: int) -> int:
    """Every VM once, and again those of the emptiest hosts of the first wave: `counts` VMs by
    host, so many hosts in the wave."""
    return sum(counts) + sum(sorted(counts)[:first])


@dataclass(frozen=True, kw_only=True)
class Departure:
    """How one host is emptied."""

    host: int
    moves: list[tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True)
class _Crew:
    """The VMs of a host whose loss would count: not those that no other host could run, whatever
    room there is. `largest`: the most memory and the most vCPUs among them."""

    vms: list[int]
    largest: tuple[int, int]
    kinds: frozenset[int]


class _Free:
    """What hosts have free while one wave is away; 0 for those that take nobody."""

    def __init__(self, mib: IntArray, vcpus: IntArray) -> None:
        self.mib = mib
        self.vcpus = vcpus
        self._places: dict[object, IntArray] = {}
        self._sums: dict[object, int] = {}

    def places_for(
        self, largest: tuple[int, int], kinds: frozenset[int], is_open: BoolArray, *, without: int
    ) -> int:
        """How many VMs of this memory and these vCPUs fit on the open hosts, but for one."""
        key = (largest, kinds)
        if key not in self._places:
            fitting = np.minimum(self.mib // largest[0], self.vcpus // largest[1])
            self._places[key] = np.where(is_open, fitting, 0)
            self._sums[key] = int(self._places[key].sum())
        return self._sums[key] - int(self._places[key][without])


class Rolling:
    """The cluster between two waves: who is where, whose turn is yet to come, who is away."""

    def __init__(self, board: Board, cluster: int) -> None:
        hosts, vms = board.hosts, board.vms
        self.board = board
        mine = hosts.clusters == cluster
        self.due: list[int] = [int(one) for one in np.flatnonzero(mine & hosts.is_open)]
        self.away: set[int] = set()
        self.left: list[tuple[int, int]] = []
        self.unprotected: set[int] = set()
        self._crews: dict[int, _Crew] = {}
        self._finished: BoolArray = np.zeros(len(hosts.names), dtype=np.bool_)
        self._usable: BoolArray = mine & hosts.is_open
        self.on: dict[int, list[int]] = {int(host): [] for host in np.flatnonzero(mine)}
        self._free_mib = hosts.memory_mib - hosts.held_memory_mib
        self._free_vcpus = hosts.vcpus - hosts.held_vcpus
        self._memory, self._vcpus = vms.memory_mib.tolist(), vms.vcpus.tolist()
        self._kinds = vms.classes.tolist()
        self._open: dict[int, BoolArray] = {}
        self._choice: dict[int, int] = {}
        self._joint: dict[frozenset[int], BoolArray] = {}
        self._at = vms.hosts.tolist()
        self._apart: dict[int, set[int]] = {}
        self._together: dict[int, set[int]] = {}
        for vm in np.flatnonzero(vms.is_on & mine[vms.hosts]).tolist():
            self._settle(vm, self._at[vm])
        self._read_groups()

    def _read_groups(self) -> None:
        for group in self.board.groups:
            if not group.is_hard:
                continue
            kept = self._together if group.kind is RuleKind.AFFINITY else self._apart
            for vm in group.members if group.kind is not RuleKind.HOST_AFFINITY else ():
                kept.setdefault(vm, set()).update(set(group.members) - {vm})

    def next_wave(self, rules: Rules, most: int | None) -> Wave | None:
        """Empty the next hosts, and have them back; None where none of those left can be
        emptied."""
        departures, keeps = self.depart(rules, most)
        if not departures:
            return None
        wave = self._wave(departures, keeps_reserve=keeps)
        self.come_back(wave.hosts)
        return wave

    def depart(
        self, rules: Rules, most: int | None, *, not_yet: Iterable[int] = ()
    ) -> tuple[list[Departure], bool]:
        """The hosts to be emptied next, at most so many and none of `not_yet`, and whether N+1 is
        kept; they are away from now on. None where there is no room, and, if nobody is away,
        where none of those left can ever be emptied."""
        is_first = not self._finished.any() and not self.away
        order = sorted(
            set(self.due).difference(not_yet), key=lambda host: self._turn(host, is_first=is_first)
        )
        wanted = order[: len(order) if most is None else most]
        takers = self._usable & ~_mask(wanted, self._usable) if is_first else self._finished
        departures = self._departures(wanted, takers)
        if rules.keeps_reserve:
            self._take_back(departures, self._width_with_reserve(departures))
        keeps = rules.keeps_reserve
        if not departures and not self.away:
            departures = self._one_anyhow(order, takers)
            keeps = False
        hosts = [one.host for one in departures]
        self.due = [host for host in self.due if host not in set(hosts)]
        self.away.update(hosts)
        return departures, keeps or (bool(hosts) and self._has_reserve(()))

    def come_back(self, hosts: Iterable[int]) -> None:
        """These are serviced: they take whoever comes."""
        self.away.difference_update(hosts)
        self._finished[list(hosts)] = True

    def _one_anyhow(self, order: Sequence[int], takers: BoolArray) -> list[Departure]:
        """One host, wherever there is room: it cannot be done by the rules. Where nobody can be
        emptied even so, all of them are given up."""
        for host in order:
            others = ~_mask([host], self._usable)
            departure = self._empty(host, takers & others) or self._empty(
                host, self._usable & others
            )
            if departure is not None:
                return [departure]
        for host in order:
            self._leave(host)
        return []

    def _turn(self, host: int, *, is_first: bool) -> tuple[int, int, int]:
        """Sort key. Later on, those whose VMs have the least choice come before others have taken
        the few places that suit them; then those that are emptied most easily."""
        used_mib = sum(self._memory[vm] for vm in self.on[host])
        if is_first:
            return len(self.on[host]), used_mib, host
        kinds = {self._kinds[vm] for vm in self.on[host]}
        return min(map(self._choices, kinds), default=0), used_mib, host

    def _departures(self, hosts: Sequence[int], takers: BoolArray) -> list[Departure]:
        """How those of these hosts are emptied for which there is room; some that cannot be yet are
        passed over."""
        found: list[Departure] = []
        misses = 0
        for host in hosts:
            departure = self._empty(host, takers)
            if departure is not None:
                found.append(departure)
            elif (misses := misses + 1) == _MOST_MISSES:
                break
        return found

    def _empty(self, host: int, takers: BoolArray) -> Departure | None:
        """Move everybody away, the largest first; None, and nothing moved, where that fails."""
        departure = Departure(host=host, moves=[])
        for unit in self._units(host):
            target = self._target(unit, takers)
            if target is None:
                self._take_back([departure], 0)
                return None
            for vm in unit:
                self._move(vm, target)
                departure.moves.append((vm, host, target))
        return departure

    def _units(self, host: int) -> list[list[int]]:
        """The VMs of a host, those that belong together in one list, the largest first."""
        waiting = set(self.on[host])
        units = []
        for vm in sorted(waiting):
            fresh, unit = [vm] if vm in waiting else [], []
            waiting.discard(vm)
            while fresh:
                unit.append(fresh.pop())
                mates = self._together.get(unit[-1], set()) & waiting
                waiting -= mates
                fresh.extend(sorted(mates))
            if unit:
                units.append(unit)
        return sorted(units, key=lambda unit: (-sum(self._memory[vm] for vm in unit), unit))

    def _target(self, unit: Sequence[int], takers: BoolArray) -> int | None:
        """The taker for these VMs; None if none has room. Finished hosts are filled to the brim,
        which leaves others empty for large VMs; the others are levelled, since they have to hold
        together until their turn."""
        memory_mib = sum(self._memory[vm] for vm in unit)
        vcpus = sum(self._vcpus[vm] for vm in unit)
        able = takers & (self._free_mib >= memory_mib) & (self._free_vcpus >= vcpus)
        able &= self._open_to(unit)
        for vm in unit if able.any() else ():
            if not self.board.vms.may_move[vm]:
                return None
            for other in self._apart.get(vm, ()):
                able[self._at[other]] = False
        if not able.any():
            return None
        if (able & ~self._finished).any():
            return int(np.where(able, self._free_mib, -1).argmax())
        return int(np.where(able, self._free_mib, _NO_ROOM_IS_SO_LARGE).argmin())

    def _open_to(self, unit: Iterable[int]) -> BoolArray:
        """The hosts that all of these VMs could run on, room aside."""
        return self._open_to_kinds(frozenset(self._kinds[vm] for vm in unit))

    def _open_to_kinds(self, kinds: frozenset[int]) -> BoolArray:
        if kinds not in self._joint:
            rows = [self.board.row_of_class(kind) == FREE for kind in sorted(kinds)]
            self._joint[kinds] = np.logical_and.reduce([self._usable, *rows])
        return self._joint[kinds]

    def _take_back(self, departures: list[Departure], kept: int) -> None:
        """Undo all but the first so many departures."""
        for departure in reversed(departures[kept:]):
            for vm, source, _ in reversed(departure.moves):
                self._move(vm, source)
        del departures[kept:]

    def _width_with_reserve(self, departures: Sequence[Departure]) -> int:
        """How many of these departures leave N+1 behind, found by halving. What follows one that
        is taken back is moot, so each trial undoes a part and does it again."""
        least, most = 0, len(departures)
        if self._has_reserve([one.host for one in departures]):
            return most
        while most - least > 1:
            middle = (least + most) // 2
            undone = departures[middle:]
            self._replay(undone, is_back=True)
            holds = self._has_reserve([one.host for one in departures[:middle]])
            self._replay(undone, is_back=False)
            least, most = (middle, most) if holds else (least, middle)
        return least

    def _replay(self, departures: Sequence[Departure], *, is_back: bool) -> None:
        for departure in reversed(departures) if is_back else departures:
            for vm, source, target in departure.moves:
                self._move(vm, source if is_back else target)

    def _wave(self, departures: Sequence[Departure], *, keeps_reserve: bool) -> Wave:
        hosts = tuple(one.host for one in departures)
        stays = self._usable & ~_mask(hosts, self._usable)
        limits = np.maximum(1, self.board.hosts.memory_mib)
        fullest = (1 - self._free_mib / limits)[stays].max(initial=0.0)
        return Wave(
            hosts=hosts,
            moves=tuple(move for one in departures for move in one.moves),
            fullest=round(float(fullest), 4),
            keeps_reserve=keeps_reserve,
        )

    def _leave(self, host: int) -> None:
        """Give a host up, and say for which VM."""
        takers = self._usable & ~_mask([host], self._usable)
        culprit = next(
            (unit[0] for unit in self._units(host) if self._target(unit, takers) is None),
            self._units(host)[0][0],
        )
        self.due.remove(host)
        self.left.append((host, culprit))

    # --- N+1 ------------------------------------------------------------------------------------

    def _has_reserve(self, away: Sequence[int]) -> bool:
        """Whether, with these hosts away too, the VMs of any other one would find room."""
        stays = self._usable & ~_mask([*self.away, *away], self._usable)
        free = self._free(stays)
        return all(self._survives(lost, free) for lost in np.flatnonzero(stays).tolist())

    def find_unprotected(self) -> None:
        """Look for VMs that would find no room even now, with no host away. No order of waves can
        help them, so they do not count later."""
        free = self._free(self._usable)
        for lost in np.flatnonzero(self._usable).tolist():
            if not self._survives(lost, free):
                self.unprotected.update(self._homeless(self._crews[lost].vms, free, lost))
        self._crews.clear()

    def _free(self, stays: BoolArray) -> _Free:
        return _Free(
            np.where(stays, self._free_mib, 0).clip(min=0),
            np.where(stays, self._free_vcpus, 0).clip(min=0),
        )

    def _crew(self, lost: int) -> _Crew:
        vms = [
            vm
            for vm in self.on[lost]
            if vm not in self.unprotected and self._could_be_elsewhere(vm, lost)
        ]
        return _Crew(
            vms=vms,
            largest=(
                max((self._memory[vm] for vm in vms), default=0),
                max((self._vcpus[vm] for vm in vms), default=0),
            ),
            kinds=frozenset(self._kinds[vm] for vm in vms),
        )

    def _survives(self, lost: int, free: _Free) -> bool:
        """Whether a host's VMs would find room."""
        crew = self._crews.get(lost)
        if crew is None:
            crew = self._crews[lost] = self._crew(lost)
        if not crew.vms:
            return True
        # Room for as many of its largest is room for all; the answer serves many hosts.
        is_open = self._open_to_kinds(crew.kinds)
        places = free.places_for(crew.largest, crew.kinds, is_open, without=lost)
        return places >= len(crew.vms) or not self._homeless(crew.vms, free, lost)

    def _homeless(self, crew: Sequence[int], free: _Free, lost: int) -> list[int]:
        """Who finds no room, the largest first, each on the emptiest host, until the rest is so
        small that it surely fits."""
        mib, vcpus = free.mib.copy(), free.vcpus.copy()
        homeless: list[int] = []
        mib[lost] = vcpus[lost] = 0
        order, largest_mib = sorted(crew, key=lambda vm: -self._memory[vm]), 0
        for place, vm in enumerate(order):
            if self._memory[vm] != largest_mib and self._surely_fit(order[place:], mib, vcpus):
                break
            largest_mib = self._memory[vm]
            fits = (mib >= self._memory[vm]) & (vcpus >= self._vcpus[vm]) & self._open_to([vm])
            host = int(np.where(fits, mib, -1).argmax())
            if not fits[host]:
                homeless.append(vm)
                continue
            mib[host] -= self._memory[vm]
            vcpus[host] -= self._vcpus[vm]
        return homeless

    def _surely_fit(self, vms: Sequence[int], mib: IntArray, vcpus: IntArray) -> bool:
        """Whether there is room for as many VMs as large as the largest of these, the first."""
        places = np.minimum(
            mib // self._memory[vms[0]], vcpus // max(self._vcpus[vm] for vm in vms)
        )
        return bool(places[self._open_to(vms)].sum() >= len(vms))

    def _could_be_elsewhere(self, vm: int, host: int) -> bool:
        kind = self._kinds[vm]
        return self._choices(kind) > int(self._open_to_kinds(frozenset({kind}))[host])

    def _choices(self, kind: int) -> int:
        """How many hosts VMs of this kind could run on, room aside."""
        if kind not in self._choice:
            self._choice[kind] = int(self._open_to_kinds(frozenset({kind})).sum())
        return self._choice[kind]

    # --- moving ---------------------------------------------------------------------------------

    def _move(self, vm: int, target: int) -> None:
        source = self._at[vm]
        self._crews.pop(source, None)
        self.on[source].remove(vm)
        self._free_mib[source] += self._memory[vm]
        self._free_vcpus[source] += self._vcpus[vm]
        self._settle(vm, target)

    def _settle(self, vm: int, host: int) -> None:
        self._at[vm] = host
        self._crews.pop(host, None)
        self.on[host].append(vm)
        self._free_mib[host] -= self._memory[vm]
        self._free_vcpus[host] -= self._vcpus[vm]


def _mask(hosts: Iterable[int], like: BoolArray) -> BoolArray:
    mask = np.zeros_like(like)
    mask[list(hosts)] = True
    return mask
