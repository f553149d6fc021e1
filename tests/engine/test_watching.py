"""Hosts that are to stay empty are watched. Numbers are those of the fault catalogue."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from furlough.core.hostlog import Level, LogLine
from furlough.core.ids import HostName, OperationId
from furlough.core.inventory import Host
from furlough.core.looks import Presence
from furlough.core.plan import OperationKind
from furlough.core.policy import ActionOptions, EnterOptions
from furlough.core.states import HostMode
from furlough.engine.observer import Observer
from furlough.errors import Refused, Unreachable
from furlough.ports import HostFacts, Marker, Store
from furlough.scenario.stage import REQUEST, Stage, plain_vm, vm_id
from furlough.sim.hypervisor import SimHypervisor
from tests.engine.stories import H1, H2, H3, SUCCEEDED, entered, exited, mode_of, story

PERSONS = Marker(
    operation=OperationId("local"),
    epoch=0,
    controller="local",
    raised_at="2026-01-01T00:00:00Z",
)


async def _served(stage: Stage) -> None:
    """h1 is in maintenance."""
    stage.add_vm(1, 1)
    await stage.start_controller()
    assert (await entered(stage)).state is SUCCEEDED


async def _host(stage: Stage, name: HostName = H1) -> Host:
    return (await stage.service.inventory()).host(name)


async def _notes(stage: Stage, name: HostName = H1) -> list[LogLine]:
    """The lines of the host's log that belong to no operation."""
    lines = await stage.service.host_log(name, 1000)
    return [line for line in lines if line.operation is None]


async def _seen(stage: Stage) -> list[str]:
    return [one.what for one in (await _host(stage)).intruders]


def _put_intruder(stage: Stage, host: HostName = H1, number: int = 9) -> None:
    """Somebody starts a VM without the hypervisor, past every hook."""
    stage.cluster.put(host, plain_vm(number))


def _told(stage: Stage) -> None:
    """The stage sees S3 broken as well, by its own truth; that is what these stories are about."""
    assert all(" S3" in one for one in stage.invariants.violations)
    stage.invariants.violations.clear()


# --- intruders -----------------------------------------------------------------------------------


@story()
async def test_f086_a_vm_that_appears_in_maintenance_is_told_within_30_s_and_once(
    stage: Stage,
) -> None:
    await _served(stage)
    assert await _notes(stage) == []
    _put_intruder(stage)
    appeared = stage.clock.now()
    await stage.clock.sleep(30)
    (intruder,) = (await _host(stage)).intruders
    assert intruder.what == f"VM vm9 ({vm_id(9)})"
    assert appeared <= intruder.since <= appeared + timedelta(seconds=30)
    await stage.clock.sleep(300)
    (line,) = await _notes(stage)
    assert (line.level, line.at) == (Level.ERROR, intruder.since)
    assert intruder.what in line.message
    assert await mode_of(stage) is HostMode.MAINTENANCE
    _told(stage)


@story()
async def test_f086_its_end_is_told_too_and_a_second_time_is_a_new_one(stage: Stage) -> None:
    await _served(stage)
    for _ in range(2):
        _put_intruder(stage)
        await stage.clock.sleep(30)
        stage.cluster.remove(H1, vm_id(9))
        await stage.clock.sleep(30)
        assert await _seen(stage) == []
    assert [line.level for line in await _notes(stage)] == [Level.ERROR, Level.INFO] * 2
    _told(stage)


@story()
async def test_f086_a_restart_forgets_nothing_and_tells_nothing_twice(stage: Stage) -> None:
    await _served(stage)
    _put_intruder(stage)
    await stage.clock.sleep(30)
    before = (await _host(stage)).intruders
    await stage.kill_controller()
    await stage.clock.sleep(600)
    await stage.start_controller()
    await stage.clock.sleep(30)
    assert (await _host(stage)).intruders == before
    assert len(await _notes(stage)) == 1
    _told(stage)


@story()
async def test_what_ended_while_nobody_watched_is_over_when_somebody_does(stage: Stage) -> None:
    await _served(stage)
    _put_intruder(stage)
    await stage.clock.sleep(30)
    await stage.kill_controller()
    stage.cluster.remove(H1, vm_id(9))
    await stage.start_controller()
    await stage.clock.sleep(30)
    assert await _seen(stage) == []
    assert [line.level for line in await _notes(stage)] == [Level.ERROR, Level.INFO]
    _told(stage)


@story()
async def test_a_silent_host_keeps_what_was_last_seen_there(stage: Stage) -> None:
    await _served(stage)
    _put_intruder(stage)
    await stage.clock.sleep(30)
    stage.cluster.hosts[H1].is_reachable = False
    await stage.clock.sleep(300)
    assert await _seen(stage) == [f"VM vm9 ({vm_id(9)})"]
    assert len(await _notes(stage)) == 1
    _told(stage)


@story()
async def test_leaving_maintenance_ends_its_violation(stage: Stage) -> None:
    await _served(stage)
    _put_intruder(stage)
    await stage.clock.sleep(30)
    assert (await exited(stage)).state is SUCCEEDED
    await stage.clock.sleep(30)
    assert await _seen(stage) == []
    assert (await _notes(stage))[-1].level is Level.INFO
    _told(stage)


@story()
async def test_those_who_come_home_violate_nothing(stage: Stage) -> None:
    for number in range(1, 6):
        stage.add_vm(1, number)
    await stage.start_controller()
    for _ in range(3):
        assert (await entered(stage)).state is SUCCEEDED
        await stage.clock.sleep(12)
        assert (await exited(stage)).state is SUCCEEDED
    assert await _notes(stage) == []


# --- the guard -----------------------------------------------------------------------------------


@story()
async def test_a_marker_that_is_gone_or_foreign_is_a_violation(stage: Stage) -> None:
    await _served(stage)
    ours = stage.cluster.hosts[H1].marker
    stage.cluster.hosts[H1].marker = None
    await stage.clock.sleep(30)
    assert await _seen(stage) == ["nothing: the guard's marker is gone"]
    stage.cluster.hosts[H1].marker = PERSONS
    await stage.clock.sleep(30)
    assert await _seen(stage) == [
        "a foreign marker, of a person at the host since 2026-01-01T00:00:00Z"
    ]
    stage.cluster.hosts[H1].marker = ours
    await stage.clock.sleep(30)
    assert await _seen(stage) == []
    assert [line.level for line in await _notes(stage)] == [
        Level.ERROR,
        Level.INFO,
        Level.ERROR,
        Level.INFO,
    ]


@story()
async def test_f113_a_proof_that_is_lost_in_maintenance_is_told_as_a_warning(
    stage: Stage,
) -> None:
    await _served(stage)
    machine = stage.cluster.hosts[H1]
    machine.has_hook, machine.guard_trouble = False, "its hook is not installed"
    await stage.clock.sleep(30)
    (line,) = await _notes(stage)
    assert line.level is Level.WARNING
    assert "its hook is not installed" in line.message
    assert await _seen(stage) == []


@story()
async def test_without_furlough_host_what_the_hypervisor_lists_is_still_seen(
    stage: Stage,
) -> None:
    await _served(stage)
    stage.cluster.hosts[H1].has_guard = False
    await stage.clock.sleep(30)
    (line,) = await _notes(stage)
    assert "furlough-host does not answer" in line.message
    _put_intruder(stage)
    await stage.clock.sleep(30)
    assert await _seen(stage) == [f"VM vm9 ({vm_id(9)})"]
    _told(stage)


# --- a person at the host ------------------------------------------------------------------------


@story()
async def test_a_maintenance_begun_at_the_host_itself_is_shown_and_respected(
    stage: Stage,
) -> None:
    stage.add_vm(1, 1)
    stage.add_vm(2, 2, presence=Presence.SHUT_OFF, has_process=False)
    stage.cluster.hosts[H2].marker = PERSONS
    await stage.start_controller()
    await stage.clock.sleep(30)
    host = await _host(stage, H2)
    assert host.kept_empty_by == "a person at the host since 2026-01-01T00:00:00Z"
    assert host.mode is HostMode.AVAILABLE
    options = EnterOptions()
    (report,) = await stage.service.check([H2], options)
    assert "host.kept_by_person" in {one.code for one in report.findings}
    with pytest.raises(Refused) as refusal:
        await stage.service.change_power(OperationKind.START_VM, vm_id(2), ActionOptions(), REQUEST)
    assert refusal.value.code == "host.kept_by_person"
    with pytest.raises(Refused) as refusal:
        await stage.service.migrate(vm_id(1), ActionOptions(target=H2), REQUEST)
    assert refusal.value.code == "host.kept_by_person"
    plan = await stage.service.plan([H1], options)
    assert all(H2 not in step.targets for step in plan.steps)


@story()
async def test_the_log_of_the_host_tells_when_a_person_took_it_and_let_it_go(
    stage: Stage,
) -> None:
    await stage.start_controller()
    stage.cluster.hosts[H2].marker = PERSONS
    await stage.clock.sleep(30)
    (line,) = await _notes(stage, H2)
    assert line.level is Level.WARNING
    assert "a person at the host" in line.message
    stage.cluster.hosts[H2].marker = None
    await stage.clock.sleep(30)
    assert (await _host(stage, H2)).kept_empty_by == ""
    assert [one.level for one in await _notes(stage, H2)] == [Level.WARNING, Level.INFO]


# --- when other things go wrong ------------------------------------------------------------------


class Hanging(SimHypervisor):
    """Hosts that accept a question and never answer it."""

    def __init__(self, stage: Stage, *hung: HostName) -> None:
        super().__init__(stage.cluster)
        self._hung = hung

    async def observe(self, host: HostName) -> HostFacts:
        if host in self._hung:
            await asyncio.Event().wait()
        return await super().observe(host)


async def _watched_by(stage: Stage, observer: Observer, seconds: float) -> Host:
    """h1 as this observer shows it after a while."""
    running = asyncio.create_task(observer.run())
    await stage.clock.sleep(seconds)
    host = (await observer.inventory()).host(H1)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return host


@story()
async def test_a_host_that_hangs_hides_no_violation_of_another_one(stage: Stage) -> None:
    await _served(stage)
    await stage.kill_controller()
    _put_intruder(stage)
    observer = Observer(Hanging(stage, H2, H3), stage.store, stage.clock)
    host = await _watched_by(stage, observer, 30)
    assert [one.what for one in host.intruders] == [f"VM vm9 ({vm_id(9)})"]
    assert [note.host for note in await stage.store.open_notes()] == [H1]


@dataclass
class Forgetful:
    """A store that is not there for the first notes."""

    store: Store
    failures: int = 3
    tried: list[object] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def note_host(self, notes: Any) -> None:
        self.tried.append(notes)
        if len(self.tried) <= self.failures:
            raise Unreachable("store.unavailable", "The database does not answer.")
        await self.store.note_host(notes)


@story()
async def test_what_the_store_could_not_keep_is_shown_and_told_to_it_again(stage: Stage) -> None:
    await _served(stage)
    await stage.kill_controller()
    _put_intruder(stage)
    store = Forgetful(store=stage.store)
    observer = Observer(SimHypervisor(stage.cluster), store, stage.clock)
    host = await _watched_by(stage, observer, 12)
    assert len(host.intruders) == 1
    assert await stage.store.open_notes() == []
    host = await _watched_by(stage, observer, 60)
    (note,) = await stage.store.open_notes()
    assert note.at == host.intruders[0].since
    assert len(store.tried) == store.failures + 1
