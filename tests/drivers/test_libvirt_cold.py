"""What a definition says of the things that a cold move has to bring along beside it."""

from __future__ import annotations

import pytest

pytest.importorskip("libvirt")

from furlough.core.enrolment import DatastoreKind, EnrolledDatastore, EnrolledHost, Transport
from furlough.core.ids import ClusterName, HostName
from furlough.drivers.libvirt.cold import Baggage, baggage_of, nvram_to_copy
from furlough.drivers.libvirt.domain_xml import root_of
from furlough.errors import Refused

CLUSTER = ClusterName("c1")
VARIABLES = "/var/lib/libvirt/qemu/nvram/web01_VARS.fd"


def baggage(system: str = "", devices: str = "") -> Baggage:
    """What a VM with this in its definition keeps on its host."""
    xml = f"<domain><os><type>hvm</type>{system}</os><devices>{devices}</devices></domain>"
    return baggage_of(root_of(xml))


@pytest.mark.parametrize(
    ("system", "path"),
    [
        ("", ""),
        (f"<nvram>{VARIABLES}</nvram>", VARIABLES),
        (f"<nvram template='/t.fd'>\n {VARIABLES}\n</nvram>", VARIABLES),
        (f"<nvram type='file'><source file='{VARIABLES}'/></nvram>", VARIABLES),
        ("<nvram type='block'><source dev='/dev/vg/vars'/></nvram>", "/dev/vg/vars"),
        ("<nvram type='network'><source protocol='nbd' name='vars'/></nvram>", ""),
        ("<nvram template='/t.fd'/>", ""),
    ],
)
def test_where_the_variables_of_its_firmware_are(system: str, path: str) -> None:
    assert baggage(system) == Baggage(nvram=path, has_tpm=False)


def test_only_a_tpm_that_the_host_emulates_keeps_something_there() -> None:
    emulated = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
    passed = "<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>"
    assert baggage(devices=emulated).has_tpm
    assert not baggage(devices=passed).has_tpm


def to_copy(path: str, *datastores: str) -> str:
    """The file to be copied for a target that mounts these datastores."""
    target = EnrolledHost(
        name=HostName("h2"),
        cluster=CLUSTER,
        address="192.0.2.2",
        transport=Transport.TCP,
        datastores=datastores,
    )
    shared = EnrolledDatastore(
        name="shared", cluster=CLUSTER, kind=DatastoreKind.DIRECTORY, path="/srv/vms"
    )
    return nvram_to_copy(Baggage(nvram=path, has_tpm=False), target, [shared])


def test_what_lies_where_libvirt_keeps_it_is_copied_and_what_both_see_is_not() -> None:
    assert to_copy("") == ""
    assert to_copy(VARIABLES) == "web01_VARS.fd"
    assert to_copy("/srv/vms/web01_VARS.fd", "shared") == ""


@pytest.mark.parametrize(
    "path", ["/srv/vms/web01_VARS.fd", "/dev/vg/vars", "/var/lib/libvirt/qemu/nvram/../x.fd"]
)
def test_what_lies_elsewhere_and_is_not_shared_is_refused_with_the_place(path: str) -> None:
    with pytest.raises(Refused) as told:
        to_copy(path)
    assert told.value.code == "vm.immovable"
    assert path in told.value.message
    assert told.value.remedy
