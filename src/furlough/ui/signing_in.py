"""Signing in and out, the first administrator, and one's own password."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from furlough.access.desk import Caller, Desk, SignedIn
from furlough.api.principal import set_session_cookie
from furlough.errors import FurloughError, Invalid, NotAllowed, Throttled
from furlough.ui.forms import Fields, first
from furlough.ui.rendering import page_of
from furlough.ui.visit import Asked, Routes

_SEE_OTHER = 303


@dataclass(frozen=True, kw_only=True)
class Doorstep:
    """A request of somebody who has not signed in yet."""

    request: Request
    desk: Desk
    environment: Environment
    fields: Fields

    def said(self, name: str) -> str:
        """The first value of a field."""
        return first(self.fields, name)

    @property
    def caller(self) -> Caller:
        """Where the request comes from, as the gate has noted it."""
        caller: Caller = self.request.state.caller
        return caller

    def render(self, template: str, *, status: int, **context: Any) -> Response:
        """A page from a template, for nobody in particular."""
        text = self.environment.get_template(page_of(template)).render(
            template=template, visit=None, **context
        )
        return HTMLResponse(text, status_code=status)

    def let_in(self, signed_in: SignedIn) -> Response:
        """On to where they wanted to go."""
        answer = RedirectResponse(_inside(self.said("next")), status_code=_SEE_OTHER)
        set_session_cookie(self.request, answer, signed_in.cookie)
        return answer


async def show_sign_in(asked: Doorstep) -> Response:
    """The form."""
    return _form(asked, None)


async def sign_in(asked: Doorstep) -> Response:
    """Open a session."""
    try:
        password = _secret(asked, "password")
        found = await asked.desk.sign_in(asked.said("name"), password, asked.caller)
    except (NotAllowed, Throttled) as error:
        return _form(asked, error)
    return asked.let_in(found)


def _form(asked: Doorstep, trouble: FurloughError | None) -> Response:
    status = 200 if trouble is None else 429 if isinstance(trouble, Throttled) else 403
    return asked.render(
        "sign-in",
        status=status,
        then=_inside(asked.said("next")),
        name=asked.said("name"),
        trouble=trouble,
        path="/sign-in",
    )


async def show_first_admin(asked: Doorstep) -> Response:
    """The form; the secret may stand in the address that the daemon has shown."""
    return _first_form(asked, None)


async def make_first_admin(asked: Doorstep) -> Response:
    """Make the first user, and sign them in."""
    try:
        _check_repeated(_secret(asked, "password"), _secret(asked, "again"))
        found = await asked.desk.make_first_admin(
            asked.said("secret"), asked.said("name"), _secret(asked, "password"), asked.caller
        )
    except (Invalid, NotAllowed, Throttled) as error:
        return _first_form(asked, error)
    return asked.let_in(found)


def _first_form(asked: Doorstep, trouble: FurloughError | None) -> Response:
    return asked.render(
        "first-admin",
        status=200 if trouble is None else 422 if isinstance(trouble, Invalid) else 403,
        secret=asked.said("secret"),
        name=asked.said("name") or "admin",
        trouble=trouble,
        path="/first-admin",
    )


async def sign_out(asked: Asked) -> Response:
    """The session is over."""
    await asked.service.desk.sign_out(asked.principal)
    answer = RedirectResponse("/sign-in", status_code=_SEE_OTHER)
    set_session_cookie(asked.request, answer, "")
    return answer


async def show_account(asked: Asked) -> Response:
    """Who one is, what one may do, and one's password."""
    return _account(asked, None)


async def change_password(asked: Asked) -> Response:
    """A new password; all of one's sessions end, so one signs in anew."""
    try:
        new = _secret(asked, "new")
        _check_repeated(new, _secret(asked, "again"))
        await asked.service.accounts.change_password(_secret(asked, "old"), new)
    except (Invalid, NotAllowed) as error:
        return _account(asked, error)
    answer = RedirectResponse("/sign-in", status_code=_SEE_OTHER)
    set_session_cookie(asked.request, answer, "")
    return answer


def _account(asked: Asked, trouble: FurloughError | None) -> Response:
    return asked.render(
        "account",
        status=200 if trouble is None else 422,
        principal=asked.principal,
        trouble=trouble,
    )


def _secret(asked: Doorstep | Asked, name: str) -> str:
    """A secret as it was typed: blanks count."""
    return next(iter(asked.fields.get(name, ())), "")


def _check_repeated(password: str, again: str) -> None:
    if password != again:
        raise Invalid(
            "password.differs",
            "The two passwords are not the same.",
            remedy="Type the new one twice.",
        )


def _inside(path: str) -> str:
    """Where to go after signing in: a page of this site and nothing else."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours and "\\" not in path else "/"


OPEN_ROUTES = {
    ("GET", "/sign-in"): show_sign_in,
    ("POST", "/sign-in"): sign_in,
    ("GET", "/first-admin"): show_first_admin,
    ("POST", "/first-admin"): make_first_admin,
}
ROUTES: Routes = {
    ("POST", "/sign-out"): sign_out,
    ("GET", "/account"): show_account,
    ("POST", "/account/password"): change_password,
}
