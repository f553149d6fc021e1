"""Exiting maintenance: who comes home and how, by three lists and a choice; the confirmation is
bound to the plan that was shown."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from furlough.core.policy import ExitOptions, RestoreMode
from furlough.core.states import HostMode
from furlough.errors import Conflict, FurloughError, Refused
from furlough.planning.homecoming import Return, Way
from furlough.ui.forms import Fields, model_of, pairs
from furlough.ui.visit import Asked, Routes, go_to
from furlough.wire.exits import ExitBody

CARRIED = tuple(ExitBody.model_fields)
_WAYS = tuple(way.value for way in Way)


def options_of(fields: Fields) -> ExitOptions:
    """The options that a form or an address says. The lists count only where they are to decide."""
    body = model_of(ExitBody, fields)
    if body.restore is not RestoreMode.SELECTED:
        body = body.model_copy(update=dict.fromkeys(_WAYS, ()))
    return body.to_core()


async def show(asked: Asked) -> Response:
    """The precheck of the exit, with these options; changes nothing."""
    host = (await asked.service.inventory()).host(asked.host)
    if host.operation is not None:
        return go_to(f"/operations/{host.operation}")
    return await _checked(asked)


async def _checked(asked: Asked, trouble: FurloughError | None = None) -> Response:
    # A daemon at rest carries no arrays: only who looks at pictures pays for them.
    from furlough.planning import live_pictures as drawing  # noqa: PLC0415

    options = options_of(asked.fields)
    found = await asked.service.exit_check([asked.host], options)
    host = found.inventory.host(asked.host)
    every_load = drawing.loads(found.plan, found.inventory)
    return asked.render(
        "exit",
        status=200 if trouble is None else 409,
        host=host,
        is_in_service=host.mode is HostMode.AVAILABLE,
        verdict=found.verdict,
        findings=found.findings,
        lists=_lists(found.returns),
        plan=found.plan,
        row_loads=every_load,
        fullest=drawing.fullest(found.plan, every_load),
        load_picture=drawing.load_of_plan(found.plan, found.inventory),
        gantt_picture=drawing.gantt_of_plan(found.plan),
        modes=[one.value for one in RestoreMode],
        options=options,
        carried=pairs(asked.fields, CARRIED),
        trouble=trouble,
    )


def _lists(returns: Sequence[Return]) -> dict[str, list[Return]]:
    """Everybody on record, by how they come back if they do, each once."""
    found: dict[str, dict[str, Return]] = {way: {} for way in _WAYS}
    for one in returns:
        known = found[one.way.value]
        if one.comes or one.away.vm not in known:
            known[one.away.vm] = one
    return {way: list(known.values()) for way, known in found.items()}


async def exit_(asked: Asked) -> Response:
    """Exit by the plan that was shown. Where facts have changed since, the new plan is shown
    instead and nothing is done."""
    wanted = asked.said("plan_hash")
    if not wanted:
        raise Refused(
            "plan.none",
            "The form names no plan, so nothing was done.",
            remedy="Look at the plan and confirm that one.",
        )
    options = options_of(asked.fields)
    try:
        operation = await asked.service.exit([asked.host], options, asked.named(wanted))
    except Conflict as error:
        if error.code != "plan.changed":
            raise
        return await _checked(asked, trouble=error)
    return go_to(f"/operations/{operation.id}")


ROUTES: Routes = {
    ("GET", "/hosts/{host}/exit"): show,
    ("POST", "/hosts/{host}/exit"): exit_,
}
