"""Where the daemon is and how to speak to it: a small file of the user's, or the environment."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from furlough.errors import Invalid, Unreachable

_PLAIN_URL = re.compile(r"[!-~]+")
_PLAIN_TOKEN = re.compile(r"[!-~]{1,4096}")


@dataclass(frozen=True, kw_only=True)
class Context:
    """The daemon's address and a token for it. `certificate`: a file with the certificate that it
    has to show, empty for whatever the usual authorities have signed."""

    url: str
    token: str
    certificate: str = ""


def context_path() -> Path:
    """The file that `serve`, `demo` and `lab up` write."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config) / "furlough" / "context.json"


def load_context() -> Context:
    """FURLOUGH_URL, FURLOUGH_TOKEN and FURLOUGH_CERTIFICATE if they are set, else what the file
    says.

    `Unreachable` where neither names a daemon, `Invalid` where what they say cannot be used. The
    token of the file is for the daemon of the file: no other address is given it.
    """
    url, token = os.environ.get("FURLOUGH_URL", ""), os.environ.get("FURLOUGH_TOKEN", "")
    certificate = os.environ.get("FURLOUGH_CERTIFICATE", "")
    known = _known()
    is_known = known is not None and url.rstrip("/") in ("", known.url)
    if known is not None and is_known:
        certificate = certificate or known.certificate
    if url and token:
        return _checked(url, token, certificate, "FURLOUGH_URL and FURLOUGH_TOKEN")
    if known is not None and is_known:
        return _checked(known.url, token or known.token, certificate, str(context_path()))
    if url:
        raise Unreachable(
            "daemon.unknown",
            f"FURLOUGH_URL names the daemon at {url}, but there is no token for it.",
            remedy="Set FURLOUGH_TOKEN too: it is in the file `token` of the daemon's data "
            "directory.",
        )
    raise Unreachable(
        "daemon.unknown",
        "No daemon is known on this machine.",
        remedy="Start one (furlough serve, furlough lab up), or set FURLOUGH_URL and "
        "FURLOUGH_TOKEN.",
    )


def _known() -> Context | None:
    """What the file says; None where there is none, or it is not ours."""
    try:
        known = json.loads(context_path().read_text(encoding="utf-8"))
        said = known["url"], known["token"], known.get("certificate", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not all(isinstance(one, str) for one in said):
        return None
    url, token, certificate = said
    return Context(url=url, token=token, certificate=certificate)


def _checked(url: str, token: str, certificate: str, where: str) -> Context:
    """A context that can be used: an address without query, a token that fits into a header."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not _PLAIN_URL.fullmatch(url) or parts.query or parts.fragment:
        raise Invalid(
            "context.url",
            f"{url!r} is no address of a daemon (from {where}).",
            remedy="Give one such as http://127.0.0.1:8642.",
        )
    if not _PLAIN_TOKEN.fullmatch(token):
        raise Invalid(
            "context.token",
            f"The token has characters that no token of ours has (from {where}).",
            remedy="Copy it again from the file `token` of the daemon's data directory.",
        )
    return Context(url=url.rstrip("/"), token=token, certificate=certificate)


def save_context(context: Context) -> None:
    """Write the file, readable by its owner alone. `Invalid` where it cannot be written."""
    path = context_path()
    draft = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(context), file)
        draft.rename(path)
    except OSError as error:
        raise Invalid(
            "context.unwritable",
            f"{path} cannot be written: {error.strerror}.",
            remedy="Name another directory for it in XDG_CONFIG_HOME.",
        ) from error


def forget_context(context: Context) -> None:
    """Remove the file if it still speaks of this daemon."""
    if _known() == context:
        with contextlib.suppress(OSError):
            context_path().unlink()
