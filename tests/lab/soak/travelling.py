"""Real migrations in a row: all VMs of a lab go round its hosts, several at once, through the
product. After every round each VM is looked for on every host, and the guests say the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from furlough.client import Client
from furlough.core.states import StepState, is_final
from furlough.lab.lab import Lab
from furlough.lab.patience import unix_now, wait_until
from furlough.wire.operations import OperationView, StepView

ROUND_WITHIN_S = 120.0
Tell = Callable[[str], None]


@dataclass
class Tally:
    """What came of all migrations so far. `again`: attempts beyond the first of a step; `commits`:
    the code that made them, in the order in which runs began."""

    migrations: int = 0
    again: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    in_doubt: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    longest_gap_ms: int = 0
    commits: list[str] = field(default_factory=list)

    @classmethod
    def kept_in(cls, path: Path) -> Tally:
        """What earlier runs have left in a file; nothing, where there is none."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()

    def keep(self, path: Path) -> None:
        """For the next run: what went wrong stays on record until somebody removes the file."""
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        aside.replace(path)

    @property
    def summary(self) -> str:
        """One line."""
        return (
            f"{self.migrations} migrations in {self.seconds:.0f} s, {self.again} tried again, "
            f"{len(self.failures)} failed, {len(self.in_doubt)} left in doubt, "
            f"{len(self.lost)} VMs lost, {len(self.doubled)} doubled, "
            f"longest pause of a guest {self.longest_gap_ms} ms"
        )


def travel(
    lab: Lab, client: Client, wanted: int, *, within_s: float, tally: Tally, tell: Tell
) -> None:
    """Migrations until the tally has so many, as long as there is time for another round of them;
    told after every round."""
    began, before_s = unix_now(), tally.seconds
    for number in count(1):
        if tally.migrations >= wanted or unix_now() - began > within_s:
            break
        since = unix_now()
        make_round(lab, client, tally, shift=number)
        look(lab, tally, since)
        tally.seconds = before_s + unix_now() - began
        tell(tally.summary)


def make_round(lab: Lab, client: Client, tally: Tally, *, shift: int) -> None:
    """Every VM to the host after its own: all are asked for at once, limits let in who may go."""
    names = [host.name for host in lab.hosts]
    asked = []
    for number, vm in enumerate(lab.blueprint.vms):
        target = names[(number + shift) % len(names)]
        if vm.name not in lab.host(target).vms():
            asked.append(client.act_on_vm("migrate", vm.uuid, {"target": target}).id)
    wait_until(
        lambda: all(is_final(client.operation(one).state) for one in asked),
        f"a round of {len(asked)} migrations to end", timeout_s=ROUND_WITHIN_S, interval_s=0.2,
    )  # fmt: skip
    for one in asked:
        count_in(tally, client.operation(one))


def count_in(tally: Tally, operation: OperationView) -> None:
    """What came of one operation."""
    for step in operation.steps:
        if step.vm_uuid is None:
            continue
        if step.state is StepState.SUCCEEDED:
            tally.migrations += 1
        tally.again += max(0, step.attempts - 1)
        note_trouble(tally, operation, step)


def note_trouble(tally: Tally, operation: OperationView, step: StepView) -> None:
    """A step that did not come through, or of which nobody knows whether it did."""
    words = f"{operation.id} {step.vm_name}: {step.state.value} {operation.code} {step.error}"
    if step.state is StepState.STARTED:
        tally.in_doubt.append(words)
    elif step.state is not StepState.SUCCEEDED:
        tally.failures.append(words)


def look(lab: Lab, tally: Tally, since: float) -> None:
    """Every VM on one host, by every host's own word, and nobody ever on two by the guests'."""
    placement = lab.placement()
    for vm in lab.vm_names:
        where = [host for host, vms in placement.items() if vm in vms]
        if len(where) != 1:
            (tally.doubled if where else tally.lost).append(f"{vm} on {where}")
    # Nobody has stopped for good: each has said something since the round ended.
    lab.wait_for_guests(since=unix_now(), timeout_s=30)
    for report in lab.witness(since=since):
        tally.doubled += [f"{report.vm}: {double}" for double in report.doubles]
        if report.longest_gap is not None:
            tally.longest_gap_ms = max(tally.longest_gap_ms, report.longest_gap.milliseconds)
