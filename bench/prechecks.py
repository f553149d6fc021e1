"""P1: what the precheck of entering costs the controller, in a fleet of 1,000 hosts and 20,000 VMs.

The fleet is the simulator's, seen by the controller's own observer: in clusters of twenty hosts,
and again as a single cluster, without a reserve and with N+1. Every run starts from an inventory
that nobody has looked things up in, as after fresh facts. Processor time of this process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.figures import Report, Target, median
from furlough.clock import RealClock
from furlough.core.ids import ClusterName, HostName
from furlough.core.inventory import Cluster, Inventory
from furlough.core.policy import ClusterPolicy, EnterOptions, Reserve
from furlough.engine.observer import Observer
from furlough.planning.assessment import Assessment
from furlough.prechecks.assessing import assess
from furlough.sim.fleet import make_fleet
from furlough.sim.hypervisor import SimHypervisor
from furlough.store.sql import SqlStore

HOSTS, VMS = 1000, 20_000
_LIMIT_S = 1.0
_REPEATS = 5
# The fleet's VMs want 3.5 GiB and 2.3 vCPUs each: hosts that are about half full.
_MEMORY_MIB, _CPUS = 147_456, 64


@dataclass(frozen=True, kw_only=True)
class _Case:
    what: str
    hosts_per_cluster: int
    reserve: Reserve
    checked: int = 1


_CASES = (
    _Case(what="1 host, clusters of 20", hosts_per_cluster=20, reserve=Reserve.NONE),
    _Case(what="1 host, clusters of 20, N+1", hosts_per_cluster=20, reserve=Reserve.N_PLUS_1),
    _Case(what="1 host, one cluster", hosts_per_cluster=HOSTS, reserve=Reserve.NONE),
    _Case(what="1 host, one cluster, N+1", hosts_per_cluster=HOSTS, reserve=Reserve.N_PLUS_1),
    _Case(
        what="20 hosts one after another, clusters of 20",
        hosts_per_cluster=20,
        reserve=Reserve.NONE,
        checked=20,
    ),
)


def run() -> Report:
    """Measure all cases."""
    observed = asyncio.run(_observed())
    rows, targets, figures = [], [], {}
    for case in _CASES:
        spent = [_measured(case, observed) for _ in range(_REPEATS)]
        slowest = median([max(one) for one in spent])
        total = median([sum(one) for one in spent])
        rows.append([case.what, f"{1000 * total:.0f}", f"{1000 * slowest:.0f}"])
        rows[-1].append(f"{slowest / _LIMIT_S:.2f}")
        targets.append(Target(what=case.what, measured=slowest, limit=_LIMIT_S, unit="s a host"))
        figures[case.what] = {"total_s": total, "slowest_s": slowest}
    return Report(
        id="P1",
        title=f"precheck in {HOSTS} hosts and {VMS} VMs, processor time",
        columns=["case", "total ms", "slowest host ms", "of target"],
        rows=rows,
        targets=targets,
        notes=[f"Medians of {_REPEATS} runs; each looks things up anew."],
        figures=dict(figures),
    )


async def _observed() -> Inventory:
    """The simulator's fleet as the observer sees it."""
    clock = RealClock()
    cluster, enrolment = make_fleet(clock, hosts=HOSTS, vms=VMS)
    store = SqlStore("sqlite://", clock)
    await store.open()
    await store.enrol(enrolment)
    hypervisor = SimHypervisor(cluster)
    await hypervisor.enrol(enrolment)
    observer = Observer(hypervisor, store, clock)
    await observer.refresh()
    inventory = await observer.inventory()
    await store.close()
    return inventory


def _measured(case: _Case, observed: Inventory) -> list[float]:
    """Seconds of processor time for each host that is checked."""
    inventory = _arranged(case, observed)
    spent = []
    for number in range(case.checked):
        host = HostName(f"h{number + 1}")
        began = time.process_time()
        assessment = assess(inventory, [host], EnterOptions())
        spent.append(time.process_time() - began)
        _check(assessment, inventory, host)
    return spent


def _arranged(case: _Case, observed: Inventory) -> Inventory:
    """The fleet in clusters of that size."""
    names = [ClusterName(f"c{n}") for n in range(-(-HOSTS // case.hosts_per_cluster))]
    policy = ClusterPolicy(reserve=case.reserve)
    return replace(
        observed,
        clusters=[Cluster(name=name, policy=policy) for name in names],
        hosts=[
            replace(
                host,
                cluster=names[place // case.hosts_per_cluster],
                memory_mib=_MEMORY_MIB,
                cpus=_CPUS,
            )
            for place, host in enumerate(observed.hosts)
        ],
    )


def _check(assessment: Assessment, inventory: Inventory, host: HostName) -> None:
    """What was measured has to be the work of an ordinary precheck, not a refusal."""
    assert not assessment.blockers, _words(assessment)
    assert len(assessment.placement.targets) == len(inventory.vms_on(host))


def _words(assessment: Assessment) -> Sequence[str]:
    return [one.message for one in assessment.blockers]
