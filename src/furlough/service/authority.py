"""The one check: who is calling the service, what they may do on which object, and the line in the
audit trail about it.

Every public method of the service states its privilege with `needs`; what states none is a mistake
that a test finds. Whoever may not even see an object is told what is told about one that is not
there; whoever sees it and may not do this to it is told so.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import structlog

from furlough.core.access import SYSTEM, Place, Principal, Privilege
from furlough.core.audit import Deed
from furlough.core.enrolment import EnrolledDatastore, EnrolledHost, Enrolment
from furlough.core.ids import ClusterName, HostName, OperationId, VmId
from furlough.core.inventory import Inventory
from furlough.core.operation import Operation
from furlough.engine.work import Work
from furlough.errors import FurloughError, NotAllowed, NotFound, Unreachable

log = structlog.get_logger()

P = ParamSpec("P")
R = TypeVar("R")
NOWHERE = Place()


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a method asks of its caller. `on`: the parameter that names the object; empty: it is
    about no object in particular. `everywhere`: it is about all there is, so the privilege has
    to reach everything; otherwise one that reaches anything will do, and what is given back is
    only what the caller may see."""

    privilege: Privilege
    on: str = ""
    everywhere: bool = False
    action: str = ""


class HasAuthority(Protocol):
    """Whatever has methods that need something."""

    @property
    def authority(self) -> Authority: ...


S = TypeVar("S", bound=HasAuthority)
Method = Callable[Concatenate[S, P], Coroutine[Any, Any, R]]


def needs(
    privilege: Privilege, *, on: str = "", everywhere: bool = False, action: str = ""
) -> Callable[[Method[S, P, R]], Method[S, P, R]]:
    """This method needs this privilege. With an `action` it acts: however it is refused, that is
    written into the audit trail; what it changes is written there with the change."""
    need = Need(privilege=privilege, on=on, everywhere=everywhere, action=action)

    def guard(method: Method[S, P, R]) -> Method[S, P, R]:
        names = list(inspect.signature(method).parameters)
        place = names.index(on) - 1 if on else None

        @wraps(method)
        async def guarded(self: S, /, *arguments: P.args, **named: P.kwargs) -> R:
            known: dict[str, Any] = dict(named)
            which = known[on] if on in known else None if place is None else arguments[place]
            authority = self.authority
            if authority.principal is SYSTEM:
                return await method(self, *arguments, **named)
            try:
                await authority.check(privilege, on, which, everywhere=everywhere)
                return await method(self, *arguments, **named)
            except FurloughError as error:
                if action or isinstance(error, NotAllowed):
                    what = action or getattr(method, "__name__", "")
                    await authority.refused(what, subject_of(on, which), error.code)
                raise

        guarded.__dict__["need"] = need
        return guarded

    return guard


def need_of(method: object) -> Need | None:
    """What a method says it needs; None where it says nothing."""
    found = getattr(method, "need", None)
    return found if isinstance(found, Need) else None


def subject_of(kind: str, which: object) -> str:
    """An object as the audit trail names it: `host h1, h2`."""
    word = {"hosts": "host", "which": "operation"}.get(kind, kind)
    if isinstance(which, Sequence) and not isinstance(which, str):
        names = ", ".join(str(one) for one in which)
    else:
        names = str(which or "")
    return f"{word} {names}".strip()[:1000]


class Authority:
    """A principal, and what the store and the facts say about what they may do."""

    def __init__(self, work: Work, principal: Principal) -> None:
        self._work = work
        self.principal = principal

    # --- may they? -------------------------------------------------------------------------------

    async def check(
        self, privilege: Privilege, on: str = "", which: Any = None, *, everywhere: bool = False
    ) -> None:
        """`NotAllowed` where the principal may not do this to this object, `NotFound` where they
        may not even see it."""
        if self._may_everywhere(privilege):
            return
        if on:
            await _CHECKS[on](self, privilege, which)
            return
        places = [NOWHERE] if everywhere else await self._all_places()
        if not any(self.principal.may(privilege, place) for place in places):
            raise self._denied(privilege, "")

    def _may_everywhere(self, privilege: Privilege) -> bool:
        """Whether no object has to be looked up: the usual case of whoever watches everything.
        What is not there is told by whoever looks for it."""
        if privilege is Privilege.CANCEL_OWN:
            privilege = Privilege.CANCEL_ANY
        return self.sees_everything and self.principal.may(privilege, NOWHERE)

    async def check_hosts(self, privilege: Privilege, hosts: Sequence[HostName]) -> None:
        """For each of these hosts."""
        for host in hosts:
            await self.check_host(privilege, host)

    async def check_host(self, privilege: Privilege, host: HostName) -> None:
        """For one host."""
        place = await self._place(host)
        if not self.principal.may(Privilege.VIEW, place):
            raise NotFound(
                "host.unknown", f"There is no host {host!r}.", remedy="See: furlough host list."
            )
        self._demand(privilege, place, f" on host {host}")

    async def check_cluster(self, privilege: Privilege, cluster: ClusterName) -> None:
        """For a cluster as a whole; looking is allowed to whoever sees one of its hosts."""
        enrolment = await self._work.store.enrolment()
        inside = [
            Place(cluster=one.cluster, host=one.name)
            for one in enrolment.hosts
            if one.cluster == cluster
        ]
        whole = Place(cluster=cluster)
        if not any(self.principal.may(Privilege.VIEW, one) for one in (whole, *inside)):
            raise NotFound(
                "cluster.unknown",
                f"There is no cluster {cluster!r}.",
                remedy="See: furlough cluster list.",
            )
        if privilege is not Privilege.VIEW:
            self._demand(privilege, whole, f" on cluster {cluster}")

    async def check_vm(self, privilege: Privilege, vm: VmId) -> None:
        """For a VM, wherever it is."""
        inventory = await self._work.observer.inventory()
        if not inventory.copies_of(vm):
            await self._work.observer.refresh()
            inventory = await self._work.observer.inventory()
        places = [await self._place(copy.host) for copy in inventory.copies_of(vm)]
        if not any(self.principal.may(Privilege.VIEW, place) for place in places):
            raise NotFound("vm.unknown", f"There is no VM {vm}.", remedy="See: furlough vm list.")
        for place in places:
            self._demand(privilege, place, f" on VM {vm}")

    async def check_operation(self, privilege: Privilege, which: OperationId) -> None:
        """For an operation: whoever sees one of its hosts may see it; to act on it, they need the
        privilege on all of them."""
        operation = await self._work.store.operation(which)
        if not await self.sees(operation):
            raise _unknown_operation(which)
        if privilege is Privilege.VIEW:
            return
        if privilege is Privilege.CANCEL_OWN and operation.requested_by != self.principal.name:
            privilege = Privilege.CANCEL_ANY
        for host in operation.hosts:
            self._demand(privilege, await self._place(host), f" on {which}")

    async def check_enrolment(self, additions: Enrolment) -> None:
        """For everything that is to be enrolled, and whatever of it is there already: a new
        cluster is for those whose privilege reaches everything."""
        known = await self._work.store.enrolment()
        clusters = {one.name for one in known.clusters}
        places = [
            Place(cluster=one.name) if one.name in clusters else NOWHERE
            for one in additions.clusters
        ]
        for old, new in ((known.datastores, additions.datastores), (known.hosts, additions.hosts)):
            names = {one.name for one in new}
            both = [*new, *(one for one in old if one.name in names)]
            places += [Place(cluster=one.cluster, host=_host_of(one)) for one in both]
        for place in places:
            self._demand(Privilege.MANAGE_HOSTS, place, f" on {_words_of(place)}")

    async def sees(self, operation: Operation) -> bool:
        """Whether the principal may see an operation."""
        places = [await self._place(host) for host in operation.hosts]
        return any(self.principal.may(Privilege.VIEW, place) for place in places)

    async def _place(self, host: HostName) -> Place:
        """Where a host is; one that is not enrolled any more is in no cluster."""
        for one in (await self._work.store.enrolment()).hosts:
            if one.name == host:
                return Place(cluster=one.cluster, host=one.name)
        return Place(host=host)

    async def _all_places(self) -> list[Place]:
        enrolment = await self._work.store.enrolment()
        hosts = [Place(cluster=one.cluster, host=one.name) for one in enrolment.hosts]
        clusters = [Place(cluster=one.name) for one in enrolment.clusters]
        return [NOWHERE, *clusters, *hosts]

    def _demand(self, privilege: Privilege, place: Place, where: str) -> None:
        if not self.principal.may(privilege, place):
            raise self._denied(privilege, where)

    def _denied(self, privilege: Privilege, where: str) -> NotAllowed:
        return NotAllowed(
            "access.denied",
            f"{self.principal.name} has no privilege {privilege.value}{where}.",
            remedy="Ask whoever manages users for a role that has it there: furlough role list.",
        )

    # --- what they see ---------------------------------------------------------------------------

    @property
    def sees_everything(self) -> bool:
        """Whether nothing at all is hidden."""
        return self.principal.may(Privilege.VIEW, NOWHERE)

    def seen_inventory(self, inventory: Inventory) -> Inventory:
        """The facts that the principal may see."""
        if self.sees_everything:
            return inventory
        hosts = [host for host in inventory.hosts if self._sees(host.cluster, host.name)]
        names = {host.name for host in hosts}
        clusters = {host.cluster for host in hosts}
        return replace(
            inventory,
            hosts=hosts,
            vms=[vm for vm in inventory.vms if vm.host in names],
            clusters=[
                one
                for one in inventory.clusters
                if one.name in clusters or self._sees(one.name, "")
            ],
        )

    def seen_enrolment(self, enrolment: Enrolment) -> Enrolment:
        """What is enrolled, as far as the principal may see it."""
        if self.sees_everything:
            return enrolment
        hosts = [one for one in enrolment.hosts if self._sees(one.cluster, one.name)]
        near = {one.cluster for one in hosts}
        near |= {one.name for one in enrolment.clusters if self._sees(one.name, "")}
        return Enrolment(
            clusters=[one for one in enrolment.clusters if one.name in near],
            datastores=[one for one in enrolment.datastores if one.cluster in near],
            hosts=hosts,
        )

    def _sees(self, cluster: str, host: str) -> bool:
        return self.principal.may(Privilege.VIEW, Place(cluster=cluster, host=host))

    # --- the audit trail -------------------------------------------------------------------------

    def deed(
        self, action: str, subject: str, *, before: object = None, after: object = None
    ) -> Deed | None:
        """What the principal does, for the transaction that does it; None where the daemon does
        it by itself."""
        if self.principal is SYSTEM:
            return None
        return Deed(
            by=self.principal,
            action=action,
            subject=subject,
            before=_text(before),
            after=_text(after),
        )

    async def note(self, deed: Deed | None, result: str) -> None:
        """A line of its own: for effects on hosts, which no transaction holds."""
        if deed is not None:
            await self._work.store.access.record(deed, result)

    async def refused(self, action: str, subject: str, code: str) -> None:
        """That something was refused. Where even that cannot be written, the refusal stands."""
        deed = Deed(by=self.principal, action=action, subject=subject)
        try:
            await self._work.store.access.record(deed, code)
        except Unreachable as error:
            log.warning("refusal not in the audit trail", action=action, because=error.message)


def _host_of(one: EnrolledHost | EnrolledDatastore) -> str:
    return one.name if isinstance(one, EnrolledHost) else ""


def _words_of(place: Place) -> str:
    if place.host:
        return f"host {place.host}"
    return f"cluster {place.cluster}" if place.cluster else "everything"


def _text(value: object) -> str:
    """JSON of something, empty for nothing."""
    if value is None:
        return ""
    return json.dumps(value, default=_plain, sort_keys=True, ensure_ascii=True)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Iterable) else str(value)


def _unknown_operation(which: OperationId) -> NotFound:
    return NotFound(
        "operation.unknown",
        f"There is no operation {which}.",
        remedy="See: furlough operation list.",
    )


_CHECKS: Mapping[str, Callable[[Authority, Privilege, Any], Awaitable[None]]] = {
    "hosts": Authority.check_hosts,
    "host": Authority.check_host,
    "cluster": Authority.check_cluster,
    "vm": Authority.check_vm,
    "which": Authority.check_operation,
}
