"""Users, roles and API tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from furlough.api.calling import TheService
from furlough.api.json_body import StrictRoute
from furlough.core.access import Grant, Privilege, parse_scope
from furlough.wire.access import (
    GrantBody,
    NewTokenView,
    RoleBody,
    RoleView,
    TokenBody,
    TokenView,
    UserBody,
    UserChanges,
    UserView,
    new_token_view,
    role_view,
    token_view,
    user_view,
)
from furlough.wire.shapes import AddressableName

router = APIRouter(route_class=StrictRoute)

Name = Annotated[str, Path(min_length=1, max_length=63)]


@router.get("/users")
async def list_users(service: TheService) -> list[UserView]:
    """All users, by name."""
    return [user_view(user, grants) for user, grants in await service.accounts.users()]


@router.post("/users", status_code=201)
async def add_user(body: UserBody, service: TheService) -> UserView:
    """A new user; `409` where there is one of this name."""
    grants = [(one.role, parse_scope(one.scope)) for one in body.roles]
    await service.accounts.add(body.name, body.password, grants)
    return user_view(*await service.accounts.user(body.name))


@router.get("/users/{name}")
async def show_user(name: Name, service: TheService) -> UserView:
    """One user."""
    return user_view(*await service.accounts.user(name))


@router.patch("/users/{name}")
async def set_user(name: Name, body: UserChanges, service: TheService) -> UserView:
    """A new password, or whether they may come in. Their sessions end."""
    await service.accounts.set(name, password=body.password, is_enabled=body.is_enabled)
    return user_view(*await service.accounts.user(name))


@router.delete("/users/{name}", status_code=204)
async def remove_user(name: Name, service: TheService) -> Response:
    """Remove a user with their tokens, sessions and roles."""
    await service.accounts.remove(name)
    return Response(status_code=204)


@router.post("/users/{name}/roles")
async def grant_role(name: Name, body: GrantBody, service: TheService) -> UserView:
    """Give a user a role. Their sessions end."""
    await service.accounts.grant(Grant(user=name, role=body.role, scope=parse_scope(body.scope)))
    return user_view(*await service.accounts.user(name))


@router.delete("/users/{name}/roles/{role}")
async def revoke_role(
    name: Name,
    role: Name,
    service: TheService,
    scope: Annotated[str, Query(min_length=1, max_length=127)] = "all",
) -> UserView:
    """Take a role from a user. Their sessions end."""
    await service.accounts.revoke(Grant(user=name, role=role, scope=parse_scope(scope)))
    return user_view(*await service.accounts.user(name))


@router.get("/roles")
async def list_roles(service: TheService) -> list[RoleView]:
    """All roles with their privileges."""
    return [role_view(one) for one in (await service.accounts.roles()).values()]


@router.put("/roles/{name}")
async def set_role(
    name: Annotated[AddressableName, Path()], body: RoleBody, service: TheService
) -> RoleView:
    """Make a role, or change it. Sessions of those who have it end."""
    return role_view(await service.accounts.put_role(name, frozenset(body.privileges)))


@router.delete("/roles/{name}", status_code=204)
async def remove_role(name: Name, service: TheService) -> Response:
    """Remove a role that nobody has."""
    await service.accounts.remove_role(name)
    return Response(status_code=204)


@router.get("/tokens")
async def list_tokens(service: TheService) -> list[TokenView]:
    """One's own API tokens; for whoever manages users, everybody's."""
    return [token_view(one) for one in await service.accounts.tokens()]


@router.post("/tokens", status_code=201)
async def add_token(body: TokenBody, service: TheService, response: Response) -> NewTokenView:
    """Make an API token. It is shown this once."""
    made = await service.accounts.add_token(
        body.label,
        owner=body.owner,
        privileges=Privilege if body.privileges is None else body.privileges,
        scope=parse_scope(body.scope),
        expires_in_s=body.expires_in_s,
    )
    response.headers["Cache-Control"] = "no-store"
    return new_token_view(made.token, made.secret)


@router.delete("/tokens/{token}", status_code=204)
async def revoke_token(token: Name, service: TheService) -> Response:
    """Revoke an API token: from now on it opens nothing."""
    await service.accounts.revoke_token(token)
    return Response(status_code=204)
