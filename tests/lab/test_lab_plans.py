"""What a lab is going to be: options, blueprint, XML, configuration. No lab is needed."""

import ipaddress
import stat
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from furlough.cli.lab import aligned, instant
from furlough.errors import Bug, FurloughError, Invalid, Refused
from furlough.lab import configuration, domain_xml, requirements
from furlough.lab.blueprint import (
    Accelerator,
    Blueprint,
    Keepalive,
    Options,
    Storage,
    draw,
)
from furlough.lab.collector import Tail
from furlough.lab.guest import Entry, archive, with_needs
from furlough.lab.network import free_network
from furlough.lab.processes import Process, carries
from furlough.lab.site import Site

KERNEL = Path("/boot/vmlinuz-6.1.0-1-cloud-amd64")


def test_vms_are_spread_round_robin_and_some_start_by_themselves() -> None:
    blueprint = draw("lab", Options(hosts=3, vms=7), 7)
    assert [vm.host for vm in blueprint.vms] == ["h1", "h2", "h3", "h1", "h2", "h3", "h1"]
    assert [vm.name for vm in blueprint.vms if vm.is_autostarted] == ["vm1", "vm4", "vm7"]


def test_all_vms_may_start_on_one_host() -> None:
    blueprint = draw("lab", Options(hosts=3, vms=4, on="h2"), 7)
    assert {vm.host for vm in blueprint.vms} == {"h2"}


def test_a_lab_built_again_has_the_same_vms_and_another_lab_has_others() -> None:
    first, again = draw("lab", Options(), 7), draw("lab", Options(), 9)
    other = draw("other", Options(), 7)
    assert [vm.uuid for vm in first.vms] == [vm.uuid for vm in again.vms]
    assert not {vm.uuid for vm in first.vms} & {vm.uuid for vm in other.vms}
    assert not {host.uuid for host in first.hosts} & {host.uuid for host in other.hosts}


def test_a_blueprint_survives_being_written_and_read() -> None:
    options = Options(
        hosts=2,
        vms=3,
        storage=Storage.DIR,
        accelerator=Accelerator.KVM,
        rate_mbit_s=300,
        keepalive=Keepalive(interval_s=1, count=3),
    )
    blueprint = draw("lab", options, 7)
    assert Blueprint.from_json(blueprint.to_json()) == blueprint


def test_a_description_of_another_version_is_not_guessed_at() -> None:
    text = draw("lab", Options(), 7).to_json().replace('"format": 1', '"format": 2')
    with pytest.raises(Bug, match="another version"):
        Blueprint.from_json(text)


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        ({"hosts": 0}, "--hosts 0 is not between 1 and 20"),
        ({"vms": 201}, "--vms 201"),
        ({"memory_mib": 64}, "--memory 64"),
        ({"fill_percent": 101}, "--fill 101"),
        ({"rate_mbit_s": 0}, "--rate 0"),
        ({"on": "h4"}, "no such host"),
        ({"fill_percent": 90, "hot_mib": 30}, "--fill and --hot ask for 84 MiB"),
    ],
)
def test_options_that_cannot_be_built_are_refused_by_name(
    choice: dict[str, int], complaint: str
) -> None:
    with pytest.raises(Invalid, match=complaint):
        Options(**choice)  # type: ignore[arg-type]


def test_keepalive_is_read_as_seconds_times_count() -> None:
    assert Keepalive.parse("1x3") == Keepalive(interval_s=1, count=3)
    for text in ("", "5", "0x3", "1x", "1x-1", "1 x 3"):
        with pytest.raises(Invalid, match="no keepalive"):
            Keepalive.parse(text)


@pytest.mark.parametrize("name", ["", "1lab", "Lab", "a-b", "../x", "abcdefghijklm"])
def test_a_lab_name_must_fit_an_interface_and_a_path(name: str) -> None:
    with pytest.raises(Invalid, match="cannot be called"):
        Site.named(name)


def test_the_longest_lab_name_still_makes_an_interface_name() -> None:
    assert len(Site.named("abcdefghijkl").link) == 15


def test_a_network_that_is_routed_is_not_taken() -> None:
    assert free_network([]) == 1
    assert free_network(["10.213.1.0/24", "10.213.2.7", "192.0.2.0/24"]) == 3
    with pytest.raises(Refused, match="routed already"):
        free_network(["10.0.0.0/8"])


def test_addresses_of_a_lab_lie_in_its_network_and_differ() -> None:
    blueprint = draw("lab", Options(hosts=20), 7)
    addresses = [host.address for host in blueprint.hosts]
    addresses += [blueprint.switch_address, blueprint.outer_address]
    assert len(set(addresses)) == 22
    network = ipaddress.IPv4Network("10.213.7.0/24")
    assert all(ipaddress.IPv4Address(one) in network for one in addresses)


def parsed(blueprint: Blueprint, vm: int) -> ET.Element:
    """The domain XML of one of its VMs."""
    text = domain_xml.domain(blueprint, blueprint.vms[vm], KERNEL)
    return tree(text)


def tree(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own text


def element(root: ET.Element, path: str) -> ET.Element:
    """The one element at this path."""
    found = root.findall(path)
    assert len(found) == 1, path
    return found[0]


def test_the_domain_of_a_network_disk_may_migrate_without_the_unsafe_flag() -> None:
    blueprint = draw("lab", Options(storage=Storage.NBD), 7)
    domain = parsed(blueprint, 0)
    assert domain.get("type") == "qemu"
    assert element(domain, "./features/tcg/tb-cache").text == "64"
    disk = element(domain, "./devices/disk")
    assert (disk.get("type"), element(disk, "driver").get("cache")) == ("network", "none")
    source = element(disk, "source")
    assert (source.get("protocol"), source.get("name")) == ("nbd", "vm1")
    assert element(source, "host").get("name") == "10.213.7.1"


def test_the_domain_of_a_file_disk_names_the_shared_directory() -> None:
    blueprint = draw("lab", Options(storage=Storage.DIR, accelerator=Accelerator.KVM), 7)
    domain = parsed(blueprint, 1)
    assert domain.get("type") == "kvm"
    assert domain.find("./features/tcg") is None
    assert element(domain, "./devices/disk/source").get("file") == "/srv/furlough-vms/vm2.qcow2"


def test_the_domain_is_the_same_on_every_host() -> None:
    here, there = draw("lab", Options(on="h1"), 7), draw("lab", Options(on="h2"), 7)
    assert domain_xml.domain(here, here.vms[0], KERNEL) == domain_xml.domain(
        there, there.vms[0], KERNEL
    )


def test_fill_and_hot_set_reach_the_guest_by_its_command_line() -> None:
    options = Options(memory_mib=128, fill_percent=50, hot_mib=10, hot_mib_s=5)
    line = domain_xml.command_line(options)
    assert "furlough_fill_mib=30 furlough_hot_mib=10 furlough_hot_mib_s=5" in line


def test_the_daemon_is_told_of_cluster_datastore_and_hosts() -> None:
    text = configuration.furlough_toml(draw("lab", Options(hosts=2, rate_mbit_s=300), 7))
    config = tomllib.loads(text)
    assert config["cluster"] == [{"name": "lab"}]
    assert config["datastore"] == [
        {"name": "vms", "cluster": "lab", "kind": "nbd", "address": "10.213.7.1"}
    ]
    assert config["host"][1] == {
        "name": "h2",
        "cluster": "lab",
        "address": "10.213.7.12",
        "transport": "tcp",
        "migration_address": "10.213.7.12",
        "link_mbit_s": 300,
        "datastores": ["vms"],
        "program": "namespace",
        "has_other_way_in": True,
        "namespace": "lab/h2",
    }


def test_several_clusters_share_the_hosts_and_take_who_finds_no_place_in_another() -> None:
    text = configuration.furlough_toml(draw("lab", Options(hosts=5, clusters=2), 7))
    config = tomllib.loads(text)
    assert config["cluster"] == [
        {"name": "lab", "overflow_clusters": ["lab-2"]},
        {"name": "lab-2", "overflow_clusters": ["lab"]},
    ]
    clusters = [host["cluster"] for host in config["host"]]
    assert clusters == ["lab", "lab", "lab", "lab-2", "lab-2"]
    assert [one["datastores"] for one in config["host"]] == [["vms"]] * 5
    with pytest.raises(Invalid, match="--clusters 3 is not between 1 and 2"):
        Options(hosts=2, clusters=3)


def test_a_directory_is_a_datastore_with_a_path() -> None:
    text = configuration.furlough_toml(draw("lab", Options(storage=Storage.DIR), 7))
    datastore = tomllib.loads(text)["datastore"][0]
    assert (datastore["kind"], datastore["path"]) == ("directory", "/srv/furlough-vms")


def test_keepalive_reaches_libvirt_only_when_asked_for() -> None:
    assert "keepalive" not in configuration.qemu(None, has_certificates=False)
    keepalive = Keepalive(interval_s=1, count=3)
    text = configuration.qemu(keepalive, has_certificates=False)
    assert "keepalive_interval = 1\nkeepalive_count = 3\n" in text


def test_a_host_with_certificates_takes_migrations_only_from_those_who_have_one() -> None:
    text = configuration.qemu(None, has_certificates=True)
    assert 'migrate_tls_x509_cert_dir = "/etc/pki/qemu"\nmigrate_tls_x509_verify = 1\n' in text
    assert "tls" not in configuration.qemu(None, has_certificates=False)


def test_only_root_may_build_a_lab() -> None:
    with pytest.raises(Refused, match="needs root") as refusal:
        requirements.check_user(1000)
    assert refusal.value.code == "lab.not_root"
    with pytest.raises(Refused, match="needs root"):
        requirements.check_user(65534)
    requirements.check_user(0)


def test_missing_programs_are_named_with_the_line_to_type() -> None:
    missing = requirements.missing_packages("/nonexistent")
    assert {"iproute2", "libvirt-clients", "qemu-system-x86", "tini"} <= set(missing)
    with pytest.raises(Refused) as refusal:
        requirements.check_packages(missing)
    assert refusal.value.remedy.startswith("apt-get install --no-install-recommends ")
    assert "gcc iproute2 libvirt-clients" in refusal.value.remedy


def test_more_vms_than_memory_are_refused() -> None:
    with pytest.raises(Refused, match="200 VMs need"):
        requirements.check_memory(Options(vms=200, memory_mib=65536))


def test_kernels_are_sorted_as_versions() -> None:
    names = ["vmlinuz-6.1.0-9-cloud-amd64", "vmlinuz-6.1.0-10-cloud-amd64"]
    newest = max((Path(name) for name in names), key=requirements.version_of)
    assert newest.name == names[1]


def test_the_initramfs_is_an_archive_the_kernel_can_read() -> None:
    packed = archive([Entry(path="bin"), Entry(path="bin/sh", content=b"abc", is_program=True)])
    members, at = {}, 0
    while packed[at : at + 6] == b"070701":
        fields = [int(packed[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name_end = at + 110 + fields[11]
        start = (name_end + 3) // 4 * 4
        name = packed[at + 110 : name_end - 1].decode()
        members[name] = (fields[1], packed[start : start + fields[6]])
        at = (start + fields[6] + 3) // 4 * 4
    assert at == len(packed)
    assert members["bin"] == (stat.S_IFDIR | 0o755, b"")
    assert members["bin/sh"] == (stat.S_IFREG | 0o755, b"abc")
    assert list(members)[-1] == "TRAILER!!!"


def test_a_guests_modules_are_loaded_after_those_that_they_need() -> None:
    dependencies = (
        "kernel/a/pci.ko.xz: kernel/b/legacy.ko.xz kernel/b/bus.ko.xz kernel/b/ring.ko.xz\n"
        "kernel/a/console.ko.xz: kernel/b/bus.ko.xz kernel/b/ring.ko.xz\n"
        "kernel/b/bus.ko.xz: kernel/b/ring.ko.xz\nkernel/b/ring.ko.xz:\n"
    )
    assert with_needs(["a/pci.ko", "a/console.ko"], dependencies) == [
        "b/ring.ko", "b/bus.ko", "b/legacy.ko", "a/pci.ko", "a/console.ko",
    ]  # fmt: skip
    assert with_needs(["c/alone.ko"], dependencies) == ["c/alone.ko"]


def test_a_vm_may_be_made_contrary_or_given_a_device() -> None:
    blueprint = draw("lab", Options(), 7)
    plain = domain_xml.domain(blueprint, blueprint.vms[0], KERNEL)
    contrary = domain_xml.with_words(plain, domain_xml.IGNORES_SHUTDOWN, domain_xml.AGENT_HANGS)
    told = tree(contrary).findtext("os/cmdline", "").split()
    assert told[-2:] == ["furlough_shutdown=ignore", "furlough_agent=hangs"]
    equipped = tree(domain_xml.with_device(plain, domain_xml.AGENT_CHANNEL))
    assert len(equipped.findall("devices/channel")) == 1
    assert len(equipped.findall("devices/*")) == len(tree(plain).findall("devices/*")) + 1


def test_the_collector_takes_whole_lines_only(tmp_path: Path) -> None:
    serial = tmp_path / "vm1"
    serial.write_bytes(b"kernel noise\n@aaaaaaaa 0000000007.\r\n@aaaaaaaa 00000")
    tail = Tail(serial, 0)
    assert tail.lines() == [("aaaaaaaa", 7)]
    with serial.open("ab") as file:
        file.write(b"00008.\n")
    assert tail.lines() == [("aaaaaaaa", 8)]
    assert tail.lines() == []


def test_the_two_ends_of_a_line_cut_by_a_switchover_are_no_line(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"@aaaaaaaa 0000000007.\n@aaaaaaaa 0000")
    target.write_bytes(b"000008.\n@aaaaaaaa 0000000009.\n")
    assert Tail(source, 0).lines() == [("aaaaaaaa", 7)]
    assert Tail(target, 0).lines() == [("aaaaaaaa", 9)]


def test_a_stranger_bears_no_mark() -> None:
    assert not carries(1, "/run/furlough-lab/lab")
    assert Process.of(2**22 + 1) is None


def test_since_is_an_instant_or_a_length_of_time() -> None:
    assert instant("1700000000.5", 1800000000) == 1700000000.5
    assert instant("90s", 1000) == 910
    assert instant("5m", 1000) == 700
    with pytest.raises(FurloughError, match="neither an instant"):
        instant("yesterday", 1000)


def test_tables_are_aligned_and_have_no_trailing_blanks() -> None:
    assert aligned(["A", "B"], [["1", "22"], ["333", ""]]) == "A    B\n1    22\n333"
