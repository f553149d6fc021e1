"""`furlough audit ...`"""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from furlough.cli import output
from furlough.errors import Invalid

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many lines at most.")]
By = Annotated[str | None, typer.Option("--user", help="Only what this user has asked for.")]
After = Annotated[int, typer.Option("--after", min=0, help="Only lines after this number.")]
Checkpoint = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint",
        metavar="NUMBER:HASH",
        help="A line that has to be there, as an earlier verify printed it. Repeat for several.",
    ),
]
Exported = Annotated[
    Path | None,
    typer.Option("--file", help="Verify this export instead, without asking a daemon."),
]


@app.command("list")
def list_audit(limit: Limit = 50, user: By = None, json: Json = False) -> None:
    """The newest lines of the audit trail, newest first."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.access.audit(limit=limit, principal=user)
    if json:
        output.print_json(found)
        return
    output.print_table(
        ("number", "at", "who", "from", "action", "subject", "result"),
        [
            (
                one.number,
                one.at.isoformat(timespec="seconds"),
                one.principal,
                one.address or "-",
                one.action,
                one.subject,
                one.result,
            )
            for one in found
        ],
    )


@app.command("export")
def export_audit(after: After = 0) -> None:
    """Every line of the audit trail as JSON, one to a line, oldest first."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        for one in client.access.whole_audit(after):
            output.print_text(json_text.dumps(one.model_dump(mode="json")))


@app.command("verify")
def verify_audit(checkpoint: Checkpoint = None, file: Exported = None, json: Json = False) -> None:
    """Whether the audit trail is what was written. Prints its newest line as a checkpoint, to be
    kept somewhere else. Exit code 1 where it is not intact."""
    wanted = [_parsed(one) for one in checkpoint or []]
    found = _verify_daemon(wanted) if file is None else _verify_file(file, wanted)
    if json:
        output.print_json(found)
    else:
        for fault in found.faults:
            output.say(f"line {fault.number}: {fault.why}")
        how = "intact" if found.is_intact else "NOT intact"
        newest = f"{found.checkpoint.number}:{found.checkpoint.hash}"
        output.say(f"{found.lines} lines, {how}. Checkpoint: {newest}")
    sys.exit(output.DONE if found.is_intact else output.FAILED)


def _verify_daemon(wanted: list[dict[str, Any]]) -> Any:
    from furlough.cli.daemon_access import connect

    with connect() as client:
        return client.access.verify_audit(wanted)


def _verify_file(path: Path, wanted: list[dict[str, Any]]) -> Any:
    from furlough.wire.access import verified_export

    with path.open(encoding="utf-8") as lines:
        return verified_export(lines, wanted)


def _parsed(text: str) -> dict[str, Any]:
    number, _, digest = text.partition(":")
    if not (number.isascii() and number.isdigit() and len(digest) == 64):
        raise Invalid(
            "checkpoint.malformed",
            f"{text[:100]!r} is no checkpoint.",
            remedy="Write NUMBER:HASH, as furlough audit verify prints it.",
        )
    return {"number": int(number), "hash": digest}
