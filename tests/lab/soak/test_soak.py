"""Many real migrations in a row, and not one that is lost, doubled or left in doubt.

`make test` makes twenty, `make soak-lab` a thousand, or as many as `N` says; FURLOUGH_SOAK_S ends
it after so many seconds, with the number that was reached in its last line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def made(fleet: Fleet, wanted: int, within_s: float) -> Tally:
    """So many migrations, with a line for whoever keeps the figures."""
    log = os.environ.get("FURLOUGH_SOAK")

    def tell(line: str) -> None:
        if log:
            with Path(log).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    with Client(load_context()) as client:
        return travel(fleet.lab, client, wanted, within_s=within_s, tell=tell)


def check(tally: Tally) -> None:
    """Nothing went wrong, and nothing had to be tried again."""
    assert tally.lost == []
    assert tally.doubled == []
    assert tally.in_doubt == []
    assert tally.failures == []


@pytest.mark.lab
@pytest.mark.timeout(400)
def test_twenty_migrations_in_a_row_lose_nobody_and_leave_none_in_doubt(crowd: Fleet) -> None:
    tally = made(crowd, 20, 200)
    check(tally)
    assert tally.migrations >= 20


@pytest.mark.lab_soak
@pytest.mark.timeout(MANY_S + 300)
def test_a_thousand_migrations_in_a_row_lose_nobody_and_leave_none_in_doubt(crowd: Fleet) -> None:
    wanted = int(os.environ.get("FURLOUGH_SOAK_N", str(MANY)))
    limit_s = os.environ.get("FURLOUGH_SOAK_S")
    tally = made(crowd, wanted, float(limit_s or MANY_S))
    check(tally)
    # Somebody who sets a time wants what fits in it; the figure is in the last line.
    assert tally.migrations >= (1 if limit_s else wanted)
