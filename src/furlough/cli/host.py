"""`furlough host ...`"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from furlough.cli import output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="HOST", help="The host's name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Follow the operation to its end.")]
Cluster = Annotated[str | None, typer.Option("--cluster", help="The cluster it belongs to.")]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Where its libvirt daemon answers: IP address or DNS name."),
]
Transport = Annotated[
    Literal["ssh", "tls", "tcp", "local"] | None,
    typer.Option("--transport", help="How its libvirt daemon is reached."),
]
User = Annotated[str | None, typer.Option("--user", help="User to log in as (ssh).")]
MigrationAddress = Annotated[
    str | None,
    typer.Option("--migration-address", help="Where migrations to it go; else --address."),
]
Link = Annotated[
    int | None,
    typer.Option("--link-mbit-s", help="Rate of its migration link in Mbit/s."),
]
Reserved = Annotated[
    int | None,
    typer.Option("--reserved-memory-mib", help="Memory kept for the host itself."),
]
Datastores = Annotated[
    list[str] | None,
    typer.Option("--datastore", help="A datastore it reaches. Repeat for several."),
]
ProgramWay = Annotated[
    Literal["ssh", "local", "none"] | None,
    typer.Option("--program", help="How furlough-host is reached."),
]
Bmc = Annotated[
    str | None,
    typer.Option("--bmc", help="Its management controller: ADDRESS or ADDRESS:PORT, else 443."),
]
OtherWayIn = Annotated[
    bool | None,
    typer.Option(
        "--other-way-in/--no-other-way-in",
        help="Besides network and BMC there is a way to the machine: a console, hands.",
    ),
]


_AS_CLUSTER = "cluster"
Tls = Annotated[
    Literal["required", "when_possible", "off", "cluster"] | None,
    typer.Option("--migration-tls", help="Whether migrations are encrypted; or as its cluster."),
]
TlsName = Annotated[
    str | None,
    typer.Option("--tls-name", help="The name in its certificate for migrations."),
]


@app.command("list")
def list_(json: Json = False) -> None:
    """All hosts: mode, reachability, VMs, memory."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.hosts()
    if json:
        output.print_json(found)
        return
    output.print_table(
        (
            "name",
            "cluster",
            "mode",
            "reachability",
            "guard",
            "running",
            "vms",
            "memory",
            "operation",
        ),
        [
            (
                one.name,
                one.cluster,
                f"{one.mode.value}{' VIOLATED' if one.violations else ''}",
                one.reachability.value,
                one.guard,
                one.vms_running,
                one.vms_total,
                f"{output.mib(one.memory_used_mib)} of {output.mib(one.memory_mib)}",
                one.operation,
            )
            for one in found
        ],
    )


@app.command()
def show(name: Name, json: Json = False) -> None:
    """One host."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.host(name)
    if json:
        output.print_json(found)
        return
    output.print_facts(found.model_dump(mode="json", exclude={"violations"}))
    for one in found.violations:
        since = one.since.astimezone().isoformat(sep=" ", timespec="seconds")
        output.say(f"CRITICAL maintenance.violated: {one.what}, since {since}")
    if found.violations:
        output.say("  -> Move it away or shut it down, and find out who started it.")


@app.command()
def log(
    host: Name,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most this many lines.")
    ] = 200,
    json: Json = False,
) -> None:
    """What happened on a host: a line for each machine and event, the newest last."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.host_log(host, limit)
    if json:
        output.print_json(found)
        return
    for line in found:
        about = f"{line.vm_name}: " if line.vm_name else ""
        at = line.at.astimezone().isoformat(sep=" ", timespec="seconds")
        output.say(f"{at}  {line.operation or '-'}  {line.level.value:<7}  {about}{line.message}")


@app.command()
def add(
    name: Name,
    cluster: Annotated[str, typer.Option("--cluster", help="The cluster it belongs to.")],
    address: Annotated[str, typer.Option("--address", help="IP address or DNS name.")],
    transport: Transport = None,
    user: User = None,
    migration_address: MigrationAddress = None,
    link_mbit_s: Link = None,
    reserved_memory_mib: Reserved = None,
    datastore: Datastores = None,
    program: ProgramWay = None,
    bmc: Bmc = None,
    has_other_way_in: OtherWayIn = None,
    migration_tls: Tls = None,
    tls_name: TlsName = None,
) -> None:
    """Enrol a host."""
    from furlough.cli.daemon_access import connect

    changes = _given(
        transport=transport,
        user=user,
        migration_address=migration_address,
        link_mbit_s=link_mbit_s,
        reserved_memory_mib=reserved_memory_mib,
        datastores=datastore,
        program=program,
        bmc=bmc,
        has_other_way_in=has_other_way_in,
        migration_tls=migration_tls,
        tls_name=tls_name,
    )
    with connect() as client:
        client.add("hosts", {"name": name, "cluster": cluster, "address": address, **changes})
    output.say(f"Host {name} added.")


@app.command("set")
def set_(
    name: Name,
    cluster: Cluster = None,
    address: Address = None,
    transport: Transport = None,
    user: User = None,
    migration_address: MigrationAddress = None,
    link_mbit_s: Link = None,
    reserved_memory_mib: Reserved = None,
    datastore: Datastores = None,
    program: ProgramWay = None,
    bmc: Bmc = None,
    has_other_way_in: OtherWayIn = None,
    migration_tls: Tls = None,
    tls_name: TlsName = None,
) -> None:
    """Change how a host is enrolled; what is not named stays."""
    from furlough.cli.daemon_access import connect

    changes = _given(
        cluster=cluster,
        address=address,
        transport=transport,
        user=user,
        migration_address=migration_address,
        link_mbit_s=link_mbit_s,
        reserved_memory_mib=reserved_memory_mib,
        datastores=datastore,
        program=program,
        bmc=bmc,
        has_other_way_in=has_other_way_in,
        migration_tls=migration_tls,
        tls_name=tls_name,
    )
    with connect() as client:
        client.change("hosts", name, changes)
    output.say(f"Host {name} changed.")


@app.command()
def remove(name: Name) -> None:
    """Forget a host that has no work."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        client.remove("hosts", name)
    output.say(f"Host {name} removed.")


@app.command()
def prepare(name: Name, json: Json = False) -> None:
    """Install furlough-host and its hook on a host, and prove that the hook refuses.

    Exit code 1 if it does not.
    """
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.prepare(name)
    if json:
        output.print_json(found)
    elif found.is_proven:
        output.say(f"{name}: furlough-host and its hook are installed; it was seen to refuse.")
    else:
        output.warn(
            f"furlough: {name}: furlough-host and its hook are installed, but the hook cannot be "
            f"relied on: {found.trouble}.",
            f"  -> {found.remedy}",
        )
    sys.exit(output.DONE if found.is_proven else output.FAILED)


@app.command()
def cordon(name: Name, wait: Wait = False, json: Json = False) -> None:
    """No new VMs for this host; nothing moves."""
    _ask("cordon", name, wait=wait, json=json)


@app.command()
def uncordon(name: Name, wait: Wait = False, json: Json = False) -> None:
    """This host takes VMs again; its guard is lowered."""
    _ask("uncordon", name, wait=wait, json=json)


@app.command()
def reboot(name: Name, wait: Wait = False, json: Json = False) -> None:
    """Reboot a host in maintenance; it stays in maintenance, empty and guarded."""
    _ask("reboot_host", name, wait=wait, json=json)


@app.command("power-off")
def power_off(name: Name, wait: Wait = False, json: Json = False) -> None:
    """Switch off a host in maintenance; it stays in maintenance."""
    _ask("power_off_host", name, wait=wait, json=json)


def _ask(kind: str, name: str, *, wait: bool, json: bool) -> None:
    from furlough.cli.daemon_access import connect, see_through

    with connect() as client:
        sys.exit(see_through(client, lambda: client.ask(kind, [name], {}), wait=wait, json=json))


def _given(**options: Any) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("migration_tls") == _AS_CLUSTER:
        given["migration_tls"] = None
    return given
