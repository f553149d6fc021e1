"""How much one caller may ask: requests in a second, and streams of events at a time.

A bucket for each principal fills steadily and is emptied by requests; for those who have not shown
who they are there is one for each address, a smaller one. So one bad client costs the others
little.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from furlough.core.access import Principal
from furlough.errors import Throttled

_MOST_BUCKETS = 10_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is allowed: steadily, and at once after a silence."""

    requests_per_s: float = 100.0
    burst: int = 500
    strangers_per_s: float = 20.0
    strangers_burst: int = 200
    streams: int = 256


@dataclass(frozen=True, kw_only=True)
class _Bucket:
    left: float
    at_s: float


class Limiter:
    """Counts. Instants are seconds that never jump, and are told by the caller."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._streams: Counter[str] = Counter()

    def admit(self, principal: Principal | None, address: str, now_s: float) -> None:
        """Count a request. `Throttled` where it is one too many, with the time to wait."""
        limits = self._limits
        if principal is None:
            key, rate, burst = f"@{address}", limits.strangers_per_s, limits.strangers_burst
        else:
            key, rate, burst = principal.name, limits.requests_per_s, limits.burst
        known = self._buckets.pop(key, _Bucket(left=float(burst), at_s=now_s))
        left = min(float(burst), known.left + (now_s - known.at_s) * rate)
        is_one_too_many = left < 1
        self._buckets[key] = _Bucket(left=left if is_one_too_many else left - 1, at_s=now_s)
        while len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        if is_one_too_many:
            raise Throttled(
                "requests.too_many",
                f"More than {rate:g} requests in a second are not answered for one caller.",
                remedy="Wait, then ask less often; to follow something, use GET /events.",
                retry_after_s=(1 - left) / rate,
            )

    @contextmanager
    def stream(self, principal: Principal) -> Iterator[None]:
        """Hold one stream. `Throttled` where this principal has too many."""
        if self._streams[principal.name] >= self._limits.streams:
            raise Throttled(
                "streams.too_many",
                f"{principal.name} has {self._limits.streams} streams of events open already.",
                remedy="Close some; one stream without `operation` tells of all operations.",
                retry_after_s=10.0,
            )
        self._streams[principal.name] += 1
        try:
            yield
        finally:
            self._streams[principal.name] -= 1
