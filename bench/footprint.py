"""E1: what the program costs when it does nothing: memory of a daemon at rest, and how long
`furlough --help` takes, beside a bare interpreter in the same run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

from bench.figures import Report, Target, median

RUNS = 9
HELP_MS = 300.0
REST_MIB = 100.0
# The daemon has served, looked at its hosts and gone quiet by then.
_REST_S = 10.0


def run() -> Report:
    """Measure both, one after the other."""
    shown = [_timed_ms("-m", "furlough", "--help") for _ in range(RUNS)]
    bare = [_timed_ms("-c", "pass") for _ in range(RUNS)]
    resident = {"simulated": _resident_mib("--simulate")}
    if find_spec("libvirt") is not None:
        resident["libvirt, no host"] = _resident_mib()
    return Report(
        id="E1",
        title="memory at rest, and the start of the command",
        columns=["", "median", "least", "most"],
        rows=[
            ["furlough --help, ms", *_spread(shown)],
            ["python -c pass, ms", *_spread(bare)],
            *([f"daemon, {name}, MiB", f"{mib:.1f}", "", ""] for name, mib in resident.items()),
        ],
        targets=[
            Target(what="furlough --help", measured=median(shown), limit=HELP_MS, unit="ms"),
            *(
                Target(what=f"daemon, {name}", measured=mib, limit=REST_MIB, unit="MiB")
                for name, mib in resident.items()
            ),
        ],
        notes=[f"{RUNS} runs each; VmRSS {_REST_S:g} s after the start of a daemon with new data"],
        figures={"help_ms": shown, "bare_ms": bare, "resident_mib": resident},
    )


def _spread(samples: Sequence[float]) -> list[str]:
    return [f"{value:.0f}" for value in (median(samples), min(samples), max(samples))]


def _timed_ms(*words: str) -> float:
    began = perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return 1000 * (perf_counter() - began)


def _resident_mib(*options: str) -> float:
    """Resident memory of a daemon at rest, in MiB."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "furlough", "serve", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(
            [*command, "--data-dir", f"{directory}/data", *options],
            env={**os.environ, "XDG_CONFIG_HOME": directory},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(_REST_S)
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        finally:
            process.terminate()
            process.wait(timeout=30)
    (resident,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(resident.split()[1]) / 1024
