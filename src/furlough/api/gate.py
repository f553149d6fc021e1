"""Who gets in: before anything is routed, parsed or looked up.

Whoever has not shown who they are learns nothing below /api/, not even which routes exist. Three
routes are open: that the daemon lives, signing in, and making the first administrator. Pages are
let through without a principal: they send people to sign in.
"""

from __future__ import annotations

import asyncio

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from furlough.api import problems
from furlough.api.limits import Limiter
from furlough.api.principal import (
    CSRF_HEADER,
    caller_of,
    check_origin,
    is_same_origin,
    principal_of,
    unknown_caller,
)
from furlough.errors import FurloughError, NotAllowed
from furlough.service import Service

_GUARDED = "/api/"
_OPEN = frozenset(
    {
        ("GET", "/api/v1/health"),
        ("HEAD", "/api/v1/health"),
        ("POST", "/api/v1/session"),
        ("POST", "/api/v1/first-admin"),
    }
)


class Gate:
    """Finds out who calls and writes it into the request's state: `caller` (where from, and the
    name of the request) and, where somebody has shown who they are, `principal`."""

    def __init__(self, app: ASGIApp, service: Service, token: str, limiter: Limiter) -> None:
        self._app = app
        self._limiter = limiter
        self._service = service
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = caller_of(scope)
        state = scope.setdefault("state", {})
        state["caller"] = caller

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = caller.request
                headers["X-Content-Type-Options"] = "nosniff"
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        try:
            await self._let_in(scope)
        except FurloughError as error:
            await problems.answer(error)(scope, receive, named)
            return
        with structlog.contextvars.bound_contextvars(request=caller.request):
            await self._app(scope, receive, named)

    async def _let_in(self, scope: Scope) -> None:
        """Raises the refusal, if it is one."""
        is_guarded = scope["path"].startswith(_GUARDED)
        is_open = (scope["method"], scope["path"]) in _OPEN
        caller = scope["state"]["caller"]
        principal = await principal_of(scope, caller, self._token, self._service)
        if is_guarded:
            now_s = asyncio.get_running_loop().time()
            self._limiter.admit(principal, caller.address, now_s)
        if principal is None:
            if is_guarded and not is_open:
                raise unknown_caller()
        else:
            scope["state"]["principal"] = principal
        if is_open and not is_same_origin(scope):
            raise NotAllowed(
                "request.forged",
                "The request came from a page of another origin.",
                remedy="Sign in on a page of this daemon.",
            )
        if is_guarded and not is_open:
            check_origin(scope, Headers(scope=scope).get(CSRF_HEADER))
