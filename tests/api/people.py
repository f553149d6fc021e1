"""Users of the API in tests: made with the local token, signed in as a browser would be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.api.running import Running

PASSWORD = "correct horse battery"


@dataclass(frozen=True, kw_only=True)
class Person:
    """A user, and an HTTP client that carries their session's cookie and CSRF token."""

    name: str
    http: httpx2.Client

    @property
    def cookie(self) -> str:
        return self.http.cookies["furlough_session"]


def add_user(daemon: Running, name: str, *roles: tuple[str, str]) -> None:
    """A user with these roles (name, scope), and the password of all users here."""
    body = {
        "name": name,
        "password": PASSWORD,
        "roles": [{"role": role, "scope": scope} for role, scope in roles],
    }
    with daemon.http() as admin:
        answer = admin.post("/users", json=body)
        assert answer.status_code == 201, answer.text


def sign_in(daemon: Running, name: str, password: str = PASSWORD) -> tuple[httpx2.Client, Any]:
    """A client that has tried to sign in, and the answer."""
    http = daemon.http(token=None)
    answer = http.post("/session", json={"name": name, "password": password})
    if answer.status_code == 201:
        http.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
        http.headers["Origin"] = daemon.url
    return http, answer


@contextmanager
def signed_in(daemon: Running, name: str) -> Iterator[Person]:
    """Somebody who has signed in."""
    http, answer = sign_in(daemon, name)
    with closing(http):
        assert answer.status_code == 201, answer.text
        yield Person(name=name, http=http)


@contextmanager
def person(daemon: Running, name: str, *roles: tuple[str, str]) -> Iterator[Person]:
    """A new user, signed in, who is removed at the end."""
    add_user(daemon, name, *roles)
    try:
        with signed_in(daemon, name) as someone:
            yield someone
    finally:
        with daemon.http() as admin:
            admin.delete(f"/users/{name}")


def new_token(daemon: Running, owner: str, **more: Any) -> dict[str, Any]:
    """A new API token of somebody, with its secret in `token`."""
    with daemon.http() as admin:
        answer = admin.post("/tokens", json={"owner": owner, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made
