"""How guests are asked to shut down: the agent first where there is one, else the button."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from furlough.core.ids import VmId
from furlough.errors import FurloughError, Refused, Unreachable
from tests.drivers.binding import needing_libvirt

libvirt = needing_libvirt("libvirt")
guests = needing_libvirt("furlough.drivers.libvirt.guests")

VM, OTHER = VmId("vm-1"), VmId("vm-2")
AGENT, BUTTON = "agent", "button"


@dataclass
class Guest:
    """A VM, as far as it is asked: its agent's state, what its agent makes of a request, and how
    it was asked so far."""

    state: str = "connected"
    trouble: FurloughError | None = None
    asked: list[str] = field(default_factory=list)

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        return (
            "<domain><devices><channel type='unix'><target type='virtio' "
            f"name='org.qemu.guest_agent.0' state='{self.state}'/></channel></devices></domain>"
        )

    def shutdownFlags(self, flags: int) -> None:  # noqa: N802
        names = {
            libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT: AGENT,
            libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN: BUTTON,
        }
        self.asked.append(names[flags])


def ask(guest: Guest, *vms: VmId, requests: Any = None) -> None:
    """Ask a guest for each of these VMs, one after another."""
    known = requests or guests.Requests()

    async def quickly(act: Any) -> object:
        return act(guest)

    async def patiently(act: Any) -> object:
        act(guest)
        if guest.trouble is not None:
            raise guest.trouble
        return None

    async def tell() -> None:
        for vm in vms:
            await known.shut_down(vm, quickly, patiently)

    asyncio.run(tell())


def test_an_agent_that_is_connected_is_asked_first() -> None:
    guest = Guest()
    ask(guest, VM)
    assert guest.asked == [AGENT]


@pytest.mark.parametrize("state", ["disconnected", ""])
def test_without_an_agent_the_button_is_pressed(state: str) -> None:
    guest = Guest(state=state)
    ask(guest, VM, VM)
    assert guest.asked == [BUTTON, BUTTON]


@pytest.mark.parametrize(
    "trouble",
    [
        Refused("hypervisor.failed", "guest agent is not responding"),
        Refused("hypervisor.busy", "another agent command"),
        Unreachable("hypervisor.lost", "no answer within 5 s"),
    ],
)
def test_f082_whatever_is_wrong_with_an_agent_the_button_is_pressed(trouble: FurloughError) -> None:
    guest = Guest(trouble=trouble)
    ask(guest, VM, VM)
    assert guest.asked == [AGENT, BUTTON, AGENT, BUTTON]


def test_who_did_not_obey_its_agent_is_asked_by_the_button_the_next_time() -> None:
    guest = Guest()
    ask(guest, VM, VM, VM)
    assert guest.asked == [AGENT, BUTTON, AGENT]


def test_each_vm_is_asked_for_itself() -> None:
    guest = Guest()
    ask(guest, VM, OTHER, VM)
    assert guest.asked == [AGENT, AGENT, BUTTON]
