"""The guard on real hosts, with virsh as the adversary: proven, chained, kept through restarts and
reboots, reached by ssh, and in the hands of a person at the host."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from furlough.clock import RealClock
from furlough.core.enrolment import EnrolledHost, Enrolment, Program, Transport
from furlough.core.ids import ClusterName, HostName, OperationId
from furlough.drivers.libvirt.hypervisor import LibvirtHypervisor
from furlough.drivers.libvirt.program import HostProgram
from furlough.errors import Refused, Unreachable
from furlough.lab.blueprint import Options
from furlough.lab.command import run
from furlough.lab.configuration import GUESTS_SERVICE
from furlough.lab.construction import construct
from furlough.lab.demolition import demolish
from furlough.lab.host import Host
from furlough.lab.lab import Lab
from furlough.lab.patience import wait_until
from furlough.lab.site import Site
from furlough.ports import HostFacts, Marker
from tests.lab.conftest import own_name

pytestmark = [pytest.mark.lab, pytest.mark.lab_fault]

T = TypeVar("T")
OWNER = ("--operation", "op-1", "--epoch", "1", "--controller", "test")
MARKER = Marker(operation=OperationId("op-1"), epoch=1, controller="test")
LINE = "furlough: refused, host is kept empty by operation op-1"
GUESTS_SCRIPT = "/usr/lib/libvirt/libvirt-guests.sh"


@pytest.fixture(scope="module")
def guarded(able: None) -> Iterator[Lab]:
    """Two hosts; vm1 starts by itself on h1, vm2 is on h2, vm3 on h1."""
    name = own_name("g")
    try:
        yield construct(name, Options(hosts=2, vms=3), has_daemon=False)
    finally:
        demolish(Site.named(name))


@pytest.fixture
def lab(guarded: Lab) -> Iterator[Lab]:
    """The same with every guard lowered and proven and every VM at home, before and after."""
    restore(guarded)
    yield guarded
    restore(guarded)


def restore(lab: Lab) -> None:
    """Whatever a test has left."""
    for host in lab.hosts:
        if host.inside.first() is None:
            host.boot()
        if host.daemon_state() != "running":
            host.restart_daemon()
        host.run("rm", "-f", "/var/lib/furlough-host/marker.json", "/var/lib/furlough-host/epoch")
        host.install_guard()
        host.prove_guard()
    h1, h2 = lab.hosts
    with suppress(Refused):
        h2.migrate("vm1", h1)
    for host, vms in ((h1, ("vm1", "vm3")), (h2, ("vm2",))):
        for vm in set(vms) - set(host.vms()):
            host.virsh("start", vm)


def proof(host: Host) -> str:
    """Why its hook cannot be relied on, as it says itself."""
    return str(json.loads(host.run("furlough-host", "status"))["proof"])


def processes(host: Host) -> dict[str, int]:
    """The pid of each VM's process."""
    found = json.loads(host.run("furlough-host", "processes"))["processes"]
    return {one["name"]: one["pid"] for one in found}


def refused(act: Callable[[], object]) -> str:
    """What is said when an act is refused."""
    with pytest.raises(Refused) as refusal:
        act()
    return str(refusal.value)


# --- the proof --------------------------------------------------------------------------------


def test_a_proof_disturbs_nobody_and_leaves_nothing(lab: Lab) -> None:
    h1 = lab.host("h1")
    before = processes(h1)
    assert json.loads(h1.run("furlough-host", "prove")) == {"proof": ""}
    assert processes(h1) == before
    assert h1.vms("--all") == ["vm1", "vm3"]
    assert json.loads(h1.run("furlough-host", "status"))["marker"] is None


def test_f113_a_hook_that_is_gone_is_missed_and_a_marker_then_keeps_nobody_away(lab: Lab) -> None:
    h2 = lab.host("h2")
    h2.run("rm", "/etc/libvirt/hooks/qemu.d/50-furlough")
    assert proof(h2) == "its hook is not installed"
    assert json.loads(h2.run("furlough-host", "prove"))["proof"] == "its hook is not installed"
    h2.virsh("destroy", "vm2")
    h2.run("furlough-host", "raise", *OWNER)
    h2.virsh("start", "vm2")


def test_f114_a_daemon_that_ignores_a_new_hook_is_reloaded_by_the_proof(lab: Lab) -> None:
    h2 = lab.host("h2")
    h2.stop_daemon()
    h2.run("rm", "/etc/libvirt/hooks/qemu.d/50-furlough")
    h2.start_daemon()
    h2.install_guard()
    h2.virsh("destroy", "vm2")
    h2.run("furlough-host", "raise", *OWNER)
    h2.virsh("start", "vm2")  # The hook is there, and ignored: only a proof can tell.
    assert proof(h2) != ""
    pid = h2.daemon()[0].pid
    assert json.loads(h2.run("furlough-host", "prove")) == {"proof": ""}
    assert h2.daemon()[0].pid == pid
    h2.virsh("destroy", "vm2")
    assert LINE in refused(lambda: h2.virsh("start", "vm2"))


def test_f115_a_foreign_hook_is_called_as_before_and_is_given_back(lab: Lab) -> None:
    h2 = lab.host("h2")
    hook, notes = h2.directory / "etc-libvirt/hooks/qemu", h2.directory / "witness/foreign"
    text = '#!/bin/sh\necho "$1 $2" >> /run/furlough-witness/foreign\n'
    hook.write_text(text)
    hook.chmod(0o755)
    try:
        h2.run("furlough-host", "uninstall")
        assert h2.run("ls", "/etc/libvirt/hooks/qemu.d") == ""
        h2.install_guard()
        h2.prove_guard()
        h2.virsh("destroy", "vm2")
        notes.write_text("")
        h2.run("furlough-host", "raise", *OWNER)
        assert LINE in refused(lambda: h2.virsh("start", "vm2"))
        h2.run("furlough-host", "lower", *OWNER)
        h2.virsh("start", "vm2")
        assert "vm2 prepare\nvm2 start\nvm2 started\n" in notes.read_text()
        h2.run("furlough-host", "uninstall")
        assert hook.read_text() == text
    finally:
        hook.unlink()


def test_f117_a_daemon_that_starts_again_beside_a_marker_kills_nobody(lab: Lab) -> None:
    h1 = lab.host("h1")
    before = processes(h1)
    h1.run("furlough-host", "raise", *OWNER)
    h1.restart_daemon()
    assert h1.vms() == ["vm1", "vm3"]
    assert processes(h1) == before
    h1.kill_daemon()
    h1.start_daemon()
    assert processes(h1) == before


def test_f118_a_host_that_boots_in_maintenance_starts_nobody(lab: Lab) -> None:
    h1 = lab.host("h1")
    assert h1.vms("--all", "--autostart") == ["vm1"]
    h1.virsh("managedsave", "vm1")
    h1.virsh("destroy", "vm3")
    h1.run("furlough-host", "raise", *OWNER)
    reboot(h1)
    assert h1.vms() == []
    # What libvirt-guests does at boot where it is set to start VMs again.
    settings = h1.directory / "libvirt-guests"
    settings.write_text("ON_BOOT=start\n")
    vm3 = h1.virsh("domuuid", "vm3").strip()
    (h1.directory / "var-lib-libvirt" / "libvirt-guests").write_text(f"default {vm3}\n")
    ran = subprocess.run(
        h1.inside.entering([GUESTS_SCRIPT, "start"]), capture_output=True, text=True, check=False
    )
    settings.write_text(GUESTS_SERVICE)
    assert "Resuming guest vm3" in ran.stdout
    assert LINE in ran.stdout + ran.stderr
    assert h1.vms() == []
    assert processes(h1) == {}
    h1.run("furlough-host", "lower", *OWNER)
    reboot_by_the_lab(h1)
    wait_until(lambda: h1.vms() == ["vm1"], "vm1 to start by itself", timeout_s=30)


def reboot(host: Host) -> None:
    """As the controller does it: furlough-host runs what the host's settings name."""
    before = host.run("cat", "/proc/sys/kernel/random/boot_id")
    told = json.loads(host.run("furlough-host", "reboot", *OWNER))
    assert told["boot_id"] == before.strip()
    wait_until(
        lambda: host.run("cat", "/proc/sys/kernel/random/boot_id") != before and host.answers(),
        f"{host.name} to boot", timeout_s=60,
    )  # fmt: skip


def reboot_by_the_lab(host: Host) -> None:
    """Whatever runs there."""
    host.power_off()
    host.boot()


# --- adversaries ------------------------------------------------------------------------------


def test_in_maintenance_virsh_gets_nobody_onto_the_host_and_after_it_everybody(lab: Lab) -> None:
    h1, h2 = lab.hosts
    saved, transient = h2.directory / "vm2.saved", h2.directory / "transient.xml"
    image = "/run/furlough-witness/vm2.saved"
    h2.virsh("save", "vm2", image)
    text = h1.virsh("dumpxml", "vm3", "--inactive")
    transient.write_text(text.replace("<name>vm3<", "<name>visitor<").replace(
        h1.virsh("domuuid", "vm3").strip(), "0b5e1f64-5f5e-4c5e-8f4e-2f5d4f5d4f5d"
    ))  # fmt: skip
    h1.virsh("destroy", "vm3")  # Whose disk the visitor uses.
    acts: dict[str, Callable[[], object]] = {
        "start": lambda: h2.virsh("start", "vm2"),
        "create": lambda: h2.virsh("create", str(transient)),
        "migrate": lambda: h1.migrate("vm1", h2),
        "restore": lambda: h2.virsh("restore", image),
    }
    h2.run("furlough-host", "raise", *OWNER)
    for name, act in acts.items():
        assert LINE in refused(act), name
    assert processes(h2) == {}
    assert "vm1" in h1.vms()
    h2.run("furlough-host", "lower", *OWNER)
    acts["restore"]()
    assert h2.vms() == ["vm2"]
    h2.virsh("destroy", "vm2")
    acts["start"]()
    acts["create"]()
    h2.virsh("destroy", "visitor")
    acts["migrate"]()
    assert h2.vms() == ["vm1", "vm2"]
    saved.unlink(missing_ok=True)


# --- the driver ---------------------------------------------------------------------------------


def enrolled(host: Host) -> EnrolledHost:
    """A lab host as the daemon knows it."""
    return EnrolledHost(
        name=HostName(host.name),
        cluster=ClusterName("lab"),
        address=host.address,
        transport=Transport.TCP,
        migration_address=host.address,
        program=Program.NAMESPACE,
        namespace=f"{host.blueprint.name}/{host.name}",
    )


def drive(lab: Lab, story: Callable[[LibvirtHypervisor], Awaitable[T]]) -> T:
    """A story told by the driver, with its own connections."""

    async def tell() -> T:
        hypervisor = LibvirtHypervisor(RealClock())
        await hypervisor.enrol(Enrolment(hosts=[enrolled(host) for host in lab.hosts]))
        try:
            return await story(hypervisor)
        finally:
            await hypervisor.close()

    return asyncio.run(tell())


H1, H2 = HostName("h1"), HostName("h2")


def test_two_hosts_probe_each_other(lab: Lab) -> None:
    async def story(hypervisor: LibvirtHypervisor) -> None:
        probe = await hypervisor.probe(H1, [H2])
        assert probe.troubles == ()
        assert probe.peers[H2].is_there
        assert 0 < (probe.peers[H2].latency_ms or 0) < 1000
        assert probe.link is not None
        assert probe.link.interface == "eth0"
        assert abs(probe.clock_offset_s or 9) < 0.5
        assert probe.bmc_answers is None
        assert probe.starts_guests_at_boot is False
        assert "16509" in probe.open_ports[0], "a lab's libvirt lets in anybody"
        lab.host("h2").cut()
        try:
            probe = await hypervisor.probe(H1, [H2])
        finally:
            lab.host("h2").restore_link()
        assert not probe.peers[H2].is_there
        assert lab.host("h2").address in probe.peers[H2].because

    drive(lab, story)


def test_a_bmc_is_looked_for_where_one_is_enrolled(lab: Lab) -> None:
    h1 = lab.host("h1")

    async def story(hypervisor: LibvirtHypervisor) -> None:
        for bmc, answers in ((f"{h1.address}:16509", True), (f"{h1.address}:17", False)):
            await hypervisor.enrol(Enrolment(hosts=[replace(enrolled(h1), bmc=bmc)]))
            assert (await hypervisor.probe(H1, [])).bmc_answers is answers

    drive(lab, story)


def test_a_daemon_that_started_again_leaves_the_guard_unproven_until_it_is_proven(
    lab: Lab,
) -> None:
    async def story(hypervisor: LibvirtHypervisor) -> None:
        assert (await hypervisor.observe(H2)).guard_trouble == ""
        lab.host("h2").restart_daemon()
        trouble = (await hypervisor.observe(H2)).guard_trouble
        assert trouble == "its hook was not tried since libvirt's daemon started"
        assert await hypervisor.prove_guard(H2) == ""
        facts = await hypervisor.observe(H2)
        assert (facts.guard_trouble, facts.has_guard, facts.marker) == ("", True, None)
        assert [vm.name for vm in facts.vms] == ["vm2"]

    drive(lab, story)


def test_f053_a_host_reboots_for_its_keeper_alone_and_comes_back_guarded(lab: Lab) -> None:
    h2 = lab.host("h2")

    async def story(hypervisor: LibvirtHypervisor) -> None:
        before = await hypervisor.observe(H2)
        with pytest.raises(Refused, match="no marker"):
            await hypervisor.reboot(H2, MARKER)
        await hypervisor.raise_guard(H2, MARKER)
        with pytest.raises(Refused, match="not empty: VM vm2"):
            await hypervisor.reboot(H2, MARKER)
        h2.virsh("destroy", "vm2")
        with pytest.raises(Refused, match="controller test keeps the host empty"):
            await hypervisor.reboot(H2, replace(MARKER, controller="other"))
        await hypervisor.reboot(H2, MARKER)
        after = await seen_again(hypervisor, before.boot_id)
        assert after.marker == MARKER
        assert after.guard_trouble != ""
        assert await hypervisor.prove_guard(H2) == ""
        assert (await hypervisor.observe(H2)).guard_trouble == ""

    async def seen_again(hypervisor: LibvirtHypervisor, boot_id: str) -> HostFacts:
        for _ in range(300):
            with suppress(Refused, Unreachable):
                facts = await hypervisor.observe(H2)
                if facts.boot_id not in ("", boot_id):
                    return facts
            await asyncio.sleep(0.1)
        raise AssertionError("h2 did not come back")

    drive(lab, story)


def test_a_host_that_is_switched_off_is_gone_until_it_gets_power_again(lab: Lab) -> None:
    h2 = lab.host("h2")

    async def story(hypervisor: LibvirtHypervisor) -> None:
        h2.virsh("destroy", "vm2")
        await hypervisor.raise_guard(H2, MARKER)
        await hypervisor.power_off_host(H2, MARKER)

    drive(lab, story)
    wait_until(lambda: h2.inside.first() is None, "h2 to be off", timeout_s=30)
    assert lab.status()["hosts"][1]["pid"] is None
    h2.boot()
    assert json.loads(h2.run("furlough-host", "status"))["marker"]["operation"] == "op-1"


# --- ssh ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ssh:
    """A host that is reached by ssh: with a key that may do anything, and with one that may only
    open a session with furlough-host."""

    host: EnrolledHost
    anything: Path
    session_only: Path


@pytest.fixture
def ssh(lab: Lab, tmp_path: Path) -> Iterator[Ssh]:
    """sshd on h2, as docs/how-to/prepare-hosts.md says."""
    h2 = lab.host("h2")
    keys = {name: new_key(tmp_path / name) for name in ("host", "anything", "session_only")}
    h2.run("mkdir", "-p", "-m", "0755", "/run/sshd")
    h2.run("tee", "/run/sshd/key", text_in=(tmp_path / "host").read_text())
    h2.run("chmod", "600", "/run/sshd/key")
    forced = 'restrict,command="/usr/local/sbin/furlough-host session" '
    allowed = f"{keys['anything']}\n{forced}{keys['session_only']}\n"
    h2.run("tee", "/run/sshd/allowed", text_in=allowed)
    h2.run("tee", "/run/sshd/config", text_in=SSHD.format(address=h2.address))
    h2.run("/usr/sbin/sshd", "-f", "/run/sshd/config")
    known = tmp_path / "known"
    known.write_text(f"{h2.address} {keys['host']}\n")
    configs = {}
    for name in ("anything", "session_only"):
        configs[name] = tmp_path / f"{name}.config"
        configs[name].write_text(
            f"Host *\n UserKnownHostsFile {known}\n IdentityFile {tmp_path / name}\n"
            " IdentitiesOnly yes\n"
        )
    host = replace(enrolled(h2), program=Program.SSH)
    yield Ssh(host=host, **configs)
    with suppress(Refused):
        h2.run("pkill", "-x", "sshd")  # In its own PID namespace.


SSHD = """\
ListenAddress {address}
HostKey /run/sshd/key
AuthorizedKeysFile /run/sshd/allowed
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
"""


def new_key(path: Path) -> str:
    """A key pair; its public half."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path])
    return path.with_suffix(".pub").read_text().strip()


def by_ssh(ssh: Ssh, config: Path, story: Callable[[LibvirtHypervisor], Awaitable[T]]) -> T:
    """A story with furlough-host behind ssh."""

    async def tell() -> T:
        hypervisor = LibvirtHypervisor(RealClock(), config)
        await hypervisor.enrol(Enrolment(hosts=[ssh.host]))
        try:
            return await story(hypervisor)
        finally:
            await hypervisor.close()

    return asyncio.run(tell())


def test_a_key_that_may_open_a_session_only_is_enough_to_guard_a_host(lab: Lab, ssh: Ssh) -> None:
    h2 = lab.host("h2")

    async def story(hypervisor: LibvirtHypervisor) -> None:
        assert (await hypervisor.observe(H2)).guard_trouble == ""
        await hypervisor.raise_guard(H2, MARKER)
        h2.virsh("destroy", "vm2")
        assert LINE in refused(lambda: h2.virsh("start", "vm2"))
        assert (await hypervisor.occupancy(H2)).is_empty
        assert await hypervisor.prove_guard(H2) == ""
        await hypervisor.lower_guard(H2, MARKER)
        # The forced command runs whatever is asked for.
        with pytest.raises(Refused, match="something else than what it is told"):
            await hypervisor.prepare(H2)

    by_ssh(ssh, ssh.session_only, story)


def test_a_host_is_prepared_by_ssh_from_nothing(lab: Lab, ssh: Ssh) -> None:
    h2 = lab.host("h2")
    h2.run("furlough-host", "uninstall")

    async def story(hypervisor: LibvirtHypervisor) -> None:
        facts = await hypervisor.observe(H2)
        assert (facts.has_guard, facts.marker) == (False, None)
        await hypervisor.prepare(H2)
        facts = await hypervisor.observe(H2)
        assert facts.has_guard
        assert facts.guard_trouble != ""
        assert await hypervisor.prove_guard(H2) == ""
        await hypervisor.prepare(H2)
        assert (await hypervisor.observe(H2)).guard_trouble == "", "nothing was changed"

    by_ssh(ssh, ssh.anything, story)
    assert h2.run("readlink", "/usr/local/sbin/esxcli").strip() == "furlough-host"


def test_a_host_whose_key_is_another_one_is_not_spoken_to(ssh: Ssh, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text(f"{ssh.host.address} {new_key(tmp_path / 'other')}\n")
    program = HostProgram(ssh.host, ssh.anything)

    async def ask() -> None:
        with pytest.raises(Unreachable):
            await program.status()
        await program.end()

    asyncio.run(ask())


# --- a person at the host -------------------------------------------------------------------------


def test_a_person_at_the_host_waits_until_the_vms_are_gone_as_on_esxi(lab: Lab) -> None:
    h2 = lab.host("h2")
    words = h2.inside.entering(["esxcli", "system", "maintenanceMode", "set", "-e", "true"])
    waiting = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    while "Waiting for you to move or stop: VM vm2" not in waiting.stderr.readline():
        assert waiting.poll() is None
    get = ("esxcli", "system", "maintenanceMode", "get")
    assert h2.run(*get) == "Disabled\n"
    assert "a person at the host" in refused(lambda: h2.run("furlough-host", "raise", *OWNER))
    h2.virsh("destroy", "vm2")
    assert waiting.wait(timeout=30) == 0
    waiting.communicate()
    assert h2.run(*get) == "Enabled\n"
    assert "kept empty by operation local" in refused(lambda: h2.virsh("start", "vm2"))
    h2.run("furlough-host", "maintenance", "exit")
    h2.virsh("start", "vm2")
