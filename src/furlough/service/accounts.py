"""Users, roles and tokens: made, changed, removed by whoever manages users; each user's own
password and tokens by themselves. A part of the service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from furlough.access.credentials import digest_of, new_id, new_secret
from furlough.access.desk import Desk
from furlough.core.access import (
    EVERYTHING,
    RESERVED,
    ROLES,
    ApiToken,
    Grant,
    Principal,
    PrincipalKind,
    Privilege,
    Role,
    Scope,
    User,
)
from furlough.core.audit import Deed
from furlough.core.ids import parse_user_name
from furlough.engine.work import Work
from furlough.errors import Conflict, Invalid, NotAllowed, NotFound
from furlough.service.authority import NOWHERE, Authority, needs

LONGEST_TOKEN_S = 366 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class NewToken:
    """A token that was just made; `secret` is shown this once."""

    token: ApiToken
    secret: str


class Accounts:
    """Who there is, and what was granted to them."""

    def __init__(self, work: Work, desk: Desk, authority: Authority) -> None:
        self._store = work.store.access
        self._clock = work.clock
        self._desk = desk
        self.authority = authority

    def _deed(self, action: str, subject: str, **more: object) -> Deed:
        found = self.authority.deed(action, subject, **more)
        return found or Deed(by=self.authority.principal, action=action, subject=subject)

    # --- users -----------------------------------------------------------------------------------

    @needs(Privilege.MANAGE_USERS, everywhere=True)
    async def users(self) -> Sequence[tuple[User, tuple[Grant, ...]]]:
        """Every user with what was granted to them."""
        grants = await self._store.grants()
        return [
            (user, tuple(one for one in grants if one.user == user.name))
            for user in await self._store.users()
        ]

    @needs(Privilege.MANAGE_USERS, everywhere=True)
    async def user(self, name: str) -> tuple[User, tuple[Grant, ...]]:
        """One user with what was granted to them."""
        known = await self._store.known(name)
        if known is None:
            raise _unknown_user(name)
        return known.user, known.grants

    @needs(Privilege.MANAGE_USERS, everywhere=True, action="add_user")
    async def add(
        self, name: str, password: str | None, grants: Sequence[tuple[str, Scope]]
    ) -> User:
        """A new user. Without a password they cannot sign in, and use tokens alone."""
        name = parse_user_name(name)
        if name in RESERVED:
            raise Invalid(
                "user.reserved",
                f"The name {name!r} stands for somebody else.",
                remedy="Choose another.",
            )
        hashed = "" if password is None else await self._desk.passwords.hashed(password)
        user = User(name=name, password=hashed, created_at=self._clock.now())
        wanted = [Grant(user=name, role=role, scope=scope) for role, scope in grants]
        after = {"roles": [f"{role} {scope}" for role, scope in grants]}
        await self._store.add_user(
            user, wanted, self._deed("add_user", f"user {name}", after=after)
        )
        return user

    @needs(Privilege.MANAGE_USERS, everywhere=True, action="set_user")
    async def set(self, name: str, *, password: str | None, is_enabled: bool | None) -> User:
        """A new password, or whether they may come in; their sessions end."""
        user, _ = await self.user(name)
        before = {"is_enabled": user.is_enabled}
        if password is not None:
            user = replace(user, password=await self._desk.passwords.hashed(password))
        if is_enabled is not None:
            user = replace(user, is_enabled=is_enabled)
        after = {"is_enabled": user.is_enabled, "password_changed": password is not None}
        deed = self._deed("set_user", f"user {name}", before=before, after=after)
        await self._store.change_user(user, deed)
        return user

    @needs(Privilege.MANAGE_USERS, everywhere=True, action="remove_user")
    async def remove(self, name: str) -> None:
        """A user, with their tokens, sessions and grants."""
        await self._store.remove_user(name, self._deed("remove_user", f"user {name[:63]}"))

    # --- oneself ---------------------------------------------------------------------------------

    async def change_password(self, old: str, new: str) -> None:
        """One's own password; every session ends, this one too."""
        principal = self._person()
        known = await self._store.known(principal.name)
        right = known is not None and await self._desk.passwords.is_right(known.user.password, old)
        if known is None or not right:
            await self.authority.refused(
                "change_password", f"user {principal.name}", "password.wrong"
            )
            raise NotAllowed(
                "password.wrong", "The old password is another one.", remedy="Try again."
            )
        hashed = await self._desk.passwords.hashed(new)
        deed = self._deed("change_password", f"user {principal.name}")
        await self._store.change_user(replace(known.user, password=hashed), deed)

    def _person(self) -> Principal:
        """Whoever has signed in."""
        if self.authority.principal.kind is not PrincipalKind.SESSION:
            raise NotAllowed(
                "access.denied",
                "A password is changed by whoever has signed in with it.",
                remedy="Sign in, or have somebody who manages users set it: furlough user set.",
            )
        return self.authority.principal

    # --- roles -----------------------------------------------------------------------------------

    @needs(Privilege.VIEW)
    async def roles(self) -> Mapping[str, Role]:
        """Every role."""
        return await self._store.roles()

    @needs(Privilege.MANAGE_USERS, everywhere=True, action="set_role")
    async def put_role(self, name: str, privileges: frozenset[Privilege]) -> Role:
        """Make a role, or change it; sessions of those who have it end."""
        role = Role(name=parse_user_name(name), privileges=privileges)
        _check_changeable(name)
        before = (await self._store.roles()).get(name)
        deed = self._deed(
            "set_role",
            f"role {name}",
            before=None if before is None else sorted(before.privileges),
            after=sorted(privileges),
        )
        await self._store.put_role(role, deed)
        return role

    @needs(Privilege.MANAGE_USERS, everywhere=True, action="remove_role")
    async def remove_role(self, name: str) -> None:
        """A role that nobody has."""
        _check_changeable(name)
        await self._store.remove_role(name, self._deed("remove_role", f"role {name[:63]}"))

    @needs(Privilege.MANAGE_USERS, everywhere=True, action="grant_role")
    async def grant(self, grant: Grant) -> None:
        """A user has a role in a scope from now on; their sessions end."""
        after = {"role": grant.role, "scope": str(grant.scope)}
        deed = self._deed("grant_role", f"user {grant.user[:63]}", after=after)
        await self._store.grant(grant, deed)

    @needs(Privilege.MANAGE_USERS, everywhere=True, action="revoke_role")
    async def revoke(self, grant: Grant) -> None:
        """Not any more; their sessions end."""
        before = {"role": grant.role, "scope": str(grant.scope)}
        deed = self._deed("revoke_role", f"user {grant.user[:63]}", before=before)
        await self._store.revoke(grant, deed)

    # --- tokens ----------------------------------------------------------------------------------

    @needs(Privilege.VIEW)
    async def tokens(self) -> Sequence[ApiToken]:
        """One's own tokens; for whoever manages users, everybody's."""
        is_manager = self._manages()
        return await self._store.tokens(None if is_manager else self.authority.principal.name)

    async def add_token(
        self,
        label: str,
        *,
        owner: str | None = None,
        privileges: Iterable[Privilege] = frozenset(Privilege),
        scope: Scope = EVERYTHING,
        expires_in_s: float,
    ) -> NewToken:
        """A token for a program. It may do what its owner may, within these limits; it neither
        manages users nor makes tokens, whatever its owner may."""
        owner = owner or self.authority.principal.name
        await self._check_owner(owner, "add_token")
        if not 0 < expires_in_s <= LONGEST_TOKEN_S:
            raise Invalid(
                "token.expiry",
                "A token ends within a year.",
                remedy="Give a length of time of at most 366 days.",
            )
        now = self._clock.now()
        token = ApiToken(
            id=new_id("token"),
            owner=owner,
            label=label,
            privileges=frozenset(privileges) - {Privilege.MANAGE_USERS},
            scope=scope,
            created_at=now,
            expires_at=now + timedelta(seconds=expires_in_s),
        )
        secret = new_secret()
        after = {"owner": owner, "privileges": sorted(token.privileges), "scope": str(scope)}
        deed = self._deed("add_token", token.id, after=after)
        await self._store.add_token(token, digest_of(secret), deed)
        return NewToken(token=token, secret=secret)

    async def revoke_token(self, which: str) -> None:
        """From now on it opens nothing."""
        found = [one for one in await self._store.tokens() if one.id == which]
        mine = found and (self._manages() or found[0].owner == self.authority.principal.name)
        if not mine:
            raise NotFound(
                "token.unknown", f"There is no token {which!r}.", remedy="See: furlough token list."
            )
        await self._check_owner(found[0].owner, "revoke_token")
        await self._store.revoke_token(which, self._deed("revoke_token", which))

    async def _check_owner(self, owner: str, action: str) -> None:
        """Tokens are for oneself, made by a person; for others, by whoever manages users."""
        principal = self.authority.principal
        is_own = principal.kind is PrincipalKind.SESSION and principal.name == owner
        if not is_own and not self._manages():
            await self.authority.refused(action, f"user {owner[:63]}", "access.denied")
            raise NotAllowed(
                "access.denied",
                f"{principal.name} may not make or revoke tokens of {owner}.",
                remedy="Sign in as that user, or ask whoever manages users.",
            )

    def _manages(self) -> bool:
        return self.authority.principal.may(Privilege.MANAGE_USERS, NOWHERE)


def _check_changeable(name: str) -> None:
    if name in ROLES:
        raise Conflict(
            "role.built_in",
            f"Role {name} is always there, and always the same.",
            remedy="Make another one: furlough role set NAME --privilege ...",
        )


def _unknown_user(name: str) -> NotFound:
    return NotFound(
        "user.unknown", f"There is no user {name!r}.", remedy="See: furlough user list."
    )
