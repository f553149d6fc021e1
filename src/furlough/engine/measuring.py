"""Measuring how much of their memory the VMs of a host rewrite, before somebody plans with it.

It takes a second, and some more where a VM writes so much that its working set matters. What was
measured is kept in memory, with its age. A measurement that fails is none: nobody is stopped by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from furlough.core.estimate import rate_mib_s
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory, Vm
from furlough.core.writing import (
    HOLDS,
    LONG_LOOK_S,
    SHORT_LOOK_S,
    Writing,
    can_be_measured,
    deserves_longer_look,
    with_writing,
    working_set,
)
from furlough.errors import FurloughError
from furlough.ports import Clock, Hypervisor

log = structlog.get_logger()

# A host on which the short look took longer is not asked for a long one: somebody waits for a plan.
_PATIENCE_S = 10.0


class Measuring:
    """Measures when asked to, and remembers what it found."""

    def __init__(self, hypervisor: Hypervisor, clock: Clock) -> None:
        self._hypervisor = hypervisor
        self._clock = clock
        self._known: dict[VmId, Writing] = {}
        self._turns: dict[HostName, asyncio.Lock] = {}

    def as_measured(self, vm: Vm, now: datetime) -> Vm:
        """The VM with what was measured of it, as long as that holds."""
        return with_writing(vm, self._known, now)

    async def survey(self, inventory: Inventory, hosts: Sequence[HostName]) -> None:
        """Measure the VMs of these hosts, side by side, but for those measured a short time ago."""
        await self.survey_vms(inventory, [vm for name in hosts for vm in inventory.vms_on(name)])

    async def survey_vms(self, inventory: Inventory, vms: Sequence[Vm]) -> None:
        """The same for these VMs, wherever they are."""
        now = self._clock.now()
        self._known = {vm: one for vm, one in self._known.items() if one.holds(now)}
        async with asyncio.TaskGroup() as tasks:
            for name in dict.fromkeys(vm.host for vm in vms):
                if inventory.host(name).is_connected:
                    on_host = [vm for vm in vms if vm.host == name]
                    tasks.create_task(self._survey_host(name, on_host, inventory))

    async def _survey_host(self, host: HostName, vms: Sequence[Vm], inventory: Inventory) -> None:
        """One at a time: whoever comes second finds what the first has measured."""
        async with self._turns.setdefault(host, asyncio.Lock()):
            now = self._clock.now()
            wanted = [
                vm for vm in vms if can_be_measured(vm) and not self._holds_a_while(vm.id, now)
            ]
            if wanted:
                await self._measure(host, wanted, inventory)

    def _holds_a_while(self, vm: VmId, now: datetime) -> bool:
        """Whether what is known of a VM will still hold when the plan is made."""
        known = self._known.get(vm)
        return known is not None and known.holds(now + HOLDS / 2)

    async def _measure(self, host: HostName, vms: Sequence[Vm], inventory: Inventory) -> None:
        """A short look at all of these, a longer one at those of which it matters."""
        link = rate_mib_s(inventory.host(host), inventory.host(host))
        began_s = self._clock.monotonic()
        short = await self._watched(host, vms, SHORT_LOOK_S)
        self._keep(short, {})
        busy = [vm for vm in vms if vm.id in short and deserves_longer_look(vm, short[vm.id], link)]
        if busy and self._clock.monotonic() - began_s < _PATIENCE_S:
            self._keep(short, await self._watched(host, busy, LONG_LOOK_S))

    async def _watched(
        self, host: HostName, vms: Sequence[Vm], within_s: int
    ) -> Mapping[VmId, float]:
        try:
            return await self._hypervisor.dirty_rates(host, [vm.id for vm in vms], within_s)
        except FurloughError as error:
            log.warning("dirty rates not measured", host=host, because=error.message)
            return {}

    def _keep(self, short: Mapping[VmId, float], long: Mapping[VmId, float]) -> None:
        now = self._clock.now()
        for vm, rate in short.items():
            found = working_set(rate, long[vm]) if vm in long else None
            self._known[vm] = Writing(dirty_mib_s=rate, at=now, working_set_mib=found)
