"""Where the daemon is and how to speak to it: a small file of the user's, or the environment."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from furlough.errors import Unreachable


@dataclass(frozen=True, kw_only=True)
class Context:
    """The daemon's address and a token for it."""

    url: str
    token: str


def context_path() -> Path:
    """The file that `serve`, `demo` and `lab up` write."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config) / "furlough" / "context.json"


def load_context() -> Context:
    """FURLOUGH_URL and FURLOUGH_TOKEN if they are set, else what the file says."""
    url, token = os.environ.get("FURLOUGH_URL"), os.environ.get("FURLOUGH_TOKEN")
    if url and token:
        return Context(url=url, token=token)
    try:
        known = json.loads(context_path().read_text(encoding="utf-8"))
        return Context(url=url or known["url"], token=token or known["token"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreachable(
            "daemon.unknown",
            "No daemon is known on this machine.",
            remedy="Start one (furlough serve, furlough lab up), or set FURLOUGH_URL and "
            "FURLOUGH_TOKEN.",
        ) from error


def save_context(context: Context) -> None:
    """Write the file, readable by its owner alone."""
    path = context_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"url": context.url, "token": context.token}, file)
    draft.rename(path)


def forget_context(context: Context) -> None:
    """Remove the file if it still speaks of this daemon."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(context_path().read_text(encoding="utf-8"))
        if (known["url"], known["token"]) == (context.url, context.token):
            context_path().unlink()
