"""D4: plans for thousands of small clusters before the independent checker.

Each seed draws a cluster of 3 to 8 hosts with 2 to 8 VMs each, of any variant (plain, rich,
fragmented), 30 to 80 % of its memory in use, with N+1 or without, on links of 1 to 100 Gb/s. Of
three seeds two have one or two hosts evacuated, under limits and orders of all kinds; the third has
the whole cluster rolled through, by waves or as a pipeline. The checker replays every plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from bench.clusters import Recipe, Variant, cluster_document
from bench.figures import Report, Target
from furlough.cli.rolling import violations_of
from furlough.core.policy import Limits, Order
from furlough.planning.board import board_of_file
from furlough.planning.checking import Move, Terms, violations
from furlough.planning.inventory_file import Document, parse
from furlough.planning.packing import Packing, evacuate
from furlough.planning.rolling_plan import RollingWishes, rolling_waves
from furlough.planning.scheduling import Schedule
from furlough.planning.timetable import timetable

CLUSTERS = 10_000
_SHOWN = 5


def checked_plans(clusters: int = CLUSTERS) -> Report:
    """What the checker says of plans for so many clusters, from seed 0."""
    counts: Counter[str] = Counter()
    found: list[str] = []
    for seed in range(clusters):
        broken = _trial(seed, counts)
        found += [f"seed {seed}: {words}" for words in broken]
    rows = [("clusters", str(clusters)), *((what, str(count)) for what, count in counts.items())]
    return Report(
        id="D4",
        title="plans before the independent checker",
        columns=("what", "count"),
        rows=[*rows, ("violations", str(len(found)))],
        targets=[Target(what="violations", measured=len(found), limit=0, unit="")],
        notes=found[:_SHOWN],
        figures={**counts, "clusters": clusters, "violations": found},
    )


def _trial(seed: int, counts: Counter[str]) -> list[str]:
    """Draw a cluster, plan, and replay the plan; what it breaks."""
    random = Random(f"checked/{seed}")
    hosts = random.randint(3, 8)
    recipe = Recipe(
        hosts=hosts,
        vms=hosts * random.randint(2, 8),
        variant=random.choice(list(Variant)),
        memory_share=random.uniform(0.3, 0.8),
        reserve=random.choice(("none", "n+1")),
        link_mbit_s=random.choice((1_000, 10_000, 25_000, 100_000)),
    )
    try:
        document = parse(cluster_document(recipe, seed))
    except ValueError:
        counts["recipes that leave no room, drawn anew"] += 1
        document = parse(cluster_document(Recipe(hosts=hosts, vms=4 * hosts), seed))
    counts[f"{recipe.variant.value} clusters"] += 1
    slots = random.choice((1, 2, 8))
    limits = Limits(per_source=slots, per_target=slots, per_cluster=random.choice((1, 4, 8)))
    if seed % 3 == 2:
        return _rolled_through(document, limits, random, counts)
    return _evacuated(document, limits, random, counts)


def _rolled_through(
    document: Document, limits: Limits, random: Random, counts: Counter[str]
) -> list[str]:
    wishes = RollingWishes(
        cluster="bench",
        width=random.randint(1, 3),
        most_away=random.choice((None, None, 1, 3)),
        hroller_rules=random.random() < 0.2,
        is_pipeline=random.random() < 0.5,
        service_s=random.choice((60.0, 600.0)),
        limits=limits,
    )
    plan = rolling_waves(document, wishes)
    counts["pipelines" if wishes.is_pipeline else "plans in waves"] += 1
    counts["turns of hosts"] += len(plan.turns)
    counts["hosts left, with the VM that ties them"] += len(plan.left)
    counts["moves replayed"] += plan.migrations
    return violations_of(document, plan)


def _evacuated(
    document: Document, limits: Limits, random: Random, counts: Counter[str]
) -> list[str]:
    leaving = random.sample(range(len(document.hosts)), random.choice((1, 1, 2)))
    packing = evacuate(board_of_file(document), leaving)
    schedule = timetable(
        packing, limits=limits, order=random.choice(list(Order)), stream_mib_s=3_000.0
    )
    counts["evacuations"] += 1
    counts["moves replayed"] += len(schedule.moves)
    counts["moves over a third host"] += sum(move.is_detour for move in schedule.moves)
    counts["VMs moved to make room"] += len(packing.extra)
    counts["VMs listed as unplaced"] += len(packing.unplaced)
    counts["VMs for which no moment was found"] += len(schedule.stuck)
    return broken_by(document, packing, schedule, leaving, limits)


def broken_by(
    document: Document,
    packing: Packing,
    schedule: Schedule,
    leaving: Sequence[int],
    limits: Limits,
) -> list[str]:
    """What the independent checker says of an evacuation and its timetable."""
    names, uuids = [host.name for host in document.hosts], document.vms.uuid
    moves = [
        Move(
            vm=uuids[move.vm],
            source=names[move.source],
            target=names[move.target],
            start_s=move.start_s,
            end_s=move.end_s,
        )
        for move in schedule.moves
    ]
    staying = [one.vm for one in packing.unplaced] + [job.vm for job in schedule.stuck]
    terms = Terms(
        leaving=frozenset(names[host] for host in leaving),
        staying=frozenset(uuids[vm] for vm in staying),
        per_source=limits.per_source,
        per_target=limits.per_target,
        per_cluster=limits.per_cluster,
        keeps_reserve=not packing.gaps,
    )
    return violations(document, moves, terms)
