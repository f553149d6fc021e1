"""One cell of the matrix: a fault in a phase, played on real hosts and judged.

    arrange ─ enter ─ reach the phase ─ still in it? ─ strike ─ let go ─ mend ─ wait ─ judge
                                             │            └ too late, or nothing was hit ┐
                                             └ no: void, play it again ◄─────────────────┘

Void is never passed. What must hold at the end of each is here, in `judge`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from furlough.core.states import OperationState, is_final
from furlough.errors import FurloughError
from furlough.lab.patience import unix_now, wait_until
from furlough.wire.operations import OperationView
from tests.lab.matrix.phases import PHASES, Phase, Scene
from tests.lab.matrix.stage import VM, Stage
from tests.lab.matrix.victims import GIVEN_UP_WITHIN_S, TOLD_WITHIN_S, VICTIMS, Victim

TRIES = 3
# How long an operation must have been asking the same before it counts as an ending: by itself
# a settling goes on once it has seen the same for nine seconds.
STEADY_S = 12.0
ENDS_WITHIN_S = 200.0
# A retry waits a minute after a daemon was lost: who only wants to see it settled need not.
SETTLES_WITHIN_S = 60.0
# A phase that stands before a gate stays; the others last at least this long, by what is left to
# copy and by the link's rate.
STRIKES_WITHIN_S = 2.0


class NeverHit(AssertionError):
    """The fault did not hit its phase in any try: nothing was learned, and nothing passed."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A row and a column."""

    victim: Victim
    phase: Phase

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.victim.name} in {self.phase.name}"

    @property
    def why_absent(self) -> str:
        """Why there is no such cell; empty where there is."""
        return self.victim.absent.get(self.phase, "")


ALL = tuple(Cell(victim=victim, phase=phase) for victim in VICTIMS for phase in PHASES)
EXISTING = tuple(cell for cell in ALL if not cell.why_absent)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What a cell came to: the operation's last state and code and what it waits for, what became
    of the VM and where it is, what was said while it lasted, how often it was void, how long it
    took from the strike to the end (s), and the longest pause of the guest (ms)."""

    cell: Cell
    state: str
    code: str
    waiting_for: str
    outcome: str
    host: str
    attempts: int
    first_error: str
    told: str
    voids: int
    over_s: float
    gap_ms: int | None


def play(stage: Stage, cell: Cell, *, is_cut_short: bool = False) -> Ending:
    """Play a cell until it is not void. `is_cut_short`: once it is settled what became of the
    attempt, somebody cancels, instead of waiting for the next one."""
    for voids in range(TRIES):
        stage.clear()
        since = unix_now()
        scene = begin(stage, cell.phase)
        struck = strike(scene, cell)
        if struck is None:
            continue
        told = mend(scene, cell.victim)
        if is_cut_short:
            cut_short(scene)
        ended = wait_for_end(scene)
        return judge(scene, cell, ended, since=since, struck=struck, told=told, voids=voids)
    raise NeverHit(
        f"{cell.name}: void {TRIES} times: the phase was over before the strike, or that took "
        f"longer than {STRIKES_WITHIN_S:.0f} s"
    )


def begin(stage: Stage, phase: Phase) -> Scene:
    """An operation whose migration is in this phase."""
    phase.arrange(stage)
    operation = stage.enter()
    phase.reach(stage)
    return Scene(stage=stage, operation=operation, target=stage.target_of(operation))


def strike(scene: Scene, cell: Cell) -> float | None:
    """Break it; when that was, or None if the phase may have been over, or nothing was hit."""
    if not cell.phase.is_on(scene.stage):
        return None
    seen = unix_now()
    cell.victim.strike(scene)
    is_late = unix_now() - seen > STRIKES_WITHIN_S
    cell.phase.let_go(scene.stage)
    return None if is_late or not cell.victim.has_hit(scene) else seen


def mend(scene: Scene, victim: Victim) -> str:
    """Leave it broken until the product says so, or for as long as it could be expected to; then
    mend it. What was said."""
    told: list[str] = []

    def is_told() -> bool:
        operation = scene.stage.operation(scene.operation)
        if operation.code:
            told.append(operation.code)
        return bool(operation.code) or is_final(operation.state)

    if victim.gives_up:
        wait_until(
            lambda: errors_of(scene)[:1] == [victim.gives_up], f"to end as {victim.gives_up}",
            timeout_s=GIVEN_UP_WITHIN_S, interval_s=0.3,
        )  # fmt: skip
        told.append(victim.gives_up)
    elif victim.lasts:
        until = unix_now() + TOLD_WITHIN_S
        wait_until(
            lambda: is_told() or unix_now() > until, "to be told", timeout_s=60, interval_s=0.3
        )
        is_said = bool(told) or not victim.is_missed
        assert is_said, f"{victim.name}: nothing was said about it for {TOLD_WITHIN_S} s"
    victim.mend(scene)
    return told[-1] if told else ""


def errors_of(scene: Scene) -> list[str]:
    """The codes of the attempts that have failed so far."""
    vms = scene.stage.operation(scene.operation).vms
    tried = [one for vm in vms if vm.name == VM for one in vm.attempts]
    return [one.error.code for one in tried if one.error is not None]


def cut_short(scene: Scene) -> None:
    """Cancel, once it is certain what became of the attempt that was struck."""

    def is_settled() -> bool:
        operation = scene.stage.operation(scene.operation)
        tried = [one for vm in operation.vms if vm.name == VM for one in vm.attempts]
        is_known = bool(tried) and tried[0].error is not None
        return is_known or is_final(operation.state) or is_asking(operation)

    wait_until(is_settled, "the attempt to be settled", timeout_s=SETTLES_WITHIN_S, interval_s=0.3)
    if not is_asking(scene.stage.operation(scene.operation)):
        with suppress(FurloughError):  # It may be over by now.
            scene.stage.client.cancel(scene.operation, "stop")


def wait_for_end(scene: Scene) -> OperationView:
    """Until the operation is over, or has been waiting for the same thing for long enough. One that
    does neither hangs, which is what this matrix is to find."""
    seen: list[tuple[str, float]] = [("", unix_now())]

    def is_over() -> bool:
        operation = scene.stage.operation(scene.operation)
        said = f"{operation.code} {operation.waiting_for}"
        if said != seen[0][0]:
            seen[0] = (said, unix_now())
        is_steady = is_asking(operation) and unix_now() - seen[0][1] >= STEADY_S
        return is_final(operation.state) or is_steady

    wait_until(is_over, f"{scene.operation} to end", timeout_s=ENDS_WITHIN_S, interval_s=0.3)
    return scene.stage.operation(scene.operation)


def is_asking(operation: OperationView) -> bool:
    """Whether it says that it waits for a person. A host that is silent will speak again by itself:
    everything is mended by then."""
    return operation.state is OperationState.BLOCKED and operation.code != "host.silent"


# --- judging -----------------------------------------------------------------------------------


def judge(
    scene: Scene, cell: Cell, ended: OperationView, *, since: float, struck: float, told: str,
    voids: int,
) -> Ending:  # fmt: skip
    """Everything that must be so, whatever has happened; and what has happened."""
    over_s = unix_now() - struck
    stage, operation = scene.stage, scene.operation
    shown = stage.fleet.operation(operation)
    (vm,) = [one for one in shown["vms"] if one["name"] == VM]
    seen = check_one_copy(stage, since)
    check_accounted(stage, cell, shown, vm, seen)
    check_said(ended)
    if cell.victim.is_unfelt:
        assert (ended.state, len(vm["attempts"])) == (OperationState.SUCCEEDED, 1), shown
    (report,) = [one for one in stage.fleet.lab.witness(since=since) if one.vm == VM]
    errors = [one["error"]["code"] for one in vm["attempts"] if one["error"]]
    return Ending(
        cell=cell, state=ended.state.value, code=ended.code or "",
        waiting_for=ended.waiting_for or "", outcome=vm["outcome"],
        host="" if not seen else seen[0],
        attempts=len(vm["attempts"]), first_error=errors[0] if errors else "",
        told=told, voids=voids, over_s=over_s,
        gap_ms=report.longest_gap.milliseconds if report.longest_gap else None,
    )  # fmt: skip


def check_one_copy(stage: Stage, since: float) -> list[str]:
    """S1: by what the guests wrote, and by a look at every host now. Where the VM runs now."""
    for report in stage.fleet.lab.witness(since=since):
        assert report.doubles == (), f"{report.vm} ran twice at once: {report.doubles}"
    seen = [host.name for host in stage.fleet.lab.hosts if stage.state_on(host) == "running"]
    assert len(seen) <= 1, f"{VM} runs on {seen}"
    for number, bystander in enumerate(stage.targets, start=2):
        assert bystander.virsh("domstate", f"vm{number}").strip() == "running"
    return seen


def check_accounted(stage: Stage, cell: Cell, shown: Any, vm: Any, seen: list[str]) -> None:
    """S2: the VM is where the operation says; it is lost only where nobody could have kept it, and
    then that is said with what to do."""
    may_die = cell.phase in cell.victim.costs_it
    if not seen:
        is_kept = any(stage.emulators(host) for host in stage.fleet.lab.hosts)
        is_paused = shown["state"] == "blocked" and is_kept
        assert may_die or is_paused, f"{cell.name}: {VM} runs nowhere: {shown}"
    else:
        assert vm["host"] == seen[0], f"{VM} is on {seen}, and said to be on {vm['host']}"
        assert vm["power"] == "running"
    if vm["outcome"] != "moved" and shown["state"] != "blocked":
        assert vm["remedy"], f"nothing is said about what to do with {vm}"
    if shown["state"] == "succeeded":
        assert vm["outcome"] == "moved"
        assert stage.source.vms("--all") == []
        assert stage.emulators(stage.source) == []
        assert stage.fleet.modes()["h1"] == "maintenance"


def check_said(ended: OperationView) -> None:
    """It is over, or it says what it waits for; a failure says why."""
    assert is_final(ended.state) or (ended.code and ended.waiting_for), ended
    if ended.state is not OperationState.SUCCEEDED:
        assert ended.code, ended
