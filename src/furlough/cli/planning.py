"""Plans from an inventory file, without a daemon; and what two plans decide differently."""

from __future__ import annotations

import argparse
import gc
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from furlough.cli import output
from furlough.errors import Invalid

if TYPE_CHECKING:
    from furlough.planning.checking import Move
    from furlough.planning.inventory_file import Document
    from furlough.planning.plan_difference import Change
    from furlough.planning.what_if import WhatIf

_SHOWN_VMS = 5


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `furlough plan --inventory` was asked for."""

    inventory: Path
    hosts: tuple[str, ...]
    targets: tuple[str, ...] = ()
    order: Literal["schedule", "memory"] = "schedule"
    polish: bool = False
    verify: bool = False
    json: bool = False
    html: Path | None = None


class _Odd(Exception):
    """Words that are not plain: the whole command line understands them, or says what is wrong."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _Odd(message)


def plain_parser() -> argparse.ArgumentParser:
    """What is plain: options of `furlough plan --inventory`, without help, each with its value."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--inventory", type=Path, required=True)
    parser.add_argument("--host", action="append", required=True)
    parser.add_argument("--target", "--target-host", action="append", default=[])
    parser.add_argument("--order", choices=("schedule", "memory"), default="schedule")
    parser.add_argument("--polish", action="store_true")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--html", type=Path)
    return parser


def plain_request(words: Sequence[str]) -> Request | None:
    """The request in these words behind `furlough plan`; None where they are not plain."""
    try:
        found = plain_parser().parse_args(words)
    except _Odd:
        return None
    return Request(
        inventory=found.inventory,
        hosts=tuple(found.host),
        targets=tuple(found.target),
        order=found.order,
        polish=found.polish,
        verify=found.verify,
        json=found.json,
        html=found.html,
    )


def plan_offline(request: Request) -> int:
    """Plan, print, write the page; the exit code: 1 if the plan would break something."""
    # One process that plans once has no use for threads of a numeric library.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with _without_collector():
        document = read_inventory(request.inventory)
        from furlough.core.policy import Order
        from furlough.planning.what_if import Wishes, what_if

        wishes = Wishes(
            hosts=request.hosts,
            targets=request.targets,
            order=Order(request.order),
            is_polished=request.polish,
        )
        plan = what_if(document, wishes)
        broken = _violations(document, plan) if request.verify else None
    if request.html is not None:
        from furlough.planning.plan_page import page

        request.html.write_text(page(plan), encoding="utf-8")
        output.warn(f"Written to {request.html}.")
    if request.json:
        checked = {} if broken is None else {"violations": broken}
        output.print_indented({**plan.content(), **checked})
    else:
        _print_plan(plan)
        print_violations(broken, keeps_reserve=not plan.gaps)
    return output.FAILED if broken else output.DONE


@contextmanager
def _without_collector() -> Iterator[None]:
    """Without a search for cycles among all these values, which have none and stay. They are left
    out of later searches too, also of that at the end of the process."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def read_inventory(path: Path) -> Document:
    """What an inventory file says; `Invalid` with the place in it where it makes no sense."""
    from furlough.planning.inventory_file import MOST_BYTES, read

    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Invalid(
            "inventory.unreadable",
            f"The inventory file {path} cannot be read: {error.strerror or error}.",
            remedy="Make one with: furlough inventory export FILE.",
        ) from error
    return read(text)


def _violations(document: Document, plan: WhatIf) -> list[str]:
    """What a checker that shares no code with the planner finds against the plan."""
    from furlough.planning.checking import Terms, violations

    limits = plan.wishes.limits
    terms = Terms(
        leaving=frozenset(plan.wishes.hosts),
        staying=frozenset(one.vm_uuid for one in plan.unplaced),
        # Who makes room, or waits, is moved to other hosts too; but nobody to one not asked for.
        target_hosts=frozenset(plan.wishes.targets),
        per_source=limits.per_source,
        per_target=limits.per_target,
        per_cluster=limits.per_cluster,
        keeps_reserve=not plan.gaps,
    )
    return violations(document, moves_of(plan), terms)


def moves_of(plan: WhatIf) -> list[Move]:
    """The moves of a plan as the checker wants them."""
    from furlough.planning.checking import Move

    return [
        Move(
            vm=step.vm_uuid,
            source=step.source,
            target=step.target,
            start_s=step.start_s,
            end_s=step.end_s,
        )
        for step in plan.steps
    ]


# --- for people ----------------------------------------------------------------------------------


def _print_plan(plan: WhatIf) -> None:
    output.print_table(
        ("wave", "vm", "from", "to", "start", "seconds", "downtime"),
        [
            (
                step.wave,
                step.vm_name,
                step.source,
                f"{step.target} (to wait there)" if step.is_detour else step.target,
                f"{step.start_s:.1f}",
                f"{step.duration_s:.1f}",
                f"{step.downtime_ms} ms",
            )
            for step in plan.steps
        ],
    )
    for one in plan.unplaced:
        output.say(f"{one.vm_name} stays: {one.why}")
    for rule, vms in plan.broken.items():
        output.say(f"Not held: {rule} ({_some(vms)})")
    for host, vms in plan.gaps.items():
        output.say(f"If {host} were lost too, no room for {_some(vms)} (N+1)")
    output.say()
    output.say(
        f"{len(plan.steps)} migrations, no plan takes fewer than {plan.bound_migrations}. "
        f"{output.span(plan.eta.low)} to {output.span(plan.eta.high)}; as planned "
        f"{output.span(plan.makespan_s)}, no schedule of these moves takes less than "
        f"{output.span(plan.bound_s)}."
    )
    for reason in plan.eta_reasons:
        output.say(f"  {reason}")
    _print_loads(plan)
    output.say(f"{plan.id}, hash {plan.hash}")


def _print_loads(plan: WhatIf) -> None:
    staying = [one for one in plan.loads if one.host not in plan.wishes.hosts]
    if staying:
        fullest = max(one.before for one in staying)
        output.say(
            f"The fullest host holds {plan.load_after.max:.0%} of what its VMs may take (before: "
            f"{fullest:.0%}), the deviation is {plan.load_after.sd:.1%}."
        )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_VMS
    return ", ".join(names[:_SHOWN_VMS]) + (f" and {more} more" if more > 0 else "")


def print_violations(broken: list[str] | None, *, keeps_reserve: bool) -> None:
    """What an independent checker has found; None: it was not asked. It does not judge a reserve
    of which the plan itself says that it is not kept."""
    if broken:
        output.warn("furlough: this plan would break something, which is a bug of ours:")
        for words in broken:
            output.warn(f"  {words}")
        output.warn("  -> Do not carry it out. Please report it, with the inventory file.")
    elif broken is not None:
        kept = ", rules and reserves" if keeps_reserve else " and rules (not the reserve, N+1)"
        output.say(f"Verified: at every moment all limits{kept} are kept.")


# --- two plans -----------------------------------------------------------------------------------


def print_difference(before: Path, after: Path, *, as_json: bool) -> None:
    """What two files of `furlough plan --json` decide differently."""
    from furlough.planning.plan_difference import changes

    found = changes(_plan_in(before), _plan_in(after), (str(before), str(after)))
    if as_json:
        output.print_text(json.dumps([_change_content(one) for one in found], indent=1))
    elif found:
        output.print_table(
            ("vm", "uuid", "before", "after"),
            [(one.vm_name, one.vm_uuid, one.before, one.after) for one in found],
        )
    else:
        output.say("Both plans do the same with every VM.")


def _plan_in(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror or error}."
        raise Invalid(
            "plan.malformed", what, remedy="Give files that furlough plan --json has printed."
        ) from error
    except (ValueError, RecursionError) as error:
        what = f"{path} is not JSON, or was cut off."
        raise Invalid(
            "plan.malformed", what, remedy="Give files that furlough plan --json has printed."
        ) from error


def _change_content(change: Change) -> dict[str, object]:
    fates = {"before": change.before, "after": change.after}
    return {
        "vm_uuid": change.vm_uuid,
        "vm_name": change.vm_name,
        **{
            when: None if fate is None else {"method": fate.method, "target": fate.target}
            for when, fate in fates.items()
        },
    }
