"""Rolling maintenance of a whole cluster, told in names: which hosts are away together, who moves
before that, and what no plan could do with less.

    Document ─► board ─► rolling ─► RollingWaves ─► JSON, table

With `hroller_rules` the ceiling is 1 and nothing is kept for a host that is lost: the rules of
Ganeti's hroller, for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from furlough.core.policy import Reserve
from furlough.errors import NotFound
from furlough.planning.board import Board, board_of_file
from furlough.planning.inventory_file import Document
from furlough.planning.rolling import RollingPlan, Rules, Wave, roll


@dataclass(frozen=True, kw_only=True)
class RollingWishes:
    """What is asked for. `width`: hosts of the first wave; later ones are as wide as there is
    room."""

    cluster: str
    width: int = 1
    hroller_rules: bool = False


@dataclass(frozen=True, kw_only=True)
class NamedMove:
    """One migration before its wave."""

    vm_uuid: str
    vm_name: str
    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class NamedWave:
    """Hosts that are away together, after these moves. `fullest`: the memory load of the fullest
    host that stays; `keeps_reserve`: the VMs of any of them would find room on the others."""

    hosts: tuple[str, ...]
    moves: tuple[NamedMove, ...]
    fullest: float
    keeps_reserve: bool


@dataclass(frozen=True, kw_only=True)
class RollingWaves:
    """The plan. `left`: hosts whose turn never comes, with the VM that finds no other host;
    `unprotected`: VMs that would find no room if their host were lost now; `bound`: no plan with
    such a first wave has fewer migrations; `vms`: of them how many there are."""

    wishes: RollingWishes
    waves: tuple[NamedWave, ...]
    left: tuple[tuple[str, str], ...]
    unprotected: tuple[str, ...]
    migrations: int
    bound: int

    def content(self) -> dict[str, object]:
        """The plan as JSON has it."""
        return {
            "cluster": self.wishes.cluster,
            "width": self.wishes.width,
            "hroller_rules": self.wishes.hroller_rules,
            "waves": [
                {
                    "hosts": list(wave.hosts),
                    "moves": [
                        {"vm_uuid": move.vm_uuid, "vm_name": move.vm_name,
                         "source": move.source, "target": move.target}
                        for move in wave.moves
                    ],
                    "fullest": wave.fullest,
                    "keeps_reserve": wave.keeps_reserve,
                }
                for wave in self.waves
            ],
            "left": [{"host": host, "vm_name": vm} for host, vm in self.left],
            "unprotected": list(self.unprotected),
            "migrations": self.migrations,
            "bounds": {"migrations": self.bound},
        }  # fmt: skip


def rolling_waves(document: Document, wishes: RollingWishes) -> RollingWaves:
    """The plan for all available hosts of a cluster. `NotFound` where the file has none of that
    name."""
    names = [one.name for one in document.clusters]
    if wishes.cluster not in names:
        raise NotFound(
            "cluster.unknown",
            f"There is no cluster {wishes.cluster!r} in this inventory file.",
            remedy=f"It has: {', '.join(names) or 'none'}.",
        )
    at = names.index(wishes.cluster)
    keeps_reserve = document.clusters[at].reserve == Reserve.N_PLUS_1
    if wishes.hroller_rules:
        document, keeps_reserve = _without_ceiling(document), False
    board = board_of_file(document)
    plan = roll(board, at, Rules(first_width=wishes.width, keeps_reserve=keeps_reserve))
    return _named(board, plan, wishes)


def _without_ceiling(document: Document) -> Document:
    clusters = [replace(one, memory_ceiling=1.0) for one in document.clusters]
    return replace(document, clusters=clusters)


def _named(board: Board, plan: RollingPlan, wishes: RollingWishes) -> RollingWaves:
    hosts, vms = board.hosts.names, board.vms.names
    return RollingWaves(
        wishes=wishes,
        waves=tuple(_wave(board, wave, hosts) for wave in plan.waves),
        left=tuple((hosts[host], vms[vm]) for host, vm in plan.left),
        unprotected=tuple(vms[vm] for vm in plan.unprotected),
        migrations=plan.migrations,
        bound=plan.bound,
    )


def _wave(board: Board, wave: Wave, hosts: Sequence[str]) -> NamedWave:
    return NamedWave(
        hosts=tuple(hosts[host] for host in wave.hosts),
        moves=tuple(
            NamedMove(
                vm_uuid=board.vms.uuids[vm],
                vm_name=board.vms.names[vm],
                source=hosts[source],
                target=hosts[target],
            )
            for vm, source, target in wave.moves
        ),
        fullest=round(wave.fullest, 4),
        keeps_reserve=wave.keeps_reserve,
    )
