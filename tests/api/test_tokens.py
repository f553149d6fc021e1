"""Who carries no valid token learns nothing, and changes nothing."""

from __future__ import annotations

import httpx2
import pytest

from tests.api.running import TOKEN, Running

EVERYWHERE = [
    ("GET", "/hosts"),
    ("GET", "/hosts/h1"),
    ("GET", "/hosts/nowhere"),
    ("GET", "/vms"),
    ("GET", "/operations/op-1"),
    ("GET", "/events"),
    ("GET", "/events?operation=op-1"),
    ("GET", "/ready"),
    ("GET", "/openapi.json"),
    ("GET", "/no/such/route"),
    ("GET", "/../v1/hosts"),
    ("PUT", "/hosts"),
    ("DELETE", "/hosts/h1"),
    ("POST", "/operations"),
    ("POST", "/apply"),
    ("OPTIONS", "/hosts"),
]
NO_TOKENS = [
    None,
    "",
    "Bearer",
    "Bearer wrong",
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"Basic {TOKEN}",
    TOKEN,
    "Bearer \xff\xfe",
]


def asked(daemon: Running, method: str, path: str, header: str | None) -> httpx2.Response:
    headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
    with daemon.http(token=None) as http:
        return http.request(method, path, headers=headers)


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
def test_without_a_token_every_address_gives_the_same_refusal(
    daemon: Running, method: str, path: str
) -> None:
    known = asked(daemon, "GET", "/hosts", None)
    refusal = asked(daemon, method, path, None)
    assert refusal.status_code == 401
    assert refusal.headers["WWW-Authenticate"] == "Bearer"
    assert refusal.headers["Content-Type"] == "application/problem+json"
    assert refusal.content == known.content
    assert refusal.json()["code"] == "caller.unknown"
    assert "FURLOUGH_TOKEN" in refusal.json()["remedy"]


@pytest.mark.parametrize("header", NO_TOKENS)
@pytest.mark.parametrize("path", ["/hosts", "/events", "/no/such/route"])
def test_whatever_is_not_the_token_is_refused(
    daemon: Running, path: str, header: str | None
) -> None:
    assert asked(daemon, "GET", path, header).status_code == 401


def test_a_body_is_not_even_read_without_a_token(daemon: Running) -> None:
    with daemon.http(token=None) as http:
        for content in (b"{", b"[" * 100_000, b"\xff"):
            sent = http.post(
                "/operations", content=content, headers={"Content-Type": "application/json"}
            )
            assert sent.status_code == 401


def test_the_scheme_of_the_header_may_be_written_in_any_case(daemon: Running) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert asked(daemon, "GET", "/hosts", f"{scheme} {TOKEN}").status_code == 200


def test_health_is_told_to_anybody_and_readiness_is_not(daemon: Running) -> None:
    assert asked(daemon, "GET", "/health", None).json()["status"] == "ok"
    assert asked(daemon, "GET", "/ready", f"Bearer {TOKEN}").json()["status"] == "ok"


def test_what_is_refused_for_its_token_has_changed_nothing(daemon: Running) -> None:
    with daemon.http(token="wrong") as stranger, daemon.http() as http:
        before = http.get("/operations").json()
        stranger.post("/hosts/h1/cordon", json={})
        stranger.delete("/hosts/h4")
        assert http.get("/operations").json() == before
        assert [host["mode"] for host in http.get("/hosts").json()] == ["available"] * 4
