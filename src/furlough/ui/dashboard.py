"""The dashboard: clusters and hosts with mode and load, what is going on, what waits for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from furlough.core.capacity import limit_of
from furlough.core.inventory import Cluster, Host, Inventory
from furlough.core.operation import Operation
from furlough.core.states import HostMode, OperationState, Power
from furlough.ui.visit import Asked, Listing, Routes, listed

_MOST_SHOWN = 20
# What is waited for in the ordinary course of things: nobody has to do anything.
_ORDINARY = frozenset({"host.rebooting", "host.going_down"})


@dataclass(frozen=True, kw_only=True)
class HostRow:
    """A host as listings show it: memory in MiB that its running VMs take, and may take."""

    host: Host
    running: int
    total: int
    used_mib: int
    limit_mib: int


@dataclass(frozen=True, kw_only=True)
class ClusterCard:
    """A cluster in numbers. `modes`: hosts by mode; `silent`: hosts that do not answer."""

    cluster: Cluster
    hosts: int
    modes: Counter[HostMode]
    silent: int
    running: int
    total: int
    used_mib: int
    limit_mib: int


@dataclass(frozen=True, kw_only=True)
class Concern:
    """Something that a person should look at: about what, why, and where to go."""

    subject: str
    words: str
    href: str
    is_bad: bool


def host_row(host: Host, inventory: Inventory) -> HostRow:
    """One host with its load. The copy that a migration is filling holds memory, and is not yet one
    of the host's VMs."""
    vms = inventory.vms_on(host.name)
    own = [vm for vm in vms if not vm.is_arriving]
    return HostRow(
        host=host,
        running=sum(1 for vm in own if vm.power is Power.RUNNING),
        total=len(own),
        # Numbers alone: thousands of hosts are summed up for one page.
        used_mib=sum(vm.memory_mib for vm in vms if vm.is_active),
        limit_mib=limit_of(host, inventory.cluster_of(host).policy).memory_mib,
    )


def cluster_cards(inventory: Inventory, rows: Iterable[HostRow]) -> list[ClusterCard]:
    """Every cluster, in the order of enrolment."""
    by_cluster: dict[str, list[HostRow]] = {}
    for row in rows:
        by_cluster.setdefault(row.host.cluster, []).append(row)
    return [_card(one, by_cluster.get(one.name, [])) for one in inventory.clusters]


def _card(cluster: Cluster, rows: Sequence[HostRow]) -> ClusterCard:
    # A host that is away gives no room: its VMs have to fit on the others.
    giving = [row for row in rows if row.host.mode is HostMode.AVAILABLE]
    return ClusterCard(
        cluster=cluster,
        hosts=len(rows),
        modes=Counter(row.host.mode for row in rows),
        silent=sum(1 for row in rows if not row.host.is_connected),
        running=sum(row.running for row in rows),
        total=sum(row.total for row in rows),
        used_mib=sum(row.used_mib for row in rows),
        limit_mib=sum(row.limit_mib for row in giving),
    )


def concerns(inventory: Inventory, active: Iterable[Operation]) -> list[Concern]:
    """What waits for a person: violated maintenances first, then operations that wait, then hosts
    that do not answer or whose guard cannot be relied on."""
    found = [_of_operation(one) for one in active if waits(one)]
    violated = [
        Concern(
            subject=host.name,
            words=f"Its maintenance is violated: {host.intruders[0].what}",
            href=f"/hosts/{host.name}",
            is_bad=True,
        )
        for host in inventory.hosts
        if host.intruders
    ]
    return [*violated, *found, *(one for host in inventory.hosts for one in _of_host(host))]


def waits(operation: Operation) -> bool:
    """Whether an operation stands still until a person has done something."""
    if operation.code in _ORDINARY:
        return False
    return operation.state in (OperationState.BLOCKED, OperationState.PAUSED) or (
        operation.waiting_for is not None and not operation.is_final
    )


def _of_operation(one: Operation) -> Concern:
    words = one.waiting_for or f"It is {one.state.value}: nothing new starts until it is resumed."
    return Concern(
        subject=f"{one.id} ({one.kind.value.replace('_', ' ')} {', '.join(one.hosts[:3])})",
        words=words,
        href=f"/operations/{one.id}",
        is_bad=False,
    )


def _of_host(host: Host) -> Iterable[Concern]:
    href = f"/hosts/{host.name}"
    if not host.is_connected:
        words = f"It does not answer: {host.silent_because}"
        yield Concern(subject=host.name, words=words, href=href, is_bad=True)
    elif host.kept_empty_by and host.mode is HostMode.AVAILABLE:
        words = f"It is kept empty by {host.kept_empty_by}"
        yield Concern(subject=host.name, words=words, href=href, is_bad=False)


def _chosen(rows: Sequence[HostRow], asked: Asked) -> Listing:
    """The hosts that were asked for: by a part of the name, the cluster, the mode."""
    part, cluster, mode = asked.said("q").lower(), asked.said("cluster"), asked.said("mode")
    found = [
        row
        for row in rows
        if part in row.host.name.lower()
        and cluster in ("", row.host.cluster)
        and mode in ("", row.host.mode.value)
    ]
    return listed(found, asked.page())


async def show(asked: Asked) -> Response:
    """The dashboard."""
    inventory = await asked.service.inventory()
    active = await asked.service.operations(active=True, limit=1000)
    rows = [host_row(host, inventory) for host in inventory.hosts]
    waiting = concerns(inventory, active)
    return asked.render(
        "dashboard",
        cards=cluster_cards(inventory, rows),
        listing=_chosen(rows, asked),
        modes=list(HostMode),
        concerns=waiting[:_MOST_SHOWN],
        concerns_left=len(waiting) - _MOST_SHOWN,
        active=[await asked.view(one) for one in active[:_MOST_SHOWN]],
        active_total=len(active),
        q=asked.said("q"),
        chosen_cluster=asked.said("cluster"),
        chosen_mode=asked.said("mode"),
    )


ROUTES: Routes = {("GET", "/"): show}
