"""The matrix of faults on real hosts: `make lab-faults` runs all of it, `make test` those that
are marked `lab` as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from furlough.lab.blueprint import Keepalive, Options
from tests.lab.conftest import driven, own_name
from tests.lab.fleet import Fleet


@pytest.fixture(scope="module")
def few(able: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three hosts and a daemon; four small VMs on the first. Silent peers are given up soon."""
    options = Options(vms=4, on="h1", keepalive=Keepalive(interval_s=1, count=3))
    yield from driven(own_name("q"), options, tmp_path_factory)


@pytest.fixture
def fleet(few: Fleet) -> Fleet:
    """That fleet with everybody at home and in service, whatever the test before has left."""
    few.bring_home("h1")
    return few
