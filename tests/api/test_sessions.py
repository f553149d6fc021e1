"""Signing in: what opens a session, what a session opens, and what ends it (SEC-02 to SEC-05)."""

from __future__ import annotations

from contextlib import closing

import httpx2
import pytest

from tests.api.people import PASSWORD, Person, add_user, person, sign_in, signed_in
from tests.api.running import Running
from tests.api.test_problems import check_problem


def refused(http: httpx2.Client) -> bool:
    return http.get("/hosts").status_code == 401


def test_whoever_signs_in_is_who_they_are_and_may_what_was_granted(daemon: Running) -> None:
    with person(daemon, "alice", ("operator", "all"), ("viewer", "host:h2")) as alice:
        session = alice.http.get("/session").json()
        assert (session["name"], session["kind"]) == ("alice", "session")
        assert session["address"] == "127.0.0.1"
        scopes = [right["scopes"] for right in session["rights"]]
        assert sorted(scopes) == [["all"], ["host:h2"]]
        assert "maintain" in session["rights"][0]["privileges"]
        assert [one["name"] for one in alice.http.get("/hosts").json()] == ["h1", "h2", "h3", "h4"]


def test_the_cookie_is_for_this_host_and_for_no_script(daemon: Running) -> None:
    add_user(daemon, "cookie")
    http, answer = sign_in(daemon, "cookie")
    with closing(http):
        words = answer.headers["Set-Cookie"].split("; ")
    assert words[0].startswith("furlough_session=furlough_")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(words)
    assert answer.headers["Cache-Control"] == "no-store"
    assert words[0].split("=")[1] not in answer.text


@pytest.mark.parametrize(("name", "password"), [("nobody", PASSWORD), ("wrong", "x" * 20)])
def test_whatever_is_wrong_with_a_sign_in_the_answer_is_the_same(
    daemon: Running, name: str, password: str
) -> None:
    with daemon.http() as admin:
        admin.post("/users", json={"name": "wrong", "password": PASSWORD})
    http, answer = sign_in(daemon, name, password)
    with closing(http):
        problem = check_problem(answer, 401, "caller.wrong")
        assert problem["detail"] == "Name and password do not belong together."
        assert "Set-Cookie" not in answer.headers
        assert refused(http)


def test_a_user_who_is_switched_off_is_out_at_once_and_does_not_get_in(daemon: Running) -> None:
    with person(daemon, "leaver", ("viewer", "all")) as leaver, daemon.http() as admin:
        assert not refused(leaver.http)
        admin.patch("/users/leaver", json={"is_enabled": False})
        assert refused(leaver.http)
        http, answer = sign_in(daemon, "leaver")
        with closing(http):
            check_problem(answer, 401, "caller.wrong")


def test_each_sign_in_has_a_cookie_of_its_own(daemon: Running) -> None:
    with person(daemon, "twice") as once, signed_in(daemon, "twice") as again:
        assert once.cookie != again.cookie
        again.http.delete("/session")
        assert refused(again.http)
        assert once.http.get("/session").status_code == 200


def _signs_out(someone: Person, _daemon: Running) -> None:
    assert someone.http.delete("/session").status_code == 204


def _gets_a_role(_someone: Person, daemon: Running) -> None:
    with daemon.http() as admin:
        assert admin.post("/users/ends/roles", json={"role": "operator"}).status_code == 200


def _loses_a_role(_someone: Person, daemon: Running) -> None:
    with daemon.http() as admin:
        assert admin.delete("/users/ends/roles/viewer").status_code == 200


def _changes_the_password(someone: Person, _daemon: Running) -> None:
    body = {"old": PASSWORD, "new": "another good one"}
    assert someone.http.post("/session/password", json=body).status_code == 204


def _is_given_a_password(_someone: Person, daemon: Running) -> None:
    with daemon.http() as admin:
        assert admin.patch("/users/ends", json={"password": "another good one"}).is_success


@pytest.mark.parametrize(
    "end",
    [_signs_out, _gets_a_role, _loses_a_role, _changes_the_password, _is_given_a_password],
)
def test_what_ends_a_session_ends_it_for_the_old_cookie_too(daemon: Running, end: object) -> None:
    assert callable(end)
    with person(daemon, "ends", ("viewer", "all")) as someone:
        old = dict(someone.http.cookies)
        end(someone, daemon)
        with daemon.http(token=None) as thief:
            thief.cookies.update(old)
            assert refused(thief)


def test_a_session_ends_when_nobody_uses_it_and_when_it_is_old(daemon: Running) -> None:
    with person(daemon, "idle", ("viewer", "all")) as idle:
        daemon.skip(3500)
        assert not refused(idle.http)
        daemon.skip(3500)
        assert not refused(idle.http)
        daemon.skip(3700)
        assert refused(idle.http)
    with person(daemon, "busy", ("viewer", "all")) as busy:
        for _ in range(14):
            daemon.skip(3000)
            assert not refused(busy.http)
        daemon.skip(3000)
        assert refused(busy.http)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"X-CSRF-Token": "0" * 64}, 403),
        ({"X-CSRF-Token": "right", "Origin": "https://evil.example"}, 403),
        ({"X-CSRF-Token": "right", "Origin": "null"}, 403),
        ({"X-CSRF-Token": "right", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-CSRF-Token": "right", "Sec-Fetch-Site": "same-site"}, 403),
        ({"X-CSRF-Token": "right"}, 202),
        ({"X-CSRF-Token": "right", "Origin": "own"}, 202),
    ],
)
def test_what_changes_by_cookie_has_to_come_from_a_page_of_ours(
    daemon: Running, headers: dict[str, str], status: int
) -> None:
    with person(daemon, "csrf", ("operator", "all")) as someone, daemon.http() as admin:
        right = someone.http.headers.pop("X-CSRF-Token")
        del someone.http.headers["Origin"]
        words = {"right": right, "own": daemon.url}
        sent = {name: words.get(value, value) for name, value in headers.items()}
        answer = someone.http.post("/hosts/h4/cordon", json={}, headers=sent)
        assert answer.status_code == status, answer.text
        if status == 403:
            check_problem(answer, 403, "request.forged")
            assert admin.get("/hosts/h4").json()["mode"] == "available"
            return
        with daemon.client() as client:
            list(client.events(answer.json()["id"]))
            list(client.events(client.ask("uncordon", ["h4"], {}).id))


def test_a_form_and_plain_text_change_nothing_even_with_the_token(daemon: Running) -> None:
    with person(daemon, "form", ("operator", "all")) as someone:
        for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data"):
            answer = someone.http.post(
                "/hosts/h4/cordon", content=b"{}", headers={"Content-Type": kind}
            )
            assert answer.status_code == 422
        assert someone.http.get("/hosts/h4").json()["mode"] == "available"


def test_nobody_is_signed_in_from_a_page_of_somebody_else(daemon: Running) -> None:
    """Else a visitor could be made to work under the name of an attacker."""
    with daemon.http(token=None) as http:
        body = {"name": "local", "password": PASSWORD}
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            check_problem(http.post("/session", json=body, headers=headers), 403, "request.forged")


def test_guesses_have_to_wait_longer_and_longer_and_lock_out_nobody_else(daemon: Running) -> None:
    add_user(daemon, "guessed")
    began_s = daemon.now_s
    guesses = 0
    for _ in range(200):
        http, answer = sign_in(daemon, "guessed", "not the password")
        http.close()
        if answer.status_code == 429:
            problem = check_problem(answer, 429, "login.throttled")
            assert problem["kind"] == "throttled"
            daemon.skip(float(answer.headers["Retry-After"]))
        else:
            check_problem(answer, 401, "caller.wrong")
            guesses += 1
        if guesses == 20:
            break
    assert guesses == 20
    assert daemon.now_s - began_s > 10 * 60  # a thousand: more than sixteen hours
    http, answer = sign_in(daemon, "guessed")
    http.close()
    assert answer.status_code == 429  # even the right one, from here
    daemon.skip(61)
    http, answer = sign_in(daemon, "guessed")
    http.close()
    assert answer.status_code == 201


def test_passwords_are_long_and_nothing_else_is_asked_of_them(daemon: Running) -> None:
    with daemon.http() as admin:
        for password, status in (("eleven char", 422), ("twelve chars", 201), ("x" * 257, 422)):
            answer = admin.post("/users", json={"name": "length", "password": password})
            assert answer.status_code == status, answer.text
        assert admin.delete("/users/length").status_code == 204
