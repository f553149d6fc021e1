"""Settings: a file with mistakes is refused with the place of the mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from furlough.config import Settings, default_data_dir, is_loopback, load, split_listen, with_server
from furlough.core.policy import Automation, Order, Scope
from furlough.errors import FurloughError, Invalid, NotFound


def loaded(tmp_path: Path, text: str | bytes) -> Settings:
    file = tmp_path / "furlough.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(file)


def refused(tmp_path: Path, text: str | bytes) -> FurloughError:
    with pytest.raises(Invalid) as caught:
        loaded(tmp_path, text)
    assert str(tmp_path) in caught.value.message
    assert caught.value.remedy
    return caught.value


def test_without_a_file_everything_has_its_default() -> None:
    settings = load(None)
    assert settings == Settings()
    assert settings.server.listen == "127.0.0.1:8642"
    assert settings.server.data_dir == default_data_dir()
    assert settings.maintenance.timeout_s == 0


def test_what_a_file_says_counts_and_the_rest_keeps_its_default(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        '[server]\nlisten = "[::1]:1"\ndata_dir = "/data"\n'
        'database = "postgresql+psycopg://f@db/f"\n'
        "[engine]\nsettle_window_s = 5\n[maintenance]\ntimeout_s = -1\n"
        'automation = "manual"\norder = "memory"\n'
        '[[cluster]]\nname = "c1"\n',
    )
    assert settings.server.listen == "[::1]:1"
    assert settings.server.data_dir == Path("/data")
    assert settings.engine.settle_window_s == 5.0
    assert settings.engine.observe_every_s == 5.0
    assert settings.maintenance.timeout_s == -1.0
    assert settings.maintenance.automation is Automation.MANUAL
    assert settings.maintenance.order is Order.MEMORY
    assert settings.maintenance.scope is Scope.RUNNING
    assert settings.enrolment == {"cluster": [{"name": "c1"}]}


def test_what_the_command_line_says_goes_before_the_file(tmp_path: Path) -> None:
    settings = loaded(tmp_path, '[server]\nlisten = "127.0.0.1:1"\n')
    assert with_server(settings, listen=None).server.listen == "127.0.0.1:1"
    assert with_server(settings, listen="127.0.0.1:2").server.listen == "127.0.0.1:2"


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("[serer]\n", "config.unknown", "[serer]"),
        ("[server]\nlitsen = ''\n", "config.unknown", "'litsen'"),
        ("server = 1\n", "config.type", "[server]"),
        ("[server]\nlisten = 8642\n", "config.type", "listen"),
        ("[server]\ndata_dir = ['x']\n", "config.type", "data_dir"),
        ('[server]\ndata_dir = "a\\u0000b"\n', "config.type", "data_dir"),
        ('[server]\ndata_dir = "a\\nb"\n', "config.type", "data_dir"),
        ("[server]\ndatabase = 'sqlite:///x'\n", "config.database", "database"),
        ("[server]\ndatabase = 'postgresql://x'\n", "config.database", "database"),
        ("[engine]\nobserve_every_s = '5'\n", "config.type", "observe_every_s"),
        ("[engine]\nobserve_every_s = true\n", "config.type", "observe_every_s"),
        ("[engine]\nobserve_every_s = nan\n", "config.type", "observe_every_s"),
        ("[engine]\nobserve_every_s = inf\n", "config.type", "observe_every_s"),
        ("[engine]\nobserve_every_s = 0\n", "config.range", "observe_every_s"),
        ("[engine]\nsettle_window_s = -1\n", "config.range", "settle_window_s"),
        (f"[maintenance]\ntimeout_s = {10**400}\n", "config.type", "timeout_s"),
        ("[maintenance]\ntimeout_s = 1e300\n", "config.type", "timeout_s"),
        ('[maintenance]\nscope = "everything"\n', "config.type", "running, all"),
        ("[maintenance]\norder = [1]\n", "config.type", "schedule, memory"),
        ("[server\n", "config.syntax", "TOML"),
        ("a = " + "[" * 20_000, "config.syntax", "TOML"),
        ("a = " + "9" * 5_000, "config.syntax", "TOML"),
        (b"a = '\xff'", "config.syntax", "TOML"),
    ],
)
def test_mistakes_are_named_with_their_place(
    tmp_path: Path, text: str | bytes, code: str, place: str
) -> None:
    error = refused(tmp_path, text)
    assert error.code == code
    assert place in error.message


def test_the_password_of_a_database_is_not_told(tmp_path: Path) -> None:
    error = refused(tmp_path, "[server]\ndatabase = 'mysql://me:hunter2@db/x'\n")
    assert "hunter2" not in str(error)


def test_a_file_that_is_not_there_or_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as missing:
        load(tmp_path / "nothing.toml")
    assert (missing.value.code, bool(missing.value.remedy)) == ("config.missing", True)
    with pytest.raises(Invalid) as directory:
        load(tmp_path)
    assert (directory.value.code, bool(directory.value.remedy)) == ("config.unreadable", True)


@pytest.mark.parametrize(
    ("listen", "address", "port"),
    [
        ("127.0.0.1:8642", "127.0.0.1", 8642),
        ("127.0.0.53:0", "127.0.0.53", 0),
        ("localhost:65535", "localhost", 65535),
        ("[::1]:80", "::1", 80),
        ("::1:80", "::1", 80),
        (":80", "127.0.0.1", 80),
    ],
)
def test_loopback_addresses_can_be_listened_on(listen: str, address: str, port: int) -> None:
    assert split_listen(listen) == (address, port)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104  # words
def test_beyond_loopback_is_known_as_such(address: str) -> None:
    assert split_listen(f"[{address}]:80") == (address, 80)
    assert not is_loopback(address)
    assert all(is_loopback(one) for one in ("localhost", "127.0.0.1", "127.8.8.8", "::1"))


@pytest.mark.parametrize(
    ("listen", "code"),
    [
        ("", "listen.malformed"),
        ("localhost", "listen.malformed"),
        ("127.0.0.1:", "listen.malformed"),
        ("127.0.0.1:http", "listen.malformed"),
        ("127.0.0.1:-1", "listen.malformed"),
        ("127.0.0.1:65536", "listen.malformed"),
        ("127.0.0.1:²", "listen.malformed"),
        ("127.0.0.1:" + "9" * 5000, "listen.malformed"),
        ("example.org:80", "listen.malformed"),
        ("127.0.0.1.example.org:80", "listen.malformed"),
    ],
)
def test_nothing_else_is_listened_on(listen: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        split_listen(listen)
    assert caught.value.code == code
    assert caught.value.remedy


def test_probe_commands_are_lists_of_words(tmp_path: Path) -> None:
    text = '[probes]\nstorage = ["/usr/bin/ceph-fine", "--quick"]\n'
    probes = loaded(tmp_path, text).probes
    assert probes.storage == ("/usr/bin/ceph-fine", "--quick")
    assert probes.backup == ()


@pytest.mark.parametrize("value", ['"/bin/x --all"', '["relative"]', '["/bin/x", 3]', '["a\\nb"]'])
def test_a_probe_command_that_is_no_list_of_words_is_refused(tmp_path: Path, value: str) -> None:
    error = refused(tmp_path, f"[probes]\nbackup = {value}\n")
    assert error.code == "config.type"
    assert "the first one an absolute path" in error.message
