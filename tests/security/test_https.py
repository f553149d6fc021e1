"""Beyond loopback nothing but HTTPS is spoken; and how somebody gets in for the first time, on a
daemon in a process of its own (SEC-04, SEC-20, SEC-32)."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from furlough.config import load
from furlough.errors import Invalid
from furlough.tls import given_identity, own_identity

PASSWORD = "correct horse battery"


@dataclass(frozen=True, kw_only=True)
class Served:
    """A daemon: what it has said at its start, and how to reach it."""

    said: list[str]
    environment: Mapping[str, str]
    directory: Path

    @property
    def context(self) -> dict[str, str]:
        path = Path(self.environment["XDG_CONFIG_HOME"]) / "furlough" / "context.json"
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def furlough(
        self, *words: str, said: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "furlough", *words]
        return subprocess.run(
            command,
            env={**self.environment, **more},
            input=said,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@contextmanager
def served(tmp_path: Path, *words: str, **more: str) -> Iterator[Served]:
    """`furlough serve --simulate`, until it is told to stop."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        **more,
    }
    directory = tmp_path / "data"
    options = ["--simulate", "--data-dir", str(directory), *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "furlough", "serve", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line.rstrip("\n"))
            if "User admin was made" in line or "asks for it" in line:
                break
        yield Served(said=said, environment=environment, directory=directory)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()


def test_beyond_loopback_https_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    with served(tmp_path, "--listen", "0.0.0.0:0", FURLOUGH_ADMIN_PASSWORD=PASSWORD) as daemon:
        context = daemon.context
        assert context["url"].startswith("https://127.0.0.1:")
        assert stat.S_IMODE((daemon.directory / "key.pem").stat().st_mode) == 0o600
        listed = daemon.furlough("host", "list", "--json")
        assert [one["name"] for one in json.loads(listed.stdout)] == ["h1", "h2", "h3", "h4"]

        trust = ssl.create_default_context(cafile=context["certificate"])
        with httpx2.Client(base_url=context["url"], verify=trust, trust_env=False) as http:
            body = {"name": "admin", "password": PASSWORD}
            answer = http.post("/api/v1/session", json=body)
            assert answer.status_code == 201, answer.text
            assert answer.headers["Strict-Transport-Security"]
            words = answer.headers["Set-Cookie"].split("; ")
            assert words[0].startswith("__Host-furlough_session=furlough_")
            assert {"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= set(words)
            assert not any(word.startswith("Domain") for word in words)
            assert http.get("/api/v1/users").status_code == 200
            # The name without the prefix is one that others could have set.
            value = words[0].split("=", 1)[1]
            http.cookies.clear()
            bare = http.get("/api/v1/users", headers={"Cookie": f"furlough_session={value}"})
            assert bare.status_code == 401

        elsewhere = {"FURLOUGH_URL": context["url"].replace("127.0.0.1", "localhost")}
        token = {"FURLOUGH_TOKEN": context["token"]}
        assert daemon.furlough("host", "list", **elsewhere, **token).returncode == 6
        trusting = {"FURLOUGH_CERTIFICATE": context["certificate"]}
        assert daemon.furlough("host", "list", **elsewhere, **token, **trusting).returncode == 0

        port = int(context["url"].rsplit(":", 1)[1])
        check_refuses_what_is_old_or_plain(port, context["certificate"])


def check_refuses_what_is_old_or_plain(port: int, certificate: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not raw.recv(100).startswith(b"HTTP/1.1 200")
    old = ssl.create_default_context(cafile=certificate)
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        old.wrap_socket(raw, server_hostname="127.0.0.1")


def test_on_loopback_a_secret_on_the_console_makes_the_first_administrator(tmp_path: Path) -> None:
    with served(tmp_path, "--listen", "127.0.0.1:0") as daemon:
        assert daemon.context["url"].startswith("http://127.0.0.1:")
        assert not (daemon.directory / "key.pem").exists()
        (secret,) = [line.strip() for line in daemon.said if line.strip().startswith("furlough_")]
        two_lines = f"{secret}\n{PASSWORD}\n"
        made = daemon.furlough("user", "first", "root", said=two_lines)
        assert (made.returncode, "may do everything" in made.stdout) == (0, True), made.stderr
        again = daemon.furlough("user", "first", "second", said=two_lines)
        assert again.returncode == 7
        assert secret not in made.stdout + made.stderr + again.stderr
        users = json.loads(daemon.furlough("user", "list", "--json").stdout)
        assert [one["name"] for one in users] == ["root"]


def test_a_certificate_is_made_once_and_found_again(tmp_path: Path) -> None:
    made = own_identity(tmp_path, "192.0.2.1")
    before = made.certificate.read_bytes()
    assert own_identity(tmp_path, "192.0.2.1") == made
    assert made.certificate.read_bytes() == before


def test_files_that_do_not_belong_together_are_no_identity(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    first, second = own_identity(one, "localhost"), own_identity(other, "localhost")
    assert given_identity(str(first.certificate), str(first.key)).is_own is False
    for certificate, key in (
        (first.certificate, second.key),
        (first.key, first.certificate),
        (tmp_path / "nothing", first.key),
    ):
        with pytest.raises(Invalid) as refusal:
            given_identity(str(certificate), str(key))
        assert refusal.value.code == "certificate.unusable"


def test_a_certificate_without_its_key_is_a_mistake_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "furlough.toml"
    path.write_text('[server]\ncertificate = "/etc/furlough/c.pem"\n', encoding="utf-8")
    with pytest.raises(Invalid) as refusal:
        load(path)
    assert refusal.value.code == "config.certificate"
