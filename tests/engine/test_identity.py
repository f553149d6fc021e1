"""Which machine a host is: it is known by its UUID, and a machine is counted once."""

from __future__ import annotations

from furlough.core.states import Reachability
from furlough.scenario.stage import Stage
from tests.engine.stories import H1, H2, H3, SUCCEEDED, entered, hosts_running, story


@story()
async def test_f051_a_host_that_answers_as_another_one_does_is_no_target(stage: Stage) -> None:
    stage.cluster.hosts[H2].is_reachable = False
    await stage.start_controller()
    await stage.clock.sleep(20)
    # Its address now leads to the third host.
    stage.cluster.hosts[H2].uuid = stage.cluster.hosts[H3].uuid
    stage.cluster.hosts[H2].is_reachable = True
    await stage.clock.sleep(20)
    inventory = await stage.service.inventory()
    assert inventory.host(H3).reachability is Reachability.CONNECTED
    assert inventory.host(H2).reachability is Reachability.SILENT
    assert "one machine under two names" in inventory.host(H2).silent_because


@story()
async def test_f052_a_host_that_was_installed_anew_is_another_host(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    await stage.clock.sleep(20)
    stage.cluster.hosts[H2].uuid = "installed-anew"
    await stage.service.inventory()
    await stage.clock.sleep(20)
    host = (await stage.service.inventory()).host(H2)
    assert host.reachability is Reachability.SILENT
    assert "installed anew" in host.silent_because


@story()
async def test_a_host_that_keeps_its_identity_takes_vms(stage: Stage) -> None:
    stage.add_vm(1, 1)
    await stage.start_controller()
    assert (await entered(stage, H1)).state is SUCCEEDED
    assert hosts_running(stage, 1) != [H1]
