"""Inventory files: the facts of some clusters as one JSON document, read into columns.

    bytes ─┬─► rows, typed while they are parsed ──────┬─► columns, each checked
           └─► JSON ──► rows of anything, checked ─────┘   as a whole ──► Document

A file may come from anywhere, so nothing in it is believed: whatever makes no sense is told with
its path in the document (`vms[17].memory_mib`). Columns are checked by a few passes over whole
lists, and only one that fails is looked at value by value: planning from a file of 20,000 VMs
has to start at once. Of a key that stands twice in one object the last one counts.

For writing such files see `inventory_export`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, chain, islice
from typing import NamedTuple, NoReturn, cast

from furlough.core.ids import parse_cluster_name, parse_host_name
from furlough.core.policy import Reserve
from furlough.core.states import HostMode, Power
from furlough.core.vm_policy import OnMaintenance
from furlough.errors import Invalid
from furlough.planning.inventory_rows import DiskStruct, VmStruct, columns_of, rows_of
from furlough.planning.inventory_table import (
    Remembered,
    Table,
    check_keys,
    check_length,
    missing,
    table_of,
    table_of_rows,
    too_large,
    wrong,
)

FORMAT = 1
# More than the largest clusters planned so far (5,000 hosts, 30,000 VMs), and still bounded: a
# document of these sizes is read in about a second and some hundred MiB.
MOST_BYTES = 64 * 2**20
MOST_VALUES = 4_000_000
MOST_CLUSTERS = 1_000
MOST_HOSTS = 10_000
MOST_VMS = 100_000
_MOST_MEMORY_MIB = 2**30  # 1 PiB
_MOST_CPUS = 65_536
_MOST_DISK_MIB = 2**40
_MOST_LINK_MBIT_S = 10_000_000
_MOST_DIRTY_MIB_S = 1_000_000.0
_SHOWN = 64

_MODES = frozenset(one.value for one in HostMode)
_POWERS = frozenset(one.value for one in Power)
_METHODS = frozenset(one.value for one in OnMaintenance)
_RESERVES = frozenset(one.value for one in Reserve)


@dataclass(frozen=True, kw_only=True)
class ClusterRow:
    """One cluster. Defaults: reserve `none`, 0.9 of memory, 4 vCPUs per processor."""

    name: str
    reserve: str
    memory_ceiling: float
    vcpu_overcommit: float


@dataclass(frozen=True, kw_only=True)
class HostRow:
    """One host. Defaults: no uuid, mode `available`, nothing reserved, empty lists, a link of
    1000 Mbit/s, rack `""` (unknown). `memory_mib` is 0 for a host that never told."""

    name: str
    uuid: str
    cluster: str
    mode: str
    cpus: int
    memory_mib: int
    reserved_memory_mib: int
    cpu_models: tuple[str, ...]
    networks: tuple[str, ...]
    datastores: tuple[str, ...]
    devices: tuple[str, ...]
    link_mbit_s: int
    rack: str


class DiskRow(NamedTuple):
    """One disk of a VM. A `datastore` of None, or one that is not `shared`, is local: the disk
    exists on the VM's host alone. Defaults: size 0 (unknown), shared."""

    datastore: str | None
    size_mib: int
    shared: bool

    @property
    def is_local(self) -> bool:
        return self.datastore is None or not self.shared


@dataclass(frozen=True, kw_only=True)
class VmColumns:
    """The VMs, one list per key of the file, all equally long and in the file's order.

    Defaults: `name` the UUID; `power` running; `memory_used_mib` and `working_set_mib` all of its
    memory; `dirty_mib_s` 0; `cpu_model` None (any will do); lists empty; `availability_priority`
    50; `on_maintenance` live; `ha` false. null stands for the default where nobody measured or
    nothing is needed: `memory_used_mib`, `dirty_mib_s`, `working_set_mib`, `cpu_model`. Groups
    are names within a cluster.
    """

    uuid: list[str]
    name: list[str]
    host: list[str]
    power: list[str]
    vcpus: list[int]
    memory_mib: list[int]
    memory_used_mib: list[int]
    dirty_mib_s: list[float]
    working_set_mib: list[int]
    cpu_model: list[str | None]
    networks: list[tuple[str, ...]]
    disks: list[tuple[DiskRow, ...]]
    devices: list[tuple[str, ...]]
    availability_priority: list[int]
    on_maintenance: list[str]
    ha: list[bool]
    affinity_groups: list[tuple[str, ...]]
    anti_affinity_groups: list[tuple[str, ...]]
    host_affinity: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.uuid)


@dataclass(frozen=True, kw_only=True)
class Document:
    """What an inventory file says, in its order; `taken_at` in UTC."""

    taken_at: datetime
    clusters: list[ClusterRow]
    hosts: list[HostRow]
    vms: VmColumns


_DOCUMENT_KEYS = frozenset({"format", "taken_at", "clusters", "hosts", "vms"})
_CLUSTER_KEYS = frozenset(ClusterRow.__dataclass_fields__)
_HOST_KEYS = frozenset(HostRow.__dataclass_fields__)
_VM_KEYS = frozenset(VmColumns.__dataclass_fields__)
_DISK_KEYS = frozenset(DiskRow._fields)


def read(text: bytes) -> Document:
    """The document in these bytes: UTF-8, JSON, format 1. `Invalid` where it makes no sense, with
    the path in the message and in the fact `path`."""
    _check_size(text)
    rows = rows_of(text)
    if rows is None:
        return parse(_decoded(text))
    check_length(rows.vms, "vms", MOST_VMS)
    vms = Table(lambda at: f"vms[{at}]", len(rows.vms), columns_of(rows.vms, VmStruct))
    document: dict[str, object] = {
        "format": rows.format,
        "taken_at": rows.taken_at,
        "clusters": rows.clusters,
        "hosts": rows.hosts,
    }
    return _document(document, vms)


def parse(document: object) -> Document:
    """The same from JSON that somebody else has decoded. `Invalid` like `read`."""
    if not isinstance(document, dict):
        raise wrong("the document", document, "an object with format, clusters, hosts and vms")
    check_keys(document, _DOCUMENT_KEYS, "")
    return _document(document, None)


def _document(document: dict[str, object], vms: Table | None) -> Document:
    """The document; `vms` where that table was made already."""
    if "format" not in document:
        raise missing("format", f"the number {FORMAT}")
    if type(document["format"]) is not int or document["format"] != FORMAT:
        raise wrong("format", document["format"], f"the number {FORMAT}")
    clusters = _clusters(table_of(document, "clusters", MOST_CLUSTERS, _CLUSTER_KEYS))
    hosts = _hosts(table_of(document, "hosts", MOST_HOSTS, _HOST_KEYS), clusters)
    if vms is None:
        vms = table_of(document, "vms", MOST_VMS, _VM_KEYS)
    columns = _vms(vms, hosts)
    return Document(taken_at=_instant(document), clusters=clusters, hosts=hosts, vms=columns)


def _check_size(text: bytes) -> None:
    """Counted before parsing: what is parsed takes many times the memory of the text."""
    if len(text) > MOST_BYTES:
        raise too_large("The inventory file", f"{MOST_BYTES // 2**20} MiB")
    # Typed rows take little for each value: here it is enough to look at long texts.
    if len(text) > 4 * MOST_VALUES:
        _check_values(text)


def _check_values(text: bytes) -> None:
    """Values have commas between them; nested without any, the parser's own limit stops them."""
    if text.count(b'"uuid"') > MOST_HOSTS + MOST_VMS:
        raise too_large("vms", f"{MOST_VMS} entries")
    if text.count(b",") > MOST_VALUES:
        raise too_large("The inventory file", f"{MOST_VALUES} values")


def _decoded(text: bytes) -> object:
    _check_values(text)
    try:
        return json.loads(text.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise _malformed(f"is not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _malformed(f"is not JSON, or was cut off: {error.msg} at {where}") from error
    except (ValueError, RecursionError) as error:
        raise _malformed(f"cannot be read as JSON: {str(error)[:_SHOWN]}") from error


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


# --- rows ---------------------------------------------------------------------------------------


def _clusters(table: Table) -> list[ClusterRow]:
    rows = zip(
        table.names("name", parse_cluster_name),
        table.words("reserve", _RESERVES, Reserve.NONE.value),
        table.numbers("memory_ceiling", 0.001, 1.0, 0.9),
        table.numbers("vcpu_overcommit", 0.001, 100.0, 4.0),
        strict=True,
    )
    return [
        ClusterRow(name=name, reserve=reserve, memory_ceiling=ceiling, vcpu_overcommit=overcommit)
        for name, reserve, ceiling, overcommit in rows
    ]


def _hosts(table: Table, clusters: Sequence[ClusterRow]) -> list[HostRow]:
    columns: dict[str, Sequence[object]] = {
        "name": table.names("name", parse_host_name),
        "uuid": table.texts("uuid", ""),
        "cluster": table.references("cluster", {one.name for one in clusters}, "cluster"),
        "mode": table.words("mode", _MODES, HostMode.AVAILABLE.value),
        "cpus": table.whole("cpus", 1, _MOST_CPUS),
        "memory_mib": table.whole("memory_mib", 0, _MOST_MEMORY_MIB),
        "reserved_memory_mib": table.whole("reserved_memory_mib", 0, _MOST_MEMORY_MIB, 0),
        "cpu_models": table.lists("cpu_models"),
        "networks": table.lists("networks"),
        "datastores": table.lists("datastores"),
        "devices": table.lists("devices"),
        "link_mbit_s": table.whole("link_mbit_s", 1, _MOST_LINK_MBIT_S, 1000),
        "rack": table.texts_or("rack", [""] * len(table)),
    }
    # The table has checked the type of every value.
    make = cast("Callable[..., HostRow]", HostRow)
    return [
        make(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)
    ]


def _vms(table: Table, hosts: Sequence[HostRow]) -> VmColumns:
    host_names = {one.name for one in hosts}
    uuid = table.uuids("uuid")
    memory_mib = table.whole("memory_mib", 1, _MOST_MEMORY_MIB)
    return VmColumns(
        uuid=uuid,
        name=table.texts_or("name", uuid),
        host=table.references("host", host_names, "host"),
        power=table.words("power", _POWERS, Power.RUNNING.value),
        vcpus=table.whole("vcpus", 1, _MOST_CPUS),
        memory_mib=memory_mib,
        memory_used_mib=table.whole_or("memory_used_mib", 0, _MOST_MEMORY_MIB, memory_mib),
        dirty_mib_s=table.numbers("dirty_mib_s", 0.0, _MOST_DIRTY_MIB_S, 0.0, null=0.0),
        working_set_mib=table.whole_or("working_set_mib", 0, _MOST_MEMORY_MIB, memory_mib),
        cpu_model=table.optional_texts("cpu_model"),
        networks=table.lists("networks"),
        disks=_disks(table),
        devices=table.lists("devices"),
        availability_priority=table.whole("availability_priority", 0, 100, 50),
        on_maintenance=table.words("on_maintenance", _METHODS, OnMaintenance.LIVE.value),
        ha=table.flags("ha", False),
        affinity_groups=table.lists("affinity_groups"),
        anti_affinity_groups=table.lists("anti_affinity_groups"),
        host_affinity=table.lists("host_affinity", host_names),
    )


def _disks(vms: Table) -> list[tuple[DiskRow, ...]]:
    """The disks of all VMs, checked as one table and dealt out again."""
    column = vms.rows_of("disks")
    ends = list(accumulate(map(len, column)))

    def path(at: int) -> str:
        owner = next(vm for vm, end in enumerate(ends) if at < end)
        return f"{vms.path(owner)}.disks[{at - (ends[owner] - len(column[owner]))}]"

    disks = list(chain.from_iterable(column))
    if disks and type(disks[0]) is DiskStruct:
        structs = cast("list[DiskStruct]", disks)
        table = Table(path, len(disks), columns_of(structs, DiskStruct))
    else:
        table = table_of_rows(disks, _DISK_KEYS, path)
    values = zip(
        table.optional_texts("datastore"),
        table.whole("size_mib", 0, _MOST_DISK_MIB, 0),
        table.flags("shared", True),
        strict=True,
    )
    # Few differ, and to make one takes several times as long as to find it.
    known: Remembered[tuple[str | None, int, bool], DiskRow] = Remembered(lambda one: DiskRow(*one))
    all_disks = map(known.__getitem__, values)
    if len(disks) == len(column) == sum(map(bool, column)):
        return list(zip(all_disks))  # one for each, as usual
    return [tuple(islice(all_disks, len(own))) for own in column]


def _instant(document: dict[str, object]) -> datetime:
    word = document.get("taken_at")
    wanted = 'an instant with its offset, like "2026-11-22T10:00:00Z"'
    if "taken_at" not in document:
        raise missing("taken_at", wanted)
    try:
        instant = datetime.fromisoformat(word) if isinstance(word, str) else None
        if instant is not None and instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise wrong("taken_at", word, wanted) from error
    raise wrong("taken_at", word, wanted)


def _malformed(what: str) -> Invalid:
    return Invalid(
        "inventory.malformed",
        f"The inventory file {what}.",
        remedy="Make one with: furlough inventory export.",
    )
