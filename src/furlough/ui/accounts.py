"""Users and API tokens: who there is, what was granted to them, the secrets of programs. A token
is shown once, on the page that answers its making.
"""

from __future__ import annotations

from starlette.responses import Response

from furlough.core.access import Grant, Privilege, parse_privileges, parse_scope
from furlough.errors import Invalid
from furlough.service.accounts import NewToken
from furlough.ui.visit import Asked, Routes, go_to

_DAY_S = 86_400


async def show(asked: Asked) -> Response:
    """Users, for whoever manages them, and tokens."""
    return await _shown(asked, None)


async def _shown(asked: Asked, made: NewToken | None) -> Response:
    accounts = asked.service.accounts
    manages = asked.visit.manages_users
    return asked.render(
        "users",
        users=await accounts.users() if manages else [],
        roles=sorted((await accounts.roles()).values(), key=lambda role: role.name),
        tokens=sorted(await accounts.tokens(), key=lambda token: token.created_at, reverse=True),
        privileges=[one.value for one in Privilege if one is not Privilege.MANAGE_USERS],
        made=made,
    )


async def add_user(asked: Asked) -> Response:
    """A new user, with a role."""
    role, scope = asked.said("role"), asked.said("scope") or "all"
    password = next(iter(asked.fields.get("password", ())), "")
    await asked.service.accounts.add(
        asked.said("name"), password or None, [(role, parse_scope(scope))] if role else []
    )
    return go_to("/users")


async def grant(asked: Asked) -> Response:
    """A user has a role from now on."""
    await asked.service.accounts.grant(_grant_of(asked))
    return go_to("/users")


async def revoke(asked: Asked) -> Response:
    """Not any more."""
    await asked.service.accounts.revoke(_grant_of(asked))
    return go_to("/users")


def _grant_of(asked: Asked) -> Grant:
    return Grant(
        user=_name(asked), role=asked.said("role"), scope=parse_scope(asked.said("scope") or "all")
    )


async def enable(asked: Asked) -> Response:
    """Whether a user may come in."""
    await asked.service.accounts.set(
        _name(asked), password=None, is_enabled=asked.said("enabled") == "yes"
    )
    return go_to("/users")


async def remove(asked: Asked) -> Response:
    """A user is no more, nor are their tokens and sessions."""
    if asked.said("sure") != "yes":
        raise Invalid(
            "user.not_sure",
            "The box was not ticked, so nobody was removed.",
            remedy="Tick it to remove the user.",
        )
    await asked.service.accounts.remove(_name(asked))
    return go_to("/users")


def _name(asked: Asked) -> str:
    return str(asked.request.path_params["user"])


async def add_token(asked: Asked) -> Response:
    """A token; the answer shows it, this once."""
    text = asked.said("days", "30")
    if not (text.isascii() and text.isdigit() and len(text) < 5):
        raise Invalid(
            "token.expiry", f"{text[:20]!r} is no number of days.", remedy="Give 1 to 366."
        )
    names = asked.fields.get("privilege", ())
    made = await asked.service.accounts.add_token(
        asked.said("label"),
        privileges=parse_privileges(names) if names else frozenset(Privilege),
        scope=parse_scope(asked.said("scope") or "all"),
        expires_in_s=int(text) * _DAY_S,
    )
    return await _shown(asked, made)


async def revoke_token(asked: Asked) -> Response:
    """From now on it opens nothing."""
    await asked.service.accounts.revoke_token(str(asked.request.path_params["token"]))
    return go_to("/users")


ROUTES: Routes = {
    ("GET", "/users"): show,
    ("POST", "/users"): add_user,
    ("POST", "/users/{user}/grant"): grant,
    ("POST", "/users/{user}/revoke"): revoke,
    ("POST", "/users/{user}/enable"): enable,
    ("POST", "/users/{user}/remove"): remove,
    ("POST", "/users/tokens"): add_token,
    ("POST", "/users/tokens/{token}/revoke"): revoke_token,
}
