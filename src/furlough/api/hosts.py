"""Hosts: what they are, and what can be asked of one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from furlough.api.calling import Caller, TheRequest, TheService, view_of
from furlough.api.enrolling import merged
from furlough.api.json_body import StrictRoute
from furlough.api.paging import Cursor, IfMatch, PageLimit, check_match, etag_of, page_of
from furlough.core.enrolment import Enrolment
from furlough.core.ids import parse_host_name
from furlough.core.plan import OperationKind
from furlough.service import with_hash
from furlough.wire.enrolment import HostBody, host_body
from furlough.wire.facts import HostView, host_view
from furlough.wire.operations import LogLineView, OperationView, log_line_view
from furlough.wire.plans import PlanView, ReportView, plan_view, report_view
from furlough.wire.requests import ActionBody, EnterBody, EnterRequest, ExitRequest

router = APIRouter(route_class=StrictRoute, prefix="/hosts")


@router.get("")
async def list_hosts(
    service: TheService,
    request: Request,
    response: Response,
    limit: PageLimit = None,
    cursor: Cursor = None,
) -> list[HostView]:
    """All hosts, in the order of enrolment; pages of them are in the order of their names."""
    inventory = await service.inventory()
    found = page_of(inventory.hosts, lambda host: host.name, limit, cursor, request, response)
    return [host_view(host, inventory) for host in found]


@router.get("/{host}")
async def show_host(host: str, service: TheService, response: Response) -> HostView:
    """One host. Its ETag is the version of what can be changed, not of what is observed."""
    name = parse_host_name(host)
    inventory = await service.inventory()
    found = inventory.host(name)
    response.headers["ETag"] = etag_of(host_body((await service.enrolment()).host(name)))
    return host_view(found, inventory)


@router.get("/{host}/log")
async def show_log(
    host: str,
    service: TheService,
    _caller: Caller,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 200,
) -> list[LogLineView]:
    """The newest lines of a host's log, oldest first: one for each machine and event."""
    lines = await service.host_log(parse_host_name(host), limit)
    return [log_line_view(line) for line in lines]


@router.post("", status_code=201)
async def add_host(body: HostBody, service: TheService, _caller: Caller) -> HostView:
    """Enrol a host; `409` where there is one of this name."""
    one = body.to_core()
    await service.enrolling.add(Enrolment(hosts=[one]))
    inventory = await service.inventory()
    return host_view(inventory.host(one.name), inventory)


@router.patch("/{host}")
async def set_host(
    host: str, changes: dict[str, Any], service: TheService, if_match: IfMatch = None
) -> HostView:
    """Change what is named, keep the rest. `412` where somebody has changed it since."""
    enrolment = await service.enrolment()
    known = enrolment.host(parse_host_name(host))
    check_match(if_match, host_body(known))
    one = merged(HostBody, host_body(known), changes).to_core()
    await service.enrolling.apply(Enrolment(hosts=[one]), based_on=enrolment)
    inventory = await service.inventory()
    return host_view(inventory.host(one.name), inventory)


@router.delete("/{host}", status_code=204)
async def remove_host(host: str, service: TheService, if_match: IfMatch = None) -> Response:
    """Forget a host that has no work."""
    if if_match is not None:
        check_match(if_match, host_body((await service.enrolment()).host(parse_host_name(host))))
    await service.enrolling.remove_host(parse_host_name(host))
    return Response(status_code=204)


@router.post("/{host}/check")
async def check_host(
    host: str, body: EnterBody, service: TheService, _caller: Caller
) -> ReportView:
    """The precheck of entering this host. Changes nothing."""
    reports = await service.check([parse_host_name(host)], body.to_core())
    return report_view(reports[0])


@router.post("/{host}/plan")
async def plan_host(host: str, body: EnterBody, service: TheService, _caller: Caller) -> PlanView:
    """The plan of entering this host. Changes nothing."""
    return plan_view(await service.plan([parse_host_name(host)], body.to_core()))


@router.post("/{host}/enter", status_code=202)
async def enter_host(
    host: str, body: EnterRequest, service: TheService, request: TheRequest
) -> OperationView:
    """Empty this host."""
    operation = await service.enter(
        [parse_host_name(host)], body.to_core(), with_hash(request, body.plan_hash)
    )
    return await view_of(operation, service)


@router.post("/{host}/exit", status_code=202)
async def exit_host(
    host: str, body: ExitRequest, service: TheService, request: TheRequest
) -> OperationView:
    """Bring this host's VMs home and put it back into service; where it is in service, only the
    former."""
    operation = await service.exit(
        [parse_host_name(host)], body.to_core(), with_hash(request, body.plan_hash)
    )
    return await view_of(operation, service)


@router.post("/{host}/cordon", status_code=202)
async def cordon_host(
    host: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    """No new VMs for this host; nothing moves."""
    operation = await service.cordon(parse_host_name(host), body.to_core(), request)
    return await view_of(operation, service)


@router.post("/{host}/uncordon", status_code=202)
async def uncordon_host(
    host: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    """This host takes VMs again."""
    operation = await service.uncordon(parse_host_name(host), body.to_core(), request)
    return await view_of(operation, service)


@router.post("/{host}/reboot", status_code=202)
async def reboot_host(
    host: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    """Reboot a host in maintenance; it stays in maintenance."""
    return await _change_power(OperationKind.REBOOT_HOST, host, body, service, request)


@router.post("/{host}/power-off", status_code=202)
async def power_off_host(
    host: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    """Switch off a host in maintenance; it stays in maintenance."""
    return await _change_power(OperationKind.POWER_OFF_HOST, host, body, service, request)


async def _change_power(
    kind: OperationKind, host: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    name = parse_host_name(host)
    operation = await service.change_host_power(kind, name, body.to_core(), request)
    return await view_of(operation, service)
