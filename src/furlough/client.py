"""A typed client of the REST API. The CLI uses nothing else.

Problem documents come back as the errors of `furlough.errors`, with the same codes; a daemon that
does not answer is `Unreachable` with the code `daemon.unreachable`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, TypeAdapter

from furlough.context import Context
from furlough.errors import (
    Bug,
    Conflict,
    FurloughError,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    Unreachable,
)
from furlough.wire.enrolment import DatastoreView
from furlough.wire.facts import ClusterView, HostView, VmView
from furlough.wire.operations import EntryView, OperationView
from furlough.wire.plans import ExitCheckView, PlanView, ReportView

M = TypeVar("M", bound=BaseModel)

_KINDS: Mapping[str, type[FurloughError]] = {
    "invalid": Invalid,
    "not_found": NotFound,
    "not_allowed": NotAllowed,
    "refused": Refused,
    "conflict": Conflict,
    "unreachable": Unreachable,
    "bug": Bug,
}
_TIMEOUT_S = 60.0
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
        return self._one(ClusterView, "GET", f"/clusters/{name}")

    def datastores(self) -> list[DatastoreView]:
        return self._many(DatastoreView, "/datastores")

    def hosts(self) -> list[HostView]:
        return self._many(HostView, "/hosts")

    def host(self, name: str) -> HostView:
        return self._one(HostView, "GET", f"/hosts/{name}")

    def vms(self, host: str | None = None) -> list[VmView]:
        return self._many(VmView, "/vms", {"host": host} if host else None)

    def vm(self, wanted: str) -> VmView:
        """A VM by its UUID, or by its name where only one has it."""
        try:
            uuid.UUID(wanted)
        except ValueError:
            return self._vm_by_name(wanted)
        return self._one(VmView, "GET", f"/vms/{wanted}")

    def _vm_by_name(self, name: str) -> VmView:
        found = [vm for vm in self.vms() if vm.name == name]
        if not found:
            raise NotFound(
                "vm.unknown", f"There is no VM {name!r}.", remedy="See: furlough vm list."
            )
        if len({vm.uuid for vm in found}) > 1:
            raise Conflict(
                "vm.ambiguous",
                f"Several VMs are named {name!r}: "
                + ", ".join(f"{vm.uuid} on {vm.host}" for vm in found),
                remedy="Give the UUID.",
            )
        return next((vm for vm in found if vm.power != "shut_off"), found[0])

    # --- enrolling -------------------------------------------------------------------------

    def apply(self, tables: Mapping[str, Any]) -> None:
        """Create or change clusters, datastores and hosts: all of them, or none."""
        self._send("POST", "/apply", tables)

    def add(self, kind: str, body: Mapping[str, Any]) -> None:
        """Enrol a cluster, a datastore or a host (`kind` in the plural)."""
        self._send("POST", f"/{kind}", body)

    def change(self, kind: str, name: str, changes: Mapping[str, Any]) -> None:
        """Change a cluster or a host."""
        self._send("PATCH", f"/{kind}/{name}", changes)

    def remove(self, kind: str, name: str) -> None:
        """Forget a cluster, a datastore or a host."""
        self._send("DELETE", f"/{kind}/{name}")

    # --- checking and planning -------------------------------------------------------------

    def check(self, hosts: list[str], options: Mapping[str, Any]) -> list[ReportView]:
        found = self._send("POST", "/checks", {"hosts": hosts, "options": options})
        return TypeAdapter(list[ReportView]).validate_python(found)

    def plan(self, hosts: list[str], options: Mapping[str, Any]) -> PlanView:
        return self._one(PlanView, "POST", "/plans", {"hosts": hosts, "options": options})

    def exit_check(self, host: str, restore: str) -> ExitCheckView:
        return self._one(
            ExitCheckView, "GET", f"/hosts/{host}/exit-check", query={"restore": restore}
        )

    # --- operations ------------------------------------------------------------------------

    def ask(self, kind: str, hosts: list[str], options: Mapping[str, Any]) -> OperationView:
        """Ask for an operation on hosts. Sent under a name of its own, so that a repetition
        after a lost answer makes no second one."""
        body = {"kind": kind, "hosts": hosts, "options": options}
        return self._act("/operations", body)

    def act_on_vm(self, act: str, vm: str, options: Mapping[str, Any]) -> OperationView:
        """Start, shut down, power off or migrate a VM, by UUID."""
        return self._act(f"/vms/{vm}/{act}", options)

    def _act(self, path: str, body: Mapping[str, Any]) -> OperationView:
        key = {"Idempotency-Key": str(uuid.uuid4())}
        return OperationView.model_validate(self._send("POST", path, body, headers=key))

    def operations(self, *, active: bool = False, host: str | None = None) -> list[OperationView]:
        query = {"active": str(active).lower(), **({"host": host} if host else {})}
        return self._many(OperationView, "/operations", query)

    def operation(self, which: str) -> OperationView:
        return self._one(OperationView, "GET", f"/operations/{which}")

    def journal(self, which: str) -> list[EntryView]:
        return self._many(EntryView, f"/operations/{which}/journal")

    def cancel(self, which: str, mode: str) -> OperationView:
        return self._one(OperationView, "POST", f"/operations/{which}/cancel", {"mode": mode})

    def resume(self, which: str) -> OperationView:
        return self._one(OperationView, "POST", f"/operations/{which}/resume")

    def events(self, operation: str, after: int | None = None) -> Iterator[StreamEvent]:
        """The live stream of one operation, until it is final or the connection breaks."""
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        timeout = httpx2.Timeout(_TIMEOUT_S, read=_SILENCE_S)
        try:
            with self._http.stream(
                "GET",
                "/events",
                params={"operation": operation},
                headers=headers,
                timeout=timeout,
            ) as response:
                if response.is_error:
                    response.read()
                    raise _error_of(response)
                yield from _parse(response.iter_lines())
        except httpx2.HTTPError as error:
            raise _unreachable(self.url, error) from error

    # --- sending ---------------------------------------------------------------------------

    def _many(self, shape: type[M], path: str, query: Mapping[str, str] | None = None) -> list[M]:
        found = self._send("GET", path, query=query)
        return [shape.model_validate(one) for one in found]

    def _one(
        self,
        shape: type[M],
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> M:
        return shape.model_validate(self._send(method, path, body, query=query))

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        try:
            response = self._http.request(method, path, json=body, params=query, headers=headers)
        except httpx2.HTTPError as error:
            raise _unreachable(self.url, error) from error
        if response.is_error:
            raise _error_of(response)
        return response.json() if response.content else None


def _parse(lines: Iterator[str]) -> Iterator[StreamEvent]:
    """Server-sent events from their lines."""
    name, data, number = "message", "", None
    for line in lines:
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif line.startswith("id:"):
            number = int(line[3:])
        elif not line and data:
            yield StreamEvent(name=name, content=json.loads(data), id=number)
            name, data, number = "message", "", None


def _unreachable(url: str, error: Exception) -> Unreachable:
    return Unreachable(
        "daemon.unreachable",
        f"The daemon at {url} does not answer ({type(error).__name__}).",
        remedy="Is it running? Start it with: furlough serve.",
    )


def _error_of(response: httpx2.Response) -> FurloughError:
    """The error that a problem document describes."""
    try:
        problem = response.json()
        kind = _KINDS[problem["kind"]]
        facts = {name: problem[name] for name in ("findings", "operation") if name in problem}
        return kind(problem["code"], problem["detail"], remedy=problem.get("remedy", ""), **facts)
    except (ValueError, KeyError, TypeError):
        return Bug("daemon.answer", f"The daemon answered {response.status_code} without reason.")
