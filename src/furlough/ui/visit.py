"""One request for a page: who asks, what they said, and the ways to answer."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from furlough.api.calling import view_of
from furlough.api.principal import csrf_token
from furlough.core.access import Place, Principal, Privilege
from furlough.core.ids import HostName, OperationId, VmId, parse_host_name, parse_operation_id
from furlough.core.ids import parse_vm_id as _parse_vm_id
from furlough.core.inventory import Host
from furlough.core.operation import Operation
from furlough.ports import IdempotencyKey
from furlough.service import Request as ServiceRequest
from furlough.service import Service
from furlough.ui.forms import Fields, fingerprint, first
from furlough.ui.rendering import page_of
from furlough.wire.operations import OperationView

PER_PAGE = 50
_SEE_OTHER = 303


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Who looks at a page. `csrf_token`: what each of their forms has to carry."""

    name: str
    csrf_token: str
    manages_users: bool
    reads_audit: bool


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a page is asked for. `fields`: of its form where it was posted, else of its address."""

    request: Request
    service: Service
    environment: Environment
    principal: Principal
    fields: Fields = field(default_factory=dict)

    @property
    def visit(self) -> Visit:
        """Who looks, for the frame of the page."""
        manages = self.principal.may(Privilege.MANAGE_USERS, Place())
        return Visit(
            name=self.principal.name,
            csrf_token=csrf_token(self.request),
            manages_users=manages,
            reads_audit=self.principal.may(Privilege.READ_AUDIT, Place()),
        )

    def may(self, privilege: Privilege, host: Host) -> bool:
        """Whether whoever asks may do this to a host: what nobody may is not offered. The service
        decides once more."""
        return self.principal.may(privilege, Place(cluster=host.cluster, host=host.name))

    # --- what was asked -------------------------------------------------------------------------

    @property
    def host(self) -> HostName:
        """The host that the address names."""
        return parse_host_name(self.request.path_params["host"])

    @property
    def operation(self) -> OperationId:
        """The operation that the address names."""
        return parse_operation_id(self.request.path_params["operation"])

    @property
    def vm(self) -> VmId:
        """The VM that the address names."""
        return _parse_vm_id(self.request.path_params["vm"])

    def said(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        return first(self.fields, name, default)

    def page(self) -> int:
        """The page of a listing, from 1."""
        text = self.said("page", "1")
        return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1

    def named(self, plan_hash: str | None = None) -> ServiceRequest:
        """Who asks; a form that is sent twice asks once."""
        key = self.said("key")
        return ServiceRequest(
            by=self.principal.name,
            plan_hash=plan_hash,
            key=IdempotencyKey(
                principal=self.principal.name,
                key=f"page:{key}"[:255],
                content=fingerprint({**self.fields, "path": [self.request.url.path]}),
            )
            if key
            else None,
        )

    # --- how it is answered -----------------------------------------------------------------------

    async def view(self, operation: Operation) -> OperationView:
        """An operation as the API shows it, with what is in flight right now."""
        return await view_of(operation, self.service)

    def render(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """A page from a template."""
        text = self.environment.get_template(page_of(template)).render(
            template=template,
            visit=self.visit,
            now=self.service.now(),
            path=self.request.url.path,
            query=self.request.url.query,
            key=secrets.token_urlsafe(16),
            **context,
        )
        return HTMLResponse(text, status_code=status)


def go_to(path: str) -> Response:
    """On to another page of ours, by GET."""
    return RedirectResponse(quote(path, safe="/?=&%#-._~"), status_code=_SEE_OTHER)


Handler = Callable[[Asked], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One page of a longer listing. `total`: of all pages."""

    items: Sequence[Any]
    page: int
    pages: int
    total: int


def listed(every: Sequence[Any], page: int, per_page: int = PER_PAGE) -> Listing:
    """The page of this number, or the last one where there are fewer."""
    pages = max(1, -(-len(every) // per_page))
    page = min(page, pages)
    start = (page - 1) * per_page
    return Listing(items=every[start : start + per_page], page=page, pages=pages, total=len(every))


Routes = Mapping[tuple[str, str], Handler]
