"""Secrets that programs carry: made of 256 random bits, kept as their hash, shown once.

At that entropy nobody guesses, so a fast hash is enough; passwords are another matter. Every one
begins with `furlough_`, so that scanners of repositories and logs can find one that got lost.
"""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "furlough_"
_BYTES = 32
_LONGEST = 200


def new_secret() -> str:
    """A token, a session's cookie, or the secret that makes the first administrator."""
    return f"{PREFIX}{secrets.token_urlsafe(_BYTES)}"


def new_id(kind: str) -> str:
    """A public name for one of them, for instance `token-3f9a...`: it opens nothing."""
    return f"{kind}-{secrets.token_hex(8)}"


def digest_of(secret: str) -> str:
    """What is kept of a secret. Looked up as a whole: the time that takes says nothing about
    the secret, of which nobody can choose the hash."""
    return hashlib.sha256(secret[:_LONGEST].encode(errors="surrogateescape")).hexdigest()


def csrf_token_of(cookie: str) -> str:
    """What a page of ours sends back beside the session's cookie. Pages of others can make a
    browser send the cookie, but cannot read it, so they cannot know this."""
    return hashlib.sha256(b"csrf\0" + cookie.encode(errors="surrogateescape")).hexdigest()
