"""HTTPS for the daemon: a certificate of its own, made at the first start, or the one it is given.

The one of its own is signed by itself. The commands of this machine believe it because its file is
named in the context; others have to be given the file, or the daemon a certificate that they
believe.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from furlough.errors import Invalid

_DAYS = "825"
_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A certificate with its key, both PEM files. `is_own`: it was made here."""

    certificate: Path
    key: Path
    is_own: bool = False


def given_identity(certificate: str, key: str) -> Identity:
    """The files that the settings name. `Invalid` where they cannot be used together."""
    found = Identity(certificate=Path(certificate), key=Path(key))
    try:
        server_context(found)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            "certificate.unusable",
            f"{certificate} and {key} cannot be used for HTTPS: {error.strerror or error}.",
            remedy="Name PEM files that belong together and that the daemon may read.",
        ) from error
    return found


def own_identity(directory: Path, address: str) -> Identity:
    """The certificate in the data directory, made if there is none; for this machine's names, and
    for the address that is listened on."""
    found = Identity(
        certificate=directory / "certificate.pem", key=directory / "key.pem", is_own=True
    )
    if not (found.certificate.exists() and found.key.exists()):
        _make(found, address)
    return found


def server_context(identity: Identity) -> ssl.SSLContext:
    """What a listener needs: TLS 1.2 or newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(identity.certificate, identity.key)
    return context


def _make(identity: Identity, address: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise Invalid(
            "certificate.no_openssl",
            "There is no certificate for HTTPS, and no openssl on this machine to make one.",
            remedy="Install openssl, or name your own: [server] certificate and key.",
        )
    draft = identity.key.with_suffix(".new")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    words = [
        *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", _DAYS, "-subj", "/CN=furlough"),
        *("-keyout", str(draft), "-out", str(identity.certificate)),
        *("-addext", f"subjectAltName={','.join(_names(address))}"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
        *("-addext", "extendedKeyUsage=serverAuth"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise Invalid(
            "certificate.not_made",
            f"openssl made no certificate: {done.stderr.strip()[-200:]}.",
            remedy="Name your own: [server] certificate and key.",
        )
    draft.rename(identity.key)


def _names(address: str) -> list[str]:
    """What a client may call this daemon."""
    names = ["DNS:localhost", "IP:127.0.0.1", "IP:::1"]
    names += [f"DNS:{name}" for name in (socket.gethostname(), socket.getfqdn()) if _is_name(name)]
    if address != "localhost" and not ipaddress.ip_address(address).is_unspecified:
        names.append(f"IP:{address}")
    return list(dict.fromkeys(names))


def _is_name(text: str) -> bool:
    """Whether it can stand in a certificate without meaning anything else there."""
    return text.isascii() and text.replace("-", "").replace(".", "").isalnum()
