"""The kill matrix: something breaks in each phase of a real migration. Nobody runs twice, nobody is
lost, and every operation ends or says what it waits for. `make lab-matrix` plays all cells."""

from __future__ import annotations

import os

import pytest

from furlough.errors import FurloughError
from tests.lab.matrix import phases, victims
from tests.lab.matrix.cells import EXISTING, Cell, play
from tests.lab.matrix.stage import Stage
from tests.lab.matrix.table import record, record_violation

pytestmark = [pytest.mark.timeout(900)]
TELLING = (
    Cell(victim=victims.US, phase=phases.EARLY),
    Cell(victim=victims.SOURCE_EMULATOR, phase=phases.FINISH),
    Cell(victim=victims.TARGET_DAEMON, phase=phases.EARLY),
    Cell(victim=victims.ANSWER_LOST, phase=phases.FINISH),
)


@pytest.mark.lab_matrix
@pytest.mark.parametrize("cell", EXISTING, ids=lambda cell: cell.name)
def test_nobody_runs_twice_and_nobody_is_lost_after_the_loss_of(stage: Stage, cell: Cell) -> None:
    try:
        record(play(stage, cell, is_cut_short=os.environ.get("FURLOUGH_MATRIX_BRIEF") == "1"))
    except (AssertionError, FurloughError) as error:
        record_violation(cell, error)
        raise


@pytest.mark.lab
@pytest.mark.parametrize("cell", TELLING, ids=lambda cell: cell.name)
def test_who_stops_once_it_is_settled_finds_every_vm_accounted_for_after_the_loss_of(
    stage: Stage, cell: Cell
) -> None:
    play(stage, cell, is_cut_short=True)
