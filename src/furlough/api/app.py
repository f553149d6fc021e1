"""The application: which routes exist, how large a body may be, how errors look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from furlough import __version__
from furlough.api import (
    audit,
    enrolling,
    events,
    exits,
    hosts,
    operations,
    plans,
    problems,
    remedies,
    sessions,
    users,
    vms,
)
from furlough.api.calling import Caller, TheService
from furlough.api.gate import Gate
from furlough.api.limits import Limiter, Limits
from furlough.service import Service
from furlough.wire.problem import Health

LARGEST_BODY = 8 << 20
_MODULES = (
    sessions,
    users,
    enrolling,
    hosts,
    exits,
    remedies,
    vms,
    plans,
    operations,
    events,
    audit,
)


def create_app(
    service: Service,
    token: str,
    limits: Limits | None = None,
    front: Callable[[ASGIApp], ASGIApp] | None = None,
) -> FastAPI:
    """The API over this service; `token` is the local one, whose bearer may do everything.
    `front`: what meets requests before the API does, once it is known who sends them."""
    app = _App(
        title="Furlough",
        version=__version__,
        description="Host maintenance mode for KVM/libvirt fleets.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        responses=problems.RESPONSES,
    )
    limiter = Limiter(limits or Limits())
    app.state.service, app.state.token, app.state.limiter = service, token, limiter
    problems.install(app)
    app.add_middleware(_BodyLimit)
    if front is not None:
        app.add_middleware(front)
    # The last one added is the first one met.
    app.add_middleware(Gate, service=service, token=token, limiter=limiter)
    root = APIRouter(prefix="/api/v1")
    root.include_router(_health)
    for module in _MODULES:
        root.include_router(module.router)
    app.include_router(root)
    return app


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The schema, with problem documents under their own media type."""
        known = self.openapi_schema is not None
        schema = super().openapi()
        if not known:
            for path in schema["paths"].values():
                for operation in path.values():
                    problems.name_media_type(operation["responses"])
        return schema


_health = APIRouter()


@_health.get("/health")
async def health() -> Health:
    """The daemon lives."""
    return Health(status="ok", version=__version__)


@_health.get("/ready")
async def ready(service: TheService, _caller: Caller) -> Health:
    """The daemon lives and its database answers."""
    await service.last_sequence()
    return Health(status="ok", version=__version__)


class _BodyLimit:
    """Refuses bodies that are too large, before anything parses them: by what they say of
    themselves, and by what comes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _announced(scope) > LARGEST_BODY:
            refusal = problems.answer_framework(HTTPException(413))
            await refusal(scope, receive, send)
            return
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > LARGEST_BODY:
                raise HTTPException(413)
            return message

        await self._app(scope, limited, send)


def _announced(scope: Scope) -> int:
    """What Content-Length says; 0 where it says nothing."""
    text = Headers(scope=scope).get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
