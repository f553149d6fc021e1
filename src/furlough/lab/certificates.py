"""Certificates of a lab: one authority of its own, and for every host those for migrations. Made by
`openssl`, kept in the lab's directory, gone with it.

    authority ──┬── h1   etc-pki/qemu   server and client, by its name: addresses are not in them
                └── h2   etc-pki/qemu
"""

from dataclasses import dataclass
from pathlib import Path

from furlough.lab.blueprint import Blueprint, HostPlan
from furlough.lab.command import run

_DAYS = "30"


@dataclass(frozen=True, kw_only=True)
class Authority:
    """Who signs: the files `ca-cert.pem` and `ca-key.pem` in a directory."""

    directory: Path

    @property
    def certificate(self) -> Path:
        """What everybody believes."""
        return self.directory / "ca-cert.pem"

    @property
    def key(self) -> Path:
        """What nobody but us has."""
        return self.directory / "ca-key.pem"

    def create(self, name: str) -> None:
        """Make it."""
        self.directory.mkdir(mode=0o700, parents=True)
        _certify(name, self.certificate, self.key)

    def sign(self, name: str, certificate: Path, key: Path) -> None:
        """A key, and a certificate that bears this name. Replaces what is there."""
        _certify(
            name,
            certificate,
            key,
            *("-CA", str(self.certificate), "-CAkey", str(self.key)),
            *("-addext", f"subjectAltName=DNS:{name}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-addext", "keyUsage=digitalSignature"),
            *("-addext", "extendedKeyUsage=serverAuth,clientAuth"),
        )


def authority_of(blueprint: Blueprint) -> Authority:
    """The authority of a lab."""
    return Authority(directory=blueprint.site.directory / "authority")


def furnish(blueprint: Blueprint, host: HostPlan, directory: Path) -> None:
    """Write the certificates for migrations below a host's /etc/pki."""
    authority = authority_of(blueprint)
    place = directory / "qemu"
    place.mkdir(parents=True)
    (place / "ca-cert.pem").write_bytes(authority.certificate.read_bytes())
    for end in ("server", "client"):
        authority.sign(host.name, place / f"{end}-cert.pem", place / f"{end}-key.pem")


def _certify(name: str, certificate: Path, key: Path, *words: str) -> None:
    """A new key of an elliptic curve, and a certificate for it."""
    run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", _DAYS),
            *("-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)),
            *words,
        ]
    )
