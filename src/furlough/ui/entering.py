"""Entering maintenance, page by page: what stands against it with its remedies, what becomes of
each VM, the plan with its pictures, and the confirmation, which is bound to that plan.

    address with options ──► precheck, plan ──► confirmation (hash) ──► operation
             ▲                    │ remedy
             └────────────────────┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from furlough.core.findings import CODES, Finding, Kind, Severity
from furlough.core.ids import HostName, parse_operation_id
from furlough.core.inventory import Inventory
from furlough.core.operation import Operation
from furlough.core.plan import Method
from furlough.core.policy import Automation, EnterOptions, OnFailure, Order, Scope, StorageMode
from furlough.core.states import HostMode
from furlough.errors import Conflict, FurloughError, Refused
from furlough.planning.remedies import Change, changes
from furlough.service import Preview
from furlough.ui.forms import Fields, model_of, pairs
from furlough.ui.visit import Asked, Routes, go_to, listed
from furlough.wire.requests import EnterBody

# What is carried from the precheck to the confirmation.
CARRIED = tuple(EnterBody.model_fields)
# Beyond so many a list of hosts to tick is no help.
_MOST_TARGETS = 60
_SHOWN_SUBJECTS = 20


@dataclass(frozen=True, kw_only=True)
class Group:
    """Findings of one code: what they weigh, whom they are about, and what can be done. `changes`:
    what its remedy would change, where a program can apply it."""

    code: str
    severity: Severity
    kind: Kind
    findings: Sequence[Finding]
    changes: Sequence[Change]

    @property
    def shown(self) -> Sequence[Finding]:
        """As many as a person reads."""
        return self.findings[:_SHOWN_SUBJECTS]


def options_of(fields: Fields) -> EnterOptions:
    """The options that a form or an address says. Names of targets may be joined by
    commas."""
    names = [part for text in fields.get("target_hosts", ()) for part in text.split(",")]
    return model_of(EnterBody, {**fields, "target_hosts": names}).to_core()


def grouped(findings: Sequence[Finding], inventory: Inventory, host: HostName) -> list[Group]:
    """The findings by their codes, blockers first."""
    order = {Severity.BLOCKER: 0, Severity.WARNING: 1, Severity.INFO: 2}
    by_code: dict[tuple[str, Severity], list[Finding]] = {}
    for one in findings:
        by_code.setdefault((one.code, one.severity), []).append(one)
    found = [
        Group(
            code=code,
            severity=severity,
            kind=CODES[code],
            findings=some,
            changes=changes(code, inventory, host, some) if CODES[code].apply else (),
        )
        for (code, severity), some in by_code.items()
    ]
    return sorted(found, key=lambda one: (order[one.severity], one.code))


async def show(asked: Asked) -> Response:
    """The precheck and the plan, with these options; changes nothing."""
    inventory = await asked.service.inventory()
    host = inventory.host(asked.host)
    if host.operation is not None:
        return go_to(f"/operations/{host.operation}")
    remedying = await _remedying(asked)
    if remedying is not None and not remedying.is_final:
        return asked.render("remedying", host=host, operation=await asked.view(remedying))
    return await _checked(asked, remedying)


async def _remedying(asked: Asked) -> Operation | None:
    """The operation that applies a remedy, where one was asked for just before."""
    text = asked.said("remedy")
    return await asked.service.operation(parse_operation_id(text)) if text else None


async def _checked(
    asked: Asked, remedied: Operation | None = None, trouble: FurloughError | None = None
) -> Response:
    """Precheck and plan by fresh facts."""
    # A daemon at rest carries no arrays: only who looks at pictures pays for them.
    from furlough.planning import live_pictures as drawing  # noqa: PLC0415

    options = options_of(asked.fields)
    preview = await asked.service.preview([asked.host], options)
    inventory, report = preview.inventory, preview.reports[0]
    host = inventory.host(asked.host)
    mates = [one for one in inventory.hosts_of(host.cluster) if one.name != host.name]
    every_load = drawing.loads(preview.plan, inventory)
    return asked.render(
        "enter",
        status=200 if trouble is None else 409,
        host=host,
        row_loads=every_load,
        fullest=drawing.fullest(preview.plan, every_load),
        report=report,
        groups=grouped(report.findings, inventory, host.name),
        plan=preview.plan,
        listing=listed(report.dispositions, asked.page(), per_page=200),
        stoppable=_stoppable(preview),
        load_picture=drawing.load_of_plan(preview.plan, inventory),
        gantt_picture=drawing.gantt_of_plan(preview.plan),
        options=preview.options,
        left_open=options.left_open,
        carried=pairs(asked.fields, CARRIED),
        choices=_choices(),
        mates=mates if len(mates) <= _MOST_TARGETS else [],
        targets=set(options.target_hosts),
        remedied=None if remedied is None else await asked.view(remedied),
        trouble=trouble,
        is_allowed=host.mode in (HostMode.AVAILABLE, HostMode.CORDONED),
    )


def _choices() -> dict[str, list[str]]:
    """What the options with fixed words may be."""
    return {
        "scope": [one.value for one in Scope],
        "automation": [one.value for one in Automation],
        "on_failure": [one.value for one in OnFailure],
        "order": [one.value for one in Order],
        "storage": [one.value for one in StorageMode],
    }


def _stoppable(preview: Preview) -> list[tuple[str, str, bool]]:
    """VMs that may be allowed to be shut down: those that do not move live. UUID, name, and whether
    they are allowed to already."""
    allowed = set(preview.options.shut_down)
    return [
        (one.vm, one.vm_name, one.vm in allowed)
        for one in preview.reports[0].dispositions
        if one.method is not Method.LIVE
    ]


async def enter(asked: Asked) -> Response:
    """Enter maintenance by the plan that was shown. Where facts have changed since, the new plan is
    shown instead and nothing is done."""
    options = options_of(asked.fields)
    wanted = asked.said("plan_hash")
    if not wanted:
        raise Refused(
            "plan.none",
            "The form names no plan, so nothing was done.",
            remedy="Look at the plan and confirm that one.",
        )
    try:
        operation = await asked.service.enter([asked.host], options, asked.named(wanted))
    except Conflict as error:
        if error.code != "plan.changed":
            raise
        return await _checked(asked, trouble=error)
    return go_to(f"/operations/{operation.id}")


async def apply(asked: Asked) -> Response:
    """Apply the remedy against findings of one code, then check again with the same options."""
    options, code = options_of(asked.fields), asked.said("code")
    applied = await asked.service.upkeep.apply(asked.host, code, options, asked.named())
    if applied.trouble:
        raise Refused(
            "guard.unproven",
            f"{asked.host} was prepared, and its guard is still not proven: {applied.trouble}",
            remedy=CODES["guard.unproven"].remedy,
        )
    query = pairs(asked.fields, CARRIED)
    if applied.operation is not None:
        query.append(("remedy", applied.operation.id))
    return go_to(f"/hosts/{asked.host}/enter?{urlencode(query)}")


ROUTES: Routes = {
    ("GET", "/hosts/{host}/enter"): show,
    ("POST", "/hosts/{host}/enter"): enter,
    ("POST", "/hosts/{host}/remedy"): apply,
}
