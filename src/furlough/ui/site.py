"""The site: which pages there are, who gets in, how errors look, and what a browser may do here.

    request ─► Gate: who? ─► PagesInFront: a page? ─ yes ─► signed in? ─► form of ours? ─► handler
                                            └─ no ─► API       └─ no ─► /sign-in

No page is shown to anybody who is not signed in, and no GET changes anything.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from urllib.parse import quote

import structlog
from jinja2 import Environment
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from furlough.api.principal import (
    CSRF_FIELD,
    check_csrf,
    find_principal,
    is_same_origin,
)
from furlough.core.access import PrincipalKind
from furlough.errors import (
    Conflict,
    FurloughError,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Throttled,
    Unreachable,
)
from furlough.service import Service
from furlough.ui import (
    accounts,
    audit,
    dashboard,
    entering,
    exiting,
    hosts,
    operations,
    signing_in,
    vms,
)
from furlough.ui.forms import first, read_form, read_query
from furlough.ui.rendering import STATIC, make_environment, page_of
from furlough.ui.signing_in import Doorstep
from furlough.ui.visit import Asked, Handler, Routes

log = structlog.get_logger()

Endpoint = Callable[[Request], Awaitable[Response]]

_OURS = frozenset(
    {"", "hosts", "operations", "vms", "audit", "users", "account", "static"}
    | {"sign-in", "sign-out", "first-admin"}
)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_STATUS: Mapping[type[FurloughError], int] = {
    Invalid: 422,
    NotFound: 404,
    NotAllowed: 403,
    Refused: 409,
    Conflict: 409,
    Unreachable: 503,
    Throttled: 429,
}
EVERY_PAGE: tuple[Routes, ...] = (
    dashboard.ROUTES,
    hosts.ROUTES,
    entering.ROUTES,
    exiting.ROUTES,
    operations.ROUTES,
    vms.ROUTES,
    audit.ROUTES,
    accounts.ROUTES,
    signing_in.ROUTES,
)


def pages_over(service: Service) -> Callable[[ASGIApp], ASGIApp]:
    """What puts the pages in front of an API over the same service."""
    pages = Site(service).application()
    return lambda app: PagesInFront(app, pages)


class PagesInFront:
    """Sends requests for pages to the pages, all others on to the API behind."""

    def __init__(self, app: ASGIApp, pages: ASGIApp) -> None:
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].split("/")[1] not in _OURS:
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._pages(scope, receive, guarded)


class Site:
    """Every page, over one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._environment: Environment = make_environment()

    def application(self) -> ASGIApp:
        """The pages as an application of their own."""
        routes = [Route("/static/{name}", _static, methods=["GET"])]
        for (method, path), doorstep in signing_in.OPEN_ROUTES.items():
            routes.append(Route(path, self._open(doorstep), methods=[method]))
        for pages in EVERY_PAGE:
            for (method, path), handler in pages.items():
                routes.append(Route(path, self._guarded(handler), methods=[method]))
        return Starlette(routes=routes, exception_handlers={404: self._no_page, 405: self._no_page})

    def _open(self, handler: Callable[[Doorstep], Awaitable[Response]]) -> Endpoint:
        """A page for those who have not signed in yet; its forms come from this very site."""

        async def answer(request: Request) -> Response:
            is_form = request.method == "POST"
            try:
                if is_form and not is_same_origin(request.scope):
                    raise _forged()
                fields = await read_form(request) if is_form else read_query(request)
                doorstep = Doorstep(
                    request=request,
                    desk=self._service.desk,
                    environment=self._environment,
                    fields=fields,
                )
                return _fresh(await handler(doorstep))
            except FurloughError as error:
                return _fresh(self._failed(error, request, None))

        return answer

    def _guarded(self, handler: Handler) -> Endpoint:
        """The handler, for those who are signed in and, where it changes something, have sent a
        form of ours."""

        async def answer(request: Request) -> Response:
            asked = self._asked(request)
            if asked is None:
                return _fresh(_to_sign_in(request))
            try:
                is_form = request.method == "POST"
                fields = await read_form(request) if is_form else read_query(request)
                if is_form:
                    check_csrf(request, first(fields, CSRF_FIELD) or None)
                return _fresh(await handler(replace(asked, fields=fields)))
            except FurloughError as error:
                return _fresh(self._failed(error, request, asked))
            except Exception:  # one page's bug stays its own
                log.exception("bug in a page", path=request.url.path)
                return _fresh(self._failed(_bug(), request, asked))

        return answer

    def _asked(self, request: Request) -> Asked | None:
        """The request of somebody who is signed in; None where nobody is. A token opens no page:
        it has no forms."""
        principal = find_principal(request)
        if principal is None or principal.kind is not PrincipalKind.SESSION:
            return None
        return Asked(
            request=request,
            service=self._service.of(principal),
            environment=self._environment,
            principal=principal,
        )

    def _failed(self, error: FurloughError, request: Request, asked: Asked | None) -> Response:
        status = next((_STATUS[one] for one in type(error).__mro__ if one in _STATUS), 500)
        text = self._environment.get_template(page_of("error")).render(
            template="error",
            error=error,
            status=status,
            findings=error.facts.get("findings") or (),
            operation=error.facts.get("operation"),
            back=request.url.path if asked else "/sign-in",
            visit=asked.visit if asked else None,
            path=request.url.path,
        )
        return HTMLResponse(text, status_code=status)

    async def _no_page(self, request: Request, error: Exception) -> Response:
        asked = self._asked(request)
        if asked is None:
            return _fresh(_to_sign_in(request))
        missing = NotFound(
            "page.unknown",
            "There is no such page.",
            remedy="Begin at the dashboard; what you looked for may have another address.",
        )
        answer = self._failed(missing, request, asked)
        answer.status_code = error.status_code if isinstance(error, HTTPException) else 404
        return _fresh(answer)


def _to_sign_in(request: Request) -> Response:
    """To the sign-in page, and from there back; scripts are told by status."""
    if request.headers.get("x-furlough-live"):
        return Response(status_code=401)
    path = request.url.path
    query = f"?{request.url.query}" if request.url.query else ""
    then = quote(path + query, safe="") if request.method == "GET" and path != "/" else ""
    return RedirectResponse(f"/sign-in{f'?next={then}' if then else ''}", status_code=303)


async def _static(request: Request) -> Response:
    """A file of ours. Its address changes with it, so a browser may keep it."""
    path = STATIC / request.path_params["name"]
    if path.parent != STATIC or not path.is_file():
        raise HTTPException(404)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    headers = {"Cache-Control": "max-age=31536000, immutable"}
    return Response(path.read_bytes(), media_type=kind, headers=headers)


def _fresh(answer: Response) -> Response:
    """What is on a page is of this moment and this visitor: nobody keeps it."""
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _forged() -> NotAllowed:
    return NotAllowed(
        "request.forged",
        "The form was sent from a page of another site, so nothing was done.",
        remedy="Sign in on the page of this daemon.",
    )


def _bug() -> FurloughError:
    return FurloughError(
        "bug",
        "A bug of ours kept this page from being made; what was asked may have happened.",
        remedy="Look at the operations before you repeat what you did, and report it with the "
        "daemon's log.",
    )
