"""Taking requests in: who asks, fresh facts around what is asked about, and the door through which
an accepted operation goes into the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from furlough.core.admission import Standing, check_hosts_known, check_vms_free, owned, terms_of
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory
from furlough.core.journal import HostModeChanged, OperationAccepted
from furlough.core.operation import Operation
from furlough.core.plan import OperationKind, Plan
from furlough.core.policy import Options
from furlough.engine.supervisor import Supervisor
from furlough.engine.work import Work
from furlough.errors import Invalid
from furlough.planning.planner import roster_of
from furlough.ports import IdempotencyKey
from furlough.prechecks.requests import check_plan_allowed, check_timeout
from furlough.service.authority import Authority

_OF_ONE_VM = {
    OperationKind.START_VM,
    OperationKind.SHUT_DOWN_VM,
    OperationKind.POWER_OFF_VM,
    OperationKind.MIGRATE_VM,
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """Who asks, and the client's own name for the request, if it gave one. `plan_hash`: carry
    out this plan and no other."""

    by: str
    key: IdempotencyKey | None = None
    plan_hash: str | None = None


def with_hash(request: Request, plan_hash: str | None) -> Request:
    """The same request, bound to one plan."""
    return replace(request, plan_hash=plan_hash)


class Intake:
    """What all requests have in common."""

    def __init__(self, work: Work, supervisor: Supervisor, authority: Authority) -> None:
        self._work = work
        self._authority = authority
        self._store = work.store
        self._observer = work.observer
        self._supervisor = supervisor

    async def fresh_inventory(self, hosts: Sequence[HostName]) -> Inventory:
        """Facts asked for now, of all clusters that these hosts belong to."""
        if not hosts:
            raise Invalid("hosts.none", "No host is named.", remedy="Name at least one.")
        if len(set(hosts)) != len(hosts):
            raise Invalid("hosts.repeated", "A host is named twice.", remedy="Name each once.")
        enrolment = await self._store.enrolment()
        clusters = {enrolment.host(name).cluster for name in hosts}
        await self._observer.refresh(
            [one.name for one in enrolment.hosts if one.cluster in clusters]
        )
        return await self._observer.inventory()

    async def surveyed_inventory(self, hosts: Sequence[HostName]) -> Inventory:
        """The same, and these hosts and their targets probed: what a precheck needs."""
        await self.fresh_inventory(hosts)
        return await self._observer.survey(hosts)

    async def repeated(self, request: Request) -> Operation | None:
        """What an earlier request with the same idempotency key has led to."""
        return None if request.key is None else await self._store.repeat_of(request.key)

    async def inventory_of(self, vm: VmId) -> Inventory:
        """Fresh facts around one VM; `NotFound` where no host lists it."""
        inventory = await self._observer.inventory()
        if not inventory.copies_of(vm):
            await self._observer.refresh()
            inventory = await self._observer.inventory()
        return await self.fresh_inventory([inventory.vm(vm).host])

    async def known(self, hosts: Sequence[HostName]) -> dict[HostName, Standing]:
        """The standings of all hosts; `NotFound` where one of these is not among them."""
        standings = dict(await self._store.standings())
        check_hosts_known(hosts, standings)
        return standings

    async def check_unowned(self, vm: VmId) -> None:
        """`Conflict`, naming the operation, where one has this VM: it says more than the job that
        the operation runs on the VM. Decided again when the request is accepted."""
        owners = {
            owned_vm: operation.id
            for operation in await self._store.operations(active=True)
            for owned_vm in owned(operation.options, operation.roster)
        }
        check_vms_free([vm], owners)

    async def accept(
        self,
        plan: Plan,
        options: Options,
        request: Request,
        inventory: Inventory,
        modes: Sequence[HostModeChanged] = (),
    ) -> Operation:
        check_timeout(options.timeout_s)
        check_plan_allowed(plan, inventory)
        timeout_s = options.timeout_s or 0.0
        now = self._work.clock.now()
        targets = {step.targets[0] for step in plan.steps if step.targets}
        event = OperationAccepted(
            operation_kind=plan.kind,
            hosts=plan.hosts,
            options=options,
            plan=plan,
            roster=roster_of(plan, inventory),
            requested_by=request.by,
            deadline=now + timedelta(seconds=timeout_s) if timeout_s > 0 else None,
        )
        deed = self._authority.deed(plan.kind.value, _subject_of(event))
        accepted = await self._store.accept(
            event, modes, terms_of(inventory, targets), request.key, deed
        )
        self._work.notifier.notify()
        self._supervisor.nudge(accepted.id)
        return accepted


def _subject_of(event: OperationAccepted) -> str:
    """What an operation is about, as the audit trail names it: the hosts it is asked about, or
    the VM."""
    if event.operation_kind in _OF_ONE_VM:
        return f"vm {' '.join(one.vm for one in event.roster)}"
    return f"host {', '.join(event.hosts)}"
