"""`furlough cluster ...`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from furlough.cli import output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="CLUSTER", help="The cluster's name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ceiling = Annotated[
    float | None,
    typer.Option("--memory-ceiling", help="Share of a host's memory that VMs may hold (0-1)."),
]
Overcommit = Annotated[
    float | None,
    typer.Option("--vcpu-overcommit", help="vCPUs promised per processor."),
]
Away = Annotated[
    int | None,
    typer.Option("--max-hosts-away", help="Hosts in maintenance at the same time."),
]
Trust = Annotated[
    bool | None,
    typer.Option(
        "--trusts-own-proofs/--no-trusts-own-proofs",
        help="Waive the hypervisor's storage check where our own proofs hold.",
    ),
]


@app.command("list")
def list_(json: Json = False) -> None:
    """All clusters."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.clusters()
    if json:
        output.print_json(found)
        return
    output.print_table(
        ("name", "hosts", "vms", "max away", "memory ceiling", "vcpu overcommit"),
        [
            (
                one.name,
                one.hosts,
                one.vms,
                one.policy["max_hosts_away"],
                one.policy["memory_ceiling"],
                one.policy["vcpu_overcommit"],
            )
            for one in found
        ],
    )


@app.command()
def show(name: Name, json: Json = False) -> None:
    """One cluster with its policy."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.cluster(name)
    if json:
        output.print_json(found)
        return
    policy = dict(found.policy)
    limits = policy.pop("limits", {})
    facts = {"name": found.name, "hosts": found.hosts, "vms": found.vms, **policy}
    output.print_facts({**facts, **{f"migrations_{name}": one for name, one in limits.items()}})


@app.command()
def add(
    name: Name,
    memory_ceiling: Ceiling = None,
    vcpu_overcommit: Overcommit = None,
    max_hosts_away: Away = None,
    trusts_own_proofs: Trust = None,
) -> None:
    """Enrol a cluster."""
    from furlough.cli.daemon_access import connect

    changes = _changes(memory_ceiling, vcpu_overcommit, max_hosts_away, trusts_own_proofs)
    with connect() as client:
        client.add("clusters", {"name": name, **changes})
    output.say(f"Cluster {name} added.")


@app.command("set")
def set_(
    name: Name,
    memory_ceiling: Ceiling = None,
    vcpu_overcommit: Overcommit = None,
    max_hosts_away: Away = None,
    trusts_own_proofs: Trust = None,
) -> None:
    """Change a cluster's policy; what is not named stays."""
    from furlough.cli.daemon_access import connect

    changes = _changes(memory_ceiling, vcpu_overcommit, max_hosts_away, trusts_own_proofs)
    with connect() as client:
        client.change("clusters", name, changes)
    output.say(f"Cluster {name} changed.")


@app.command()
def remove(name: Name) -> None:
    """Forget an empty cluster."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        client.remove("clusters", name)
    output.say(f"Cluster {name} removed.")


def _changes(
    memory_ceiling: float | None,
    vcpu_overcommit: float | None,
    max_hosts_away: int | None,
    trusts_own_proofs: bool | None,
) -> dict[str, Any]:
    given = {
        "memory_ceiling": memory_ceiling,
        "vcpu_overcommit": vcpu_overcommit,
        "max_hosts_away": max_hosts_away,
        "trusts_own_proofs": trusts_own_proofs,
    }
    return {name: value for name, value in given.items() if value is not None}
