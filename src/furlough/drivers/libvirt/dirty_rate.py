"""How much memory VMs rewrite, asked of their emulators (libvirt 7.2 and QEMU 5.2 or newer).

The emulator draws pages at random (512 for each GiB), and looks after the time given which of them
have changed: it costs the guest next to nothing, and no page is protected. So a page written twice
counts once; rates come in whole MiB/s; of a guest of 160 MiB only 80 pages are drawn, and a single
one stands for 2 MiB. QEMU leaves out memory blocks smaller than 128 MiB. It works under TCG as with
KVM, see docs/explanation/estimates.md for what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import libvirt

from furlough.core.ids import HostName, VmId
from furlough.core.looks import Job
from furlough.drivers.libvirt import errors
from furlough.drivers.libvirt.connection import HostLink
from furlough.drivers.libvirt.inventory import read_job
from furlough.errors import FurloughError
from furlough.ports import Clock

# Watched side by side; more of them wait for the next turn.
_AT_ONCE = 32
_POLL_S, _LATE_S = 0.1, 3.0
# A start may wait for another job to end, up to 30 s; after one that did no more are begun.
_CALL_S, _STARTING_S = 35.0, 4.0
# Somebody waits for a plan: what is not measured by then is unknown.
_WHOLE_S = 20.0


async def measure(
    link: HostLink, host: HostName, vms: Sequence[VmId], within_s: int, clock: Clock
) -> Mapping[VmId, float]:
    """MiB/s by VM, of those that could be watched in time. `Unreachable` where the host does not
    answer from the beginning."""
    found: dict[VmId, float] = {}
    deadline = clock.monotonic() + _WHOLE_S
    for first in range(0, len(vms), _AT_ONCE):
        try:
            found |= await _watch(link, host, vms[first : first + _AT_ONCE], within_s, clock)
        except FurloughError:
            if not found:
                raise
            break
        if clock.monotonic() + within_s > deadline:
            break
    return found


async def _watch(
    link: HostLink, host: HostName, vms: Sequence[VmId], within_s: int, clock: Clock
) -> dict[VmId, float]:
    """The rates of these, all watched at the same time. On the connection for control, which is
    short of nothing: beside a call that migrates, others were seen to wait for five seconds."""
    what = f"dirty rates on {host}"
    watched = await link.control(
        lambda connection: start(connection, vms, within_s, clock), what=what, within_s=_CALL_S
    )
    if not watched:
        return {}
    await clock.sleep(within_s)
    deadline = clock.monotonic() + _LATE_S
    while True:
        rates = await link.control(lambda connection: read(connection, watched), what=what)
        if len(rates) == len(watched) or clock.monotonic() >= deadline:
            return rates
        await clock.sleep(_POLL_S)


def start(
    connection: libvirt.virConnect, vms: Sequence[VmId], within_s: int, clock: Clock
) -> list[VmId]:
    """Begin to watch these, as many as can be begun in a few seconds; those watched now."""
    watched = []
    deadline = clock.monotonic() + _STARTING_S
    for vm in vms:
        if clock.monotonic() > deadline:
            break
        try:
            domain = connection.lookupByUUIDString(vm)
            is_running = domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
            if is_running and read_job(domain)[0] is Job.NONE:
                domain.startDirtyRateCalc(within_s, 0)
                watched.append(vm)
        except libvirt.libvirtError as error:
            if errors.is_lost(error):
                raise
            # Gone, or just being watched by somebody else, or an emulator that cannot.
    return watched


def read(connection: libvirt.virConnect, vms: Sequence[VmId]) -> dict[VmId, float]:
    """What is known of these by now. Nothing is waited for: a VM in a job tells nothing."""
    flags = (
        libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
        | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    )
    told = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_DIRTYRATE, flags)
    by_vm = {domain.UUIDString(): stats for domain, stats in told}
    return {vm: rate for vm in vms if (rate := rate_of(by_vm.get(vm, {}))) is not None}


def rate_of(stats: Mapping[str, object]) -> float | None:
    """MiB/s in the statistics of a VM; None while it is watched, and if it never was."""
    status, rate = stats.get("dirtyrate.calc_status"), stats.get("dirtyrate.megabytes_per_second")
    if status != libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED or not isinstance(rate, int):
        return None
    return float(rate)
