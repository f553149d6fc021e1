"""The stage of the kill matrix: one lab for all of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.conftest import driven, own_name
from tests.lab.fleet import Fleet
from tests.lab.matrix.stage import OPTIONS, Stage


@pytest.fixture(scope="package")
def hot_fleet(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts with a VM each that rewrites its memory all the time, and a daemon."""
    yield from driven(own_name("m"), OPTIONS, tmp_path_factory)


@pytest.fixture(scope="package")
def stage(hot_fleet: Fleet) -> Iterator[Stage]:
    """That fleet, with gates in the way of its migrations."""
    stage = Stage.of(hot_fleet)
    try:
        yield stage
    finally:
        stage.client.close()
