"""libvirt's Python binding is an extra: what needs it is skipped where it is not installed, and
fails where real hosts are required."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def needing_libvirt(module: str) -> Any:
    """The module of that name."""
    if os.environ.get("FURLOUGH_REQUIRE_LAB") == "1":
        return importlib.import_module(module)
    return pytest.importorskip(module, reason="libvirt's Python binding is not installed")
