"""`furlough plan --inventory FILE --rolling CLUSTER`: the turns of a whole cluster, printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from furlough.cli import output
from furlough.cli.planning import print_violations, read_inventory

if TYPE_CHECKING:
    from furlough.planning.inventory_file import Document
    from furlough.planning.rolling_plan import NamedWave, RollingWaves

_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class RollingRequest:
    """What was asked for, as in `RollingWishes`."""

    inventory: Path
    cluster: str
    width: int = 1
    most_away: int | None = None
    service_minutes: int = 10
    is_pipeline: bool = False
    hroller_rules: bool = False
    verify: bool = False
    json: bool = False


def plan_rolling(request: RollingRequest) -> int:
    """Plan and print; the exit code: 1 if the plan would break something."""
    from furlough.planning.rolling_plan import RollingWishes, rolling_waves

    wishes = RollingWishes(
        cluster=request.cluster,
        width=request.width,
        most_away=request.most_away,
        service_s=60.0 * request.service_minutes,
        is_pipeline=request.is_pipeline,
        hroller_rules=request.hroller_rules,
    )
    document = read_inventory(request.inventory)
    found = rolling_waves(document, wishes)
    broken = violations_of(document, found) if request.verify else None
    if request.json:
        checked = {} if broken is None else {"violations": broken}
        output.print_indented({**found.content(), **checked})
    else:
        _print_turns(found)
        keeps = all(wave.keeps_reserve for wave in found.waves) and not found.unprotected
        print_violations(broken, keeps_reserve=keeps)
    return output.FAILED if broken else output.DONE


def violations_of(document: Document, found: RollingWaves) -> list[str]:
    """What a checker that shares no code with the planner finds against the plan."""
    from furlough.planning.checking import Move, Terms
    from furlough.planning.checking_rolling import HostTurn, RollingTerms, rolling_violations
    from furlough.planning.rolling_plan import ruled

    wishes = found.wishes
    turns = [
        HostTurn(
            host=turn.host,
            start_s=turn.start_s,
            empty_s=turn.empty_s,
            back_s=turn.back_s,
            keeps_reserve=turn.keeps_reserve,
        )
        for turn in found.turns
    ]
    moves = [
        Move(
            vm=move.vm_uuid,
            source=move.source,
            target=move.target,
            start_s=move.start_s,
            end_s=round(move.start_s + move.duration_s, 2),
        )
        for turn in found.turns
        for move in turn.moves
    ]
    most = wishes.most_away
    terms = RollingTerms(
        cluster=wishes.cluster,
        service_s=wishes.service_s,
        left=frozenset(host for host, _ in found.left),
        unprotected=frozenset(uuid for uuid, _ in found.unprotected),
        keeps_reserve=_is_reserve_asked(document, found),
        most_away=None if most is None else max(most, wishes.width),
        limits=Terms(
            leaving=frozenset(),
            per_source=wishes.limits.per_source,
            per_target=wishes.limits.per_target,
            per_cluster=wishes.limits.per_cluster,
        ),
    )
    return rolling_violations(ruled(document, wishes), turns, moves, terms)


def _is_reserve_asked(document: Document, found: RollingWaves) -> bool:
    asked = {one.name for one in document.clusters if one.reserve == "n+1"}
    return found.wishes.cluster in asked and not found.wishes.hroller_rules


def _print_turns(found: RollingWaves) -> None:
    output.print_table(
        ("wave", "hosts", "migrations", "from", "empty by", "back by", "fullest", "n+1"),
        [_row(number, wave) for number, wave in enumerate(found.waves, 1)],
    )
    for host, vm in found.left:
        output.say(f"{host} cannot be emptied: {vm} finds no other host")
    if found.unprotected:
        names = tuple(name for _, name in found.unprotected)
        output.say(f"Without room already, if their host were lost: {_some(names)}")
    output.say()
    output.say(
        f"{len(found.waves)} waves, {found.migrations} migrations; with such a first wave no plan "
        f"that empties every host takes fewer than {found.bound}."
    )
    output.say(
        f"Over after {output.span(found.makespan_s)}, with "
        f"{output.span(found.wishes.service_s)} of service for each host; with so much memory in "
        f"use no plan takes less than {output.span(found.bound_s)}."
    )


def _row(number: int, wave: NamedWave) -> tuple[object, ...]:
    return (
        number,
        _some(wave.hosts),
        len(wave.moves),
        output.span(wave.start_s),
        output.span(max(turn.empty_s for turn in wave.turns)),
        output.span(wave.end_s),
        f"{100 * wave.fullest:.1f} %",
        "kept" if wave.keeps_reserve else "not kept",
    )


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
