"""More stories about the Hypervisor port: the facts that prechecks live on, what is done to a VM
that cannot move live, the policy that travels with it, and a guard that is proven."""

from __future__ import annotations

from contextlib import suppress

import pytest

from furlough.core.inventory import Agent, DiskKind, Vm
from furlough.core.looks import Presence, Why
from furlough.core.vm_policy import Words
from furlough.errors import Unreachable
from furlough.ports import HostFacts
from tests.conformance.hypervisors import (
    DRIVE,
    H1,
    H2,
    HOT_MIB,
    MEDIUM,
    NOBODY,
    Ground,
    Trait,
)
from tests.conformance.stories import (
    check_at_home,
    check_moved,
    check_nothing,
    refusal,
    story,
)

pytestmark = pytest.mark.timeout(300)

WORDS: Words = (
    ("affinity_group", "shop"),
    ("host_affinity", "h1,h2"),
    ("on_maintenance", "shut_down"),
    ("shut_down_grace_s", "30"),
)


async def facts(ground: Ground, vm: str | None = None) -> Vm:
    """What H1 says of `vm`."""
    observed = await ground.hypervisor.observe(H1)
    return next(one for one in observed.vms if one.id == (vm or ground.vm))


async def wait_until_off(ground: Ground, timeout_s: float = 60) -> None:
    """Until `vm` is off on H1."""

    async def is_off() -> bool:
        return (await ground.look(H1)).presence is Presence.SHUT_OFF

    await ground.until(is_off, "the guest to shut down", timeout_s)


# --- facts ----------------------------------------------------------------------------------------


@story
async def test_a_guest_that_writes_has_a_dirty_rate_and_an_idle_one_next_to_none(
    ground: Ground,
) -> None:
    """Emulators draw pages at random, of guests this small a few dozen: so we look some times."""
    ground.remake(Trait.WRITES)
    await ground.boot()
    looks = [
        await ground.hypervisor.dirty_rates(H1, [ground.vm, ground.other], 1) for _ in range(3)
    ]
    writes, idles = [[told[vm] for told in looks] for vm in (ground.vm, ground.other)]
    assert 0 < max(writes) <= 4 * HOT_MIB
    assert min(idles) <= 2
    assert sum(writes) > sum(idles)


@story
async def test_no_dirty_rate_is_told_of_a_vm_that_is_off_paused_or_unknown(ground: Ground) -> None:
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    await ground.hypervisor.suspend(H1, ground.other)
    vms = [ground.vm, ground.other, NOBODY]
    assert await ground.hypervisor.dirty_rates(H1, vms, 1) == {}


@story
async def test_a_vm_that_is_being_migrated_is_not_measured(ground: Ground) -> None:
    async with ground.migrating(ground.order()) as call:
        told = await ground.hypervisor.dirty_rates(H1, [ground.vm, ground.other], 1)
        assert set(told) == {ground.other}
        assert not call.done()


@story
async def test_a_host_tells_which_machines_its_emulator_can_make(ground: Ground) -> None:
    first, second = await ground.hypervisor.observe(H1), await ground.hypervisor.observe(H2)
    assert first.machines == second.machines
    assert first.emulator_version == second.emulator_version >= 4_000_000
    assert first.numa_nodes != frozenset()
    for vm in first.vms:
        assert vm.machine in first.machines
        assert vm.boot_files != ()
        assert (vm.hindrances, vm.snapshots, vm.checkpoints) == ((), 0, 0)
        assert (vm.has_managed_save, vm.has_tpm) == (False, False)
        assert (vm.has_nvram, vm.has_cpu_pins) == (False, False)
        assert (vm.huge_page_kib, vm.numa_nodes) == (None, frozenset())
        assert (vm.agent, vm.own_policy) == (Agent.NONE, ())


@story
async def test_each_boot_of_a_host_has_a_name_of_its_own(ground: Ground) -> None:
    first, second = await ground.hypervisor.observe(H1), await ground.hypervisor.observe(H2)
    assert "" not in (first.boot_id, second.boot_id)
    assert first.boot_id != second.boot_id
    assert (await ground.hypervisor.observe(H1)).boot_id == first.boot_id


@story
async def test_equal_hosts_would_run_each_others_vms(ground: Ground) -> None:
    vms = (await ground.hypervisor.observe(H1)).vms
    assert await ground.hypervisor.misfits(H2, vms) == {}
    assert await ground.hypervisor.misfits(H1, vms) == {}
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    assert await ground.hypervisor.misfits(H2, vms) == {}


@story
async def test_what_only_the_other_host_could_say_is_not_missed_when_it_is_silent(
    ground: Ground,
) -> None:
    vms = (await ground.hypervisor.observe(H1)).vms
    ground.kill_daemon(H1)
    assert await ground.hypervisor.misfits(H2, vms) == {}
    with pytest.raises(Unreachable):
        await ground.hypervisor.misfits(H1, vms)
    ground.revive_daemon(H1)


@story
async def test_f073_a_vm_with_a_snapshot_says_so_and_is_not_moved(ground: Ground) -> None:
    ground.take_snapshot()
    assert (await facts(ground)).snapshots == 1
    assert (await facts(ground, ground.other)).snapshots == 0
    with refusal("hypervisor.failed"):
        await ground.hypervisor.migrate_live(ground.order())
    await check_at_home(ground)


# --- policy ---------------------------------------------------------------------------------------


@story
async def test_a_policy_that_was_written_is_read_back(ground: Ground) -> None:
    await ground.hypervisor.set_policy(H1, ground.vm, WORDS)
    assert (await facts(ground)).own_policy == WORDS
    assert (await facts(ground, ground.other)).own_policy == ()
    await ground.hypervisor.set_policy(H1, ground.vm, (("ha", "true"),))
    assert (await facts(ground)).own_policy == (("ha", "true"),)
    await ground.hypervisor.set_policy(H1, ground.vm, ())
    await ground.hypervisor.set_policy(H1, ground.vm, ())
    assert (await facts(ground)).own_policy == ()
    with refusal("vm.changed"):
        await ground.hypervisor.set_policy(H1, NOBODY, WORDS)


@story
async def test_a_policy_travels_with_its_vm_and_survives_its_power(ground: Ground) -> None:
    hypervisor = ground.hypervisor
    await hypervisor.set_policy(H1, ground.vm, WORDS)
    await hypervisor.migrate_live(ground.order())
    (there,) = (await hypervisor.observe(H2)).vms
    assert there.own_policy == WORDS
    await hypervisor.power_off(H2, ground.vm, ground.epoch)
    (there,) = (await hypervisor.observe(H2)).vms
    assert there.own_policy == WORDS
    await hypervisor.start(H2, ground.vm)
    (there,) = (await hypervisor.observe(H2)).vms
    assert there.own_policy == WORDS


@story
async def test_a_vm_that_is_off_or_has_no_definition_has_its_policy_too(ground: Ground) -> None:
    await ground.hypervisor.power_off(H1, ground.other, ground.epoch)
    await ground.hypervisor.set_policy(H1, ground.other, WORDS)
    assert (await facts(ground, ground.other)).own_policy == WORDS
    ground.make_transient()
    await ground.hypervisor.set_policy(H1, ground.vm, WORDS)
    await ground.hypervisor.migrate_live(ground.order(carries_definition=False))
    (there,) = (await ground.hypervisor.observe(H2)).vms
    assert there.own_policy == WORDS


# --- media ----------------------------------------------------------------------------------------


@story
async def test_a_medium_is_taken_out_of_a_running_vm_and_put_back(ground: Ground) -> None:
    ground.remake(Trait.DRIVE)
    await ground.boot()  # A firmware that looks for a system to boot closes every tray again.
    before = (await facts(ground)).disks
    (medium,) = [disk for disk in before if disk.kind is DiskKind.CDROM]
    assert (medium.target, medium.source, medium.is_writable) == (DRIVE, MEDIUM, False)
    await ground.hypervisor.change_medium(H1, ground.vm, DRIVE, "")
    assert [disk.kind for disk in (await facts(ground)).disks] == [DiskKind.DISK]
    await ground.hypervisor.change_medium(H1, ground.vm, DRIVE, "")
    await ground.hypervisor.change_medium(H1, ground.vm, DRIVE, MEDIUM)
    await ground.hypervisor.change_medium(H1, ground.vm, DRIVE, MEDIUM)
    assert set((await facts(ground)).disks) == set(before)
    await ground.hypervisor.power_off(H1, ground.vm, ground.epoch)
    assert set((await facts(ground)).disks) == set(before)


@story
async def test_a_drive_that_was_emptied_travels_empty_and_stays_so(ground: Ground) -> None:
    ground.remake(Trait.DRIVE)
    await ground.boot()
    await ground.hypervisor.change_medium(H1, ground.vm, DRIVE, "")
    await ground.hypervisor.migrate_live(ground.order())
    await check_moved(ground)
    await ground.hypervisor.power_off(H2, ground.vm, ground.epoch)
    (there,) = (await ground.hypervisor.observe(H2)).vms
    assert [disk.kind for disk in there.disks] == [DiskKind.DISK]


@story
async def test_only_drives_have_media(ground: Ground) -> None:
    before = (await facts(ground)).disks
    for drive in (before[0].target, "sdz"):
        with refusal("vm.changed"):
            await ground.hypervisor.change_medium(H1, ground.vm, drive, "")
    with refusal("vm.changed"):
        await ground.hypervisor.change_medium(H1, NOBODY, DRIVE, "")
    assert (await facts(ground)).disks == before


# --- saving ---------------------------------------------------------------------------------------


@story
async def test_a_vm_that_was_saved_is_off_and_goes_on_where_it_was(ground: Ground) -> None:
    await ground.boot()
    boot = ground.boot_number()
    await ground.hypervisor.save(H1, ground.vm)
    look = await ground.look(H1)
    assert (look.presence, look.why) == (Presence.SHUT_OFF, Why.SAVED)
    assert (look.has_process, look.is_persistent, look.has_managed_save) == (False, True, True)
    assert (await facts(ground)).has_managed_save
    await ground.hypervisor.start(H1, ground.vm)
    await check_at_home(ground)
    assert not (await ground.look(H1)).has_managed_save
    assert not (await facts(ground)).has_managed_save
    assert ground.boot_number() == boot


@story
async def test_a_vm_that_was_paused_when_it_was_saved_is_paused_again(ground: Ground) -> None:
    await ground.hypervisor.suspend(H1, ground.vm)
    await ground.hypervisor.save(H1, ground.vm)
    assert (await ground.look(H1)).presence is Presence.SHUT_OFF
    await ground.hypervisor.start(H1, ground.vm)
    assert (await ground.look(H1)).presence is Presence.PAUSED
    await ground.hypervisor.resume(H1, ground.vm, ground.epoch)
    await check_at_home(ground)


@story
async def test_only_a_vm_that_runs_and_is_defined_is_saved(ground: Ground) -> None:
    await ground.hypervisor.power_off(H1, ground.other, ground.epoch)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.save(H1, ground.other)
    ground.make_transient()
    with refusal("hypervisor.failed"):
        await ground.hypervisor.save(H1, ground.vm)
    with refusal("vm.changed"):
        await ground.hypervisor.save(H1, NOBODY)
    assert (await ground.look(H1)).presence is Presence.RUNNING


@story
async def test_a_definition_with_saved_memory_is_not_thrown_away(ground: Ground) -> None:
    """It would take the memory with it, or leave it behind for the next VM of that name."""
    await ground.hypervisor.save(H1, ground.vm)
    with refusal("hypervisor.failed"):
        await ground.hypervisor.undefine(H1, ground.vm, ground.epoch)
    assert (await ground.look(H1)).has_managed_save


@story
async def test_on_a_guarded_host_a_saved_vm_stays_saved(ground: Ground) -> None:
    await ground.hypervisor.save(H1, ground.vm)
    await ground.hypervisor.raise_guard(H1, ground.marker())
    with refusal("target.refused"):
        await ground.hypervisor.start(H1, ground.vm)
    assert (await ground.look(H1)).has_managed_save
    await ground.hypervisor.lower_guard(H1, ground.marker())
    await ground.hypervisor.start(H1, ground.vm)
    await check_at_home(ground)


# --- guests that are asked to shut down -----------------------------------------------------------


@pytest.mark.slow_lab
@story
async def test_f075_a_guest_that_does_not_care_runs_on(ground: Ground) -> None:
    ground.remake(Trait.IGNORES)
    await ground.boot()
    boot = ground.boot_number()
    for _ in range(3):
        await ground.hypervisor.shut_down(H1, ground.vm)
        await ground.clock.sleep(1.0)
        assert (await ground.look(H1)).presence is Presence.RUNNING
    assert ground.boot_number() == boot


@pytest.mark.slow_lab
@story
async def test_f076_a_guest_that_reboots_instead_runs_on_in_another_boot(ground: Ground) -> None:
    ground.remake(Trait.REBOOTS)
    await ground.boot()
    boot = ground.boot_number()
    await ground.hypervisor.shut_down(H1, ground.vm)

    async def has_rebooted() -> bool:
        return ground.boot_number() != boot

    await ground.until(has_rebooted, "the guest to boot again")
    assert (await ground.look(H1)).presence is Presence.RUNNING


@pytest.mark.slow_lab
@story
async def test_f082_a_guest_whose_agent_hangs_is_asked_by_the_button(ground: Ground) -> None:
    ground.remake(Trait.HANGING_AGENT)
    await ground.boot()

    async def is_connected() -> bool:
        return (await facts(ground)).agent is Agent.CONNECTED

    await ground.until(is_connected, "the agent to open its channel")
    began = ground.clock.monotonic()
    await ground.hypervisor.shut_down(H1, ground.vm)
    await wait_until_off(ground)
    assert ground.clock.monotonic() - began < 20
    assert (await ground.look(H1)).why is Why.SHUTDOWN


@story
async def test_a_guest_whose_agent_is_silent_is_asked_by_the_button(ground: Ground) -> None:
    ground.remake(Trait.AGENT)
    await ground.boot()
    assert (await facts(ground)).agent is Agent.SILENT
    await ground.hypervisor.shut_down(H1, ground.vm)
    await wait_until_off(ground)


# --- the guard, proven ----------------------------------------------------------------------------


@story
async def test_a_probe_tells_how_a_host_reaches_its_peers(ground: Ground) -> None:
    found = await ground.hypervisor.probe(H1, [H2])
    assert found.at.utcoffset() is not None
    assert list(found.peers) == [H2]
    assert found.peers[H2].is_there
    assert found.peers[H2].latency_ms is not None
    assert found.clock_offset_s is not None
    assert abs(found.clock_offset_s) < 1
    ground.kill_daemon(H2)
    lonely = await ground.hypervisor.probe(H1, [H2])
    assert not lonely.peers[H2].is_there
    assert lonely.peers[H2].because != ""
    # furlough-host lives without the daemon.
    assert (await ground.hypervisor.probe(H2, [H1])).peers[H1].is_there
    ground.revive_daemon(H2)
    assert (await ground.hypervisor.probe(H1, [])).peers == {}


@story
async def test_f113_a_host_without_hook_is_not_trusted_until_it_is_prepared(
    ground: Ground,
) -> None:
    hypervisor = ground.hypervisor
    assert await hypervisor.prove_guard(H2) == ""
    assert (await hypervisor.observe(H2)).guard_trouble == ""
    ground.remove_hook(H2)
    trouble = await hypervisor.prove_guard(H2)
    assert trouble != ""
    assert (await hypervisor.observe(H2)).guard_trouble == trouble
    await hypervisor.prepare(H2)
    assert await hypervisor.prove_guard(H2) == ""
    await hypervisor.raise_guard(H2, ground.marker())
    with refusal("target.refused"):
        await hypervisor.migrate_live(ground.order())
    await check_at_home(ground)


@story
async def test_a_proof_disturbs_nobody_and_is_good_for_one_run_of_the_daemon(
    ground: Ground,
) -> None:
    hypervisor = ground.hypervisor
    assert await hypervisor.prove_guard(H1) == ""
    assert len((await hypervisor.observe(H1)).vms) == 2
    assert (await hypervisor.observe(H1)).marker is None
    ground.kill_daemon(H1)
    ground.revive_daemon(H1)
    assert (await hypervisor.observe(H1)).guard_trouble != ""
    assert await hypervisor.prove_guard(H1) == ""
    assert (await hypervisor.observe(H1)).guard_trouble == ""
    await check_at_home(ground)


@story
async def test_a_guarded_host_is_proven_without_letting_anybody_in(ground: Ground) -> None:
    marker = ground.marker()
    await ground.hypervisor.raise_guard(H2, marker)
    assert await ground.hypervisor.prove_guard(H2) == ""
    assert (await ground.hypervisor.observe(H2)).marker == marker
    with refusal("target.refused"):
        await ground.hypervisor.migrate_live(ground.order())
    assert (await ground.hypervisor.occupancy(H2)).is_empty


# --- the power of a host --------------------------------------------------------------------------


@story
async def test_s13_a_host_that_is_not_guarded_or_not_empty_is_not_rebooted(
    ground: Ground,
) -> None:
    hypervisor, marker = ground.hypervisor, ground.marker()
    before = (await hypervisor.observe(H1)).boot_id
    for act in (hypervisor.reboot, hypervisor.power_off_host):
        with refusal("guard.refused"):
            await act(H2, marker)
    await hypervisor.raise_guard(H1, marker)
    for act in (hypervisor.reboot, hypervisor.power_off_host):
        with refusal("guard.refused"):
            await act(H1, marker)
    await check_at_home(ground)
    assert (await hypervisor.observe(H1)).boot_id == before


@story
async def test_f012_a_host_is_closed_to_the_power_of_a_controller_that_was_overtaken(
    ground: Ground,
) -> None:
    hypervisor = ground.hypervisor
    await hypervisor.raise_guard(H2, ground.marker(epoch=8))
    for act in (hypervisor.reboot, hypervisor.power_off_host):
        with refusal("guard.refused"):
            await act(H2, ground.marker(epoch=7))
        with refusal("guard.refused"):
            await act(H2, ground.marker(epoch=9, controller="another"))
    assert (await hypervisor.observe(H2)).marker == ground.marker(epoch=8)


@story
async def test_f053_an_empty_host_that_is_rebooted_is_guarded_still(ground: Ground) -> None:
    hypervisor, marker = ground.hypervisor, ground.marker()
    await hypervisor.raise_guard(H2, marker)
    before = await hypervisor.observe(H2)
    await hypervisor.reboot(H2, marker)
    after = await _after_boot(ground, before)
    assert after.marker == marker
    with refusal("target.refused"):
        await hypervisor.migrate_live(ground.order())
    await check_at_home(ground)
    check_nothing(await ground.look(H2))


async def _after_boot(ground: Ground, before: HostFacts) -> HostFacts:
    """What H2 says of itself once it is back."""
    found = [before]

    async def is_back() -> bool:
        with suppress(Unreachable):
            found[0] = await ground.hypervisor.observe(H2)
        return found[0].boot_id not in ("", before.boot_id)

    await ground.until(is_back, "the host to be back", timeout_s=120)
    return found[0]
