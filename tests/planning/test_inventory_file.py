"""Inventory files: what they say becomes columns; what makes no sense is told with its path."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.errors import Invalid
from furlough.planning import inventory_file, inventory_rows, inventory_table
from furlough.planning.inventory_file import DiskRow, Document, parse, read
from tests.core.builders import repeatable, vm_id

Json = dict[str, Any]


def _document(**changes: object) -> Json:
    """Two hosts and two VMs, with nothing but what has to be said."""
    return {
        "format": 1,
        "taken_at": "2026-11-22T10:00:00Z",
        "clusters": [{"name": "c1"}],
        "hosts": [
            {"name": name, "cluster": "c1", "cpus": 16, "memory_mib": 65536}
            for name in ("h1", "h2")
        ],
        "vms": [_vm(1), _vm(2)],
        **changes,
    }


def _vm(number: int, **changes: object) -> Json:
    return {"uuid": vm_id(number), "host": "h1", "vcpus": 2, "memory_mib": 4096, **changes}


def _full_vm(number: int) -> Json:
    return _vm(
        number,
        name=f"vm{number}",
        power="paused",
        memory_used_mib=1000,
        dirty_mib_s=12.5,
        working_set_mib=200,
        cpu_model="EPYC",
        networks=["lan", "dmz"],
        disks=[{"datastore": "san", "size_mib": 10, "shared": True}, {"datastore": None}],
        devices=["gpu"],
        availability_priority=80,
        on_maintenance="shut_down",
        ha=True,
        affinity_groups=["web"],
        anti_affinity_groups=["db"],
        host_affinity=["h1", "h2"],
    )


def _read(document: object) -> Document:
    return read(json.dumps(document).encode())


def _refusal(document: object) -> Invalid:
    with pytest.raises(Invalid) as caught:
        _read(document)
    assert caught.value.remedy
    return caught.value


def test_what_is_not_said_has_its_default() -> None:
    document = _read(_document())
    assert document.taken_at == datetime(2026, 11, 22, 10, tzinfo=UTC)
    cluster, host, vms = document.clusters[0], document.hosts[1], document.vms
    assert (cluster.reserve, cluster.memory_ceiling, cluster.vcpu_overcommit) == ("none", 0.9, 4.0)
    assert (host.mode, host.reserved_memory_mib, host.link_mbit_s) == ("available", 0, 1000)
    assert (host.uuid, host.rack, host.cpu_models, host.devices) == ("", "", (), ())
    assert vms.name == [vm_id(1), vm_id(2)]
    assert vms.power == ["running", "running"]
    assert vms.memory_used_mib == vms.working_set_mib == [4096, 4096]
    assert vms.dirty_mib_s == [0.0, 0.0]
    assert vms.cpu_model == [None, None]
    assert vms.disks == [(), ()]
    assert vms.networks == vms.affinity_groups == vms.host_affinity == [(), ()]
    assert vms.availability_priority == [50, 50]
    assert vms.on_maintenance == ["live", "live"]
    assert vms.ha == [False, False]
    assert len(vms) == 2


def test_what_is_said_is_kept_for_each_vm_even_where_rows_differ_in_their_keys() -> None:
    vms = _read(_document(vms=[_vm(1), _full_vm(2), {**_full_vm(3), "disks": []}])).vms
    assert vms.name == [vm_id(1), "vm2", "vm3"]
    assert vms.power == ["running", "paused", "paused"]
    assert vms.memory_used_mib == [4096, 1000, 1000]
    assert vms.dirty_mib_s == [0.0, 12.5, 12.5]
    assert vms.networks == [(), ("lan", "dmz"), ("lan", "dmz")]
    here, gone = DiskRow("san", 10, True), DiskRow(None, 0, True)
    assert vms.disks == [(), (here, gone), ()]
    assert (here.is_local, gone.is_local, DiskRow("san", 10, False).is_local) == (False, True, True)
    assert vms.host_affinity[1] == ("h1", "h2")
    assert vms.ha == [False, True, True]


def test_null_stands_for_what_nobody_measured_or_needs() -> None:
    nothing = dict.fromkeys(
        ("memory_used_mib", "dirty_mib_s", "working_set_mib", "cpu_model"), None
    )
    vms = _read(_document(vms=[_vm(1, **nothing)])).vms
    assert (vms.memory_used_mib, vms.dirty_mib_s, vms.working_set_mib) == ([4096], [0.0], [4096])
    assert vms.cpu_model == [None]


def test_a_uuid_with_dashes_at_other_places_is_told_as_everybody_writes_it() -> None:
    odd = "00000000000-4000-8000-0000-000000001"
    assert len(odd) == len(vm_id(2))
    found = _read(_document(vms=[_vm(1), _vm(2, uuid=odd)]))
    assert found.vms.uuid == [vm_id(1), "00000000-0004-0008-0000-000000000001"]


@pytest.mark.parametrize("last", ["g", "\u00e9", "-"])
def test_a_uuid_with_anything_but_its_digits_is_none(last: str) -> None:
    with pytest.raises(Invalid) as caught:
        _read(_document(vms=[_vm(1), _vm(2, uuid=vm_id(2)[:-1] + last)]))
    assert caught.value.facts["path"] == "vms[1].uuid"


def test_a_uuid_may_be_spelled_in_any_usual_way_and_an_instant_in_any_zone() -> None:
    spelled = "{" + vm_id(1).replace("-", "").upper() + "}"
    document = _read(_document(vms=[_vm(1, uuid=spelled)], taken_at="2026-11-22T12:00:00+02:00"))
    assert document.vms.uuid == [vm_id(1)]
    assert document.taken_at == datetime(2026, 11, 22, 10, tzinfo=UTC)


def test_a_cluster_without_hosts_and_hosts_without_vms_are_described_too() -> None:
    document = _read(_document(clusters=[{"name": "c1"}, {"name": "c2"}], vms=[]))
    assert [one.name for one in document.clusters] == ["c1", "c2"]
    assert len(document.vms) == 0
    assert _read(_document(clusters=[], hosts=[], vms=[])).hosts == []


Change = Callable[[Json], object]


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        (lambda d: d.update(extra=1), "key", "extra"),
        (lambda d: d["clusters"][0].update(colour="red"), "key", "clusters[0].colour"),
        (lambda d: d["hosts"][1].update(memroy=1), "key", "hosts[1].memroy"),
        (lambda d: d["vms"][1].update({"a b": 1}), "key", 'vms[1]."a b"'),
        (
            lambda d: d["vms"][1].update(disks=[{}, {"size": 1}]),
            "key",
            "vms[1].disks[1].size",
        ),
        (lambda d: d.pop("format"), "missing", "format"),
        (lambda d: d.pop("taken_at"), "missing", "taken_at"),
        (lambda d: d.pop("hosts"), "missing", "hosts"),
        (lambda d: d["clusters"][0].pop("name"), "missing", "clusters[0].name"),
        (lambda d: d["hosts"][1].pop("cpus"), "missing", "hosts[1].cpus"),
        (lambda d: d["vms"][0].pop("uuid"), "missing", "vms[0].uuid"),
        (lambda d: d["vms"][1].pop("memory_mib"), "missing", "vms[1].memory_mib"),
        (lambda d: d.update(format=2), "value", "format"),
        (lambda d: d.update(format=True), "value", "format"),
        (lambda d: d.update(taken_at="yesterday"), "value", "taken_at"),
        (lambda d: d.update(taken_at="2026-11-22T10:00:00"), "value", "taken_at"),
        (lambda d: d.update(taken_at="0001-01-01T00:00:00+23:00"), "value", "taken_at"),
        (lambda d: d.update(taken_at=7), "value", "taken_at"),
        (lambda d: d.update(vms={}), "value", "vms"),
        (lambda d: d["vms"].append([]), "value", "vms[2]"),
        (lambda d: d["clusters"][0].update(name="c 1"), "value", "clusters[0].name"),
        (lambda d: d["clusters"][0].update(reserve="n+2"), "value", "clusters[0].reserve"),
        (
            lambda d: d["clusters"][0].update(memory_ceiling=1.5),
            "value",
            "clusters[0].memory_ceiling",
        ),
        (
            lambda d: d["clusters"][0].update(memory_ceiling=0),
            "value",
            "clusters[0].memory_ceiling",
        ),
        (
            lambda d: d["clusters"][0].update(vcpu_overcommit="4"),
            "value",
            "clusters[0].vcpu_overcommit",
        ),
        (lambda d: d["hosts"][0].update(mode="broken"), "value", "hosts[0].mode"),
        (lambda d: d["hosts"][0].update(mode=["available"]), "value", "hosts[0].mode"),
        (lambda d: d["hosts"][0].update(cpus=0), "value", "hosts[0].cpus"),
        (lambda d: d["hosts"][0].update(cpus=True), "value", "hosts[0].cpus"),
        (lambda d: d["hosts"][0].update(networks="lan"), "value", "hosts[0].networks"),
        (lambda d: d["hosts"][0].update(networks=["lan", ""]), "value", "hosts[0].networks[1]"),
        (lambda d: d["hosts"][0].update(networks=["lan", 7]), "value", "hosts[0].networks[1]"),
        (lambda d: d["hosts"][0].update(rack=7), "value", "hosts[0].rack"),
        (lambda d: d["vms"][1].update(uuid="one"), "value", "vms[1].uuid"),
        (lambda d: d["vms"][1].update(name="x" * 256), "value", "vms[1].name"),
        (lambda d: d["vms"][1].update(name="\ud800"), "value", "vms[1].name"),
        (lambda d: d["vms"][1].update(cpu_model=""), "value", "vms[1].cpu_model"),
        (lambda d: d["vms"][1].update(memory_mib=-1), "value", "vms[1].memory_mib"),
        (lambda d: d["vms"][1].update(memory_mib=2**60), "value", "vms[1].memory_mib"),
        (lambda d: d["vms"][1].update(memory_mib=4096.5), "value", "vms[1].memory_mib"),
        (lambda d: d["vms"][1].update(memory_mib="4 GiB"), "value", "vms[1].memory_mib"),
        (lambda d: d["vms"][1].update(memory_mib=None), "value", "vms[1].memory_mib"),
        (lambda d: d["vms"][1].update(dirty_mib_s=-0.1), "value", "vms[1].dirty_mib_s"),
        (lambda d: d["vms"][1].update(working_set_mib=-5), "value", "vms[1].working_set_mib"),
        (lambda d: d["vms"][1].update(ha="yes"), "value", "vms[1].ha"),
        (lambda d: d["vms"][1].update(ha=1), "value", "vms[1].ha"),
        (
            lambda d: d["vms"][1].update(availability_priority=101),
            "value",
            "vms[1].availability_priority",
        ),
        (lambda d: d["vms"][1].update(disks="none"), "value", "vms[1].disks"),
        (lambda d: d["vms"][1].update(disks=[{}, 7]), "value", "vms[1].disks[1]"),
        (
            lambda d: d["vms"][1].update(disks=[{"size_mib": -1}]),
            "value",
            "vms[1].disks[0].size_mib",
        ),
        (lambda d: d["clusters"].append({"name": "c1"}), "duplicate", "clusters[1].name"),
        (lambda d: d["hosts"][1].update(name="h1"), "duplicate", "hosts[1].name"),
        (lambda d: d["vms"][1].update(uuid=vm_id(1)), "duplicate", "vms[1].uuid"),
        (lambda d: d["hosts"][1].update(cluster="c9"), "dangling", "hosts[1].cluster"),
        (lambda d: d["vms"][0].update(host="h9"), "dangling", "vms[0].host"),
        (
            lambda d: d["vms"][1].update(host_affinity=["h1", "h9"]),
            "dangling",
            "vms[1].host_affinity[1]",
        ),
    ],
)
def test_what_makes_no_sense_is_told_with_its_path(change: Change, code: str, path: str) -> None:
    document = _document()
    change(document)
    refusal = _refusal(document)
    assert refusal.code == f"inventory.{code}"
    assert refusal.facts["path"] == path
    assert refusal.message.startswith(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "line 1, column 1"),
        (b'{"format": 1, "vms": [{"uuid": "0000', "cut off"),
        (b"\xff\xfe{}", "not UTF-8 (byte 0)"),
        (b'{"vms": [{"memory_mib": NaN}]}', "NaN"),
        (b'{"vms": [{"memory_mib": -Infinity}]}', "-Infinity"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"format": ' + b"9" * 5000 + b"}", "cannot be read"),
    ],
)
def test_what_is_no_json_is_told_where_it_ends_to_be_some(text: bytes, words: str) -> None:
    with pytest.raises(Invalid, match="inventory file") as caught:
        read(text)
    assert caught.value.code == "inventory.malformed"
    assert words in caught.value.message


@pytest.mark.parametrize("document", [[], "inventory", 7, None])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    assert _refusal(document).code == "inventory.value"


def test_numbers_that_are_none_are_refused_also_where_others_decoded_the_document() -> None:
    document = _document(vms=[_vm(1), _vm(2, dirty_mib_s=float("nan"))])
    with pytest.raises(Invalid, match=r"vms\[1\]\.dirty_mib_s"):
        parse(document)


def test_a_number_beyond_all_bounds_is_not_taken_for_infinity() -> None:
    text = json.dumps(_document(vms=[_vm(1, dirty_mib_s=1)])).replace(
        '"dirty_mib_s": 1', '"dirty_mib_s": 1e999'
    )
    with pytest.raises(Invalid, match=r"vms\[0\]\.dirty_mib_s"):
        read(text.encode())


@pytest.mark.parametrize("row", [{"uuid": ""}, {"uuid": vm_id(1), "host": "h1", "vcpus": 1}])
def test_a_million_vms_are_refused_before_they_take_any_memory(row: Json) -> None:
    one = json.dumps(row).encode()
    head = json.dumps(_document(vms=[])).encode().removesuffix(b"]}")
    began = process_time()
    with pytest.raises(Invalid) as caught:
        read(head + b",".join([one] * 1_000_000) + b"]}")
    assert caught.value.code == "inventory.too_large"
    assert process_time() - began < 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b" " * (inventory_file.MOST_BYTES + 1), "64 MiB"),
        (b"," * (inventory_file.MOST_VALUES + 1), "4000000 values"),
    ],
)
def test_files_beyond_the_limits_are_refused_unread(text: bytes, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(text)
    assert caught.value.code == "inventory.too_large"
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("table", "most"),
    [
        ("clusters", inventory_file.MOST_CLUSTERS),
        ("hosts", inventory_file.MOST_HOSTS),
        ("vms", inventory_file.MOST_VMS),
    ],
)
def test_more_rows_than_the_largest_clusters_have_are_refused(table: str, most: int) -> None:
    with pytest.raises(Invalid, match=f"{table}: more than {most} entries") as caught:
        parse(_document(**{table: [{}] * (most + 1)}))
    assert caught.value.code == "inventory.too_large"


def test_long_values_are_not_repeated_in_full_and_structures_not_at_all() -> None:
    assert len(_refusal(_document(taken_at="x" * 9999)).message) < 120
    assert "an object" in _refusal(_document(taken_at={"a": 1})).message
    assert "a list" in _refusal(_document(format=[1] * 1000)).message


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@repeatable
@given(
    table=st.sampled_from(["clusters", "hosts", "vms"]),
    key=st.sampled_from(sorted(inventory_file._HOST_KEYS | inventory_file._VM_KEYS)),
    value=_JSON,
)
def test_whatever_stands_for_a_value_it_is_kept_or_refused(
    table: str, key: str, value: object
) -> None:
    document = _document(vms=[_full_vm(1), _full_vm(2)])
    document[table][-1][key] = value
    found, refusal = _parsed(document)
    if refusal is not None:
        assert refusal.code.startswith("inventory.")
        assert refusal.message.isprintable()
    if found is not None:
        assert len(found.vms) == 2
        assert "".join([*found.vms.name, *found.vms.host]).encode()


_PLAIN_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=4,
)  # fmt: skip


@repeatable
@given(
    table=st.sampled_from(["clusters", "hosts", "vms"]),
    key=st.sampled_from(sorted(inventory_file._HOST_KEYS | inventory_file._VM_KEYS)),
    value=_PLAIN_JSON,
    gone=st.sets(st.sampled_from(sorted(inventory_file._VM_KEYS)), max_size=3),
)
def test_bytes_that_are_read_the_quick_way_say_what_they_say_the_long_way(
    table: str, key: str, value: object, gone: set[str]
) -> None:
    document = _document(vms=[_full_vm(1), _full_vm(2)])
    document[table][-1][key] = value
    for one in gone - {key}:
        document["vms"][0].pop(one)
    text = json.dumps(document).encode()

    try:
        quick, refusal = read(text), None
    except Invalid as error:
        quick, refusal = None, error

    long, long_refusal = _parsed(json.loads(text))
    assert quick == long
    assert (refusal and refusal.message) == (long_refusal and long_refusal.message)


def test_an_ordinary_file_is_read_the_quick_way_and_an_odd_one_is_not() -> None:
    document = _document(vms=[_full_vm(1), _vm(2)])
    assert inventory_rows.rows_of(json.dumps(document).encode()) is not None
    assert read(json.dumps(document).encode()) == parse(document)
    for odd in (b"{}", b"[1", json.dumps(document).encode().replace(b'"ha"', b'"HA"')):
        assert inventory_rows.rows_of(odd) is None


def test_a_long_file_has_its_values_counted_before_anything_else() -> None:
    text = b"," * (inventory_file.MOST_VALUES + 1) + b" " * (3 * inventory_file.MOST_VALUES)
    with pytest.raises(Invalid, match="4000000 values"):
        read(text)


def _parsed(document: Json) -> tuple[Document | None, Invalid | None]:
    try:
        return parse(document), None
    except Invalid as error:
        return None, error


def test_a_table_with_one_key_only_is_read_all_the_same() -> None:
    table = inventory_table.table_of_rows([{"a": 1}, {}], frozenset({"a"}), lambda at: f"t[{at}]")
    assert table.whole("a", 0, 9, 5) == [1, 5]
