"""Whether a request makes sense on the facts, before anything is held against what others do.

Raises what the caller can act on; nothing is written. What stands against it in the store is
judged in `admission`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from furlough.core.findings import CODES
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Host, Inventory, Vm
from furlough.core.plan import OperationKind, Plan
from furlough.core.policy import EnterOptions
from furlough.core.states import HostMode
from furlough.errors import Conflict, Invalid, Refused
from furlough.planning.placement import Placement
from furlough.planning.ties import ties_of
from furlough.prechecks.cases import because

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
            f"Host {host.name} does not answer{because(host)}.",
            remedy="Bring its management connection back.",
        )


def check_movable(vm: Vm) -> None:
    """`Refused` where a VM cannot move live as it is."""
    obstacles = [f"it {tie.words}" for tie in ties_of(vm)]
    if vm.busy_with:
        obstacles.append(f"{vm.busy_with} is under way in it")
    if not vm.is_active:
        obstacles.append(f"it is {vm.power.value}")
    if obstacles:
        raise Refused(
            "vm.immovable",
            f"VM {vm.name} cannot move live: {'; '.join(obstacles)}.",
            remedy="Remove the cause and try again.",
        )


def fits_nowhere(vm: Vm, placement: Placement) -> Refused:
    """The refusal where no host takes a VM, with the reasons of each."""
    reasons = "; ".join(
        f"{host}: {', '.join(one.message for one in against)}"
        for host, against in placement.refusals[vm.id].items()
    )
    return Refused(
        "vm.no_target",
        f"VM {vm.name} fits on no host: {reasons or 'there is no other host'}.",
        remedy="Remove the cause, or name another target.",
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


# --- VMs and the modes of hosts ------------------------------------------------------------------

_ALWAYS = frozenset(HostMode)
# The modes of a VM's host in which something may be done with the VM. On the way into maintenance,
# in it and on the way out a VM may be stopped and moved, nothing else; nothing starts on a host
# that is cordoned either.
ALLOWED_ON_VMS: Mapping[OperationKind, frozenset[HostMode]] = {
    OperationKind.START_VM: frozenset({HostMode.AVAILABLE}),
    OperationKind.SHUT_DOWN_VM: _ALWAYS,
    OperationKind.POWER_OFF_VM: _ALWAYS,
    OperationKind.MIGRATE_VM: _ALWAYS,
    OperationKind.REMEDY_VM: frozenset({HostMode.AVAILABLE, HostMode.CORDONED}),
}
_WAY_OUT: Mapping[HostMode, str] = {
    HostMode.CORDONED: "Uncordon it first: furlough host uncordon {host}.",
    HostMode.ENTERING: "Wait until it is in service again, or move the VM to another host.",
    HostMode.MAINTENANCE: "Exit its maintenance first: furlough exit {host}.",
    HostMode.EXITING: "Wait until it is in service again: furlough host show {host}.",
}


def check_allowed(kind: OperationKind, vm_name: str, host: Host) -> None:
    """`Refused` where the mode of its host forbids to do this with a VM, or a person keeps empty
    the host on which it is to start."""
    if host.mode not in ALLOWED_ON_VMS[kind]:
        raise Refused(
            "host.mode",
            f"VM {vm_name} is on {host.name}, which is {host.mode.value}: {_NOT_NOW[kind]} there.",
            remedy=_WAY_OUT[host.mode].format(host=host.name),
        )
    if kind is OperationKind.START_VM:
        _check_not_kept(host)


def check_plan_allowed(plan: Plan, inventory: Inventory) -> None:
    """The same for a whole plan, where it is the plan of a request about VMs."""
    if plan.kind in ALLOWED_ON_VMS:
        for step in plan.steps:
            check_allowed(plan.kind, step.vm_name, inventory.host(step.source or step.host))


_NOT_NOW: Mapping[OperationKind, str] = {
    OperationKind.START_VM: "nothing may be started",
    OperationKind.REMEDY_VM: "its VMs may be stopped and moved, nothing else,",
}


def check_takes_vms(host: Host) -> None:
    """`Refused` where no VM may be moved to a host that a request names, whatever VM it is."""
    if host.mode is not HostMode.AVAILABLE:
        raise Refused(
            "host.mode",
            f"Host {host.name} is {host.mode.value}: no VM may be moved there.",
            remedy=_WAY_OUT[host.mode].format(host=host.name),
        )
    _check_not_kept(host)


def _check_not_kept(host: Host) -> None:
    if host.kept_empty_by:
        raise Refused(
            "host.kept_by_person",
            f"Host {host.name} is kept empty by {host.kept_empty_by}.",
            remedy=CODES["host.kept_by_person"].remedy,
        )


# --- options of entering -----------------------------------------------------------------------


def settled(options: EnterOptions, hosts: Sequence[HostName], inventory: Inventory) -> EnterOptions:
    """The options with every VM by its UUID, once; `Invalid` where they make no sense, or
    name a VM that none of these hosts has."""
    check_override(options)
    for code in options.strict:
        if code not in CODES:
            raise Invalid("strict.code", _no_code(code), remedy=_WHICH_CODES)
    wanted = dict.fromkeys(_vm_named(text, hosts, inventory) for text in options.shut_down)
    return replace(options, shut_down=tuple(wanted))


def check_override(options: EnterOptions) -> None:
    """`Invalid` where an override names what cannot be overridden, or gives no reason."""
    for code in options.override:
        kind = CODES.get(code)
        if kind is None:
            raise Invalid("override.code", _no_code(code), remedy=_WHICH_CODES)
        if not kind.may_be_overridden:
            raise Invalid(
                "override.code",
                f"{code} cannot be overridden: {kind.meaning}",
                remedy=kind.remedy,
            )
    if options.override and not options.reason.strip():
        raise Invalid(
            "override.reason",
            f"Overriding {', '.join(options.override)} takes a reason.",
            remedy="Say why: --reason TEXT. It is kept with the operation.",
        )


def _no_code(code: str) -> str:
    return f"There is no finding {code[:64]!r}."


_WHICH_CODES = "The codes are those that furlough check shows; all of them are in the reference."


def _vm_named(text: str, hosts: Sequence[HostName], inventory: Inventory) -> VmId:
    """The VM on these hosts that goes by this name or UUID."""
    here = [vm for host in hosts for vm in inventory.vms_on(host)]
    by_name = {vm.id: vm for vm in here if vm.name == text}
    by_id = {vm.id: vm for vm in here if vm.id == text.lower()}
    found = by_id or by_name
    if not found:
        raise Invalid(
            "vm.not_here",
            f"VM {text[:255]!r} is to be shut down, and is not on {', '.join(hosts)}.",
            remedy=f"See who is: furlough vm list --host {hosts[0]}.",
        )
    if len(found) > 1:
        raise Invalid(
            "vm.ambiguous",
            f"Several VMs are named {text[:255]!r}: "
            + ", ".join(f"{vm.id} on {vm.host}" for vm in found.values())
            + ".",
            remedy="Give the UUID.",
        )
    return next(iter(found))
