"""Whether a request makes sense on the facts, before anything is held against what others do.

Raises what the caller can act on; nothing is written. What stands against it in the store is
judged in `admission`.
"""

from __future__ import annotations

from furlough.core.ids import HostName
from furlough.core.inventory import Host, Vm
from furlough.core.plan import Plan
from furlough.core.states import HostMode, Power
from furlough.errors import Conflict, Invalid, Refused

_LONGEST_S = 366 * 24 * 3600.0


def check_mode(host: HostName, mode: HostMode, wanted: HostMode) -> None:
    """`Conflict` where a host is not in the mode that a request starts from."""
    if mode is not wanted:
        raise Conflict(
            "host.mode",
            f"Host {host} is {mode.value}, not {wanted.value}.",
            remedy="See: furlough host list.",
        )


def nothing_to_do(message: str) -> Refused:
    """The refusal where there is nothing to do."""
    return Refused("vm.changed", message, remedy="Nothing was to be done. See: furlough vm list.")


def check_connected(host: Host) -> None:
    """`Refused` where a host does not answer."""
    if not host.is_connected:
        raise Refused(
            "host.silent",
            f"Host {host.name} does not answer: {host.silent_because}.",
            remedy="Bring its management connection back.",
        )


def check_movable(vm: Vm) -> None:
    """`Refused` where a VM cannot move live as it is."""
    if vm.power not in (Power.RUNNING, Power.PAUSED) or vm.devices or vm.busy_with:
        obstacle = vm.busy_with or ", ".join(vm.devices) or f"it is {vm.power.value}"
        raise Refused(
            "vm.immovable",
            f"VM {vm.name} cannot move live: {obstacle}.",
            remedy="Remove the cause and try again.",
        )


def check_hash(plan: Plan, wanted: str | None) -> None:
    """`Conflict` where the plan is no longer the one that was approved, by its hash."""
    if wanted is not None and plan.hash != wanted:
        raise Conflict(
            "plan.changed",
            "Facts have changed: the plan is no longer the one that was approved.",
            remedy="Look at the new plan and approve that one.",
            plan=plan,
        )


def check_timeout(timeout_s: float | None) -> None:
    """`Invalid` where a timeout, in seconds, is beyond sense."""
    if timeout_s is not None and not timeout_s <= _LONGEST_S:  # nan is none either
        raise Invalid(
            "timeout.absurd",
            f"A timeout of {timeout_s:.0f} s is longer than a year.",
            remedy="Give seconds; 0 means none.",
        )
