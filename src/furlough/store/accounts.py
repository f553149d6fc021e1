"""Users, roles, grants, tokens and sessions: rows and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, delete, insert, select, update

from furlough.access_ports import Known
from furlough.core.access import (
    ROLES,
    ApiToken,
    Grant,
    Privilege,
    Role,
    Session,
    User,
    parse_privileges,
    parse_scope,
)
from furlough.errors import Conflict, NotFound
from furlough.store.access_tables import account, api_token, role, role_grant, session

_KEPT = timedelta(days=2)


# --- users ---------------------------------------------------------------------------------------


def read_users(connection: Connection) -> Sequence[User]:
    """Every user, by name."""
    return [_user_of(row) for row in connection.execute(select(account).order_by(account.c.name))]


def read_known(connection: Connection, name: str) -> Known | None:
    """A user with grants and roles."""
    row = connection.execute(select(account).where(account.c.name == name)).one_or_none()
    if row is None:
        return None
    grants = tuple(one for one in read_grants(connection, name))
    return Known(user=_user_of(row), grants=grants, roles=read_roles(connection))


def add_user(connection: Connection, user: User, grants: Iterable[Grant]) -> None:
    """A new user; `Conflict` where there is one of this name."""
    if read_known(connection, user.name) is not None:
        raise Conflict(
            "user.exists",
            f"There is a user {user.name!r} already.",
            remedy=f"Change them: furlough user set {user.name}.",
        )
    values = {"name": user.name, "created_at": user.created_at.isoformat()}
    connection.execute(insert(account).values({**values, **_changeable(user)}))
    for one in grants:
        grant(connection, one)


def change_user(connection: Connection, user: User) -> None:
    """Password and whether they are enabled."""
    wanted = update(account).where(account.c.name == user.name).values(_changeable(user))
    if connection.execute(wanted).rowcount == 0:
        raise unknown_user(user.name)
    end_sessions(connection, user.name)


def remove_user(connection: Connection, name: str) -> None:
    """A user with everything that is theirs."""
    for table in (session, api_token, role_grant):
        connection.execute(delete(table).where(table.c.account == name))
    if connection.execute(delete(account).where(account.c.name == name)).rowcount == 0:
        raise unknown_user(name)


def _changeable(user: User) -> dict[str, object]:
    return {"password": user.password, "is_enabled": user.is_enabled}


def _user_of(row: Row[tuple[object, ...]]) -> User:
    return User(
        name=row.name,
        password=row.password,
        is_enabled=row.is_enabled,
        created_at=datetime.fromisoformat(row.created_at),
    )


def unknown_user(name: str) -> NotFound:
    """There is no such user."""
    return NotFound(
        "user.unknown", f"There is no user {name!r}.", remedy="See: furlough user list."
    )


# --- roles and grants ----------------------------------------------------------------------------


def read_roles(connection: Connection) -> Mapping[str, Role]:
    """Every role; those that are always there cannot be replaced by rows."""
    made = {
        row.name: Role(name=row.name, privileges=parse_privileges(row.privileges.split()))
        for row in connection.execute(select(role).order_by(role.c.name))
    }
    always = {name: Role(name=name, privileges=found) for name, found in ROLES.items()}
    return {**made, **always}


def put_role(connection: Connection, one: Role) -> None:
    """Make a role, or change the one of this name; sessions of those who have it end."""
    values = {"privileges": _words(one.privileges)}
    changed = connection.execute(update(role).where(role.c.name == one.name).values(values))
    if changed.rowcount == 0:
        connection.execute(insert(role).values({**values, "name": one.name}))
    for user in _holders(connection, one.name):
        end_sessions(connection, user)


def remove_role(connection: Connection, name: str) -> None:
    """Remove a role that nobody has."""
    holders = _holders(connection, name)
    if holders:
        raise Conflict(
            "role.in_use",
            f"Role {name} is granted to {', '.join(holders)}.",
            remedy="Take it from them first: furlough role revoke.",
        )
    if connection.execute(delete(role).where(role.c.name == name)).rowcount == 0:
        raise unknown_role(name)


def _holders(connection: Connection, name: str) -> list[str]:
    query = select(role_grant.c.account).where(role_grant.c.role == name).distinct()
    return sorted(str(one) for one in connection.scalars(query))


def unknown_role(name: str) -> NotFound:
    """There is no such role."""
    return NotFound(
        "role.unknown", f"There is no role {name!r}.", remedy="See: furlough role list."
    )


def read_grants(connection: Connection, user: str | None = None) -> Sequence[Grant]:
    """Every grant, or those of one user."""
    query = select(role_grant).order_by(role_grant.c.account, role_grant.c.role, role_grant.c.scope)
    if user is not None:
        query = query.where(role_grant.c.account == user)
    return [
        Grant(user=row.account, role=row.role, scope=parse_scope(row.scope))
        for row in connection.execute(query)
    ]


def grant(connection: Connection, one: Grant) -> None:
    """A user has a role in a scope; twice is once."""
    if read_known(connection, one.user) is None:
        raise unknown_user(one.user)
    if one.role not in read_roles(connection):
        raise unknown_role(one.role)
    if one not in read_grants(connection, one.user):
        connection.execute(insert(role_grant).values(_grant_values(one)))
        end_sessions(connection, one.user)


def revoke(connection: Connection, one: Grant) -> None:
    """Not any more."""
    where = [role_grant.c[name] == value for name, value in _grant_values(one).items()]
    if connection.execute(delete(role_grant).where(*where)).rowcount == 0:
        raise NotFound(
            "grant.unknown",
            f"{one.user} does not have role {one.role} in {one.scope}.",
            remedy=f"See what they have: furlough user show {one.user}.",
        )
    end_sessions(connection, one.user)


def _grant_values(one: Grant) -> dict[str, str]:
    return {"account": one.user, "role": one.role, "scope": str(one.scope)}


def _words(privileges: Iterable[Privilege]) -> str:
    return " ".join(sorted(privileges))


# --- tokens --------------------------------------------------------------------------------------


def add_token(connection: Connection, token: ApiToken, digest: str) -> None:
    """A new token of a user."""
    if read_known(connection, token.owner) is None:
        raise unknown_user(token.owner)
    values = {
        "id": token.id,
        "digest": digest,
        "account": token.owner,
        "label": token.label,
        "privileges": _words(token.privileges),
        "scope": str(token.scope),
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
    }
    connection.execute(insert(api_token).values(values))


def read_tokens(connection: Connection, owner: str | None) -> Sequence[ApiToken]:
    """Every token, or those of one user, in the order in which they were made."""
    query = select(api_token).order_by(api_token.c.created_at, api_token.c.id)
    if owner is not None:
        query = query.where(api_token.c.account == owner)
    return [_token_of(row) for row in connection.execute(query)]


def read_token(connection: Connection, digest: str) -> tuple[ApiToken, Known] | None:
    """The token with this hash, and its owner."""
    query = select(api_token).where(api_token.c.digest == digest)
    row = connection.execute(query).one_or_none()
    known = None if row is None else read_known(connection, row.account)
    return None if row is None or known is None else (_token_of(row), known)


def token_used(connection: Connection, token: str, at: datetime) -> None:
    """When a token was used last."""
    wanted = update(api_token).where(api_token.c.id == token)
    connection.execute(wanted.values(last_used_at=at.isoformat()))


def revoke_token(connection: Connection, token: str, at: datetime) -> None:
    """From now on it opens nothing; revoking twice is revoking once."""
    found = connection.execute(
        select(api_token.c.revoked_at).where(api_token.c.id == token)
    ).one_or_none()
    if found is None:
        raise unknown_token(token)
    if found.revoked_at is None:
        wanted = update(api_token).where(api_token.c.id == token)
        connection.execute(wanted.values(revoked_at=at.isoformat()))


def unknown_token(token: str) -> NotFound:
    """There is no such token."""
    return NotFound(
        "token.unknown", f"There is no token {token!r}.", remedy="See: furlough token list."
    )


def _token_of(row: Row[tuple[object, ...]]) -> ApiToken:
    return ApiToken(
        id=row.id,
        owner=row.account,
        label=row.label,
        privileges=parse_privileges(row.privileges.split()),
        scope=parse_scope(row.scope),
        created_at=datetime.fromisoformat(row.created_at),
        expires_at=_instant(row.expires_at),
        last_used_at=_instant(row.last_used_at),
        revoked_at=_instant(row.revoked_at),
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


# --- sessions ------------------------------------------------------------------------------------


def add_session(connection: Connection, one: Session, digest: str) -> None:
    """A new session; those that nobody has used for days are forgotten."""
    long_ago = (one.created_at - _KEPT).isoformat()
    connection.execute(delete(session).where(session.c.seen_at < long_ago))
    connection.execute(
        insert(session).values(
            id=one.id,
            digest=digest,
            account=one.user,
            address=one.address,
            created_at=one.created_at.isoformat(),
            seen_at=one.seen_at.isoformat(),
        )
    )


def read_session(connection: Connection, digest: str) -> tuple[Session, Known] | None:
    """The session with this hash, and whose it is."""
    query = select(session).where(session.c.digest == digest)
    row = connection.execute(query).one_or_none()
    known = None if row is None else read_known(connection, row.account)
    if row is None or known is None:
        return None
    found = Session(
        id=row.id,
        user=row.account,
        address=row.address,
        created_at=datetime.fromisoformat(row.created_at),
        seen_at=datetime.fromisoformat(row.seen_at),
    )
    return found, known


def session_seen(connection: Connection, which: str, at: datetime) -> None:
    """When a session was used last."""
    connection.execute(update(session).where(session.c.id == which).values(seen_at=at.isoformat()))


def end_session(connection: Connection, which: str) -> None:
    """It opens nothing any more."""
    connection.execute(delete(session).where(session.c.id == which))


def end_sessions(connection: Connection, user: str) -> None:
    """Every session of a user: what they may do, or how they show who they are, has changed."""
    connection.execute(delete(session).where(session.c.account == user))
