"""Who gets in: before anything is routed, parsed or looked up.

Whoever carries no valid token learns nothing here, not even which routes exist. The one open
route says that the daemon lives.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from furlough.api import problems
from furlough.errors import NotAllowed

LOCAL = "local"
_GUARDED = "/api/"
_OPEN = frozenset({"/api/v1/health"})
COOKIE = "furlough_session"
# What a page may ask for by its cookie alone: it changes nothing, so nobody can be tricked into it.
_READING = frozenset({"GET", "HEAD"})

# Who has this cookie; None where nobody has.
Sessions = Callable[[str], str | None]


class TokenGate:
    """Lets requests below /api/ through that carry the token, or only read and carry the cookie of
    a visit to the pages, and writes into their state who `caller` is. Until there are users, it is
    whoever has the local token."""

    def __init__(self, app: ASGIApp, token: str, sessions: Sessions | None = None) -> None:
        self._app = app
        self._token = token.encode()
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["path"].startswith(_GUARDED)
        if not guarded or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_known = self._is_known(headers.get("authorization", ""))
        caller = LOCAL if is_known else self._visitor(scope["method"], headers)
        if caller is None:
            refusal = problems.answer(unknown_caller())
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    def _visitor(self, method: str, headers: Headers) -> str | None:
        if self._sessions is None or method not in _READING or "authorization" in headers:
            return None
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        return None if cookie is None else self._sessions(cookie)

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
