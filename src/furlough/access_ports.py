"""What access asks of a store: rows of users, roles, tokens and sessions, and the audit trail.

Every write takes the deed that it is done for; its line in the trail is written in the same
transaction, so neither is there without the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from furlough.core.access import ApiToken, Grant, Role, Session, User
from furlough.core.audit import AuditLine, Checkpoint, Deed


@dataclass(frozen=True, kw_only=True)
class Known:
    """A user with what was granted to them, as one read."""

    user: User
    grants: tuple[Grant, ...]
    roles: Mapping[str, Role]


class AccessStore(Protocol):
    """Rows that survive us. What is not there is `NotFound`, what is there already `Conflict`."""

    async def users(self) -> Sequence[User]: ...

    async def known(self, user: str) -> Known | None:
        """A user with grants and roles; None where there is none of this name."""

    async def grants(self) -> Sequence[Grant]: ...

    async def roles(self) -> Mapping[str, Role]:
        """Every role by its name, those that are always there among them."""

    async def add_user(self, user: User, grants: Sequence[Grant], deed: Deed) -> None: ...

    async def add_first_admin(self, digest: str, user: User, deed: Deed) -> bool:
        """Make a user with every right, if this secret is the one that was made for it and is
        not over. It is used up by that. False where it is not."""

    async def change_user(self, user: User, deed: Deed) -> None:
        """Password and whether they are enabled; all their sessions end."""

    async def remove_user(self, name: str, deed: Deed) -> None:
        """With their grants, sessions and tokens."""

    async def put_role(self, role: Role, deed: Deed) -> None: ...

    async def remove_role(self, name: str, deed: Deed) -> None: ...

    async def grant(self, grant: Grant, deed: Deed) -> None:
        """All sessions of the user end; granting twice is granting once."""

    async def revoke(self, grant: Grant, deed: Deed) -> None: ...

    async def add_token(self, token: ApiToken, digest: str, deed: Deed) -> None: ...

    async def tokens(self, owner: str | None = None) -> Sequence[ApiToken]: ...

    async def token_of(self, digest: str) -> tuple[ApiToken, Known] | None: ...

    async def token_used(self, token: str) -> None: ...

    async def revoke_token(self, token: str, deed: Deed) -> None: ...

    async def add_session(self, session: Session, digest: str, deed: Deed) -> None:
        """Sessions that ended long ago are forgotten at the same time."""

    async def session_of(self, digest: str) -> tuple[Session, Known] | None: ...

    async def session_seen(self, session: str) -> None: ...

    async def end_session(self, session: str, deed: Deed) -> None: ...

    async def await_first_admin(self, digest: str, until: datetime) -> bool:
        """Keep the hash of a secret that makes the first user, in place of any older one. False,
        and nothing is kept, where there is a user already."""

    async def record(self, deed: Deed, result: str) -> None:
        """A line of its own, for what changed nothing: a refusal."""

    async def audit(
        self, *, after: int, limit: int, principal: str | None = None
    ) -> Sequence[AuditLine]:
        """Lines after this number, oldest first."""

    async def newest_audit(
        self, *, before: int | None, limit: int, principal: str | None = None
    ) -> Sequence[AuditLine]:
        """Lines before this number, newest first; None: from the newest one on."""

    async def checkpoint(self) -> Checkpoint:
        """The newest line's number and hash."""
