"""Run benchmarks by their ids."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import structlog

from bench import (
    checked,
    estimates,
    footprint,
    history,
    overhead,
    placement,
    prechecks,
    rolling,
    wire_lab,
    wire_sim,
)
from bench.figures import Report
from furlough import __version__
from furlough.clock import RealClock

BENCHMARKS: Mapping[str, Callable[[], Report]] = {
    "A1": placement.a1,
    "A2": placement.a2,
    "A3": placement.a3,
    "A4": placement.a4,
    "A5": placement.a5,
    "A6": placement.a6,
    "A7": placement.a7,
    "B1": wire_sim.idle,
    "B2": wire_sim.writing,
    "B4": wire_lab.idle,
    "B5": wire_lab.writing,
    "B6": wire_lab.restless,
    "C1": overhead.run,
    "D1": rolling.rolling_small,
    "D2": rolling.rolling_in_time,
    "D3": rolling.rolling_large,
    "D4": checked.checked_plans,
    "E1": footprint.run,
    "L1": estimates.idle,
    "L2": estimates.writing,
    "P1": prechecks.run,
}
# They build labs, as root, and take minutes: only when asked for by name.
BY_NAME = {"B4", "B5", "B6", "L1", "L2"}
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Run what is asked for; 1 if any target was missed."""
    parser = argparse.ArgumentParser(prog="bench", description="Benchmarks, with their targets.")
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--history", action="store_true", help="show earlier runs, run nothing")
    given = parser.parse_args()
    wanted = given.ids or [one for one in BENCHMARKS if one not in BY_NAME]
    unknown = sorted(set(wanted) - set(BENCHMARKS))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}")
    if given.history:
        print(history.course(given.ids))
        return 0
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    met = [_run(which) for which in wanted]
    return 0 if all(met) else 1


def _run(which: str) -> bool:
    """Run one, print it, keep it; whether it met its targets."""
    when = history.circumstances(RealClock().now())
    report = BENCHMARKS[which]()
    print(report.text(), flush=True)
    _keep(report)
    history.append(report, when)
    return report.is_met


def _keep(report: Report) -> None:
    """The figures as JSON, with what they were measured on."""
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "id": report.id,
        "at": RealClock().now().astimezone(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": {
            "processors": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
            "load_average": os.getloadavg()[0],
        },
        **report.content(),
    }
    stamp = f"{datetime.fromisoformat(str(kept['at'])):%Y%m%dT%H%M%SZ}"
    path = RESULTS / f"{report.id}-{stamp}.json"
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(f"Kept in {path.relative_to(Path(__file__).parents[1])}.")


if __name__ == "__main__":
    sys.exit(main())
