"""A whole controller to be measured: service, engine and a database on disk, on the real clock,
over a simulated cluster whose migrations take a known time."""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.instruments import Instruments
from furlough.clock import RealClock
from furlough.core.enrolment import (
    DatastoreKind,
    EnrolledDatastore,
    EnrolledHost,
    Enrolment,
    Transport,
)
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Cluster, Disk, Proof
from furlough.core.journal import Entry, StepActed, StepFailed, StepStarted, StepSucceeded
from furlough.core.operation import Operation
from furlough.core.policy import ClusterPolicy, EnterOptions, Limits
from furlough.daemon import compose
from furlough.errors import Bug, Refused
from furlough.ports import Hypervisor, MigrationOrder, MigrationReport
from furlough.service import Request, Service
from furlough.sim.cluster import SimCluster, SimHost, SimVm
from furlough.sim.hypervisor import SimHypervisor
from furlough.sim.migration import Timing
from furlough.store.database import sqlite_url
from furlough.store.sql import SqlStore

CLUSTER, DATASTORE = ClusterName("bench"), "disks"
SOURCE = HostName("h1")
# So fast that copying takes no time worth counting: what is left is the timing's own.
_LINK_MBIT_S = 10_000_000
_WITHIN_S = 600.0
_WATCH_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is to be moved. `migration_s`: how long each migration takes in the driver; `is_held`:
    no lock is proven; `refuses_first`: the first attempt of every VM is refused."""

    vms: int
    migration_s: float
    limits: Limits = field(default_factory=Limits)
    hosts: int = 5
    is_held: bool = False
    refuses_first: bool = False

    @property
    def lanes(self) -> int:
        """How many migrations may be in flight at once, out of one host."""
        return min(self.limits.per_source, self.limits.per_cluster)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One evacuation: its calls, its journal, its end, and the processor time of the process
    between request and end, in seconds."""

    load: Load
    instruments: Instruments
    journal: Sequence[Entry]
    operation: Operation
    cpu_s: float
    wall_s: float


class _RefusingFirst(SimHypervisor):
    """The first migration of every VM is refused at once."""

    refused: set[VmId]

    async def migrate_live(self, order: MigrationOrder) -> MigrationReport:
        if order.vm not in self.refused:
            self.refused.add(order.vm)
            raise Refused("target.refused", "The target refused.")
        return await super().migrate_live(order)


async def evacuate(load: Load, directory: Path) -> Run:
    """Empty a host of such a load, with the database below `directory`, and say how it went."""
    clock, instruments = RealClock(), Instruments()
    cluster = _cluster(load, clock)
    with tempfile.TemporaryDirectory(dir=directory) as place:
        store = SqlStore(sqlite_url(Path(place)), clock)
        await store.open()
        await store.enrol(_enrolment(load))
        async with _controller(load, cluster, store, instruments) as service:
            began, cpu = clock.monotonic(), _cpu_s()
            accepted = await service.enter([SOURCE], EnterOptions(), Request(by="bench"))
            final = await _final(service, accepted)
            spent = _cpu_s() - cpu
            wall_s = clock.monotonic() - began
            journal = await service.journal(final.id)
        await store.close()
    return Run(
        load=load,
        instruments=instruments,
        journal=journal,
        operation=final,
        cpu_s=spent,
        wall_s=wall_s,
    )


def _cpu_s() -> float:
    """Processor time of this process, all threads."""
    times = os.times()
    return float(times.user + times.system)


def _cluster(load: Load, clock: RealClock) -> SimCluster:
    cluster = SimCluster(clock, [_machine(n) for n in range(1, load.hosts + 1)])
    if not load.is_held:
        cluster.locked_datastores.add(DATASTORE)
    for number in range(load.vms):
        disk = Disk(target="vda", source=f"vm{number}.img", datastore=DATASTORE)
        vm = SimVm(
            id=VmId(f"00000000-0000-4000-8000-{number:012d}"),
            name=f"vm{number}",
            memory_mib=64,
            disks=(disk,),
        )
        cluster.put(SOURCE, vm)
    return cluster


def _machine(number: int) -> SimHost:
    return SimHost(
        name=HostName(f"h{number}"), uuid=f"host-{number}", cpus=512, link_mbit_s=_LINK_MBIT_S
    )


def _enrolment(load: Load) -> Enrolment:
    names = [HostName(f"h{n}") for n in range(1, load.hosts + 1)]
    datastore = EnrolledDatastore(
        name=DATASTORE,
        cluster=CLUSTER,
        kind=DatastoreKind.RBD,
        address="192.0.2.1",
        shared=Proof.PROVEN,
        locked=Proof.UNKNOWN if load.is_held else Proof.PROVEN,
        proven_on=tuple(names),
    )
    hosts = [
        EnrolledHost(
            name=name,
            cluster=CLUSTER,
            address="192.0.2.2",
            transport=Transport.LOCAL,
            datastores=(DATASTORE,),
            link_mbit_s=_LINK_MBIT_S,
        )
        for name in names
    ]
    policy = ClusterPolicy(limits=load.limits)
    return Enrolment(
        clusters=[Cluster(name=CLUSTER, policy=policy)], datastores=[datastore], hosts=hosts
    )


def _timing(migration_s: float) -> Timing:
    """The driver's phases in the proportions of a short migration."""
    return Timing(
        set_up_s=0.6 * migration_s,
        finish_s=0.1 * migration_s,
        confirm_s=0.3 * migration_s,
        stream_mib_s=math.inf,
    )


@asynccontextmanager
async def _controller(
    load: Load, cluster: SimCluster, store: SqlStore, instruments: Instruments
) -> AsyncIterator[Service]:
    """The daemon's own controller, with stop-watches at its ports."""
    hypervisor: Hypervisor = SimHypervisor(cluster, timing=_timing(load.migration_s))
    if load.refuses_first:
        refusing = _RefusingFirst(cluster, timing=_timing(load.migration_s))
        refusing.refused = set()
        hypervisor = refusing
    controller = await compose(
        instruments.watch(hypervisor, _vm_of),
        instruments.watch(store, _steps_of),
        instruments.watch(RealClock(), lambda _name, _arguments: None),
    )
    running = asyncio.create_task(controller.run())
    try:
        yield controller.service
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await cluster.stop_background()


def _vm_of(name: str, arguments: tuple[object, ...]) -> object:
    """Which VM a call to the hypervisor is about."""
    if arguments and isinstance(arguments[0], MigrationOrder):
        return arguments[0].vm
    return arguments[1] if len(arguments) > 1 and name != "raise_guard" else None


def _steps_of(name: str, arguments: tuple[object, ...]) -> object:
    """Which steps the events of an append are about, as (kind of event, number of the step)."""
    if name != "append":
        return None
    events = arguments[1]
    kinds = StepStarted | StepActed | StepSucceeded | StepFailed
    return tuple(
        (event.kind, event.step)
        for event in (events if isinstance(events, list | tuple) else ())
        if isinstance(event, kinds)
    )


async def _final(service: Service, operation: Operation) -> Operation:
    """The operation once it is over."""
    async with asyncio.timeout(_WITHIN_S):
        async for _ in service.news():
            operation = await service.operation(operation.id)
            if operation.is_final:
                return operation
            await asyncio.sleep(_WATCH_EVERY_S)  # Who watches costs time as well.
    raise Bug("bench.endless", f"{operation.id} did not end.")
