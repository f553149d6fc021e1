"""What firmware and TPM have written is in files of the host: a VM takes it along wherever it goes
(F071, F072). Real UEFI firmware, and a TPM that the host emulates."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from furlough.errors import FurloughError
from furlough.lab.host import Host
from tests.lab.adversary import define, forget
from tests.lab.fleet import Fleet

pytestmark = [pytest.mark.timeout(600)]

VM = "fw1"
UUID = "7d9c3b6a-0000-4000-8000-00000000f001"
XML = f"""
<domain type='qemu'>
  <name>{VM}</name>
  <uuid>{UUID}</uuid>
  <memory unit='MiB'>192</memory>
  <vcpu>1</vcpu>
  <os firmware='efi'>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <firmware><feature enabled='no' name='secure-boot'/></firmware>
  </os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
    <serial type='null'/>
    <memballoon model='none'/>
  </devices>
</domain>
"""
VARIABLES = f"var-lib-libvirt/qemu/nvram/{VM}_VARS.fd"
TPM_STATE = f"var-lib-libvirt/swtpm/{UUID}/tpm2/tpm2-00.permall"


def written(host: Host) -> dict[str, str]:
    """What firmware and TPM have written on this host: digests by file, of those that are there."""
    return {
        name: hashlib.sha256((host.directory / name).read_bytes()).hexdigest()
        for name in (VARIABLES, TPM_STATE)
        if (host.directory / name).exists()
    }


def has_written_all(host: Host, as_made: str) -> bool:
    """The firmware has written, and no more in three seconds: it waits for a disk that never
    comes."""
    now = written(host)[VARIABLES]
    time.sleep(3)
    return written(host)[VARIABLES] == now != as_made


def holders(fleet: Fleet) -> list[str]:
    """The hosts that have a definition of it."""
    return [host.name for host in fleet.lab.hosts if VM in host.vms("--all")]


@pytest.fixture
def firmware_fleet(directory_fleet: Fleet) -> Iterator[Fleet]:
    """The VM runs on h1, and its firmware has written its variables there."""
    fleet, home = directory_fleet, directory_fleet.lab.host("h1")
    define(home, VM, XML)
    home.virsh("start", VM)
    as_made = written(home)[VARIABLES]
    fleet.wait_until(lambda: has_written_all(home, as_made), "the firmware to have written", 120)
    try:
        yield fleet
    finally:
        for host in fleet.lab.hosts:
            with suppress(FurloughError):
                host.virsh("destroy", VM)
            forget(host, VM)
        fleet.bring_home("h1")


def test_f071_a_vm_that_is_off_takes_along_what_its_firmware_and_tpm_have_written(
    firmware_fleet: Fleet,
) -> None:
    fleet, home = firmware_fleet, firmware_fleet.lab.host("h1")
    home.virsh("destroy", VM)
    before = written(home)
    assert set(before) == {VARIABLES, TPM_STATE}
    entered = fleet.check(fleet.furlough("enter", "h1", "--scope", "all", "--wait", "--json"))
    (step,) = [one for one in entered.json["steps"] if one["vm_name"] == VM]
    assert (step["method"], step["state"]) == ("cold", "succeeded")
    assert holders(fleet) == [step["target"]]
    away = fleet.lab.host(step["target"])
    assert written(away) == before
    away.virsh("start", VM)
    assert VM in away.vms()
    away.virsh("destroy", VM)
    changed = written(away)
    fleet.check(fleet.furlough("exit", "h1", "--restore", "recorded", "--wait"))
    assert holders(fleet) == ["h1"]
    assert written(home) == changed
    home.virsh("start", VM)


def test_f072_a_vm_that_runs_takes_along_what_its_firmware_and_tpm_have_written(
    firmware_fleet: Fleet,
) -> None:
    fleet, home = firmware_fleet, firmware_fleet.lab.host("h1")
    before = written(home)
    entered = fleet.check(fleet.furlough("enter", "h1", "--wait", "--json"))
    (step,) = [one for one in entered.json["steps"] if one["vm_name"] == VM]
    assert (step["method"], step["state"]) == ("live", "succeeded")
    away = fleet.lab.host(step["target"])
    assert holders(fleet) == [away.name]
    assert VM in away.vms()
    away.virsh("destroy", VM)
    assert written(away)[VARIABLES] == before[VARIABLES]
    assert TPM_STATE in written(away)
    away.virsh("start", VM)
    fleet.check(fleet.furlough("exit", "h1", "--wait"))
    assert holders(fleet) == ["h1"]
