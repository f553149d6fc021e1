"""What can stand against a host as the target of a VM, in a word."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why a host cannot take a VM."""

    SILENT = "silent"
    MODE = "mode"
    CPU = "cpu"
    DISK = "disk"
    NETWORK = "network"
    DEVICE = "device"
    DUPLICATE = "duplicate"
    ROOM = "room"
    STATE = "state"
    RULE = "rule"
    PATH = "path"
    MACHINE = "machine"
    HUGE_PAGES = "huge_pages"
    NUMA = "numa"
    TLS = "tls"
