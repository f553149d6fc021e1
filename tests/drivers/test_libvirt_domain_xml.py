"""Domain XML as it is met in the world, and as somebody hostile would write it (SEC-09, SEC-28)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.core.enrolment import DatastoreKind, EnrolledDatastore
from furlough.core.ids import ClusterName, VmId
from furlough.core.inventory import Agent, Disk, DiskKind, Nic
from furlough.drivers.libvirt.domain_xml import Definition, parse_definition
from furlough.errors import Invalid

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
C1 = ClusterName("c1")
IMAGES = EnrolledDatastore(name="images", cluster=C1, kind=DatastoreKind.DIRECTORY, path="/srv/vms")
NBD = EnrolledDatastore(name="nbd", cluster=C1, kind=DatastoreKind.NBD, address="10.0.0.9")
CEPH = EnrolledDatastore(name="ceph", cluster=C1, kind=DatastoreKind.RBD, address="10.0.0.21")
STORES = (IMAGES, NBD, CEPH)


def domain(devices: str = "", *, body: str = "<memory unit='KiB'>1048576</memory>") -> Definition:
    """What is read of a domain with these parts."""
    return parse_definition(
        f"<domain type='kvm' id='7'><name>web01</name><uuid>{UUID}</uuid>{body}"
        f"<devices>{devices}</devices></domain>",
        STORES,
    )


def one_disk(text: str) -> Disk:
    (disk,) = domain(text).disks
    return disk


# --- a whole one ----------------------------------------------------------------------------------

WHOLE = f"""\
<domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>billing &amp; &lt;payroll&gt;</name>
  <uuid>{UUID.upper()}</uuid>
  <genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid>
  <title>The one that must not stop</title>
  <metadata>
    <app:owner xmlns:app="http://example.org/app"><name>nobody</name><uuid>none</uuid>
      <memory unit='KiB'>1</memory></app:owner>
  </metadata>
  <maxMemory slots='16' unit='KiB'>33554432</maxMemory>
  <memory unit='KiB'>16777216</memory>
  <currentMemory unit='KiB'>8388608</currentMemory>
  <memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages></memoryBacking>
  <vcpu placement='static' cpuset='0-7' current='4'>8</vcpu>
  <os firmware='efi'>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/b_VARS.fd</nvram>
  </os>
  <cpu mode='custom' match='exact' check='full'>
    <model fallback='forbid'>EPYC-Milan</model>
    <vendor>AMD</vendor>
    <feature policy='require' name='x2apic'/>
    <numa><cell id='0' cpus='0-7' memory='16777216' unit='KiB'/></numa>
  </cpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='/srv/vms/b.qcow2' index='1'/>
      <backingStore type='file' index='3'>
        <format type='qcow2'/><source file='/srv/base/debian.qcow2'/><backingStore/>
      </backingStore>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
    <interface type='network'>
      <mac address='52:54:00:aa:bb:cc'/>
      <source network='ovs' portgroup='vlan42' portid='{UUID}' bridge='br-int'/>
      <model type='virtio'/>
    </interface>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
    <redirdev bus='usb' type='spicevmc'><address type='usb' bus='0' port='2'/></redirdev>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
  <seclabel type='dynamic' model='dac' relabel='yes'/>
</domain>
"""


def test_a_vm_with_all_that_a_real_one_has_is_read_as_it_is() -> None:
    assert parse_definition(WHOLE, STORES) == Definition(
        id=VmId(UUID),
        name="billing & <payroll>",
        vcpus=4,
        memory_mib=16_384,
        cpu_model="EPYC-Milan",
        disks=(Disk(target="vda", source="/srv/vms/b.qcow2", datastore="images"),),
        nics=(Nic(network="ovs", mac="52:54:00:aa:bb:cc"),),
        machine="pc-q35-7.2",
        agent=Agent.SILENT,
        has_tpm=True,
        has_nvram=True,
        boot_files=("/usr/share/OVMF/OVMF_CODE.fd",),
        huge_page_kib=2048,
        has_cpu_pins=True,
    )


def test_a_vm_with_next_to_nothing_is_read_too() -> None:
    found = parse_definition(f"<domain><uuid>{UUID}</uuid></domain>", STORES)
    assert (found.id, found.name, found.vcpus, found.memory_mib) == (UUID, "", 1, 0)
    assert (found.cpu_model, found.disks, found.nics, found.devices) == (None, (), (), ())


# --- memory, processors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "memory_mib"),
    [
        ("<memory>2048</memory>", 2),
        ("<memory unit='KiB'>1048576</memory>", 1024),
        ("<memory unit='KiB'>1048577</memory>", 1025),
        ("<memory unit='k'>2048</memory>", 2),
        ("<memory unit='KB'>1048576</memory>", 1000),
        ("<memory unit='b'>1048577</memory>", 2),
        ("<memory unit='bytes'>1048576</memory>", 1),
        ("<memory unit='MiB'>1536</memory>", 1536),
        ("<memory unit='M'>1536</memory>", 1536),
        ("<memory unit='MB'>1000</memory>", 954),
        ("<memory unit='GiB'>3</memory>", 3072),
        ("<memory unit='G'>3</memory>", 3072),
        ("<memory unit='GB'>1</memory>", 954),
        ("<memory unit='TiB'>1</memory>", 1_048_576),
        ("<memory unit='PiB'>1</memory>", 1_073_741_824),
        ("<memory unit='gib'>3</memory>", 3072),
        ("<memory unit='KiB'> 1048576\n</memory>", 1024),
    ],
)
def test_memory_is_understood_in_every_unit_of_libvirts_and_rounded_up(
    text: str, memory_mib: int
) -> None:
    assert domain(body=text).memory_mib == memory_mib


@pytest.mark.parametrize(
    "text",
    [
        "<memory unit='KiB'>-1</memory>",
        "<memory unit='KiB'>lots</memory>",
        "<memory unit='KiB'>1e9</memory>",
        "<memory unit='KiB'>١٢</memory>",
        f"<memory unit='KiB'>{'9' * 5000}</memory>",
        "<memory unit='parsec'>4</memory>",
        "<memory unit=''>4</memory>",
        "<vcpu>-4</vcpu>",
        "<vcpu current='x'>4</vcpu>",
        "<vcpu>four</vcpu>",
    ],
)
def test_a_size_that_is_no_size_is_refused_and_not_guessed(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        domain(body=text)
    assert refusal.value.code == "domain.malformed"
    assert len(refusal.value.message) < 200


@pytest.mark.parametrize(
    ("text", "vcpus"),
    [("<vcpu>8</vcpu>", 8), ("<vcpu current='2'>8</vcpu>", 2), ("<vcpu/>", 1), ("", 1)],
)
def test_the_processors_that_are_plugged_in_count(text: str, vcpus: int) -> None:
    assert domain(body=text).vcpus == vcpus


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("", None),
        ("<cpu mode='host-passthrough' check='none' migratable='on'/>", HOST_PASSTHROUGH),
        ("<cpu mode='maximum' check='none' migratable='on'/>", HOST_PASSTHROUGH),
        ("<cpu mode='custom'><model fallback='allow'>Haswell-noTSX</model></cpu>", "Haswell-noTSX"),
        ("<cpu match='exact'><model>qemu64</model></cpu>", "qemu64"),
        ("<cpu mode='host-model' check='partial'/>", None),
        ("<cpu mode='host-model' check='partial'><model fallback='allow'/></cpu>", None),
        ("<cpu><topology sockets='1' dies='1' cores='4' threads='2'/></cpu>", None),
    ],
)
def test_the_cpu_that_the_vm_needs_is_named(text: str, model: str | None) -> None:
    assert domain(body=text).cpu_model == model


# --- disks ----------------------------------------------------------------------------------------


def test_a_file_lies_in_the_datastore_whose_directory_it_is_below() -> None:
    disk = one_disk(
        "<disk type='file' device='disk'><source file='/srv/vms/a/b.img'/>"
        "<target dev='vdb'/></disk>"
    )
    assert disk == Disk(target="vdb", source="/srv/vms/a/b.img", datastore="images")


@pytest.mark.parametrize("path", ["/srv/vms2/a.img", "/var/lib/libvirt/images/a.img", "a.img"])
def test_a_file_elsewhere_lies_on_no_datastore(path: str) -> None:
    disk = one_disk(f"<disk type='file'><source file='{path}'/><target dev='vda'/></disk>")
    assert (disk.source, disk.datastore) == (path, None)


def test_a_block_device_is_local_whatever_its_name() -> None:
    """2.6: a device of the same name on two hosts need not be the same device."""
    disk = one_disk(
        "<disk type='block' device='disk'><source dev='/dev/vg0/web01' index='1'/>"
        "<target dev='vda'/></disk>"
    )
    assert disk.datastore is None
    assert "/dev/vg0/web01" in disk.source


@pytest.mark.parametrize(
    "text",
    [
        "<disk type='volume' device='disk'><source pool='default' volume='a'/></disk>",
        (
            "<disk type='nvme' device='disk'><source type='pci' managed='yes' namespace='1'>"
            "<address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source></disk>"
        ),
        "<disk type='vhostuser' device='disk'><source type='unix' path='/srv/vms/s'/></disk>",
        "<disk type='dir' device='disk'><source dir='/srv/vms/d'/></disk>",
        (
            "<disk type='network' device='disk'><source protocol='https' name='x'>"
            "<host name='10.0.0.9'/></source></disk>"
        ),
        (
            "<disk type='network' device='disk'><source protocol='nbd' name='x'>"
            "<host transport='unix' socket='/run/nbd'/></source></disk>"
        ),
        "<disk type='network' device='disk'><source protocol='rbd' name='p/x'/></disk>",
        "<disk type='of the future'><source where='/srv/vms/x'/></disk>",
    ],
)
def test_a_disk_that_no_datastore_is_known_to_hold_is_local(text: str) -> None:
    assert one_disk(text).datastore is None


def test_network_disks_lie_where_their_server_is() -> None:
    nbd = one_disk(
        "<disk type='network' device='disk'><source protocol='nbd' name='vm1' tls='no'>"
        "<host name='10.0.0.9' port='10809'/></source><target dev='vda'/></disk>"
    )
    assert nbd == Disk(
        target="vda", source="nbd://10.0.0.9/vm1", datastore="nbd", address="10.0.0.9"
    )
    rbd = one_disk(
        "<disk type='network' device='disk'><auth username='vms'><secret type='ceph' uuid='x'/>"
        "</auth><source protocol='rbd' name='pool/vm1'><host name='10.0.0.20' port='6789'/>"
        "<host name='10.0.0.21' port='6789'/></source><target dev='vdc'/></disk>"
    )
    assert rbd == Disk(
        target="vdc",
        source="rbd://10.0.0.20,10.0.0.21/pool/vm1",
        datastore="ceph",
        address="10.0.0.20",
    )


@pytest.mark.parametrize(
    "text",
    [
        "<disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>",
        "<disk type='file' device='cdrom'><source startupPolicy='optional'/><readonly/></disk>",
        "<disk type='file' device='floppy'><target dev='fda'/></disk>",
        "<disk type='block' device='cdrom'><source startupPolicy='optional'/></disk>",
    ],
)
def test_an_empty_drive_is_no_disk(text: str) -> None:
    assert domain(text).disks == ()


def test_a_medium_in_the_drive_has_to_be_reachable_but_is_never_written() -> None:
    disk = one_disk(
        "<disk type='file' device='cdrom'><source file='/srv/vms/debian.iso'/>"
        "<target dev='sda'/><readonly/></disk>"
    )
    assert (disk.datastore, disk.is_writable) == ("images", False)
    assert (disk.kind, disk.is_medium) == (DiskKind.CDROM, True)


@pytest.mark.parametrize(
    ("device", "kind"),
    [("disk", DiskKind.DISK), ("lun", DiskKind.DISK), ("floppy", DiskKind.FLOPPY)],
)
def test_a_drive_is_told_from_a_disk(device: str, kind: DiskKind) -> None:
    assert one_disk(f"<disk type='file' device='{device}'><source file='/a'/></disk>").kind is kind


def test_a_disk_that_several_vms_share_is_writable() -> None:
    disk = one_disk(
        "<disk type='file'><source file='/srv/vms/q.img'/><target dev='vda'/><shareable/></disk>"
    )
    assert disk.is_writable


# --- interfaces -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("<interface type='network'><source network='default'/></interface>", ["default"]),
        (
            (
                "<interface type='network'><source network='n' bridge='virbr0' portid='x'/>"
                "</interface>"
            ),
            ["n"],
        ),
        (
            "<interface type='network'><source network='n' portgroup='vlan7'/></interface>",
            ["n"],
        ),
        ("<interface type='bridge'><source bridge='br0'/></interface>", ["br0"]),
        ("<interface type='direct'><source dev='eth0' mode='bridge'/></interface>", ["eth0"]),
        ("<interface type='user'/>", []),
        (
            "<interface type='user'><backend type='passt'/><source dev='eth0'/></interface>",
            ["eth0"],
        ),
        (
            "<interface type='vdpa'><source dev='/dev/vhost-vdpa-0'/></interface>",
            ["/dev/vhost-vdpa-0"],
        ),
        ("<interface type='vhostuser'><source type='unix' path='/tmp/s'/></interface>", []),
        (
            (
                "<interface type='hostdev' managed='yes'><source><address type='pci'"
                " domain='0x0000' bus='0x03' slot='0x10' function='0x2'/></source></interface>"
            ),
            [],
        ),
    ],
)
def test_an_interface_hangs_on_what_its_source_names(text: str, networks: list[str]) -> None:
    assert [nic.network for nic in domain(text).nics] == networks


# --- what ties a VM to its host -------------------------------------------------------------------

PCI = "<source><address domain='0x0000' bus='0x81' slot='0x00' function='0x3'/></source>"


@pytest.mark.parametrize(
    ("text", "device"),
    [
        (f"<hostdev mode='subsystem' type='pci' managed='yes'>{PCI}</hostdev>", "pci:0000:81:00:3"),
        (
            (
                "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/>"
                "<product id='0xbeef'/></source></hostdev>"
            ),
            "usb:0x1234:0xbeef",
        ),
        (
            (
                "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='4'/>"
                "</source></hostdev>"
            ),
            "usb:1:4",
        ),
        (
            (
                "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
                f"<address uuid='{UUID}'/></source></hostdev>"
            ),
            f"mdev:{UUID}",
        ),
        (
            (
                "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>"
                "<address bus='0' target='3' unit='1'/></source></hostdev>"
            ),
            "scsi:0:3:1",
        ),
        ("<hostdev mode='subsystem' type='scsi_host'><source wwpn='x'/></hostdev>", "scsi_host"),
        (f"<interface type='hostdev'>{PCI}</interface>", "hostdev:0000:81:00:3"),
        (
            (
                "<filesystem type='mount'><driver type='virtiofs'/><source dir='/srv/share'/>"
                "<target dir='share'/></filesystem>"
            ),
            "filesystem:/srv/share",
        ),
        (
            (
                "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/>"
                "</backend></tpm>"
            ),
            "tpm:/dev/tpm0",
        ),
        ("<serial type='dev'><source path='/dev/ttyS1'/></serial>", "serial:/dev/ttyS1"),
    ],
)
def test_a_device_of_the_host_is_named(text: str, device: str) -> None:
    assert domain(text).devices == (device,)


@pytest.mark.parametrize(
    "text",
    [
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
        "<redirdev bus='usb' type='spicevmc'/>",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
        "<controller type='usb' index='0' model='qemu-xhci'/>",
        "<watchdog model='itco' action='reset'/>",
        f"<hostdev type='pci'>{PCI}<teaming type='transient' persistent='ua-1'/></hostdev>",
        f"<interface type='hostdev'>{PCI}<teaming type='transient' persistent='ua-1'/></interface>",
    ],
)
def test_what_travels_along_or_is_unplugged_for_the_journey_ties_nobody(text: str) -> None:
    assert domain(text).devices == ()


def test_two_devices_of_the_same_kind_are_told_apart() -> None:
    found = domain(
        "".join(
            f"<hostdev type='usb'><source><address bus='1' device='{number}'/></source></hostdev>"
            for number in (4, 5)
        )
    )
    assert len(set(found.devices)) == 2


# --- hostile --------------------------------------------------------------------------------------

ENTITY = "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"{ENTITY}<domain><uuid>{UUID}</uuid><name>&x;</name></domain>", "xml.doctype"),
        ("<domain><uuid>", "xml.syntax"),
        ("", "xml.syntax"),
        ("not XML at all", "xml.syntax"),
        ("<domain>&nbsp;</domain>", "xml.syntax"),
        ("<a>" * 100 + "</a>" * 100, "xml.shape"),
        ("<d " + " ".join(f"a{n}='1'" for n in range(300)) + "/>", "xml.shape"),
        ("<domain>" + "<x/>" * 1_100_000 + "</domain>", "xml.too_large"),
        ("<domain/>", "vm.malformed"),
        ("<domain><uuid>../../etc/passwd</uuid></domain>", "vm.malformed"),
        ("<domain><uuid>{}</uuid></domain>", "vm.malformed"),
    ],
)
def test_what_is_no_plain_domain_is_refused_by_name(text: str, code: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_definition(text, STORES)
    assert refusal.value.code == code


def test_five_hundred_disks_are_five_hundred_disks() -> None:
    text = "<disk type='file'><source file='/srv/vms/x'/><target dev='vd'/></disk>" * 500
    assert len(domain(text).disks) == 500


@pytest.mark.parametrize(
    "name", ["-x", "$(reboot)", "a b", "<script>", "]]>", "'\"", "❄", "n" * 255, "a\nb"]
)
def test_whatever_a_user_calls_a_vm_is_its_name(name: str) -> None:
    escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = f"<domain><name>{escaped}</name><uuid>{UUID}</uuid></domain>"
    assert parse_definition(text, STORES).name == name


_WORDS = st.sampled_from(
    ["<disk type='file'>", "</disk>", "<source file='/srv/vms/a'/>", "<source/>", "<target/>",
     "<hostdev>", "</hostdev>", "<address/>", "<cpu>", "</cpu>", "<model/>", "<memory unit='q'>",
     "</memory>", "<vcpu>", "</vcpu>", "7", "-1", "<interface>", "</interface>", "&amp;", "\0"]
)  # fmt: skip


@settings(max_examples=300)
@given(parts=st.lists(_WORDS, max_size=12))
def test_whatever_stands_in_a_domain_it_is_read_or_refused(parts: list[str]) -> None:
    text = f"<domain><uuid>{UUID}</uuid><devices>{''.join(parts)}</devices></domain>"
    try:
        found = parse_definition(text, STORES)
    except Invalid:
        return
    assert found.id == UUID
