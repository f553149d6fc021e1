"""A typed client of the REST API. The CLI uses nothing else.

Problem documents come back as the errors of `furlough.errors`, with the same codes. A daemon that
is not there is `Unreachable`: `daemon.unreachable` before anything was asked, `daemon.lost` and
`daemon.slow` when the answer did not come, `daemon.foreign` when it is not one of ours.
"""

from __future__ import annotations

import json
import ssl
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, TypeAdapter

from furlough.access_client import AccessClient, understood
from furlough.context import Context
from furlough.core.ids import parse_cluster_name, parse_host_name, parse_operation_id, parse_vm_id
from furlough.errors import (
    Bug,
    Conflict,
    FurloughError,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Throttled,
    Unreachable,
)
from furlough.wire.enrolment import DatastoreView
from furlough.wire.exits import ExitCheckView, PutBackView, RecordView
from furlough.wire.facts import ClusterView, HostView, VmView
from furlough.wire.operations import EntryView, LogLineView, OperationView
from furlough.wire.plans import PlanView, ReportView
from furlough.wire.remedies import AppliedView, PreparedView

M = TypeVar("M", bound=BaseModel)

_KINDS: Mapping[str, type[FurloughError]] = {
    "invalid": Invalid,
    "not_found": NotFound,
    "not_allowed": NotAllowed,
    "throttled": Throttled,
    "refused": Refused,
    "conflict": Conflict,
    "unreachable": Unreachable,
    "bug": Bug,
}
_JSON = "application/json"
_TIMEOUT_S = 60.0
# A program is copied to a host, its daemon told, and VMs are tried there.
_PREPARE_TIMEOUT_S = 300.0
# The stream speaks at least every 15 s; a silence longer than that is a dead connection.
_SILENCE_S = 40.0


@dataclass(frozen=True, kw_only=True)
class StreamEvent:
    """One server-sent event: its name, its content, and its id where it has one."""

    name: str
    content: Any
    id: int | None


class Client:
    """One connection to one daemon. Usable as a context manager."""

    def __init__(self, context: Context) -> None:
        self.url = context.url
        self._http = httpx2.Client(
            base_url=f"{context.url}/api/v1",
            headers={"Authorization": f"Bearer {context.token}"},
            timeout=_TIMEOUT_S,
            trust_env=False,
            verify=_trust(context),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    # --- looking ---------------------------------------------------------------------------

    def health(self) -> Mapping[str, Any]:
        """Whether the daemon lives."""
        found: Mapping[str, Any] = self._send("GET", "/health")
        return found

    def clusters(self) -> list[ClusterView]:
        return self._many(ClusterView, "/clusters")

    def cluster(self, name: str) -> ClusterView:
        return self._one(ClusterView, "GET", f"/clusters/{parse_cluster_name(name)}")

    def datastores(self) -> list[DatastoreView]:
        return self._many(DatastoreView, "/datastores")

    def hosts(self) -> list[HostView]:
        return self._many(HostView, "/hosts")

    def host(self, name: str) -> HostView:
        return self._one(HostView, "GET", f"/hosts/{parse_host_name(name)}")

    def host_log(self, name: str, limit: int) -> list[LogLineView]:
        """The newest lines of a host's log, oldest first."""
        path = f"/hosts/{parse_host_name(name)}/log"
        return self._many(LogLineView, path, {"limit": str(limit)})

    def vms(self, host: str | None = None) -> list[VmView]:
        return self._many(VmView, "/vms", {"host": host} if host else None)

    def vm(self, wanted: str) -> VmView:
        """A VM by its UUID, or by its name where only one has it."""
        try:
            which = str(uuid.UUID(wanted))
        except ValueError:
            return self._vm_by_name(wanted)
        return self._one(VmView, "GET", f"/vms/{which}")

    def _vm_by_name(self, name: str) -> VmView:
        found = [vm for vm in self.vms() if vm.name == name]
        if not found:
            raise NotFound(
                "vm.unknown", f"There is no VM {name!r}.", remedy="See: furlough vm list."
            )
        if len({vm.uuid for vm in found}) > 1:
            raise Invalid(
                "vm.ambiguous",
                f"Several VMs are named {name!r}: "
                + ", ".join(f"{vm.uuid} on {vm.host}" for vm in found),
                remedy="Give the UUID.",
            )
        return next((vm for vm in found if vm.power != "shut_off"), found[0])

    def set_policy(self, vm: str, policy: Mapping[str, Any]) -> VmView:
        """Change what travels with a VM, by UUID; None takes a setting away."""
        path = f"/vms/{parse_vm_id(vm)}"
        return self._one(VmView, "PATCH", path, {"policy": policy})

    def inventory_file(self) -> bytes:
        """The facts of all clusters as an inventory file."""
        return self._answer("GET", "/inventory").content

    # --- enrolling -------------------------------------------------------------------------

    def apply(self, tables: Mapping[str, Any]) -> None:
        """Create or change clusters, datastores and hosts: all of them, or none."""
        self._send("POST", "/apply", tables)

    def add(self, kind: str, body: Mapping[str, Any]) -> None:
        """Enrol a cluster, a datastore or a host (`kind` in the plural)."""
        self._send("POST", f"/{kind}", body)

    def change(self, kind: str, name: str, changes: Mapping[str, Any]) -> None:
        """Change a cluster or a host."""
        self._send("PATCH", f"/{kind}/{parse_host_name(name)}", changes)

    def remove(self, kind: str, name: str) -> None:
        """Forget a cluster, a datastore or a host."""
        self._send("DELETE", f"/{kind}/{parse_host_name(name)}")

    # --- checking and planning -------------------------------------------------------------

    def check(self, hosts: list[str], options: Mapping[str, Any]) -> list[ReportView]:
        found = self._send("POST", "/checks", {"hosts": hosts, "options": options})
        return understood(TypeAdapter(list[ReportView]), found)

    def apply_remedy(
        self, host: str, code: str, options: Mapping[str, Any], *, dry_run: bool
    ) -> AppliedView:
        """Apply the remedy against a host's findings of one code, or say what it would change."""
        path = f"/hosts/{parse_host_name(host)}/apply"
        body = {"code": code, "options": options, "dry_run": dry_run}
        return self._asked(AppliedView, path, body)

    def undo_remedies(self, host: str, *, dry_run: bool) -> AppliedView:
        """Put back what remedies have taken out on a host, or say what that would change."""
        path = f"/hosts/{parse_host_name(host)}/undo"
        return self._asked(AppliedView, path, {"dry_run": dry_run})

    def prepare(self, host: str) -> PreparedView:
        """Install furlough-host and its hook on a host, and prove the hook."""
        path = f"/hosts/{parse_host_name(host)}/prepare"
        return self._one(PreparedView, "POST", path, timeout_s=_PREPARE_TIMEOUT_S)

    def plan(
        self, hosts: list[str], options: Mapping[str, Any], *, restore: bool = False
    ) -> PlanView:
        body = {"hosts": hosts, "options": options, "restore": restore}
        return self._one(PlanView, "POST", "/plans", body)

    def exit_check(self, hosts: list[str], options: Mapping[str, Any]) -> ExitCheckView:
        body = {"hosts": hosts, "options": options}
        return self._one(ExitCheckView, "POST", "/exit-checks", body)

    def record(self, host: str) -> RecordView:
        return self._one(RecordView, "GET", f"/hosts/{parse_host_name(host)}/record")

    def close_record(self, host: str, options: Mapping[str, Any]) -> OperationView:
        return self._act(f"/hosts/{parse_host_name(host)}/record/close", options)

    # --- operations ------------------------------------------------------------------------

    def ask(self, kind: str, hosts: list[str], options: Mapping[str, Any]) -> OperationView:
        """Ask for an operation on hosts. Sent under a name of its own, so that a repetition
        after a lost answer makes no second one."""
        body = {"kind": kind, "hosts": hosts, "options": options}
        return self._act("/operations", body)

    def act_on_vm(self, act: str, vm: str, options: Mapping[str, Any]) -> OperationView:
        """Start, shut down, power off or migrate a VM, by UUID."""
        return self._act(f"/vms/{parse_vm_id(vm)}/{act}", options)

    # --- users, roles, tokens, the audit trail -------------------------------------------------

    @property
    def access(self) -> AccessClient:
        """What is asked about users, roles, tokens and the audit trail."""
        return AccessClient(self._send)

    def _act(self, path: str, body: Mapping[str, Any]) -> OperationView:
        return self._asked(OperationView, path, body)

    def _asked(self, shape: type[M], path: str, body: Mapping[str, Any]) -> M:
        """Asked once more where the answer was lost: the key makes both the same request."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        try:
            found = self._send("POST", path, body, headers=key)
        except Unreachable as error:
            if error.code != "daemon.lost":
                raise
            found = self._send("POST", path, body, headers=key)
        return understood(TypeAdapter(shape), found)

    def operations(self, *, active: bool = False, host: str | None = None) -> list[OperationView]:
        query = {"active": str(active).lower(), **({"host": host} if host else {})}
        return self._many(OperationView, "/operations", query)

    def operation(self, which: str) -> OperationView:
        return self._one(OperationView, "GET", f"/operations/{parse_operation_id(which)}")

    def journal(self, which: str) -> list[EntryView]:
        return self._many(EntryView, f"/operations/{parse_operation_id(which)}/journal")

    def cancel(self, which: str, mode: str) -> OperationView:
        path = f"/operations/{parse_operation_id(which)}/cancel"
        return self._one(OperationView, "POST", path, {"mode": mode})

    def put_back_plan(self, which: str) -> PutBackView:
        """What a cancel that puts back would do now."""
        path = f"/operations/{parse_operation_id(which)}/put-back"
        return self._one(PutBackView, "GET", path)

    def approve(self, which: str, plan_hash: str | None, steps: list[str]) -> OperationView:
        """Let steps that wait for approval start: these, or all."""
        path = f"/operations/{parse_operation_id(which)}/approve"
        return self._one(OperationView, "POST", path, {"plan_hash": plan_hash, "steps": steps})

    def pause(self, which: str) -> OperationView:
        return self._one(OperationView, "POST", f"/operations/{parse_operation_id(which)}/pause")

    def resume(self, which: str) -> OperationView:
        return self._one(OperationView, "POST", f"/operations/{parse_operation_id(which)}/resume")

    def events(self, operation: str, after: int | None = None) -> Iterator[StreamEvent]:
        """The live stream of one operation, until it is final or the connection breaks."""
        query = {"operation": parse_operation_id(operation)}
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        timeout = httpx2.Timeout(_TIMEOUT_S, read=_SILENCE_S)
        try:
            with self._http.stream(
                "GET",
                "/events",
                params=query,
                headers=headers,
                timeout=timeout,
            ) as response:
                if not response.is_success:
                    response.read()
                    raise self._error_of(response)
                yield from _parse(response.iter_lines())
        except httpx2.HTTPError as error:
            raise _unreachable(self.url, error) from error

    # --- sending ---------------------------------------------------------------------------

    def _many(self, shape: type[M], path: str, query: Mapping[str, str] | None = None) -> list[M]:
        return understood(TypeAdapter(list[shape]), self._send("GET", path, query=query))  # type: ignore[valid-type]

    def _one(
        self,
        shape: type[M],
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> M:
        found = self._send(method, path, body, query=query, timeout_s=timeout_s)
        return understood(TypeAdapter(shape), found)

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> Any:
        response = self._answer(
            method, path, body, query=query, headers=headers, timeout_s=timeout_s
        )
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise _foreign(self.url, response) from error

    def _answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> httpx2.Response:
        content = None if body is None else _encoded(body)
        sent = {**(headers or {}), **({} if body is None else {"Content-Type": _JSON})}
        try:
            response = self._http.request(
                method, path, content=content, params=query, headers=sent, timeout=timeout_s
            )
        except httpx2.HTTPError as error:
            raise _unreachable(self.url, error) from error
        except UnicodeError as error:
            raise _unsendable() from error
        if not response.is_success:
            raise self._error_of(response)
        return response

    def _error_of(self, response: httpx2.Response) -> FurloughError:
        """The error that a problem document describes."""
        try:
            problem = response.json()
            kind = _KINDS[problem["kind"]]
            facts = {name: problem[name] for name in ("findings", "operation") if name in problem}
            return kind(
                problem["code"], problem["detail"], remedy=problem.get("remedy", ""), **facts
            )
        except (ValueError, KeyError, TypeError):
            return _foreign(self.url, response)


def _trust(context: Context) -> ssl.SSLContext | bool:
    """The daemon's own certificate where the context names it, else the usual authorities. Reading
    them takes longer than asking a daemon on this machine, and without TLS they serve nothing: then
    nobody is trusted."""
    if not context.url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not context.certificate:
        return True
    try:
        return ssl.create_default_context(cafile=context.certificate)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            "context.certificate",
            f"{context.certificate} cannot be read as a certificate: {error.strerror or error}.",
            remedy="Copy certificate.pem from the daemon's data directory, and name it in "
            "FURLOUGH_CERTIFICATE.",
        ) from error


def _encoded(body: Mapping[str, Any]) -> bytes:
    """JSON of what a person or a file said; `Invalid` where JSON cannot say it."""
    try:
        return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError) as error:
        raise _unsendable() from error


def _unsendable() -> Invalid:
    return Invalid(
        "request.unsendable",
        "What was given holds a value that cannot be sent: bytes that are no text, a number that "
        "is none, or a date.",
        remedy="Names and texts are UTF-8, numbers are finite, and dates stand in quotes.",
    )


def _parse(lines: Iterator[str]) -> Iterator[StreamEvent]:
    """Server-sent events from their lines. What is no event of ours is passed over."""
    name, data, number = "message", "", ""
    for line in lines:
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif line.startswith("id:"):
            number = line[3:].strip()
        elif not line and data:
            event = _event_of(name, data, number)
            if event is not None:
                yield event
            name, data, number = "message", "", ""


def _event_of(name: str, data: str, number: str) -> StreamEvent | None:
    try:
        known = int(number) if number else None
        return StreamEvent(name=name, content=json.loads(data), id=known)
    except ValueError:
        return None


def _unreachable(url: str, error: Exception) -> Unreachable:
    """No connection: nothing was asked. No answer: nobody knows."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Unreachable(
            "daemon.unreachable",
            f"The daemon at {url} does not answer ({str(error) or type(error).__name__}). "
            "Nothing was asked of it.",
            remedy="Is it running? Start it: furlough serve. If it is elsewhere: FURLOUGH_URL.",
        )
    code = "daemon.slow" if isinstance(error, httpx2.TimeoutException) else "daemon.lost"
    what = "did not answer in time" if code == "daemon.slow" else "broke the connection"
    return Unreachable(
        code,
        f"The daemon at {url} {what}: whether it did what was asked is not known.",
        remedy="Look: furlough operation list. Its log says why it was silent.",
    )


def _foreign(url: str, response: httpx2.Response) -> Unreachable:
    return Unreachable(
        "daemon.foreign",
        f"What answers at {url} is no furlough daemon: status {response.status_code}, without a "
        "reason of ours.",
        remedy="Look at FURLOUGH_URL, and at what else listens there or stands in between.",
    )
