"""Every promise about what is done, or has to come in time, is seen to fire."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from furlough.core.ids import HostName, VmId
from furlough.core.looks import Look, Presence
from furlough.core.operation import Operation, Step
from furlough.core.plan import Handover, Method
from furlough.core.policy import CancelMode
from furlough.core.states import HostMode, OperationState, StepState
from furlough.ports import MigrationOrder
from furlough.scenario import effects, liveness
from furlough.scenario.effects import Effect
from furlough.scenario.liveness import Liveness
from furlough.scenario.promises import Books
from furlough.scenario.stage import Setting, Stage, open_stage, vm_id
from furlough.sim.clock import EPOCH, run_virtually
from tests.engine.stories import H1, H2, H3, entered

V1 = vm_id(1)


class Scene:
    """A good evacuation of h1, and the migration of the first VM as if it were still on."""

    def __init__(self, stage: Stage, final: Operation, books: Books) -> None:
        self.stage, self.cluster = stage, stage.cluster
        done = next(step for step in final.steps if step.planned.vm == V1)
        self.step = replace(done, state=StepState.STARTED, ended_at=None)
        self.running = self.with_step(final, self.step)
        self.books = replace(books, operations={final.id: self.running})
        target = self.step.target
        assert target is not None
        self.order = MigrationOrder(
            vm=V1,
            source=H1,
            target=target,
            handover=self.step.attempts[-1].handover,
            carries_definition=True,
            waives_storage_check=False,
            operation=final.id,
            epoch=self.step.attempts[-1].epoch,
        )

    def with_step(self, operation: Operation, step: Step) -> Operation:
        """The operation, running, with this step as it is here."""
        steps = tuple(step if one.number == step.number else one for one in operation.steps)
        return replace(operation, state=OperationState.RUNNING, steps=steps)

    def migration(self, **changes: object) -> Effect:
        """The call of the migration, with its order changed."""
        order = replace(self.order, **changes)  # type: ignore[arg-type]
        return Effect(
            name="migrate_live",
            host=H1,
            vm=order.vm,
            epoch=order.epoch,
            operation=order.operation,
            order=order,
        )

    def look(self, host: HostName, presence: Presence) -> dict[HostName, Look]:
        """What a host has said of the VM."""
        return {host: Look(host=host, at=EPOCH, presence=presence)}


def as_meant(scene: Scene) -> Iterable[str]:
    effect = scene.migration()
    yield from effects.without_intent(scene.books, effect, is_stale=False)
    yield from effects.repeated(effect, scene.books, {V1: 1})
    yield from effects.too_many(scene.cluster, scene.books, scene.order)


def s6_other_target(scene: Scene) -> Iterable[str]:
    other = H3 if scene.order.target == H2 else H2
    return effects.without_intent(scene.books, scene.migration(target=other), is_stale=False)


def s6_no_act(scene: Scene) -> Iterable[str]:
    effect = Effect(name="resume", host=H2, vm=V1, epoch=1)
    step = replace(scene.step, attempts=(replace(scene.step.attempts[-1], acts=()),))
    books = replace(
        scene.books, operations={scene.running.id: scene.with_step(scene.running, step)}
    )
    return effects.without_intent(books, effect, is_stale=False)


def s5_higher_epoch(scene: Scene) -> Iterable[str]:
    return effects.without_intent(scene.books, scene.migration(epoch=99), is_stale=True)


def s18(scene: Scene) -> Iterable[str]:
    stranger = VmId("00000000-0000-4000-8000-000000000999")
    return effects.without_intent(scene.books, scene.migration(vm=stranger), is_stale=False)


def s7(scene: Scene) -> Iterable[str]:
    return effects.repeated(scene.migration(), scene.books, {V1: 2})


def s15_power_off(scene: Scene) -> Iterable[str]:
    effect = Effect(name="power_off", host=H1, vm=V1, epoch=1)
    return effects.without_evidence(effect, scene.step, scene.look(H2, Presence.ABSENT))


def s15_undefine(scene: Scene) -> Iterable[str]:
    effect = Effect(name="undefine", host=H1, vm=V1, epoch=1)
    return effects.without_evidence(effect, scene.step, scene.look(H2, Presence.SHUT_OFF))


def s14_no_locks(scene: Scene) -> Iterable[str]:
    scene.stage.add_vm(1, 1)
    effect = scene.migration(handover=Handover.NORMAL)
    return effects.takes_a_silent_risk(scene.cluster, effect, scene.step)


def s14_waived(scene: Scene) -> Iterable[str]:
    effect = scene.migration(waives_storage_check=True)
    return effects.takes_a_silent_risk(scene.cluster, effect, scene.step)


def s14_power(scene: Scene) -> Iterable[str]:
    step = replace(scene.step, planned=replace(scene.step.planned, method=Method.SHUT_DOWN))
    effect = Effect(name="power_off", host=H1, vm=V1, epoch=1)
    return effects.takes_a_silent_risk(scene.cluster, effect, step)


def s13_mode(scene: Scene) -> Iterable[str]:
    free = replace(scene.books.standings[H1], mode=HostMode.CORDONED)
    books = replace(scene.books, standings={H1: free})
    return effects.cuts_a_host(scene.cluster, books, Effect(name="reboot", host=H1))


def s13_not_empty(scene: Scene) -> Iterable[str]:
    scene.stage.add_vm(1, 7)
    return effects.cuts_a_host(scene.cluster, scene.books, Effect(name="reboot", host=H1))


def s1_beside(scene: Scene) -> Iterable[str]:
    effect = Effect(name="resume", host=H1, vm=V1, epoch=1)
    return effects.resumes_beside(effect, scene.look(H2, Presence.RUNNING))


def l1_late(scene: Scene) -> Iterable[str]:
    late = replace(scene.running, deadline=EPOCH)
    return liveness.late(late, EPOCH + timedelta(seconds=152), EPOCH)


BROKEN = {
    "S6, another target": s6_other_target,
    "S6, no act": s6_no_act,
    "S6, an epoch of the future": s5_higher_epoch,
    "S18, a stranger": s18,
    "S7, once more": s7,
    "S15, power off": s15_power_off,
    "S15, undefine": s15_undefine,
    "S14, no locks": s14_no_locks,
    "S14, a check waived": s14_waived,
    "S14, the power of a VM": s14_power,
    "S13, not in maintenance": s13_mode,
    "S13, not empty": s13_not_empty,
    "S1, beside another": s1_beside,
    "L1, late": l1_late,
}


def set_scene(tell: Callable[[Scene], Iterable[str]]) -> list[str]:
    async def play() -> list[str]:
        async with open_stage(Setting(hosts=3, is_shaken=True)) as stage:
            for number in (1, 2):
                stage.add_vm(1, number)
            await stage.start_controller()
            await stage.clock.sleep(1)
            final = await entered(stage)
            assert not stage.invariants.violations
            scene = Scene(stage, final, await stage.invariants.books(with_room=True))
            return list(tell(scene))

    return run_virtually(play())


def test_what_was_meant_breaks_nothing() -> None:
    assert set_scene(as_meant) == []


@pytest.mark.parametrize("name", BROKEN)
def test_an_effect_that_breaks_a_promise_is_told(name: str) -> None:
    found = set_scene(BROKEN[name])
    assert found
    assert all(words.startswith(name.split(",", maxsplit=1)[0]) for words in found)


# --- in time -------------------------------------------------------------------------------------


def l2(scene: Scene) -> Operation:
    return scene.running


def l3(scene: Scene) -> Operation:
    return replace(scene.running, state=OperationState.CANCELLING, cancel=CancelMode.STOP)


def l4(scene: Scene) -> Operation:
    return replace(scene.running, owner="controller:dead")


def l5(scene: Scene) -> Operation:
    """The VM is still on h1, its step may start, and the operation waits for something else."""
    scene.stage.add_vm(1, 1)
    step = replace(scene.step, state=StepState.PENDING, attempts=())
    blocked = replace(scene.with_step(scene.running, step), state=OperationState.BLOCKED)
    return replace(blocked, code="vm.busy", waiting_for="another VM")


OWED = {"L1": l2, "L2": l2, "L3": l3, "L4": l4, "L5": l5}


@pytest.mark.parametrize("promise", OWED)
def test_what_does_not_come_in_time_is_told(promise: str) -> None:
    async def play() -> list[str]:
        async with open_stage(Setting(hosts=3, is_shaken=True)) as stage:
            for number in (1, 2):
                stage.add_vm(1, number)
            await stage.start_controller()
            await stage.clock.sleep(1)
            final = await entered(stage)
            scene = Scene(stage, final, await stage.invariants.books())
            operation = OWED[promise](scene)
            books = replace(scene.books, operations={operation.id: operation})
            watch = Liveness(lease_s=15.0)
            assert not list(watch.sample(stage.cluster, books, (), EPOCH))
            await stage.clock.sleep(600)
            return list(watch.sample(stage.cluster, books, (), EPOCH))

    found = run_virtually(play())
    assert any(words.startswith(promise) for words in found), found
