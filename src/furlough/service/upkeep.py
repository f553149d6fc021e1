"""The use cases that get hosts and VMs ready for maintenance: policies of VMs, remedies against
findings, the preparation of a host. A part of the service, which hands out its own ways.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from furlough.core.access import Privilege
from furlough.core.audit import BEGUN, DONE
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Inventory, Vm
from furlough.core.operation import Operation
from furlough.core.policy import ActionOptions, EnterOptions
from furlough.core.vm_policy import Words, merged_words
from furlough.engine.work import Work
from furlough.errors import Conflict, Refused
from furlough.planning.assessment import Report
from furlough.planning.remedies import (
    Change,
    Remedied,
    Remedy,
    changes,
    plan_ejecting,
    plan_undoing,
    remedy_of,
    undoing,
)
from furlough.prechecks.requests import check_connected
from furlough.service.authority import Authority, needs
from furlough.service.intake import Intake, Request

log = structlog.get_logger()


Check = Callable[[Sequence[HostName], EnterOptions], Awaitable[Sequence[Report]]]


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a remedy changes, or would change; the operation that does it, if it takes one; and
    why a host's guard is still not proven after its preparation, empty otherwise."""

    changes: tuple[Change, ...]
    operation: Operation | None = None
    trouble: str = ""


class Upkeep:
    """Policies of VMs, remedies, preparation of hosts."""

    def __init__(self, work: Work, intake: Intake, check: Check, authority: Authority) -> None:
        self._work = work
        self.authority = authority
        self._intake = intake
        self._check = check

    # --- policies of VMs -----------------------------------------------------------------------

    @needs(Privilege.MAINTAIN, on="vm", action="set_policy")
    async def set_policy(self, vm: VmId, wanted: Mapping[str, str | None], by: str) -> Vm:
        """Change what travels with a VM: a word for each setting, None to take it away. The VM as
        its host shows it afterwards. It changes nothing that runs."""
        inventory = await self._intake.inventory_of(vm)
        found = inventory.vm(vm)
        check_connected(inventory.host(found.host))
        await self._intake.check_unowned(vm)
        active = [copy.host for copy in inventory.running_copies_of(vm)]
        if len(active) > 1:
            raise Refused(
                "vm.two_copies",
                f"VM {found.name} is active on {' and '.join(sorted(active))} at once.",
                remedy="Find out which copy is the right one and stop the other by hand, now.",
            )
        words = merged_words(found.own_policy, wanted)
        log.info("policy of a vm changes", vm=vm, host=found.host, by=by, words=dict(words))
        before, after = dict(found.own_policy), dict(words)
        deed = self.authority.deed("set_policy", f"vm {vm}", before=before, after=after)
        await self.authority.note(deed, BEGUN)
        await self._work.hypervisor.set_policy(found.host, vm, words)
        changed = await self._read_back(found, words)
        await self.authority.note(deed, DONE)
        return changed

    async def _read_back(self, vm: Vm, words: Words) -> Vm:
        await self._work.observer.refresh([vm.host])
        inventory = await self._work.observer.inventory()
        copies = [copy for copy in inventory.copies_of(vm.id) if copy.host == vm.host]
        if not copies or tuple(sorted(copies[0].own_policy)) != words:
            raise Conflict(
                "policy.not_kept",
                f"{vm.host} does not show the new policy of VM {vm.name}.",
                remedy="Somebody may have changed or moved it meanwhile: look at it "
                f"(furlough vm show {vm.id}) and try again.",
            )
        return copies[0]

    # --- hosts ---------------------------------------------------------------------------------

    @needs(Privilege.MANAGE_HOSTS, on="host", action="prepare")
    async def prepare(self, host: HostName, by: str) -> str:
        """Install furlough-host and its hook on a host and prove the hook. Why the guard is not
        proven; empty if it is."""
        standings = await self._work.store.standings()
        enrolled = (await self._work.store.enrolment()).host(host)
        owner = standings[enrolled.name].operation
        if owner is not None:
            raise _busy(host, owner)
        log.info("host is prepared", host=host, by=by)
        deed = self.authority.deed("prepare", f"host {host}")
        await self.authority.note(deed, BEGUN)
        await self._work.hypervisor.prepare(host)
        trouble = await self._work.hypervisor.prove_guard(host)
        await self.authority.note(deed, "guard.unproven" if trouble else DONE)
        await self._work.observer.refresh([host])
        return trouble

    # --- remedies ------------------------------------------------------------------------------

    @needs(Privilege.CHECK, on="host")
    async def changes(
        self, host: HostName, code: str, options: EnterOptions
    ) -> tuple[Inventory, tuple[Change, ...]]:
        """What the remedy against the findings of this code would change on a host."""
        remedy_of(code)
        reports = await self._check([host], options)
        inventory = await self._work.observer.inventory()
        return inventory, changes(code, inventory, host, reports[0].findings)

    @needs(Privilege.MAINTAIN, on="host", action="apply_remedy")
    async def apply(
        self, host: HostName, code: str, options: EnterOptions, request: Request
    ) -> Applied:
        """Apply the remedy against the findings of this code."""
        if (known := await self._intake.repeated(request)) is not None:
            return Applied(changes=(), operation=known)
        inventory, wanted = await self.changes(host, code, options)
        if not wanted:
            return Applied(changes=())
        if remedy_of(code) is Remedy.PREPARE:
            return Applied(changes=wanted, trouble=await self.prepare(host, request.by))
        check_connected(inventory.host(host))
        plan = plan_ejecting(host, wanted, inventory)
        why = ActionOptions(reason=options.reason or f"remedy against {code}")
        return Applied(
            changes=wanted, operation=await self._intake.accept(plan, why, request, inventory)
        )

    @needs(Privilege.VIEW, on="host")
    async def record(self, host: HostName) -> tuple[Remedied, ...]:
        """What was taken out on a host and is to be put back."""
        return tuple(one for one in await self._work.store.remedies() if one.home == host)

    @needs(Privilege.CHECK, on="host")
    async def undoing(self, host: HostName) -> tuple[Change, ...]:
        """What putting everything back on a host would change now."""
        inventory = await self._intake.fresh_inventory([host])
        return undoing(inventory, host, await self.record(host))

    @needs(Privilege.MAINTAIN, on="host", action="undo_remedies")
    async def undo(self, host: HostName, request: Request) -> Applied:
        """Put back what was taken out on this host, for the VMs that are there."""
        if (known := await self._intake.repeated(request)) is not None:
            return Applied(changes=(), operation=known)
        inventory = await self._intake.fresh_inventory([host])
        record = await self.record(host)
        wanted = undoing(inventory, host, record)
        if not wanted:
            return Applied(changes=())
        check_connected(inventory.host(host))
        plan = plan_undoing(host, inventory, record)
        why = ActionOptions(reason="what remedies changed is put back")
        return Applied(
            changes=wanted, operation=await self._intake.accept(plan, why, request, inventory)
        )


def _busy(host: HostName, owner: OperationId) -> Conflict:
    return Conflict(
        "host.busy",
        f"Host {host} belongs to operation {owner}, which is not over.",
        remedy=f"Follow it: furlough operation watch {owner}; or cancel it.",
        operation=owner,
    )
