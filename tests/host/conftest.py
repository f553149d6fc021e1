"""A fresh machine for every story."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.host.machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that nobody keeps empty."""
    return Machine(tmp_path)
