"""What somebody on the migration network gets to hear (SEC-19), and what certificates that are not
right come to: the VM stays where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from furlough.lab.blueprint import Keepalive, Options
from furlough.lab.certificates import authority_of
from furlough.lab.guest import POWER_BUTTON
from furlough.lab.patience import unix_now
from tests.lab.conftest import driven, own_name
from tests.lab.eavesdropper import Heard, eavesdropping
from tests.lab.fleet import Fleet, Ran

pytestmark = [pytest.mark.timeout(600)]

# A file in the memory of every guest, and nowhere in its definition.
SECRET = POWER_BUTTON.encode()
# Less than any guest of a lab has in use, more than anything but its memory could be.
LEAST_MIB = 16


@pytest.fixture(scope="module")
def certified(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts with certificates and a daemon; one small VM on the first."""
    options = Options(vms=1, on="h1", keepalive=Keepalive(interval_s=1, count=3), tls=True)
    yield from driven(own_name("k"), options, tmp_path_factory)


@pytest.fixture
def fleet(certified: Fleet) -> Fleet:
    """That fleet with its VM at home, and encrypting where it can."""
    wish(certified, "when_possible")
    certified.bring_home("h1")
    return certified


def wish(fleet: Fleet, migration_tls: str) -> None:
    """What the cluster wants of migrations."""
    words = ("cluster", "set", fleet.lab.name, "--migration-tls", migration_tls)
    fleet.check(fleet.furlough(*words))


def moved(fleet: Fleet, target: str) -> Ran:
    """The VM, moved."""
    return fleet.furlough("vm", "migrate", "vm1", "--to", target, "--wait", "--json")


def heard_on_the_way(fleet: Fleet, source: str, target: str) -> Heard:
    """What somebody hears at the source while the VM moves."""
    with eavesdropping(fleet.lab.host(source)) as heard:
        fleet.check(moved(fleet, target))
    assert heard.missed_packets == 0
    return heard


@pytest.mark.lab
def test_nobody_on_the_wire_reads_the_memory_of_a_vm_unless_encryption_is_switched_off(
    fleet: Fleet,
) -> None:
    since = unix_now()
    wish(fleet, "off")
    in_clear = heard_on_the_way(fleet, "h1", "h2")
    assert in_clear.mib > LEAST_MIB
    assert SECRET in in_clear.payload, "else nothing below shows anything"
    wish(fleet, "required")
    encrypted = heard_on_the_way(fleet, "h2", "h1")
    assert encrypted.mib > LEAST_MIB
    assert SECRET not in encrypted.payload
    assert fleet.running() == {"vm1": ["h1"]}
    fleet.check_witness(since, {})


@contextmanager
def without(place: Path) -> Iterator[None]:
    """A host without its certificates."""
    hidden = place.with_name("hidden")
    place.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(place)


def certificates_of(fleet: Fleet, host: str) -> Path:
    """Where a host of the lab keeps those for migrations."""
    return fleet.lab.host(host).directory / "etc-pki" / "qemu"


@contextmanager
def impostor(fleet: Fleet, host: str) -> Iterator[None]:
    """A host whose certificate is of our authority, and bears another name."""
    place = certificates_of(fleet, host)
    kept = {name: (place / name).read_bytes() for name in ("server-cert.pem", "server-key.pem")}
    signer = authority_of(fleet.lab.blueprint)
    signer.sign("stranger", place / "server-cert.pem", place / "server-key.pem")
    try:
        yield
    finally:
        for name, content in kept.items():
            (place / name).write_bytes(content)


@pytest.mark.lab_fault
def test_a_target_that_bears_another_name_gets_no_memory_and_the_vm_stays(fleet: Fleet) -> None:
    since = unix_now()
    with impostor(fleet, "h2"):
        with eavesdropping(fleet.lab.host("h1")) as heard:
            failed = moved(fleet, "h2")
        assert failed.code == 1, failed.output
        assert fleet.running() == {"vm1": ["h1"]}
        assert SECRET not in heard.payload
        assert heard.mib < LEAST_MIB
        (vm,) = [one for one in failed.json["vms"] if one["name"] == "vm1"]
        assert "--tls-name" in vm["remedy"], vm
        assert vm["attempts"], vm
        for one in vm["attempts"]:
            error = one["error"]
            assert (one["target"], error["code"]) == ("h2", "hypervisor.failed"), vm["attempts"]
            assert "was encrypted; in clear it was not tried" in error["message"], vm["attempts"]
            assert "name h2" in error["remedy"], vm["attempts"]
        # The name that it bears is the right one once we are told so.
        fleet.check(fleet.furlough("host", "set", "h2", "--tls-name", "stranger"))
        try:
            fleet.check(moved(fleet, "h2"))
            assert fleet.running() == {"vm1": ["h2"]}
        finally:
            fleet.check(fleet.furlough("host", "set", "h2", "--tls-name", ""))
    fleet.check_witness(since, {})


@pytest.mark.lab_fault
def test_a_host_without_certificates_is_told_of_and_passed_over_where_they_are_required(
    fleet: Fleet,
) -> None:
    with without(certificates_of(fleet, "h2")):
        found = findings(fleet, "network.unencrypted")
        assert [one["subject"] for one in found] == ["h2"]
        assert "has no ca-cert.pem" in found[0]["message"]
        wish(fleet, "required")
        fleet.check(fleet.furlough("enter", "h1", "--wait"))
        assert fleet.running() == {"vm1": ["h3"]}
        fleet.check(fleet.furlough("exit", "h1", "--wait"))
        with without(certificates_of(fleet, "h3")):
            (found_none,) = findings(fleet, "network.tls_missing")
            assert found_none["severity"] == "blocker"
            assert fleet.furlough("enter", "h1").code == 3
            assert moved(fleet, "h3").code != 0
            assert fleet.running() == {"vm1": ["h1"]}


def findings(fleet: Fleet, code: str) -> list[Any]:
    """What a check of h1 finds of this code."""
    (report,) = fleet.furlough("check", "h1", "--json").json
    return [one for one in report["findings"] if one["code"] == code]
