"""Users, roles, tokens, sessions and the audit trail as clients see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated

from pydantic import Field, ValidationError

from furlough.core.access import (
    ApiToken,
    Grant,
    Principal,
    PrincipalKind,
    Privilege,
    Right,
    Role,
    User,
)
from furlough.core.audit import BEGINNING, AuditLine, Checkpoint, verify
from furlough.errors import Invalid
from furlough.wire.shapes import AddressableName, Body, View

Password = Annotated[str, Field(max_length=1024)]
ScopeText = Annotated[str, Field(min_length=1, max_length=127)]
Label = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_YEAR_S = 366 * 86_400
_NUMBER = Field(ge=0, le=2**53)


# --- sessions ------------------------------------------------------------------------------------


class SignInBody(Body):
    """Name and password."""

    name: Annotated[str, Field(max_length=63)]
    password: Password


class FirstAdminBody(Body):
    """The secret that the daemon has shown at its start, and who the first user is to be."""

    secret: Annotated[str, Field(max_length=200)]
    name: AddressableName
    password: Password


class PasswordBody(Body):
    """One's own password, the old one and a new one."""

    old: Password
    new: Password


class RightView(View):
    """Some privileges, wherever all of these scopes reach."""

    privileges: list[Privilege]
    scopes: list[str]


class SessionView(View):
    """Who calls, and what they may do. `csrf_token`: what changes by cookie have to carry in the
    header X-CSRF-Token; null for whoever carries a token."""

    name: str
    kind: PrincipalKind
    address: str
    rights: list[RightView]
    csrf_token: str | None = None


def session_view(principal: Principal, csrf_token: str | None) -> SessionView:
    return SessionView(
        name=principal.name,
        kind=principal.kind,
        address=principal.address,
        rights=[_right_view(right) for right in principal.rights],
        csrf_token=csrf_token,
    )


def _right_view(right: Right) -> RightView:
    return RightView(
        privileges=sorted(right.privileges), scopes=[str(scope) for scope in right.scopes]
    )


# --- users and roles -----------------------------------------------------------------------------


class GrantBody(Body):
    """A role, and how far it reaches: all, cluster:NAME or host:NAME."""

    role: AddressableName
    scope: ScopeText = "all"


class UserBody(Body):
    """A new user. Without a password they cannot sign in."""

    name: AddressableName
    password: Password | None = None
    roles: list[GrantBody] = Field(default_factory=list, max_length=100)


class UserChanges(Body):
    """What is to change about a user; null: nothing."""

    password: Password | None = None
    is_enabled: bool | None = None


class GrantView(View):
    """A role that a user has, and how far it reaches."""

    role: str
    scope: str


class UserView(View):
    """A user. `has_password`: whether they can sign in with one."""

    name: str
    is_enabled: bool
    has_password: bool
    created_at: datetime
    roles: list[GrantView]


def user_view(user: User, grants: Iterable[Grant]) -> UserView:
    return UserView(
        name=user.name,
        is_enabled=user.is_enabled,
        has_password=bool(user.password),
        created_at=user.created_at,
        roles=[GrantView(role=one.role, scope=str(one.scope)) for one in grants],
    )


class RoleBody(Body):
    """The privileges of a role."""

    privileges: list[Privilege] = Field(max_length=len(Privilege))


class RoleView(View):
    """A role. One that is built in is always there and always the same."""

    name: str
    privileges: list[Privilege]
    is_built_in: bool


def role_view(role: Role) -> RoleView:
    return RoleView(
        name=role.name, privileges=sorted(role.privileges), is_built_in=role.is_built_in
    )


# --- tokens --------------------------------------------------------------------------------------


class TokenBody(Body):
    """A new API token: whose, what for, and what it is cut down to. `privileges`: null for all
    that its owner has, but for managing users, which no token may."""

    label: Label = ""
    owner: AddressableName | None = None
    privileges: list[Privilege] | None = Field(default=None, max_length=len(Privilege))
    scope: ScopeText = "all"
    expires_in_s: Annotated[float, Field(gt=0, le=_YEAR_S)] = 90 * 86_400


class TokenView(View):
    """An API token. The token itself is not kept."""

    id: str
    owner: str
    label: str
    privileges: list[Privilege]
    scope: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewTokenView(TokenView):
    """A token that was just made. `token` is the secret; it is shown this once."""

    token: str


def token_view(token: ApiToken) -> TokenView:
    return TokenView.model_validate(_of_token(token))


def new_token_view(token: ApiToken, secret: str) -> NewTokenView:
    return NewTokenView.model_validate({**_of_token(token), "token": secret})


def _of_token(token: ApiToken) -> dict[str, object]:
    found = {name: getattr(token, name) for name in TokenView.model_fields}
    return {**found, "scope": str(token.scope), "privileges": sorted(token.privileges)}


# --- the audit trail -----------------------------------------------------------------------------


class AuditLineView(View):
    """A line of the audit trail. `result`: done, begun, or the code of the refusal; `before` and
    `after`: JSON, empty where there is nothing to compare; `hash` covers the line and `previous`,
    the hash of the line before."""

    number: int
    at: datetime
    principal: str
    kind: PrincipalKind
    credential: str
    address: str
    request: str
    action: str
    subject: str
    before: str
    after: str
    result: str
    previous: str
    hash: str


def audit_line_view(line: AuditLine) -> AuditLineView:
    return AuditLineView.model_validate(line)


class CheckpointBody(Body):
    """A line that was there once, and its hash."""

    number: Annotated[int, _NUMBER]
    hash: Hash

    def to_core(self) -> Checkpoint:
        return Checkpoint(number=self.number, hash=self.hash)


class VerifyBody(Body):
    """Checkpoints that were kept somewhere else."""

    checkpoints: list[CheckpointBody] = Field(default_factory=list, max_length=1000)


class FaultView(View):
    """Where the trail is not what was written: the number of the line, and why."""

    number: int
    why: str


class VerifiedView(View):
    """Whether the trail is what was written. `checkpoint`: its newest line, to be kept somewhere
    else."""

    is_intact: bool
    lines: int
    faults: list[FaultView]
    checkpoint: CheckpointView


class CheckpointView(View):
    """A line's number and hash."""

    number: int
    hash: str


def verified_export(
    lines: Iterable[str], checkpoints: Iterable[Mapping[str, object]]
) -> VerifiedView:
    """An export of the trail, one line of JSON for each, verified without a daemon. It may begin
    in the middle: then its first line is taken as it is. Raises `Invalid`."""
    try:
        found = [AuditLineView.model_validate_json(line) for line in lines if line.strip()]
        wanted = [CheckpointBody.model_validate(one).to_core() for one in checkpoints]
    except ValidationError as error:
        raise Invalid(
            "audit.malformed",
            f"This is no export of an audit trail: {error.errors()[0]['msg']}.",
            remedy="Make one: furlough audit export.",
        ) from error
    known = [AuditLine(**one.model_dump()) for one in found]
    before = Checkpoint(number=0, hash=BEGINNING)
    if known:
        before = Checkpoint(number=known[0].number - 1, hash=known[0].previous)
    faults = verify(known, before, wanted)
    newest = known[-1] if known else before
    return VerifiedView(
        is_intact=not faults,
        lines=len(known),
        faults=[FaultView(number=one.number, why=one.why) for one in faults],
        checkpoint=CheckpointView(number=newest.number, hash=newest.hash),
    )
