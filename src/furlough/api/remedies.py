"""Remedies against findings, and the preparation of hosts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from furlough.api.calling import Caller, TheRequest, TheService, view_of
from furlough.api.json_body import StrictRoute
from furlough.core.findings import CODES
from furlough.core.ids import parse_host_name
from furlough.service import Service
from furlough.service.upkeep import Applied
from furlough.wire.remedies import (
    AppliedView,
    ApplyBody,
    PreparedView,
    UndoBody,
    change_view,
)

router = APIRouter(route_class=StrictRoute, prefix="/hosts")

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"model": AppliedView, "description": "An operation does it."}
}


@router.post("/{host}/apply", responses=_ACCEPTED)
async def apply_remedy(
    host: str, body: ApplyBody, service: TheService, request: TheRequest, response: Response
) -> AppliedView:
    """Apply the remedy against this host's findings of one code. `202` where an operation does
    it; with `dry_run`, only what it would change."""
    name, options = parse_host_name(host), body.options.to_core()
    if body.dry_run:
        _, changes = await service.upkeep.changes(name, body.code, options)
        return await _view(Applied(changes=changes), service, response)
    applied = await service.upkeep.apply(name, body.code, options, request)
    return await _view(applied, service, response)


@router.post("/{host}/undo", responses=_ACCEPTED)
async def undo_remedies(
    host: str, body: UndoBody, service: TheService, request: TheRequest, response: Response
) -> AppliedView:
    """Put back what remedies have taken out on this host, for the VMs that are there."""
    name = parse_host_name(host)
    if body.dry_run:
        changes = await service.upkeep.undoing(name)
        return await _view(Applied(changes=changes), service, response)
    return await _view(await service.upkeep.undo(name, request), service, response)


@router.post("/{host}/prepare")
async def prepare_host(host: str, service: TheService, caller: Caller) -> PreparedView:
    """Install furlough-host and its hook on this host, and prove that the hook refuses."""
    name = parse_host_name(host)
    trouble = await service.upkeep.prepare(name, caller)
    return PreparedView(
        host=name,
        is_proven=not trouble,
        trouble=trouble,
        remedy=CODES["guard.unproven"].remedy if trouble else "",
    )


async def _view(applied: Applied, service: Service, response: Response) -> AppliedView:
    operation = None
    if applied.operation is not None:
        response.status_code = 202
        operation = await view_of(applied.operation, service)
    return AppliedView(
        changes=[change_view(one) for one in applied.changes],
        operation=operation,
        trouble=applied.trouble,
    )
