"""What a domain XML says beyond the bare machine: the owner's policy, what the guest and the host
add, and what stands against moving it live. Somebody hostile may write metadata (SEC-09)."""

from __future__ import annotations

import pytest

from furlough.core.inventory import Agent
from furlough.core.vm_policy import policy_of
from furlough.drivers.libvirt.domain_xml import Definition, parse_definition
from furlough.errors import Invalid

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"


def domain(devices: str = "", *, body: str = "") -> Definition:
    """What is read of a running domain with these parts."""
    return parse_definition(
        f"<domain type='kvm' id='7'><name>web01</name><uuid>{UUID}</uuid>{body}"
        f"<devices>{devices}</devices></domain>",
        (),
    )


# --- what else its owner and its host say ---------------------------------------------------------


def policy(metadata: str) -> tuple[tuple[str, str], ...]:
    """The words of a domain with this metadata."""
    return domain(body=f"<metadata>{metadata}</metadata>").own_policy


OURS = "xmlns:furlough='urn:furlough:vm:1'"


def many(count: int) -> str:
    """So many attributes."""
    return " ".join(f"a{number}=''" for number in range(count))


def test_the_policy_that_travels_with_a_vm_is_read_beside_other_peoples_metadata() -> None:
    text = (
        "<app:x xmlns:app='http://example.org/app' on_maintenance='leave'><policy ha='true'/>"
        f"</app:x><furlough:policy {OURS} on_maintenance='shut_down' ha='true'/>"
    )
    assert policy(text) == (("ha", "true"), ("on_maintenance", "shut_down"))
    assert policy("<app:x xmlns:app='http://example.org/app'/>") == ()
    assert domain().own_policy == ()


@pytest.mark.parametrize(
    ("metadata", "trouble"),
    [
        (f"<furlough:policy {OURS} on_maintenance='explode'/>", "on_maintenance cannot be"),
        (f"<furlough:policy {OURS} colour='red'/>", "no policy 'colour'"),
        (f"<furlough:policy {OURS} ha='{'x' * 100_000}'/>", "ha is longer than"),
        (f"<furlough:policy {OURS}><ha>true</ha></furlough:policy>", "no policy '<ha>'"),
        (f"<furlough:plan {OURS} ha='true'/>", "no policy '<plan>'"),
        (
            f"<furlough:policy {OURS} {many(100)}/>",
            "too many words",
        ),
        ("<x>" * 100 + "</x>" * 100, "unreadable metadata"),
        (f"<furlough:policy {OURS} {many(500)}/>", "unreadable"),
    ],
)
def test_a_policy_that_makes_no_sense_is_a_trouble_of_its_vm_and_of_nobody_else(
    metadata: str, trouble: str
) -> None:
    words = policy(metadata)
    _policy, troubles = policy_of(words)
    assert trouble in " ".join(troubles)
    assert len(" ".join(troubles)) < 500


def test_half_a_sensible_policy_counts() -> None:
    words = policy(f"<furlough:policy {OURS} availability_priority='90' ha='perhaps'/>")
    found, troubles = policy_of(words)
    assert (found.availability_priority, found.ha, len(troubles)) == (90, False, 1)


@pytest.mark.parametrize(
    ("channel", "agent"),
    [
        ("", Agent.NONE),
        ("<target type='virtio' name='com.redhat.spice.0' state='connected'/>", Agent.NONE),
        ("<target type='virtio' name='org.qemu.guest_agent.0'/>", Agent.SILENT),
        (
            "<target type='virtio' name='org.qemu.guest_agent.0' state='disconnected'/>",
            Agent.SILENT,
        ),
        (
            "<target type='virtio' name='org.qemu.guest_agent.0' state='connected'/>",
            Agent.CONNECTED,
        ),
    ],
)
def test_an_agent_is_there_when_it_has_opened_its_channel(channel: str, agent: Agent) -> None:
    assert domain(f"<channel type='unix'>{channel}</channel>").agent is agent


def test_all_files_that_a_start_needs_are_named_once() -> None:
    found = domain(
        "<interface type='bridge'><rom file='/srv/pxe.rom'/></interface>"
        "<interface type='bridge'><rom file='/srv/pxe.rom'/></interface>",
        body="<os><kernel>/boot/k</kernel><initrd>/boot/i</initrd><dtb>/boot/d</dtb>"
        "<loader type='rom'>/srv/bios.bin</loader><acpi><table type='slic'>/srv/slic</table></acpi>"
        "</os><sysinfo type='fwcfg'><entry name='opt/x' file='/srv/ignition'/></sysinfo>",
    )
    assert found.boot_files == (
        "/boot/k", "/boot/i", "/boot/d", "/srv/bios.bin", "/srv/slic", "/srv/pxe.rom",
        "/srv/ignition",
    )  # fmt: skip
    assert not found.has_nvram


@pytest.mark.parametrize(
    ("body", "has_nvram"),
    [
        ("<os firmware='efi'><type>hvm</type></os>", True),
        ("<os><nvram>/var/lib/libvirt/qemu/nvram/a.fd</nvram></os>", True),
        ("<os firmware='bios'><type>hvm</type></os>", False),
    ],
)
def test_firmware_that_keeps_variables_is_seen(body: str, has_nvram: bool) -> None:
    assert domain(body=body).has_nvram is has_nvram


@pytest.mark.parametrize(
    ("mirror", "words"),
    [
        ("<mirror type='file' job='copy' ready='yes'/>", "a block copy of disk vda"),
        ("<mirror type='file' job='active-commit'/>", "a block commit of disk vda"),
        ("", ""),
    ],
)
def test_a_disk_that_is_being_copied_keeps_its_vm_busy(mirror: str, words: str) -> None:
    text = f"<disk type='file'><source file='/a'/><target dev='vda'/>{mirror}</disk>"
    assert domain(text).busy_with == words


@pytest.mark.parametrize(
    ("backing", "kib"),
    [
        ("<hugepages/>", 2048),
        ("<hugepages><page size='1' unit='G' nodeset='0'/></hugepages>", 1_048_576),
        ("<hugepages><page size='2048'/></hugepages>", 2048),
        ("<locked/>", None),
    ],
)
def test_huge_pages_are_told_by_their_size(backing: str, kib: int | None) -> None:
    assert domain(body=f"<memoryBacking>{backing}</memoryBacking>").huge_page_kib == kib


def test_the_nodes_that_memory_is_bound_to_are_counted_out() -> None:
    found = domain(
        body="<numatune><memory mode='strict' nodeset='0-3,^2'/>"
        "<memnode cellid='0' mode='strict' nodeset='7'/></numatune>"
    )
    assert found.numa_nodes == {0, 1, 3, 7}
    assert domain(body="<numatune><memory placement='auto'/></numatune>").numa_nodes == frozenset()


@pytest.mark.parametrize("nodes", ["0-999999999", "x", "-1", "٣"])
def test_nodes_that_are_none_are_refused(nodes: str) -> None:
    text = f"<numatune><memory nodeset='{nodes}'/></numatune>"
    with pytest.raises(Invalid):
        domain(body=text)


@pytest.mark.parametrize(
    ("body", "has_pins"),
    [
        ("<vcpu placement='static' cpuset='2-3'>2</vcpu>", True),
        ("<vcpu placement='auto' cpuset='2-3'>2</vcpu>", False),
        ("<cputune><vcpupin vcpu='0' cpuset='1'/></cputune>", True),
        ("<cputune><emulatorpin cpuset='1'/></cputune>", True),
        ("<cputune><shares>2048</shares></cputune>", False),
    ],
)
def test_pins_to_processors_of_the_host_are_seen(body: str, has_pins: bool) -> None:
    assert domain(body=body).has_cpu_pins is has_pins


# --- what cannot move live ------------------------------------------------------------------------

INVTSC = "<cpu mode='custom'><model>EPYC</model><feature policy='require' name='invtsc'/></cpu>"


@pytest.mark.parametrize(
    ("devices", "body", "words"),
    [
        ("<disk type='file'><source file='/a'/><target dev='vdb'/><transient/></disk>", "", "vdb"),
        ("<shmem name='ring' role='peer'/>", "", "'ring'"),
        ("<shmem name='ring'/>", "", "'ring'"),
        ("<filesystem><driver type='virtiofs'/><source dir='/s'/></filesystem>", "", "share of /s"),
        ("<smartcard mode='host'/>", "", "smart card"),
        ("<memory model='sgx-epc'/>", "", "SGX"),
        ("<memory model='dimm'><target/></memory>", "", "fixed address"),
        ("", "<cpu mode='host-passthrough' migratable='off'/>", "not migratable"),
        ("", INVTSC, "invtsc"),
        ("", f"{INVTSC}<clock><timer name='tsc' mode='native'/></clock>", "invtsc"),
        ("", "<launchSecurity type='sev'/>", "(sev)"),
    ],
)
def test_what_libvirt_will_not_move_live_is_named(devices: str, body: str, words: str) -> None:
    (found,) = domain(devices, body=body).hindrances
    assert words in found


@pytest.mark.parametrize(
    ("devices", "body"),
    [
        ("<shmem name='ring' role='master'/>", ""),
        ("<filesystem><driver type='path'/><source dir='/s'/></filesystem>", ""),
        ("<smartcard mode='passthrough' type='spicevmc'/>", ""),
        ("<memory model='dimm'><address type='dimm' slot='0' base='0x100000000'/></memory>", ""),
        ("<memory model='virtio-mem'/>", ""),
        ("<interface type='user'/>", ""),
        ("", "<cpu mode='host-passthrough' migratable='on'/>"),
        ("", INVTSC.replace("require", "disable")),
        ("", f"{INVTSC}<clock><timer name='tsc' frequency='2400000000'/></clock>"),
    ],
)
def test_what_can_move_is_not_accused(devices: str, body: str) -> None:
    assert domain(devices, body=body).hindrances == ()


def test_a_vm_that_is_off_has_no_addresses_yet_and_is_not_accused_for_it() -> None:
    text = f"<domain><uuid>{UUID}</uuid><devices><memory model='dimm'/></devices></domain>"
    assert parse_definition(text, ()).hindrances == ()
