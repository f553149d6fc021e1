"""Which tests belong to the matrix of faults on real hosts: `make lab-faults` runs all of it, `make
test` those of it that are marked `lab` as well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FAULTS = Path(__file__).parent / "lab" / "faults"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in that folder, and every other one on real hosts that is named after a fault; of
    the slow stories that are told on both grounds, `make test` tells the simulator's alone."""
    for item in items:
        if item.get_closest_marker("slow_lab") and item.get_closest_marker("lab"):
            item.own_markers[:] = [mark for mark in item.own_markers if mark.name != "lab"]
            item.add_marker(pytest.mark.lab_fault)
        is_of_a_fault = re.match(r"test_f\d{3}_", item.name) is not None
        if FAULTS in item.path.parents or (is_of_a_fault and item.get_closest_marker("lab")):
            item.add_marker(pytest.mark.lab_fault)
