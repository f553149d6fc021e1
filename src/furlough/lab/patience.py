"""Waiting in the lab: the only place that sleeps or reads a clock here.

The lab is command-line work without an event loop, so it cannot use the async clock.
"""

import time
from collections.abc import Callable

from furlough.errors import Unreachable


def unix_now() -> float:
    """Seconds since 1970, as the witness writes them."""
    return time.time()


def wait_until(
    holds: Callable[[], bool], what: str, *, timeout_s: float, interval_s: float = 0.02
) -> float:
    """Return after how many seconds `holds` became true; Unreachable if it did not in time."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > timeout_s:
            raise Unreachable(
                "lab.timeout",
                f"Waited {timeout_s:g} s for {what}, in vain.",
                remedy="Look at the logs in the lab's directory, or take the lab down.",
            )
        time.sleep(interval_s)
    return time.monotonic() - started
