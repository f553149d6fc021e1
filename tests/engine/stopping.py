"""VMs that cannot move live and may be stopped, for stories about them."""

from __future__ import annotations

import asyncio

from furlough.core.ids import OperationId
from furlough.core.inventory import Disk
from furlough.core.operation import Act
from furlough.scenario.stage import Stage, vm_id
from furlough.sim.cluster import Copy
from tests.engine.stories import (
    H1,
    words,
)

MAY_STOP = words(on_maintenance="shut_down", shut_down_grace_s=90)
MAY_SAVE = words(on_maintenance="suspend")
# What ties a VM to its host.
DEVICE = ("usb 0951:1666",)


def tie(stage: Stage, number: int, **traits: object) -> None:
    """A VM with a device of h1, which may be shut down unless something else is said."""
    stage.cluster.hosts[H1].devices = frozenset(DEVICE)
    stage.add_vm(1, number, **{"devices": DEVICE, "own_policy": MAY_STOP, **traits})


def saveable(stage: Stage, number: int, **traits: object) -> None:
    """A VM with a local disk, which may be suspended."""
    stage.add_vm(1, number, **{"disks": _LOCAL, "own_policy": MAY_SAVE, **traits})


_LOCAL = (Disk(target="vda", source="/var/lib/local.img", datastore=None),)


def at_home(stage: Stage, number: int) -> Copy:
    """What h1 holds of the n-th VM."""
    copy = stage.cluster.copy(H1, vm_id(number))
    assert copy is not None
    return copy


async def until_act(stage: Stage, operation: OperationId, act: Act) -> None:
    """Until something was done within a step, and a moment more."""
    async with asyncio.timeout(3600):
        while not any(act in step.acts for step in (await stage.store.operation(operation)).steps):
            await stage.clock.sleep(0.1)
    await stage.clock.sleep(0.5)
