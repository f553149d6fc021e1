"""The way back into service: what it would do, and the record that is kept of a maintenance."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from furlough.api.calling import Caller, TheRequest, TheService, view_of
from furlough.api.json_body import StrictRoute
from furlough.core.ids import HostName, parse_host_name
from furlough.core.policy import ExitOptions, RestoreMode
from furlough.service import Service
from furlough.wire.exits import (
    ExitCheckBody,
    ExitCheckView,
    RecordView,
    exit_check_view,
    record_view,
)
from furlough.wire.operations import OperationView
from furlough.wire.requests import ActionBody

router = APIRouter(route_class=StrictRoute)


@router.get("/hosts/{host}/exit-check")
async def check_exit(
    host: str,
    service: TheService,
    _caller: Caller,
    restore: RestoreMode = RestoreMode.RECORDED,
) -> ExitCheckView:
    """What exiting this host would do about every VM on record. Changes nothing."""
    return await _checked(service, [parse_host_name(host)], ExitOptions(restore=restore))


@router.post("/exit-checks")
async def check_exits(body: ExitCheckBody, service: TheService, _caller: Caller) -> ExitCheckView:
    """The same for several hosts together, with all options. Changes nothing."""
    hosts = [parse_host_name(name) for name in body.hosts]
    return await _checked(service, hosts, body.options.to_core())


async def _checked(
    service: Service, hosts: Sequence[HostName], options: ExitOptions
) -> ExitCheckView:
    found = await service.exit_check(hosts, options)
    return exit_check_view(
        hosts, found.verdict, found.findings, found.returns, found.plan, found.inventory
    )


@router.get("/hosts/{host}/record")
async def show_record(host: str, service: TheService, _caller: Caller) -> RecordView:
    """Who is on record to come home to this host."""
    found = await service.record(parse_host_name(host))
    return record_view(found.host, found.mode, found.away, found.inventory)


@router.post("/hosts/{host}/record/close", status_code=202)
async def close_record(
    host: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    """Take off the record whoever is still to come home to this host: it stays where it is."""
    operation = await service.close_record(parse_host_name(host), body.to_core(), request)
    return await view_of(operation, service)
