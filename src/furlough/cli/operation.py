"""`furlough operation ...`"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from furlough.cli import output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Which = Annotated[str, typer.Argument(metavar="ID", help="An operation's id, such as op-17.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    active: Annotated[bool, typer.Option("--active", help="Only those that are not over.")] = False,
    host: Annotated[str | None, typer.Option("--host", help="Only this host's.")] = None,
    json: Json = False,
) -> None:
    """Operations, newest first."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.operations(active=active, host=host)
    if json:
        output.print_json(found)
        return
    output.print_table(
        ("id", "kind", "hosts", "state", "done", "code", "by", "created"),
        [
            (
                one.id,
                one.kind,
                ",".join(one.hosts),
                one.state.value,
                f"{one.progress_percent} %",
                one.code,
                one.requested_by,
                f"{one.created_at:%Y-%m-%d %H:%M:%S}",
            )
            for one in found
        ],
    )


@app.command()
def show(
    which: Which,
    journal: Annotated[bool, typer.Option("--journal", help="Every event of it.")] = False,
    json: Json = False,
) -> None:
    """One operation: its steps, and what became of every VM."""
    from furlough.cli import following
    from furlough.cli.daemon_access import connect

    with connect() as client:
        if journal:
            entries = client.journal(which)
        else:
            found = client.operation(which)
    if journal and json:
        output.print_json(entries)
    elif journal:
        output.print_table(
            ("number", "at", "event", "content"),
            [(one.number, f"{one.at:%H:%M:%S.%f}", one.kind, _brief(one.event)) for one in entries],
        )
    elif json:
        output.print_json(found)
    else:
        output.print_table(
            ("step", "method", "vm", "from", "to", "state", "attempts", "why"),
            [
                (
                    one.id,
                    one.method,
                    one.vm_name or None,
                    one.source,
                    one.target,
                    one.state.value,
                    one.attempts,
                    one.error.message if one.error else "; ".join(one.notes) or None,
                )
                for one in found.steps
            ],
        )
        following.print_end(found)


def _brief(event: dict[str, object]) -> str:
    """What matters of an event, on one line."""
    hidden = ("kind", "plan", "options", "roster", "evidence", "steps")
    return " ".join(
        f"{name}={value}"
        for name, value in event.items()
        if name not in hidden and value not in (None, "", [], ())
    )


@app.command()
def watch(which: Which, json: Json = False) -> None:
    """Follow an operation to its end; the exit code says how it ended."""
    from furlough.cli.daemon_access import connect, see_through

    with connect() as client:
        sys.exit(see_through(client, lambda: client.operation(which), wait=True, json=json))


@app.command()
def cancel(
    which: Which,
    finish: Annotated[
        bool, typer.Option("--finish", help="Let what is in flight finish, instead of aborting it.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is over.")] = False,
    json: Json = False,
) -> None:
    """Stop an operation. VMs that have moved stay where they are; they are listed."""
    from furlough.cli.daemon_access import connect, see_through

    with connect() as client:
        sys.exit(
            see_through(
                client,
                lambda: client.cancel(which, "finish" if finish else "stop"),
                wait=wait,
                json=json,
            )
        )


@app.command()
def resume(which: Which, json: Json = False) -> None:
    """Let a blocked operation go on, after looking at what it waited for."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.resume(which)
    if json:
        output.print_json(found)
    else:
        output.say(f"{found.id} is {found.state.value}.")
