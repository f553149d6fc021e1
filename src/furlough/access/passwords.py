"""Passwords: long enough, hashed with argon2id, never more than two at a time.

Hashing is slow and takes memory on purpose, so it runs in threads and is bounded: else whoever
sends many wrong passwords could use up the machine.
"""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from furlough.errors import Invalid

SHORTEST = 12
LONGEST = 256
_AT_ONCE = 2
# 19 MiB and two passes: what OWASP asks for where memory is dear.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Nobody's password: a name that is not known takes as long as one that is.
_NOBODY = (
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)


def check_password(password: str) -> None:
    """`Invalid` where it is too short or too long. Nothing else is asked of it: rules about its
    characters make people choose worse ones."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(
            "password.length",
            f"The password has {len(password)} characters.",
            remedy=f"Choose one of {SHORTEST} to {LONGEST}; a few words do well.",
        )


class Passwords:
    """Hashes and compares."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def hashed(self, password: str) -> str:
        """What is kept of a password."""
        check_password(password)
        async with self._room:
            return await asyncio.to_thread(_HASHER.hash, _text(password))

    async def is_right(self, known: str, given: str) -> bool:
        """Whether it is the password of this hash; where there is none, no, in the same time."""
        async with self._room:
            found = await asyncio.to_thread(_verified, known or _NOBODY, given[: LONGEST + 1])
        return found and bool(known)


def _verified(known: str, given: str) -> bool:
    try:
        return _HASHER.verify(known, _text(given))
    except (Argon2Error, InvalidHashError):
        return False


def _text(password: str) -> bytes:
    return password.encode(errors="surrogatepass")
