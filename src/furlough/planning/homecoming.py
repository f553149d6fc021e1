"""What becomes of each VM of the record when its home host takes VMs again, before room is
considered.

    moved, runs where it was left    -> moved home        moved on by others          -> let go
    moved cold, off where it was     -> moved home cold   off, or to be left, since   -> postponed
    stopped, off where it was        -> started           runs, or is gone from there -> let go

What their owners did meanwhile is not ours to undo, not even where an operator names the VM: lists
that were made before an owner acted are sent unread by programs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from furlough.core.capacity import NOTHING, load_of
from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Inventory, Vm, with_neighbours
from furlough.core.plan import Method, WhyStays
from furlough.core.policy import ExitOptions, RestoreMode
from furlough.core.vm_policy import OnMaintenance
from furlough.planning.record import Away
from furlough.planning.ties import ties_of


class Homecoming(StrEnum):
    """What an exit will do about a VM that is away."""

    LIVE = "live"
    COLD = "cold"
    START = "start"
    STAYS = "stays"
    AT_HOME = "at_home"


class Way(StrEnum):
    """How a VM of the record comes back, if it does: the three lists of an exit's precheck."""

    POWER_ON = "power_on"
    LIVE_MIGRATE_BACK = "live_migrate_back"
    COLD_MIGRATE_BACK = "cold_migrate_back"


@dataclass(frozen=True, kw_only=True)
class Return:
    """One VM of the record: where it is now, what will be done, and why. `changed`: what others
    have done about it since, empty if nothing; `stays`: what follows where it stays; `by_way_of`:
    a third host where it waits until its home has room."""

    away: Away
    now_on: HostName | None
    homecoming: Homecoming
    reason: str
    changed: str = ""
    stays: WhyStays | None = None
    by_way_of: HostName | None = None

    @property
    def way(self) -> Way:
        """The list it belongs to."""
        return way_of(self.away)

    @property
    def comes(self) -> bool:
        """Whether something will be done about it."""
        return self.homecoming in (Homecoming.LIVE, Homecoming.COLD, Homecoming.START)


def way_of(away: Away) -> Way:
    """How a VM comes back: as it went."""
    if away.was_stopped:
        return Way.POWER_ON
    return Way.COLD_MIGRATE_BACK if away.method is Method.COLD else Way.LIVE_MIGRATE_BACK


def named_in(options: ExitOptions, way: Way) -> Collection[VmId]:
    """The VMs that an operator has selected for this way home."""
    return {
        Way.POWER_ON: options.power_on,
        Way.LIVE_MIGRATE_BACK: options.live_migrate_back,
        Way.COLD_MIGRATE_BACK: options.cold_migrate_back,
    }[way]


def judged(inventory: Inventory, away: Away, home: HostName, options: ExitOptions) -> Return:
    """What the exit of `home` does about one VM, before room is considered."""
    if not inventory.copies_of(away.vm):
        return _judge_missing(inventory, away, home)
    if away.was_stopped:
        return _judge_stopped(inventory, away, home, options)
    vm = inventory.vm(away.vm)
    if vm.host == away.home:
        return Return(
            away=away, now_on=vm.host, homecoming=Homecoming.AT_HOME, reason="it is home already"
        )
    if vm.host != away.left_on:
        return _changed(away, vm.host, f"somebody moved it from {away.left_on} since")
    if not vm.is_active and away.method is not Method.COLD:
        why = "its owner or its guest has shut it down since"
        return replace(_changed(away, vm.host, why), stays=WhyStays.POSTPONED)
    if vm.policy.on_maintenance is OnMaintenance.LEAVE:
        why = "its policy says by now that it is left where it is (on_maintenance = leave)"
        return replace(_changed(away, vm.host, why), stays=WhyStays.POSTPONED)
    unwanted = _unwanted(away, options)
    if unwanted:
        return stays(away, vm.host, unwanted, WhyStays.POSTPONED)
    if not inventory.host(vm.host).is_connected:
        return stays(away, vm.host, f"{vm.host}, where it was last seen, does not answer")
    return Return(
        away=away,
        now_on=vm.host,
        homecoming=_way_home(away, vm),
        reason=f"it was evacuated by {away.operation}",
        changed=_difference(away, vm),
    )


def _way_home(away: Away, vm: Vm) -> Homecoming:
    """Live if it can; cold if it is off, or if it left cold, and cannot but may go so again."""
    left_cold = away.method is Method.COLD and vm.policy.on_maintenance is OnMaintenance.COLD
    is_cold = not vm.is_active or (left_cold and bool(ties_of(vm)))
    return Homecoming.COLD if is_cold else Homecoming.LIVE


def stays(
    away: Away, now_on: HostName | None, reason: str, why: WhyStays = WhyStays.HINDERED
) -> Return:
    """It stays where it is."""
    return Return(away=away, now_on=now_on, homecoming=Homecoming.STAYS, reason=reason, stays=why)


def _changed(away: Away, now_on: HostName | None, words: str) -> Return:
    """It stays since others have decided about it."""
    return replace(stays(away, now_on, words, WhyStays.LET_GO), changed=words)


def _judge_missing(inventory: Inventory, away: Away, home: HostName) -> Return:
    """A host that is silent may have it; where none is, it is no more."""
    near = with_neighbours(inventory.host(home).cluster, inventory.clusters)
    mates = [one for one in inventory.hosts if one.cluster in near or one.name == away.left_on]
    silent = [host.name for host in mates if not host.is_connected]
    if silent:
        words = f"no host lists it, and {', '.join(silent)} does not answer and may have it"
        return stays(away, None, words)
    return _changed(away, None, "no host lists it any more: it was deleted")


def _judge_stopped(
    inventory: Inventory, away: Away, home: HostName, options: ExitOptions
) -> Return:
    """A VM that was stopped is started where it was, unless somebody has done anything about it
    since."""
    active = sorted(copy.host for copy in inventory.running_copies_of(away.vm))
    if away.left_on in active:
        return Return(
            away=away, now_on=away.left_on, homecoming=Homecoming.AT_HOME, reason="it runs already"
        )
    if active:
        return _changed(away, active[0], "somebody started it elsewhere since")
    vm = stopped_copy(inventory, away)
    if vm is None:
        words = f"it is not on {away.left_on} any more"
        return _changed(away, inventory.vm(away.vm).host, words)
    if away.left_on != home:
        words = f"it was stopped there; the exit of {vm.host} starts it"
        return stays(away, vm.host, words, WhyStays.POSTPONED)
    unwanted = _unwanted(away, options)
    if unwanted:
        by_hand = f"start it by hand when wanted: furlough vm start {vm.id}"
        words = f"it was {_how(away)}, and {unwanted}; {by_hand}"
        return stays(away, vm.host, words, WhyStays.POSTPONED)
    changed = _difference(away, vm)
    reason = f"it was {_how(away)} by {away.operation}" + (f"; {changed}" if changed else "")
    return Return(
        away=away, now_on=vm.host, homecoming=Homecoming.START, reason=reason, changed=changed
    )


def _unwanted(away: Away, options: ExitOptions) -> str:
    """Why it is not to be brought back this time; empty if it is."""
    if options.restore is RestoreMode.NONE:
        return "nothing was to be brought home"
    if options.restore is RestoreMode.MOVED and away.was_stopped:
        return "only what was moved is to be brought home"
    if options.restore is RestoreMode.SELECTED:
        return "" if away.vm in named_in(options, way_of(away)) else "it was not selected"
    return ""


def _how(away: Away) -> str:
    return "suspended" if away.method is Method.SUSPEND else "shut down"


def _difference(away: Away, vm: Vm) -> str:
    """What its owner has changed about it meanwhile; it comes back as it is now."""
    now, then = load_of(vm), away.load
    if away.was_stopped and away.method is Method.SUSPEND and not vm.has_managed_save:
        return "its saved memory is gone since, so it boots"
    if then not in (NOTHING, now):
        return (
            f"it was changed since, from {then.vcpus} vCPUs and {then.memory_mib} MiB to "
            f"{now.vcpus} and {now.memory_mib}, and comes back as it is now"
        )
    return ""


def stopped_copy(inventory: Inventory, away: Away) -> Vm | None:
    """The VM as it is defined where it was left."""
    here = (vm for vm in inventory.copies_of(away.vm) if vm.host == away.left_on)
    return next(here, None)
