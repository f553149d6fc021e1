"""B1, B2: whole evacuations on simulated links, by the real engine, on virtual time.

Twelve cases: one host or four, of links of 10, 25 and 100 Gbit/s, with one stream for each VM or
several for large ones (multifd), guests that write little or four times as much.

    bound = the most that any link carries of the memory in use / its rate + 1 s
    least = the same with what guests write again although their VM has its links for itself, or
            the VM that takes longest alone, whichever is more: no order could need less

Links are those of sources and of the targets that the plan has chosen. A stream moves 1,100 MiB/s;
setting up takes 0.6 s, finishing 0.4 s. Limits of migrations in flight are wide: the engine itself
begins no more than links have a use for. Time counts from the first intent to the last outcome.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from bench.figures import Report, Target, median
from furlough.core.bandwidth import stream_mib_s
from furlough.core.enrolment import (
    DatastoreKind,
    EnrolledDatastore,
    EnrolledHost,
    Enrolment,
    Transport,
)
from furlough.core.estimate import carried_mib_s
from furlough.core.forecast import Course, Move, forecast
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Cluster, Disk, Proof
from furlough.core.operation import Operation, Step
from furlough.core.plan import Method
from furlough.core.policy import ClusterPolicy, EnterOptions, Limits
from furlough.core.states import StepState
from furlough.core.vm_policy import words_of
from furlough.daemon import compose
from furlough.errors import Bug
from furlough.service import Request
from furlough.sim.clock import VirtualClock, run_virtually
from furlough.sim.cluster import SimCluster, SimHost, SimVm
from furlough.sim.hypervisor import SimHypervisor
from furlough.sim.migration import Timing
from furlough.store.sql import SqlStore

CLUSTER, DATASTORE = ClusterName("bench"), "disks"
MEDIAN_TARGET, WORST_TARGET, DIRTY_TARGET, BYTES_TARGET = 1.03, 1.10, 1.20, 1.20
SEED = 4
_SIZES_GIB = (1, 2, 4, 8, 16, 32, 64)
_WEIGHTS = (10, 20, 25, 20, 14, 8, 3)
_VMS_PER_HOST, _OTHERS_PER_HOST = 14, 3
_QEMU = 7_002_000
_WIDE = Limits(per_source=16, per_target=16, per_cluster=64)
_TIMING = Timing(set_up_s=0.6, finish_s=0.1, confirm_s=0.3)
_AROUND_S = 1.0
_MOST_CONNECTIONS = 8


@dataclass(frozen=True, kw_only=True)
class Case:
    """`away`: so many hosts are emptied; `has_multifd`: both emulators can send over several
    connections; `writes`: how much the guests write, 1 as usual."""

    away: int
    link_gbit_s: int
    has_multifd: bool
    writes: float = 1.0
    may_post_copy: bool = False

    @property
    def words(self) -> str:
        hosts = f"{self.away} host{'s' if self.away > 1 else ''}"
        how = "multifd" if self.has_multifd else "1 stream"
        writing = "" if self.writes == 1 else f", writing x{self.writes:.0f}"
        leave = ", post-copy allowed" if self.may_post_copy else ""
        return f"{hosts}, {self.link_gbit_s} Gbit/s, {how}{writing}{leave}"


CASES = (
    Case(away=1, link_gbit_s=10, has_multifd=True),
    Case(away=1, link_gbit_s=25, has_multifd=False),
    Case(away=1, link_gbit_s=25, has_multifd=True),
    Case(away=1, link_gbit_s=100, has_multifd=False),
    Case(away=1, link_gbit_s=100, has_multifd=True),
    Case(away=4, link_gbit_s=10, has_multifd=True),
    Case(away=4, link_gbit_s=25, has_multifd=True),
    Case(away=4, link_gbit_s=25, has_multifd=False),
    Case(away=4, link_gbit_s=100, has_multifd=True),
)
DIRTY = (
    Case(away=1, link_gbit_s=10, has_multifd=True, writes=4),
    Case(away=1, link_gbit_s=10, has_multifd=True, writes=4, may_post_copy=True),
    Case(away=4, link_gbit_s=10, has_multifd=True, writes=4),
    Case(away=4, link_gbit_s=25, has_multifd=True, writes=4),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One evacuation: seconds of virtual time, its bound, what no order could need less than,
    memory in use and sent in MiB."""

    case: Case
    took_s: float
    bound_s: float
    least_s: float
    memory_mib: float
    sent_mib: float
    moved: int
    stayed: int

    @property
    def ratio(self) -> float:
        return self.took_s / self.bound_s


def idle() -> Report:
    """B1: the cases whose guests write as usual."""
    found = [run_virtually(_evacuate(case)) for case in CASES]
    several = [one.ratio for one in found if one.case.has_multifd]
    return _report(
        "B1",
        "evacuations on simulated links",
        found,
        [
            Target(what="median of the multifd cases", measured=median(several),
                   limit=MEDIAN_TARGET, unit="of the bound"),
            Target(what="worst of the multifd cases", measured=max(several),
                   limit=WORST_TARGET, unit="of the bound"),
        ],
    )  # fmt: skip


def writing() -> Report:
    """B2: those whose guests write four times as much."""
    found = [run_virtually(_evacuate(case)) for case in DIRTY]
    return _report(
        "B2",
        "evacuations on simulated links, of guests that write much",
        found,
        [
            Target(what="median", measured=median([one.ratio for one in found]),
                   limit=DIRTY_TARGET, unit="of the bound"),
            Target(what="bytes by memory, worst", limit=BYTES_TARGET, unit="",
                   measured=max(one.sent_mib / one.memory_mib for one in found)),
        ],
    )  # fmt: skip


def _report(which: str, title: str, found: list[Outcome], targets: list[Target]) -> Report:
    return Report(
        id=which,
        title=title,
        columns=(
            "case",
            "took",
            "bound",
            "by bound",
            "least",
            "by least",
            "sent by memory",
            "moved",
            "stayed",
        ),
        rows=[
            (
                one.case.words,
                f"{one.took_s:.1f} s",
                f"{one.bound_s:.1f} s",
                f"{one.ratio:.3f}",
                f"{one.least_s:.1f} s",
                f"{one.took_s / one.least_s:.3f}",
                f"{one.sent_mib / one.memory_mib:.3f}",
                str(one.moved),
                str(one.stayed),
            )
            for one in found
        ],
        targets=targets,
        notes=[f"seed {SEED}; virtual time, so this machine's load changes nothing"],
        figures={"cases": {one.case.words: round(one.ratio, 4) for one in found}},
    )


async def _evacuate(case: Case) -> Outcome:
    """Empty the hosts of a case, and say how it went."""
    clock, random = VirtualClock(), Random(SEED)  # a benchmark, not a secret
    hosts = [_machine(number, case) for number in range(1, 4 * case.away + 5)]
    cluster = SimCluster(clock, hosts)
    cluster.locked_datastores.add(DATASTORE)
    for place, host in enumerate(hosts):
        count = _VMS_PER_HOST if place < case.away else _OTHERS_PER_HOST
        for number in range(count):
            vm = _vm(place * 100 + number, case, random)
            words = words_of({"post_copy": "if_needed"}) if case.may_post_copy else ()
            cluster.put(host.name, vm, own_policy=words)
    store = SqlStore("sqlite://", clock)
    await store.open()
    await store.enrol(_enrolment(hosts))
    controller = await compose(SimHypervisor(cluster, timing=_TIMING), store, clock)
    running = asyncio.create_task(controller.run())
    try:
        names = [host.name for host in hosts[: case.away]]
        accepted = await controller.service.enter(names, EnterOptions(), Request(by="bench"))
        while not (operation := await store.operation(accepted.id)).is_final:
            await clock.sleep(1)
        return _outcome(case, operation, cluster)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await cluster.stop_background()
        await store.close()


def _outcome(case: Case, operation: Operation, cluster: SimCluster) -> Outcome:
    steps = [step for step in operation.steps if step.method is Method.LIVE]
    done = [step for step in steps if step.state is StepState.SUCCEEDED]
    if not done:
        raise Bug("bench.failed", f"Nobody moved: {operation.message}")
    began = min(step.attempts[0].started_at for step in done)
    ended = max(step.ended_at for step in done if step.ended_at is not None)
    vms = {copy.vm.id: copy.vm for host in cluster.hosts.values() for copy in host.copies.values()}
    moved = [(step, vms[step.planned.vm]) for step in done if step.planned.vm is not None]
    rate = carried_mib_s(case.link_gbit_s * 1000)
    alone = {vm.id: _alone(vm, case, rate) for _, vm in moved}
    memory_s = _busiest_mib(moved, lambda vm: vm.memory_to_send_mib) / rate
    sent_s = _busiest_mib(moved, lambda vm: alone[vm.id].sent_mib) / rate
    return Outcome(
        case=case,
        took_s=(ended - began).total_seconds(),
        bound_s=memory_s + _AROUND_S,
        least_s=max(sent_s + _AROUND_S, *(one.end_s for one in alone.values())),
        memory_mib=sum(vm.memory_to_send_mib for _, vm in moved),
        sent_mib=sum(step.sent_mib or 0 for step in done),
        moved=len(done),
        stayed=len(steps) - len(done),
    )


def _busiest_mib(moved: Sequence[tuple[Step, SimVm]], mib_of: Callable[[SimVm], float]) -> float:
    """The most that any link carries one way, if each VM is so much."""
    carried: dict[tuple[str, HostName | None], float] = {}
    for step, vm in moved:
        for way in (("out", step.planned.source), ("into", step.where)):
            carried[way] = carried.get(way, 0.0) + mib_of(vm)
    return max(carried.values())


def _alone(vm: SimVm, case: Case, link_mib_s: float) -> Course:
    """How its migration goes if it has both links for itself."""
    may_several = case.has_multifd and not case.may_post_copy
    here, there = HostName("here"), HostName("there")
    move = Move(
        source=here,
        target=there,
        cluster=CLUSTER,
        memory_mib=vm.memory_to_send_mib,
        dirty_mib_s=vm.dirty_mib_s,
        working_set_mib=vm.working_set_mib,
        stream_mib_s=stream_mib_s(_MOST_CONNECTIONS if may_several else 0),
        set_up_s=_TIMING.set_up_s,
        finish_s=_TIMING.finish_s + _TIMING.confirm_s,
    )
    return forecast([move], {here: link_mib_s, there: link_mib_s})[0]


def _machine(number: int, case: Case) -> SimHost:
    return SimHost(
        name=HostName(f"h{number}"),
        uuid=f"host-{number}",
        cpus=512,
        memory_mib=512 * 1024,
        link_mbit_s=case.link_gbit_s * 1000,
        emulator_version=_QEMU if case.has_multifd else 0,
    )


def _vm(number: int, case: Case, random: Random) -> SimVm:
    """Sizes with a long tail, and lognormal writing."""
    gib = random.choices(_SIZES_GIB, _WEIGHTS)[0]
    used = round(gib * 1024 * random.uniform(0.6, 1.0))
    return SimVm(
        id=VmId(f"00000000-0000-4000-8000-{number:012d}"),
        name=f"vm{number}",
        vcpus=2,
        memory_mib=gib * 1024,
        memory_used_mib=used,
        dirty_mib_s=round(case.writes * math.exp(random.gauss(math.log(15), 1.0)), 1),
        working_set_mib=round(used * random.uniform(0.02, 0.15)),
        disks=(Disk(target="vda", source=f"vm{number}.img", datastore=DATASTORE),),
    )


def _enrolment(hosts: list[SimHost]) -> Enrolment:
    names = tuple(host.name for host in hosts)
    datastore = EnrolledDatastore(
        name=DATASTORE,
        cluster=CLUSTER,
        kind=DatastoreKind.RBD,
        address="192.0.2.1",
        shared=Proof.PROVEN,
        locked=Proof.PROVEN,
        proven_on=names,
    )
    enrolled = [
        EnrolledHost(
            name=host.name,
            cluster=CLUSTER,
            address="192.0.2.2",
            transport=Transport.LOCAL,
            datastores=(DATASTORE,),
            link_mbit_s=host.link_mbit_s,
        )
        for host in hosts
    ]
    policy = ClusterPolicy(limits=_WIDE, max_hosts_away=4)
    return Enrolment(
        clusters=[Cluster(name=CLUSTER, policy=policy)], datastores=[datastore], hosts=enrolled
    )
