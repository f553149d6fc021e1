"""CPU models that are not the name of one."""

from __future__ import annotations

# The CPU of whatever host the VM was started on.
HOST_PASSTHROUGH = "host-passthrough"
