"""Who looks at the pages: visits that begin with a one-time code and live in memory.

    local token ──► code (minutes, once) ──► visit (hours) ──► cookie, token against forgery
                    `furlough ui` prints it in an address (`furlough.sign_in`)

Only hashes are kept. Everybody who comes this way is whoever has the local token.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from furlough import sign_in

IDLE_ENDS = timedelta(hours=12)
VISIT_ENDS = timedelta(days=7)
_MOST_VISITS = 1000


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Somebody who is signed in. `csrf_token`: what each of their forms has to carry."""

    name: str
    csrf_token: str
    began_at: datetime
    seen_at: datetime


class Visitors:
    """Visits under way. `token`: the local one; `name`: who has it; `now` is the instant, whenever
    asked."""

    def __init__(self, token: str, name: str, now: Callable[[], datetime]) -> None:
        self._token = token
        self._name = name
        self._now = now
        self._used: dict[str, datetime] = {}
        self._visits: dict[str, Visit] = {}

    def enter(self, secret: str) -> str | None:
        """The cookie of a new visit, for whoever shows the local token or a code that was made with
        it, is not over and was not used."""
        self._forget()
        if not self._is_token(secret.strip()) and not self._is_code(secret.strip()):
            return None
        if len(self._visits) >= _MOST_VISITS:
            self._visits.pop(min(self._visits, key=lambda one: self._visits[one].seen_at))
        cookie, now = secrets.token_urlsafe(32), self._now()
        self._visits[_digest(cookie)] = Visit(
            name=self._name, csrf_token=secrets.token_urlsafe(32), began_at=now, seen_at=now
        )
        return cookie

    def visit(self, cookie: str) -> Visit | None:
        """The visit of this cookie, while it lasts; being looked up keeps it from being idle."""
        self._forget()
        key = _digest(cookie)
        found = self._visits.get(key)
        if found is None:
            return None
        self._visits[key] = replace(found, seen_at=self._now())
        return self._visits[key]

    def caller(self, cookie: str) -> str | None:
        """The name of whoever has this cookie; None where nobody has."""
        found = self.visit(cookie)
        return None if found is None else found.name

    def leave(self, cookie: str) -> None:
        """The visit is over."""
        self._visits.pop(_digest(cookie), None)

    def _is_token(self, secret: str) -> bool:
        return bool(self._token) and hmac.compare_digest(_digest(secret), _digest(self._token))

    def _is_code(self, secret: str) -> bool:
        until = sign_in.until(self._token, secret)
        if until is None or until <= self._now() or _digest(secret) in self._used:
            return False
        self._used[_digest(secret)] = until
        return True

    def _forget(self) -> None:
        now = self._now()
        self._used = {code: until for code, until in self._used.items() if until > now}
        self._visits = {
            cookie: visit
            for cookie, visit in self._visits.items()
            if visit.seen_at + IDLE_ENDS > now and visit.began_at + VISIT_ENDS > now
        }


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
