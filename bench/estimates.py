"""L1, L2: real evacuations, and what was said of them beforehand.

Needs what a lab needs: root, libvirt, QEMU. Four VMs of 160 MiB leave a host over a link of 150
Mbit/s: idle ones (L1), and such that rewrite 12 MiB at 4 MiB/s (L2). The host is entered several
times, so that all but the first plan know what the links carry.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from bench.figures import Report, Target, median
from bench.neighbours import watched_machine
from furlough.core.timing import PROOF
from furlough.errors import Bug
from furlough.lab.blueprint import Options
from furlough.lab.construction import construct
from furlough.lab.demolition import demolish
from furlough.lab.site import Site

RUNS = 3
# Of the time expected, in percent: the middle of all runs.
TARGET_PERCENT = 20.0
_HOT_MIB, _HOT_MIB_S = 12, 4
_WITHIN_S = 300
_CASES = {
    "idle": Options(vms=4, on="h1", memory_mib=160, fill_percent=60, rate_mbit_s=150),
    "writing": Options(
        vms=4,
        on="h1",
        memory_mib=160,
        fill_percent=60,
        rate_mbit_s=150,
        hot_mib=_HOT_MIB,
        hot_mib_s=_HOT_MIB_S,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Evacuation:
    """One, in seconds: what was said, and what came. `steps`: of each migration, planned and real
    seconds and pauses in ms."""

    low_s: float
    high_s: float
    expected_s: float
    took_s: float
    steps: tuple[tuple[float, float, int, int | None], ...]
    sent_mib: tuple[int, ...]
    reasons: tuple[str, ...]

    @property
    def error_percent(self) -> float:
        return 100 * abs(self.took_s / self.expected_s - 1)

    @property
    def holds(self) -> bool:
        return self.low_s <= self.took_s <= self.high_s


def idle() -> Report:
    """L1: guests that do next to nothing."""
    return _report("L1", "idle")


def writing() -> Report:
    """L2: guests that rewrite the same memory all the time."""
    return _report("L2", "writing")


def _report(which: str, case: str) -> Report:
    """Measure, and compare with the target."""
    with watched_machine() as machine:
        runs = _evacuations(case, _CASES[case])
    return Report(
        id=which,
        title=f"real evacuations of four {case} VMs over 150 Mbit/s, and their estimates",
        columns=("range", "expected", "took", "error", "inside", "steps took", "sent", "pauses"),
        rows=[_row(one) for one in runs],
        targets=[
            Target(
                what="median error of the expected time",
                measured=median([one.error_percent for one in runs]),
                limit=TARGET_PERCENT,
                unit="%",
            )
        ],
        notes=runs[-1].reasons,
        figures={
            "runs": [asdict(one) for one in runs],
            "machine_late_p95_ms": round(machine.percentile(95), 3),
        },
    )


def _row(one: Evacuation) -> tuple[str, ...]:
    ratios = sorted(real / planned for planned, real, _, _ in one.steps)
    pauses = sorted(real - planned for _, _, planned, real in one.steps if real is not None)
    return (
        f"{one.low_s:.1f}-{one.high_s:.1f} s",
        f"{one.expected_s:.1f} s",
        f"{one.took_s:.1f} s",
        f"{one.error_percent:.0f} %",
        "yes" if one.holds else "NO",
        f"{ratios[0]:.2f}-{ratios[-1]:.2f} of planned",
        f"{min(one.sent_mib)}-{max(one.sent_mib)} MiB" if one.sent_mib else "unknown",
        f"{pauses[0]:+d} to {pauses[-1]:+d} ms" if pauses else "unknown",
    )


def _evacuations(case: str, options: Options) -> list[Evacuation]:
    with _furlough(f"l{case[:1]}{os.getpid()}", options) as furlough:
        found = []
        for _ in range(RUNS):
            plan = furlough("plan", "h1", "--json")
            entered = furlough("enter", "h1", "--wait", "--json")
            furlough("exit", "h1", "--wait", "--json")
            found.append(_evacuation(plan, entered))
            print("  ".join(_row(found[-1])), *found[-1].reasons, sep="\n  ", flush=True)
        return found


def _evacuation(plan: Any, entered: Any) -> Evacuation:
    planned = {one["vm_uuid"]: one for one in plan["steps"] if one["method"] == "live"}
    real = {one["vm_uuid"]: one for one in entered["steps"] if one["method"] == "live"}
    began, ended = (datetime.fromisoformat(entered[one]) for one in ("started_at", "finished_at"))
    return Evacuation(
        low_s=plan["eta_s"]["low"],
        high_s=plan["eta_s"]["high"],
        expected_s=max(one["start_s"] + one["duration_s"] for one in planned.values()) + PROOF.low,
        took_s=(ended - began).total_seconds(),
        steps=tuple(
            (
                one["duration_s"],
                real[vm]["duration_s"],
                one["downtime_ms"],
                real[vm]["downtime_ms"],
            )
            for vm, one in planned.items()
        ),
        sent_mib=tuple(one["bytes"] // 2**20 for one in real.values() if one["bytes"]),
        reasons=tuple(plan["eta_reasons"]),
    )


@contextmanager
def _furlough(name: str, options: Options) -> Iterator[Any]:
    """The `furlough` command of a user of a lab; what it prints as JSON."""
    with tempfile.TemporaryDirectory() as config:
        os.environ["XDG_CONFIG_HOME"] = config

        def furlough(*words: str) -> Any:
            ended = subprocess.run(
                [sys.executable, "-m", "furlough", *words],
                capture_output=True,
                check=False,
                text=True,
                timeout=_WITHIN_S,
            )
            if ended.returncode:
                raise Bug("bench.failed", f"furlough {' '.join(words)}: {ended.stderr}")
            return json.loads(ended.stdout)

        try:
            construct(name, options, has_daemon=True)
            yield furlough
        finally:
            demolish(Site.named(name))
            del os.environ["XDG_CONFIG_HOME"]
