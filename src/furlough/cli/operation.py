"""`furlough operation ...`"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from furlough.cli import output
from furlough.errors import Invalid

if TYPE_CHECKING:
    from furlough.wire.exits import PutBackView
    from furlough.wire.operations import OperationView

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
        for one in found.replans:
            output.say()
            output.say(f"Planned anew at {one.at:%H:%M:%S} ({one.after[:12]}), since {one.why}:")
            for change in one.changes:
                output.say(f"  {change}")
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
    put_back: Annotated[
        bool, typer.Option("--put-back", help="Bring back the VMs that have left, by a plan.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --put-back: only show that plan and its cost.")
    ] = False,
    plan_hash: Annotated[
        str | None,
        typer.Option(
            "--plan-hash",
            help="With --put-back: the plan that was seen; refused if it is another by now.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="With --put-back: say yes to the plan shown.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is over.")] = False,
    json: Json = False,
) -> None:
    """Stop an operation. VMs that have moved stay where they are, or are put back; all are
    listed.

    --put-back shows its plan and cost first, and asks; exit code 8 if nobody is there to answer.
    """
    from furlough.cli.daemon_access import connect, see_through

    if (finish and put_back) or ((dry_run or plan_hash or yes) and not put_back):
        raise typer.BadParameter(
            "--finish or --put-back; --dry-run, --plan-hash and --yes go with --put-back."
        )
    mode = "finish" if finish else "put_back" if put_back else "stop"
    with connect() as client:
        if dry_run:
            _show_put_back(client.put_back_plan(which), json=json)
            return
        if put_back and plan_hash is None:
            plan_hash = _chosen_put_back(client.put_back_plan(which), is_sure=yes, json=json)
        sys.exit(
            see_through(client, lambda: client.cancel(which, mode, plan_hash), wait=wait, json=json)
        )


def _chosen_put_back(found: PutBackView, *, is_sure: bool, json: bool) -> str:
    """The hash of this plan, once somebody has said yes to it; else the command ends."""
    from furlough.cli.remedies import ask_person

    if not json:
        _show_put_back(found, json=False)
    answer = None if is_sure else ask_person()
    if answer is not None:
        sys.exit(answer)
    return found.plan.hash


def _show_put_back(found: PutBackView, *, json: bool) -> None:
    from furlough.cli import reports

    if json:
        output.print_json(found)
        return
    output.print_table(
        ("vm", "now on", "action", "reason"),
        [(vm.name, vm.now_on, vm.action.replace("_", " "), vm.reason) for vm in found.vms],
    )
    output.say()
    reports.print_plan(found.plan)
    output.say(
        f"  -> To do this: furlough operation cancel {found.operation} --put-back "
        f"--plan-hash {found.plan.hash}"
    )


@app.command()
def approve(
    which: Which,
    plan_hash: Annotated[
        str | None,
        typer.Option("--hash", help="The plan that was seen; refused if it is another by now."),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option("--step", metavar="STEP", help="Only this step, by its id. Repeatable."),
    ] = None,
    vm: Annotated[
        list[str] | None,
        typer.Option("--vm", metavar="VM", help="Only steps about this VM. Repeatable."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it is over.")] = False,
    json: Json = False,
) -> None:
    """Let an operation with automation manual do what it has planned, or some of its steps."""
    from furlough.cli.daemon_access import connect, see_through

    with connect() as client:
        steps = [*(step or []), *(_steps_about(client.operation(which), vm) if vm else [])]
        sys.exit(
            see_through(
                client, lambda: client.approve(which, plan_hash, steps), wait=wait, json=json
            )
        )


def _steps_about(operation: OperationView, vms: list[str]) -> list[str]:
    """The ids of the steps about these VMs that are not over."""
    found = []
    for name in vms:
        steps = [
            one.id
            for one in operation.steps
            if name in (one.vm_name, one.vm_uuid) and one.state in ("pending", "started")
        ]
        if not steps:
            raise Invalid(
                "step.unknown",
                f"{operation.id} has no step about VM {name[:255]!r} that is not over.",
                remedy=f"See its steps: furlough operation show {operation.id}.",
            )
        found += steps
    return found


@app.command()
def pause(which: Which, json: Json = False) -> None:
    """Start nothing new in an operation; what is in flight ends. It stays paused until it is
    resumed."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        _say_state(client.pause(which), json=json)


@app.command()
def resume(which: Which, json: Json = False) -> None:
    """Let a paused or blocked operation go on, after looking at what it waited for."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        _say_state(client.resume(which), json=json)


def _say_state(found: OperationView, *, json: bool) -> None:
    if json:
        output.print_json(found)
    else:
        output.say(f"{found.id} is {found.state.value}.")
