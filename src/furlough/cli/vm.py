"""`furlough vm ...`"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from furlough.cli import output, vm_policy

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Wanted = Annotated[str, typer.Argument(metavar="VM", help="A VM's name or UUID.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Follow the operation to its end.")]


@app.command("list")
def list_(
    host: Annotated[str | None, typer.Option("--host", help="Only this host's.")] = None,
    json: Json = False,
) -> None:
    """All VMs: where they are, where they belong, what they do."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.vms(host)
    if json:
        output.print_json(found)
        return
    output.print_table(
        ("name", "host", "home host", "power", "vcpus", "memory", "uuid"),
        [
            (
                one.name,
                one.host,
                one.home_host,
                one.power.value,
                one.vcpus,
                output.mib(one.memory_mib),
                one.uuid,
            )
            for one in found
        ],
    )


@app.command()
def show(vm: Wanted, json: Json = False) -> None:
    """One VM."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.vm(vm)
    if json:
        output.print_json(found)
        return
    vm_policy.print_vm(found)


@app.command("set")
def set_(
    vm: Wanted,
    on_maintenance: vm_policy.OnMaintenance = None,
    shut_down_grace: vm_policy.Grace = None,
    if_ignored: vm_policy.IfIgnored = None,
    availability_priority: vm_policy.Priority = None,
    ha: vm_policy.Ha = None,
    downtime_budget: vm_policy.Budget = None,
    post_copy: vm_policy.PostCopy = None,
    affinity_group: vm_policy.Affinity = None,
    anti_affinity_group: vm_policy.AntiAffinity = None,
    host_affinity: vm_policy.HostAffinity = None,
    needs_agent: vm_policy.NeedsAgent = None,
    unset: vm_policy.Unset = None,
    json: Json = False,
) -> None:
    """Set the policy that travels with a VM; what is not named stays. It changes nothing that runs.

    A VM that can move live moves live; the policy says what may be done where it cannot.
    """
    from furlough.cli.daemon_access import connect

    wanted = vm_policy.changes(
        unset or [],
        on_maintenance=on_maintenance,
        shut_down_grace_s=vm_policy.whole_seconds(shut_down_grace),
        if_ignored=if_ignored,
        availability_priority=availability_priority,
        ha=ha,
        downtime_budget_ms=vm_policy.milliseconds(downtime_budget),
        post_copy=post_copy,
        affinity_group=affinity_group,
        anti_affinity_group=anti_affinity_group,
        host_affinity=host_affinity,
        needs_agent=needs_agent,
    )
    with connect() as client:
        found = client.set_policy(client.vm(vm).uuid, wanted)
    if json:
        output.print_json(found)
        return
    vm_policy.print_vm(found)


@app.command()
def start(vm: Wanted, wait: Wait = False, json: Json = False) -> None:
    """Start a VM on the host that has it."""
    _act("start", vm, {}, wait=wait, json=json)


@app.command("shut-down")
def shut_down(
    vm: Wanted,
    grace: Annotated[str, typer.Option("--grace", help="How long the guest may take.")] = "2m",
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Ask the guest to shut down."""
    _act("shut-down", vm, {"grace_s": output.seconds(grace)}, wait=wait, json=json)


@app.command("power-off")
def power_off(vm: Wanted, wait: Wait = False, json: Json = False) -> None:
    """Cut a VM's power: what its guest has not written is lost."""
    _act("power-off", vm, {}, wait=wait, json=json)


@app.command()
def migrate(
    vm: Wanted,
    target: Annotated[str | None, typer.Option("--to", help="The host to move to.")] = None,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Move a VM live, to the host named or to the one that suits best."""
    _act("migrate", vm, {"target": target}, wait=wait, json=json)


def _act(act: str, vm: str, options: dict[str, Any], *, wait: bool, json: bool) -> None:
    from furlough.cli.daemon_access import connect, see_through

    with connect() as client:
        which = client.vm(vm).uuid
        sys.exit(
            see_through(client, lambda: client.act_on_vm(act, which, options), wait=wait, json=json)
        )
