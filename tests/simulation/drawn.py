"""What a seed decides beforehand: the cluster, its VMs, the weather, and what people ask for."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from furlough.core.inventory import Disk
from furlough.core.looks import Presence
from furlough.core.plan import Method
from furlough.core.policy import (
    Automation,
    ClusterPolicy,
    EnterOptions,
    ExitOptions,
    Limits,
    OnFailure,
    Order,
    RestoreMode,
    Scope,
)
from furlough.planning.record import Away
from furlough.scenario.stage import Setting, Stage
from furlough.sim.faults import Odds
from tests.engine.stories import words


def setting(seed: int, random: Random) -> Setting:
    """The cluster."""
    return Setting(
        hosts=random.choice((3, 4, 5, 6, 7)),
        seed=seed,
        is_locked=random.random() < 0.5,
        link_mbit_s=random.choice((1000, 1000, 10_000)),
        memory_mib=random.choice((24_576, 65_536)),
        policy=ClusterPolicy(
            max_hosts_away=random.choice((1, 2, 6, 6, 6)),
            limits=Limits(per_source=random.choice((1, 2, 4)), per_target=random.choice((1, 2))),
        ),
        is_shaken=True,
        is_shared=True,
    )


def weather(random: Random) -> Odds:
    """Mostly some of it, never all of it at its worst."""

    def chance(*some: float) -> float:
        return random.choice((0.0, *some))

    return Odds(
        lost_request=chance(0.02, 0.1),
        lost_reply=chance(0.02, 0.1),
        refused=chance(0.1),
        lost_finish=chance(0.1, 0.3),
        delayed=chance(0.02, 0.1),
        late=chance(0.02, 0.1),
        refused_effect=chance(0.03),
        lost_write=chance(0.02, 0.08),
        lost_commit=chance(0.02, 0.08),
        slow_store=chance(0.02, 0.1),
    )


# --- the VMs -------------------------------------------------------------------------------------

_DEVICE = ("usb 0951:1666",)
_LOCAL = (Disk(target="vda", source="/var/lib/local.img", datastore=None),)
_OFF = {"presence": Presence.SHUT_OFF, "has_process": False}
# What cannot be migrated, but started anywhere.
_TIED = ("a transient disk",)


def people(stage: Stage, random: Random) -> None:
    """Who lives in the cluster: those that move live, those that are stopped, those that move cold,
    and those that are off."""
    for host in stage.cluster.hosts.values():
        host.devices = frozenset(_DEVICE)
    hosts = len(stage.cluster.hosts)
    for number in range(1, random.randint(4, 2 * hosts + 4) + 1):
        _mover(stage, random, number)
    for number in range(31, random.choice((31, 31, 32, 33))):
        _stopper(stage, random, number)
    for number in range(41, random.choice((41, 41, 41, 42, 43))):
        _cold(stage, random, number)


def _mover(stage: Stage, random: Random, number: int) -> None:
    stage.add_vm(
        random.choice((1, 1, random.randint(1, len(stage.cluster.hosts)))),
        number,
        own_policy=words(post_copy="if_needed") if random.random() < 0.2 else (),
        has_autostart=random.random() < 0.3,
        is_persistent=random.random() < 0.9,
        memory_mib=random.choice((512, 2048, 4096)),
        dirty_mib_s=random.choice((0, 10, 100, 100, 2000) if random.random() < 0.2 else (0, 10)),
        working_set_mib=random.choice((0, 64, 512)),
    )


def _stopper(stage: Stage, random: Random, number: int) -> None:
    method = random.choice(("shut_down", "suspend"))
    ties = {"devices": _DEVICE} if method == "shut_down" else {"disks": _LOCAL}
    stage.add_vm(
        random.choice((1, 1, 2)),
        number,
        own_policy=words(
            on_maintenance=method,
            shut_down_grace_s=random.choice((20, 90)),
            if_ignored=random.choice(("keep", "power_off")),
        ),
        ignores_shutdown=random.random() < 0.2,
        reboots_instead=random.random() < 0.1,
        has_autostart=random.random() < 0.3,
        memory_mib=random.choice((512, 4096)),
        **ties,
    )


def _cold(stage: Stage, random: Random, number: int) -> None:
    """Off, or one that runs and can only leave cold."""
    host = random.choice((1, 1, 2))
    traits: dict[str, object] = {
        "has_autostart": random.random() < 0.5,
        "has_nvram": random.random() < 0.5,
    }
    if random.random() < 0.5:
        stage.add_vm(host, number, **traits, **_OFF)
        return
    policy = words(
        on_maintenance="cold",
        shut_down_grace_s=random.choice((20, 60)),
        if_ignored=random.choice(("keep", "power_off")),
    )
    stage.add_vm(
        host,
        number,
        **traits,
        hindrances=_TIED,
        own_policy=policy,
        ignores_shutdown=random.random() < 0.2,
        shutdown_takes_s=random.choice((1.0, 15.0)),
    )


# --- what people ask for -------------------------------------------------------------------------


def entering(random: Random) -> EnterOptions:
    """Mostly the usual options."""
    automation = random.choice((*[Automation.AUTOMATIC] * 8, Automation.MANUAL, Automation.OFF))
    return EnterOptions(
        timeout_s=random.choice((0, 0, 0, 30, 600)),
        scope=random.choice((Scope.RUNNING, Scope.RUNNING, Scope.ALL)),
        automation=automation,
        on_failure=random.choice((OnFailure.STOP, *OnFailure)),
        order=random.choice(list(Order)),
        wait=automation is not Automation.OFF or random.random() < 0.5,
    )


def exiting(random: Random, record: Sequence[Away]) -> ExitOptions:
    """Mostly all of the record; sometimes nothing of it, or those that are named."""
    recorded = RestoreMode.RECORDED
    mode = random.choice((recorded, recorded, recorded, *RestoreMode))
    timeout_s = random.choice((0, 1800))
    if mode is not RestoreMode.SELECTED:
        return ExitOptions(restore=mode, timeout_s=timeout_s)
    chosen = [one for one in record if random.random() < 0.7]
    moved = [one for one in chosen if not one.was_stopped]
    return ExitOptions(
        restore=mode,
        timeout_s=timeout_s,
        power_on=tuple(one.vm for one in chosen if one.was_stopped),
        live_migrate_back=tuple(one.vm for one in moved if one.method is Method.LIVE),
        cold_migrate_back=tuple(one.vm for one in moved if one.method is Method.COLD),
    )
