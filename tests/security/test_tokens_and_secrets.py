"""API tokens, the first administrator, and what is kept of secrets (SEC-01, SEC-32, F123)."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest
from sqlalchemy import Connection, select

from furlough.access.desk import Caller
from furlough.errors import NotAllowed, NotFound
from furlough.store.access_tables import account, api_token, session
from tests.api.people import PASSWORD, add_user, new_token, person
from tests.api.running import Running, running
from tests.api.test_problems import check_problem


def status_with(daemon: Running, token: str, path: str = "/hosts") -> int:
    with daemon.http(token=token) as http:
        return http.get(path).status_code


def test_a_token_opens_what_its_owner_may_until_it_is_revoked(daemon: Running) -> None:
    with person(daemon, "robot", ("viewer", "all")), daemon.http() as admin:
        made = new_token(daemon, "robot", label="for the dashboard")
        assert made["token"].startswith("furlough_")
        assert status_with(daemon, made["token"]) == 200
        listed = next(one for one in admin.get("/tokens").json() if one["id"] == made["id"])
        assert "token" not in listed
        assert listed["last_used_at"] is not None
        assert admin.delete(f"/tokens/{made['id']}").status_code == 204
        assert status_with(daemon, made["token"]) == 401


def test_a_token_ends_at_its_time(daemon: Running) -> None:
    with person(daemon, "brief", ("viewer", "all")):
        made = new_token(daemon, "brief", expires_in_s=600)
        assert status_with(daemon, made["token"]) == 200
        daemon.skip(601)
        assert status_with(daemon, made["token"]) == 401


def test_a_token_dies_with_its_owner_and_while_they_are_switched_off(daemon: Running) -> None:
    with person(daemon, "owner", ("viewer", "all")), daemon.http() as admin:
        made = new_token(daemon, "owner")
        admin.patch("/users/owner", json={"is_enabled": False})
        assert status_with(daemon, made["token"]) == 401
        admin.patch("/users/owner", json={"is_enabled": True})
        assert status_with(daemon, made["token"]) == 200
    assert status_with(daemon, made["token"]) == 401


def test_a_token_may_no_more_than_was_said_when_it_was_made(daemon: Running) -> None:
    with person(daemon, "boss", ("admin", "all")):
        narrow = new_token(daemon, "boss", privileges=["view", "cordon"], scope="host:h2")
        with daemon.http(token=narrow["token"]) as http:
            assert [one["name"] for one in http.get("/hosts").json()] == ["h2"]
            check_problem(http.post("/hosts/h2/enter", json={}), 403, "access.denied")
            check_problem(http.post("/hosts/h1/cordon", json={}), 404, "host.unknown")
        wide = new_token(daemon, "boss")
        with daemon.http(token=wide["token"]) as http:
            assert http.get("/audit").status_code == 200
            # A stolen token is not a way to make more of them, or users.
            check_problem(http.post("/tokens", json={}), 403, "access.denied")
            check_problem(http.post("/users", json={"name": "x1"}), 403, "access.denied")
            check_problem(
                http.post("/session/password", json={"old": PASSWORD, "new": "x" * 12}),
                403,
                "access.denied",
            )


def test_a_grant_that_is_taken_away_is_gone_from_tokens_at_once(daemon: Running) -> None:
    with person(daemon, "former", ("viewer", "all")), daemon.http() as admin:
        made = new_token(daemon, "former")
        assert admin.delete("/users/former/roles/viewer").status_code == 200
        assert status_with(daemon, made["token"]) == 403


def _revoke(admin: httpx2.Client, token: str) -> None:
    assert admin.delete(f"/tokens/{token}").status_code == 204


def _take_the_role(admin: httpx2.Client, _token: str) -> None:
    assert admin.delete("/users/watcher/roles/viewer").status_code == 200


@pytest.mark.parametrize("change", [_revoke, _take_the_role])
def test_a_stream_ends_soon_after_its_reader_may_not_read_it_any_more(
    daemon: Running, change: Callable[[httpx2.Client, str], None]
) -> None:
    with person(daemon, "watcher", ("viewer", "all")), daemon.http() as admin:
        made = new_token(daemon, "watcher")
        with (
            daemon.http(token=made["token"]) as http,
            http.stream("GET", "/events") as answer,
        ):
            lines = answer.iter_lines()
            for _ in range(8):  # it goes on and on,
                next(lines)
            began_s = daemon.now_s
            change(admin, made["id"])
            list(lines)  # and now to its end
            assert daemon.now_s - began_s < 120


def test_everybody_makes_and_revokes_their_own_tokens_and_sees_no_other(daemon: Running) -> None:
    with (
        person(daemon, "mine", ("viewer", "all")) as mine,
        person(daemon, "yours", ("viewer", "all")) as yours,
    ):
        made = mine.http.post("/tokens", json={"label": "ci"}).json()
        assert made["owner"] == "mine"
        assert [one["id"] for one in mine.http.get("/tokens").json()] == [made["id"]]
        assert yours.http.get("/tokens").json() == []
        check_problem(yours.http.delete(f"/tokens/{made['id']}"), 404, "token.unknown")
        check_problem(yours.http.post("/tokens", json={"owner": "mine"}), 403, "access.denied")
        assert mine.http.delete(f"/tokens/{made['id']}").status_code == 204


def test_a_dump_of_the_store_opens_nothing(daemon: Running) -> None:
    """Every text that stands in its tables is tried as a token and as a cookie."""
    with person(daemon, "dumped", ("admin", "all")) as someone:
        made = new_token(daemon, "dumped")
        secrets = {made["token"], someone.cookie, PASSWORD}

        def texts(connection: Connection) -> list[str]:
            return [
                value
                for table in (account, api_token, session)
                for row in connection.execute(select(table))
                for value in row
                if isinstance(value, str)
            ]

        store = daemon.controller.work.store
        dump = daemon.run(store._database.read(texts))  # type: ignore[attr-defined]
        assert len(dump) > 10
        assert not any(secret in text for secret in secrets for text in dump)
        for text in filter(None, dump):
            for given in (text, f"furlough_{text}"):
                with daemon.http(token=None) as http:
                    for name, value in (
                        ("Authorization", f"Bearer {given}"),
                        ("Cookie", f"furlough_session={given}"),
                    ):
                        headers = {name.encode(): value.encode()}
                        assert http.get("/hosts", headers=headers).status_code == 401


def test_passwords_are_kept_as_argon2id(daemon: Running) -> None:
    with person(daemon, "hashed"):
        known = daemon.run(daemon.controller.work.store.access.known("hashed"))
        assert known is not None
        assert known.user.password.startswith("$argon2id$")
        assert PASSWORD not in repr(known)
        assert "argon2" not in repr(known)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_where_a_request_says_it_comes_from_is_not_believed(daemon: Running, header: str) -> None:
    with daemon.http() as http:
        session = http.get("/session", headers={header: "for=203.0.113.9"}).json()
        assert session["address"] == "127.0.0.1"


# --- the first administrator ---------------------------------------------------------------------


def first(http: httpx2.Client, secret: str, name: str = "root") -> httpx2.Response:
    return http.post("/first-admin", json={"secret": secret, "name": name, "password": PASSWORD})


def test_the_first_administrator_is_made_once_with_the_newest_secret() -> None:
    with running() as daemon:
        desk = daemon.controller.service.desk
        old, new = daemon.run(desk.first_secret()), daemon.run(desk.first_secret())
        assert old is not None
        assert new is not None
        with daemon.http(token=None) as http:
            check_problem(first(http, old), 401, "caller.wrong")
            made = first(http, new)
            assert made.status_code == 201, made.text
            assert made.json()["name"] == "root"
            assert http.get("/users").status_code == 200
        with daemon.http(token=None) as http:
            check_problem(first(http, new, "second"), 401, "caller.wrong")
            assert http.post("/session", json={"name": "root", "password": PASSWORD}).is_success
        assert daemon.run(desk.first_secret()) is None


def test_the_secret_of_the_first_administrator_holds_for_an_hour() -> None:
    with running() as daemon:
        secret = daemon.run(daemon.controller.service.desk.first_secret())
        assert secret
        daemon.skip(3601)
        with daemon.http(token=None) as http:
            check_problem(first(http, secret), 401, "caller.wrong")


def test_a_secret_that_was_shown_is_nothing_once_there_is_a_user() -> None:
    with running() as daemon:
        secret = daemon.run(daemon.controller.service.desk.first_secret())
        assert secret
        add_user(daemon, "early", ("admin", "all"))
        with daemon.http(token=None) as http:
            check_problem(first(http, secret), 401, "caller.wrong")


def test_a_removed_user_is_not_known_any_more(daemon: Running) -> None:
    with daemon.http() as admin:
        add_user(daemon, "gone")
        assert admin.delete("/users/gone").status_code == 204
        check_problem(admin.get("/users/gone"), 404, "user.unknown")
    desk = daemon.controller.service.desk
    caller = Caller(address="192.0.2.7", request="r")
    with pytest.raises(NotAllowed):
        daemon.run(desk.sign_in("gone", PASSWORD, caller))
    with pytest.raises(NotFound):
        daemon.run(daemon.controller.service.accounts.remove("gone"))
