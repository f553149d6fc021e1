"""How a guest is asked to shut down: by its agent, or by the power button (ACPI).

An agent that says it is there may still hang or refuse, and a guest that obeyed its agent may
still be busy ending; so nobody is asked twice in the same way.

    connected, not asked by agent last ──► agent ──► any error, or no answer in time ──► button
    else ──────────────────────────────► button
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import libvirt

from furlough.core.ids import VmId
from furlough.core.inventory import Agent
from furlough.drivers.libvirt.domain_xml import agent_of, root_of
from furlough.errors import Refused, Unreachable

# How long an agent may take before the button is pressed instead.
AGENT_S = 5.0

Act = Callable[[libvirt.virDomain], object]
Call = Callable[[Act], Awaitable[object]]


class Requests:
    """Who was asked by what on one host."""

    def __init__(self) -> None:
        self._by_agent: set[VmId] = set()

    async def shut_down(self, vm: VmId, quickly: Call, patiently: Call) -> None:
        """Ask a guest, once. `quickly` makes a call about it that does not wait for the guest;
        `patiently` one that may, and that raises `Unreachable` when it takes too long."""
        if vm not in self._by_agent and await quickly(has_agent):
            try:
                await patiently(ask_agent)
            except (Refused, Unreachable):
                # An agent that hangs, fails or is gone. A host that is gone says so once more.
                await quickly(press_button)
            else:
                self._by_agent.add(vm)
            return
        self._by_agent.discard(vm)
        await quickly(press_button)


def has_agent(domain: libvirt.virDomain) -> bool:
    """Whether its agent has opened its channel."""
    return agent_of(root_of(domain.XMLDesc(0))) is Agent.CONNECTED


def ask_agent(domain: libvirt.virDomain) -> None:
    """Returns when the agent has answered."""
    domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)


def press_button(domain: libvirt.virDomain) -> None:
    """Returns at once; the guest may not care."""
    domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
