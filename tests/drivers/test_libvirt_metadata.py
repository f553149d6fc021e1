"""The policy in a domain's metadata, written to the hypervisor that libvirt brings for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from furlough.core.ids import HostName
from furlough.core.vm_policy import Words
from furlough.errors import Refused
from tests.drivers.binding import needing_libvirt, private_host

libvirt = needing_libvirt("libvirt")
vm_metadata = needing_libvirt("furlough.drivers.libvirt.vm_metadata")
inventory = needing_libvirt("furlough.drivers.libvirt.inventory")

H1 = HostName("h1")
OURS = "urn:furlough:vm:1"
ELEMENT = libvirt.VIR_DOMAIN_METADATA_ELEMENT
WORDS: Words = (("affinity_group", "shop"), ("on_maintenance", "shut_down"))
BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Any]:
    """A running VM with a definition."""
    handle = libvirt.open(private_host(tmp_path))
    yield handle.lookupByName("test")
    handle.close()


def seen(domain: Any) -> Words:
    """What the inventory reads of it."""
    (vm,) = inventory.read_vms(domain.connect(), H1, ())
    words: Words = vm.own_policy
    return words


def test_what_was_written_is_in_the_running_vm_and_in_its_definition(domain: Any) -> None:
    vm_metadata.write(domain, WORDS)
    assert seen(domain) == WORDS
    domain.destroy()
    assert seen(domain) == WORDS


def test_a_policy_replaces_the_one_before_and_an_empty_one_leaves_nothing(domain: Any) -> None:
    vm_metadata.write(domain, WORDS)
    vm_metadata.write(domain, (("ha", "true"),))
    assert seen(domain) == (("ha", "true"),)
    vm_metadata.write(domain, ())
    vm_metadata.write(domain, ())
    assert seen(domain) == ()
    assert OURS not in domain.XMLDesc(0)


def test_other_peoples_metadata_stays(domain: Any) -> None:
    domain.setMetadata(ELEMENT, "<owner>me</owner>", "app", "http://example.org/app", BOTH)
    vm_metadata.write(domain, WORDS)
    vm_metadata.write(domain, ())
    assert "me" in domain.metadata(ELEMENT, "http://example.org/app", 0)


def test_a_vm_that_is_off_carries_it_in_its_definition(domain: Any) -> None:
    domain.destroy()
    vm_metadata.write(domain, WORDS)
    assert seen(domain) == WORDS
    domain.create()
    assert seen(domain) == WORDS


@pytest.mark.parametrize("word", ["<&>\"'", "a,b", "n" * 16_384, "grün ❄", " a  b "])
def test_every_word_comes_back_as_it_was(domain: Any, word: str) -> None:
    vm_metadata.write(domain, (("host_affinity", word),))
    assert seen(domain) == (("host_affinity", word),)


def test_what_somebody_else_has_written_at_the_same_moment_is_noticed(domain: Any) -> None:
    class Contested:
        """Whoever writes here is followed by somebody who writes something else."""

        def __getattr__(self, name: str) -> Any:
            return getattr(domain, name)

        def setMetadata(self, *arguments: Any) -> None:  # noqa: N802
            domain.setMetadata(*arguments)
            domain.setMetadata(ELEMENT, "<policy ha='true'/>", "x", OURS, BOTH)

    with pytest.raises(Refused) as refusal:
        vm_metadata.write(Contested(), WORDS)
    assert refusal.value.code == "hypervisor.failed"
    assert refusal.value.remedy


def test_metadata_that_nobody_can_read_hides_no_vm(domain: Any) -> None:
    deep = "<x>" * 100 + "</x>" * 100
    domain.setMetadata(ELEMENT, deep, "app", "http://example.org/app", BOTH)
    assert seen(domain) == (("<unreadable metadata>", ""),)
