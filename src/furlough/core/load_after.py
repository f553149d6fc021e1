"""How full a plan leaves the hosts that stay."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoadAfter:
    """Memory load of the hosts that stay: the fullest one, and the standard deviation (0-1)."""

    max: float
    sd: float
