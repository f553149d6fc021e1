"""What is: the newest facts of every host, kept fresh, and the inventory made of them.

Facts live in memory only; after a restart the hosts are asked again. What we decided about hosts
(their mode, who owns them) comes from the store at the moment of asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from furlough.core.admission import Standing
from furlough.core.drift import kept_empty_by
from furlough.core.enrolment import EnrolledHost, Enrolment, facts_of
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.policy import ClusterPolicy
from furlough.core.states import Guard, HostMode, Reachability
from furlough.core.vm_policy import Words, policy_of
from furlough.engine.learning import LinkSpeeds
from furlough.engine.measuring import Measuring
from furlough.engine.probing import Probing
from furlough.engine.proving import GuardProofs, prove_storage
from furlough.engine.watching import Watch, held_of
from furlough.errors import FurloughError
from furlough.ports import Clock, HostFacts, Hypervisor, SiteProbes, Store

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class _Sight:
    """The last answer of a host, and why it is silent now, if it is."""

    facts: HostFacts | None = None
    silent_because: str = "it has not been asked yet"


@dataclass(frozen=True, kw_only=True)
class _Resolved:
    """The VMs of one answer, with the policies that follow from their cluster's defaults."""

    facts: HostFacts
    defaults: Words
    vms: tuple[Vm, ...]


class Observer:
    """Asks hosts for facts: all of them every `interval_s`, one at once when asked to."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        store: Store,
        clock: Clock,
        interval_s: float = 5.0,
        site: SiteProbes | None = None,
    ) -> None:
        self._hypervisor = hypervisor
        self._store = store
        self._clock = clock
        self._interval_s = interval_s
        self._sights: dict[HostName, _Sight] = {}
        self._resolved: dict[HostName, _Resolved] = {}
        self.link_speeds = LinkSpeeds(store, clock)
        self._probing = Probing(hypervisor, clock, site)
        self._measuring = Measuring(hypervisor, clock)
        self._watch = Watch(hypervisor, store, clock, self, interval_s)

    async def run(self) -> None:
        """Keep all facts fresh until cancelled; hints of the driver bring one host forward."""
        proofs = GuardProofs(self._hypervisor, self._store, self._clock, self._all_known)
        proving: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._watch.run())
            while True:
                try:
                    await self.refresh()
                    if proving is None or proving.done():
                        proving = tasks.create_task(self._prove_guards(proofs))
                    await self.prove_storage()
                except* FurloughError as errors:
                    log.warning("facts not refreshed", because=str(errors.exceptions[0]))
                await self._clock.sleep(self._interval_s)

    async def _prove_guards(self, proofs: GuardProofs) -> None:
        """Beside everything else: a trial may take as long as a VM takes to start."""
        try:
            await self.refresh(await proofs.attempt())
        except* FurloughError as errors:
            log.warning("guards not proven", because=str(errors.exceptions[0]))

    def _all_known(self) -> list[HostFacts]:
        return [one for name in self._sights if (one := self.facts_known(name)) is not None]

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
            self._resolved.pop(name, None)
        async with asyncio.TaskGroup() as tasks:
            for one in asked:
                tasks.create_task(self._ask(one, enrolment))

    async def _ask(self, enrolled: EnrolledHost, enrolment: Enrolment) -> None:
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
        because = _identity_trouble(enrolled, facts, enrolment)
        if not enrolled.uuid and not because and enrolled in (await self._store.enrolment()).hosts:
            await self._store.enrol(Enrolment(hosts=[replace(enrolled, uuid=facts.uuid)]))
        self._sights[name] = _Sight(facts=facts, silent_because=because)
        if before.silent_because and not because:
            log.info("host connected", host=name, vms=len(facts.vms))

    def facts_known(self, host: HostName) -> HostFacts | None:
        """The newest facts of a host, None where it is silent."""
        sight = self._sights.get(host, _Sight())
        return None if sight.silent_because else sight.facts

    async def facts_now(self, host: HostName) -> HostFacts | None:
        """The same, asked for now."""
        await self.refresh([host])
        return self.facts_known(host)

    async def prove_storage(self) -> None:
        """Prove what can be proven about datastores, now that their hosts are connected."""
        connected = [name for name, sight in self._sights.items() if not sight.silent_because]
        await prove_storage(self._hypervisor, self._store, connected)

    async def survey(self, hosts: Sequence[HostName]) -> Inventory:
        """All that is known now, after these hosts and all that could take their VMs have been
        probed, the writing of its guests has been measured, and the site's own commands have been
        asked about them."""
        known = await self.inventory()
        found, _ = await asyncio.gather(
            self._probing.survey(known, hosts), self._measuring.survey(known, hosts)
        )
        return replace(await self.inventory(), site_findings=found)

    async def survey_return(self, homes: Sequence[HostName], vms: Sequence[VmId]) -> Inventory:
        """All that is known now, after the homes of these VMs and the hosts where they are have
        been probed, the homes asked about the VMs, and their writing measured."""
        known = await self.inventory()
        coming = [known.vm(vm) for vm in vms if known.copies_of(vm)]
        await asyncio.gather(
            self._probing.survey_return(known, homes, coming),
            self._measuring.survey_vms(known, coming),
        )
        return await self.inventory()

    async def inventory(self) -> Inventory:
        """All that is known now. Silent hosts keep the VMs last seen there, unless another host
        lists them by now."""
        enrolment = await self._store.enrolment()
        standings = await self._store.standings()
        policies = {cluster.name: cluster.policy for cluster in enrolment.clusters}
        hosts = [
            self._host(one, standings, policies) for one in enrolment.hosts if one.name in standings
        ]
        return Inventory(
            taken_at=self._clock.now(),
            clusters=list(enrolment.clusters),
            hosts=hosts,
            vms=list(self._vms(enrolment, hosts)),
            datastores=[facts_of(one, enrolment.hosts) for one in enrolment.datastores],
            misfits=self._probing.misfits(),
            link_speeds=await self.link_speeds.known(),
        )

    def _host(
        self,
        one: EnrolledHost,
        standings: Mapping[HostName, Standing],
        policies: Mapping[ClusterName, ClusterPolicy],
    ) -> Host:
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
            migration_tls=one.migration_tls or policies[one.cluster].migration_tls,
            addresses=frozenset({one.address, one.migration_address} - {""}),
            probe=self._probing.probe_of(one.name),
            has_other_way_in=bool(one.bmc) or one.has_other_way_in,
            intruders=self._watch.intruders(one.name),
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
            machines=facts.machines,
            emulator_version=facts.emulator_version,
            free_huge_pages=facts.free_huge_pages,
            numa_nodes=facts.numa_nodes,
            boot_id=facts.boot_id,
            kept_empty_by=kept_empty_by(held_of(facts.marker)),
            has_guard=facts.has_guard,
            guard=_guard_of(facts),
            guard_trouble=facts.guard_trouble,
            tls=facts.tls,
        )

    def _vms(self, enrolment: Enrolment, hosts: Iterable[Host]) -> Iterable[Vm]:
        now = self._clock.now()
        connected = {host.name for host in hosts if host.is_connected}
        listed = {
            one.name: self._sights[one.name].facts
            for one in enrolment.hosts
            if one.name in self._sights
        }
        seen = {vm.id for name in connected if (facts := listed.get(name)) for vm in facts.vms}
        defaults = {cluster.name: cluster.vm_defaults for cluster in enrolment.clusters}
        clusters = {host.name: host.cluster for host in enrolment.hosts}
        for name, facts in listed.items():
            for vm in self._with_policies(name, facts, defaults[clusters[name]]):
                if name in connected or vm.id not in seen:
                    yield self._measuring.as_measured(vm, now)

    def _with_policies(
        self, name: HostName, facts: HostFacts | None, defaults: Words
    ) -> tuple[Vm, ...]:
        """The VMs of a host with the policies that hold for them, worked out once for an answer."""
        if facts is None:
            return ()
        known = self._resolved.get(name)
        if known is None or known.facts is not facts or known.defaults != defaults:
            vms = tuple(_with_policy(vm, defaults) for vm in facts.vms)
            known = self._resolved[name] = _Resolved(facts=facts, defaults=defaults, vms=vms)
        return known.vms


def _with_policy(vm: Vm, defaults: Words) -> Vm:
    if not (vm.own_policy or defaults):
        return vm
    policy, troubles = policy_of(vm.own_policy, defaults)
    return replace(vm, policy=policy, policy_troubles=troubles)


def _guard_of(facts: HostFacts) -> Guard:
    """Raised is only what was seen to refuse."""
    if facts.marker is None:
        return Guard.LOWERED
    return Guard.UNPROVEN if facts.guard_trouble else Guard.RAISED


def _identity_trouble(enrolled: EnrolledHost, facts: HostFacts, enrolment: Enrolment) -> str:
    """A host that answers with another UUID than before is another host; one that answers with
    the UUID of another is that one, and must not be counted twice."""
    if enrolled.uuid and enrolled.uuid != facts.uuid:
        return (
            f"it answers as {facts.uuid}, but was enrolled as {enrolled.uuid}: "
            "it is another machine or was installed anew"
        )
    for other in enrolment.hosts:
        if other.name != enrolled.name and other.uuid == facts.uuid:
            return f"it answers as {other.name} does: one machine under two names, see its address"
    return ""


def modes_of(standings: Mapping[HostName, Standing]) -> dict[HostName, HostMode]:
    """Just the modes."""
    return {name: one.mode for name, one in standings.items()}
