"""What a daemon that plans nothing carries in memory: no arrays, and never a solver."""

from __future__ import annotations

import subprocess
import sys

_LOADED = "import sys; {work}; print(' '.join(sorted({{'numpy', 'ortools'}} & set(sys.modules))))"


def _loaded_by(work: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED.format(work=work)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_a_daemon_at_rest_has_loaded_no_arrays() -> None:
    assert _loaded_by("import furlough.daemon") == []


def test_who_plans_loads_arrays_and_no_solver() -> None:
    assert _loaded_by("import furlough.planning.live_packing") == ["numpy"]
