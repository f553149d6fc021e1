"""How much guests write is measured before a host is checked, and links are learned from moves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from furlough.core.ids import HostName, VmId
from furlough.core.inventory import Vm
from furlough.core.policy import EnterOptions
from furlough.engine.measuring import Measuring
from furlough.errors import Unreachable
from furlough.scenario.stage import Setting, Stage, vm_id
from furlough.sim.clock import VirtualClock, run_virtually
from tests.core.builders import a_host, a_vm, an_inventory
from tests.engine.stories import H1, H2, entered, exited, slow, story


async def _vm(stage: Stage, number: int = 1) -> Vm:
    return (await stage.service.inventory()).vm(vm_id(number))


@story(slow)
async def test_a_check_measures_who_writes_how_much(stage: Stage) -> None:
    stage.add_vm(1, 1, dirty_mib_s=40, working_set_mib=80)
    stage.add_vm(1, 2)
    stage.add_vm(2, 3, dirty_mib_s=40, working_set_mib=80)
    await stage.start_controller()
    await stage.clock.sleep(1)
    assert (await _vm(stage)).dirty_mib_s is None
    began_s = stage.clock.monotonic()
    await stage.service.check([H1], EnterOptions())
    # A second for all, and five for one that writes much on a link that is slow.
    assert stage.clock.monotonic() - began_s == pytest.approx(6, abs=0.1)
    busy, idle, elsewhere = [await _vm(stage, number) for number in (1, 2, 3)]
    assert busy.dirty_mib_s == 40
    assert busy.working_set_mib == pytest.approx(80, abs=3)
    assert (idle.dirty_mib_s, idle.working_set_mib) == (0, None)
    assert elsewhere.dirty_mib_s is None


@story()
async def test_who_checks_at_the_same_time_plans_with_the_same_rates(stage: Stage) -> None:
    stage.add_vm(1, 1, dirty_mib_s=40, working_set_mib=80)
    await stage.start_controller()
    await stage.clock.sleep(1)
    plans = await asyncio.gather(
        *(stage.service.plan([H1], EnterOptions()) for _ in range(2)),
    )
    assert [plan.steps[1].duration_s for plan in plans] == [plans[0].steps[1].duration_s] * 2
    assert all("how much 1 VM(s) write" in " ".join(plan.eta_reasons) for plan in plans)


@story()
async def test_what_was_measured_a_short_time_ago_is_not_measured_again(stage: Stage) -> None:
    stage.add_vm(1, 1, dirty_mib_s=40, working_set_mib=80)
    await stage.start_controller()
    await stage.clock.sleep(1)
    plan = await stage.service.plan([H1], EnterOptions())
    assert "how much 1 VM(s) write was measured up to 0 s ago" in plan.eta_reasons
    measured_at = (await _vm(stage)).dirty_measured_at
    await stage.clock.sleep(100)
    began_s = stage.clock.monotonic()
    plan = await stage.service.plan([H1], EnterOptions())
    assert stage.clock.monotonic() == began_s
    assert "how much 1 VM(s) write was measured up to 100 s ago" in plan.eta_reasons
    await stage.clock.sleep(300)
    assert (await _vm(stage)).dirty_mib_s is None
    await stage.service.plan([H1], EnterOptions())
    assert measured_at is not None
    assert (await _vm(stage)).dirty_measured_at != measured_at


@dataclass
class _Emulators:
    """A hypervisor of which only the measuring is there."""

    rates: Mapping[VmId, float] = field(default_factory=dict)
    is_silent: bool = False
    asked: list[tuple[HostName, list[VmId], int]] = field(default_factory=list)

    async def dirty_rates(
        self, host: HostName, vms: Sequence[VmId], within_s: int
    ) -> Mapping[VmId, float]:
        self.asked.append((host, list(vms), within_s))
        if self.is_silent:
            raise Unreachable("hypervisor.lost", "no answer within 10 s")
        return self.rates


def _surveyed(emulators: _Emulators, *vms: Vm, is_connected: bool = True) -> list[Vm]:
    """These VMs of H1 after a survey of it."""
    hosts = [a_host(H1, silent_because="" if is_connected else "it is off")]

    async def survey() -> list[Vm]:
        clock = VirtualClock()
        measuring = Measuring(emulators, clock)  # type: ignore[arg-type]
        await measuring.survey(an_inventory(vms, hosts=hosts), [H1])
        return [measuring.as_measured(vm, clock.now()) for vm in vms]

    return run_virtually(survey())


def test_a_host_that_does_not_answer_leaves_its_vms_unmeasured() -> None:
    emulators = _Emulators(is_silent=True)
    assert _surveyed(emulators, a_vm(1)) == [a_vm(1)]
    assert emulators.asked == [(H1, [vm_id(1)], 1)]


def test_an_emulator_that_cannot_measure_leaves_its_vm_unmeasured() -> None:
    one, other = _surveyed(_Emulators(rates={vm_id(1): 3.0}), a_vm(1), a_vm(2))
    assert (one.dirty_mib_s, other.dirty_mib_s) == (3.0, None)


def test_nobody_is_asked_on_a_silent_host_or_about_vms_in_a_job() -> None:
    emulators = _Emulators()
    _surveyed(emulators, a_vm(1), is_connected=False)
    _surveyed(emulators, a_vm(1, busy_with="a backup"))
    assert emulators.asked == []


# --- links ---------------------------------------------------------------------------------------


def _enrolled_too_fast() -> Setting:
    return Setting(hosts=2, link_mbit_s=1000)


@story(_enrolled_too_fast)
async def test_links_are_learned_from_moves_that_shared_them_and_survive_a_restart(
    stage: Stage,
) -> None:
    for number in (1, 2, 3):
        stage.add_vm(1, number)
    for host in (H1, H2):
        stage.cluster.slow_down(host, factor=0.5)
    await stage.start_controller()
    await stage.clock.sleep(1)
    await entered(stage)
    (known,) = await stage.store.link_speeds()
    assert (known.source, known.target, known.migrations) == (H1, H2, 3)
    # 112 MiB/s enrolled, half of that carried; two shared it most of the time.
    assert known.mib_s == pytest.approx(56, rel=0.1)
    await exited(stage)
    await stage.kill_controller()
    await stage.start_controller()
    await stage.clock.sleep(1)
    plan = await stage.service.plan([H1], EnterOptions())
    assert any("3 migrations from h1 to h2: 5" in reason for reason in plan.eta_reasons)


@story()
async def test_a_small_vm_tells_nothing_of_the_link(stage: Stage) -> None:
    stage.add_vm(1, 1, memory_mib=32)
    await stage.start_controller()
    await stage.clock.sleep(1)
    await entered(stage)
    assert await stage.store.link_speeds() == []
