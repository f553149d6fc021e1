"""What furlough-host finds out about a host when it is asked to probe it: clock, storage under
repair, the migration network, how the host treats VMs at boot. Facts for prechecks only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from furlough.core.ids import HostName


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How a host reaches a peer on the migration network. `because`: why it does not; empty if
    it does. `latency_ms`: of opening a connection, the best of a few."""

    because: str = ""
    latency_ms: float | None = None

    @property
    def is_there(self) -> bool:
        return not self.because


@dataclass(frozen=True, kw_only=True)
class Link:
    """The interface that carries migrations: its speed where it says so, and whether a second
    one stands in when a cable breaks (None: unknown)."""

    interface: str
    speed_mbit_s: int | None = None
    is_redundant: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One probe of one host.

    `clock_offset_s`: its clock minus ours. `repairs`: storage under repair, in words.
    `peers`: how it reaches the hosts it was asked about. `starts_guests_at_boot`: its
    libvirt-guests service would start or save VMs by itself. `bmc_answers`: None where no BMC
    is enrolled. `open_ports`: daemons that let in
    anybody who reaches them, in words. `troubles`: parts of the probe that could not be made.
    """

    at: datetime
    clock_offset_s: float | None = None
    repairs: tuple[str, ...] = ()
    peers: Mapping[HostName, Reach] = field(default_factory=dict)
    link: Link | None = None
    starts_guests_at_boot: bool = False
    bmc_answers: bool | None = None
    open_ports: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()
