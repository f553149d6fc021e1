"""Wrong passwords cost time: the more of them, the longer the next try has to wait.

Counted for an account from one address, and for an address whatever account it tries. So nobody
locks somebody else out: from another address the right password gets in at once.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_FREE_FOR_ACCOUNT = 3
_FREE_FOR_ADDRESS = 20
_LONGEST_WAIT_S = 60.0
_FORGOTTEN_AFTER_S = 3600.0
_MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class _Count:
    tries: int
    at_s: float


class Throttle:
    """Remembers failures. Instants are seconds that never jump, and are told by the caller."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, str], _Count] = OrderedDict()

    def wait_s(self, account: str, address: str, now_s: float) -> float:
        """How long this try has to wait yet; 0: none. Asking counts as a try until `succeeded`
        says otherwise, so tries made at the same time are all counted."""
        keys = ((account, address), _FREE_FOR_ACCOUNT), (("", address), _FREE_FOR_ADDRESS)
        wait_s = max(self._left_s(key, free, now_s) for key, free in keys)
        if wait_s <= 0:
            for key, _ in keys:
                self._count(key, now_s)
        return max(wait_s, 0.0)

    def succeeded(self, account: str, address: str) -> None:
        """It was the right password: what went wrong before is forgotten."""
        self._counts.pop((account, address), None)
        self._counts.pop(("", address), None)

    def _left_s(self, key: tuple[str, str], free: int, now_s: float) -> float:
        known = self._counts.get(key)
        if known is None or now_s - known.at_s > _FORGOTTEN_AFTER_S or known.tries < free:
            return 0.0
        delay_s = min(2.0 ** min(known.tries - free, 16), _LONGEST_WAIT_S)
        return known.at_s + delay_s - now_s

    def _count(self, key: tuple[str, str], now_s: float) -> None:
        known = self._counts.pop(key, None)
        is_old = known is None or now_s - known.at_s > _FORGOTTEN_AFTER_S
        tries = 0 if known is None or is_old else known.tries
        self._counts[key] = _Count(tries=tries + 1, at_s=now_s)
        while len(self._counts) > _MOST:
            self._counts.popitem(last=False)
