"""What people, guests and other programs do to VMs while we work with them (F077, F085-F090).

Everybody here is sane: nobody starts a VM that is active anywhere, or lets one run that a migration
has paused. So whatever runs twice afterwards is our doing. What was touched is kept in `touched`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random

from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.looks import Job, Presence, Why
from furlough.core.plan import Handover
from furlough.errors import Refused
from furlough.ports import MigrationOrder
from furlough.sim.cluster import Copy, SimCluster, SimVm
from furlough.sim.faults import Faults
from furlough.sim.migration import SimMigration, Timing

SOMEBODY = OperationId("somebody")


async def meddling(cluster: SimCluster, faults: Faults, *, times: int, within_s: float) -> None:
    """So many acts of others at random moments."""
    moments = sorted(faults.random.uniform(0.0, within_s) for _ in range(times))
    began = cluster.clock.monotonic()
    for moment in moments:
        await cluster.clock.sleep(max(0.0, began + moment - cluster.clock.monotonic()))
        kind = faults.random.choice(sorted(ACTS))
        if ACTS[kind](cluster, faults.random):
            faults.count(kind)


def _pick(
    cluster: SimCluster, random: Random, fits: Callable[[Copy], bool]
) -> tuple[HostName, Copy] | None:
    """A copy of which this holds, on a host whose daemon runs."""
    found = [
        (name, copy)
        for name, host in sorted(cluster.hosts.items())
        if host.has_daemon
        for _, copy in sorted(host.copies.items())
        if fits(copy)
    ]
    return random.choice(found) if found else None


def _runs(copy: Copy) -> bool:
    return copy.presence is Presence.RUNNING


def _runs_idle(copy: Copy) -> bool:
    return _runs(copy) and copy.job is Job.NONE


def _is_off(copy: Copy) -> bool:
    return copy.presence is Presence.SHUT_OFF


def _active_anywhere(cluster: SimCluster, vm: VmId) -> bool:
    return any(
        copy.has_process
        for host in cluster.hosts.values()
        if (copy := host.copies.get(vm)) is not None
    )


# --- what they do ------------------------------------------------------------------------------


def _move(cluster: SimCluster, random: Random) -> bool:
    """F088, F089."""
    chosen = _pick(cluster, random, lambda copy: _runs_idle(copy) and copy.has_run)
    targets = sorted(name for name, host in cluster.hosts.items() if host.has_daemon)
    if chosen is None or len(targets) < 2:
        return False
    source, copy = chosen
    target = random.choice([name for name in targets if name != source])
    order = MigrationOrder(
        vm=copy.vm.id,
        source=source,
        target=target,
        handover=Handover.NORMAL,
        carries_definition=copy.is_persistent,
        waives_storage_check=False,
        operation=SOMEBODY,
        epoch=0,
    )
    with suppress(Refused):
        SimMigration(cluster, order, Timing()).start()
        cluster.touched[copy.vm.id] = f"moved to {target}"
        cluster.upset.add(target)
    return True


def _end(cluster: SimCluster, random: Random, why: Why) -> bool:
    chosen = _pick(cluster, random, _runs)
    if chosen is None:
        return False
    host, copy = chosen
    cluster.touched[copy.vm.id] = f"{why.value} on {host}"
    cluster.stop(host, copy.vm.id, why)
    return True


def _power_off(cluster: SimCluster, random: Random) -> bool:
    return _end(cluster, random, Why.DESTROYED)


def _guest_ends(cluster: SimCluster, random: Random) -> bool:
    """F077."""
    return _end(cluster, random, Why.SHUTDOWN)


def _guest_crashes(cluster: SimCluster, random: Random) -> bool:
    """F078."""
    return _end(cluster, random, Why.CRASHED)


def _delete(cluster: SimCluster, random: Random) -> bool:
    """F087."""
    chosen = _pick(cluster, random, _runs)
    if chosen is None:
        return False
    host, copy = chosen
    cluster.touched[copy.vm.id] = f"deleted on {host}"
    cluster.stop(host, copy.vm.id, Why.DESTROYED)
    if copy.vm.id in cluster.hosts[host].copies:
        cluster.remove(host, copy.vm.id)
    return True


def _start(cluster: SimCluster, random: Random) -> bool:
    """F085, F109: also on a host that is being emptied."""
    chosen = _pick(
        cluster,
        random,
        lambda copy: _is_off(copy) and not _active_anywhere(cluster, copy.vm.id),
    )
    if chosen is None:
        return False
    host, copy = chosen
    with suppress(Refused):
        cluster.start(host, copy.vm.id)
        cluster.touched[copy.vm.id] = f"started on {host}"
        cluster.upset.add(host)
    return True


def _create(cluster: SimCluster, random: Random) -> bool:
    """F085: a VM that nobody knew."""
    hosts = sorted(name for name, host in cluster.hosts.items() if host.has_daemon)
    number = 900 + sum(1 for vm in cluster.touched if "-0000000009" in vm)
    vm = VmId(f"00000000-0000-4000-8000-{number:012d}")
    if not hosts or vm in cluster.touched:
        return False
    host = random.choice(hosts)
    with suppress(Refused):
        cluster.check_hook(host, vm)
        cluster.put(host, SimVm(id=vm, name=f"vm{number}", memory_mib=512))
        cluster.touched[vm] = f"created on {host}"
        cluster.upset.add(host)
        cluster.changed()
    return True


def _abort(cluster: SimCluster, random: Random) -> bool:
    """F090."""
    flying = [one for _, one in sorted(cluster.migrations.items()) if isinstance(one, SimMigration)]
    if not flying:
        return False
    random.choice(flying).abort()
    return True


def _pause(cluster: SimCluster, random: Random) -> bool:
    """Pause a VM, and let it run again later if it still stands there so."""
    chosen = _pick(cluster, random, _runs_idle)
    if chosen is None:
        return False
    host, copy = chosen
    cluster.touched[copy.vm.id] = f"paused on {host}"
    cluster.set_presence(copy, Presence.PAUSED, Why.USER)
    cluster.spawn(_let_run_again(cluster, host, copy, random.uniform(1.0, 60.0)))
    return True


async def _let_run_again(cluster: SimCluster, host: HostName, copy: Copy, after_s: float) -> None:
    await cluster.clock.sleep(after_s)
    others = [
        name
        for name, machine in cluster.hosts.items()
        if name != host and copy.vm.id in machine.copies
    ]
    is_same = cluster.copy(host, copy.vm.id) is copy and copy.presence is Presence.PAUSED
    if is_same and copy.why is Why.USER and copy.job is Job.NONE and not others:
        cluster.let_run(host, copy, Why.UNKNOWN)


def _run_by_hand(cluster: SimCluster, random: Random) -> bool:
    """A process that the hypervisor knows nothing of; for a while."""
    hosts = sorted(name for name, host in cluster.hosts.items() if host.is_up)
    if not hosts:
        return False
    cluster.spawn(_stray(cluster, random.choice(hosts), random.uniform(5.0, 90.0)))
    return True


async def _stray(cluster: SimCluster, host: HostName, for_s: float) -> None:
    strays, since_s = cluster.hosts[host].strays, cluster.clock.monotonic()
    process = f"{4711 + len(strays)} qemu-system-x86_64"
    strays[process] = since_s
    await cluster.clock.sleep(for_s)
    if strays.get(process) == since_s:
        del strays[process]


ACTS: dict[str, Callable[[SimCluster, Random], bool]] = {
    "others_move": _move,
    "others_power_off": _power_off,
    "others_delete": _delete,
    "others_start": _start,
    "others_create": _create,
    "others_abort": _abort,
    "others_pause": _pause,
    "others_run_by_hand": _run_by_hand,
    "guest_ends": _guest_ends,
    "guest_crashes": _guest_crashes,
}
