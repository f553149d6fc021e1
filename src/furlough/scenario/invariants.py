"""What must be true of a simulated cluster at every moment, and checks it all the time.

    S1   after every change of a copy: nobody runs twice
    S3   after every commit: a host in maintenance holds no process
    S6   before every migration and every copy of a definition: its intent is in the journal
    S8   at the end: the stored operation is the fold of its journal
    S13  before every power command: maintenance, no process, and its intent is in the journal
    S15  before every end of a definition: another host has the VM
    S11  after every commit: what runs and what is reserved fits
    slots: at every start of a migration, the limits hold

Violations are collected, not raised: they happen in other tasks than the one that reports them.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from furlough.core.admission import owned
from furlough.core.agenda import is_closing
from furlough.core.capacity import used_on
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.inventory import Inventory
from furlough.core.journal import fold
from furlough.core.not_home import RETURNS
from furlough.core.operation import Act, Operation, Outcome, RosterEntry
from furlough.core.plan import OperationKind
from furlough.core.policy import Limits
from furlough.core.states import HostMode, Power, StepState
from furlough.ports import ColdOrder, Hypervisor, Marker, MigrationOrder, Store
from furlough.sim.cluster import SimCluster


class Invariants:
    """Watches one cluster and its store."""

    def __init__(self, cluster: SimCluster, store: Store) -> None:
        self.violations: list[str] = []
        self._cluster = cluster
        self._store = store
        self.peak = 0
        self.committed = asyncio.Event()
        self._committed: dict[OperationId, Operation] = {}
        cluster.watchers.append(self._check_copies)

    def watch_store(self) -> Store:
        """The store, with a look at every commit."""
        return cast("Store", _WatchedStore(self._store, self))

    def watch_hypervisor(self, hypervisor: Hypervisor) -> Hypervisor:
        """The hypervisor, with a look before every migration."""
        return cast("Hypervisor", _WatchedHypervisor(hypervisor, self))

    def report(self, words: str) -> None:
        """A promise that a story has seen broken by itself."""
        self._violated(words)

    def _violated(self, words: str) -> None:
        self.violations.append(f"{self._cluster.clock.now():%H:%M:%S.%f} {words}")

    def _check_copies(self) -> None:
        seen: set[VmId] = set()
        twice: set[VmId] = set()
        for host in self._cluster.hosts.values():
            twice |= seen.intersection(host.copies)
            seen.update(host.copies)
        for vm in twice:
            running = self._cluster.running_on(vm)
            if len(running) > 1:
                self._violated(f"S1: {vm} runs on {running}")

    async def after_commit(self, operation: Operation) -> None:
        """S3."""
        self.committed.set()
        self._committed[operation.id] = operation
        for host, standing in (await self._store.standings()).items():
            if standing.mode is not HostMode.MAINTENANCE:
                continue
            left = [c.vm.name for c in self._cluster.hosts[host].copies.values() if c.has_process]
            if left:
                self._violated(f"S3: {host} is in maintenance and holds {left}")

    async def before_migration(self, order: MigrationOrder) -> None:
        """S6 and the limits."""
        # What a commit has returned spares reading a thousand steps before each of them.
        known = self._committed.get(order.operation)
        is_meant = known is not None and _means(known, order)
        if not is_meant and not _means(await self._store.operation(order.operation), order):
            self._violated(f"S6: {order.vm} is migrated without an intent in the journal")
        await self._check_slots(order)

    async def _check_slots(self, order: MigrationOrder) -> None:
        enrolment = await self._store.enrolment()
        clusters = {host.name: host.cluster for host in enrolment.hosts}
        limits: dict[str, Limits] = {one.name: one.policy.limits for one in enrolment.clusters}
        here, there = clusters[order.source], clusters[order.target]
        flying = list(self._cluster.migrations.values())
        self.peak = max(self.peak, len(flying) + 1)
        leaving = sum(1 for one in flying if one.source == order.source)
        arriving = sum(1 for one in flying if one.target == order.target)
        if leaving >= limits[here].per_source or arriving >= limits[there].per_target:
            self._violated(f"slots: {order.source} sends {leaving}, {order.target} gets {arriving}")
        for cluster in {here, there}:
            ends = [{clusters[one.source], clusters[one.target]} for one in flying]
            within = sum(1 for both in ends if cluster in both)
            if within >= limits[cluster].per_cluster:
                self._violated(f"slots: {within} migrations in cluster {cluster}")

    async def before_copy(self, order: ColdOrder) -> None:
        """S6 of a cold move."""
        operation = await self._store.operation(order.operation)
        steps = [step for step in operation.steps if step.planned.vm == order.vm]
        meant = [one for one in steps if one.state is StepState.STARTED and _COPIES & {*one.acts}]
        if len(meant) != 1:
            self._violated(f"S6: {order.vm} is defined on {order.target} without an intent")

    def before_undefine(self, host: HostName, vm: VmId) -> None:
        """S15, by the simulator's own truth."""
        others = [name for name in self._cluster.hosts if self._cluster.copy(name, vm) is not None]
        if others == [host]:
            self._violated(f"S15: {vm} is undefined on {host}, and no other host has it")

    async def before_power(self, host: HostName, marker: Marker) -> None:
        """S13 and S6, by the simulator's own truth."""
        if (await self._store.standings())[host].mode is not HostMode.MAINTENANCE:
            self._violated(f"S13: {host} is told to go down, and is not in maintenance")
        if any(copy.has_process for copy in self._cluster.hosts[host].copies.values()):
            self._violated(f"S13: {host} is told to go down, and is not empty")
        operation = await self._store.operation(marker.operation)
        if not any(step.state is StepState.STARTED and step.acts for step in operation.steps):
            self._violated(f"S6: {host} is told to go down without an intent")

    async def check_room(self, inventory: Inventory) -> None:
        """S11, by the simulator's own truth."""
        reservations = await self._store.reservations()
        for host in inventory.hosts:
            used = used_on(inventory, host.name, reservations)
            policy = inventory.cluster_of(host).policy
            limit = int((host.memory_mib - host.reserved_memory_mib) * policy.memory_ceiling)
            if host.memory_mib and used.memory_mib > limit:
                self._violated(f"S11: {host.name} has {used.memory_mib} of {limit} MiB taken")

    async def check_final(self, which: OperationId) -> None:
        """S2, S8, S9 and L6 of an operation that is over."""
        operation = await self._store.operation(which)
        if fold(await self._store.journal(which)) != operation:
            self._violated(f"S8: {which} is not the fold of its journal")
        for entry in operation.roster:
            self._check_accounted(operation, entry)
        held = [one for one in await self._store.reservations() if one.operation == which]
        owned = [one for one in (await self._store.standings()).values() if one.operation == which]
        if held or owned:
            self._violated(f"L6: {which} is over and still holds {held or owned}")

    def _check_accounted(self, operation: Operation, entry: RosterEntry) -> None:
        """S2: it runs on one host, or was off before, or the record says what became of it."""
        vm, name = entry.vm, entry.name
        was_off = entry.before.power is Power.SHUT_OFF
        steps = [step for step in operation.steps if step.planned.vm == vm]
        active = [
            host
            for host, machine in self._cluster.hosts.items()
            if (copy := machine.copies.get(vm)) is not None and copy.has_process
        ]
        outcomes = {step.outcome for step in steps}
        if Outcome.PENDING in outcomes:
            self._violated(f"S2: the record does not say what became of {name}")
        # Where people move the VMs, the operation does nothing with them.
        by_hand = not owned(operation.options, operation.roster) and not steps
        explained = by_hand or outcomes & {
            Outcome.STOPPED,
            Outcome.STOPPED_BY_GUEST,
            Outcome.CHANGED_BY_OTHERS,
            Outcome.DIED,
            Outcome.MISSING,
        }
        kept_off = was_off and not active and Outcome.STARTED not in outcomes
        if len(active) != 1 and not (explained or kept_off or self.hosts_have_died):
            self._violated(f"S2: {name} is active on {active}, outcomes {outcomes}")
        last = steps[-1] if steps else None
        if last is not None and active and last.where not in active and not explained:
            self._violated(f"S9: {name} is on {active}, its record says {last.where}")
        moves = operation.kind in (OperationKind.ENTER, *RETURNS)
        for once in (Outcome.MOVED, Outcome.STARTED, Outcome.STOPPED):
            # There and, by a put-back, back again are two effects that were both meant; and one
            # that waits on a third host is moved there, and then home: two places, once each.
            ended = [step for step in steps if step.outcome is once]
            ways = [(is_closing(step), step.where if step.planned.after else "") for step in ended]
            waited = len({step.where for step in ended}) == 2 and bool(ended[-1].planned.after)
            if moves and len(ways) > (2 if waited else len(set(ways))):
                self._violated(f"S7: {name} was {once.value} twice")

    hosts_have_died = False


def _means(operation: Operation, order: MigrationOrder) -> bool:
    """Whether the journal announces this migration, once."""
    meant = [
        step
        for step in operation.steps
        if step.planned.vm == order.vm
        and step.state is StepState.STARTED
        and step.target == order.target
        and step.attempts[-1].epoch == order.epoch
    ]
    return len(meant) == 1


_COPIES = {Act.DEFINE_TARGET, Act.DEFINE_SOURCE}


class _Watched:
    def __init__(self, port: object, invariants: Invariants) -> None:
        self._port = port
        self._invariants = invariants

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


class _WatchedStore(_Watched):
    async def append(self, *arguments: Any, **named: Any) -> Operation:
        operation: Operation = await self._port.append(*arguments, **named)  # type: ignore[attr-defined]
        await self._invariants.after_commit(operation)
        return operation


class _WatchedHypervisor(_Watched):
    async def copy_definition(self, order: ColdOrder) -> None:
        await self._invariants.before_copy(order)
        await self._port.copy_definition(order)  # type: ignore[attr-defined]

    async def undefine(self, host: HostName, vm: VmId, epoch: int) -> None:
        self._invariants.before_undefine(host, vm)
        await self._port.undefine(host, vm, epoch)  # type: ignore[attr-defined]

    async def migrate_live(self, order: MigrationOrder) -> Any:
        await self._invariants.before_migration(order)
        return await self._port.migrate_live(order)  # type: ignore[attr-defined]

    async def reboot(self, host: HostName, marker: Marker) -> None:
        await self._invariants.before_power(host, marker)
        await self._port.reboot(host, marker)  # type: ignore[attr-defined]

    async def power_off_host(self, host: HostName, marker: Marker) -> None:
        await self._invariants.before_power(host, marker)
        await self._port.power_off_host(host, marker)  # type: ignore[attr-defined]
