"""Programs of this machine, run to their end: argument vectors, a deadline, no shell."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from furlough.errors import Refused, Unreachable

# In the environment of every process of a lab: which lab it belongs to.
MARK = "FURLOUGH_LAB_SITE"

# Locale C, because what programs say is shown in errors and compared in tests.
PLAIN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C",
}


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    text_in: str = "",
    timeout_s: float = 60,
    mark: str | None = None,
    base: Mapping[str, str] = PLAIN_ENVIRONMENT,
) -> str:
    """Run a program and return what it printed.

    Refused if it fails, with what it said; Unreachable if it does not end in time. What it
    leaves running belongs to the lab whose `mark` is given. Its environment is small, unless
    another one is given as `base`.
    """
    words = [os.fspath(word) for word in argv]
    try:
        done = subprocess.run(
            words,
            input=text_in,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**base, MARK: mark} if mark else dict(base),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unreachable(
            "lab.command_silent", f"`{' '.join(words)}` did not end in {timeout_s:g} s."
        ) from error
    except FileNotFoundError as error:
        raise Refused("lab.program_missing", f"The program {words[0]} is missing.") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise Refused(
            "lab.command_failed",
            f"`{' '.join(words)}` failed with status {done.returncode}: {said}",
            status=done.returncode,
        )
    return done.stdout
