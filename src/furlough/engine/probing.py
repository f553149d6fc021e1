"""Probing: what is asked only when a host is to be checked, since it takes seconds: clocks,
storage under repair, the migration network both ways, what a target's hypervisor has against the
VMs that would come, and what the site's own commands say.

A probe that fails is something to tell, never something that stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.policy import EnterOptions
from furlough.core.probe import Probe
from furlough.errors import FurloughError
from furlough.planning.candidates import candidates, movers
from furlough.ports import Clock, Hypervisor, SiteProbes

log = structlog.get_logger()

_AT_ONCE = 32
_HOLDS = timedelta(minutes=10)

Misfits = Mapping[tuple[HostName, VmId], str]


@dataclass(frozen=True, kw_only=True)
class _Fitting:
    """What a host's hypervisor said about VMs, and when."""

    at: datetime
    misfits: Mapping[VmId, str]


class Probing:
    """Probes hosts when asked to, and remembers what it found."""

    def __init__(
        self, hypervisor: Hypervisor, clock: Clock, site: SiteProbes | None = None
    ) -> None:
        self._hypervisor = hypervisor
        self._clock = clock
        self._site = site
        self._probes: dict[HostName, Probe] = {}
        self._fittings: dict[HostName, _Fitting] = {}

    def probe_of(self, host: HostName) -> Probe | None:
        """What the last probe of a host found; None before the first."""
        return self._probes.get(host)

    def misfits(self) -> Misfits:
        """What hypervisors have against VMs, as long as the answer is young enough to hold."""
        now = self._clock.now()
        return {
            (host, vm): words
            for host, fitting in self._fittings.items()
            if now - fitting.at <= _HOLDS
            for vm, words in fitting.misfits.items()
        }

    async def survey(
        self, inventory: Inventory, hosts: Sequence[HostName]
    ) -> Sequence[tuple[str, str, str]]:
        """Probe these hosts and all that could take their VMs, side by side; returns what the
        site's commands say, as findings (code, subject, message)."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def in_turn(work: Coroutine[object, object, None]) -> None:
            async with at_once:
                await work

        leaving = [vm for name in hosts for vm in movers(inventory, name)]
        targets = candidates(inventory, hosts, EnterOptions())
        async with asyncio.TaskGroup() as tasks:
            site = tasks.create_task(self._ask_site(leaving))
            for source in (inventory.host(name) for name in hosts):
                mates = _mates(source, targets, inventory)
                tasks.create_task(in_turn(self._probe(source, mates)))
            for target in targets:
                sources = _mates(target, [inventory.host(name) for name in hosts], inventory)
                tasks.create_task(in_turn(self._judge(target, sources, inventory)))
        return site.result()

    async def survey_return(
        self, inventory: Inventory, homes: Sequence[HostName], vms: Sequence[Vm]
    ) -> None:
        """Probe the homes of these VMs, and ask their hypervisors about those that would come;
        probe the hosts where the VMs are. No other host is asked."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def in_turn(work: Coroutine[object, object, None]) -> None:
            async with at_once:
                await work

        targets = [inventory.host(name) for name in homes]
        active = [vm for vm in vms if vm.is_active and vm.host not in homes]
        sources = [inventory.host(name) for name in dict.fromkeys(vm.host for vm in active)]
        async with asyncio.TaskGroup() as tasks:
            for source in sources:
                mates = _mates(source, targets, inventory)
                tasks.create_task(in_turn(self._probe(source, mates)))
            for target in targets:
                mates = _mates(target, sources, inventory)
                names = {one.name for one in mates}
                coming = [vm for vm in active if vm.host in names]
                tasks.create_task(in_turn(self._judge_vms(target, mates, coming)))

    async def _judge(self, target: Host, sources: Sequence[Host], inventory: Inventory) -> None:
        """The same about all VMs that have to leave these sources."""
        vms = [vm for source in sources for vm in movers(inventory, source.name)]
        await self._judge_vms(target, sources, vms)

    async def _judge_vms(self, target: Host, sources: Sequence[Host], vms: Sequence[Vm]) -> None:
        """Probe a target, and ask its hypervisor about the VMs that could come."""
        await self._probe(target, sources)
        if not (target.is_connected and vms):
            return
        try:
            misfits = await self._hypervisor.misfits(target.name, vms)
        except FurloughError as error:
            self._add_trouble(target.name, f"its hypervisor was not asked: {error.message}")
            return
        self._fittings[target.name] = _Fitting(at=self._clock.now(), misfits=misfits)

    async def _probe(self, host: Host, peers: Sequence[Host]) -> None:
        """Only where furlough-host answers: that it does not is a finding of its own."""
        if not (host.is_connected and host.has_guard):
            return
        try:
            found = await self._hypervisor.probe(host.name, [peer.name for peer in peers])
        except FurloughError as error:
            log.warning("host not probed", host=host.name, because=error.message)
            found = Probe(at=self._clock.now(), troubles=(error.message,))
        self._probes[host.name] = found

    def _add_trouble(self, host: HostName, trouble: str) -> None:
        known = self._probes.get(host) or Probe(at=self._clock.now())
        self._probes[host] = replace(known, troubles=(*known.troubles, trouble))

    async def _ask_site(self, vms: Sequence[Vm]) -> Sequence[tuple[str, str, str]]:
        return [] if self._site is None else await self._site.ask(vms)


def _mates(host: Host, others: Sequence[Host], inventory: Inventory) -> list[Host]:
    """Those of these hosts that a host could exchange VMs with."""
    return [
        one
        for one in others
        if one.is_connected
        and (
            one.cluster == host.cluster
            or inventory.may_cross(host, one)
            or inventory.may_cross(one, host)
        )
    ]
