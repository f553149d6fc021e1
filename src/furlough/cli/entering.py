"""The options of entering, as commands take them: `check`, `plan` and `enter` have them in common.

What is not said is not sent: the cluster's default holds then, or else the daemon's.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from furlough.cli import output

Targets = Annotated[
    list[str] | None,
    typer.Option("--target-host", help="Only these hosts may take VMs. Repeat for several."),
]
ShutDown = Annotated[
    list[str] | None,
    typer.Option(
        "--shut-down",
        metavar="VM",
        help="A VM that may be shut down where it cannot move live. Repeat for several.",
    ),
]
Override = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        metavar="CODE",
        help="A finding that is accepted, which takes a --reason. Repeat for several.",
    ),
]
Strict = Annotated[
    list[str] | None,
    typer.Option(
        "--strict", metavar="CODE", help="A finding that is to forbid entering. Repeat for several."
    ),
]
MovesOrder = Annotated[
    Literal["schedule", "memory"] | None,
    typer.Option(
        "--order",
        help="Who moves first: schedule fills the links best; memory: the largest VMs.",
    ),
]
Scope = Annotated[
    Literal["running", "all"] | None,
    typer.Option("--scope", help="What must be gone: running VMs, or those that are off too."),
]
Automation = Annotated[
    Literal["automatic", "manual", "off"] | None,
    typer.Option(
        "--automation",
        help="Who moves the VMs: automatic: we; manual: we, once the plan is approved; off: "
        "people.",
    ),
]
OnFailure = Annotated[
    Literal["wait", "stop", "put_back"] | None,
    typer.Option(
        "--on-failure",
        help="When a VM cannot leave: wait for changes, stop and stay cordoned, or bring back "
        "those that have moved.",
    ),
]
Storage = Annotated[
    Literal["keep_accessible", "evacuate_all", "none"] | None,
    typer.Option(
        "--storage",
        help="Local disks. None is copied yet: VMs that have one are blockers, and evacuate_all is "
        "refused.",
    ),
]
WaitForEmpty = Annotated[
    bool,
    typer.Option(
        "--wait-for-empty/--no-wait-for-empty",
        help="With --automation off: whether it is over only once the host is empty.",
    ),
]
WithinCluster = Annotated[
    bool | None,
    typer.Option(
        "--within-cluster/--any-cluster",
        help="Whether nobody may move to another cluster, although the own one allows it.",
    ),
]


_NAMES = {
    "target_host": "target_hosts",
    "shut_down": "shut_down",
    "override": "override",
    "strict": "strict",
    "scope": "scope",
    "automation": "automation",
    "on_failure": "on_failure",
    "storage": "storage",
    "order": "order",
    "wait_for_empty": "wait",
    "within_cluster": "within_cluster",
    "timeout": "timeout_s",
    "reason": "reason",
    "ticket": "ticket",
}


def enter_options(context: typer.Context) -> dict[str, object]:
    """Of the options that a command was given: those of entering, as the API takes them. Read off
    the command line itself, so that no command has to hand them on one by one."""
    words = context.params
    said = {
        theirs: words[ours]
        for ours, theirs in _NAMES.items()
        if words.get(ours) not in (None, (), [], "")
    }
    if "timeout_s" in said:
        said["timeout_s"] = output.seconds(said["timeout_s"])
    return said
