"""The columns of the matrix: how a migration is brought into each of its phases and kept there, and
how it is seen to be in it. Nothing is inferred from time alone.

    prepare      the target's QEMU waits, its daemon's answer to that is on its way
    early        the memory is copied for the first time
    late         memory that was rewritten meanwhile is copied again
    switchover   the CPUs stand still on the source, the last memory is on its way
    finish       the target has finished, its daemon's answer to that is on its way
    confirm      the source's daemon knows, and has just ended its own process
"""

from __future__ import annotations

from dataclasses import dataclass

from furlough.lab.host import Host
from furlough.lab.patience import wait_until
from tests.lab.matrix import gates
from tests.lab.matrix.stage import VM, Stage

# libvirt's numbers of two procedures that a source's daemon calls on the target's.
PREPARED, FINISHED = "answer 303", "answer 306"
EARLY_MBIT_S, LATE_MBIT_S, LATER_MBIT_S, LAST_MBIT_S = 8, 60, 16, 5
LATE_ROUND = 3
PATIENCE_MS = 60_000
WITHIN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A stage with a migration on it, which is on its way to this target."""

    stage: Stage
    operation: str
    target: Host


class Phase:
    """One column. Phases that stand before a gate end only when it is opened."""

    name: str

    def arrange(self, stage: Stage) -> None:
        """Before the operation begins: so that the phase will last."""

    def is_on(self, stage: Stage) -> bool:
        """Whether the migration is seen to be in it."""
        raise NotImplementedError

    def let_go(self, stage: Stage) -> None:
        """The migration may go on, as far as it can."""
        stage.source.set_rate(None)

    def reach(self, stage: Stage) -> None:
        """Wait until the migration is in it."""
        self.wait(stage)

    def wait(self, stage: Stage) -> None:
        wait_until(lambda: self.is_on(stage), self.name, timeout_s=WITHIN_S, interval_s=0.05)


@dataclass(frozen=True)
class Answering(Phase):
    """While an answer of the target's daemon is on its way."""

    name: str
    answer: str

    def arrange(self, stage: Stage) -> None:
        for target in stage.targets:
            gates.messages_to(target).close(self.answer)

    def is_on(self, stage: Stage) -> bool:
        return any(gates.messages_to(target).is_holding for target in stage.targets)

    def let_go(self, stage: Stage) -> None:
        for target in stage.targets:
            gates.messages_to(target).let_go()


@dataclass(frozen=True)
class Confirming(Phase):
    """While the source's daemon stands in its hook, the process just ended."""

    name: str = "confirm"

    def arrange(self, stage: Stage) -> None:
        gates.endings_on(stage.source).close(VM)

    def is_on(self, stage: Stage) -> bool:
        return gates.endings_on(stage.source).is_holding and not stage.emulators(stage.source)

    def let_go(self, stage: Stage) -> None:
        gates.endings_on(stage.source).let_go()


@dataclass(frozen=True)
class EarlyCopying(Phase):
    """The first round."""

    name: str = "early pre-copy"

    def arrange(self, stage: Stage) -> None:
        stage.source.set_rate(EARLY_MBIT_S)

    def is_on(self, stage: Stage) -> bool:
        job = stage.job()
        has_sent = not job.get("Memory processed", "0.000").startswith("0.000")
        return has_sent and round_of(job) == 1


@dataclass(frozen=True)
class LateCopying(Phase):
    """A later round, which over a slow link is not the last."""

    name: str = "late pre-copy"

    def arrange(self, stage: Stage) -> None:
        stage.source.set_rate(LATE_MBIT_S)

    def reach(self, stage: Stage) -> None:
        self.wait(stage)
        stage.source.set_rate(LATER_MBIT_S)

    def is_on(self, stage: Stage) -> bool:
        return round_of(stage.job()) >= LATE_ROUND and stage.state_on(stage.source) == "running"


@dataclass(frozen=True)
class SwitchingOver(LateCopying):
    """Somebody allows a long pause, so QEMU stops the CPUs now; over a slow link it lasts."""

    name: str = "switchover"

    def reach(self, stage: Stage) -> None:
        late = LateCopying()
        late.wait(stage)
        stage.source.set_rate(LAST_MBIT_S)
        stage.source.virsh("migrate-setmaxdowntime", VM, str(PATIENCE_MS))
        self.wait(stage)

    def is_on(self, stage: Stage) -> bool:
        return stage.state_on(stage.source) == "paused" and round_of(stage.job()) >= LATE_ROUND


def round_of(job: dict[str, str]) -> int:
    """Which time the memory is copied; 0 where nothing is."""
    return int(job.get("Iteration", "0"))


PREPARE: Phase = Answering("prepare", PREPARED)
EARLY: Phase = EarlyCopying()
LATE: Phase = LateCopying()
SWITCHOVER: Phase = SwitchingOver()
FINISH: Phase = Answering("finish", FINISHED)
CONFIRM: Phase = Confirming()
PHASES = (PREPARE, EARLY, LATE, SWITCHOVER, FINISH, CONFIRM)
# Columns to be, and why they are not there.
MISSING = {"post-copy": "no cell breaks one yet"}
