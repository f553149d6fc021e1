"""`furlough cluster ...`"""

# Options of entering are read off the command line by `enter_options`; a test sends each of them.
# ruff: noqa: ARG001
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer

from furlough.cli import output
from furlough.cli.entering import Automation, MovesOrder, OnFailure, Scope, Storage, enter_options
from furlough.errors import Invalid

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
Reserve = Annotated[
    Literal["none", "n+1"] | None,
    typer.Option("--reserve", help="Room that has to be left: none, or for losing one more host."),
]
Tls = Annotated[
    Literal["required", "when_possible", "off"] | None,
    typer.Option("--migration-tls", help="Whether migrations are encrypted."),
]
Overflow = Annotated[
    list[str] | None,
    typer.Option(
        "--overflow-cluster",
        metavar="OTHER",
        help="Another cluster that may take VMs which find no place in this one. Repeat for "
        "several, the first one first.",
    ),
]
Severities = Annotated[
    list[str] | None,
    typer.Option(
        "--severity",
        metavar="CODE=SEVERITY",
        help="What a finding weighs here: blocker, warning or info. Repeat for several.",
    ),
]
VmDefaults = Annotated[
    list[str] | None,
    typer.Option(
        "--vm-default",
        metavar="NAME=VALUE",
        help="A policy of VMs that do not say otherwise. Repeat for several.",
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", help="How long entering may take here: 90s, 5m, 2h. 0 for ever."),
]
Unset = Annotated[
    list[str] | None,
    typer.Option(
        "--unset",
        help="A default of VMs, a finding's weight, a default of entering or overflow_clusters to "
        "take away. Repeat for several.",
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
    """One cluster with its policy, its rules, and its datastores with what is proven of them."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        found = client.cluster(name)
        stores = [] if json else [one for one in client.datastores() if one.cluster == found.name]
    if json:
        output.print_json(found)
        return
    policy = dict(found.policy)
    limits, rules = policy.pop("limits", {}), policy.pop("rule", [])
    tables = {
        name: _as_words(policy.pop(name, {})) for name in ("vm_defaults", "severity", "maintenance")
    }
    policy[_OVERFLOW] = ", ".join(policy.get(_OVERFLOW, ()))
    facts = {"name": found.name, "hosts": found.hosts, "vms": found.vms, **policy, **tables}
    output.print_facts({**facts, **{f"migrations_{name}": one for name, one in limits.items()}})
    for rule in rules:
        output.say(f"rule {_rule(rule)}")
    if stores:
        output.say()
        output.print_table(
            ("datastore", "kind", "shared", "locked", "proven on", "reason"),
            [
                (
                    one.name,
                    one.kind.value,
                    one.shared.value,
                    one.locked.value,
                    ", ".join(one.proven_on) or None,
                    one.reason or None,
                )
                for one in stores
            ],
        )


def _as_words(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in table.items())


def _rule(rule: Mapping[str, Any]) -> str:
    """A rule in a line."""
    strength = "" if rule.get("hard", True) else " (soft)"
    where = f" on {', '.join(rule['hosts'])}" if rule.get("hosts") else ""
    return f"{rule['name']}: {rule['kind']} of {', '.join(rule['vms'])}{where}{strength}"


@app.command()
def add(
    context: typer.Context,
    name: Name,
    memory_ceiling: Ceiling = None,
    vcpu_overcommit: Overcommit = None,
    max_hosts_away: Away = None,
    trusts_own_proofs: Trust = None,
    reserve: Reserve = None,
    migration_tls: Tls = None,
    overflow_cluster: Overflow = None,
    severity: Severities = None,
    vm_default: VmDefaults = None,
    scope: Scope = None,
    automation: Automation = None,
    on_failure: OnFailure = None,
    storage: Storage = None,
    order: MovesOrder = None,
    timeout: Timeout = None,
) -> None:
    """Enrol a cluster. The options of entering are defaults there. Its rules come
    from a file: furlough apply."""
    from furlough.cli.daemon_access import connect

    maintenance = enter_options(context)
    changes = _given(
        maintenance=maintenance or None,
        memory_ceiling=memory_ceiling,
        vcpu_overcommit=vcpu_overcommit,
        max_hosts_away=max_hosts_away,
        trusts_own_proofs=trusts_own_proofs,
        reserve=reserve,
        migration_tls=migration_tls,
        overflow_clusters=overflow_cluster or None,
        severity=_table("--severity", severity, {}, []),
        vm_defaults=_table("--vm-default", vm_default, {}, []),
    )
    with connect() as client:
        client.add("clusters", {"name": name, **changes})
    output.say(f"Cluster {name} added.")


@app.command("set")
def set_(
    context: typer.Context,
    name: Name,
    memory_ceiling: Ceiling = None,
    vcpu_overcommit: Overcommit = None,
    max_hosts_away: Away = None,
    trusts_own_proofs: Trust = None,
    reserve: Reserve = None,
    migration_tls: Tls = None,
    overflow_cluster: Overflow = None,
    severity: Severities = None,
    vm_default: VmDefaults = None,
    scope: Scope = None,
    automation: Automation = None,
    on_failure: OnFailure = None,
    storage: Storage = None,
    order: MovesOrder = None,
    timeout: Timeout = None,
    unset: Unset = None,
) -> None:
    """Change a cluster's policy; what is not named stays. The options of entering are defaults
    there. Its rules come from a file: furlough apply."""
    from furlough.cli.daemon_access import connect

    maintenance = enter_options(context)
    with connect() as client:
        known = client.cluster(name).policy
        _check_known(unset or [], known)
        weights, defaults = known.get("severity", {}), known.get("vm_defaults", {})
        changes = _given(
            maintenance=_merged(maintenance, known.get("maintenance", {}), unset or []),
            memory_ceiling=memory_ceiling,
            vcpu_overcommit=vcpu_overcommit,
            max_hosts_away=max_hosts_away,
            trusts_own_proofs=trusts_own_proofs,
            reserve=reserve,
            migration_tls=migration_tls,
            overflow_clusters=_overflow(overflow_cluster, unset or []),
            severity=_table("--severity", severity, weights, unset or []),
            vm_defaults=_table("--vm-default", vm_default, defaults, unset or []),
        )
        client.change("clusters", name, changes)
    output.say(f"Cluster {name} changed.")


@app.command()
def remove(name: Name) -> None:
    """Forget an empty cluster."""
    from furlough.cli.daemon_access import connect

    with connect() as client:
        client.remove("clusters", name)
    output.say(f"Cluster {name} removed.")


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _check_known(unset: Sequence[str], policy: Mapping[str, Any]) -> None:
    """`Invalid` where nothing of this name could be taken away."""
    known = {name for table in _TABLES for name in policy.get(table, {})}
    known |= {_OVERFLOW} if policy.get(_OVERFLOW) else set()
    for name in unset:
        if name not in known:
            raise Invalid(
                "option.unknown",
                f"{name[:64]!r} is neither a default of VMs nor a finding's weight here, nor a "
                "default of entering; nor is it overflow_clusters with any cluster in it.",
                remedy=f"What could be taken away: {', '.join(sorted(known)) or 'nothing'}.",
            )


def _overflow(said: list[str] | None, unset: Sequence[str]) -> list[str] | None:
    """The clusters that take over from now on; None where that does not change."""
    if said:
        return said
    return [] if _OVERFLOW in unset else None


def _merged(
    said: Mapping[str, Any], known: Mapping[str, Any], unset: Sequence[str]
) -> dict[str, Any] | None:
    """A table with what was said, and without what is taken away; None where none of it changes."""
    if not said and not set(unset) & set(known):
        return None
    return {**{name: word for name, word in known.items() if name not in unset}, **said}


def _table(
    option: str, given: list[str] | None, known: Mapping[str, Any], unset: Sequence[str]
) -> dict[str, Any] | None:
    """A table of the policy with what was given as NAME=VALUE, and without what is taken away;
    None where none of it changes."""
    said = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise Invalid(
                "option.malformed",
                f"{option} {text[:64]!r} is not of the form NAME=VALUE.",
                remedy=f"For instance {_EXAMPLES[option]}.",
            )
        said[name] = value
    return _merged(said, known, unset)


_OVERFLOW = "overflow_clusters"
_TABLES = ("severity", "vm_defaults", "maintenance")
_EXAMPLES = {
    "--severity": "--severity vm.no_backup=blocker",
    "--vm-default": "--vm-default on_maintenance=shut_down",
}
