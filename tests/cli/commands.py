"""Running the `furlough` command: in this process, or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from furlough.cli.entry import main
from furlough.context import Context

ESCAPE = "\x1b"


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which is JSON and nothing else."""
        return json.loads(self.out)


class Furlough:
    """`furlough(...)` runs the command with these words in this process, through the very entry
    point that the installed script calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str) -> Result:
        # How a process gets its words; nothing of ours is replaced.
        self._monkeypatch.setattr(sys, "argv", ["furlough", *words])
        self._capsys.readouterr()
        code: int | str | None = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        out, err = self._capsys.readouterr()
        assert isinstance(code, int)
        assert "Traceback" not in out + err
        assert ESCAPE not in out + err
        return Result(code=code, out=out, err=err)


def environment(context: Context, home: Path, **more: str) -> Mapping[str, str]:
    """The environment of a command in a process of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "FURLOUGH_URL": context.url,
        "FURLOUGH_TOKEN": context.token,
        **more,
    }


def start(*words: str, env: Mapping[str, str], **more: Any) -> subprocess.Popen[str]:
    """The command in a process of its own; what it says goes into pipes unless `more` says
    otherwise."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "furlough", *words]
    return subprocess.Popen(command, env=env, **{**pipes, **more})


def complaint(result: Result) -> str:
    """What an error says; that it says what, and what to do, and says it beside the output."""
    assert result.out == ""
    assert result.err.startswith("furlough: "), result.err
    assert "  -> " in result.err, result.err
    return result.err
