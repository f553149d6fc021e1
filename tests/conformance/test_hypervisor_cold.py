"""Stories about the Hypervisor port: what a cold move is made of. Each effect by itself; in which
order they come, and what is looked at between, is the engine's."""

from __future__ import annotations

import pytest

from furlough.core.looks import Presence
from tests.conformance.hypervisors import H1, H2, NOBODY, Ground
from tests.conformance.stories import able as able  # noqa: PLC0414  # fixtures
from tests.conformance.stories import check_here, check_nothing, refusal, story
from tests.conformance.stories import conformance_lab as conformance_lab  # noqa: PLC0414
from tests.conformance.stories import tell as tell  # noqa: PLC0414

pytestmark = pytest.mark.timeout(300)


@story
async def test_a_definition_is_copied_and_stays_where_it_was(ground: Ground) -> None:
    ground.lay_down()
    await ground.hypervisor.set_autostart(H1, ground.vm, on=True)
    await ground.hypervisor.copy_definition(ground.cold_order())
    for host in (H1, H2):
        check_here(await ground.look(host), Presence.SHUT_OFF)
    assert (await ground.look(H1)).has_autostart
    assert not (await ground.look(H2)).has_autostart
    await ground.hypervisor.copy_definition(ground.cold_order())
    check_here(await ground.look(H2), Presence.SHUT_OFF)


@story
async def test_what_was_copied_can_be_started_there_and_leave_the_source(ground: Ground) -> None:
    await ground.hypervisor.set_policy(H1, ground.vm, (("on_maintenance", "cold"),))
    ground.lay_down()
    await ground.hypervisor.copy_definition(ground.cold_order())
    await ground.hypervisor.undefine(H1, ground.vm, ground.epoch)
    check_nothing(await ground.look(H1))
    await ground.hypervisor.start(H2, ground.vm)
    check_here(await ground.look(H2), Presence.RUNNING)
    (found,) = (await ground.hypervisor.observe(H2)).vms
    assert found.own_policy == (("on_maintenance", "cold"),)


@story
async def test_the_way_back_is_the_same_way(ground: Ground) -> None:
    ground.lay_down()
    await ground.hypervisor.copy_definition(ground.cold_order())
    await ground.hypervisor.undefine(H1, ground.vm, ground.epoch)
    await ground.hypervisor.copy_definition(ground.cold_order(H2, H1))
    await ground.hypervisor.undefine(H2, ground.vm, ground.epoch)
    check_here(await ground.look(H1), Presence.SHUT_OFF)
    check_nothing(await ground.look(H2))


@story
async def test_what_runs_is_not_copied(ground: Ground) -> None:
    with refusal("vm.changed"):
        await ground.hypervisor.copy_definition(ground.cold_order())
    with refusal("vm.changed"):
        await ground.hypervisor.copy_state(ground.cold_order())
    check_nothing(await ground.look(H2))


@story
async def test_nor_is_what_the_source_does_not_know(ground: Ground) -> None:
    ground.vm = NOBODY
    with refusal("vm.changed"):
        await ground.hypervisor.copy_definition(ground.cold_order())


@story
async def test_a_saved_vm_is_not_copied_without_its_memory(ground: Ground) -> None:
    await ground.hypervisor.save(H1, ground.vm)
    with refusal("vm.managed_save"):
        await ground.hypervisor.copy_definition(ground.cold_order())
    check_nothing(await ground.look(H2))


@story
async def test_an_overtaken_controller_defines_nothing(ground: Ground) -> None:
    ground.lay_down()
    await ground.hypervisor.copy_definition(ground.cold_order())
    await ground.hypervisor.undefine(H2, ground.vm, ground.epoch)
    ground.epoch -= 1
    with refusal("guard.refused"):
        await ground.hypervisor.copy_definition(ground.cold_order())
    check_nothing(await ground.look(H2))


@story
async def test_f072_what_firmware_has_written_is_copied_with_its_checksum(ground: Ground) -> None:
    ground.lay_down("boot from the second disk")
    (words,) = await ground.hypervisor.copy_state(ground.cold_order())
    assert "sha256" in words
    assert ground.state_on(H2) == ground.state_on(H1) == "boot from the second disk"
    assert list(await ground.hypervisor.copy_state(ground.cold_order())) == [words]


@story
async def test_a_vm_without_such_state_has_nothing_to_copy(ground: Ground) -> None:
    ground.lay_down()
    assert list(await ground.hypervisor.copy_state(ground.cold_order())) == []
    assert ground.state_on(H2) == ""
