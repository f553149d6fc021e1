"""The audit trail: read, exported, verified."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from furlough.api.calling import TheService
from furlough.api.json_body import StrictRoute
from furlough.wire.access import (
    AuditLineView,
    CheckpointView,
    FaultView,
    VerifiedView,
    VerifyBody,
    audit_line_view,
)

router = APIRouter(route_class=StrictRoute, prefix="/audit")

_LARGEST = 2**53
Number = Annotated[int | None, Query(ge=0, le=_LARGEST)]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("")
async def list_audit(
    service: TheService,
    before: Number = None,
    after: Number = None,
    principal: Annotated[str | None, Query(max_length=63)] = None,
    limit: Limit = 100,
) -> list[AuditLineView]:
    """Lines of the audit trail, newest first; with `after`, all lines after that number, oldest
    first, as an export needs them."""
    if after is not None:
        lines = await service.trail.lines(after=after, limit=limit)
    else:
        lines = await service.trail.newest(before=before, limit=limit, principal=principal)
    return [audit_line_view(one) for one in lines]


@router.post("/verify")
async def verify_audit(body: VerifyBody, service: TheService) -> VerifiedView:
    """Whether the trail is what was written: every line chained to the one before, and every
    checkpoint among them. Changes nothing."""
    count, faults = await service.trail.verify([one.to_core() for one in body.checkpoints])
    newest = await service.trail.checkpoint()
    return VerifiedView(
        is_intact=not faults,
        lines=count,
        faults=[FaultView(number=one.number, why=one.why) for one in faults],
        checkpoint=CheckpointView(number=newest.number, hash=newest.hash),
    )
