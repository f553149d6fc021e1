"""One-time codes that open the pages: made by whoever has the local token, checked by the daemon.

    code = until . nonce . HMAC(token, until . nonce)

The token itself stays out of addresses, which browsers keep. Nothing has to be stored until a code
is used; from then on the daemon remembers it until it would be over anyway.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta

from furlough.context import Context

LASTS = timedelta(minutes=10)


def address(context: Context, now: datetime) -> str:
    """Where a browser begins a visit: the sign-in page of this daemon, with a code."""
    return f"{context.url}/sign-in?code={make_code(context.token, now)}"


def make_code(token: str, now: datetime) -> str:
    """A code that opens one visit within the next minutes."""
    said = f"{int((now + LASTS).timestamp())}.{secrets.token_urlsafe(16)}"
    return f"{said}.{_seal(token, said)}"


def until(token: str, code: str) -> datetime | None:
    """The instant at which this code is over; None where it was not made with this token."""
    said, _, seal = code.rpartition(".")
    if not token or not hmac.compare_digest(seal.encode(), _seal(token, said).encode()):
        return None
    return datetime.fromtimestamp(int(said.partition(".")[0]), UTC)


def _seal(token: str, said: str) -> str:
    key = f"sign-in of furlough: {token}".encode()
    return hmac.new(key, said.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
