"""Exiting maintenance: what it would do, the request itself, and the record that is kept of it.

host in maintenance                 -> exit: VMs home, guard down, host in service
host in service, somebody on record -> restore: VMs home, nothing else
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from furlough.core.admission import check_hosts_free
from furlough.core.findings import Finding, Verdict, verdict
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory
from furlough.core.journal import HostModeChanged
from furlough.core.operation import Operation
from furlough.core.plan import Plan
from furlough.core.policy import ActionOptions, ExitOptions
from furlough.core.states import HostMode
from furlough.engine.work import Work
from furlough.planning.homecoming import Return
from furlough.planning.record import Away, plan_closing, record_of
from furlough.planning.restore import plan_exit
from furlough.prechecks.exiting import check_exit_mode, exit_findings, selected
from furlough.prechecks.requests import check_connected, check_hash, nothing_to_do
from furlough.service.intake import Intake, Request


@dataclass(frozen=True, kw_only=True)
class ExitReport:
    """The precheck of an exit of several hosts together: what stands against it, what becomes of
    everybody on record, and the plan. `inventory`: the facts it rests on."""

    findings: tuple[Finding, ...]
    returns: tuple[Return, ...]
    plan: Plan
    inventory: Inventory

    @property
    def verdict(self) -> Verdict:
        """What the findings come to."""
        return verdict(self.findings)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The record of one host: who comes home with its next exit, and where each of them is."""

    host: HostName
    mode: HostMode
    away: tuple[Away, ...]
    inventory: Inventory


class Exiting:
    """The way back into service."""

    def __init__(self, work: Work, intake: Intake) -> None:
        self._store = work.store
        self._observer = work.observer
        self._intake = intake

    async def check(self, hosts: Sequence[HostName], options: ExitOptions) -> ExitReport:
        """What exiting would do about every VM of the record. Changes nothing."""
        standings = await self._intake.known(hosts)
        record = await self._store.away()
        check_exit_mode(hosts, standings, record)
        options = selected(options, hosts, record)
        inventory = await self._fresh(hosts, record)
        plan, returns = await self._plan_exit(inventory, hosts, options)
        found = [
            one
            for host in hosts
            for one in exit_findings(
                host, inventory, [each for each in returns if _is_told_by(host, each, hosts)]
            )
        ]
        return ExitReport(findings=tuple(found), returns=returns, plan=plan, inventory=inventory)

    async def exit(
        self, hosts: Sequence[HostName], options: ExitOptions, request: Request
    ) -> Operation:
        """Bring the VMs home and put these hosts back into service; where they are in service,
        only the former."""
        return await self._intake.once(request, lambda: self._exit(hosts, options, request))

    async def _exit(
        self, hosts: Sequence[HostName], options: ExitOptions, request: Request
    ) -> Operation:
        standings = await self._intake.known(hosts)
        check_hosts_free(hosts, standings)
        record = await self._store.away()
        is_in_service = check_exit_mode(hosts, standings, record)
        options = selected(options, hosts, record)
        inventory = await self._fresh(hosts, record)
        for host in hosts:
            check_connected(inventory.host(host))
        plan, _ = await self._plan_exit(inventory, hosts, options)
        check_hash(plan, request.plan_hash)
        if is_in_service:
            if not plan.steps:
                raise nothing_to_do(_why_nobody(plan))
            return await self._intake.accept(plan, options, request, inventory)
        modes = [
            HostModeChanged(host=host, before=HostMode.MAINTENANCE, after=HostMode.EXITING)
            for host in hosts
        ]
        return await self._intake.accept(plan, options, request, inventory, modes)

    async def record(self, host: HostName) -> Recorded:
        """Who is on record to come home to a host."""
        standings = await self._intake.known([host])
        return Recorded(
            host=host,
            mode=standings[host].mode,
            away=record_of(await self._store.away(), host),
            inventory=await self._observer.inventory(),
        )

    async def close_record(
        self, host: HostName, options: ActionOptions, request: Request
    ) -> Operation:
        """A person says that whoever is still on record for a host stays where it is."""
        if (known := await self._intake.repeated(request)) is not None:
            return known
        check_hosts_free([host], await self._intake.known([host]))
        mine = record_of(await self._store.away(), host)
        if not mine:
            raise nothing_to_do(f"Nobody is on record who is to come home to {host}.")
        inventory = await self._observer.inventory()
        return await self._intake.accept(plan_closing(host, mine), options, request, inventory)

    async def _fresh(self, hosts: Sequence[HostName], record: Sequence[Away]) -> Inventory:
        """Facts asked for now, and these hosts probed about the VMs that may come."""
        await self._intake.fresh_inventory(hosts)
        return await self._observer.survey_return(
            hosts, [one.vm for host in hosts for one in record_of(record, host)]
        )

    async def _plan_exit(
        self, inventory: Inventory, hosts: Sequence[HostName], options: ExitOptions
    ) -> tuple[Plan, tuple[Return, ...]]:
        record, reservations = await self._store.away(), await self._store.reservations()
        remedied = await self._store.remedies()
        return plan_exit(inventory, hosts, record, options, reservations, remedied)


def _is_told_by(host: HostName, one: Return, hosts: Sequence[HostName]) -> bool:
    """Whether the findings of this host say what there is to say of a VM: only one of several."""
    return host == (one.away.awaits if one.away.awaits in hosts else one.away.home)


def _why_nobody(plan: Plan) -> str:
    """Why a restore has nothing to do."""
    named = "; ".join(f"{one.vm_name}: {one.words}" for one in plan.unplaced)
    return f"Nobody of the record can come home now. {named}".rstrip()
