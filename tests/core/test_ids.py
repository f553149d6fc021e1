"""Names are parsed once, strictly: they end up in command lines, paths and other people's logs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from furlough.core.ids import (
    operation_id,
    operation_number,
    parse_cluster_name,
    parse_host_name,
    parse_operation_id,
    parse_user_name,
    parse_vm_id,
    step_id,
)
from furlough.errors import Invalid
from tests.core.builders import repeatable

_NAME_CHARACTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@pytest.mark.parametrize("name", ["h1", "7", "node-17.rack_2", "H", "a" * 63])
def test_ordinary_names_of_hosts_and_clusters_are_kept_as_typed(name: str) -> None:
    assert parse_host_name(name) == name
    assert parse_cluster_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 64,
        "-oProxyCommand=x",
        "-h1",
        "h1-",
        ".",
        "..",
        "../x",
        "a b",
        "a/b",
        "h1\n",
        "h1\x00",
        "host?command=x",
        "héte",
        "<script>",
    ],
)
def test_a_name_that_could_be_an_option_a_path_or_markup_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_host_name(name)
    assert refusal.value.code == "name.malformed"
    assert repr(name) in refusal.value.message
    assert "host" in refusal.value.message
    assert refusal.value.remedy


def test_a_refused_cluster_name_is_called_a_cluster() -> None:
    with pytest.raises(Invalid, match="cannot name a cluster"):
        parse_cluster_name("a b")


@repeatable
@given(st.text(max_size=80))
def test_whatever_passes_as_a_host_name_is_plain_and_does_not_look_like_an_option(
    text: str,
) -> None:
    try:
        name = parse_host_name(text)
    except Invalid:
        return
    assert set(name) <= _NAME_CHARACTERS
    assert name[0].isalnum()
    assert name[-1].isalnum()
    assert len(name) <= 63


@pytest.mark.parametrize(
    "spelling",
    [
        "8e0cb7f1-0e19-4d2e-9df3-0c5a5d6f7a10",
        "8E0CB7F1-0E19-4D2E-9DF3-0C5A5D6F7A10",
        "8e0cb7f10e194d2e9df30c5a5d6f7a10",
        "{8e0cb7f1-0e19-4d2e-9df3-0c5a5d6f7a10}",
        "urn:uuid:8e0cb7f1-0e19-4d2e-9df3-0c5a5d6f7a10",
    ],
)
def test_every_usual_spelling_of_a_uuid_names_the_same_vm(spelling: str) -> None:
    assert parse_vm_id(spelling) == "8e0cb7f1-0e19-4d2e-9df3-0c5a5d6f7a10"


@pytest.mark.parametrize("text", ["", "vm1", "8e0cb7f1-0e19-4d2e-9df3", "-x", "z" * 32])
def test_a_vm_is_named_by_its_uuid_and_by_nothing_else(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_vm_id(text)
    assert refusal.value.code == "vm.malformed"
    assert repr(text) in refusal.value.message
    assert "furlough vm list" in refusal.value.remedy


@pytest.mark.parametrize("text", ["", "17", "op-0", "op-017", "op-", "op-1.2", "OP-1", "op-1\n"])
def test_an_operation_id_is_accepted_only_as_it_is_printed(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_operation_id(text)
    assert refusal.value.code == "operation.malformed"
    assert "furlough operation list" in refusal.value.remedy


@repeatable
@given(st.integers(min_value=1, max_value=10**18 - 1))
def test_an_operation_id_leads_back_to_its_number(number: int) -> None:
    printed = operation_id(number)
    assert parse_operation_id(printed) == printed
    assert operation_number(printed) == number


def test_a_step_is_named_by_its_operation_and_its_number() -> None:
    assert step_id(operation_id(17), 3) == "op-17.3"


@pytest.mark.parametrize(
    ("parse", "other"),
    [
        (parse_host_name, parse_cluster_name),
        (parse_host_name, parse_user_name),
        (parse_vm_id, parse_vm_id),
    ],
)
def test_parsing_what_was_parsed_changes_nothing(
    parse: Callable[[str], str], other: Callable[[str], str]
) -> None:
    text = "8e0cb7f1-0e19-4d2e-9df3-0c5a5d6f7a10"
    assert other(parse(text)) == parse(text)
