"""Prechecks of the host: its guard, its clock, the ways into it, the network to the targets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from furlough.core.encryption import ABLE, MigrationTls, TlsMeans
from furlough.core.findings import Finding, Severity
from furlough.core.ids import HostName
from furlough.core.inventory import Inventory
from furlough.core.probe import Link, Probe, Reach
from furlough.core.vm_policy import OnMaintenance, VmPolicy
from tests.core.builders import H1, H2, H3, a_disk, a_host, a_probe, a_vm, an_inventory, later
from tests.prechecks.troubles import Trouble, probed, with_hosts

SERVER = "192.0.2.1"


def _found(inventory: Inventory, code: str) -> list[Finding]:
    (report,) = Trouble(inventory=inventory).assessment().reports
    return [one for one in report.findings if one.code == code]


def _codes(inventory: Inventory) -> list[str]:
    return [one.code for one in Trouble(inventory=inventory).assessment().reports[0].findings]


def test_an_ordinary_probe_says_nothing() -> None:
    assert _codes(probed(a_probe(bmc_answers=True, link=Link(interface="eth1")), a_vm(1))) == []


def test_a_hook_that_was_not_seen_to_refuse_is_told_with_its_trouble() -> None:
    host = replace(a_host(H1), guard_trouble="the daemon restarted since the proof.")
    (found,) = _found(with_hosts(host), "guard.unproven")
    assert found.message == (
        "The guard of h1 cannot be relied on: the daemon restarted since the proof."
    )


def test_where_furlough_host_does_not_answer_its_hook_is_not_spoken_of() -> None:
    host = replace(a_host(H1, has_guard=False), guard_trouble="nobody answers")
    assert _codes(with_hosts(host)) == ["guard.missing"]


@pytest.mark.parametrize(
    ("offset_s", "words"),
    [(1.4, "1.4 s ahead"), (-12.0, "12.0 s behind"), (1.0, ""), (-0.9, ""), (None, "")],
)
def test_a_clock_that_is_more_than_a_second_off_is_a_warning(
    offset_s: float | None, words: str
) -> None:
    found = _found(probed(a_probe(clock_offset_s=offset_s)), "host.clock")
    assert [words in one.message for one in found] == ([True] if words else [])


def test_the_clocks_of_targets_matter_as_well() -> None:
    target = replace(a_host(H3), probe=a_probe(clock_offset_s=3.0))
    (found,) = _found(with_hosts(target), "host.clock")
    assert found.subject == H3


def test_a_host_with_a_bmc_that_answers_has_another_way_in() -> None:
    assert _codes(probed(a_probe(bmc_answers=True))) == []
    assert _codes(probed(a_probe(bmc_answers=None))) == [], "none is enrolled, another way is"


def _serving(*, host: str, policy: VmPolicy | None = None) -> Inventory:
    vm = replace(a_vm(1, host=host), disks=(replace(a_disk(), address=SERVER),))  # type: ignore[arg-type]
    if policy is not None:
        vm = replace(vm, policy=policy, devices=("gpu",))
    serving = replace(a_host(H1), addresses=frozenset({SERVER, "h1.example"}))
    return with_hosts(serving, vms=(vm,))


def test_a_host_that_serves_disks_to_vms_elsewhere_must_not_go_away() -> None:
    (found,) = _found(_serving(host=H2), "host.serves_disks")
    assert "h1 serves disks of vm1" in found.message
    assert "on h2" in found.message


def test_a_vm_that_moves_away_from_the_host_that_serves_its_disk_counts_too() -> None:
    assert len(_found(_serving(host=H1), "host.serves_disks")) == 1


def test_a_vm_that_is_shut_down_reads_no_disk() -> None:
    off = VmPolicy(on_maintenance=OnMaintenance.SHUT_DOWN)
    assert _found(_serving(host=H1, policy=off), "host.serves_disks") == []


def test_of_many_served_vms_five_are_named() -> None:
    served = replace(a_disk(), address=SERVER)
    vms = tuple(a_vm(n, host=H2, disks=[served]) for n in range(1, 8))
    serving = replace(a_host(H1), addresses=frozenset({SERVER}))
    (found,) = _found(with_hosts(serving, vms=vms), "host.serves_disks")
    assert found.message.endswith("and 2 more.")


def test_a_target_that_is_not_reached_is_named_and_not_used() -> None:
    inventory = probed(a_probe(peers={H2: Reach(because="connection refused")}), a_vm(1))
    (found,) = _found(inventory, "network.unreachable")
    assert found.subject == H2
    assert found.message == "h1 does not reach h2 for migrations: connection refused."
    assert Trouble(inventory=inventory).assessment().dispositions[0].target == H3


def test_the_way_back_has_to_be_open_too() -> None:
    target = replace(a_host(H2), probe=a_probe(peers={H1: Reach(because="timed out.")}))
    (found,) = _found(with_hosts(target, vms=(a_vm(1),)), "network.unreachable")
    assert found.message == "h2 does not reach h1 for migrations: timed out."


def test_a_network_over_which_nobody_has_to_go_is_not_spoken_of() -> None:
    assert _codes(probed(a_probe(peers={H2: Reach(because="connection refused")}))) == []


def test_a_slow_answer_of_either_side_is_a_detour() -> None:
    fast, slow = Reach(latency_ms=0.4), Reach(latency_ms=9.0)
    hosts = [
        replace(a_host(H1), probe=a_probe(peers={H2: fast})),
        replace(a_host(H2), probe=a_probe(peers={H1: slow, H3: slow})),
    ]
    (found,) = _found(with_hosts(*hosts, vms=(a_vm(1),)), "network.latency")
    assert (found.subject, "9.0 ms" in found.message) == (H2, True)


def test_a_link_below_the_rate_it_was_enrolled_with_is_slow_wherever_it_is() -> None:
    def linked(speed_mbit_s: int | None) -> Probe:
        return a_probe(link=Link(interface="eth1", speed_mbit_s=speed_mbit_s))

    slow = with_hosts(replace(a_host(H2), probe=linked(1000)))
    (found,) = _found(slow, "network.slow")
    assert found.message == "eth1 of h2 runs at 1000 Mbit/s; it was enrolled with 10000."
    assert _codes(with_hosts(replace(a_host(H2), probe=linked(10_000)))) == []
    assert _codes(with_hosts(replace(a_host(H2), probe=linked(None)))) == []


def test_a_single_cable_is_told_of_the_host_and_not_of_every_target() -> None:
    single = a_probe(link=Link(interface="eth1", is_redundant=False))
    assert _codes(with_hosts(replace(a_host(H2), probe=single))) == []
    assert _codes(probed(single)) == ["network.no_redundancy"]


def test_what_could_not_be_probed_is_told_of_every_host_that_answers() -> None:
    failed = a_probe(troubles=["furlough-host did not answer in time"], at=later(-1))
    hosts = [
        replace(a_host(H1), probe=failed),
        replace(a_host(H2, silent_because="off"), probe=failed),
    ]
    found = _found(an_inventory(hosts=[*hosts, a_host(H3)]), "probe.failed")
    assert [one.subject for one in found] == [H1]


def _ends(*, required: bool = False, unable: tuple[HostName, ...] = (H2,)) -> Inventory:
    """Three hosts, some of which have no certificates, and a VM on the first."""
    wish = MigrationTls.REQUIRED if required else MigrationTls.WHEN_POSSIBLE
    lacks = TlsMeans(trouble="/etc/pki/qemu has no ca-cert.pem")
    hosts = [
        replace(a_host(name), migration_tls=wish, tls=lacks if name in unable else ABLE)
        for name in (H1, H2, H3)
    ]
    return with_hosts(*hosts, vms=(a_vm(1),))


def test_a_target_to_which_memory_would_pass_in_clear_is_named() -> None:
    (found,) = _found(_ends(), "network.unencrypted")
    assert (found.subject, found.severity) == (H2, Severity.WARNING)
    assert found.message == (
        "From h1 to h2 memory passes in clear: h2: /etc/pki/qemu has no ca-cert.pem."
    )


def test_where_encryption_is_required_such_a_target_is_named_and_not_used() -> None:
    (found,) = _found(_ends(required=True), "network.unencrypted")
    assert "memory may not pass in clear" in found.message
    (report,) = Trouble(inventory=_ends(required=True)).assessment().reports
    assert [one.target for one in report.dispositions] == [H3]


def test_a_host_that_can_encrypt_to_nobody_is_one_finding_and_not_one_per_target() -> None:
    (found,) = _found(_ends(unable=(H1,)), "network.unencrypted")
    assert found.subject == H1
    assert found.message == (
        "Memory of VMs leaves h1 in clear: h1: /etc/pki/qemu has no ca-cert.pem."
    )
    (blocker,) = _found(_ends(required=True, unable=(H2, H3)), "network.tls_missing")
    assert (blocker.subject, blocker.severity) == (H1, Severity.BLOCKER)
    assert "h2: /etc/pki/qemu has no ca-cert.pem; h3: " in blocker.message


def test_who_sends_no_memory_is_not_asked_for_certificates() -> None:
    inventory = replace(_ends(required=True, unable=(H1,)), vms=())
    assert not {"network.unencrypted", "network.tls_missing"} & set(_codes(inventory))
