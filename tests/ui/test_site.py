"""Who gets which page, and what every answer carries: without a browser, request by request."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest

from furlough.client import Client
from furlough.ui.site import EVERY_PAGE
from tests.api.people import PASSWORD, Person, person
from tests.api.running import Running
from tests.ui.conftest import ADMIN

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def operator(daemon: Running) -> Iterator[Person]:
    with person(daemon, "olga", ("operator", "host:h1")) as someone:
        yield someone


def pages(daemon: Running, someone: Person | None = None) -> httpx2.Client:
    """A client of the pages, with somebody's cookie."""
    http = daemon.http(token=None)
    http.base_url = httpx2.URL(daemon.url)
    if someone is not None:
        http.cookies.set("furlough_session", someone.cookie)
    return http


def addresses(method: str) -> list[str]:
    """An address of every page that is asked for with this method."""
    values = {"host": "h1", "operation": "op-1", "act": "reboot", "user": "olga",
              "vm": "00000000-0000-4000-9000-000000000001", "token": "tok"}  # fmt: skip
    return [
        re.sub(r"{(\w+)}", lambda name: values[name[1]], path)
        for routes in EVERY_PAGE
        for (known, path) in routes
        if known == method
    ]


@pytest.mark.parametrize("path", addresses("GET"))
def test_nobody_sees_a_page_without_signing_in(daemon: Running, path: str) -> None:
    with pages(daemon) as http:
        answer = http.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in")
        quiet = http.get(path, headers={"X-Furlough-Live": "1"})
        assert (quiet.status_code, quiet.text) == (401, "")


@pytest.mark.parametrize("path", addresses("POST"))
def test_nothing_is_done_for_a_form_that_no_page_of_ours_has_made(
    daemon: Running, operator: Person, path: str
) -> None:
    with pages(daemon) as http:
        assert http.post(path, headers=FORM).headers["location"] == "/sign-in"
    with pages(daemon, operator) as http:
        bare = http.post(path, headers=FORM)
        assert bare.status_code == 403
        assert "request.forged" in bare.text
        token = operator.http.headers["X-CSRF-Token"]
        foreign = http.post(
            path, data={"csrf_token": token}, headers={"Origin": "http://evil.example"}
        )
        assert foreign.status_code == 403


def test_a_local_token_opens_no_page_and_every_answer_forbids_foreign_scripts(
    daemon: Running, operator: Person
) -> None:
    with pages(daemon) as http:
        answer = http.get("/", headers={"Authorization": "Bearer furlough_a-token-for-tests"})
        assert answer.status_code == 303
        for path in ("/sign-in", "/static/live.js", "/hosts/h1"):
            headers = http.get(path).headers
            assert "script-src 'self'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
    with pages(daemon, operator) as http:
        assert http.get("/").headers["cache-control"] == "no-store"


def test_what_nobody_granted_is_neither_shown_nor_done(
    daemon: Running, operator: Person, client: Client
) -> None:
    token = operator.http.headers["X-CSRF-Token"]
    with pages(daemon, operator) as http:
        assert "h2" not in re.findall(r'href="/hosts/(h\d)"', http.get("/").text)
        assert http.get("/hosts/h2").status_code == 404
        assert http.get("/audit").status_code == 403
        refused = http.post("/hosts/h2/cordon", data={"csrf_token": token})
        assert refused.status_code == 404
        assert "What to do:" in refused.text
    assert {host.mode.value for host in client.hosts()} == {"available"}


def test_sign_in_leads_back_into_this_site_and_nowhere_else(daemon: Running) -> None:

    for wanted, led in (
        ("/hosts/h1?log=all", "/hosts/h1?log=all"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
    ):
        with pages(daemon) as http:
            answer = http.post(
                "/sign-in", data={"name": ADMIN, "password": PASSWORD, "next": wanted}
            )
            assert (answer.status_code, answer.headers["location"]) == (303, led)
            cookie = answer.headers["set-cookie"].lower()
            assert "httponly" in cookie
            assert "samesite=strict" in cookie


def test_a_form_that_is_sent_twice_asks_once(
    daemon: Running, client: Client, operator: Person
) -> None:
    form = {"csrf_token": operator.http.headers["X-CSRF-Token"], "key": "the-same"}
    with pages(daemon, operator) as http:
        assert [http.post("/hosts/h1/cordon", data=form).status_code for _ in range(2)] == [303] * 2
    asked = [one for one in client.operations(host="h1") if one.requested_by == "olga"]
    assert [one.kind for one in asked] == ["cordon"]
    list(client.events(asked[0].id))


def test_what_is_not_there_or_makes_no_sense_is_said_with_what_to_do(
    daemon: Running, operator: Person
) -> None:
    with pages(daemon, operator) as http:
        for path, status in (
            ("/hosts/h1/nothing", 404),
            ("/hosts/-x", 422),
            ("/operations/op-99999", 404),
            ("/hosts/h1/enter?timeout_s=soon", 422),
            ("/hosts/h1/power/reboot", 409),
            ("/hosts/h1/power/explode", 404),
        ):
            answer = http.get(path)
            assert answer.status_code == status, path
            assert "What to do:" in answer.text, path
        assert http.post("/sign-in", content=b"{}").status_code == 422
