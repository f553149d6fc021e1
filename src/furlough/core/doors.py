"""Defaults of entering, by the door through which a request comes, and how they are applied.

    the request ─► the door ─► the cluster ─► the daemon's settings ─► what EnterOptions says

The first that says something wins. A door is a foreign API whose users expect its ways; our own
has none of its own, so there the cluster speaks next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from furlough.core.inventory import Cluster
from furlough.core.policy import (
    Automation,
    EnterDefaults,
    EnterOptions,
    OnFailure,
    Order,
    RestoreMode,
    Scope,
    StorageMode,
)
from furlough.errors import Invalid


class Door(StrEnum):
    """The API that a request came through."""

    NATIVE = "native"
    VSPHERE = "vsphere"
    CLOUDTOWER = "cloudtower"
    VERGE = "verge"
    POWERVC = "powervc"


@dataclass(frozen=True, kw_only=True)
class Ways:
    """What users of one door expect: of options they leave open, of what comes back at the exit,
    which findings are blockers for them, by their codes, and whether no VM may leave its
    cluster."""

    entering: EnterDefaults
    restore: RestoreMode
    strict: tuple[str, ...] = ()
    within_cluster: bool = False

    def asked(self, options: EnterOptions) -> EnterOptions:
        """A request as it is meant when it comes through this door."""
        return replace(
            filled(options, self.entering),
            strict=tuple(dict.fromkeys((*options.strict, *self.strict))),
            within_cluster=options.within_cluster or self.within_cluster,
        )


DOORS: Mapping[Door, Ways] = {
    Door.NATIVE: Ways(entering=EnterDefaults(), restore=RestoreMode.RECORDED),
    Door.VSPHERE: Ways(
        entering=EnterDefaults(
            scope=Scope.RUNNING, on_failure=OnFailure.WAIT, order=Order.SCHEDULE
        ),
        restore=RestoreMode.NONE,
    ),
    Door.CLOUDTOWER: Ways(
        entering=EnterDefaults(
            scope=Scope.ALL,
            automation=Automation.AUTOMATIC,
            on_failure=OnFailure.STOP,
            order=Order.SCHEDULE,
        ),
        restore=RestoreMode.SELECTED,
    ),
    Door.VERGE: Ways(
        entering=EnterDefaults(
            scope=Scope.RUNNING,
            automation=Automation.AUTOMATIC,
            on_failure=OnFailure.WAIT,
            order=Order.SCHEDULE,
        ),
        restore=RestoreMode.MOVED,
        strict=(
            "cluster.host_silent",
            "cluster.host_away",
            "cluster.storage_repair",
            "cluster.no_reserve",
        ),
    ),
    Door.POWERVC: Ways(
        entering=EnterDefaults(
            scope=Scope.RUNNING,
            automation=Automation.AUTOMATIC,
            on_failure=OnFailure.STOP,
            order=Order.MEMORY,
        ),
        restore=RestoreMode.NONE,
        strict=("vm.group", "vm.agent"),
        within_cluster=True,
    ),
}

MAY_BE_LEFT_OPEN = tuple(one.name for one in fields(EnterDefaults))


def filled(options: EnterOptions, *defaults: EnterDefaults) -> EnterOptions:
    """The options with what is left open as the first of these defaults has it that says anything
    of it; what none of them speaks of stays open."""
    words: dict[str, object] = {}
    for name in options.left_open:
        words |= _first_word(name, defaults)
    still = tuple(name for name in options.left_open if name not in words)
    return replace(options, **words, left_open=still)  # type: ignore[arg-type]  # by name


def completed(options: EnterOptions, *defaults: EnterDefaults) -> EnterOptions:
    """The same with nothing left open: what nobody speaks of is as `EnterOptions` has it."""
    if options.timeout_s is None:
        left = dict.fromkeys((*options.left_open, "timeout_s"))
        options = filled(replace(options, left_open=tuple(left)), *defaults)
    else:
        options = filled(options, *defaults)
    return replace(options, timeout_s=options.timeout_s or 0.0, left_open=())


def _first_word(name: str, defaults: Iterable[EnterDefaults]) -> dict[str, object]:
    words = (getattr(one, name) for one in defaults)
    return next(({name: word} for word in words if word is not None), {})


def defaults_of(clusters: Sequence[Cluster], options: EnterOptions) -> EnterDefaults:
    """What the clusters of the hosts say; `Invalid` where they say different things of an option
    that the request leaves open."""
    if not clusters:
        return EnterDefaults()
    first = clusters[0].policy.maintenance
    for other in clusters[1:]:
        for name in MAY_BE_LEFT_OPEN:
            one, two = getattr(first, name), getattr(other.policy.maintenance, name)
            if one != two and name in options.left_open:
                raise Invalid(
                    "options.differ",
                    f"Clusters {clusters[0].name} and {other.name} have different defaults of "
                    f"{name}.",
                    remedy="Say which one is meant, or enter the hosts of one cluster at a time.",
                )
    return first


def check_sense(options: EnterOptions) -> None:
    """`Invalid` where a request that has VMs moved would not wait for that, or asks for what nobody
    carries out yet."""
    if options.storage is StorageMode.EVACUATE_ALL:
        raise Invalid(
            "storage.not_copied",
            "Every volume is to leave the host, and this version copies no local disks.",
            remedy="Leave storage as it is: VMs with local disks are named by furlough check; "
            "move those volumes by hand.",
        )
    if not options.wait and options.automation is not Automation.OFF:
        raise Invalid(
            "wait.not_off",
            "Not to wait until the host is empty makes sense only where nobody is moved by us.",
            remedy="Say automation off as well (--automation off), or leave wait as it is.",
        )
