"""What every route needs: the service, who is calling, and the name of the request."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Depends, Header, Request

from furlough.api.principal import ThePrincipal
from furlough.core.operation import Operation
from furlough.ports import IdempotencyKey
from furlough.service import Request as ServiceRequest
from furlough.service import Service
from furlough.wire.operations import OperationView, operation_view


def get_service(request: Request, principal: ThePrincipal) -> Service:
    """The one door, for whoever calls."""
    service: Service = request.app.state.service
    return service.of(principal)


def get_caller(principal: ThePrincipal) -> str:
    """The name of whoever calls."""
    return principal.name


TheService = Annotated[Service, Depends(get_service)]
Caller = Annotated[str, Depends(get_caller)]
KeyHeader = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]


async def named_request(request: Request, caller: Caller, key: KeyHeader = None) -> ServiceRequest:
    """Who asks, and, with an Idempotency-Key, a name bound to this very content."""
    if key is None:
        return ServiceRequest(by=caller)
    content = hashlib.sha256(request.url.path.encode() + b"\0" + await request.body())
    return ServiceRequest(
        by=caller,
        key=IdempotencyKey(principal=caller, key=key, content=content.hexdigest()),
    )


TheRequest = Annotated[ServiceRequest, Depends(named_request)]


async def view_of(operation: Operation, service: Service) -> OperationView:
    """An operation as clients see it, with what is in flight right now."""
    live = service.copied(operation)
    return operation_view(operation, await service.all_inventory(), live, service.now())
