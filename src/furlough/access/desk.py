"""The front desk: who is it that calls, by which secret. What they may do is asked elsewhere.

Whoever is not known gets None or one and the same refusal, whatever was wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from furlough.access.credentials import PREFIX, csrf_token_of, digest_of, new_id, new_secret
from furlough.access.passwords import Passwords
from furlough.access.throttle import Throttle
from furlough.access_ports import AccessStore, Known
from furlough.core.access import (
    EVERY_RIGHT,
    LOCAL,
    ApiToken,
    Principal,
    PrincipalKind,
    Session,
    User,
    cut_down,
    rights_of,
)
from furlough.core.audit import Deed
from furlough.core.ids import parse_user_name
from furlough.errors import NotAllowed, Throttled
from furlough.ports import Clock

IDLE_S = 3600.0
LONGEST_S = 12 * 3600.0
SECRET_HOLDS_S = 3600.0
# How often it is written down that a token or a session was used.
_NOTED_EVERY = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """What is known of a request before anybody has shown who they are."""

    address: str
    request: str


@dataclass(frozen=True, kw_only=True)
class SignedIn:
    """Somebody has signed in. `cookie` is the secret, for the browser alone."""

    principal: Principal
    cookie: str

    @property
    def csrf_token(self) -> str:
        """What their pages have to send along."""
        return csrf_token_of(self.cookie)


class Desk:
    """Knows people and programs by their secrets."""

    def __init__(self, store: AccessStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.passwords = Passwords()
        self._throttle = Throttle()

    # --- whoever carries a secret ----------------------------------------------------------------

    async def by_token(self, given: str, caller: Caller) -> Principal | None:
        """Whose token this is; None where it is nobody's, revoked or over."""
        if not given.startswith(PREFIX):
            return None
        found = await self._store.token_of(digest_of(given))
        if found is None or not found[0].is_valid(self._clock.now()):
            return None
        token, owner = found
        rights = cut_down(rights_of(owner.user, owner.grants, owner.roles), token)
        if not owner.user.is_enabled:
            return None
        await self._note_token(token)
        return Principal(
            name=token.owner,
            kind=PrincipalKind.TOKEN,
            address=caller.address,
            credential=token.id,
            request=caller.request,
            rights=rights,
        )

    async def _note_token(self, token: ApiToken) -> None:
        now = self._clock.now()
        if token.last_used_at is None or now - token.last_used_at >= _NOTED_EVERY:
            await self._store.token_used(token.id)

    async def by_cookie(self, cookie: str, caller: Caller) -> Principal | None:
        """Whose session this is; None where it is nobody's or has ended."""
        found = await self._store.session_of(digest_of(cookie))
        now = self._clock.now()
        if found is None or not found[0].is_valid(now, IDLE_S, LONGEST_S):
            return None
        session, known = found
        if not known.user.is_enabled:
            return None
        if now - session.seen_at >= _NOTED_EVERY:
            await self._store.session_seen(session.id)
        return _of_session(session.id, known, caller)

    # --- signing in and out ----------------------------------------------------------------------

    async def sign_in(self, name: str, password: str, caller: Caller) -> SignedIn:
        """Open a session. `NotAllowed` with one message for whatever was wrong; `Throttled`
        after several failures, whatever the password."""
        deed = Deed(by=_nobody(name, caller), action="sign_in", subject=f"user {name[:63]}")
        wait_s = self._throttle.wait_s(name, caller.address, self._clock.monotonic())
        if wait_s > 0:
            raise _too_soon(wait_s)
        known = await self._store.known(name)
        user = None if known is None else known.user
        stored = user.password if user is not None and user.is_enabled else ""
        if not await self.passwords.is_right(stored, password) or known is None:
            await self._store.record(deed, "caller.wrong")
            raise _wrong()
        self._throttle.succeeded(name, caller.address)
        return await self._open(known, caller)

    async def _open(self, known: Known, caller: Caller) -> SignedIn:
        now = self._clock.now()
        cookie = new_secret()
        session = Session(
            id=new_id("session"),
            user=known.user.name,
            address=caller.address[:63],
            created_at=now,
            seen_at=now,
        )
        principal = _of_session(session.id, known, caller)
        deed = Deed(by=principal, action="sign_in", subject=f"user {known.user.name}")
        await self._store.add_session(session, digest_of(cookie), deed)
        return SignedIn(principal=principal, cookie=cookie)

    async def sign_out(self, principal: Principal) -> None:
        """End the session of this principal; where there is none, nothing happens."""
        if principal.kind is PrincipalKind.SESSION:
            deed = Deed(by=principal, action="sign_out", subject=f"user {principal.name}")
            await self._store.end_session(principal.credential, deed)

    # --- the first administrator -----------------------------------------------------------------

    async def first_secret(self) -> str | None:
        """A secret that makes the first user, once and within the hour; None where there is a
        user already. Of several, only the last one counts."""
        secret = new_secret()
        until = self._clock.now() + timedelta(seconds=SECRET_HOLDS_S)
        return secret if await self._store.await_first_admin(digest_of(secret), until) else None

    async def make_first_admin(
        self, secret: str, name: str, password: str, caller: Caller
    ) -> SignedIn:
        """Make the first user, who may do everything, and sign them in."""
        name = parse_user_name(name)
        wait_s = self._throttle.wait_s(" first", caller.address, self._clock.monotonic())
        if wait_s > 0:
            raise _too_soon(wait_s)
        hashed = await self.passwords.hashed(password)
        user = User(name=name, password=hashed, created_at=self._clock.now())
        deed = Deed(by=_nobody(name, caller), action="first_admin", subject=f"user {name}")
        if not await self._store.add_first_admin(digest_of(secret), user, deed):
            await self._store.record(deed, "caller.wrong")
            raise NotAllowed(
                "caller.wrong",
                "This secret makes no first administrator: it is not the one that was shown last, "
                "it was used, an hour is over, or there are users already.",
                remedy="Start the daemon anew for a fresh secret, or, on its machine, as the user "
                "it runs as: furlough user add NAME --role admin.",
            )
        self._throttle.succeeded(" first", caller.address)
        known = await self._store.known(name)
        if known is None:
            raise _wrong()  # removed in the very same moment
        return await self._open(known, caller)


def local_principal(caller: Caller) -> Principal:
    """Whoever can read the daemon's data directory: on its machine, the local administrator."""
    return Principal(
        name=LOCAL,
        kind=PrincipalKind.LOCAL,
        address=caller.address,
        request=caller.request,
        rights=(EVERY_RIGHT,),
    )


def _of_session(session: str, known: Known, caller: Caller) -> Principal:
    return Principal(
        name=known.user.name,
        kind=PrincipalKind.SESSION,
        address=caller.address,
        credential=session,
        request=caller.request,
        rights=rights_of(known.user, known.grants, known.roles),
    )


def _nobody(name: str, caller: Caller) -> Principal:
    """Whoever says that this is their name, and has not shown it."""
    said = name[:40] if name.isprintable() else "?"
    return Principal(
        name=f"{said} (not shown)",
        kind=PrincipalKind.SESSION,
        address=caller.address,
        request=caller.request,
    )


def _wrong() -> NotAllowed:
    return NotAllowed(
        "caller.wrong",
        "Name and password do not belong together.",
        remedy="Try again, or ask an administrator to set a new password.",
    )


def _too_soon(wait_s: float) -> Throttled:
    return Throttled(
        "login.throttled",
        "After several wrong passwords the next try has to wait.",
        remedy=f"Wait {max(1, round(wait_s))} s. From another address it works at once.",
        retry_after_s=wait_s,
    )
