"""Who is calling and what they may do: privileges, roles, scopes, and the one judgement of them.

    user ──grants──► role (a set of privileges) + scope (everything, a cluster, a host)
    token ─────────► its owner's rights, cut down to what was said when it was made

What nobody granted is not allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from furlough.core.ids import parse_cluster_name, parse_host_name
from furlough.errors import Invalid


class Privilege(StrEnum):
    """What can be allowed, the smallest unit of it."""

    VIEW = "view"
    CHECK = "check"
    CORDON = "cordon"
    MAINTAIN = "maintain"
    OVERRIDE = "override"
    CANCEL_OWN = "cancel_own"
    CANCEL_ANY = "cancel_any"
    POWER = "power"
    MANAGE_HOSTS = "manage_hosts"
    MANAGE_USERS = "manage_users"
    READ_AUDIT = "read_audit"


_VIEWER = frozenset({Privilege.VIEW, Privilege.CHECK})
_OPERATOR = _VIEWER | {
    Privilege.CORDON,
    Privilege.MAINTAIN,
    Privilege.CANCEL_OWN,
    Privilege.POWER,
}

# The roles that are always there; others are made of privileges by whoever manages users.
ROLES: Mapping[str, frozenset[Privilege]] = {
    "viewer": _VIEWER,
    "operator": _OPERATOR,
    "admin": frozenset(Privilege),
}


class ScopeKind(StrEnum):
    """How far a grant reaches."""

    ALL = "all"
    CLUSTER = "cluster"
    HOST = "host"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a thing is: on a host of a cluster, in a cluster as a whole, or in neither."""

    cluster: str = ""
    host: str = ""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Everything, or one cluster with its hosts, or one host. Printed `all`, `cluster:NAME`,
    `host:NAME`."""

    kind: ScopeKind = ScopeKind.ALL
    name: str = ""

    def __str__(self) -> str:
        return self.kind.value if self.kind is ScopeKind.ALL else f"{self.kind.value}:{self.name}"

    def covers(self, place: Place) -> bool:
        """Whether this place lies in it. Only `all` covers what lies in no cluster."""
        if self.kind is ScopeKind.ALL:
            return True
        where = place.cluster if self.kind is ScopeKind.CLUSTER else place.host
        return bool(where) and where == self.name


EVERYTHING = Scope()


def parse_scope(text: str) -> Scope:
    """A scope as it is printed. Raises `Invalid`."""
    kind, _, name = text.partition(":")
    if kind == ScopeKind.CLUSTER and name:
        return Scope(kind=ScopeKind.CLUSTER, name=parse_cluster_name(name))
    if kind == ScopeKind.HOST and name:
        return Scope(kind=ScopeKind.HOST, name=parse_host_name(name))
    if text != ScopeKind.ALL:
        raise Invalid(
            "scope.malformed",
            f"{text[:80]!r} is no scope.",
            remedy="Write all, cluster:NAME or host:NAME.",
        )
    return EVERYTHING


def parse_privileges(names: Iterable[str]) -> frozenset[Privilege]:
    """Privileges from their names. Raises `Invalid`."""
    found = set()
    for name in names:
        if name not in set(Privilege):
            raise Invalid(
                "privilege.unknown",
                f"There is no privilege {name[:80]!r}.",
                remedy=f"Known are {', '.join(Privilege)}.",
            )
        found.add(Privilege(name))
    return frozenset(found)


@dataclass(frozen=True, kw_only=True)
class Right:
    """Some privileges, wherever all of these scopes reach."""

    privileges: frozenset[Privilege]
    scopes: tuple[Scope, ...] = (EVERYTHING,)

    def allows(self, privilege: Privilege, place: Place) -> bool:
        """Whether it allows this there."""
        return privilege in self.privileges and all(one.covers(place) for one in self.scopes)

    def within(self, privileges: frozenset[Privilege], scope: Scope) -> Right:
        """What is left of it within these limits."""
        return Right(privileges=self.privileges & privileges, scopes=(*self.scopes, scope))


EVERY_RIGHT = Right(privileges=frozenset(Privilege))


class PrincipalKind(StrEnum):
    """How somebody has shown who they are. `system`: nobody has called, the daemon itself acts;
    `local`: the token in the data directory; `session`: signed in; `token`: an API token."""

    SYSTEM = "system"
    LOCAL = "local"
    SESSION = "session"
    TOKEN = "token"  # noqa: S105  # a word, not a secret


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Somebody who asks for something. `address`: where from; `credential`: the id of the token
    or of the session, never the secret itself; `request`: the id of the request."""

    name: str
    kind: PrincipalKind
    address: str = ""
    credential: str = ""
    request: str = ""
    rights: tuple[Right, ...] = field(default=(), repr=False)

    def may(self, privilege: Privilege, place: Place) -> bool:
        """Whether this principal is allowed this there. What nobody granted is not."""
        return any(right.allows(privilege, place) for right in self.rights)


LOCAL = "local"
# Whoever calls the service from inside the daemon: at its start, and in stories of tests.
SYSTEM = Principal(name="furlough", kind=PrincipalKind.SYSTEM, rights=(EVERY_RIGHT,))
# Names that no user may have: they stand for somebody else in journals and in the audit trail.
RESERVED = frozenset({LOCAL, SYSTEM.name})


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A user has a role in a scope."""

    user: str
    role: str
    scope: Scope = EVERYTHING


@dataclass(frozen=True, kw_only=True)
class Role:
    """A named set of privileges."""

    name: str
    privileges: frozenset[Privilege]

    @property
    def is_built_in(self) -> bool:
        """Whether it is always there and cannot be changed."""
        return self.name in ROLES


@dataclass(frozen=True, kw_only=True)
class User:
    """Somebody who can sign in or own tokens. `password`: its hash, empty where there is none and
    nobody can sign in with one; it is never shown."""

    name: str
    created_at: datetime
    is_enabled: bool = True
    password: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class ApiToken:
    """A token for a program. Of the token itself only a hash is kept, in the store.
    `privileges`: what it is cut down to; an instant that is None has not come or never comes."""

    id: str
    owner: str
    label: str
    privileges: frozenset[Privilege]
    scope: Scope
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it still opens anything."""
        is_over = self.expires_at is not None and now >= self.expires_at
        return self.revoked_at is None and not is_over


@dataclass(frozen=True, kw_only=True)
class Session:
    """Somebody signed in. Like a token, it is known by a hash."""

    id: str
    user: str
    address: str
    created_at: datetime
    seen_at: datetime

    def is_valid(self, now: datetime, idle_s: float, longest_s: float) -> bool:
        """Whether it still opens anything: neither idle for too long nor too old."""
        idle = (now - self.seen_at).total_seconds()
        return idle < idle_s and (now - self.created_at).total_seconds() < longest_s


def rights_of(user: User, grants: Iterable[Grant], roles: Mapping[str, Role]) -> tuple[Right, ...]:
    """What the grants of a user come to; nothing where the user is switched off. A role that is
    gone grants nothing."""
    if not user.is_enabled:
        return ()
    return tuple(
        Right(privileges=roles[grant.role].privileges, scopes=(grant.scope,))
        for grant in grants
        if grant.user == user.name and grant.role in roles
    )


def cut_down(rights: Iterable[Right], token: ApiToken) -> tuple[Right, ...]:
    """What a token may do of what its owner may do: never to make more tokens or users."""
    privileges = token.privileges
    return tuple(right.within(privileges, token.scope) for right in rights)
