"""The `furlough` command, called as a person calls it, beside a daemon with a simulated cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import client, daemon, everything_as_before
from tests.api.running import Running
from tests.cli.commands import Furlough

__all__ = ["client", "daemon", "everything_as_before"]


@pytest.fixture
def alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Furlough:
    """The command where no daemon is known."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("FURLOUGH_URL", "FURLOUGH_TOKEN", "FURLOUGH_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return Furlough(monkeypatch, capsys)


@pytest.fixture
def furlough(alone: Furlough, daemon: Running, monkeypatch: pytest.MonkeyPatch) -> Furlough:
    """The command where the environment names the daemon."""
    monkeypatch.setenv("FURLOUGH_URL", daemon.context.url)
    monkeypatch.setenv("FURLOUGH_TOKEN", daemon.context.token)
    return alone
