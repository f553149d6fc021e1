"""Clusters for benchmarks, drawn from a seed: the same document for the same seed, everywhere.

plain       VMs of 1 to 128 GiB with a long tail, two sizes of hosts, four vCPUs promised per
            processor, memory in use as asked, anti-affinity triples, lognormal dirty rates
rich        the same with CPU generations, networks, datastores, devices, racks, pairs that
            stay together, and some VMs allowed on a few hosts only
fragmented  hosts of one size with VMs so large that some hosts can be emptied only after VMs
            elsewhere have moved
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from uuid import UUID

_SIZES_GIB = (1, 2, 4, 8, 16, 32, 64, 128)
_WEIGHTS = (20, 24, 24, 16, 9, 4, 2, 1)
_RESERVED_GIB = 8
_OVERCOMMIT = 4.0
_VCPU_SHARE = 0.6
_CPU_MODELS = ("Haswell-noTSX", "Skylake-Server", "Cascadelake-Server", "Icelake-Server")
_NETWORKS = ("lan", "dmz", "backup", "voice")
_DATASTORES = ("san-common", "san-north", "san-south")
_GPU = "pci-gpu"

Row = dict[str, object]


class Variant(StrEnum):
    """What makes a cluster hard."""

    PLAIN = "plain"
    RICH = "rich"
    FRAGMENTED = "fragmented"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to draw. `memory_share` is the share of the hosts' memory, less what they reserve,
    that VMs hold; hosts are made as large as that takes. `reserve`: `none` or `n+1`."""

    hosts: int
    vms: int
    variant: Variant = Variant.PLAIN
    memory_share: float = 0.68
    memory_ceiling: float = 0.9
    reserve: str = "none"
    link_mbit_s: int = 25_000


@dataclass(kw_only=True)
class _Host:
    """A host while VMs settle on it. `groups`: of VMs that must not meet."""

    name: str
    memory_gib: int
    cpus: int
    room_gib: float
    room_vcpus: int
    models: tuple[str, ...] = _CPU_MODELS[:1]
    networks: tuple[str, ...] = _NETWORKS[:1]
    datastores: tuple[str, ...] = _DATASTORES[:1]
    devices: tuple[str, ...] = ()
    rack: str = ""


@dataclass(kw_only=True)
class _Vm:
    number: int
    memory_gib: int
    vcpus: int
    model: str = _CPU_MODELS[0]
    networks: tuple[str, ...] = _NETWORKS[:1]
    datastore: str = _DATASTORES[0]
    devices: tuple[str, ...] = ()
    together: str = ""
    apart: str = ""
    hosts: tuple[str, ...] = ()
    home: str = ""


def cluster_document(recipe: Recipe, seed: int) -> dict[str, object]:
    """The document of an inventory file with one cluster made by this recipe. Every VM stands on
    a host that may run it, within the ceiling and the overcommit; one that fits nowhere is made
    as small and as undemanding as it takes."""
    random = Random(f"{seed}/{recipe.variant}/{recipe.hosts}/{recipe.vms}")
    vms = _drawn_vms(recipe, random)
    hosts = _drawn_hosts(recipe, vms, random)
    if recipe.variant is Variant.RICH:
        _add_riches(hosts, vms, random)
    _add_triples(recipe, vms, random)
    _settle(hosts, vms, random)
    return {
        "format": 1,
        "taken_at": "2026-11-22T10:00:00Z",
        "clusters": [
            {
                "name": "bench",
                "reserve": recipe.reserve,
                "memory_ceiling": recipe.memory_ceiling,
                "vcpu_overcommit": _OVERCOMMIT,
            }
        ],
        "hosts": [_host_row(one, recipe, random) for one in hosts],
        "vms": [_vm_row(one, random) for one in vms],
    }


def _drawn_vms(recipe: Recipe, random: Random) -> list[_Vm]:
    if recipe.variant is Variant.FRAGMENTED:
        # A quarter of a host each, next to small ones that fill the gaps.
        sizes = random.choices((2, 4, 8, 48), (35, 30, 20, 15), k=recipe.vms)
    else:
        sizes = random.choices(_SIZES_GIB, _WEIGHTS, k=recipe.vms)
        mean_host_gib = sum(sizes) / recipe.memory_share / recipe.hosts
        most = max((one for one in _SIZES_GIB if one <= mean_host_gib * 0.25), default=1)
        sizes = [min(one, most) for one in sizes]
    return [
        _Vm(number=number, memory_gib=size, vcpus=max(1, min(32, size * random.randint(1, 3) // 4)))
        for number, size in enumerate(sizes)
    ]


def _drawn_hosts(recipe: Recipe, vms: list[_Vm], random: Random) -> list[_Host]:
    """Hosts of two sizes, the larger twice the smaller, whose sum fits the share."""
    factors = [1] * recipe.hosts
    if recipe.variant is not Variant.FRAGMENTED:
        factors = [1 + number % 2 for number in range(recipe.hosts)]
        random.shuffle(factors)
    total_gib = sum(one.memory_gib for one in vms)
    unit_gib = -(-total_gib / recipe.memory_share // sum(factors))
    vcpus_per_gib = sum(one.vcpus for one in vms) / total_gib * recipe.memory_share
    hosts = []
    for number, factor in enumerate(factors):
        memory_gib = int(unit_gib * factor)
        cpus = max(2, round(memory_gib * vcpus_per_gib / _OVERCOMMIT / _VCPU_SHARE))
        hosts.append(
            _Host(
                name=f"host-{number:04d}",
                memory_gib=memory_gib + _RESERVED_GIB,
                cpus=cpus,
                room_gib=memory_gib * recipe.memory_ceiling,
                room_vcpus=int(cpus * _OVERCOMMIT),
            )
        )
    return hosts


def _add_riches(hosts: list[_Host], vms: list[_Vm], random: Random) -> None:
    for number, host in enumerate(hosts):
        host.models = _CPU_MODELS[: random.choices((1, 2, 3, 4), (1, 2, 3, 4))[0]]
        host.networks = (_NETWORKS[0], *sorted(random.sample(_NETWORKS[1:], 2)))
        host.datastores = (_DATASTORES[0], _DATASTORES[1 + number % 2])
        host.devices = (_GPU,) if random.random() < 0.15 else ()
        host.rack = f"rack-{number // 16:02d}"
    for vm in vms:
        vm.model = random.choices(_CPU_MODELS, (60, 25, 10, 5))[0]
        if random.random() < 0.3:
            vm.networks = (_NETWORKS[0], random.choice(_NETWORKS[1:]))
        vm.datastore = random.choices(_DATASTORES, (70, 15, 15))[0]
        if random.random() < 0.01:
            vm.devices = (_GPU,)
        elif random.random() < 0.03:
            most = min(len(hosts), 5)
            names = random.sample([one.name for one in hosts], random.randint(min(3, most), most))
            vm.hosts = tuple(sorted(names))
    small = [vm for vm in vms if vm.memory_gib <= 16 and not vm.devices and not vm.hosts]
    chosen = random.sample(small, len(small) // 25 * 2)
    for at in range(0, len(chosen), 2):
        one, other = chosen[at : at + 2]
        one.together = other.together = f"pair-{at // 2}"
        other.model, other.networks, other.datastore = one.model, one.networks, one.datastore


def _add_triples(recipe: Recipe, vms: list[_Vm], random: Random) -> None:
    """Every tenth VM is one of three that must not meet."""
    free = [vm for vm in vms if not vm.together]
    chosen = random.sample(free, len(free) // 30 * 3) if recipe.hosts > 3 else []
    for at, vm in enumerate(chosen):
        vm.apart = f"triple-{at // 3}"


def _settle(hosts: list[_Host], vms: list[_Vm], random: Random) -> None:
    """The largest first, each on the emptier of a few hosts: full enough to be real, and uneven
    enough to leave something to do."""
    seats: dict[str, _Host] = {}
    apart: set[tuple[str, str]] = set()
    for vm in sorted(vms, key=lambda one: (not one.hosts, not one.devices, -one.memory_gib)):
        host = _seat(vm, hosts, seats, apart, random)
        if host is None:
            vm.memory_gib, vm.vcpus, vm.model = 1, 1, _CPU_MODELS[0]
            vm.networks, vm.datastore, vm.devices = _NETWORKS[:1], _DATASTORES[0], ()
            vm.together, vm.apart, vm.hosts = "", "", ()
            host = _seat(vm, hosts, seats, apart, random)
        if host is None:
            raise ValueError("this recipe leaves no room for its VMs")
        vm.home = host.name
        host.room_gib -= vm.memory_gib
        host.room_vcpus -= vm.vcpus
        if vm.together:
            seats[vm.together] = host
        if vm.apart:
            apart.add((vm.apart, host.name))


def _seat(
    vm: _Vm,
    hosts: list[_Host],
    seats: dict[str, _Host],
    apart: set[tuple[str, str]],
    random: Random,
) -> _Host | None:
    some = random.sample(hosts, min(4, len(hosts)))
    for candidates in ([seats[vm.together]] if vm.together in seats else some, hosts):
        fitting = [one for one in candidates if _fits(vm, one, seats, apart)]
        if fitting:
            return max(fitting, key=lambda one: one.room_gib / one.memory_gib)
    return None


def _fits(vm: _Vm, host: _Host, seats: dict[str, _Host], apart: set[tuple[str, str]]) -> bool:
    return (
        vm.memory_gib <= host.room_gib
        and vm.vcpus <= host.room_vcpus
        and vm.model in host.models
        and set(vm.networks) <= set(host.networks)
        and vm.datastore in host.datastores
        and set(vm.devices) <= set(host.devices)
        and (not vm.hosts or host.name in vm.hosts)
        and (vm.apart, host.name) not in apart
        and seats.get(vm.together, host) is host
    )


def _host_row(host: _Host, recipe: Recipe, random: Random) -> Row:
    return {
        "name": host.name,
        "uuid": _uuid(random),
        "cluster": "bench",
        "mode": "available",
        "cpus": host.cpus,
        "memory_mib": host.memory_gib * 1024,
        "reserved_memory_mib": _RESERVED_GIB * 1024,
        "cpu_models": list(host.models),
        "networks": list(host.networks),
        "datastores": list(host.datastores),
        "devices": list(host.devices),
        "link_mbit_s": recipe.link_mbit_s,
        "rack": host.rack,
    }


def _vm_row(vm: _Vm, random: Random) -> Row:
    memory_mib = vm.memory_gib * 1024
    return {
        "uuid": _uuid(random),
        "name": f"vm-{vm.number:05d}",
        "host": vm.home,
        "power": "running",
        "vcpus": vm.vcpus,
        "memory_mib": memory_mib,
        "memory_used_mib": int(memory_mib * random.uniform(0.5, 1.0)),
        "dirty_mib_s": round(min(random.lognormvariate(1.5, 1.2), 400.0), 1),
        "working_set_mib": int(memory_mib * random.uniform(0.02, 0.2)),
        "cpu_model": vm.model,
        "networks": list(vm.networks),
        "disks": [
            {"datastore": vm.datastore, "size_mib": 10_240 * random.randint(1, 20), "shared": True}
        ],
        "devices": list(vm.devices),
        "availability_priority": random.choice((25, 50, 50, 75)),
        "on_maintenance": "live",
        "ha": random.random() < 0.2,
        "affinity_groups": [vm.together] if vm.together else [],
        "anti_affinity_groups": [vm.apart] if vm.apart else [],
        "host_affinity": list(vm.hosts),
    }


def _uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))
