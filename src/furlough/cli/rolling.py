"""`furlough plan --inventory FILE --rolling CLUSTER`: waves of a whole cluster, printed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from furlough.cli import output
from furlough.cli.planning import read_inventory

if TYPE_CHECKING:
    from furlough.planning.rolling_plan import RollingWaves

_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class RollingRequest:
    """What was asked for."""

    inventory: Path
    cluster: str
    width: int = 1
    hroller_rules: bool = False
    json: bool = False


def plan_rolling(request: RollingRequest) -> int:
    """Plan and print; the exit code."""
    from furlough.planning.rolling_plan import RollingWishes, rolling_waves

    wishes = RollingWishes(
        cluster=request.cluster, width=request.width, hroller_rules=request.hroller_rules
    )
    found = rolling_waves(read_inventory(request.inventory), wishes)
    if request.json:
        output.print_text(json.dumps(found.content(), indent=1))
    else:
        _print_waves(found)
    return output.DONE


def _print_waves(found: RollingWaves) -> None:
    output.print_table(
        ("wave", "hosts", "migrations", "fullest", "n+1"),
        [
            (
                number,
                _some(wave.hosts),
                len(wave.moves),
                f"{100 * wave.fullest:.1f} %",
                "kept" if wave.keeps_reserve else "not kept",
            )
            for number, wave in enumerate(found.waves, 1)
        ],
    )
    for host, vm in found.left:
        output.say(f"{host} cannot be emptied: {vm} finds no other host")
    if found.unprotected:
        output.say(f"Without room already, if their host were lost: {_some(found.unprotected)}")
    output.say()
    output.say(
        f"{len(found.waves)} waves, {found.migrations} migrations; with such a first wave no plan "
        f"that empties every host takes fewer than {found.bound}."
    )


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
