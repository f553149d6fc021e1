"""Certificates for migrations, as furlough-host finds them: real ones, made by openssl."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from furlough.lab.certificates import Authority
from tests.host.machine import Machine
from tests.host.test_probing import probe, write


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Somebody who signs."""
    authority = Authority(directory=tmp_path_factory.mktemp("authority") / "own")
    authority.create("an authority")
    return authority


@pytest.fixture(scope="module")
def certified(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of certificates that work."""
    place = tmp_path_factory.mktemp("pki")
    shutil.copy(authority.certificate, place / "ca-cert.pem")
    for end in ("server", "client"):
        authority.sign("h1", place / f"{end}-cert.pem", place / f"{end}-key.pem")
    return place


def placed(machine: Machine, certified: Path, where: str = "etc/pki/qemu") -> Path:
    """The machine has these."""
    place = machine.root / where
    shutil.copytree(certified, place)
    return place


def means(machine: Machine) -> Any:
    """What the machine has, by its status."""
    return machine.ask("status").answer["migration_tls"]


def test_a_machine_with_certificates_that_work_names_whom_it_believes(
    machine: Machine, certified: Path
) -> None:
    placed(machine, certified)
    found = means(machine)
    assert found["trouble"] == ""
    assert [len(one) for one in found["authorities"]] == [64]


def test_two_machines_believe_the_same_authority_if_its_certificate_is_the_same(
    machine: Machine, certified: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Machine(tmp_path_factory.mktemp("other"))
    placed(machine, certified)
    placed(other, certified)
    assert means(machine) == means(other)
    stranger = Authority(directory=other.root / "stranger")
    stranger.create("an authority")
    shutil.copy(stranger.certificate, other.root / "etc/pki/qemu/ca-cert.pem")
    assert not set(means(machine)["authorities"]) & set(means(other)["authorities"])


def test_what_is_missing_is_named(machine: Machine, certified: Path) -> None:
    assert means(machine) == {
        "trouble": "/etc/pki/qemu has no ca-cert.pem, server-cert.pem, server-key.pem, "
        "client-cert.pem, client-key.pem",
        "authorities": [],
    }
    (placed(machine, certified) / "client-key.pem").unlink()
    assert means(machine)["trouble"] == "/etc/pki/qemu has no client-key.pem"


@pytest.mark.parametrize("setting", ["migrate_tls_x509_cert_dir", "default_tls_x509_cert_dir"])
def test_they_are_looked_for_where_libvirt_looks(
    machine: Machine, certified: Path, setting: str
) -> None:
    placed(machine, certified, "srv/pki")
    assert "has no" in means(machine)["trouble"]
    write(machine, "etc/libvirt/qemu.conf", f'# as it is\n{setting} = "/srv/pki"\n')
    assert means(machine)["trouble"] == ""


def test_a_key_of_another_certificate_is_found(machine: Machine, certified: Path) -> None:
    place = placed(machine, certified)
    shutil.copy(place / "client-key.pem", place / "server-key.pem")
    assert "server-cert.pem: KEY_VALUES_MISMATCH" in means(machine)["trouble"]


@pytest.mark.parametrize("end", ["server", "client"])
def test_a_certificate_of_a_stranger_is_found(machine: Machine, certified: Path, end: str) -> None:
    place = placed(machine, certified)
    stranger = Authority(directory=machine.root / "stranger")
    stranger.create("a stranger")
    stranger.sign("h1", place / f"{end}-cert.pem", place / f"{end}-key.pem")
    trouble = means(machine)["trouble"]
    assert trouble.startswith("the certificates in /etc/pki/qemu do not work: ")
    assert "issuer certificate" in trouble


def test_what_is_no_certificate_is_found(machine: Machine, certified: Path) -> None:
    place = placed(machine, certified)
    (place / "server-cert.pem").write_text("nothing of the kind\n")
    assert "server-cert.pem" in means(machine)["trouble"]
    (place / "ca-cert.pem").write_bytes(b"\xff\xfe")
    assert "cannot be read" in means(machine)["trouble"]


def test_keys_with_a_password_are_libvirts_to_open(
    machine: Machine, certified: Path, authority: Authority
) -> None:
    place = placed(machine, certified)
    (place / "server-key.pem").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert means(machine)["trouble"] != ""
    secret = 'migrate_tls_x509_secret_uuid = "8c2f0c3e-6a4f-4b35-a1c8-000000000000"\n'
    write(machine, "etc/libvirt/qemu.conf", secret)
    assert means(machine)["trouble"] == ""


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        ("migrate_tls_x509_verify = 0\n", True),
        ("default_tls_x509_verify = 0\n", True),
        ("default_tls_x509_verify = 0\nmigrate_tls_x509_verify = 1\n", False),
        ("migrate_tls_x509_verify = 1\n", False),
        ("#migrate_tls_x509_verify = 0\n", False),
    ],
)
def test_a_host_that_takes_migrations_from_anybody_says_so(
    machine: Machine, settings: str, is_open: bool
) -> None:
    write(machine, "etc/libvirt/qemu.conf", settings)
    found = probe(machine)["open_ports"]
    assert bool(found) == is_open
    assert all("TLS takes migrations from anybody: " in one for one in found)
