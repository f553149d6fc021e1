"""Exiting maintenance: what it would do, and the request itself."""

from __future__ import annotations

from collections.abc import Sequence

from furlough.core.admission import check_hosts_free
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory
from furlough.core.journal import HostModeChanged
from furlough.core.operation import Operation
from furlough.core.plan import Plan
from furlough.core.policy import ExitOptions
from furlough.core.states import HostMode
from furlough.engine.work import Work
from furlough.planning.restore import Return, plan_exit
from furlough.prechecks.requests import check_connected, check_hash, check_mode
from furlough.service.intake import Intake, Request


class Exiting:
    """The way back into service."""

    def __init__(self, work: Work, intake: Intake) -> None:
        self._store = work.store
        self._intake = intake

    async def check(
        self, hosts: Sequence[HostName], options: ExitOptions
    ) -> tuple[Plan, tuple[Return, ...]]:
        """What exiting would do about every VM of the record. Changes nothing."""
        inventory = await self._intake.fresh_inventory(hosts)
        return await self._plan_exit(inventory, hosts, options)

    async def _plan_exit(
        self, inventory: Inventory, hosts: Sequence[HostName], options: ExitOptions
    ) -> tuple[Plan, tuple[Return, ...]]:
        record, reservations = await self._store.away(), await self._store.reservations()
        remedied = await self._store.remedies()
        return plan_exit(inventory, hosts, record, options.restore, reservations, remedied)

    async def exit(
        self, hosts: Sequence[HostName], options: ExitOptions, request: Request
    ) -> Operation:
        """Bring the VMs home and put these hosts back into service."""
        if (known := await self._intake.repeated(request)) is not None:
            return known
        standings = await self._intake.known(hosts)
        check_hosts_free(hosts, standings)
        for host in hosts:
            check_mode(host, standings[host].mode, HostMode.MAINTENANCE)
        inventory = await self._intake.fresh_inventory(hosts)
        for host in hosts:
            check_connected(inventory.host(host))
        plan, _ = await self._plan_exit(inventory, hosts, options)
        check_hash(plan, request.plan_hash)
        modes = [
            HostModeChanged(host=host, before=HostMode.MAINTENANCE, after=HostMode.EXITING)
            for host in hosts
        ]
        return await self._intake.accept(plan, options, request, inventory, modes)
