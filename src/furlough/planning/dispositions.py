"""Dispositions: what will be done with each VM that is on a host when it is entered, and why.

A VM that can move live moves live. What may be done with one that cannot is said by its own
policy or by the operator's list, and by nothing else:

    can it move live? ── yes ─► live
            └─ no ─► named to be shut down, or `shut_down` ─► shut_down
                     `suspend` ─► suspend      `cold` ─► shut down, moved, started there
                     `live`, `ask` ─► nothing: the obstacle stays a blocker

`leave` is never touched. One that is off leaves only where all have to (see `cold`). Some traits
stand against the other ways too: a guest that is paused cannot shut itself down, a device cannot
be saved, and a VM without a definition would be gone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Vm
from furlough.core.plan import Method
from furlough.core.states import Power
from furlough.core.vm_policy import IfIgnored, OnMaintenance
from furlough.planning.cold import Resting, downtime_ms, duration_s, trouble_with_cold


@dataclass(frozen=True, kw_only=True)
class Disposition:
    """What will happen to one VM: how it leaves, where to, why, how long, with what pause.

    `method`: live, cold, suspend, shut_down, leave; None: it does not have to leave (it is off,
    or only arriving), or nothing can be done with it, which is a blocker. `grace_s`,
    `may_power_off`: how long its guest may take to shut down, and whether its power is cut after
    that; `priority` 0-100: who matters more is shut down later and started earlier.
    """

    vm: VmId
    vm_name: str
    host: HostName
    method: Method | None
    target: HostName | None
    reason: str
    duration_s: float = 0.0
    downtime_ms: int = 0
    grace_s: float = 0.0
    may_power_off: bool = False
    priority: int = 50

    @property
    def is_power_change(self) -> bool:
        """Whether it leaves the host by being stopped there: shut down or suspended."""
        return self.method in (Method.SHUT_DOWN, Method.SUSPEND)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The method for one VM and why; `trouble`: why the way its policy names cannot be taken,
    empty if it can."""

    method: Method | None
    reason: str
    trouble: str = ""


MOVES_LIVE = Choice(method=Method.LIVE, reason="levels the memory load best")


def decide(vm: Vm, hindrance: str, shut_down: Collection[VmId]) -> Choice:
    """What is done with a VM that has to leave. `hindrance`: why it cannot move live, in words,
    empty if it can; `shut_down`: the VMs that the operator allows to be shut down."""
    wish = vm.policy.on_maintenance
    if wish is OnMaintenance.LEAVE:
        return Choice(method=Method.LEAVE, reason="its policy says leave: it is not touched")
    if not hindrance:
        return MOVES_LIVE
    method = _instead(wish, is_named=vm.id in shut_down)
    if method is None:
        return Choice(method=None, reason=hindrance)
    trouble = _trouble_with(method, vm)
    if trouble:
        return Choice(method=None, reason=hindrance, trouble=trouble)
    why = "it is named to be shut down" if vm.id in shut_down else f"its policy says {wish.value}"
    return Choice(method=method, reason=f"{hindrance}; {why}")


_INSTEAD = {
    OnMaintenance.COLD: Method.COLD,
    OnMaintenance.SUSPEND: Method.SUSPEND,
    OnMaintenance.SHUT_DOWN: Method.SHUT_DOWN,
}


def _instead(wish: OnMaintenance, *, is_named: bool) -> Method | None:
    """What may be done with a VM that cannot move live."""
    return Method.SHUT_DOWN if is_named else _INSTEAD.get(wish)


def _trouble_with(method: Method, vm: Vm) -> str:
    """Why this cannot be done with the VM as it is; empty if it can."""
    if vm.busy_with:
        return f"{vm.busy_with} is under way in it"
    if not vm.is_persistent:
        return "it has no definition, so it would be gone once it is stopped"
    if vm.power in (Power.ERROR, Power.SUSPENDED):
        return f"it is {vm.power.value}"
    if method is Method.COLD and (trouble := trouble_with_cold(vm)):
        return trouble
    if method is Method.SUSPEND and (vm.devices or vm.hindrances):
        return "what hinders its migration hinders saving its memory too"
    if method is not Method.SUSPEND and vm.power is Power.PAUSED:
        return "it is paused, so its guest cannot shut itself down"
    return ""


def disposition(vm: Vm, choice: Choice) -> Disposition:
    """The disposition that a choice makes of a VM that does not move live."""
    is_shut_down = choice.method in (Method.SHUT_DOWN, Method.COLD) and vm.is_active
    reason = f"{choice.reason} ({choice.trouble})" if choice.trouble else choice.reason
    return Disposition(
        vm=vm.id,
        vm_name=vm.name,
        host=vm.host,
        method=choice.method,
        target=None,
        reason=reason,
        grace_s=float(vm.policy.shut_down_grace_s) if is_shut_down else 0.0,
        may_power_off=is_shut_down and vm.policy.if_ignored is IfIgnored.POWER_OFF,
        priority=vm.policy.availability_priority,
    )


def cold_disposition(vm: Vm, choice: Choice, target: HostName) -> Disposition:
    """The same of a VM that is moved cold to this target."""
    return replace(
        disposition(vm, choice),
        target=target,
        duration_s=duration_s(vm),
        downtime_ms=downtime_ms(vm),
    )


def disposition_of_resting(one: Resting) -> Disposition:
    """What becomes of a VM that is off when all have to leave."""
    if one.stays_because:
        why = f"it is powered off and stays: {one.stays_because}"
        return disposition(one.vm, Choice(method=Method.LEAVE, reason=why))
    choice = Choice(method=Method.COLD, reason="it is powered off; its definition goes along")
    return cold_disposition(one.vm, choice, one.targets[0])
