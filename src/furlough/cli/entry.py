"""Where the installed command begins: which part of the program is needed, and how errors end it.

Planning from an inventory file is asked for by programs, again and again, and takes less time than
loading the parser of all commands. Where the words are plain it is begun at once; for everything
else, help and mistakes included, the whole command line is loaded.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from furlough.cli import output
from furlough.errors import Bug, FurloughError


def main() -> None:
    """Run the command line; every error ends in its exit code, never in a traceback."""
    run(_command(sys.argv[1:]))


def _command(words: list[str]) -> Callable[[], None]:
    if words[:2] == ["plan", "diff"]:
        # As one would say it; a host of that name is asked for by `plan -- diff`.
        words[:2] = ["plan-diff"]
        sys.argv[1:] = words
    if words[:1] == ["plan"] and any(word.startswith("--inventory") for word in words):
        from furlough.cli import planning

        request = planning.plain_request(words[1:])
        if request is not None:
            return lambda: sys.exit(planning.plan_offline(request))
    from furlough.cli.main import app

    return lambda: app(prog_name="furlough")


def run(command: Callable[[], None]) -> None:
    """Run one command; its errors become exit codes, with what they say on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name may not fit the terminal
    try:
        command()
    except FurloughError as error:
        output.complain(error)
        sys.exit(output.exit_code_of(error))
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        output.warn(
            f"furlough: reading or writing failed: {error.strerror or error}{where}.",
            "  -> Look at the file, the disk or the pipe that it was about.",
        )
        _forget_unwritten_output()
        sys.exit(output.FAILED)
    except Exception as error:  # the last resort of the outermost edge
        if os.environ.get("FURLOUGH_DEBUG"):
            raise
        bug = Bug(
            "bug",
            f"a bug of ours: {type(error).__name__}: {error}",
            remedy="Please report it, with what FURLOUGH_DEBUG=1 before the command shows.",
        )
        output.complain(bug)
        sys.exit(output.FAILED)


def _forget_unwritten_output() -> None:
    """What could not be written would be tried once more at the very end, with a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
