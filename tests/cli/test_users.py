"""`furlough user`, `role`, `token` and `audit`: what a person types, and what a program reads."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from furlough.client import Client
from tests.api.people import PASSWORD
from tests.api.running import Running
from tests.cli.commands import Furlough, Result, complaint


@pytest.fixture
def typing(furlough: Furlough, monkeypatch: pytest.MonkeyPatch) -> Iterator[Furlough]:
    """The command, with a password as the first line of its standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    yield furlough
    for user in furlough("user", "list", "--json").json:
        furlough("user", "remove", user["name"])


def check_refused(result: Result, code: int, *words: str) -> None:
    said = complaint(result)
    assert result.code == code, said
    assert all(word in said for word in words), said


def test_a_user_is_made_with_roles_and_shown(typing: Furlough) -> None:
    words = ("user", "add", "ann", "--role", "viewer", "--role", "operator@host:h1")
    made = typing(*words, "--json")
    assert made.code == 0, made.err
    assert made.json["roles"] == [
        {"role": "operator", "scope": "host:h1"},
        {"role": "viewer", "scope": "all"},
    ]
    assert PASSWORD not in made.out + made.err
    assert typing("user", "show", "ann", "--json").json == made.json
    assert typing("user", "list", "--json").json == [made.json]
    assert "operator@host:h1, viewer@all" in typing("user", "list").out
    assert re.search(r"password +yes", typing("user", "show", "ann").out)


def test_what_makes_no_sense_is_refused(typing: Furlough) -> None:
    check_refused(typing("user", "show", "nobody"), 2, "no user 'nobody'")
    assert typing("user", "add", "robot", "--no-password").code == 0
    check_refused(typing("user", "add", "robot", "--no-password"), 9, "already")
    check_refused(typing("user", "add", "local", "--no-password"), 2, "somebody else")
    check_refused(typing("user", "add", "a b", "--no-password"), 2, "name")
    check_refused(
        typing("user", "add", "carl", "--no-password", "--role", "king"), 2, "no role 'king'"
    )
    check_refused(typing("role", "grant", "viewer", "robot", "--scope", "rack:1"), 2, "no scope")
    check_refused(typing("role", "set", "admin", "--privilege", "view"), 9, "always there")
    check_refused(typing("user", "first", "root"), 2, "nothing came")


def test_roles_are_made_given_and_taken(typing: Furlough) -> None:
    typing("user", "add", "ann", "--no-password")
    assert typing("role", "set", "planner", "--privilege", "view", "--privilege", "check").code == 0
    assert typing("role", "grant", "planner", "ann", "--scope", "cluster:sim").code == 0
    check_refused(typing("role", "remove", "planner"), 9, "ann")
    assert typing("role", "revoke", "planner", "ann", "--scope", "cluster:sim").code == 0
    check_refused(typing("role", "revoke", "planner", "ann"), 2, "does not have role")
    listed = {one["name"]: one for one in typing("role", "list", "--json").json}
    assert listed["planner"]["privileges"] == ["check", "view"]
    assert "planner" in typing("role", "list").out
    assert typing("role", "remove", "planner").code == 0


def test_a_password_is_set_and_a_user_switched_off_and_on(
    typing: Furlough, daemon: Running
) -> None:
    typing("user", "add", "ann", "--no-password")

    def gets_in() -> bool:
        with daemon.http(token=None) as http:
            body = {"name": "ann", "password": PASSWORD}
            return http.post("/session", json=body).status_code == 201

    assert not gets_in()
    assert typing("user", "password", "ann").code == 0
    assert gets_in()
    assert typing("user", "disable", "ann").code == 0
    assert not gets_in()
    assert typing("user", "enable", "ann").code == 0
    assert gets_in()


def test_a_token_is_printed_once_and_alone_and_may_what_was_said(
    typing: Furlough, monkeypatch: pytest.MonkeyPatch
) -> None:
    typing("user", "add", "robot", "--no-password", "--role", "admin")
    options = ("--user", "robot", "--privilege", "view", "--scope", "host:h2", "--expires", "1h")
    made = typing("token", "add", "--label", "screen", *options)
    assert made.code == 0, made.err
    secret = made.out.strip()
    assert re.fullmatch(r"furlough_[A-Za-z0-9_-]{43}", secret)
    (listed,) = [one for one in typing("token", "list", "--json").json if one["owner"] == "robot"]
    assert secret not in typing("token", "list").out
    with monkeypatch.context() as as_robot:
        as_robot.setenv("FURLOUGH_TOKEN", secret)
        assert [one["name"] for one in typing("host", "list", "--json").json] == ["h2"]
        check_refused(typing("host", "cordon", "h2"), 7, "robot has no privilege cordon")
        check_refused(typing("host", "show", "h1"), 2, "no host 'h1'")
        check_refused(typing("user", "list"), 7, "manage_users")
        check_refused(typing("audit", "list"), 7, "read_audit")
    assert typing("token", "revoke", listed["id"]).code == 0
    with monkeypatch.context() as as_robot:
        as_robot.setenv("FURLOUGH_TOKEN", secret)
        check_refused(typing("host", "list"), 7, "no valid token")
    check_refused(typing("token", "add", "--user", "robot", "--expires", "367d"), 2)


def test_the_trail_is_listed_exported_and_verified(
    typing: Furlough, client: Client, tmp_path: Path
) -> None:
    typing("user", "add", "ann", "--no-password")
    check_refused(typing("host", "uncordon", "h1"), 9)
    newest = typing("audit", "list", "--limit", "1", "--json").json[0]
    assert (newest["action"], newest["result"]) == ("uncordon", "host.mode")
    assert "add_user" in typing("audit", "list", "--user", "local").out

    verified = typing("audit", "verify")
    assert verified.code == 0, verified.out
    checkpoint = verified.out.split()[-1]
    assert checkpoint == f"{newest['number']}:{newest['hash']}"
    assert typing("audit", "verify", "--checkpoint", checkpoint, "--json").json["is_intact"]
    check_refused(typing("audit", "verify", "--checkpoint", "17"), 2, "no checkpoint")

    exported = typing("audit", "export").out
    lines = [json.loads(line) for line in exported.splitlines()]
    assert [one["number"] for one in lines] == list(range(1, newest["number"] + 1))
    path = tmp_path / "audit.jsonl"
    path.write_text(exported, encoding="utf-8")
    from_file = ("audit", "verify", "--file", str(path), "--checkpoint", checkpoint)
    assert typing(*from_file).code == 0
    path.write_text("\n".join(exported.splitlines()[:-1]), encoding="utf-8")
    cut = typing(*from_file)
    assert (cut.code, "gone" in cut.out, "NOT intact" in cut.out) == (1, True, True)
    path.write_text(exported.replace('"ann"', '"eve"').replace("user ann", "user eve"))
    forged = typing("audit", "verify", "--file", str(path))
    assert (forged.code, "not what was written" in forged.out) == (1, True)
    path.write_text("nonsense\n", encoding="utf-8")
    check_refused(typing("audit", "verify", "--file", str(path)), 2, "no export")
