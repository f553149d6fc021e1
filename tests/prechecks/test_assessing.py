"""Prechecks: each finding is raised exactly when it should be, and names its subject and reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from furlough.core.capacity import Reservation
from furlough.core.cpu_model import HOST_PASSTHROUGH
from furlough.core.findings import Finding, Severity, Verdict
from furlough.core.ids import HostName, OperationId
from furlough.core.inventory import Host, Inventory, Proof, Vm
from furlough.core.plan import Method
from furlough.core.policy import EnterOptions, Scope
from furlough.core.states import HostMode, Power
from furlough.core.vm_policy import OnMaintenance, VmPolicy
from furlough.errors import NotFound
from furlough.planning.assessment import Assessment
from furlough.planning.candidates import candidates, movers
from furlough.prechecks.assessing import assess
from tests.core.builders import (
    C1,
    C2,
    H1,
    H2,
    H3,
    H4,
    OPERATION,
    a_cluster,
    a_datastore,
    a_disk,
    a_host,
    a_vm,
    an_inventory,
    load,
    vm_id,
)

AWAY = [HostMode.ENTERING, HostMode.MAINTENANCE, HostMode.EXITING]


def _check(
    inventory: Inventory,
    *hosts: HostName,
    targets: Sequence[HostName] = (),
    reservations: Sequence[Reservation] = (),
) -> Assessment:
    """The precheck of these hosts, of h1 if none is named."""
    options = EnterOptions(target_hosts=tuple(targets))
    return assess(inventory, hosts or (H1,), options, reservations)


def _findings(inventory: Inventory, *hosts: HostName) -> list[Finding]:
    return [one for report in _check(inventory, *hosts).reports for one in report.findings]


def _codes(inventory: Inventory, *hosts: HostName) -> list[str]:
    return [one.code for one in _findings(inventory, *hosts)]


def _the(inventory: Inventory, code: str, *hosts: HostName) -> Finding:
    """The one finding with this code."""
    (found,) = [one for one in _findings(inventory, *hosts) if one.code == code]
    return found


def _leaving(*vms: Vm) -> Inventory:
    """These VMs on the ordinary cluster."""
    return an_inventory(vms)


# --- nothing to say ----------------------------------------------------------------------------


def test_an_ordinary_host_with_ordinary_vms_may_be_entered_without_a_word() -> None:
    (report,) = _check(_leaving(a_vm(1), a_vm(2))).reports
    assert (report.host, report.verdict, report.findings) == (H1, Verdict.OK, ())


def test_an_empty_host_may_be_entered_even_if_there_is_no_other() -> None:
    assert _codes(an_inventory(hosts=[a_host(H1)])) == []


def test_a_cordoned_host_may_be_entered() -> None:
    hosts = [a_host(H1, mode=HostMode.CORDONED), a_host(H2)]
    assert _codes(an_inventory([a_vm(1)], hosts=hosts)) == []


# --- the cluster -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", AWAY)
def test_while_another_host_is_away_no_further_one_may_leave(mode: HostMode) -> None:
    hosts = [a_host(H1), a_host(H2, mode=mode), a_host(H3)]
    found = _the(an_inventory(hosts=hosts), "cluster.host_away")
    assert found.subject == C1
    assert "allows 1 host(s) away at a time" in found.message
    assert f"h2 is {mode.value}" in found.message
    roomy = an_inventory(hosts=hosts, clusters=[a_cluster(max_hosts_away=2)])
    assert _codes(roomy) == []


def test_more_hosts_than_may_be_away_cannot_be_asked_for_together() -> None:
    found = [one for one in _findings(an_inventory(), H1, H2) if one.code == "cluster.host_away"]
    assert len(found) == 2, "one for each report"
    assert "2 hosts are asked for together" in found[0].message
    assert _codes(an_inventory(clusters=[a_cluster(max_hosts_away=2)]), H1, H2) == []


def test_hosts_of_different_clusters_do_not_keep_each_other_from_leaving() -> None:
    hosts = [a_host(H1), a_host(H2, cluster=C2), a_host(H3, cluster=C2, mode=HostMode.MAINTENANCE)]
    inventory = an_inventory(hosts=hosts, clusters=[a_cluster(C1), a_cluster(C2)])
    assert _codes(inventory, H1) == []


def test_a_silent_host_of_the_cluster_is_named_with_the_reason_of_its_silence() -> None:
    hosts = [a_host(H1), a_host(H2, silent_because="no route to host"), a_host(H3)]
    found = _the(an_inventory(hosts=hosts), "cluster.host_silent")
    assert found.subject == H2
    assert "h2 of the same cluster does not answer: no route to host" in found.message


def test_a_silent_host_of_another_cluster_does_not_matter() -> None:
    hosts = [a_host(H1), a_host(H2, cluster=C2, silent_because="off")]
    assert _codes(an_inventory(hosts=hosts, clusters=[a_cluster(C1), a_cluster(C2)])) == []


@pytest.mark.parametrize(
    "others",
    [
        [],
        [a_host(H2, mode=HostMode.CORDONED)],
        [a_host(H2, silent_because="off")],
        [a_host(H2, cluster=C2)],
    ],
    ids=["none", "cordoned", "silent", "of another cluster"],
)
def test_without_an_available_host_the_cluster_is_too_small_for_the_vms(
    others: list[Host],
) -> None:
    inventory = an_inventory(
        [a_vm(1), a_vm(2)],
        hosts=[a_host(H1), *others],
        clusters=[a_cluster(C1), a_cluster(C2)],
    )
    found = _the(inventory, "cluster.too_small")
    assert found.subject == C1
    assert "could take 2 VM(s) of h1" in found.message


# --- the host ----------------------------------------------------------------------------------


def test_a_host_that_does_not_answer_cannot_be_entered_and_the_reason_is_told() -> None:
    hosts = [a_host(H1, silent_because="connection refused"), a_host(H2)]
    found = _the(an_inventory(hosts=hosts), "host.silent")
    assert found.subject == H1
    assert found.message == "Host h1 does not answer: connection refused."
    assert _codes(an_inventory(hosts=hosts)) == ["host.silent"], "and of its guard nothing is known"


def test_a_host_on_which_furlough_host_does_not_answer_cannot_be_entered() -> None:
    found = _the(an_inventory(hosts=[a_host(H1, has_guard=False)]), "guard.missing")
    assert found.subject == H1
    assert "h1" in found.message


def test_a_target_without_furlough_host_is_no_reason_not_to_enter() -> None:
    hosts = [a_host(H1), a_host(H2, has_guard=False)]
    assert _codes(an_inventory([a_vm(1)], hosts=hosts)) == []


@pytest.mark.parametrize("mode", AWAY)
def test_a_host_that_is_away_already_cannot_be_entered_again(mode: HostMode) -> None:
    hosts = [a_host(H1, mode=mode, operation=OPERATION), a_host(H2)]
    found = _the(an_inventory(hosts=hosts), "host.mode")
    assert found.subject == H1
    assert found.message == f"Host h1 is {mode.value} already (operation op-7)."
    unowned = an_inventory(hosts=[a_host(H1, mode=mode)])
    assert _the(unowned, "host.mode").message == f"Host h1 is {mode.value} already."


# --- its VMs, as they are ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("power", "code", "words"),
    [
        (Power.PAUSED, "vm.paused", "will move and stay paused"),
        (Power.ERROR, "vm.error", "is in error"),
        (Power.SUSPENDED, "vm.suspended", "sleeps"),
    ],
)
def test_a_vm_that_does_not_simply_run_is_named_with_what_it_does(
    power: Power, code: str, words: str
) -> None:
    inventory = _leaving(a_vm(1, name="db", power=power), a_vm(2))
    assert _codes(inventory) == [code]
    found = _the(inventory, code)
    assert found.subject == f"db ({vm_id(1)})"
    assert found.message.startswith("VM db ")
    assert words in found.message


@pytest.mark.parametrize(
    ("power", "verdict"),
    [
        (Power.RUNNING, Verdict.OK),
        (Power.SHUT_OFF, Verdict.OK),
        (Power.PAUSED, Verdict.OK),
        (Power.ERROR, Verdict.BLOCKED),
        (Power.SUSPENDED, Verdict.BLOCKED),
    ],
)
def test_a_paused_vm_may_leave_and_one_that_sleeps_or_has_crashed_may_not(
    power: Power, verdict: Verdict
) -> None:
    (report,) = _check(_leaving(a_vm(1, power=power))).reports
    assert report.verdict is verdict


def test_a_vm_on_which_a_job_runs_cannot_move_and_the_job_is_named() -> None:
    found = _the(_leaving(a_vm(1, name="db", busy_with="a backup"), a_vm(2)), "vm.busy")
    assert found.subject == f"db ({vm_id(1)})"
    assert found.message == "VM db is busy: a backup is under way."


def test_a_vm_that_two_hosts_run_is_a_blocker_that_names_both() -> None:
    inventory = _leaving(a_vm(1, host=H3), a_vm(1, host=H1))
    found = _the(inventory, "vm.two_copies")
    assert found.subject == f"vm1 ({vm_id(1)})"
    assert "active on h1 and h3 at once" in found.message


def test_a_definition_left_on_another_host_is_no_second_copy() -> None:
    inventory = _leaving(a_vm(1, host=H1), a_vm(1, host=H3, power=Power.SHUT_OFF))
    assert "vm.two_copies" not in _codes(inventory)


def test_a_vm_with_a_passed_through_device_blocks_live_migration() -> None:
    inventory = an_inventory(
        [a_vm(1, name="ml", devices=["pci-0000:41:00.0", "pci-0000:42:00.0"]), a_vm(2)],
        hosts=[a_host(H1), a_host(H2, devices=["pci-0000:41:00.0", "pci-0000:42:00.0"])],
    )
    assert _codes(inventory) == ["vm.device"], "even where another host has such devices"
    found = _the(inventory, "vm.device")
    assert found.subject == f"ml ({vm_id(1)})"
    assert "pci-0000:41:00.0, pci-0000:42:00.0" in found.message


@pytest.mark.parametrize(
    "vm",
    [
        a_vm(1, power=Power.SHUT_OFF, devices=["gpu"]),
        a_vm(1, power=Power.SHUT_OFF, busy_with="a backup"),
        a_vm(1, power=Power.SHUT_OFF, networks=["dmz"]),
        a_vm(1, power=Power.SHUT_OFF, memory_mib=10**6),
    ],
)
def test_a_vm_that_is_off_does_not_have_to_leave_so_nothing_about_it_matters(vm: Vm) -> None:
    assert _codes(_leaving(vm)) == []


# --- its VMs, and where they could go ----------------------------------------------------------


@pytest.mark.parametrize(
    ("vm", "code", "words"),
    [
        (a_vm(1, cpu_model="Skylake"), "vm.cpu", "it cannot give CPU model Skylake"),
        (a_vm(1, disks=[a_disk(datastore="fast")]), "vm.disk", "does not reach datastore fast"),
        (a_vm(1, networks=["dmz"]), "vm.network", "it has no network dmz"),
        (a_vm(1, memory_mib=70_000), "vm.no_room", "70000 MiB and 2 are needed"),
        (a_vm(1, vcpus=100), "vm.no_room", "100 are needed"),
    ],
    ids=["CPU", "datastore", "network", "memory", "vCPUs"],
)
def test_when_all_hosts_refuse_a_vm_for_the_same_cause_the_finding_says_which(
    vm: Vm, code: str, words: str
) -> None:
    inventory = _leaving(vm, a_vm(2))
    targets = [one for one in _codes(inventory) if one in _ABOUT_TARGETS]
    assert targets == [code]
    found = _the(inventory, code)
    assert found.subject == f"vm1 ({vm_id(1)})"
    assert found.message.startswith("VM vm1 fits on no host: h2: ")
    assert found.message.count(words) == 2, "once for each host"


_ABOUT_TARGETS = {
    "vm.no_target",
    "vm.no_room",
    "vm.cpu",
    "vm.disk",
    "vm.network",
    "vm.duplicate",
}


def test_host_passthrough_without_an_equal_host_is_a_matter_of_cpus() -> None:
    inventory = an_inventory(
        [a_vm(1, cpu_model=HOST_PASSTHROUGH)],
        hosts=[a_host(H1, cpu_models=["EPYC-Milan"]), a_host(H2), a_host(H3)],
    )
    assert _codes(inventory) == ["vm.cpu"]


def test_when_every_host_has_a_vm_of_that_name_the_name_is_the_trouble() -> None:
    inventory = _leaving(
        a_vm(1, name="db"), a_vm(2, name="db", host=H2), a_vm(3, name="db", host=H3)
    )
    found = _the(inventory, "vm.duplicate")
    assert found.subject == f"db ({vm_id(1)})"
    assert str(vm_id(2)) in found.message
    assert str(vm_id(3)) in found.message


def test_when_hosts_refuse_a_vm_for_different_causes_each_is_told_its_own() -> None:
    hosts = [a_host(H1), a_host(H2, networks=[]), a_host(H3, cpu_models=[])]
    inventory = an_inventory([a_vm(1)], hosts=hosts)
    assert _codes(inventory) == ["vm.no_target"]
    message = _the(inventory, "vm.no_target").message
    assert "h2: it has no network lan" in message
    assert "h3: it cannot give CPU model EPYC" in message


def test_a_cause_that_all_hosts_share_is_the_finding_even_if_some_have_others_beside_it() -> None:
    hosts = [a_host(H1), a_host(H2, networks=[]), a_host(H3, networks=[], cpu_models=[])]
    assert _codes(an_inventory([a_vm(1)], hosts=hosts)) == ["vm.network"]


def test_hosts_that_take_nobody_at_present_are_no_target_and_told_so() -> None:
    hosts = [a_host(H1), a_host(H2, mode=HostMode.CORDONED)]
    inventory = an_inventory([a_vm(1)], hosts=hosts)
    assert _codes(inventory) == ["cluster.too_small", "vm.no_target"]
    assert "h2: it is cordoned" in _the(inventory, "vm.no_target").message


def test_vms_that_fit_one_by_one_and_not_together_are_short_of_room() -> None:
    vms = [a_vm(number, memory_mib=40_000) for number in (1, 2, 3)]
    assert _codes(_leaving(*vms)) == ["vm.no_room"]
    assert _codes(_leaving(*vms[:2])) == []


def test_room_that_other_operations_hold_is_not_there_for_this_one() -> None:
    inventory = an_inventory([a_vm(1)], hosts=[a_host(H1), a_host(H2, memory_mib=8192)])
    held = Reservation(operation=OperationId("op-3"), vm=vm_id(9), host=H2, load=load(6000))
    free, full = _check(inventory), _check(inventory, reservations=[held])
    assert free.blockers == ()
    assert [one.code for one in full.blockers] == ["vm.no_room"]


def test_a_short_list_of_hosts_is_told_host_by_host_in_the_order_of_their_names() -> None:
    others = [a_host(HostName(f"t{n}"), networks=[]) for n in range(8, 0, -1)]
    message = _the(an_inventory([a_vm(1)], hosts=[a_host(H1), *others]), "vm.network").message
    told = "; ".join(f"t{n}: it has no network lan" for n in range(1, 9))
    assert message == f"VM vm1 fits on no host: {told}."


def test_of_many_reasons_the_five_most_frequent_are_told() -> None:
    others = [a_host(HostName(f"t{n:02}"), networks=[]) for n in range(12)]
    others += [a_host(HostName(f"u{n}"), networks=[], mode=HostMode.CORDONED) for n in range(2)]
    vm = a_vm(1, networks=["a", "b", "c", "d", "e"])
    message = _the(an_inventory([vm], hosts=[a_host(H1), *others]), "vm.network").message
    assert message.count("14 hosts: it has no network") == 5
    assert "cordoned" not in message


def test_a_long_list_of_hosts_is_summed_up_by_reason() -> None:
    others = [a_host(HostName(f"t{n:02}"), networks=[]) for n in range(12)]
    others[0] = a_host(HostName("t00"), networks=[], mode=HostMode.CORDONED)
    inventory = an_inventory([a_vm(1)], hosts=[a_host(H1), *others])
    message = _the(inventory, "vm.network").message
    assert "12 hosts: it has no network lan; 1 hosts: it is cordoned" in message
    assert "t05" not in message


def test_without_a_proven_lock_a_vm_goes_by_held_handover_and_is_told_why() -> None:
    inventory = an_inventory(
        [a_vm(1), a_vm(2, disks=[])], datastores=[a_datastore(locked=Proof.DECLARED)]
    )
    found = _findings(inventory)
    assert [one.code for one in found] == ["storage.unproven", *["vm.held_handover"] * 2]
    store, first, second = found
    assert store.message == "No lock is proven for datastore images (declared)."
    assert (first.subject, second.subject) == (f"vm1 ({vm_id(1)})", f"vm2 ({vm_id(2)})")
    assert "no storage lock is proven for disk vda" in first.message
    assert "no writable disk" in second.message
    assert _check(inventory).reports[0].verdict is Verdict.OK


def test_how_a_vm_is_handed_over_does_not_matter_if_it_cannot_go_anywhere() -> None:
    inventory = an_inventory([a_vm(1, disks=[], networks=["dmz"])])
    assert _codes(inventory) == ["vm.network"]


# --- several hosts, chosen targets -------------------------------------------------------------


def test_hosts_that_leave_together_are_no_targets_for_each_other() -> None:
    inventory = an_inventory([a_vm(1)], clusters=[a_cluster(max_hosts_away=2)])
    assert [host.name for host in candidates(inventory, [H1, H2], EnterOptions())] == [H3]
    first, second = _check(inventory, H1, H2).reports
    assert (first.host, second.host) == (H1, H2)
    assert first.dispositions[0].target == H3


def test_named_targets_are_the_only_ones() -> None:
    inventory = _leaving(a_vm(1))
    (report,) = _check(inventory, targets=[H3]).reports
    assert report.dispositions[0].target == H3


def test_a_named_target_that_is_too_small_is_not_replaced_by_one_that_is_not() -> None:
    hosts = [a_host(H1), a_host(H2), a_host(H3, memory_mib=1024)]
    inventory = an_inventory([a_vm(1)], hosts=hosts)
    assert [one.code for one in _check(inventory, targets=[H3]).blockers] == ["vm.no_room"]


def test_an_unknown_target_or_host_is_named_and_not_ignored() -> None:
    with pytest.raises(NotFound, match="h4"):
        _check(an_inventory(), targets=[H4])
    with pytest.raises(NotFound, match="h4"):
        _check(an_inventory(), H4)


def test_the_hosts_of_another_cluster_are_never_considered() -> None:
    hosts = [a_host(H1), a_host(H2, cluster=C2), a_host(H3)]
    inventory = an_inventory(hosts=hosts, clusters=[a_cluster(C1), a_cluster(C2)])
    assert [host.name for host in candidates(inventory, [H1], EnterOptions())] == [H3]
    assert candidates(inventory, [H1], EnterOptions(target_hosts=(H2,))) == []


def _overflowing(*vms: Vm, near: Sequence[Host] = ()) -> Inventory:
    """h1 is emptied; h4 belongs to a cluster that takes who finds no place beside h1."""
    return an_inventory(
        vms,
        hosts=[a_host(H1), *near, a_host(H4, cluster=C2)],
        clusters=[a_cluster(overflow=[C2]), a_cluster(C2)],
    )


def test_who_crosses_is_named_with_the_host_it_goes_to_and_why_its_own_cluster_cannot_take_it() -> (
    None
):
    inventory = _overflowing(a_vm(1, memory_mib=8192), a_vm(2), near=[a_host(H2, memory_mib=4096)])
    assessment = _check(inventory)
    crossing = _the(inventory, "vm.crosses")
    assert crossing.message == (
        "VM vm1 moves to h4 of cluster c2, since no host of cluster c1 takes it: h2: it has room "
        "for 0 MiB and 62 vCPUs, 8192 MiB and 2 are needed."
    )
    assert crossing.severity is Severity.INFO
    targets = {one.vm_name: (one.method, one.target) for one in assessment.dispositions}
    assert targets == {"vm1": (Method.LIVE, H4), "vm2": (Method.LIVE, H2)}
    assert assessment.blockers == ()


def test_a_cluster_of_one_host_is_not_too_small_if_another_one_takes_its_vms() -> None:
    assert _codes(_overflowing(a_vm(1))) == ["vm.crosses"]


def test_who_could_be_stopped_crosses_rather_than_being_stopped() -> None:
    inventory = _overflowing(a_vm(1, policy=VmPolicy(on_maintenance=OnMaintenance.SHUT_DOWN)))
    (found,) = _check(inventory).dispositions
    assert (found.method, found.target) == (Method.LIVE, H4)


def test_who_moves_cold_crosses_as_well() -> None:
    tied = replace(
        a_vm(1, policy=VmPolicy(on_maintenance=OnMaintenance.COLD)), hindrances=("a disk",)
    )
    inventory = _overflowing(tied)
    (found,) = _check(inventory).dispositions
    assert (found.method, found.target) == (Method.COLD, H4)
    assert "moves to h4 of cluster c2" in _the(inventory, "vm.crosses").message


def test_who_is_off_and_has_to_leave_crosses_only_where_no_host_of_its_own_cluster_takes_it() -> (
    None
):
    off = a_vm(1, power=Power.SHUT_OFF)
    options = EnterOptions(scope=Scope.ALL)
    for near, target, codes in ((a_host(H2), H2, 0), (a_host(H2, datastores=()), H4, 1)):
        assessment = assess(_overflowing(off, near=[near]), [H1], options)
        (found,) = assessment.dispositions
        told = [one for one in assessment.reports[0].findings if one.code == "vm.crosses"]
        assert (found.target, len(told)) == (target, codes)


def test_hosts_of_another_cluster_to_which_nobody_goes_are_not_talked_about() -> None:
    inventory = _overflowing(a_vm(1, host=H4, power=Power.SHUT_OFF), a_vm(1), near=[a_host(H2)])
    assert "vm.definition_elsewhere" not in _codes(inventory)
    assert _check(inventory).dispositions[0].target == H2


def test_findings_come_in_the_order_in_which_people_read_them() -> None:
    hosts = [
        a_host(H1, mode=HostMode.ENTERING, has_guard=False),
        a_host(H2, mode=HostMode.MAINTENANCE),
        a_host(H3, silent_because="off"),
    ]
    vms = [a_vm(1, power=Power.PAUSED, busy_with="a backup", devices=["gpu"])]
    assert _codes(an_inventory(vms, hosts=hosts)) == [
        "cluster.host_away",
        "cluster.host_silent",
        "cluster.too_small",
        "guard.missing",
        "host.mode",
        "vm.device",
        "vm.busy",
    ]


def test_what_forbids_entering_is_collected_over_all_hosts_and_nothing_else_is() -> None:
    inventory = an_inventory(
        [a_vm(1, power=Power.PAUSED), a_vm(2, host=H2, power=Power.ERROR)],
        clusters=[a_cluster(max_hosts_away=2)],
    )
    assert [one.code for one in _check(inventory, H1, H2).blockers] == ["vm.error"]


# --- what will happen to each VM ---------------------------------------------------------------


def test_every_vm_of_the_host_is_told_what_will_happen_to_it() -> None:
    inventory = _leaving(
        a_vm(1), a_vm(2, power=Power.SHUT_OFF), a_vm(3, networks=["dmz"]), a_vm(4, host=H2)
    )
    (report,) = _check(inventory).reports
    moves, off, stuck = report.dispositions
    assert (moves.vm, moves.vm_name) == (vm_id(1), "vm1")
    assert (moves.method, moves.target) == (Method.LIVE, H3)
    assert moves.duration_s > 1
    assert moves.downtime_ms == 100
    assert (off.method, off.target) == (None, None)
    assert off.reason == "it is powered off; only running VMs have to leave"
    assert (stuck.method, stuck.target) == (None, None)
    assert (stuck.duration_s, stuck.downtime_ms) == (0, 0)
    assert "h2: it has no network dmz" in stuck.reason
    assert all(one.reason for one in report.dispositions)


def test_a_vm_for_which_there_is_no_other_host_is_told_so() -> None:
    (report,) = _check(an_inventory([a_vm(1)], hosts=[a_host(H1)])).reports
    assert report.dispositions[0].reason == "fits on no host: there is no other host"


@pytest.mark.parametrize("power", list(Power))
def test_whoever_has_a_process_on_the_host_has_to_leave(power: Power) -> None:
    found = movers(_leaving(a_vm(1, power=power)), H1)
    assert bool(found) is (power is not Power.SHUT_OFF)


# --- what hosts of several clusters have in common ---------------------------------------------


def test_a_vm_never_leaves_its_cluster_even_if_hosts_of_two_clusters_leave_together() -> None:
    inventory = an_inventory(
        [a_vm(1, host=H1), a_vm(9, host=H2, memory_mib=32768)],
        hosts=[a_host(H1), a_host(H2), a_host(H3, cluster=C2), a_host(H4, cluster=C2)],
        clusters=[a_cluster(C1), a_cluster(C2)],
    )
    first, _ = _check(inventory, H1, H3).reports
    assert first.dispositions[0].target == H2


def test_a_host_that_is_away_and_asked_for_again_is_counted_once() -> None:
    inventory = an_inventory(
        hosts=[a_host(H1), a_host(H2, mode=HostMode.ENTERING), a_host(H3)],
        clusters=[a_cluster(max_hosts_away=2)],
    )
    assert "cluster.host_away" not in _codes(inventory, H1, H2)


def test_a_vm_that_is_just_arriving_is_announced_and_neither_moved_nor_called_double() -> None:
    arriving = a_vm(1, host=H1, power=Power.PAUSED, busy_with="a migration", is_arriving=True)
    leaving = a_vm(1, host=H2, busy_with="a migration")
    inventory = an_inventory([arriving, leaving])
    assert _codes(inventory, H1) == ["vm.arriving"]
    (report,) = _check(inventory, H1).reports
    assert (report.verdict, report.dispositions[0].method) == (Verdict.WARNINGS, None)
    assert inventory.vm(vm_id(1)).host == H2
