"""Crossing: VMs that find no place in their own cluster, and a place for them in another one.

A cluster names those that may take its VMs (`overflow_clusters`). Its own hosts come first: only
who fits on none of them is asked about elsewhere, in the order of the names. There everything holds
that holds for the VMs of that cluster (ceiling, rules, and the room for losing one more host, which
nobody from elsewhere may take away), and the hard rules that the VM comes with hold too: who has to
be together goes together or stays.

    own cluster ── fits ─► placed
        └─ fits nowhere ─► the next cluster named ── fits ─► crosses
                                  └─ fits nowhere ─► refused, with the reasons of all of them
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from furlough.core.affinity import Rule, RuleKind
from furlough.core.capacity import Reservation, load_of
from furlough.core.ids import ClusterName, HostName, OperationId, VmId
from furlough.core.inventory import Cluster, Host, Inventory, Vm
from furlough.planning.bonds import Bond, Bonds, bonds_of
from furlough.planning.causes import Cause
from furlough.planning.compatibility import Judge, Obstacle, obstacles
from furlough.planning.placement import Placement, place

_NOBODY = OperationId("")


def place_across(
    vms: Sequence[Vm],
    hosts: Sequence[Host],
    inventory: Inventory,
    reservations: Sequence[Reservation] = (),
    *,
    judge: Judge = obstacles,
    leaving: Sequence[HostName] = (),
    moves_others: bool = False,
) -> Placement:
    """As `placement.place`, and whoever fits nowhere is asked about on those of these hosts that
    belong to clusters which take VMs of its own."""
    found = place(
        vms,
        hosts,
        inventory,
        reservations,
        judge=judge,
        leaving=leaving,
        moves_others=moves_others,
    )
    own = {inventory.host(vm.host).cluster for vm in vms}
    for cluster in (one for one in inventory.clusters if one.name in own):
        for other in cluster.policy.overflow_clusters:
            there = [host for host in hosts if host.cluster == other]
            stuck = [
                vm
                for vm in vms
                if vm.id in found.refusals and inventory.host(vm.host).cluster == cluster.name
            ]
            if there and stuck:
                asking = _Asking(
                    inventory=inventory,
                    own=cluster,
                    other=other,
                    hosts=there,
                    reservations=[*reservations, *_held(found, inventory)],
                    judge=judge,
                    leaving=leaving,
                )
                found = asking.crossed(found, stuck)
    return found


def lent(
    inventory: Inventory,
    vms: Collection[VmId],
    sources: Collection[HostName],
    cluster: ClusterName,
    rules: Iterable[Rule] = (),
) -> Inventory:
    """The same facts as if these hosts belonged to this cluster, with none but these VMs on them:
    so they are placed as if they were its own. `rules`: what they bring along."""
    return replace(
        inventory,
        clusters=[
            replace(one, rules=(*one.rules, *rules)) if one.name == cluster else one
            for one in inventory.clusters
        ],
        hosts=[
            replace(host, cluster=cluster) if host.name in sources else host
            for host in inventory.hosts
        ],
        vms=[vm for vm in inventory.vms if vm.host not in sources or vm.id in vms],
    )


Units = Sequence[Sequence[Vm]]


@dataclass(frozen=True, kw_only=True)
class _Asking:
    """VMs of one cluster that ask for places on hosts of another one. `reservations`: with the
    places that others have been given by now."""

    inventory: Inventory
    own: Cluster
    other: ClusterName
    hosts: Sequence[Host]
    reservations: Sequence[Reservation]
    judge: Judge
    leaving: Sequence[HostName]

    def crossed(self, found: Placement, stuck: Sequence[Vm]) -> Placement:
        """The placement with those who cross; whoever does not has more reasons against it."""
        bonds = bonds_of(self.inventory, [self.own.name])
        tied = _tied(stuck, bonds)
        units = _units([vm for vm in stuck if vm.id not in tied], bonds)
        count = self._most(units)
        answer = self._asked(units[:count], units)
        no_reserve = f"the reserve of cluster {self.other} would be used up"
        words = tied | {vm.id: no_reserve for unit in units[count:] for vm in unit}
        refusals = {vm: found.refusals[vm] for vm in found.refusals if vm not in answer.targets}
        for vm, why in words.items():
            obstacle = Obstacle(cause=Cause.RULE if vm in tied else Cause.ROOM, message=why)
            refusals[vm] = {**refusals[vm], **{host.name: (obstacle,) for host in self.hosts}}
        for vm, against in answer.refusals.items():
            refusals[vm] = {**refusals[vm], **against}
        return replace(
            found,
            targets={**found.targets, **answer.targets},
            refusals=refusals,
            broken={**found.broken, **answer.broken},
            crossing=dict(found.crossing) | {vm: found.refusals[vm] for vm in answer.targets},
        )

    def _most(self, units: Units) -> int:
        """How many of these, from the first on, can be placed without taking the room that the
        other cluster keeps: those who come last are kept out for it."""
        before = self._asked((), units).gaps
        least, most = 0, len(units)
        while least < most:
            count = (least + most + 1) // 2
            if _is_no_worse(self._asked(units[:count], units).gaps, before):
                least = count
            else:
                most = count - 1
        return least

    def _asked(self, units: Units, whole: Units) -> Placement:
        """Where these go. `whole`: all who ask, whose hosts count as leaving whoever comes."""
        vms = [vm for unit in units for vm in unit]
        sources = dict.fromkeys(vm.host for unit in whole for vm in unit)
        facts = lent(
            self.inventory,
            {vm.id for vm in vms},
            sources,
            self.other,
            _rules_of(self.own, vms),
        )
        leaving = [one for one in self.leaving if facts.host(one).cluster == self.other]
        return place(
            vms,
            self.hosts,
            facts,
            self.reservations,
            judge=self.judge,
            leaving=list(dict.fromkeys([*leaving, *sources])),
        )


def _is_no_worse(
    now: Mapping[HostName, Sequence[VmId]], before: Mapping[HostName, Sequence[VmId]]
) -> bool:
    """Whether nobody would find no room who would have found some before."""
    return all(set(vms) <= set(before.get(lost, ())) for lost, vms in now.items())


def _held(found: Placement, inventory: Inventory) -> Iterator[Reservation]:
    """The places that were given to VMs, those that make room among them."""
    for which, (host, *_) in {**found.targets, **found.makers}.items():
        load = load_of(inventory.vm(which))
        yield Reservation(operation=_NOBODY, vm=which, host=host, load=load)


def _rules_of(own: Cluster, vms: Sequence[Vm]) -> Iterator[Rule]:
    """The rules of their cluster that are about these VMs, with nobody else in them."""
    for rule in own.rules:
        ids = tuple(vm.id for vm in vms if vm.id in rule.vms or vm.name in rule.vms)
        if ids:
            yield replace(rule, vms=ids)


def _tied(stuck: Sequence[Vm], bonds: Bonds) -> dict[VmId, str]:
    """Who cannot cross since somebody it has to be with stays, in words."""
    crossing = {vm.id for vm in stuck}
    tied: dict[VmId, str] = {}
    while True:
        more = {
            vm: f"{bond.name} ties it to {bonds.names[mate]}, which stays in its cluster"
            for vm in sorted(crossing)
            for bond in _joining(vm, bonds)
            for mate in sorted(bond.members - crossing)
        }
        if not more:
            return tied
        tied |= more
        crossing -= set(more)


def _units(vms: Sequence[Vm], bonds: Bonds) -> list[list[Vm]]:
    """Those that have to be together as one, who matters most first, then the largest."""
    units: dict[VmId, list[Vm]] = {}
    ordered = sorted(
        vms, key=lambda vm: (-vm.policy.availability_priority, -vm.memory_mib, vm.name, vm.id)
    )
    for vm in ordered:
        mates = {mate for bond in _joining(vm.id, bonds) for mate in bond.members} | {vm.id}
        joined = list({id(units[mate]): units[mate] for mate in mates if mate in units}.values())
        unit = [one for known in joined for one in known] + [vm]
        units |= {one.id: unit for one in unit}
    return list({id(unit): unit for unit in units.values()}.values())


def _joining(vm: VmId, bonds: Bonds) -> Iterator[Bond]:
    return (bond for bond in bonds.of(vm, RuleKind.AFFINITY) if bond.is_hard)
