"""Many real migrations in a row, and not one that is lost, doubled or left in doubt.

`make test` makes twenty, `make soak-lab` a thousand, or as many as `N` says. Those may be made in
several runs: FURLOUGH_SOAK is a file that keeps the tally, FURLOUGH_SOAK_S ends a run after so many
seconds, and the next one goes on from there. What went wrong once stays in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.history import commit_now

from furlough.client import Client
from furlough.context import load_context
from furlough.lab.blueprint import Options
from tests.lab.conftest import driven, own_name
from tests.lab.fleet import Fleet
from tests.lab.soak.travelling import Tally, travel

MANY, MANY_S = 1000, 3 * 3600


@pytest.fixture(scope="module")
def crowd(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts with two small VMs each, and a daemon."""
    yield from driven(own_name("s"), Options(vms=6), tmp_path_factory)


def made(fleet: Fleet, wanted: int, within_s: float, tally: Tally, kept: Path | None) -> None:
    """Migrations until the tally has so many; kept after every round."""

    def tell(_: str) -> None:
        if kept is not None:
            tally.keep(kept)

    with Client(load_context()) as client:
        travel(fleet.lab, client, wanted, within_s=within_s, tally=tally, tell=tell)


def check(tally: Tally) -> None:
    """Nothing went wrong, and nothing had to be tried again."""
    assert tally.lost == []
    assert tally.doubled == []
    assert tally.in_doubt == []
    assert tally.failures == []


@pytest.mark.lab
@pytest.mark.timeout(400)
def test_twenty_migrations_in_a_row_lose_nobody_and_leave_none_in_doubt(crowd: Fleet) -> None:
    tally = Tally()
    made(crowd, 20, 200, tally, None)
    check(tally)
    assert tally.migrations >= 20


@pytest.mark.lab_soak
@pytest.mark.timeout(MANY_S + 300)
def test_a_thousand_migrations_in_a_row_lose_nobody_and_leave_none_in_doubt(crowd: Fleet) -> None:
    wanted = int(os.environ.get("FURLOUGH_SOAK_N") or MANY)
    limit_s = os.environ.get("FURLOUGH_SOAK_S")
    named = os.environ.get("FURLOUGH_SOAK")
    kept = Path(named) if named else None
    tally = Tally.kept_in(kept) if kept else Tally()
    tally.commits.append(commit_now())
    made(crowd, wanted, float(limit_s or MANY_S), tally, kept)
    print(tally.summary)  # noqa: T201  # for whoever makes it
    check(tally)
    # Somebody who sets a time wants what fits in it; the next run goes on from there.
    assert tally.migrations >= (1 if limit_s else wanted)
