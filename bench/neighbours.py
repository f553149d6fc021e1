"""How late the machine itself is, while something is measured: a process of its own that does
nothing but sleep, and says how much longer each sleep took than asked for.

On a machine of one's own that is well below a millisecond. Where others work on it, no figure of
wall time means much that is not far above this one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.figures import percentile

_SLEEPER = """
import json, select, sys, time
late = []
while not select.select([sys.stdin], [], [], 0)[0]:
    began = time.perf_counter()
    time.sleep(0.02)
    late.append(1000 * (time.perf_counter() - began - 0.02))
json.dump(late, sys.stdout)
"""


class Lateness:
    """Filled in when the watch is over: milliseconds, in the order of the sleeps."""

    def __init__(self) -> None:
        self.samples: list[float] = []

    def percentile(self, percent: float) -> float:
        """What `percent` of the sleeps did not exceed, in ms."""
        return percentile(self.samples, percent)


@contextmanager
def watched_machine() -> Iterator[Lateness]:
    """Watch the machine while the block runs."""
    found = Lateness()
    with subprocess.Popen(
        [sys.executable, "-c", _SLEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sleeper:
        yield found
        answer, _ = sleeper.communicate("enough\n")
    found.samples += json.loads(answer)
