"""Signing in and out, and who one is."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from furlough.access.desk import Caller, SignedIn
from furlough.api.calling import TheService
from furlough.api.json_body import StrictRoute
from furlough.api.principal import ThePrincipal, csrf_token, set_session_cookie
from furlough.core.access import PrincipalKind
from furlough.service import Service
from furlough.wire.access import (
    FirstAdminBody,
    PasswordBody,
    SessionView,
    SignInBody,
    session_view,
)

router = APIRouter(route_class=StrictRoute)


@router.post("/session", status_code=201)
async def sign_in(body: SignInBody, request: Request, response: Response) -> SessionView:
    """Sign in: the answer sets the session's cookie. After several failures the next try has to
    wait (`429`)."""
    desk = _service(request).desk
    return _let_in(
        await desk.sign_in(body.name, body.password, _caller(request)), request, response
    )


@router.post("/first-admin", status_code=201)
async def make_first_admin(
    body: FirstAdminBody, request: Request, response: Response
) -> SessionView:
    """Make the first user, who may do everything, with the secret that the daemon has shown at
    its start; and sign them in."""
    desk = _service(request).desk
    made = await desk.make_first_admin(body.secret, body.name, body.password, _caller(request))
    return _let_in(made, request, response)


def _service(request: Request) -> Service:
    """The daemon's own: nobody has shown who they are yet."""
    service: Service = request.app.state.service
    return service


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def _let_in(signed_in: SignedIn, request: Request, response: Response) -> SessionView:
    set_session_cookie(request, response, signed_in.cookie)
    response.headers["Cache-Control"] = "no-store"
    return session_view(signed_in.principal, signed_in.csrf_token)


@router.get("/session")
async def show_session(
    principal: ThePrincipal, request: Request, response: Response
) -> SessionView:
    """Who calls, and what they may do."""
    response.headers["Cache-Control"] = "no-store"
    is_session = principal.kind is PrincipalKind.SESSION
    return session_view(principal, csrf_token(request) if is_session else None)


@router.delete("/session", status_code=204)
async def sign_out(principal: ThePrincipal, request: Request) -> Response:
    """End this session. For whoever carries a token, nothing changes."""
    await _service(request).desk.sign_out(principal)
    response = Response(status_code=204)
    if principal.kind is PrincipalKind.SESSION:
        set_session_cookie(request, response, "")
    return response


@router.post("/session/password", status_code=204)
async def change_password(body: PasswordBody, service: TheService) -> Response:
    """Change one's own password; all of one's sessions end."""
    await service.accounts.change_password(body.old, body.new)
    return Response(status_code=204)
