"""Operations: asked for, followed, steered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi import Request as HttpRequest

from furlough.api.calling import Caller, TheRequest, TheService, view_of
from furlough.api.events import entry_view
from furlough.api.json_body import StrictRoute
from furlough.api.paging import MOST, Cursor, key_of, link_next
from furlough.core.ids import parse_host_name, parse_operation_id
from furlough.core.operation import Operation
from furlough.core.plan import OperationKind
from furlough.service import Approval, Request, Service, with_hash
from furlough.wire.exits import PutBackView, return_view
from furlough.wire.operations import EntryView, OperationView
from furlough.wire.plans import plan_view
from furlough.wire.requests import (
    ApproveBody,
    CancelBody,
    EnterOperation,
    ExitOperation,
    HostOperation,
    OperationBody,
)

router = APIRouter(route_class=StrictRoute, prefix="/operations")


@router.get("")
async def list_operations(
    service: TheService,
    request: HttpRequest,
    response: Response,
    active: bool = False,
    host: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    cursor: Cursor = None,
) -> list[OperationView]:
    """Operations, newest first; `active`: only those that are not over."""
    name = None if host is None else parse_host_name(host)
    before = None if cursor is None else parse_operation_id(key_of(cursor))
    found = await service.operations(active=active, host=name, limit=limit, before=before)
    if len(found) == limit:
        link_next(request, response, found[-1].id)
    return [await view_of(operation, service) for operation in found]


@router.post("", status_code=202)
async def ask(body: OperationBody, service: TheService, request: TheRequest) -> OperationView:
    """Ask for an operation on one host or several together."""
    return await view_of(await _accepted(body, service, request), service)


async def _accepted(body: OperationBody, service: Service, request: Request) -> Operation:
    hosts = [parse_host_name(name) for name in body.hosts]
    if isinstance(body, EnterOperation):
        named = with_hash(request, body.plan_hash)
        return await service.enter(hosts, body.options.to_core(), named)
    if isinstance(body, ExitOperation):
        named = with_hash(request, body.plan_hash)
        return await service.exit(hosts, body.options.to_core(), named)
    return await _on_one_host(body, service, request)


async def _on_one_host(body: HostOperation, service: Service, request: Request) -> Operation:
    host, options = parse_host_name(body.hosts[0]), body.options.to_core()
    if body.kind == "cordon":
        return await service.cordon(host, options, request)
    if body.kind == "uncordon":
        return await service.uncordon(host, options, request)
    return await service.change_host_power(OperationKind(body.kind), host, options, request)


@router.get("/{operation}")
async def show_operation(operation: str, service: TheService, _caller: Caller) -> OperationView:
    """One operation."""
    return await view_of(await service.operation(parse_operation_id(operation)), service)


@router.get("/{operation}/journal")
async def show_journal(operation: str, service: TheService, _caller: Caller) -> list[EntryView]:
    """All events of an operation, in their order."""
    return [entry_view(one) for one in await service.journal(parse_operation_id(operation))]


@router.post("/{operation}/cancel", status_code=202)
async def cancel_operation(
    operation: str, body: CancelBody, service: TheService, caller: Caller
) -> OperationView:
    """Stop an operation: abort what is in flight, let it finish, or put back who has left."""
    stopped = await service.cancel(parse_operation_id(operation), body.mode, caller)
    return await view_of(stopped, service)


@router.get("/{operation}/put-back")
async def show_put_back(operation: str, service: TheService, _caller: Caller) -> PutBackView:
    """What a cancel with mode `put_back` would do now, with its cost. Changes nothing."""
    which = parse_operation_id(operation)
    plan, returns = await service.put_back_plan(which)
    inventory = await service.inventory()
    vms = [return_view(one, inventory) for one in returns]
    return PutBackView(operation=which, vms=vms, plan=plan_view(plan))


@router.post("/{operation}/approve", status_code=202)
async def approve_operation(
    operation: str, body: ApproveBody, service: TheService, caller: Caller
) -> OperationView:
    """Let steps start that wait for approval; `409` with the present plan where it is another."""
    approval = Approval(plan_hash=body.plan_hash, steps=tuple(body.steps))
    approved = await service.approve(parse_operation_id(operation), approval, caller)
    return await view_of(approved, service)


@router.post("/{operation}/pause", status_code=202)
async def pause_operation(operation: str, service: TheService, caller: Caller) -> OperationView:
    """Start nothing new; what is in flight ends."""
    paused = await service.pause(parse_operation_id(operation), caller)
    return await view_of(paused, service)


@router.post("/{operation}/resume", status_code=202)
async def resume_operation(operation: str, service: TheService, caller: Caller) -> OperationView:
    """Let a paused or blocked operation go on, after a person has looked."""
    resumed = await service.resume(parse_operation_id(operation), caller)
    return await view_of(resumed, service)
