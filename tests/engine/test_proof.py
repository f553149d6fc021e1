"""`maintenance` is said only of a host whose hook was seen to refuse."""

from __future__ import annotations

import pytest

from furlough.core.policy import (
    EnterOptions,
)
from furlough.core.states import Guard, HostMode
from furlough.errors import Refused
from furlough.scenario.stage import REQUEST, Stage
from tests.engine.stories import (
    FAILED,
    H1,
    SUCCEEDED,
    enter,
    mode_of,
    story,
)

# --- the proof of the hook -----------------------------------------------------------------------


@story()
async def test_f113_maintenance_is_not_said_of_a_host_whose_hook_is_not_there(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await enter(stage)
    stage.cluster.hosts[H1].has_hook = False
    stage.cluster.hosts[H1].guard_trouble = "its hook was changed"
    final = await stage.until_final(operation)
    assert (final.state, final.code) == (FAILED, "guard.unproven")
    assert await mode_of(stage) is HostMode.CORDONED
    failure = final.steps[-1].failure
    assert failure is not None
    assert "its hook is not installed" in failure.message


@story()
async def test_f114_a_proof_that_was_lost_is_made_again_before_maintenance_is_said(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    operation = await enter(stage)
    stage.cluster.hosts[H1].guard_trouble = "it was not tried since its daemon started"
    assert (await stage.until_final(operation)).state is SUCCEEDED
    assert stage.cluster.hosts[H1].guard_trouble == ""


@story()
async def test_an_unproven_hook_that_the_operator_has_accepted_stops_nobody(stage: Stage) -> None:
    stage.add_vm(1, 1)
    stage.cluster.hosts[H1].has_hook = False
    stage.cluster.hosts[H1].guard_trouble = "its hook is not installed"
    await stage.start_controller()
    with pytest.raises(Refused, match="cannot be entered"):
        await enter(stage)
    options = EnterOptions(override=("guard.unproven",), reason="nobody else is here")
    asked = await stage.service.enter([H1], options, REQUEST)
    assert (await stage.until_final(asked.id)).state is SUCCEEDED
    assert (await stage.service.inventory()).host(H1).guard is Guard.UNPROVEN
