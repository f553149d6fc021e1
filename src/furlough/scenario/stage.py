"""The stage: a simulated cluster, the real controller on it, a database in memory, virtual time.

The controller may be killed at any of its moments and started again on the same database; the
cluster goes on meanwhile, as real hosts would. Invariants are checked all the time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from random import Random

from furlough.core.enrolment import (
    DatastoreKind,
    EnrolledDatastore,
    EnrolledHost,
    Enrolment,
    Transport,
)
from furlough.core.ids import ClusterName, HostName, OperationId, VmId
from furlough.core.inventory import Cluster, Disk, Nic, Proof
from furlough.core.operation import Operation
from furlough.core.policy import ClusterPolicy
from furlough.daemon import Controller, compose
from furlough.engine.work import Pace
from furlough.errors import Bug, Unreachable
from furlough.ports import Hypervisor, Store
from furlough.scenario.invariants import Invariants, Witness
from furlough.service import Request, Service
from furlough.sim.clock import VirtualClock
from furlough.sim.cluster import Copy, SimCluster, SimHost, SimVm
from furlough.sim.door import shaken_hypervisor, shaken_store
from furlough.sim.faults import Faults, Odds, OwnProcess, repeated
from furlough.sim.hypervisor import SimHypervisor
from furlough.store.sql import SqlStore

CLUSTER, OTHER = ClusterName("c1"), ClusterName("c2")
DATASTORE = "vms"
NETWORK = "lan"
REQUEST = Request(by="stage")

# The calls at which the controller changes something: before and after each it may be killed.
MOMENTS = (
    "accept",
    "append",
    "migrate_live",
    "start_post_copy",
    "raise_guard",
    "lower_guard",
    "resume",
    "power_off",
    "undefine",
    "set_autostart",
    "start",
    "change_medium",
    "reboot",
    "power_off_host",
    "shut_down",
    "save",
    "copy_state",
    "copy_definition",
)

EFFECTS = tuple(name for name in MOMENTS if name not in ("accept", "append"))


def host_name(number: int) -> HostName:
    """The name of the n-th host, from 1."""
    return HostName(f"h{number}")


def vm_id(number: int) -> VmId:
    """The UUID of the n-th VM, from 1."""
    return VmId(f"00000000-0000-4000-8000-{number:012d}")


def plain_vm(number: int, **traits: object) -> SimVm:
    """A VM that any host of the stage could run."""
    defaults: dict[str, object] = {
        "name": f"vm{number}",
        "memory_mib": 2048,
        "disks": (Disk(target="vda", source=f"vm{number}.img", datastore=DATASTORE),),
        "nics": (Nic(network=NETWORK),),
    }
    return SimVm(id=vm_id(number), **{**defaults, **traits})  # type: ignore[arg-type]


@dataclass(kw_only=True)
class Setting:
    """What stands on the stage when the curtain rises.

    `is_shaken`: every call to hosts and store may go wrong, not only effects. `is_shared`: several
    processes may use the store at once, so one that starts waits for the leases of the others.
    `far`: how many of the hosts, the last ones, belong to another cluster, whose policy is
    `far_policy`.
    """

    hosts: int = 4
    far: int = 0
    far_policy: ClusterPolicy = field(default_factory=ClusterPolicy)
    seed: int = 0
    odds: Odds = field(default_factory=Odds)
    policy: ClusterPolicy = field(default_factory=ClusterPolicy)
    is_locked: bool = False
    link_mbit_s: int = 10_000
    memory_mib: int = 65_536
    is_shaken: bool = False
    is_shared: bool = False


class _OwnClock:
    """The clock as one process has it: it does not wake up while it is frozen."""

    def __init__(self, clock: VirtualClock, process: OwnProcess) -> None:
        self._clock = clock
        self._process = process

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, duration_s: float) -> None:
        await self._clock.sleep(duration_s)
        await self._process.awake()


class Stage:
    """See the module. Use `async with open_stage(Setting(...)) as stage`."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.clock = VirtualClock()
        self.random = Random(setting.seed)  # noqa: S311  # a story, not a secret
        self.faults = Faults(random=self.random, odds=setting.odds)
        self.cluster = SimCluster(self.clock, [self._machine(n) for n in self._numbers])
        if setting.is_locked:
            self.cluster.locked_datastores.add(DATASTORE)
        self.store = SqlStore("sqlite://", self.clock)
        self.invariants = Invariants(self.cluster, self.store, is_strict=setting.is_shaken)
        self.process = OwnProcess()
        self.repeats_effects = False
        self._controller: Controller | None = None
        self._running: asyncio.Task[None] | None = None
        self._is_reviving = False
        self._frozen: list[tuple[OwnProcess, asyncio.Task[None]]] = []
        self.faults.is_busy = lambda: bool(self.cluster.migrations)

    @property
    def _numbers(self) -> Sequence[int]:
        return range(1, self.setting.hosts + 1)

    def _machine(self, number: int) -> SimHost:
        return SimHost(
            name=host_name(number),
            uuid=f"host-{number}",
            memory_mib=self.setting.memory_mib,
            link_mbit_s=self.setting.link_mbit_s,
            networks=frozenset({NETWORK}),
        )

    @property
    def service(self) -> Service:
        """The service of the controller that lives now."""
        if self._controller is None:
            raise Bug("stage.empty", "No controller is running.")
        return self._controller.service

    # --- building ----------------------------------------------------------------------------

    def add_vm(self, host: int, number: int, **traits: object) -> VmId:
        """A plain running VM; `traits` of the VM or of its copy change it."""
        copy_traits = {name: traits.pop(name) for name in list(traits) if name in _COPY_TRAITS}
        self.cluster.put(host_name(host), plain_vm(number, **traits), **copy_traits)
        return vm_id(number)

    async def enrol(self) -> None:
        """Tell the store about cluster, datastore and hosts."""
        await self.store.open()
        locked = Proof.PROVEN if self.setting.is_locked else Proof.UNKNOWN
        datastore = EnrolledDatastore(
            name=DATASTORE,
            cluster=CLUSTER,
            kind=DatastoreKind.NBD,
            address="192.0.2.1",
            shared=Proof.PROVEN,
            locked=locked,
            proven_on=tuple(self.cluster.hosts),
        )
        machines = list(self.cluster.hosts.values())
        near = len(machines) - self.setting.far
        hosts = [_enrolled(one, CLUSTER) for one in machines[:near]]
        hosts += [_enrolled(one, OTHER) for one in machines[near:]]
        clusters = [Cluster(name=CLUSTER, policy=self.setting.policy)]
        if self.setting.far:
            clusters.append(Cluster(name=OTHER, policy=self.setting.far_policy))
        await self.store.enrol(Enrolment(clusters=clusters, datastores=[datastore], hosts=hosts))

    # --- the controller's life -----------------------------------------------------------------

    async def start_controller(self, kill_at: int | None = None) -> None:
        """A new process on the same database."""
        self.process = OwnProcess(kill_at)
        hypervisor, store = self._ports(self.invariants.witness(self.process))
        self._controller = await compose(
            self.process.guard(hypervisor, only=MOMENTS),
            self.process.guard(store, only=MOMENTS),
            _OwnClock(self.clock, self.process),
            pace=Pace(reread_s=30.0),
            is_alone=not self.setting.is_shared,
        )
        self._running = asyncio.create_task(self._controller.run())

    def _ports(self, witness: Witness) -> tuple[Hypervisor, Store]:
        """What a process sees of the outside, watched, and shaken where the setting says so."""
        hypervisor: Hypervisor = SimHypervisor(self.cluster, self.faults)
        store = self.invariants.watch_store(witness)
        if self.setting.is_shaken:
            hypervisor = shaken_hypervisor(hypervisor, self.cluster, self.faults)
            store = shaken_store(store, self.clock, self.faults)
        if self.repeats_effects:
            hypervisor = repeated(hypervisor, EFFECTS)
        return self.invariants.watch_hypervisor(hypervisor, witness), store

    async def freeze_controller(self) -> None:
        """The process stands still, and another one starts beside it (F012)."""
        if self._running is None:
            return
        self.process.freeze()
        self._frozen.append((self.process, self._running))
        self._running = self._controller = None
        self.process = OwnProcess()
        self.process.kill()
        await self.revive()

    def thaw_controllers(self) -> None:
        """Those that were frozen go on, and know of nothing."""
        for process, _ in self._frozen:
            process.thaw()

    async def kill_controller(self) -> None:
        """As `kill -9` does: nothing is tidied up."""
        self.process.kill()
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._running
        self._running = self._controller = None

    async def end_all(self) -> None:
        """No process is left, frozen ones included."""
        await self.kill_controller()
        for process, running in self._frozen:
            process.kill()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await running

    async def stop_controller(self) -> None:
        """As a stop in good order does: operations are given back."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        self._running = self._controller = None

    async def until_final(self, which: OperationId, limit_s: float = 4 * 3600) -> Operation:
        """The operation once it is final, with a dead controller started again at once."""
        return await self._until(which, lambda operation: operation.is_final, limit_s)

    async def until_still(self, which: OperationId, limit_s: float = 4 * 3600) -> Operation:
        """The operation once it is final or waits for something."""
        return await self._until(
            which,
            lambda operation: operation.is_final or operation.waiting_for is not None,
            limit_s,
        )

    async def until_changed(self, known: Operation, limit_s: float = 4 * 3600) -> Operation:
        """The operation once there is more in its journal than is known of it."""
        return await self._until(
            known.id, lambda operation: operation.events != known.events, limit_s
        )

    async def _until(
        self, which: OperationId, holds: Callable[[Operation], bool], limit_s: float
    ) -> Operation:
        deadline = self.clock.monotonic() + limit_s
        while True:
            await self.revive()
            operation = await self.store.operation(which)
            if holds(operation):
                return operation
            if self.clock.monotonic() >= deadline:
                raise Bug("stage.endless", _plight(operation, limit_s))
            await self.until_news()

    async def revive(self) -> None:
        """Whoever has died is started again; whoever ended by itself has a bug."""
        if self._is_reviving:
            return
        self._is_reviving = True
        try:
            if self.process.died.is_set():
                await self.kill_controller()
                await self.start_controller()
        except Unreachable:
            self.process.kill()  # The store is down: once more, a while later.
        finally:
            self._is_reviving = False
        if self._running is not None and self._running.done():
            self._running.result()

    async def until_news(self) -> None:
        """Until something was written, or the controller died, or for a while."""
        self.invariants.committed.clear()
        waits = [
            asyncio.create_task(event.wait())
            for event in (self.invariants.committed, self.process.died)
        ]
        await asyncio.wait(waits, timeout=10.0, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


def _enrolled(machine: SimHost, cluster: ClusterName) -> EnrolledHost:
    return EnrolledHost(
        name=machine.name,
        cluster=cluster,
        address="192.0.2.2",
        transport=Transport.LOCAL,
        datastores=(DATASTORE,),
        link_mbit_s=machine.link_mbit_s,
    )


def _plight(operation: Operation, limit_s: float) -> str:
    """Where an operation stands that did not end in time."""
    steps = [f"{step.id} {step.state.value} {step.failure}" for step in operation.steps]
    return (
        f"{operation.id} is {operation.state.value} after {limit_s:.0f} s, "
        f"waiting for {operation.waiting_for}: {steps}"
    )


_COPY_TRAITS = frozenset(one.name for one in fields(Copy)) - {"vm"}


@asynccontextmanager
async def open_stage(setting: Setting) -> AsyncIterator[Stage]:
    """A stage with its hosts enrolled and no controller yet; torn down at the end."""
    stage = Stage(setting)
    await stage.enrol()
    try:
        yield stage
    finally:
        await stage.end_all()
        await stage.cluster.stop_background()
        await stage.store.close()
