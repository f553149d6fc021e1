"""VMs: what they are, and what can be asked of one."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from furlough.api.calling import Caller, TheRequest, TheService, view_of
from furlough.api.json_body import StrictRoute
from furlough.api.paging import Cursor, PageLimit, page_of
from furlough.core.ids import parse_host_name, parse_vm_id
from furlough.core.inventory import Vm
from furlough.core.plan import OperationKind
from furlough.wire.facts import VmView, vm_view
from furlough.wire.operations import OperationView
from furlough.wire.requests import ActionBody, PolicyBody

router = APIRouter(route_class=StrictRoute, prefix="/vms")


@router.get("")
async def list_vms(
    service: TheService,
    request: Request,
    response: Response,
    host: str | None = None,
    limit: PageLimit = None,
    cursor: Cursor = None,
) -> list[VmView]:
    """All VMs, or those that one host lists; pages of them are in the order of their UUIDs."""
    inventory, away = await service.inventory(), await service.away()
    home = {one.vm: one for one in away}
    found: Sequence[Vm] = inventory.vms
    if host is not None:
        found = inventory.vms_on(inventory.host(parse_host_name(host)).name)
    shown = page_of(found, lambda vm: f"{vm.id} {vm.host}", limit, cursor, request, response)
    return [vm_view(vm, home) for vm in shown]


@router.get("/{uuid}")
async def show_vm(uuid: str, service: TheService, _caller: Caller) -> VmView:
    """One VM."""
    inventory, away = await service.inventory(), await service.away()
    return vm_view(inventory.vm(parse_vm_id(uuid)), {one.vm: one for one in away})


@router.patch("/{uuid}")
async def set_vm(uuid: str, body: PolicyBody, service: TheService, caller: Caller) -> VmView:
    """Change the policy that travels with a VM; the VM as its host shows it afterwards."""
    vm = await service.upkeep.set_policy(parse_vm_id(uuid), body.to_core(), caller)
    return vm_view(vm, {one.vm: one for one in await service.away()})


@router.post("/{uuid}/start", status_code=202)
async def start_vm(
    uuid: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    """Start a VM on the host that has it."""
    return await _change(OperationKind.START_VM, uuid, body, service, request)


@router.post("/{uuid}/shut-down", status_code=202)
async def shut_down_vm(
    uuid: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    """Ask the guest to shut down, until its grace is over."""
    return await _change(OperationKind.SHUT_DOWN_VM, uuid, body, service, request)


@router.post("/{uuid}/power-off", status_code=202)
async def power_off_vm(
    uuid: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    """Cut a VM's power."""
    return await _change(OperationKind.POWER_OFF_VM, uuid, body, service, request)


@router.post("/{uuid}/migrate", status_code=202)
async def migrate_vm(
    uuid: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    """Move a VM live, to the host named in `target` or to the one that suits best."""
    operation = await service.migrate(parse_vm_id(uuid), body.to_core(), request)
    return await view_of(operation, service)


async def _change(
    kind: OperationKind, uuid: str, body: ActionBody, service: TheService, request: TheRequest
) -> OperationView:
    operation = await service.change_power(kind, parse_vm_id(uuid), body.to_core(), request)
    return await view_of(operation, service)
