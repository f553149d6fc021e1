"""What the links between hosts really carry, learned from migrations that are over.

A migration seldom has its links for itself, so what counts is how much of its part it has moved:

    moved / (what the enrolled rates would have given it beside those it shared them with)

times the enrolled rate is what it would have moved alone. A migration that shared its link with
one other, and moved half of what the link carries, says the same as one that was alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from furlough.core.ids import HostName

# Less than this is over before a link shows what it carries.
LEAST_MIB = 64
HOLDS = timedelta(days=30)
# Cables, switches and routes change: what was learned long ago weighs as one migration.
_OLD = timedelta(days=7)
# The newest of many migrations weighs as much as this.
_LEAST_WEIGHT = 0.25


@dataclass(frozen=True, kw_only=True)
class LinkSpeed:
    """What a migration from one host to another moves when it is alone, in MiB/s, learned from so
    many migrations, the last of them at `at`."""

    source: HostName
    target: HostName
    mib_s: float
    migrations: int
    at: datetime

    def holds(self, now: datetime) -> bool:
        """Whether it is young enough to plan with."""
        return now - self.at <= HOLDS


@dataclass(frozen=True, kw_only=True)
class Passage:
    """When memory moved from one host to another, in seconds of one clock; of a migration that
    still goes on, the end is infinite."""

    source: HostName
    target: HostName
    began_s: float
    ended_s: float = math.inf


def alone_mib_s(
    moved_mib: float,
    passage: Passage,
    others: Sequence[Passage],
    link_mib_s: Mapping[HostName, float],
) -> float | None:
    """What a migration that moved this much meanwhile would have moved in a second with its links
    for itself; None where it was too little or too short to tell. `link_mib_s`: the rate of each
    host's link as enrolled."""
    part_mib = _part_mib(passage, others, link_mib_s)
    if moved_mib < LEAST_MIB or part_mib <= 0:
        return None
    alone = min(link_mib_s[passage.source], link_mib_s[passage.target])
    return alone * moved_mib / part_mib


def _part_mib(
    passage: Passage, others: Sequence[Passage], link_mib_s: Mapping[HostName, float]
) -> float:
    """What equal parts of both links would have carried during a passage."""
    moments = {one for other in others for one in (other.began_s, other.ended_s)}
    inside = [one for one in moments if passage.began_s < one < passage.ended_s]
    bounds = sorted({passage.began_s, passage.ended_s, *inside})
    part_mib = 0.0
    for since, until in pairwise(bounds):
        beside = [one for one in others if one.began_s <= since and one.ended_s >= until]
        out = 1 + sum(one.source == passage.source for one in beside)
        into = 1 + sum(one.target == passage.target for one in beside)
        rate = min(link_mib_s[passage.source] / out, link_mib_s[passage.target] / into)
        part_mib += rate * (until - since)
    return part_mib


def learned(known: LinkSpeed | None, new: LinkSpeed) -> LinkSpeed:
    """What is known after one more migration: the first few count alike, later ones make the past
    fade, and what is old counts little."""
    if known is None or not known.holds(new.at):
        return new
    before = 1 if new.at - known.at > _OLD else known.migrations
    weight = max(_LEAST_WEIGHT, 1 / (before + 1))
    return LinkSpeed(
        source=new.source,
        target=new.target,
        mib_s=round(known.mib_s + weight * (new.mib_s - known.mib_s), 2),
        migrations=known.migrations + new.migrations,
        at=new.at,
    )
