"""The hook on real hosts when it is ill, and a marker whose controller is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from furlough.errors import FurloughError, Refused
from furlough.lab.host import Host
from furlough.lab.lab import Lab
from furlough.lab.patience import unix_now
from tests.lab.adversary import refusal_of

HOOK = "/etc/libvirt/hooks/qemu.d/50-furlough"
OWNER = ("--operation", "op-1", "--epoch", "1", "--controller", "one-that-is-gone")
# libvirt waits for a hook for ever: ours gives up by itself.
HOOK_WITHIN_S = 10


@pytest.fixture
def guarded(lab: Lab) -> Iterator[Host]:
    """A host with a marker and two VMs: one that runs, and one that is off."""
    host = lab.host("h1")
    running, off = host.vms()[:2]
    assert (running, off) == ("vm1", "vm4")
    try:
        host.virsh("destroy", off)
        host.run("furlough-host", "raise", *OWNER)
        yield host
    finally:
        host.install_guard()
        host.run("rm", "-f", "/var/lib/furlough-host/marker.json")
        with suppress(FurloughError):
            host.virsh("start", off)


def everything_but_a_start_works(host: Host) -> None:
    """What the hook is asked about all the same: a running VM is none the worse for it."""
    host.virsh("suspend", "vm1")
    host.virsh("resume", "vm1")
    host.restart_daemon()
    assert host.vms() == ["vm1"]


def test_f116_a_hook_that_crashes_refuses_starts_alone(guarded: Host) -> None:
    text = guarded.run("cat", HOOK)
    assert text.count("refusal = why_refused(") == 1
    guarded.run("tee", HOOK, text_in=text.replace("= why_refused(", "= no_such_name("))
    with pytest.raises(Refused):
        guarded.virsh("start", "vm4")
    everything_but_a_start_works(guarded)


def test_f116_a_hook_that_hangs_gives_up_by_itself_and_refuses_starts_alone(guarded: Host) -> None:
    text = guarded.run("cat", HOOK)
    assert text.count("    signal.alarm(HOOK_WITHIN_S)\n") == 1
    ill = text.replace(
        "    signal.alarm(HOOK_WITHIN_S)\n",
        "    signal.alarm(HOOK_WITHIN_S)\n    time.sleep(3600)\n",
    )
    guarded.run("tee", HOOK, text_in=ill)
    since = unix_now()
    told = refusal_of(guarded, "start", "vm4")
    assert f"no answer within {HOOK_WITHIN_S} s" in told
    assert unix_now() - since < 3 * HOOK_WITHIN_S
    everything_but_a_start_works(guarded)


def test_f119_a_marker_whose_controller_is_gone_names_it_and_goes_by_one_line(
    guarded: Host,
) -> None:
    assert "kept empty by operation op-1" in refusal_of(guarded, "start", "vm4")
    with pytest.raises(Refused) as refusal:
        guarded.run("furlough-host", "maintenance", "exit")
    told = refusal.value.message
    assert "one-that-is-gone" in told
    line = told[told.index("rm ") :].splitlines()[0].strip().rstrip(".")
    guarded.run("sh", "-c", line)
    guarded.virsh("start", "vm4")
    assert "vm4" in guarded.vms()
