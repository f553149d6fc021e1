"""The site: which pages there are, who gets in, how errors look, and what a browser may do here.

    request ──► PagesInFront ──► a page of ours? ── yes ─► signed in? ─► form of ours? ─► handler
                                  └─ no ─► the API                └─ no ─► /sign-in

No page is shown to anybody who is not signed in, and no GET changes anything.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from urllib.parse import quote

import structlog
from fastapi import FastAPI
from jinja2 import Environment
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from furlough.errors import (
    Conflict,
    FurloughError,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Unreachable,
)
from furlough.service import Service
from furlough.ui import dashboard, entering, exiting, hosts, operations, vms
from furlough.ui.forms import check_own, first, read_form, read_query
from furlough.ui.rendering import STATIC, make_environment
from furlough.ui.visit import Asked, Handler, Routes
from furlough.ui.visitors import IDLE_ENDS, Visitors

log = structlog.get_logger()

COOKIE = "furlough_session"
_OURS = frozenset({"", "hosts", "operations", "vms", "static", "sign-in", "sign-out"})
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
}
_EVERY_PAGE: tuple[Routes, ...] = (
    dashboard.ROUTES,
    hosts.ROUTES,
    entering.ROUTES,
    exiting.ROUTES,
    operations.ROUTES,
    vms.ROUTES,
)


def install(app: FastAPI, service: Service, visitors: Visitors) -> None:
    """From now on this application shows pages too, to whoever is signed in."""
    app.add_middleware(PagesInFront, pages=Site(service, visitors).application())


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
    """Every page, over one service, for these visitors."""

    def __init__(self, service: Service, visitors: Visitors) -> None:
        self._service = service
        self._visitors = visitors
        self._environment: Environment = make_environment()

    def application(self) -> ASGIApp:
        """The pages as an application of their own."""
        routes = [
            Route("/static/{name}", _static, methods=["GET"]),
            Route("/sign-in", self._show_sign_in, methods=["GET"]),
            Route("/sign-in", self._sign_in, methods=["POST"]),
            Route("/sign-out", self._guarded(self._sign_out), methods=["POST"]),
        ]
        for pages in _EVERY_PAGE:
            for (method, path), handler in pages.items():
                routes.append(Route(path, self._guarded(handler), methods=[method]))
        return Starlette(routes=routes, exception_handlers={404: self._no_page, 405: self._no_page})

    # --- signing in -----------------------------------------------------------------------------

    async def _show_sign_in(self, request: Request) -> Response:
        """The form; a code in the address waits in it until somebody presses the button."""
        fields = read_query(request)
        return self._sign_in_page(first(fields, "code"), first(fields, "next"), status=200)

    async def _sign_in(self, request: Request) -> Response:
        try:
            fields = await read_form(request)
        except FurloughError as error:
            return self._failed(error, None)
        cookie = self._visitors.enter(first(fields, "secret"))
        if cookie is None:
            log.warning("sign-in refused", address=request.client.host if request.client else "")
            return self._sign_in_page("", first(fields, "next"), status=403, is_wrong=True)
        answer = RedirectResponse(_inside(first(fields, "next")), status_code=303)
        answer.set_cookie(
            COOKIE,
            cookie,
            max_age=int(IDLE_ENDS.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def _sign_out(self, asked: Asked) -> Response:
        self._visitors.leave(asked.request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/sign-in", status_code=303)
        answer.delete_cookie(COOKIE)
        return answer

    def _sign_in_page(
        self, code: str, then: str, *, status: int, is_wrong: bool = False
    ) -> Response:
        text = self._environment.get_template("sign-in.html").render(
            code=code, then=_inside(then), is_wrong=is_wrong, visit=None
        )
        return _fresh(HTMLResponse(text, status_code=status))

    # --- every other page -----------------------------------------------------------------------

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """The handler, for those who are signed in and, where it changes something, have sent a
        form of ours."""

        async def answer(request: Request) -> Response:
            visit = self._visitors.visit(request.cookies.get(COOKIE, ""))
            if visit is None:
                return _fresh(self._to_sign_in(request))
            asked = Asked(
                request=request, service=self._service, environment=self._environment, visit=visit
            )
            try:
                is_form = request.method == "POST"
                fields = await read_form(request) if is_form else read_query(request)
                if is_form:
                    check_own(request, fields, visit.csrf_token)
                return _fresh(await handler(replace(asked, fields=fields)))
            except FurloughError as error:
                return _fresh(self._failed(error, asked))
            except Exception:  # one page's bug stays its own
                log.exception("bug in a page", path=request.url.path)
                return _fresh(self._failed(_bug(), asked))

        return answer

    def _to_sign_in(self, request: Request) -> Response:
        """To the sign-in page, and from there back; scripts are told by status."""
        if request.headers.get("x-furlough-live"):
            return Response(status_code=401)
        path = request.url.path
        query = f"?{request.url.query}" if request.url.query else ""
        then = quote(path + query, safe="") if request.method == "GET" and path != "/" else ""
        return RedirectResponse(f"/sign-in{f'?next={then}' if then else ''}", status_code=303)

    def _failed(self, error: FurloughError, asked: Asked | None) -> Response:
        status = next((_STATUS[one] for one in type(error).__mro__ if one in _STATUS), 500)
        text = self._environment.get_template("error.html").render(
            error=error,
            status=status,
            findings=error.facts.get("findings") or (),
            operation=error.facts.get("operation"),
            back=asked.request.url.path if asked else "/",
            visit=asked.visit if asked else None,
            path=asked.request.url.path if asked else "",
        )
        return HTMLResponse(text, status_code=status)

    async def _no_page(self, request: Request, error: Exception) -> Response:
        visit = self._visitors.visit(request.cookies.get(COOKIE, ""))
        if visit is None:
            return _fresh(self._to_sign_in(request))
        status = error.status_code if isinstance(error, HTTPException) else 404
        asked = Asked(
            request=request, service=self._service, environment=self._environment, visit=visit
        )
        missing = NotFound(
            "page.unknown",
            "There is no such page.",
            remedy="Begin at the dashboard; what you looked for may have another address.",
        )
        answer = self._failed(missing, asked)
        answer.status_code = status
        return _fresh(answer)


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


def _inside(path: str) -> str:
    """Where to go after signing in: a page of this site and nothing else."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"


def _bug() -> FurloughError:
    return FurloughError(
        "bug",
        "A bug of ours kept this page from being made; what was asked may have happened.",
        remedy="Look at the operations before you repeat what you did, and report it with the "
        "daemon's log.",
    )
