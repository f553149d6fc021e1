"""Probing a host: arrays, the way to others, daemons that let in anybody, VMs started at boot."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.machine import Machine

QUIET = """\
Personalities : [raid1] [raid6]
md0 : active raid1 sdb1[1] sda1[0]
      1048512 blocks super 1.2 [2/2] [UU]

unused devices: <none>
"""
BUSY = """\
Personalities : [raid1] [raid6]
md127 : active raid1 sdb1[2] sda1[0]
      1048512 blocks super 1.2 [2/1] [U_]
      [==>..................]  recovery = 12.6% (132416/1048512) finish=0.6min speed=22069K/sec

md1 : active raid6 sdc1[0] sdd1[1]
      2097024 blocks super 1.2 level 6
      \tresync=DELAYED

md2 : active raid1 sde1[0] sdf1[1]
      1048512 blocks super 1.2 [2/2] [UU]
      [=>...................]  check =  5.1% (53248/1048512) finish=1.2min speed=13312K/sec
"""
HEADER = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def route(interface: str, target: str, mask: str, *, flags: str = "0001", metric: int = 0) -> str:
    """A line of the kernel's table: addresses in hexadecimal, the last byte first."""
    return f"{interface}\t{target}\t00000000\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def write(machine: Machine, path: str, text: str) -> None:
    """A file of the machine."""
    place = machine.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def interface(machine: Machine, name: str, *, below: tuple[str, ...] = (), **files: str) -> Path:
    """An interface in the machine's /sys."""
    directory = machine.root / "sys/class/net" / name
    directory.mkdir(parents=True)
    for lower in below:
        (directory / f"lower_{lower}").mkdir()
    for file, text in files.items():
        (directory / file).write_text(text + "\n")
    return directory


def probe(machine: Machine, *words: str) -> Any:
    """What it finds."""
    return machine.ask("probe", *words).answer


def link(machine: Machine) -> Any:
    """The link that it finds."""
    return probe(machine)["link"]


@pytest.fixture
def listener() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_machine_about_which_there_is_nothing_to_say(machine: Machine) -> None:
    assert probe(machine) == {
        "peers": {},
        "troubles": [],
        "repairs": [],
        "link": None,
        "open_ports": [],
        "guests_at_boot": [],
    }


# --- storage under repair -------------------------------------------------------------------------


def test_arrays_under_repair_are_named_with_what_is_done_to_them(machine: Machine) -> None:
    write(machine, "proc/mdstat", BUSY)
    assert probe(machine)["repairs"] == [
        "md127: recovery 12.6%",
        "md1: resync delayed",
        "md2: check 5.1%",
    ]


def test_arrays_in_order_are_not(machine: Machine) -> None:
    write(machine, "proc/mdstat", QUIET)
    assert probe(machine)["repairs"] == []


# --- the way to others ----------------------------------------------------------------------------


def test_a_peer_that_listens_is_reached_and_how_fast_is_told(
    machine: Machine, listener: int
) -> None:
    peer = probe(machine, "--peer", "h2", "127.0.0.1", str(listener))["peers"]["h2"]
    assert peer["because"] == ""
    assert 0 < peer["latency_ms"] < 2000
    assert peer["address"] == "127.0.0.1"


def test_a_peer_where_nobody_listens_was_reached_all_the_same(machine: Machine) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        peer = probe(machine, "--peer", "h2", "127.0.0.1", str(port))["peers"]["h2"]
    assert peer["is_refused"] is True
    assert f"nobody listens at 127.0.0.1 port {port}" in peer["because"]


def test_a_peer_that_says_nothing_is_given_up_after_two_seconds(machine: Machine) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:  # The queue is full: the kernel drops whoever comes now.
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            peer = probe(machine, "--peer", "h2", "127.0.0.1", str(port))["peers"]["h2"]
        finally:
            for one in waiting:
                one.close()
    assert (peer["is_refused"], peer["latency_ms"]) == (False, None)
    assert "timed out" in peer["because"]


def test_peers_are_asked_at_once_and_told_apart(machine: Machine, listener: int) -> None:
    peers = probe(
        machine,
        *("--peer", "h2", "127.0.0.1", str(listener)),
        *("--peer", "h3", "127.0.0.1", "1"),
        *("--peer", "h4", "no-such-host.invalid", "22"),
    )["peers"]
    assert peers["h2"]["because"] == ""
    assert peers["h3"]["because"] != ""
    assert "no-such-host.invalid is not known" in peers["h4"]["because"]


@pytest.mark.parametrize(
    "peer",
    [
        ("h2", "10.0.0.1"),
        ("h2", "-x", "22"),
        ("h2", "10.0.0.1; reboot", "22"),
        ("h2", "10.0.0.1", "0"),
        ("h2", "10.0.0.1", "65536"),
        ("h2", "10.0.0.1", "ssh"),
        ("../h2", "10.0.0.1", "22"),
    ],
)
def test_a_peer_that_makes_no_sense_is_refused(machine: Machine, peer: tuple[str, ...]) -> None:
    assert machine.ask("probe", "--peer", *peer).refusal == (2, "usage")


# --- the link -------------------------------------------------------------------------------------


def test_the_most_specific_route_says_which_interface_carries_migrations(
    machine: Machine, listener: int
) -> None:
    table = HEADER + route("eth0", "00000000", "00000000") + route("eth1", "0000007F", "000000FF")
    table += route("eth2", "0000007F", "000000FF", metric=100)
    table += route("eth3", "0100007F", "FFFFFFFF", flags="0201")  # which rejects
    write(machine, "proc/net/route", table)
    for name in ("eth0", "eth1"):
        interface(machine, name, speed="1000", device="")
    found = probe(machine, "--peer", "h2", "127.0.0.1", str(listener))["link"]
    assert found["interface"] == "eth1"
    assert link(machine)["interface"] == "eth0", "without a peer: the way to anywhere"


def test_one_card_has_nobody_to_stand_in_for_it(machine: Machine) -> None:
    write(machine, "proc/net/route", HEADER + route("eth0", "00000000", "00000000"))
    interface(machine, "eth0", speed="25000", device="")
    assert link(machine) == {"interface": "eth0", "speed_mbit_s": 25000, "is_redundant": False}


def test_an_interface_that_does_not_say_its_speed_is_of_unknown_speed(machine: Machine) -> None:
    write(machine, "proc/net/route", HEADER + route("eth0", "00000000", "00000000"))
    interface(machine, "eth0", speed="-1")
    assert link(machine) == {"interface": "eth0", "speed_mbit_s": None, "is_redundant": None}


@pytest.mark.parametrize(("second", "is_redundant"), [("up", True), ("down", False)])
def test_a_bond_below_a_vlan_below_a_bridge_is_redundant_while_two_cables_are_in(
    machine: Machine, second: str, is_redundant: bool
) -> None:
    write(machine, "proc/net/route", HEADER + route("br0", "00000000", "00000000"))
    interface(machine, "br0", below=("bond0.17", "vnet0"), speed="10")
    interface(machine, "vnet0", tun_flags="0x1002", speed="10")
    interface(machine, "bond0.17", below=("bond0",))
    interface(machine, "bond0", below=("eth0", "eth1"), speed="50000", bonding="")
    interface(machine, "eth0", operstate="up", device="")
    interface(machine, "eth1", operstate=second, device="")
    assert link(machine) == {
        "interface": "br0",
        "speed_mbit_s": 50000,
        "is_redundant": is_redundant,
    }


def test_a_part_that_fails_is_told_and_the_others_are_not_lost(machine: Machine) -> None:
    write(machine, "proc/net/route", HEADER + route("eth9", "00000000", "00000000"))
    write(machine, "proc/mdstat", BUSY)
    found = probe(machine)
    assert found["link"] is None
    (trouble,) = found["troubles"]
    assert trouble.startswith("link: ")
    assert len(found["repairs"]) == 3


# --- who lets in anybody --------------------------------------------------------------------------


def test_a_daemon_that_asks_nobody_who_they_are_is_named(machine: Machine) -> None:
    write(machine, "etc/libvirt/libvirtd.conf", 'listen_tcp = 1\nauth_tcp = "none"  # lab\n')
    assert probe(machine)["open_ports"] == [
        'TCP port 16509 lets in anybody: auth_tcp = "none" in /etc/libvirt/libvirtd.conf'
    ]


def test_a_port_that_systemd_holds_open_counts_as_well(machine: Machine) -> None:
    write(machine, "etc/libvirt/virtproxyd.conf", 'tcp_port = "16600"\nauth_tcp = "none"\n')
    assert probe(machine)["open_ports"] == []
    line = "   0: 00000000000000000000000000000000:40D8 00000000000000000000000000000000:0000 0A\n"
    write(machine, "proc/net/tcp6", "  sl  local_address  remote_address  st\n" + line)
    assert "port 16600" in probe(machine)["open_ports"][0]


@pytest.mark.parametrize(
    "settings",
    [
        "",
        '#listen_tcp = 1\n#auth_tcp = "none"\n',
        'listen_tcp = 1\nauth_tcp = "sasl"\n',
        "listen_tcp = 1\n",
        'auth_tcp = "none"\n',
    ],
)
def test_a_daemon_that_is_closed_or_asks_is_not(machine: Machine, settings: str) -> None:
    write(machine, "etc/libvirt/libvirtd.conf", settings)
    assert probe(machine)["open_ports"] == []


def test_a_daemon_that_takes_any_certificate_is_named(machine: Machine) -> None:
    write(machine, "etc/libvirt/libvirtd.conf", "tls_no_verify_certificate = 1\n")
    assert "any certificate" in probe(machine)["open_ports"][0]


# --- VMs at boot (F118) ---------------------------------------------------------------------------

SERVICE = "etc/systemd/system/multi-user.target.wants/libvirt-guests.service"


def test_f118_a_guests_service_without_settings_starts_and_saves(machine: Machine) -> None:
    write(machine, SERVICE, "")
    assert probe(machine)["guests_at_boot"] == ["ON_BOOT=start", "ON_SHUTDOWN=suspend"]


@pytest.mark.parametrize("path", ["etc/default/libvirt-guests", "etc/sysconfig/libvirt-guests"])
def test_f118_settings_that_start_nobody_are_fine(machine: Machine, path: str) -> None:
    write(machine, SERVICE, "")
    write(machine, path, "# of Debian\nON_BOOT=ignore\nON_SHUTDOWN='shutdown'\n")
    assert probe(machine)["guests_at_boot"] == []
    write(machine, path, "#ON_BOOT=ignore\nON_SHUTDOWN=shutdown\n")
    assert probe(machine)["guests_at_boot"] == ["ON_BOOT=start"]


def test_f118_what_a_distribution_has_made_of_the_service_counts(machine: Machine) -> None:
    write(machine, SERVICE, "")
    script = '#!/bin/sh\nON_BOOT="ignore"\nON_SHUTDOWN="shutdown"\ntest "$ON_BOOT" = start\n'
    write(machine, "usr/lib/libvirt/libvirt-guests.sh", script)
    assert probe(machine)["guests_at_boot"] == []
    write(machine, "etc/default/libvirt-guests", "ON_BOOT=start\n")
    assert probe(machine)["guests_at_boot"] == ["ON_BOOT=start"]


def test_f118_a_service_that_is_switched_off_starts_nobody(machine: Machine) -> None:
    write(machine, "etc/default/libvirt-guests", "ON_BOOT=start\n")
    assert probe(machine)["guests_at_boot"] == []
