"""What became of a VM that is not where its plan has it: seen by looking at every host."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from furlough.core.ids import HostName, VmId
from furlough.core.looks import Look, Presence, Why
from furlough.core.operation import Outcome
from furlough.engine.ledger import Ledger
from furlough.engine.work import Work

_UNKNOWN = (Outcome.CHANGED_BY_OTHERS, "it was off when its turn came")
_OF_WHY = {
    Why.SHUTDOWN: (Outcome.STOPPED_BY_GUEST, "its guest shut it down"),
    Why.DESTROYED: (Outcome.CHANGED_BY_OTHERS, "somebody powered it off"),
    Why.SAVED: (Outcome.CHANGED_BY_OTHERS, "somebody suspended it to disk"),
    Why.CRASHED: (Outcome.DIED, "it crashed"),
    Why.FAILED: (Outcome.DIED, "its process died"),
}


def fate_at_home(look: Look) -> tuple[Outcome, str]:
    """What became of a VM that is off where it was."""
    return _OF_WHY.get(look.why, _UNKNOWN)


def fate_elsewhere(looks: Sequence[Look], source: HostName) -> tuple[Outcome, str, HostName | None]:
    """What became of a VM that its source no longer knows, and where it is by these looks."""
    active = next((look.host for look in looks if look.is_here), None)
    if active is not None:
        return Outcome.CHANGED_BY_OTHERS, f"somebody moved it to {active}", active
    for look in looks:
        # Moved, and stopped before anybody looked.
        if look.presence is Presence.SHUT_OFF and look.host != source:
            outcome, why = _OF_WHY.get(look.why, (Outcome.CHANGED_BY_OTHERS, "it is off"))
            return outcome, f"{why} on {look.host}", look.host
    return Outcome.MISSING, "no host of the cluster knows it any more", None


async def look_everywhere(work: Work, vm: VmId, near: HostName) -> list[Look]:
    """The answer of every host of a cluster about one VM, silent ones included."""
    hosts = await work.all_hosts(near)
    return list(await asyncio.gather(*(work.hypervisor.look(host, vm) for host in hosts)))


async def search(work: Work, ledger: Ledger, number: int, vm: VmId, near: HostName) -> list[Look]:
    """The same once all of them answer, or one has it; nothing if the step, which waits for it,
    is over by then."""
    while not ledger.operation.step(number).is_final:
        looks = await look_everywhere(work, vm, near)
        silent = [look.host for look in looks if look.presence is Presence.SILENT]
        if not silent or any(look.is_here for look in looks):
            await ledger.wait(number, "", "")
            return looks
        words = f"{', '.join(silent)}: the VM may be there"
        await ledger.wait(number, "host.silent", words)
        await work.clock.sleep(work.pace.poll_s)
    return []
