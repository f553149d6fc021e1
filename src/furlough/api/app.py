"""The application: which routes exist, how large a body may be, how errors look."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from furlough import __version__
from furlough.api import enrolling, events, hosts, operations, plans, problems, vms
from furlough.api.calling import Caller, TheService
from furlough.service import Service
from furlough.wire.problem import Health

LARGEST_BODY = 8 << 20


def create_app(service: Service, token: str) -> FastAPI:
    """The API over this service; `token` is what a caller must carry."""
    app = FastAPI(
        title="Furlough",
        version=__version__,
        description="Host maintenance mode for KVM/libvirt fleets.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        responses=problems.RESPONSES,
    )
    app.state.service = service
    app.state.token = token
    problems.install(app)
    app.add_middleware(_BodyLimit)
    root = APIRouter(prefix="/api/v1")
    root.include_router(_health)
    for module in (enrolling, hosts, vms, plans, operations, events):
        root.include_router(module.router)
    app.include_router(root)
    return app


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
    """Refuses bodies that are too large, before anything parses them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
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
