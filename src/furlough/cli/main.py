"""The `furlough` command: its sub-commands, and how errors become exit codes.

What only one command needs is imported in that command: help must come at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from furlough import __version__
from furlough.cli import (
    audit,
    cluster,
    exiting,
    host,
    inventory,
    lab,
    operation,
    output,
    tokens,
    users,
    vm,
)
from furlough.cli.entering import (
    Automation,
    MovesOrder,
    OnFailure,
    Override,
    Scope,
    ShutDown,
    Storage,
    Strict,
    Targets,
    WaitForEmpty,
    enter_options,
)
from furlough.errors import Invalid

app = typer.Typer(
    name="furlough",
    help="Host maintenance mode for KVM/libvirt fleets: empty a host without hurting a VM, keep "
    "it empty, bring everything back.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cluster.app, name="cluster", help="Clusters: list, show, add, set, remove.")
app.add_typer(
    host.app, name="host", help="Hosts: list, show, add, set, remove, prepare, cordon, uncordon."
)
app.add_typer(vm.app, name="vm", help="VMs: list, show, set, start, shut-down, power-off, migrate.")
app.add_typer(
    operation.app,
    name="operation",
    help="Operations: list, show, watch, cancel and more.",
)
app.add_typer(
    users.user_app,
    name="user",
    help="Users: list, show, add, first, password, enable, disable, remove.",
)
app.add_typer(users.role_app, name="role", help="Roles: list, set, remove, grant, revoke.")
app.add_typer(tokens.app, name="token", help="API tokens: list, add, revoke.")
app.add_typer(audit.app, name="audit", help="The audit trail: list, verify, export.")
app.add_typer(inventory.app, name="inventory", help="Inventory files: export.")
app.add_typer(lab.app, name="lab", help="Real hosts with real VMs on this machine.")

Hosts = Annotated[list[str], typer.Argument(metavar="HOST", help="Hosts, by name.")]
SomeHosts = Annotated[list[str] | None, typer.Argument(metavar="HOST", help="Hosts, by name.")]
PlanTargets = Annotated[
    list[str] | None,
    typer.Option(
        "--target-host", "--target", help="Only these hosts may take VMs. Repeat for several."
    ),
]
FromFile = Annotated[
    Path | None,
    typer.Option("--inventory", help="Plan from this inventory file; no daemon is asked."),
]
HostsOfFile = Annotated[
    list[str] | None,
    typer.Option("--host", help="With --inventory: a host to empty. Repeat for several."),
]
Rolling = Annotated[
    str | None,
    typer.Option(
        "--rolling", metavar="CLUSTER", help="With --inventory: waves for all hosts of a cluster."
    ),
]
Width = Annotated[
    int, typer.Option("--width", min=1, help="With --rolling: hosts of the first wave.")
]
MostAway = Annotated[
    int | None,
    typer.Option(
        "--most-away",
        min=1,
        help="With --rolling: hosts that may be away at once, after the first wave.",
    ),
]
ServiceMinutes = Annotated[
    int,
    typer.Option("--service-minutes", min=1, help="With --rolling: how long each host is away."),
]
Pipeline = Annotated[
    bool,
    typer.Option(
        "--pipeline", help="With --rolling: no waves; empty the next hosts the moment one is back."
    ),
]
HrollerRules = Annotated[
    bool,
    typer.Option("--hroller-rules", help="With --rolling: hosts filled to the brim, and no N+1."),
]
Polish = Annotated[
    bool,
    typer.Option("--polish", help="With --inventory: search more, exactly (needs OR-tools)."),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Have the plan checked by a checker of its own.")
]
WayBack = Annotated[
    bool, typer.Option("--restore", help="Of live hosts: the plan of the way back as well.")
]
Page = Annotated[
    Path | None,
    typer.Option("--html", help="Write a page with pictures to this file."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Follow the operation to its end.")]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", help="Give up after so long: 90s, 5m, 2h. 0 for never."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
Ticket = Annotated[str, typer.Option("--ticket", help="A reference of yours, for the record.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="A furlough.toml: settings, and what to enrol at start."),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where database, token and lock are kept."),
]
Listen = Annotated[
    str | None,
    typer.Option("--listen", help="ADDRESS:PORT to listen on (loopback); port 0 for any."),
]


@app.command()
def version() -> None:
    """Print the version."""
    output.say(f"furlough {__version__}")


@app.command()
def serve(
    config: ConfigFile = None,
    data_dir: DataDir = None,
    listen: Listen = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Serve a simulated cluster instead of real hosts.")
    ] = False,
) -> None:
    """Run the daemon in the foreground."""
    from furlough import daemon
    from furlough.config import load, with_server

    settings = with_server(load(config), data_dir=data_dir, listen=listen)
    daemon.serve(settings, simulate=simulate, announce=output.say)


@app.command()
def demo(
    stay: Annotated[
        bool, typer.Option("--stay", help="Leave the daemon running until Ctrl-C at the end.")
    ] = False,
) -> None:
    """See a simulated host evacuated, kept empty and brought back, in half a minute."""
    from furlough.cli.demo import run_demo

    sys.exit(run_demo(stay=stay))


@app.command()
def apply(file: Annotated[Path, typer.Argument(metavar="FILE", help="A furlough.toml.")]) -> None:
    """Create and update clusters, datastores and hosts from a file."""
    from furlough.cli.daemon_access import connect
    from furlough.config import load

    enrolment = load(file).enrolment
    if not enrolment:
        output.say(f"{file} names no cluster, datastore or host: nothing to apply.")
        return
    with connect() as client:
        client.apply(enrolment)
    counts = ", ".join(f"{len(rows)} {table}(s)" for table, rows in enrolment.items())
    output.say(f"Applied {counts} from {file}.")


@app.command()
def check(
    hosts: Hosts,
    target_host: Targets = None,
    shut_down: ShutDown = None,
    override: Override = None,
    strict: Strict = None,
    scope: Scope = None,
    automation: Automation = None,
    on_failure: OnFailure = None,
    storage: Storage = None,
    reason: Reason = "",
    apply: Annotated[
        str | None,
        typer.Option(
            "--apply",
            metavar="CODE",
            help="Apply the remedy against this finding, after telling what it changes.",
        ),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Put back what remedies have taken out.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Say yes to what --apply or --undo would change.")
    ] = False,
    json: Json = False,
) -> None:
    """Precheck: what would happen to every VM, and what stands against it. Changes nothing, but
    with --apply or --undo.

    Exit code 3 if something forbids entering; 8 if --apply waits for a yes and nobody is there.
    """
    from furlough.cli import remedies, reports
    from furlough.cli.daemon_access import connect

    if undo and apply is not None:
        raise Invalid(
            "remedy.contradiction", "--apply and --undo at once.", remedy="Say one of them."
        )
    options = enter_options(locals())
    with connect() as client:
        if apply is not None:
            _stop_unless_done(remedies.apply(client, hosts, apply, options, is_sure=yes))
        elif undo:
            _stop_unless_done(remedies.undo(client, hosts, is_sure=yes))
        found = client.check(hosts, options)
    if json:
        output.print_json(found)
    else:
        reports.print_reports(found)
    sys.exit(output.REFUSED if any(one.verdict == "blocked" for one in found) else output.DONE)


def _stop_unless_done(code: int) -> None:
    if code != output.DONE:
        sys.exit(code)


_OF_HOSTS = (
    "Options of entering other than --target and --order are for hosts, not for files, and so is "
    "--restore."
)


@app.command()
def plan(
    hosts: SomeHosts = None,
    target_host: PlanTargets = None,
    shut_down: ShutDown = None,
    override: Override = None,
    strict: Strict = None,
    scope: Scope = None,
    automation: Automation = None,
    on_failure: OnFailure = None,
    storage: Storage = None,
    reason: Reason = "",
    inventory: FromFile = None,
    host: HostsOfFile = None,
    order: MovesOrder = None,
    rolling: Rolling = None,
    width: Width = 1,
    most_away: MostAway = None,
    service_minutes: ServiceMinutes = 10,
    pipeline: Pipeline = False,
    hroller_rules: HrollerRules = False,
    polish: Polish = False,
    verify: Verify = False,
    restore: WayBack = False,
    html: Page = None,
    json: Json = False,
) -> None:
    """Dry run: which VM would go where, in which order, how long. Changes nothing.

    Exit code 1 if --verify finds that the plan would break something.
    """
    every_host = [*(hosts or []), *(host or [])]
    wishes = (width, most_away, service_minutes, pipeline, hroller_rules)
    if rolling is not None or wishes != (1, None, 10, False, False):
        if every_host or target_host or html is not None:
            raise typer.BadParameter("--rolling is about a whole cluster, and takes no hosts.")
        _plan_rolling(inventory, rolling, wishes, verify=verify, json=json)
    if not every_host:
        raise typer.BadParameter("Name a host to empty.")
    if inventory is not None:
        of_hosts = (shut_down, override, strict, scope, automation, on_failure, storage, reason)
        if any(of_hosts) or restore:
            raise typer.BadParameter(_OF_HOSTS)
        names, targets = tuple(every_host), tuple(target_host or [])
        how = {"polish": polish, "verify": verify, "json": json}
        _plan_file(inventory, names, targets, order or "schedule", html=html, **how)
    if host or polish:
        which = "--host" if host else "--polish"
        raise typer.BadParameter(f"{which} takes --inventory FILE; live hosts are named alone.")
    from furlough.cli.live_plan import plan_live

    options = enter_options(locals())
    sys.exit(plan_live(every_host, options, verify=verify, html=html, json=json, restore=restore))


def _plan_file(
    inventory: Path,
    hosts: tuple[str, ...],
    targets: tuple[str, ...],
    order: Literal["schedule", "memory"],
    *,
    polish: bool,
    verify: bool,
    json: bool,
    html: Path | None,
) -> NoReturn:
    """Hosts of an inventory file."""
    from furlough.cli.planning import Request, plan_offline

    request = Request(
        inventory=inventory,
        hosts=hosts,
        targets=targets,
        order=order,
        polish=polish,
        verify=verify,
        json=json,
        html=html,
    )
    sys.exit(plan_offline(request))


def _plan_rolling(
    inventory: Path | None,
    cluster: str | None,
    wishes: tuple[int, int | None, int, bool, bool],
    *,
    verify: bool,
    json: bool,
) -> NoReturn:
    """The maintenance of a whole cluster, from a file."""
    if inventory is None or cluster is None:
        raise typer.BadParameter(
            "--rolling CLUSTER takes --inventory FILE; --width, --most-away, --service-minutes, "
            "--pipeline and --hroller-rules take --rolling."
        )
    from furlough.cli.rolling import RollingRequest, plan_rolling

    width, most_away, service_minutes, is_pipeline, hroller_rules = wishes
    request = RollingRequest(
        inventory=inventory,
        cluster=cluster,
        width=width,
        most_away=most_away,
        service_minutes=service_minutes,
        is_pipeline=is_pipeline,
        hroller_rules=hroller_rules,
        verify=verify,
        json=json,
    )
    sys.exit(plan_rolling(request))


@app.command(name="plan-diff")
def plan_diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A plan, printed with --json.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    json: Json = False,
) -> None:
    """What two plans decide differently: which VMs come, go, or go elsewhere."""
    from furlough.cli.planning import print_difference

    print_difference(before, after, as_json=json)


@app.command()
def enter(
    hosts: Hosts,
    target_host: Targets = None,
    shut_down: ShutDown = None,
    override: Override = None,
    strict: Strict = None,
    scope: Scope = None,
    automation: Automation = None,
    on_failure: OnFailure = None,
    storage: Storage = None,
    order: MovesOrder = None,
    wait_for_empty: WaitForEmpty = True,
    timeout: Timeout = None,
    reason: Reason = "",
    ticket: Ticket = "",
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Enter maintenance: move every VM away, keep the host empty.

    With --wait, exit code 0: in maintenance; 1: failed; 3: refused; 4: timed out; 5: cancelled.
    """
    options = enter_options(locals())
    _ask("enter", hosts, options, wait=wait, json=json)


app.command(name="exit")(exiting.exit_)
app.command()(exiting.record)


def _ask(
    kind: str, hosts: list[str], options: Mapping[str, object], *, wait: bool, json: bool
) -> None:
    from furlough.cli.daemon_access import connect, see_through

    with connect() as client:
        sys.exit(
            see_through(client, lambda: client.ask(kind, hosts, options), wait=wait, json=json)
        )
