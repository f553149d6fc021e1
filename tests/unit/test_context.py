"""Where the daemon is: the environment, else a file that only its owner reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from furlough.context import Context, context_path, forget_context, load_context, save_context
from furlough.errors import Invalid, Unreachable

HERE = Context(url="http://127.0.0.1:8642", token="furlough_here")
THERE = Context(url="http://192.0.2.1:8642", token="furlough_there")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user of whom nothing is known yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FURLOUGH_URL", raising=False)
    monkeypatch.delenv("FURLOUGH_TOKEN", raising=False)
    return tmp_path


def test_what_is_saved_is_known_and_readable_by_its_owner_alone() -> None:
    save_context(HERE)
    assert load_context() == HERE
    assert context_path().stat().st_mode & 0o777 == 0o600
    assert context_path().parent.stat().st_mode & 0o777 == 0o700


def test_saving_again_replaces_it_even_where_a_draft_was_left_behind() -> None:
    save_context(HERE)
    context_path().with_suffix(".new").write_text("half a draft", encoding="utf-8")
    save_context(THERE)
    assert load_context() == THERE


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    save_context(HERE)
    monkeypatch.setenv("FURLOUGH_URL", THERE.url + "/")
    monkeypatch.setenv("FURLOUGH_TOKEN", THERE.token)
    assert load_context() == THERE


def test_a_token_alone_is_for_the_daemon_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    save_context(HERE)
    monkeypatch.setenv("FURLOUGH_TOKEN", "furlough_mine")
    assert load_context() == Context(url=HERE.url, token="furlough_mine")


def test_the_token_of_the_file_is_given_to_no_other_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_context(HERE)
    monkeypatch.setenv("FURLOUGH_URL", THERE.url)
    with pytest.raises(Unreachable) as caught:
        load_context()
    assert caught.value.code == "daemon.unknown"
    assert "FURLOUGH_TOKEN" in caught.value.remedy
    monkeypatch.setenv("FURLOUGH_URL", HERE.url + "/")
    assert load_context() == HERE


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"url": "http://x"}', '{"url": 1, "token": 2}', "\udcff"]
)
def test_a_file_that_says_nothing_is_like_none(text: str) -> None:
    context_path().parent.mkdir(parents=True)
    context_path().write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(Unreachable) as caught:
        load_context()
    assert caught.value.code == "daemon.unknown"
    assert "furlough serve" in caught.value.remedy
    forget_context(HERE)
    assert context_path().exists()


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:8642", "file:///etc/passwd", "http://", "http://[::1", "http://h:99999",
     "http://h/?a=b", "http://h/#x", "http://h\n", "http://h:0"],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("FURLOUGH_URL", url)
    monkeypatch.setenv("FURLOUGH_TOKEN", "furlough_x")
    with pytest.raises(Invalid) as caught:
        load_context()
    assert caught.value.code == "context.url"


def test_a_daemon_behind_a_path_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FURLOUGH_URL", "https://ops.example.org/furlough/")
    monkeypatch.setenv("FURLOUGH_TOKEN", "furlough_x")
    assert load_context().url == "https://ops.example.org/furlough"


def test_only_the_own_context_is_forgotten() -> None:
    save_context(HERE)
    forget_context(THERE)
    assert load_context() == HERE
    forget_context(HERE)
    forget_context(HERE)
    assert not context_path().exists()


def test_a_place_that_cannot_be_written_is_named(home: Path) -> None:
    (home / "config").write_text("a file where a directory should be", encoding="utf-8")
    with pytest.raises(Invalid) as caught:
        save_context(HERE)
    assert caught.value.code == "context.unwritable"
    assert "XDG_CONFIG_HOME" in caught.value.remedy
