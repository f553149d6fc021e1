"""Who is calling, for routes and pages: the one place that reads a request's credentials.

    Authorization: Bearer TOKEN      the local token, or an API token
    Cookie: furlough_session=...     somebody who has signed in (over TLS: __Host-furlough_session)

The gate fills in `request.state.principal`; routes take it with `ThePrincipal`. A request that
changes something and carries a cookie shows besides that a page of ours has sent it: the header
`X-CSRF-Token`, or the form field `csrf_token`, and an Origin that is our own.
"""

from __future__ import annotations

import hmac
import uuid
from http.cookies import CookieError, SimpleCookie
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from furlough.access.credentials import csrf_token_of
from furlough.access.desk import LONGEST_S, Caller, local_principal
from furlough.core.access import Principal, PrincipalKind
from furlough.errors import NotAllowed
from furlough.service import Service

SESSION_COOKIE = "furlough_session"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(
    auto_error=False,
    description="The token that `furlough serve` wrote, or one made by `furlough token add`.",
)


# --- for routes and pages ------------------------------------------------------------------------


def get_principal(
    request: Request,
    _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """Whoever calls, as the gate found them; a request that passed no gate is nobody's. The
    credentials stand here for the schema alone."""
    principal = find_principal(request)
    if principal is None:
        raise unknown_caller()
    return principal


def find_principal(request: Request) -> Principal | None:
    """Whoever calls; None where nobody has shown who they are: a page sends them to sign in."""
    principal = getattr(request.state, "principal", None)
    return principal if isinstance(principal, Principal) else None


ThePrincipal = Annotated[Principal, Depends(get_principal)]


def csrf_token(request: Request) -> str:
    """What a page gives its forms and scripts, for the session that asks for the page; empty
    where there is none."""
    cookie = cookie_of(request.scope)
    return csrf_token_of(cookie) if cookie else ""


def check_csrf(request: Request, given: str | None) -> None:
    """`NotAllowed` unless a page of ours has sent this: `given` is what its form field or its
    header says. Whoever carries a token instead of a cookie need not show it."""
    check_origin(request.scope, given)


def set_session_cookie(request: Request, response: Response, cookie: str) -> None:
    """Let the browser keep a session; an empty one: forget it."""
    is_secure = request.scope.get("scheme") == "https"
    response.set_cookie(
        cookie_name(request.scope),
        cookie,
        max_age=int(LONGEST_S) if cookie else 0,
        path="/",
        secure=is_secure,
        httponly=True,
        samesite="strict",
    )


# --- for the gate --------------------------------------------------------------------------------


def cookie_name(scope: Scope) -> str:
    """Over TLS a name that browsers take from this very host alone; plain HTTP, which is spoken on
    loopback only, cannot have that."""
    return f"__Host-{SESSION_COOKIE}" if scope.get("scheme") == "https" else SESSION_COOKIE


def cookie_of(scope: Scope) -> str:
    """The session's secret, empty where the request has none."""
    try:
        found = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(cookie_name(scope))
    except CookieError:
        return ""
    return found.value if found is not None else ""


def caller_of(scope: Scope) -> Caller:
    """Where a request comes from, and a name for it. What it says of itself (X-Forwarded-For) is
    not believed."""
    client = scope.get("client")
    return Caller(address=str(client[0])[:63] if client else "", request=uuid.uuid4().hex)


async def principal_of(
    scope: Scope, caller: Caller, local_token: str, service: Service
) -> Principal | None:
    """Whoever has sent this request, by its token or, without one, by its cookie."""
    headers = Headers(scope=scope)
    header = headers.get("authorization")
    if header is not None:
        scheme, _, given = header.partition(" ")
        given = given.strip()
        # Compared even where the scheme is wrong: the time says nothing about the token.
        is_local = bool(local_token) and hmac.compare_digest(given.encode(), local_token.encode())
        if scheme.lower() != "bearer":
            return None
        return local_principal(caller) if is_local else await service.desk.by_token(given, caller)
    cookie = cookie_of(scope)
    return await service.desk.by_cookie(cookie, caller) if cookie else None


async def principal_again(request: Request) -> Principal | None:
    """Who has sent this request, asked anew: None where their token or session opens nothing any
    more."""
    caller, state = request.state.caller, request.app.state
    return await principal_of(request.scope, caller, state.token, state.service)


def check_origin(scope: Scope, given: str | None) -> None:
    """`NotAllowed` where a request by cookie changes something and is not known to come from a
    page of ours."""
    principal = scope.get("state", {}).get("principal")
    is_by_cookie = isinstance(principal, Principal) and principal.kind is PrincipalKind.SESSION
    if scope["method"] in _SAFE or not is_by_cookie:
        return
    wanted = csrf_token_of(cookie_of(scope))
    if not hmac.compare_digest((given or "").encode(), wanted.encode()):
        raise _forged(f"without the {CSRF_HEADER} of its session")
    if not is_same_origin(scope):
        raise _forged("from a page of another origin")


def is_same_origin(scope: Scope) -> bool:
    """Whether the browser says that a page of ours has sent this; what no browser sent says
    nothing of it, and is believed."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    parts = urlsplit(origin)
    return (parts.scheme, parts.netloc) == (scope.get("scheme"), headers.get("host", ""))


def _forged(how: str) -> NotAllowed:
    return NotAllowed(
        "request.forged",
        f"The request came {how}, so it may have been made without its user's knowledge.",
        remedy="Load the page anew and try again; programs use a token: furlough token add.",
    )


def unknown_caller() -> NotAllowed:
    """The refusal, the same whatever was asked for."""
    return NotAllowed(
        "caller.unknown",
        "The request carries no valid token.",
        remedy="Use the context that `furlough serve` wrote, or set FURLOUGH_TOKEN.",
    )
