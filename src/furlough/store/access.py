"""The AccessStore port over SQLAlchemy Core: in the same database as everything else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from furlough.access_ports import Known
from furlough.core.access import ApiToken, Grant, Role, Session, User
from furlough.core.audit import AuditLine, Checkpoint, Deed
from furlough.ports import Clock
from furlough.store import accounts, auditing
from furlough.store.access_tables import account
from furlough.store.database import Database
from furlough.store.tables import setting

_FIRST = "first_admin"


class SqlAccess:
    """Implements `access_ports.AccessStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def _write(self, deed: Deed, work: Callable[[Connection], None]) -> None:
        """A change, and its line in the trail."""
        at = self._clock.now()

        def both(connection: Connection) -> None:
            work(connection)
            auditing.add(connection, deed, at)

        await self._database.write(both)

    # --- users, roles, grants --------------------------------------------------------------------

    async def users(self) -> Sequence[User]:
        return await self._database.read(accounts.read_users)

    async def known(self, user: str) -> Known | None:
        return await self._database.read(lambda c: accounts.read_known(c, user))

    async def grants(self) -> Sequence[Grant]:
        return await self._database.read(accounts.read_grants)

    async def roles(self) -> Mapping[str, Role]:
        return await self._database.read(accounts.read_roles)

    async def add_user(self, user: User, grants: Sequence[Grant], deed: Deed) -> None:
        await self._write(deed, lambda c: accounts.add_user(c, user, grants))

    async def change_user(self, user: User, deed: Deed) -> None:
        await self._write(deed, lambda c: accounts.change_user(c, user))

    async def remove_user(self, name: str, deed: Deed) -> None:
        await self._write(deed, lambda c: accounts.remove_user(c, name))

    async def put_role(self, role: Role, deed: Deed) -> None:
        await self._write(deed, lambda c: accounts.put_role(c, role))

    async def remove_role(self, name: str, deed: Deed) -> None:
        await self._write(deed, lambda c: accounts.remove_role(c, name))

    async def grant(self, grant: Grant, deed: Deed) -> None:
        await self._write(deed, lambda c: accounts.grant(c, grant))

    async def revoke(self, grant: Grant, deed: Deed) -> None:
        await self._write(deed, lambda c: accounts.revoke(c, grant))

    # --- the first administrator -----------------------------------------------------------------

    async def await_first_admin(self, digest: str, until: datetime) -> bool:
        value = json.dumps({"digest": digest, "until": until.isoformat()})

        def keep(connection: Connection) -> bool:
            connection.execute(delete(setting).where(setting.c.name == _FIRST))
            if _has_users(connection):
                return False
            connection.execute(insert(setting).values(name=_FIRST, value=value))
            return True

        return await self._database.write(keep)

    async def add_first_admin(self, digest: str, user: User, deed: Deed) -> bool:
        at = self._clock.now()

        def make(connection: Connection) -> bool:
            wanted = select(setting.c.value).where(setting.c.name == _FIRST)
            found = connection.execute(wanted).scalar_one_or_none()
            known = {} if found is None else json.loads(found)
            is_it = known.get("digest") == digest and not _has_users(connection)
            if not is_it or at >= datetime.fromisoformat(known["until"]):
                return False
            connection.execute(delete(setting).where(setting.c.name == _FIRST))
            accounts.add_user(connection, user, [Grant(user=user.name, role="admin")])
            auditing.add(connection, deed, at)
            return True

        return await self._database.write(make)

    # --- tokens and sessions ---------------------------------------------------------------------

    async def add_token(self, token: ApiToken, digest: str, deed: Deed) -> None:
        await self._write(deed, lambda c: accounts.add_token(c, token, digest))

    async def tokens(self, owner: str | None = None) -> Sequence[ApiToken]:
        return await self._database.read(lambda c: accounts.read_tokens(c, owner))

    async def token_of(self, digest: str) -> tuple[ApiToken, Known] | None:
        return await self._database.read(lambda c: accounts.read_token(c, digest))

    async def token_used(self, token: str) -> None:
        at = self._clock.now()
        await self._database.write(lambda c: accounts.token_used(c, token, at))

    async def revoke_token(self, token: str, deed: Deed) -> None:
        at = self._clock.now()
        await self._write(deed, lambda c: accounts.revoke_token(c, token, at))

    async def add_session(self, session: Session, digest: str, deed: Deed) -> None:
        await self._write(deed, lambda c: accounts.add_session(c, session, digest))

    async def session_of(self, digest: str) -> tuple[Session, Known] | None:
        return await self._database.read(lambda c: accounts.read_session(c, digest))

    async def session_seen(self, session: str) -> None:
        at = self._clock.now()
        await self._database.write(lambda c: accounts.session_seen(c, session, at))

    async def end_session(self, session: str, deed: Deed) -> None:
        await self._write(deed, lambda c: accounts.end_session(c, session))

    # --- the audit trail -------------------------------------------------------------------------

    async def record(self, deed: Deed, result: str) -> None:
        at = self._clock.now()
        await self._database.write(lambda c: auditing.add(c, deed, at, result))

    async def audit(
        self, *, after: int, limit: int, principal: str | None = None
    ) -> Sequence[AuditLine]:
        return await self._database.read(
            lambda c: auditing.read(c, after=after, limit=limit, principal=principal)
        )

    async def newest_audit(
        self, *, before: int | None, limit: int, principal: str | None = None
    ) -> Sequence[AuditLine]:
        return await self._database.read(
            lambda c: auditing.read_newest(c, before=before, limit=limit, principal=principal)
        )

    async def checkpoint(self) -> Checkpoint:
        return await self._database.read(auditing.last)


def _has_users(connection: Connection) -> bool:
    return connection.execute(select(account.c.name).limit(1)).one_or_none() is not None
