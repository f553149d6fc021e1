"""One enrolled host, as the driver holds it: its sessions, and what is remembered between calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from furlough.core.enrolment import EnrolledHost
from furlough.drivers.libvirt import cpus, guests
from furlough.drivers.libvirt.connection import HostLink
from furlough.drivers.libvirt.program import HostProgram


class Site:
    """One enrolled host: the way to its daemon, to its furlough-host, and what we remember."""

    def __init__(self, host: EnrolledHost, link: HostLink, ssh_config: Path | None) -> None:
        self.host = host
        self.link = link
        self.program = HostProgram(host, ssh_config)
        # Sessions of their own for acts on VMs and for errands about the host: both may take long.
        self.acts = HostProgram(host, ssh_config)
        self.errands = HostProgram(host, ssh_config)
        self.cpu_models: frozenset[str] | None = None
        self.comparison = cpus.Comparison()
        self.requests = guests.Requests()
        # By VM: when its CPUs were stopped for a migration, and the statistics of its last job.
        self.stopped_at: dict[str, float] = {}
        self.completed: dict[str, Mapping[str, Any]] = {}
        # Who wants to be told when the CPUs of a VM stop.
        self.stops: dict[str, set[asyncio.Event]] = {}

    def note_stop(self, vm: str, at: float) -> None:
        """The CPUs of a VM were stopped for its migration."""
        self.stopped_at[vm] = at
        for event in self.stops.get(vm, ()):
            event.set()

    async def until_stopped(self, vm: str) -> None:
        """Until an event says so."""
        event = asyncio.Event()
        self.stops.setdefault(vm, set()).add(event)
        try:
            await event.wait()
        finally:
            self.stops[vm].discard(event)
            if not self.stops[vm]:
                del self.stops[vm]

    def close(self) -> None:
        """Let go of the host."""
        self.link.close()
        for program in self.programs:
            program.close()

    @property
    def programs(self) -> tuple[HostProgram, ...]:
        """All sessions with its furlough-host."""
        return (self.program, self.acts, self.errands)
