"""Who gets in: before anything is routed, parsed or looked up.

Whoever carries no valid token learns nothing here, not even which routes exist. The one open
route says that the daemon lives.
"""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from furlough.api import problems
from furlough.errors import NotAllowed

LOCAL = "local"
_GUARDED = "/api/"
_OPEN = frozenset({"/api/v1/health"})


class TokenGate:
    """Lets requests below /api/ through that carry the token, and writes into their state who
    `caller` is. Until there are users, it is whoever has the local token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["path"].startswith(_GUARDED)
        if not guarded or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        if not self._is_known(Headers(scope=scope).get("authorization", "")):
            refusal = problems.answer(unknown_caller())
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = LOCAL
        await self._app(scope, receive, send)

    def _is_known(self, header: str) -> bool:
        scheme, _, given = header.partition(" ")
        # Compared even where the scheme is wrong: the time says nothing about the token.
        is_equal = hmac.compare_digest(given.strip().encode(), self._token)
        return is_equal and scheme.lower() == "bearer" and bool(self._token)


def unknown_caller() -> NotAllowed:
    """The refusal, the same whatever was asked for."""
    return NotAllowed(
        "caller.unknown",
        "The request carries no valid token.",
        remedy="Use the context that `furlough serve` wrote, or set FURLOUGH_TOKEN.",
    )
