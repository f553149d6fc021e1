"""The part of the client that is about users, roles, tokens and the audit trail; and how answers
become shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from furlough.core.ids import parse_user_name
from furlough.errors import Bug
from furlough.wire.access import (
    AuditLineView,
    NewTokenView,
    RoleView,
    SessionView,
    TokenView,
    UserView,
    VerifiedView,
)

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
_PAGE = 1000


class AccessClient:
    """`send` asks the daemon and gives back JSON; errors are those of the whole client."""

    def __init__(self, send: Callable[..., Any]) -> None:
        self._send = send

    def who(self) -> SessionView:
        """Who calls, and what they may do."""
        return _one(SessionView, self._send("GET", "/session"))

    def first_admin(self, secret: str, name: str, password: str) -> SessionView:
        """Make the first user, with the secret that the daemon has shown."""
        body = {"secret": secret, "name": name, "password": password}
        return _one(SessionView, self._send("POST", "/first-admin", body))

    # --- users and roles ---------------------------------------------------------------------

    def users(self) -> list[UserView]:
        return _many(UserView, self._send("GET", "/users"))

    def user(self, name: str) -> UserView:
        return _one(UserView, self._send("GET", f"/users/{parse_user_name(name)}"))

    def add_user(
        self, name: str, password: str | None, roles: Sequence[Mapping[str, str]]
    ) -> UserView:
        body = {"name": name, "password": password, "roles": list(roles)}
        return _one(UserView, self._send("POST", "/users", body))

    def set_user(self, name: str, changes: Mapping[str, Any]) -> UserView:
        return _one(UserView, self._send("PATCH", f"/users/{parse_user_name(name)}", changes))

    def remove_user(self, name: str) -> None:
        self._send("DELETE", f"/users/{parse_user_name(name)}")

    def roles(self) -> list[RoleView]:
        return _many(RoleView, self._send("GET", "/roles"))

    def set_role(self, name: str, privileges: Sequence[str]) -> RoleView:
        path = f"/roles/{parse_user_name(name)}"
        return _one(RoleView, self._send("PUT", path, {"privileges": list(privileges)}))

    def remove_role(self, name: str) -> None:
        self._send("DELETE", f"/roles/{parse_user_name(name)}")

    def grant(self, user: str, role: str, scope: str) -> UserView:
        path = f"/users/{parse_user_name(user)}/roles"
        return _one(UserView, self._send("POST", path, {"role": role, "scope": scope}))

    def revoke(self, user: str, role: str, scope: str) -> UserView:
        path = f"/users/{parse_user_name(user)}/roles/{parse_user_name(role)}"
        return _one(UserView, self._send("DELETE", path, query={"scope": scope}))

    # --- tokens ------------------------------------------------------------------------------

    def tokens(self) -> list[TokenView]:
        return _many(TokenView, self._send("GET", "/tokens"))

    def add_token(self, body: Mapping[str, Any]) -> NewTokenView:
        """The token with its secret, which is shown this once."""
        return _one(NewTokenView, self._send("POST", "/tokens", body))

    def revoke_token(self, which: str) -> None:
        self._send("DELETE", f"/tokens/{parse_user_name(which)}")

    # --- the audit trail ---------------------------------------------------------------------

    def audit(self, *, limit: int, principal: str | None = None) -> list[AuditLineView]:
        """The newest lines, newest first."""
        query = {"limit": str(limit), **({"principal": principal} if principal else {})}
        return _many(AuditLineView, self._send("GET", "/audit", query=query))

    def whole_audit(self, after: int) -> Iterator[AuditLineView]:
        """Every line after this number, oldest first."""
        while True:
            query = {"after": str(after), "limit": str(_PAGE)}
            found = _many(AuditLineView, self._send("GET", "/audit", query=query))
            yield from found
            if len(found) < _PAGE:
                return
            after = found[-1].number

    def verify_audit(self, checkpoints: Sequence[Mapping[str, Any]]) -> VerifiedView:
        body = {"checkpoints": list(checkpoints)}
        return _one(VerifiedView, self._send("POST", "/audit/verify", body))


def _one(shape: type[M], found: Any) -> M:
    return understood(TypeAdapter(shape), found)


def _many(shape: type[M], found: Any) -> list[M]:
    return understood(TypeAdapter(list[shape]), found)  # type: ignore[valid-type]


def understood(shape: TypeAdapter[T], found: Any) -> T:
    """An answer as what it should be; `Bug` where it is something else."""
    try:
        return shape.validate_python(found)
    except ValidationError as error:
        raise Bug(
            "daemon.answer",
            f"The daemon's answer is not understood here: {error.error_count()} place(s), first "
            f"{'.'.join(str(part) for part in error.errors()[0]['loc']) or 'the whole of it'}.",
            remedy="Are daemon and command of the same version? Compare: furlough version.",
        ) from error
