"""The daemon that the stories of the API have."""

from __future__ import annotations

from tests.api.conftest import client, daemon, everything_as_before, http

__all__ = ["client", "daemon", "everything_as_before", "http"]
