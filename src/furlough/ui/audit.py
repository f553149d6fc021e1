"""The audit trail: who asked for what, from where, and how it ended, newest first."""

from __future__ import annotations

from starlette.responses import Response

from furlough.ui.visit import Asked, Routes

_PER_PAGE = 100


async def show(asked: Asked) -> Response:
    """Lines before a number, of one principal or of all."""
    text, principal = asked.said("before"), asked.said("principal")
    before = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
    lines = await asked.service.trail.newest(
        before=before, limit=_PER_PAGE, principal=principal or None
    )
    return asked.render(
        "audit",
        lines=lines,
        principal=principal,
        is_first=before is None,
        older=lines[-1].number if len(lines) == _PER_PAGE else None,
    )


async def verify(asked: Asked) -> Response:
    """Whether the trail is what was written; changes nothing."""
    count, faults = await asked.service.trail.verify()
    newest = await asked.service.trail.checkpoint()
    return asked.render("audit-verified", count=count, faults=faults, checkpoint=newest)


ROUTES: Routes = {("GET", "/audit"): show, ("GET", "/audit/verify"): verify}
