"""What holds for all tests: those on real hosts follow one another, whoever runs them."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All lab tests go to the same worker: two labs at a time would disturb one another."""
    for item in items:
        if item.get_closest_marker("lab") is not None:
            item.add_marker(pytest.mark.xdist_group("lab"))
