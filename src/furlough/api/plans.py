"""Prechecks and plans of several hosts together, and the facts to plan from."""

from __future__ import annotations

from fastapi import APIRouter, Response

from furlough.api.calling import Caller, TheService
from furlough.api.json_body import StrictRoute
from furlough.core.ids import parse_host_name
from furlough.planning import inventory_export
from furlough.planning.inventory_file import FORMAT
from furlough.wire.plans import PlanView, ReportView, plan_view, report_view
from furlough.wire.requests import CheckBody, PlanBody

router = APIRouter(route_class=StrictRoute)


_ROWS = {"type": "array", "items": {"type": "object"}}
_INVENTORY_FILE = {
    "description": "An inventory file.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["format", "taken_at", "clusters", "hosts", "vms"],
                "properties": {
                    "format": {"type": "integer", "const": FORMAT},
                    "taken_at": {"type": "string", "format": "date-time"},
                    "clusters": _ROWS,
                    "hosts": _ROWS,
                    "vms": _ROWS,
                },
            }
        }
    },
}


@router.post("/checks")
async def check(body: CheckBody, service: TheService, _caller: Caller) -> list[ReportView]:
    """The precheck of entering these hosts together: one report per host. Changes nothing."""
    hosts = [parse_host_name(name) for name in body.hosts]
    return [report_view(one) for one in await service.check(hosts, body.options.to_core())]


@router.post("/plans")
async def plan(body: PlanBody, service: TheService, _caller: Caller) -> PlanView:
    """The plan of entering these hosts together, and of the way back if asked for. Changes
    nothing."""
    hosts = [parse_host_name(name) for name in body.hosts]
    found = await service.plan(hosts, body.options.to_core())
    return plan_view(found, await service.way_back(found) if body.restore else None)


@router.get("/inventory", response_class=Response, responses={200: _INVENTORY_FILE})
async def inventory(service: TheService, _caller: Caller) -> Response:
    """The facts of all clusters as an inventory file, to plan from without a daemon."""
    found = inventory_export.write(await service.inventory())
    return Response(found, media_type="application/json")
