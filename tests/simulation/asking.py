"""What the people of random stories ask for, through whatever weather, and the end of it."""

from __future__ import annotations

import asyncio

from furlough.cli import following
from furlough.core.ids import OperationId
from furlough.core.operation import Operation
from furlough.core.policy import CancelMode, EnterOptions
from furlough.errors import FurloughError
from furlough.scenario.stage import REQUEST, Stage, host_name

HOME = host_name(1)
# Blocked for these, an operation rightly waits for a person for ever.
# To be blocked by a bug of ours is no end.
FOR_A_PERSON = following.FOR_A_PERSON - {"bug"}


async def ask_to_enter(stage: Stage, options: EnterOptions) -> OperationId:
    """As a client does that repeats its request until it is answered."""
    while True:
        known = await stage.store.operations()
        if known:
            return known[0].id
        try:
            async with asyncio.timeout(10):
                return (await stage.service.enter([HOME], options, REQUEST)).id
        except (TimeoutError, FurloughError):
            await stage.kill_controller()
            await stage.start_controller()


async def cancel(stage: Stage, operation: OperationId, mode: CancelMode) -> None:
    """The request may be lost."""
    try:
        async with asyncio.timeout(10):
            await stage.service.cancel(operation, mode, "random")
    except (TimeoutError, FurloughError):
        return  # The controller died of it, or it was over: both are allowed.


async def end_of(stage: Stage, operation: OperationId) -> Operation:
    """Final, or waiting for a person for good. Everything else has to end by itself."""
    still = await stage.until_still(operation)
    while not still.is_final and still.code not in FOR_A_PERSON:
        still = await stage.until_changed(still)
        still = await stage.until_still(operation)
    if still.is_final:
        await stage.invariants.check_final(operation)
    return still
