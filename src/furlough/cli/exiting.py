"""`furlough exit` and `furlough record`: the way back, and the record that is kept until it is
done."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from furlough.cli import output
from furlough.errors import Invalid

if TYPE_CHECKING:
    from furlough.wire.exits import ExitCheckView, RecordView, ReturnView

Hosts = Annotated[list[str], typer.Argument(metavar="HOST", help="Hosts, by name.")]
Host = Annotated[str, typer.Argument(metavar="HOST", help="The host's name.")]
Restore = Annotated[
    Literal["none", "moved", "recorded", "selected"] | None,
    typer.Option(
        "--restore",
        help="none: bring nothing back; moved: the VMs that moved; recorded (usual): all on "
        "record; selected: those listed.",
    ),
]
PowerOn = Annotated[
    list[str] | None,
    typer.Option(
        "--power-on",
        metavar="VM",
        help="With --restore selected: a VM that was stopped, to be started. Several: repeat, or "
        "with commas.",
    ),
]
LiveBack = Annotated[
    list[str] | None,
    typer.Option(
        "--live-migrate-back",
        metavar="VM",
        help="With --restore selected: a VM that moved live, to be brought home.",
    ),
]
ColdBack = Annotated[
    list[str] | None,
    typer.Option(
        "--cold-migrate-back",
        metavar="VM",
        help="With --restore selected: a VM that moved while it was off, to be brought home.",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", help="Give up after so long: 90s, 5m, 2h. 0 for never."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
Ticket = Annotated[str, typer.Option("--ticket", help="A reference of yours, for the record.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Follow the operation to its end.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_LISTS = {
    "power_on": "to power on",
    "live_migrate_back": "to migrate back live",
    "cold_migrate_back": "to migrate back cold",
}


def exit_(
    hosts: Hosts,
    restore: Restore = None,
    power_on: PowerOn = None,
    live_migrate_back: LiveBack = None,
    cold_migrate_back: ColdBack = None,
    timeout: Timeout = None,
    reason: Reason = "",
    ticket: Ticket = "",
    wait: Wait = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only show what would come back, and what not.")
    ] = False,
    json: Json = False,
) -> None:
    """Exit maintenance: bring the VMs home and put the host back into service.

    On a host in service: bring home who is still on record. With --check, exit code 3 if something
    forbids it.
    """
    lists = {
        "power_on": _names(power_on),
        "live_migrate_back": _names(live_migrate_back),
        "cold_migrate_back": _names(cold_migrate_back),
    }
    options: dict[str, object] = {
        "restore": restore or ("selected" if any(lists.values()) else "recorded"),
        **lists,
        "timeout_s": 0 if timeout is None else output.seconds(timeout),
        "reason": reason,
        "ticket": ticket,
    }
    if check:
        _check(hosts, options, json=json)
    from furlough.cli.daemon_access import connect, see_through

    with connect() as client:
        sys.exit(
            see_through(client, lambda: client.ask("exit", hosts, options), wait=wait, json=json)
        )


def _names(words: list[str] | None) -> list[str]:
    """Names that were given one by one or with commas between them. A VM whose name has a comma in
    it is named by its UUID."""
    return [name.strip() for word in words or [] for name in word.split(",") if name.strip()]


def _check(hosts: list[str], options: dict[str, object], *, json: bool) -> None:
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.exit_check(hosts, options)
    if json:
        output.print_json(found)
    else:
        print_check(found)
    sys.exit(output.REFUSED if found.verdict == "blocked" else output.DONE)


def print_check(check: ExitCheckView) -> None:
    """What stands against it, three lists of who comes back, who stays, and how long it takes."""
    output.say(f"{', '.join(check.hosts)}: {check.verdict}")
    for one in check.findings:
        output.say(f"  {one.severity}  {one.code}: {one.message}")
        output.say(f"      -> {one.remedy}")
    every = [vm for name in _LISTS for vm in getattr(check, name)]
    for name, heading in _LISTS.items():
        _print_list(heading, [vm for vm in getattr(check, name) if vm.target is not None])
    left = [vm for vm in every if vm.action == "stays"]
    if left:
        output.say("stay where they are:")
        output.print_table(
            ("vm", "was", "now on", "power", "on record", "why"),
            [
                (vm.name, _words(vm.was), vm.now_on, vm.power, _is_kept(vm), vm.reason)
                for vm in left
            ],
        )
    home = [vm.name for vm in every if vm.action == "at_home"]
    if home:
        output.say(f"at home already: {', '.join(home)}")
    if not every:
        output.say("Nobody is on record who is to come home.")
    for step in check.plan.steps:
        if step.method == "insert":
            output.say(f"{step.vm_name}: what a remedy took out of its drive is put back")
    low, high = output.span(check.plan.eta_s.low), output.span(check.plan.eta_s.high)
    steps, migrations = len(check.plan.steps), check.plan.migrations
    output.say(f"{steps} steps, {migrations} migrations, {low} to {high}")


def _print_list(heading: str, vms: list[ReturnView]) -> None:
    if vms:
        output.say(f"{heading}:")
        output.print_table(
            ("vm", "power", "ha", "from", "to", "changed since", "why"),
            [
                (
                    vm.name,
                    vm.power,
                    "yes" if vm.ha else None,
                    vm.now_on,
                    _route(vm),
                    vm.change or None,
                    vm.reason,
                )
                for vm in vms
            ],
        )


def _route(vm: ReturnView) -> str | None:
    return vm.target if vm.by_way_of is None else f"{vm.target} by way of {vm.by_way_of}"


def _is_kept(vm: ReturnView) -> str:
    return "no longer" if vm.stays == "let_go" else "yes"


def _words(text: str) -> str:
    return text.replace("_", " ")


def record(
    host: Host,
    close: Annotated[
        bool,
        typer.Option(
            "--close", help="Close it: whoever is still on record stays where it is, for good."
        ),
    ] = False,
    reason: Reason = "",
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Who is on record to come home to a host, since which maintenance, and where each is now."""
    from furlough.cli.daemon_access import connect, see_through

    if (reason or wait) and not close:
        raise Invalid(
            "record.options", "--reason and --wait go with --close.", remedy="Say --close, or not."
        )
    with connect() as client:
        if close:
            options = {"reason": reason}
            sys.exit(
                see_through(
                    client, lambda: client.close_record(host, options), wait=wait, json=json
                )
            )
        found = client.record(host)
    if json:
        output.print_json(found)
    else:
        print_record(found)


def print_record(found: RecordView) -> None:
    """Everybody on it, and what to do about them."""
    if not found.is_open:
        output.say(f"{found.host}: nobody is on record who is to come home.")
        return
    output.say(f"{found.host} ({found.mode}): {len(found.vms)} VM(s) to come home")
    output.print_table(
        ("vm", "was", "by", "since", "left on", "now on", "power"),
        [
            (
                vm.name,
                _words(vm.was),
                vm.operation,
                vm.since.astimezone().isoformat(sep=" ", timespec="seconds"),
                vm.left_on,
                vm.now_on,
                vm.power,
            )
            for vm in found.vms
        ],
    )
    output.say(f"  -> See who could come: furlough exit {found.host} --check")
    output.say(f"  -> Bring them home: furlough exit {found.host}")
    output.say(f"  -> Leave them where they are: furlough record {found.host} --close")
