"""A cluster to try things on: four hosts, twenty-four VMs, a fast network, shared storage."""

from __future__ import annotations

import uuid
from random import Random

from furlough.core.enrolment import (
    DatastoreKind,
    EnrolledDatastore,
    EnrolledHost,
    Enrolment,
    Transport,
)
from furlough.core.ids import ClusterName, HostName, VmId
from furlough.core.inventory import Agent, Cluster, Disk, Nic, Proof
from furlough.core.policy import ClusterPolicy
from furlough.ports import Clock
from furlough.sim.cluster import SimCluster, SimHost, SimVm

_NAMESPACE = uuid.UUID("6f1d7a52-8f0e-4c67-9d0f-4f75726c6f75")
_ROLES = ("web", "db", "cache", "queue", "build", "mail")
_MACHINE = "pc-q35-7.2"
_SIZES_MIB = (1024, 2048, 2048, 4096, 4096, 8192)


def make_fleet(
    clock: Clock, *, hosts: int = 4, vms: int = 24, seed: int = 1
) -> tuple[SimCluster, Enrolment]:
    """The machines, and what an operator would enrol of them. The same seed, the same fleet."""
    random = Random(seed)  # noqa: S311  # a fleet, not a secret
    names = [HostName(f"h{n}") for n in range(1, hosts + 1)]
    cluster = SimCluster(clock, [_machine(name) for name in names])
    cluster.locked_datastores.add("ssd")
    for number in range(vms):
        vm = _vm(number, random)
        autostart = random.random() < 0.5
        cluster.put(names[number % hosts], vm, has_autostart=autostart)
    return cluster, _enrolment(names)


def _machine(name: HostName) -> SimHost:
    return SimHost(
        name=name,
        uuid=str(uuid.uuid5(_NAMESPACE, name)),
        cpus=32,
        memory_mib=65_536,
        link_mbit_s=25_000,
        cpu_models=frozenset({"EPYC-Milan", "qemu64"}),
        networks=frozenset({"lan", "dmz"}),
        machines=frozenset({_MACHINE}),
        emulator_version=7_002_000,
        numa_nodes=frozenset({0, 1}),
    )


def _vm(number: int, random: Random) -> SimVm:
    name = f"{_ROLES[number % len(_ROLES)]}{number // len(_ROLES) + 1:02d}"
    memory_mib = random.choice(_SIZES_MIB)
    return SimVm(
        id=VmId(str(uuid.uuid5(_NAMESPACE, name))),
        name=name,
        vcpus=random.choice((1, 2, 4)),
        memory_mib=memory_mib,
        memory_used_mib=memory_mib * random.randint(50, 95) // 100,
        dirty_mib_s=random.choice((2.0, 10.0, 60.0)),
        working_set_mib=memory_mib // 8,
        cpu_model="EPYC-Milan",
        disks=(Disk(target="vda", source=f"ssd/{name}.img", datastore="ssd", size_mib=20_480),),
        nics=(Nic(network=random.choice(("lan", "dmz"))),),
        machine=_MACHINE,
        agent=Agent.CONNECTED,
    )


def _enrolment(names: list[HostName]) -> Enrolment:
    cluster = ClusterName("sim")
    return Enrolment(
        clusters=[Cluster(name=cluster, policy=ClusterPolicy())],
        datastores=[
            EnrolledDatastore(
                name="ssd",
                cluster=cluster,
                kind=DatastoreKind.RBD,
                address="192.0.2.1",
                shared=Proof.PROVEN,
                locked=Proof.PROVEN,
                proven_on=tuple(names),
            )
        ],
        hosts=[
            EnrolledHost(
                name=name,
                cluster=cluster,
                address=f"192.0.2.{10 + number}",
                transport=Transport.LOCAL,
                datastores=("ssd",),
                link_mbit_s=25_000,
                has_other_way_in=True,
            )
            for number, name in enumerate(names)
        ],
    )
