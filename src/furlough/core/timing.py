"""How long things take that take the same everywhere, and lengths of time not known exactly.

Constants are those of measured libvirt and QEMU (docs/explanation/estimates.md). This stands apart
from `estimate`, so that plans from files need not load what only live hosts have.
"""

from __future__ import annotations

from dataclasses import dataclass

SET_UP_S = 0.6
FINISH_S = 0.4
# Of the finish, what passes before the guest runs again.
START_CPUS_S = 0.1
# The longest pause of a guest at the end of a live migration.
DOWNTIME_LIMIT_S = 0.3
LINK_EFFICIENCY = 0.94
# Guesses, not measurements: a guest that obeys, a start up to the running process, a local disk.
SHUT_DOWN_S = 20.0
START_S = 5.0
SAVE_MIB_S = 200.0
# A definition, with firmware variables and the like: some calls, each short.
REDEFINE_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Range:
    """An estimate that admits what it does not know, in seconds."""

    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        """One after the other."""
        return Range(low=round(self.low + other.low, 1), high=round(self.high + other.high, 1))


NO_TIME = Range(low=0.0, high=0.0)
# Two looks at an empty host, with a pause of two seconds between.
PROOF = Range(low=2.0, high=3.0)
