"""What is: the newest facts of every host, kept fresh, and the inventory made of them.

Facts live in memory only; after a restart the hosts are asked again. What we decided about hosts
(their mode, who owns them) comes from the store at the moment of asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from furlough.core.admission import Standing
from furlough.core.enrolment import EnrolledHost, Enrolment, facts_of
from furlough.core.ids import HostName
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.states import Guard, HostMode, Reachability
from furlough.engine.proving import prove_storage
from furlough.errors import FurloughError
from furlough.ports import Clock, HostFacts, Hypervisor, Store

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """The last answer of a host, and why it is silent now, if it is."""

    facts: HostFacts | None = None
    silent_because: str = "it has not been asked yet"


class Observer:
    """Asks hosts for facts: all of them every `interval_s`, one at once when asked to."""

    def __init__(
        self, hypervisor: Hypervisor, store: Store, clock: Clock, interval_s: float = 5.0
    ) -> None:
        self._hypervisor = hypervisor
        self._store = store
        self._clock = clock
        self._interval_s = interval_s
        self._sights: dict[HostName, _Sight] = {}

    async def run(self) -> None:
        """Keep all facts fresh until cancelled; hints of the driver bring one host forward."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            while True:
                try:
                    await self.refresh()
                    await self.prove_storage()
                except* FurloughError as errors:
                    log.warning("facts not refreshed", because=str(errors.exceptions[0]))
                await self._clock.sleep(self._interval_s)

    async def _listen(self) -> None:
        async for hint in self._hypervisor.hints():
            try:
                await self.refresh([hint.host])
            except* FurloughError as errors:
                log.warning("facts not refreshed", because=str(errors.exceptions[0]))

    async def refresh(self, hosts: Iterable[HostName] | None = None) -> None:
        """Ask these hosts, or all, side by side. One that does not answer is marked silent."""
        enrolment = await self._store.enrolment()
        wanted = None if hosts is None else set(hosts)
        asked = [one for one in enrolment.hosts if wanted is None or one.name in wanted]
        for name in set(self._sights) - {one.name for one in enrolment.hosts}:
            del self._sights[name]
        async with asyncio.TaskGroup() as tasks:
            for one in asked:
                tasks.create_task(self._ask(one))

    async def _ask(self, enrolled: EnrolledHost) -> None:
        name = enrolled.name
        before = self._sights.get(name, _Sight())
        try:
            facts = await self._hypervisor.observe(name)
        except Exception as error:  # noqa: BLE001  # one host's strange answer stops no other
            because = error.message if isinstance(error, FurloughError) else repr(error)
            self._sights[name] = replace(before, silent_because=because)
            if not before.silent_because:
                log.warning("host silent", host=name, because=because)
            return
        because = _identity_trouble(enrolled, facts)
        if not enrolled.uuid and enrolled in (await self._store.enrolment()).hosts:
            await self._store.enrol(Enrolment(hosts=[replace(enrolled, uuid=facts.uuid)]))
        self._sights[name] = _Sight(facts=facts, silent_because=because)
        if before.silent_because and not because:
            log.info("host connected", host=name, vms=len(facts.vms))

    async def prove_storage(self) -> None:
        """Prove what can be proven about datastores, now that their hosts are connected."""
        connected = [name for name, sight in self._sights.items() if not sight.silent_because]
        await prove_storage(self._hypervisor, self._store, connected)

    async def inventory(self) -> Inventory:
        """All that is known now. Silent hosts keep the VMs last seen there, unless another host
        lists them by now."""
        enrolment = await self._store.enrolment()
        standings = await self._store.standings()
        hosts = [self._host(one, standings) for one in enrolment.hosts if one.name in standings]
        return Inventory(
            taken_at=self._clock.now(),
            clusters=list(enrolment.clusters),
            hosts=hosts,
            vms=list(self._vms(enrolment, hosts)),
            datastores=[facts_of(one, enrolment.hosts) for one in enrolment.datastores],
        )

    def _host(self, one: EnrolledHost, standings: Mapping[HostName, Standing]) -> Host:
        sight = self._sights.get(one.name, _Sight())
        standing, facts = standings[one.name], sight.facts
        known = Host(
            name=one.name,
            uuid=one.uuid,
            cluster=one.cluster,
            mode=standing.mode,
            operation=standing.operation,
            reachability=Reachability.SILENT if sight.silent_because else Reachability.CONNECTED,
            silent_because=sight.silent_because,
            reserved_memory_mib=one.reserved_memory_mib,
            datastores=frozenset(one.datastores),
            link_mbit_s=one.link_mbit_s,
        )
        if facts is None:
            return known
        return replace(
            known,
            uuid=facts.uuid,
            cpus=facts.cpus,
            memory_mib=facts.memory_mib,
            cpu_models=facts.cpu_models,
            networks=facts.networks,
            devices=facts.devices,
            has_guard=facts.has_guard,
            guard=Guard.LOWERED if facts.marker is None else Guard.UNPROVEN,
        )

    def _vms(self, enrolment: Enrolment, hosts: Iterable[Host]) -> Iterable[Vm]:
        connected = {host.name for host in hosts if host.is_connected}
        listed = {
            one.name: self._sights[one.name].facts
            for one in enrolment.hosts
            if one.name in self._sights
        }
        seen = {vm.id for name in connected if (facts := listed.get(name)) for vm in facts.vms}
        for name, facts in listed.items():
            for vm in () if facts is None else facts.vms:
                if name in connected or vm.id not in seen:
                    yield vm


def _identity_trouble(enrolled: EnrolledHost, facts: HostFacts) -> str:
    """A host that answers with another UUID than before is another host."""
    if enrolled.uuid and enrolled.uuid != facts.uuid:
        return (
            f"it answers as {facts.uuid}, but was enrolled as {enrolled.uuid}: "
            "it is another machine or was installed anew"
        )
    return ""


def modes_of(standings: Mapping[HostName, Standing]) -> dict[HostName, HostMode]:
    """Just the modes."""
    return {name: one.mode for name, one in standings.items()}
