"""Every option of entering that a command takes reaches the request that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import typer

from furlough.cli.entering import enter_options
from furlough.cli.main import app
from furlough.client import Client
from tests.api.running import Running
from tests.cli.commands import Furlough

pytestmark = pytest.mark.usefixtures("everything_as_before")

# What is typed, and what the daemon keeps of it.
SAID: Mapping[str, tuple[tuple[str, ...], tuple[str, Any]]] = {
    "target_host": (("--target-host", "h2"), ("target_hosts", ["h2"])),
    "shut_down": (("--shut-down", "web01"), ("shut_down", "web01")),
    "override": (("--override", "cluster.no_reserve"), ("override", ["cluster.no_reserve"])),
    "strict": (("--strict", "vm.no_backup"), ("strict", ["vm.no_backup"])),
    "scope": (("--scope", "all"), ("scope", "all")),
    "automation": (("--automation", "manual"), ("automation", "manual")),
    "on_failure": (("--on-failure", "wait"), ("on_failure", "wait")),
    "storage": (("--storage", "none"), ("storage", "none")),
    "within_cluster": (("--within-cluster",), ("within_cluster", True)),
    "order": (("--order", "memory"), ("order", "memory")),
    "wait_for_empty": (
        ("--no-wait-for-empty", "--automation", "off"),
        ("wait", False),
    ),
    "timeout": (("--timeout", "2h"), ("timeout_s", 7200)),
    "reason": (("--reason", "new fans"), ("reason", "new fans")),
    "ticket": (("--ticket", "OPS-7"), ("ticket", "OPS-7")),
}
# Not about how a host is entered.
OTHERS = {"hosts", "wait", "json", "help"}


def parameters(command: str) -> set[str]:
    """What the command takes, as its own words have it."""
    group = typer.main.get_command(app)
    found = group.commands[command]  # type: ignore[attr-defined]
    return {one.name for one in found.params} - OTHERS


def test_the_list_of_this_test_is_whole() -> None:
    assert parameters("enter") == set(SAID)


@pytest.mark.parametrize("option", SAID)
def test_what_enter_is_told_is_kept_with_the_operation(
    furlough: Furlough, daemon: Running, client: Client, option: str
) -> None:
    daemon.hold("h1")
    words, (name, kept) = SAID[option]
    reason = ("--reason", "a test") if option == "override" else ()
    asked = furlough("enter", "h1", *words, *reason, "--json")
    assert asked.code == 0, asked.err
    options = client.journal(asked.json["id"])[0].event["options"]
    if name == "shut_down":
        kept = [one.uuid for one in client.vms() if one.name == kept]
    assert options[name] == kept


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (command, option)
        for command in ("check", "plan", "enter")
        for option in sorted(parameters(command) & set(SAID))
    ],
)
def test_what_is_typed_is_read_as_an_option_of_entering(command: str, option: str) -> None:
    words, (name, said) = SAID[option]
    group = typer.main.get_command(app)
    found = group.commands[command]  # type: ignore[attr-defined]
    options = enter_options(found.make_context(command, ["h1", *words]))
    expected = ["web01"] if option == "shut_down" else said
    given = options[name]
    assert (list(given) if isinstance(given, tuple) else given) == expected


REFUSED = {
    "target_host": ("--target-host", "nowhere"),
    "shut_down": ("--shut-down", "nobody"),
    "override": ("--override", "no.such_code", "--reason", "a test"),
    "strict": ("--strict", "no.such_code"),
    "storage": ("--storage", "evacuate_all"),
    "reason": ("--reason", "x" * 5000),
}


@pytest.mark.parametrize("option", REFUSED)
@pytest.mark.parametrize("command", ["check", "plan"])
def test_check_and_plan_hand_on_what_they_read(
    furlough: Furlough, command: str, option: str
) -> None:
    """A word that no daemon takes is refused by the daemon, so it has arrived there."""
    found = furlough(command, "h1", *REFUSED[option])
    assert (found.code in (2, 3), found.out) == (True, "")
    assert found.err.startswith("furlough: ")


def test_a_cluster_is_told_its_defaults_of_entering(furlough: Furlough, client: Client) -> None:
    before = client.cluster("sim").policy
    shared = parameters_of_cluster() & set(SAID)
    try:
        words = [word for option in sorted(shared) for word in SAID[option][0]]
        assert furlough("cluster", "set", "sim", *words).code == 0
        known = client.cluster("sim").policy["maintenance"]
        assert known == {SAID[option][1][0]: SAID[option][1][1] for option in shared}
    finally:
        client.change("clusters", "sim", before)


def parameters_of_cluster() -> set[str]:
    group = typer.main.get_command(app)
    cluster = group.commands["cluster"]  # type: ignore[attr-defined]
    return {one.name for one in cluster.commands["set"].params}
