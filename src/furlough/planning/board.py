"""The board: hosts and VMs as columns of numbers. Planning of any size works on it.

    inventory file ─► board_of_file ─┐
                                     ├─► Board ─► packing, improving, bounds, polishing
    Inventory ─► board_of_live ──────┘

Hosts, VMs and clusters are known by their position in the columns. A *row* is an int8 array over
all hosts that says what stands against a VM there: `FREE`, `ELSEWHERE` (another cluster), or the
place of a `Cause` in `CAUSES`. VMs of one *kind* have the same row, so rows are made once per kind
and only when somebody asks: a thousand hosts and twenty thousand VMs need a handful.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from furlough.core.affinity import RuleKind
from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.core.policy import Reserve
from furlough.core.states import HostMode, Power
from furlough.core.timing import LINK_EFFICIENCY
from furlough.core.vm_policy import OnMaintenance
from furlough.errors import NotFound
from furlough.planning.causes import Cause
from furlough.planning.inventory_file import DiskRow, Document, HostRow, VmColumns
from furlough.planning.inventory_table import Remembered

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Row = npt.NDArray[np.int8]

FREE, ELSEWHERE = 0, -1
CAUSES: tuple[Cause, ...] = (Cause.MODE, *(cause for cause in Cause if cause is not Cause.MODE))
# Whoever has to be asked, or is to be left, is not moved by a plan of ours.
STAYING = frozenset({OnMaintenance.LEAVE.value, OnMaintenance.ASK.value})
_MOVING = frozenset({Power.RUNNING.value, Power.PAUSED.value})
CODE_OF: Mapping[Cause, int] = {cause: place for place, cause in enumerate(CAUSES, start=1)}


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """Hosts in columns of equal length. `memory_mib` and `vcpus` are what their VMs may take
    together, by reserve, ceiling and overcommit; `held_*` what other operations hold there;
    `is_open`: VMs may be sent there. `clusters` and `racks` are numbers, a rack of -1 is none;
    `free_pages`: free huge pages, by their size in KiB."""

    names: tuple[str, ...]
    clusters: IntArray
    is_open: BoolArray
    memory_mib: IntArray
    vcpus: IntArray
    held_memory_mib: IntArray
    held_vcpus: IntArray
    link_mib_s: FloatArray
    racks: IntArray
    free_pages: Mapping[int, IntArray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Vms:
    """VMs in columns of equal length. `hosts`: where each is; `is_on`: it takes memory and vCPUs
    there; `may_move`: its policy does not forbid it; `sends_mib`: memory a migration has to send at
    least; `kinds`: which row tells where it could go, `classes`: which tells where it could run
    if its host were lost; `pages`, for the few that have any: the size in KiB of the huge pages
    that hold a VM, and how many."""

    uuids: Sequence[str]
    names: Sequence[str]
    hosts: IntArray
    is_on: BoolArray
    may_move: BoolArray
    memory_mib: IntArray
    vcpus: IntArray
    sends_mib: IntArray
    dirty_mib_s: FloatArray
    working_set_mib: FloatArray
    priority: IntArray
    ha: BoolArray
    on_maintenance: Sequence[str]
    kinds: IntArray
    classes: IntArray
    pages: Mapping[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Group:
    """VMs that belong together (affinity), apart (anti-affinity), or, where the rule is soft, on
    `hosts`. Hard host affinity is part of a VM's row."""

    name: str
    kind: RuleKind
    members: tuple[int, ...]
    is_hard: bool = True
    hosts: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Board:
    """Everything that planning asks about. `keeps_reserve`, per cluster: it has to run everything
    after losing one more host. `row_of_kind` and `row_of_class` make the rows of the numbers in
    `Vms.kinds` and `Vms.classes`; they are asked more than once for the same and remember it."""

    clusters: tuple[str, ...]
    keeps_reserve: BoolArray
    hosts: Hosts
    vms: Vms
    groups: tuple[Group, ...]
    row_of_kind: Callable[[int], Row]
    row_of_class: Callable[[int], Row]

    def places(self, names: Iterable[str]) -> tuple[int, ...]:
        """The numbers of these hosts; `NotFound` where there is none of such a name."""
        found = []
        for name in names:
            place = self._place_of_host.get(name)
            if place is None:
                raise NotFound(
                    "host.unknown",
                    f"There is no host {name!r}.",
                    remedy="See the hosts of the inventory: furlough host list.",
                )
            found.append(place)
        return tuple(found)

    def row(self, vm: int) -> Row:
        """What stands against a VM on each host, whatever room and groups say."""
        return self.row_of_kind(int(self.vms.kinds[vm]))

    def failover_row(self, vm: int) -> Row:
        """The same, if it had to be started again because its host is lost."""
        return self.row_of_class(int(self.vms.classes[vm]))

    @cached_property
    def _place_of_host(self) -> Mapping[str, int]:
        return {name: place for place, name in enumerate(self.hosts.names)}


def remembered(make: Callable[[int], Row]) -> Callable[[int], Row]:
    """The same function, asked once per number: rows are large and wanted often."""
    known: dict[int, Row] = {}

    def row(number: int) -> Row:
        found = known.get(number)
        if found is None:
            found = known[number] = make(number)
        return found

    return row


# --- from an inventory file ----------------------------------------------------------------------


def board_of_file(document: Document) -> Board:
    """The board of an inventory file. Its VMs stay lists and numbers: none becomes an object."""
    cluster_at = {one.name: place for place, one in enumerate(document.clusters)}
    host_at = {one.name: place for place, one in enumerate(document.hosts)}
    at = [host_at[name] for name in document.vms.host]
    hosts = _hosts_of_file(document, cluster_at)
    classes, kinds = _kinds_of_file(document, at, hosts.clusters)
    row = remembered(_FileRows(document=document, hosts=hosts, kinds=kinds).row)
    return Board(
        clusters=tuple(cluster_at),
        keeps_reserve=np.array(
            [one.reserve == Reserve.N_PLUS_1 for one in document.clusters], dtype=np.bool_
        ),
        hosts=hosts,
        vms=_vms_of_file(document.vms, at, classes),
        groups=_groups_of_file(document.vms, at, hosts.clusters),
        row_of_kind=row,
        row_of_class=row,
    )


def _hosts_of_file(document: Document, cluster_at: Mapping[str, int]) -> Hosts:
    rows, policies = document.hosts, document.clusters
    clusters = [cluster_at[one.cluster] for one in rows]
    racks: dict[str, int] = {"": -1}
    nothing = np.zeros(len(rows), dtype=np.int64)
    return Hosts(
        names=tuple(one.name for one in rows),
        clusters=ints(clusters),
        is_open=np.array([one.mode == HostMode.AVAILABLE for one in rows], dtype=np.bool_),
        memory_mib=ints(
            int(max(0, one.memory_mib - one.reserved_memory_mib) * policies[at].memory_ceiling)
            for one, at in zip(rows, clusters, strict=True)
        ),
        vcpus=ints(
            int(one.cpus * policies[at].vcpu_overcommit)
            for one, at in zip(rows, clusters, strict=True)
        ),
        held_memory_mib=nothing,
        held_vcpus=nothing,
        link_mib_s=link_rates(one.link_mbit_s for one in rows),
        racks=ints(racks.setdefault(one.rack, len(racks) - 1) for one in rows),
    )


def _vms_of_file(vms: VmColumns, at: Sequence[int], classes: IntArray) -> Vms:
    off = Power.SHUT_OFF.value
    return Vms(
        uuids=vms.uuid,
        names=vms.name,
        hosts=ints(at),
        is_on=np.array([power != off for power in vms.power], dtype=np.bool_),
        may_move=np.array(
            [
                word not in STAYING and power in _MOVING
                for word, power in zip(vms.on_maintenance, vms.power, strict=True)
            ],
            dtype=np.bool_,
        ),
        memory_mib=ints(vms.memory_mib),
        vcpus=ints(vms.vcpus),
        sends_mib=ints(vms.memory_used_mib),
        dirty_mib_s=np.array(vms.dirty_mib_s, dtype=np.float64),
        working_set_mib=np.array(vms.working_set_mib, dtype=np.float64),
        priority=ints(vms.availability_priority),
        ha=np.array(vms.ha, dtype=np.bool_),
        on_maintenance=vms.on_maintenance,
        kinds=classes,
        classes=classes,
    )


class _Kind(NamedTuple):
    """What VMs of one kind ask of a host. `passthrough`: the CPU models of the host they are on,
    where they need an equal list; `datastores`: None stands for a disk that is local."""

    cluster: int
    cpu_model: str | None
    passthrough: tuple[str, ...]
    networks: tuple[str, ...]
    datastores: tuple[str | None, ...]
    devices: tuple[str, ...]
    host_affinity: tuple[str, ...]


def _kinds_of_file(
    document: Document, at: Sequence[int], clusters: IntArray
) -> tuple[IntArray, list[_Kind]]:
    """The kind of each VM, as a number, and all kinds."""
    vms, hosts = document.vms, document.hosts
    stores = Remembered(_datastores_of)
    passthrough = [
        hosts[place].cpu_models if model == HOST_PASSTHROUGH else ()
        for place, model in zip(at, vms.cpu_model, strict=True)
    ]
    # Plain tuples here: to make one of a named kind for each VM would take several times as long.
    needs = list(
        zip(
            clusters[at].tolist(),
            vms.cpu_model,
            passthrough,
            vms.networks,
            map(stores.__getitem__, vms.disks),
            vms.devices,
            vms.host_affinity,
            strict=True,
        )
    )
    found: defaultdict[tuple[object, ...], int] = defaultdict(count().__next__)
    return ints(map(found.__getitem__, needs)), [_Kind._make(kind) for kind in found]


def _datastores_of(disks: tuple[DiskRow, ...]) -> tuple[str | None, ...]:
    return tuple({None if one.is_local else one.datastore: None for one in disks})


@dataclass(frozen=True, kw_only=True)
class _FileRows:
    """Makes the rows of kinds from the hosts of a file."""

    document: Document
    hosts: Hosts
    kinds: Sequence[_Kind]

    def row(self, number: int) -> Row:
        """The first obstacle on each host, in the order of `_obstacles`."""
        kind = self.kinds[number]
        row = np.zeros(len(self.hosts.names), dtype=np.int8)
        row[self.hosts.clusters != kind.cluster] = ELSEWHERE
        row[(row == FREE) & ~self.hosts.is_open] = CODE_OF[Cause.MODE]
        rows = self.document.hosts
        for cause, is_there in self._obstacles(kind):
            against = [not is_there(host) for host in rows]
            row[(row == FREE) & against] = CODE_OF[cause]
        return row

    def _obstacles(self, kind: _Kind) -> Iterator[tuple[Cause, Callable[[HostRow], bool]]]:
        """What the kind asks for, each as the question whether a host has it."""
        if kind.cpu_model == HOST_PASSTHROUGH:
            models = set(kind.passthrough)
            yield Cause.CPU, lambda host: set(host.cpu_models) == models
        elif kind.cpu_model is not None:
            yield Cause.CPU, lambda host: kind.cpu_model in host.cpu_models
        if kind.datastores:
            yield Cause.DISK, lambda host: all(one in host.datastores for one in kind.datastores)
        if kind.networks:
            yield Cause.NETWORK, lambda host: all(one in host.networks for one in kind.networks)
        if kind.devices:
            yield Cause.DEVICE, lambda host: all(one in host.devices for one in kind.devices)
        if kind.host_affinity:
            yield Cause.RULE, lambda host: host.name in kind.host_affinity


def _groups_of_file(vms: VmColumns, at: Sequence[int], clusters: IntArray) -> tuple[Group, ...]:
    """Groups are names within a cluster; VMs that are off belong to none."""
    named = []
    for kind, column in (
        (RuleKind.AFFINITY, vms.affinity_groups),
        (RuleKind.ANTI_AFFINITY, vms.anti_affinity_groups),
    ):
        for vm, groups in enumerate(column):
            if groups and vms.power[vm] != Power.SHUT_OFF:
                named += [(kind, int(clusters[at[vm]]), name, vm) for name in groups]
    return _numbered_groups(named)


def _numbered_groups(named: Iterable[tuple[RuleKind, int, str, int]]) -> tuple[Group, ...]:
    """Groups from (kind, cluster, name, VM), in the order in which they are first named. A group
    of one says nothing and is left out."""
    members: dict[tuple[RuleKind, int, str], list[int]] = {}
    for kind, cluster, name, vm in named:
        members.setdefault((kind, cluster, name), []).append(vm)
    words = {RuleKind.AFFINITY: "affinity", RuleKind.ANTI_AFFINITY: "anti-affinity"}
    return tuple(
        Group(name=f"{words[kind]} group {name}", kind=kind, members=tuple(dict.fromkeys(found)))
        for (kind, _, name), found in members.items()
        if len(set(found)) > 1
    )


def ints(values: Iterable[int]) -> IntArray:
    """Whole numbers as a column."""
    return np.array(values if isinstance(values, list) else list(values), dtype=np.int64)


def link_rates(link_mbit_s: Iterable[int]) -> FloatArray:
    """What links carry, in MiB/s."""
    nominal = np.array(list(link_mbit_s), dtype=np.float64)
    return np.maximum(1.0, nominal) * (1e6 / 8 / 2**20 * LINK_EFFICIENCY)
