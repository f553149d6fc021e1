"""Simulated hosts and guests that are unequal or disturbed, as the lab's real ones are not. What
both do alike is told in tests/conformance."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.core.ids import HostName, OperationId, VmId
from furlough.core.looks import Job, Presence
from furlough.core.plan import Handover
from furlough.errors import Refused, Unreachable
from furlough.ports import MigrationOrder
from furlough.sim.clock import VirtualClock, run_virtually
from furlough.sim.cluster import SimCluster, SimHost, SimVm
from furlough.sim.hypervisor import SimHypervisor

H1, H2 = HostName("h1"), HostName("h2")
VM = VmId("vm-1")
ORDER = MigrationOrder(
    vm=VM,
    source=H1,
    target=H2,
    handover=Handover.NORMAL,
    carries_definition=True,
    waives_storage_check=False,
    operation=OperationId("op-1"),
    epoch=1,
)


@dataclass(kw_only=True)
class Site:
    """Two hosts, one VM on the first."""

    cluster: SimCluster
    hypervisor: SimHypervisor
    clock: VirtualClock


def tell(story: Callable[[Site], Awaitable[None]], *, there: Any = None, vm: Any = None) -> None:
    """A story, with these traits of the second host and of the VM."""

    async def play() -> None:
        clock = VirtualClock()
        equal = {
            "machines": frozenset({"pc-q35-7.2"}),
            "emulator_version": 7_002_022,
            "cpu_models": frozenset({"EPYC"}),
        }
        hosts = [
            SimHost(name=H1, uuid="1", **equal),  # type: ignore[arg-type]
            SimHost(name=H2, uuid="2", **{**equal, **(there or {})}),
        ]
        cluster = SimCluster(clock, hosts)
        traits = {"machine": "pc-q35-7.2", "cpu_model": "EPYC", "memory_mib": 5000, **(vm or {})}
        cluster.put(H1, SimVm(id=VM, name="web01", **traits))
        try:
            await story(Site(cluster=cluster, hypervisor=SimHypervisor(cluster), clock=clock))
        finally:
            await cluster.stop_background()

    run_virtually(play())


@pytest.mark.parametrize(
    ("there", "vm", "words"),
    [
        ({"emulator_version": 7_001_000}, {}, "older"),
        ({"machines": frozenset({"pc-q35-6.0"})}, {}, "no machine pc-q35-7.2"),
        (
            {"cpu_models": frozenset({"Haswell"})},
            {"cpu_model": HOST_PASSTHROUGH},
            "sees as its own",
        ),
        ({"refusals": {VM: "it lacks avx512f"}}, {}, "avx512f"),
        ({"emulator_version": 7_002_000}, {}, ""),
        ({"emulator_version": 0, "machines": frozenset()}, {}, ""),
    ],
)
def test_an_unequal_host_says_what_it_has_against_a_vm(there: Any, vm: Any, words: str) -> None:
    async def story(site: Site) -> None:
        vms = (await site.hypervisor.observe(H1)).vms
        found = await site.hypervisor.misfits(H2, vms)
        assert (words in found[VM]) if words else (found == {})

    tell(story, there=there, vm=vm)


def test_a_save_goes_on_when_its_caller_is_gone() -> None:
    async def story(site: Site) -> None:
        call = asyncio.create_task(site.hypervisor.save(H1, VM))
        await site.clock.sleep(1)
        look = await site.hypervisor.look(H1, VM)
        assert (look.presence, look.job) == (Presence.PAUSED, Job.OTHER)
        with pytest.raises(Refused):
            await site.hypervisor.save(H1, VM)
        call.cancel()
        await site.clock.sleep(60)
        look = await site.hypervisor.look(H1, VM)
        assert (look.presence, look.has_managed_save) == (Presence.SHUT_OFF, True)

    tell(story)


def test_a_daemon_that_dies_while_it_saves_a_vm_leaves_it_running() -> None:
    async def story(site: Site) -> None:
        call = asyncio.create_task(site.hypervisor.save(H1, VM))
        await site.clock.sleep(1)
        site.cluster.kill_daemon(H1)
        with pytest.raises(Unreachable):
            await call
        site.cluster.start_daemon(H1)
        look = await site.hypervisor.look(H1, VM)
        assert (look.presence, look.job) == (Presence.RUNNING, Job.NONE)
        assert not look.has_managed_save

    tell(story)


def test_a_vm_that_is_powered_off_while_it_is_saved_is_off_and_has_no_image() -> None:
    async def story(site: Site) -> None:
        call = asyncio.create_task(site.hypervisor.save(H1, VM))
        await site.clock.sleep(1)
        await site.hypervisor.power_off(H1, VM, 1)
        with pytest.raises(Refused):
            await call
        look = await site.hypervisor.look(H1, VM)
        assert (look.presence, look.has_managed_save) == (Presence.SHUT_OFF, False)

    tell(story)


def test_what_hinders_a_migration_is_refused_at_its_begin() -> None:
    async def story(site: Site) -> None:
        vms = (await site.hypervisor.observe(H1)).vms
        assert vms[0].hindrances == ("a virtiofs share of /srv",)
        with pytest.raises(Refused) as refusal:
            await site.hypervisor.migrate_live(ORDER)
        assert refusal.value.code == "vm.immovable"
        assert (await site.hypervisor.look(H1, VM)).job is Job.NONE

    tell(story, vm={"hindrances": ("a virtiofs share of /srv",)})
