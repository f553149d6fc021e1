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
_LEAST_S = 0.01
HOLDS = timedelta(days=30)
# Cables, switches and routes change: what was learned long ago weighs as one migration.
_OLD = timedelta(days=7)
# What is left of the weight of the past after one more migration.
_KEEPS = 0.8


@dataclass(frozen=True, kw_only=True)
class LinkSpeed:
    """What a migration from one host to another moves when it is alone, in MiB/s, learned from so
    many migrations, the last of them at `at`. `alone_s`: the weight of what is known, as seconds of
    one that is alone."""

    source: HostName
    target: HostName
    mib_s: float
    alone_s: float
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


def shown_by(
    moved_mib: float,
    passage: Passage,
    others: Sequence[Passage],
    link_mib_s: Mapping[HostName, float],
    at: datetime,
) -> LinkSpeed | None:
    """What a migration that moved this much meanwhile says of its links; None where it was too
    little or too short to tell. `link_mib_s`: the rate of each host's link as enrolled."""
    alone = min(link_mib_s[passage.source], link_mib_s[passage.target])
    alone_s = _part_mib(passage, others, link_mib_s) / alone
    if moved_mib < LEAST_MIB or alone_s < _LEAST_S:
        return None
    return LinkSpeed(
        source=passage.source,
        target=passage.target,
        mib_s=round(moved_mib / alone_s, 2),
        alone_s=round(alone_s, 2),
        migrations=1,
        at=at,
    )


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
    """What is known after one more migration: all memory by all time, of which the past fades. So
    of two that shared a link unevenly the fast one does not count more than the slow one."""
    if known is None or not known.holds(new.at):
        return new
    kept_s = _KEEPS * known.alone_s
    if new.at - known.at > _OLD:
        kept_s = min(kept_s, new.alone_s)
    whole_s = kept_s + new.alone_s
    return LinkSpeed(
        source=new.source,
        target=new.target,
        mib_s=round((kept_s * known.mib_s + new.alone_s * new.mib_s) / whole_s, 2),
        alone_s=round(whole_s, 2),
        migrations=known.migrations + new.migrations,
        at=new.at,
    )
