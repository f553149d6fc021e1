"""Prechecks of VMs: what policy makes of an obstacle, what groups do to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from furlough.core.affinity import Rule, RuleKind
from furlough.core.findings import Finding, Severity
from furlough.core.inventory import Agent, Datastore, Inventory, Nic, Proof, Vm
from furlough.core.plan import Method
from furlough.core.policy import EnterOptions, OnFailure, Scope
from furlough.core.states import Power
from furlough.core.vm_policy import IfIgnored, OnMaintenance, VmPolicy
from furlough.planning.assessment import Assessment, Report
from furlough.prechecks.assessing import assess
from tests.core.builders import (
    H1,
    H2,
    H3,
    H4,
    STORE,
    a_cluster,
    a_datastore,
    a_disk,
    a_host,
    a_vm,
    an_inventory,
    vm_id,
)
from tests.prechecks.troubles import Trouble, grouped, leaving, medium, options, wishing

SHUT_DOWN = VmPolicy(on_maintenance=OnMaintenance.SHUT_DOWN)
SUSPEND = VmPolicy(on_maintenance=OnMaintenance.SUSPEND)


def _report(inventory: Inventory, asked: EnterOptions | None = None) -> Report:
    (report,) = Trouble(inventory=inventory, options=asked or EnterOptions()).assessment().reports
    return report


def _found(inventory: Inventory, code: str, asked: EnterOptions | None = None) -> list[Finding]:
    return [one for one in _report(inventory, asked).findings if one.code == code]


def _weights(inventory: Inventory, asked: EnterOptions | None = None) -> dict[str, str]:
    return {one.code: one.severity.value for one in _report(inventory, asked).findings}


def _methods(assessment: Assessment) -> dict[str, Method | None]:
    return {one.vm_name: one.method for one in assessment.dispositions}


_SNAPSHOT = replace(a_vm(1), snapshots=1)
_TIED: Sequence[Vm] = (
    a_vm(1, devices=["gpu"]),
    _SNAPSHOT,
    a_vm(1, disks=[a_disk(datastore=None)]),
    a_vm(1, disks=[a_disk(), medium()]),
    a_vm(1, cpu_model="Skylake"),
    a_vm(1, memory_mib=10**6),
    a_vm(1, networks=["dmz"]),
)


@pytest.mark.parametrize("vm", _TIED)
def test_what_cannot_move_blocks_unless_its_policy_lets_it_be_shut_down(vm: Vm) -> None:
    (code,) = _weights(leaving(vm))
    assert _weights(leaving(vm)) == {code: "blocker"}
    allowed = replace(vm, policy=SHUT_DOWN)
    assert _weights(leaving(allowed)) == {code: "info"}
    (found,) = _found(leaving(allowed), code)
    assert found.message.endswith("; it will be shut down.")
    (one,) = _report(leaving(allowed)).dispositions
    assert (one.method, one.target) == (Method.SHUT_DOWN, None)


@pytest.mark.parametrize("vm", _TIED)
def test_naming_it_in_the_request_is_as_good_as_its_own_policy(vm: Vm) -> None:
    asked = options(shut_down=(vm.id,))
    assert set(_weights(leaving(vm), asked).values()) == {"info"}
    (one,) = _report(leaving(vm), asked).dispositions
    assert one.method is Method.SHUT_DOWN
    assert "named to be shut down" in one.reason


def test_whoever_can_move_live_moves_live_whatever_else_would_be_allowed() -> None:
    vms = [
        wishing(wish, a_vm(number))
        for number, wish in enumerate(OnMaintenance, 1)
        if wish is not OnMaintenance.LEAVE
    ]
    assessment = assess(leaving(*vms), [H1], options(shut_down=(vm_id(1),)))
    assert set(_methods(assessment).values()) == {Method.LIVE}


def test_a_vm_that_is_shut_down_says_how_long_it_may_take_and_whether_it_is_powered_off() -> None:
    policy = replace(
        SHUT_DOWN, shut_down_grace_s=45, if_ignored=IfIgnored.POWER_OFF, availability_priority=80
    )
    (one,) = _report(leaving(replace(_SNAPSHOT, policy=policy))).dispositions
    assert (one.grace_s, one.may_power_off, one.priority) == (45, True, 80)
    patient = replace(policy, if_ignored=IfIgnored.KEEP)
    (one,) = _report(leaving(replace(_SNAPSHOT, policy=patient))).dispositions
    assert not one.may_power_off


def test_a_snapshot_does_not_keep_a_vm_from_being_suspended_but_a_device_does() -> None:
    suspended = replace(_SNAPSHOT, policy=SUSPEND)
    (one,) = _report(leaving(suspended)).dispositions
    assert one.method is Method.SUSPEND
    assert one.is_power_change
    assert _weights(leaving(suspended)) == {"vm.snapshot": "info"}
    (found,) = _found(leaving(a_vm(1, devices=["gpu"], policy=SUSPEND)), "vm.device")
    assert found.severity is Severity.BLOCKER
    assert "nor can its policy be followed: what hinders its migration" in found.message


def test_a_vm_that_may_be_moved_cold_is_shut_down_moved_and_started() -> None:
    tied = replace(a_vm(1), hindrances=("a transient disk",))
    inventory = leaving(wishing(OnMaintenance.COLD, tied))
    assert _weights(inventory) == {"vm.hindrance": "info", "vm.cold": "info"}
    (fate,) = _report(inventory).dispositions
    assert (fate.method, fate.target, fate.grace_s) == (Method.COLD, H2, 180)
    assert fate.downtime_ms > 0
    asked = options(shut_down=(vm_id(1),))
    assert _weights(inventory, asked) == {"vm.hindrance": "info"}, "naming it goes first"


def test_a_vm_whose_records_would_stay_behind_is_not_moved_cold() -> None:
    inventory = leaving(wishing(OnMaintenance.COLD, _SNAPSHOT))
    (found,) = _found(inventory, "vm.snapshot")
    assert found.severity is Severity.BLOCKER
    assert "records stay behind" in found.message
    checkpoint = replace(_SNAPSHOT, snapshots=0, checkpoints=1, hindrances=("a transient disk",))
    (found,) = _found(leaving(wishing(OnMaintenance.COLD, checkpoint)), "vm.hindrance")
    assert "checkpoint(s), whose records stay behind" in found.message


def test_a_vm_that_fits_on_no_host_cold_either_stays_and_the_reason_is_said() -> None:
    vm = wishing(OnMaintenance.COLD, a_vm(1, devices=["gpu"]))
    (found,) = _found(leaving(vm), "vm.device")
    assert found.severity is Severity.BLOCKER
    assert "nor does it fit on a host cold: h2: it has no device gpu" in found.message


def test_where_all_have_to_leave_each_that_is_off_moves_or_is_named() -> None:
    off = [a_vm(number, power=Power.SHUT_OFF) for number in (1, 2, 3, 4)]
    off[1] = wishing(OnMaintenance.LEAVE, off[1])
    off[2] = replace(off[2], nics=(Nic(network="dmz"),))
    elsewhere = replace(off[3], host=H2)
    inventory = leaving(*off, elsewhere)
    (report,) = assess(inventory, [H1], EnterOptions(scope=Scope.ALL)).reports
    assert [one.method for one in report.dispositions] == [
        Method.COLD,
        Method.LEAVE,
        Method.LEAVE,
        Method.LEAVE,
    ]
    named = [one.message for one in report.findings if one.code == "vm.off_stays"]
    assert "its policy says leave" in named[0]
    assert "no host takes it: h2: it has no network dmz; h3:" in named[1]
    assert "h2 has it too, shut_off: this may be a left-over" in named[2]
    (as_usual,) = assess(inventory, [H1], options()).reports
    assert {one.method for one in as_usual.dispositions} == {None}


@pytest.mark.parametrize(
    ("vm", "why"),
    [
        (replace(_SNAPSHOT, is_persistent=False), "it has no definition"),
        (replace(_SNAPSHOT, power=Power.PAUSED), "it is paused"),
        (replace(_SNAPSHOT, power=Power.SUSPENDED), "it is suspended"),
        (replace(_SNAPSHOT, busy_with="a backup"), "a backup is under way"),
    ],
)
def test_a_vm_that_could_not_be_shut_down_either_stays_a_blocker(vm: Vm, why: str) -> None:
    """F081: a transient VM would be gone once it is stopped."""
    (found,) = _found(leaving(replace(vm, policy=SHUT_DOWN)), "vm.snapshot")
    assert found.severity is Severity.BLOCKER
    assert why in found.message
    (one,) = _report(leaving(replace(vm, policy=SHUT_DOWN))).dispositions
    assert one.method is None
    assert why in one.reason


def test_a_paused_vm_can_be_suspended_as_it_is() -> None:
    vm = replace(_SNAPSHOT, power=Power.PAUSED, policy=SUSPEND)
    assert _report(leaving(vm)).dispositions[0].method is Method.SUSPEND


def test_a_vm_marked_ha_is_not_shut_down_without_an_override() -> None:
    vm = replace(_SNAPSHOT, policy=replace(SHUT_DOWN, ha=True))
    assert _weights(leaving(vm)) == {"vm.snapshot": "info", "vm.ha_shut_down": "blocker"}
    asked = options(override=("vm.ha_shut_down",), reason="owner agreed")
    (found,) = _found(leaving(vm), "vm.ha_shut_down", asked)
    assert found.severity is Severity.WARNING
    assert "(accepted: owner agreed)" in found.message
    assert _report(leaving(vm), asked).dispositions[0].method is Method.SHUT_DOWN


def test_of_a_vm_that_is_left_nothing_else_matters() -> None:
    vm = replace(wishing(OnMaintenance.LEAVE, _SNAPSHOT), busy_with="a backup", devices=("gpu",))
    assert _weights(leaving(vm)) == {"vm.leave": "blocker"}
    (one,) = _report(leaving(vm), options(shut_down=(vm.id,))).dispositions
    assert one.method is Method.LEAVE, "naming it does not touch it either"


def test_with_the_override_everybody_else_leaves_and_it_stays() -> None:
    inventory = leaving(wishing(OnMaintenance.LEAVE), a_vm(2))
    asked = options(override=("vm.leave",), reason="it is the router")
    report = _report(inventory, asked)
    assert {one.code: one.severity.value for one in report.findings} == {"vm.leave": "warning"}
    assert [one.method for one in report.dispositions] == [Method.LEAVE, Method.LIVE]


def test_a_vm_about_which_somebody_must_be_asked_waits_for_an_answer() -> None:
    inventory = leaving(wishing(OnMaintenance.ASK))
    assert _weights(inventory) == {"vm.ask": "blocker"}
    accepted = options(override=("vm.ask",), reason="asked")
    assert _weights(inventory, accepted) == {"vm.ask": "warning"}
    assert _weights(inventory, options(shut_down=(vm_id(1),))) == {}, "that is an answer"
    tied = leaving(wishing(OnMaintenance.ASK, _SNAPSHOT))
    assert _weights(tied, options(shut_down=(vm_id(1),))) == {"vm.snapshot": "info"}


@pytest.mark.parametrize(
    ("agent", "needs", "words"),
    [
        (Agent.CONNECTED, True, ""),
        (Agent.SILENT, True, "does not answer"),
        (Agent.NONE, True, "has no channel"),
        (Agent.NONE, False, ""),
    ],
)
def test_a_vm_that_needs_its_agent_does_not_move_without_it(
    agent: Agent, needs: bool, words: str
) -> None:
    vm = replace(a_vm(1, policy=VmPolicy(needs_agent=needs)), agent=agent)
    found = _found(leaving(vm), "vm.agent")
    assert [words in one.message for one in found] == ([True] if words else [])


def test_whoever_asks_strictly_for_agents_needs_them_of_all_vms() -> None:
    assert _weights(leaving(a_vm(1)), options(strict=("vm.agent",))) == {"vm.agent": "blocker"}
    connected = replace(a_vm(1), agent=Agent.CONNECTED)
    assert _weights(leaving(connected), options(strict=("vm.agent",))) == {}


def test_a_definition_on_a_target_is_told_and_that_target_not_used() -> None:
    """F067: a migration would replace it without asking."""
    inventory = leaving(a_vm(1), a_vm(1, host=H3, power=Power.SHUT_OFF))
    (found,) = _found(inventory, "vm.definition_elsewhere")
    assert "is defined on h3 too" in found.message
    assert _report(inventory).dispositions[0].target == H2


@pytest.mark.parametrize(
    ("path", "is_uncertain"),
    [
        ("/usr/share/OVMF/OVMF_CODE.fd", False),
        ("/srv/images/vmlinuz", False),
        ("/srv/images-old/vmlinuz", True),
        ("/root/vmlinuz", True),
    ],
)
def test_a_boot_file_is_certain_on_a_shared_datastore_or_from_the_distribution(
    path: str, is_uncertain: bool
) -> None:
    store = Datastore(name=STORE, path="/srv/images/", shared=Proof.PROVEN, locked=Proof.PROVEN)
    vm = replace(a_vm(1), boot_files=(path,))
    inventory = an_inventory([vm], datastores=[store])
    assert len(_found(inventory, "vm.boot_file")) == is_uncertain


def test_a_drive_with_an_image_on_a_datastore_is_no_local_medium() -> None:
    shared = medium("/srv/images/install.iso", datastore=STORE)
    assert _weights(leaving(a_vm(1, disks=[a_disk(), shared]))) == {}
    assert _weights(leaving(a_vm(1, disks=[a_disk(), medium("")]))) == {}, "an empty drive"


# --- groups ------------------------------------------------------------------------------------


def test_a_group_moves_as_one_and_its_members_name_each_other() -> None:
    inventory = leaving(grouped(1), grouped(2), a_vm(3))
    report = _report(inventory)
    first, second, _ = report.dispositions
    assert first.target == second.target
    found = _found(inventory, "vm.group")
    assert [one.message for one in found] == [
        "VM vm1 belongs to affinity group db with vm2 on h1.",
        "VM vm2 belongs to affinity group db with vm1 on h1.",
    ]
    assert {one.severity for one in found} == {Severity.INFO}


def test_a_group_of_one_is_none() -> None:
    assert _weights(leaving(grouped(1), grouped(2, group="web"))) == {}


def test_whoever_asks_strictly_takes_no_group_of_several() -> None:
    inventory = leaving(grouped(1), grouped(2))
    assert _weights(inventory, options(strict=("vm.group",))) == {"vm.group": "blocker"}


def test_a_mate_that_is_migrating_elsewhere_is_waited_for() -> None:
    busy = replace(grouped(2), host=H2, busy_with="an outgoing migration")
    (found,) = _found(leaving(grouped(1), busy), "vm.group_busy")
    assert "an outgoing migration is under way in vm2" in found.message


def test_a_mate_that_stays_behind_tears_a_hard_group_apart() -> None:
    left = wishing(OnMaintenance.LEAVE, grouped(2))
    (found,) = _found(leaving(grouped(1), left), "vm.group_split")
    assert "vm2 stays behind" in found.message


def test_a_soft_group_may_be_torn_apart() -> None:
    rule = Rule(name="near", kind=RuleKind.AFFINITY, vms=("vm1", str(vm_id(2))), is_hard=False)
    left = wishing(OnMaintenance.LEAVE, a_vm(2))
    inventory = an_inventory([a_vm(1), left], clusters=[a_cluster(rules=[rule])])
    assert "vm.group_split" not in _weights(inventory)
    assert "vm.group" in _weights(inventory)


def test_when_one_of_a_group_may_be_shut_down_the_others_find_room_without_it() -> None:
    """Together they fit nowhere; the one that may be off makes way."""
    big = replace(grouped(1), memory_mib=40_000)
    may_stop = replace(
        grouped(2), memory_mib=40_000, policy=replace(SHUT_DOWN, affinity_group="db")
    )
    assessment = assess(leaving(big, may_stop), [H1], EnterOptions())
    assert _methods(assessment) == {"vm1": Method.LIVE, "vm2": Method.SHUT_DOWN}
    assert assessment.blockers == ()
    assert dict(assessment.placement.refusals) == {}


def test_a_group_that_fits_nowhere_is_refused_as_a_whole() -> None:
    vms = [replace(grouped(n), memory_mib=40_000) for n in (1, 2)]
    assessment = assess(leaving(*vms), [H1], EnterOptions())
    assert set(assessment.placement.refusals) == {vm_id(1), vm_id(2)}
    (found,) = {one.message for one in assessment.blockers if one.subject.startswith("vm1 ")}
    assert "80000 MiB and 4 are needed with those it has to be with" in found


def test_a_group_on_several_hosts_that_leave_together_comes_together() -> None:
    inventory = an_inventory(
        [grouped(1), replace(grouped(2), host=H2)],
        hosts=[a_host(H1), a_host(H2), a_host(H3), a_host(H1.__class__("h5"))],
        clusters=[a_cluster(max_hosts_away=2)],
        datastores=[a_datastore()],
    )
    assessment = assess(inventory, [H1, H2], EnterOptions())
    assert len({one.target for one in assessment.dispositions}) == 1


# --- others who could make room ----------------------------------------------------------------


_WAITING = EnterOptions(on_failure=OnFailure.WAIT)


def _crowded(free_on_h3_mib: int) -> Inventory:
    """A VM of 8 GiB has to leave h1; h2 would have room for it without its own, small one."""
    hosts = [
        a_host(H1),
        a_host(H2, memory_mib=10_000),
        a_host(H3, memory_mib=free_on_h3_mib),
    ]
    vms = [a_vm(1, memory_mib=8000), a_vm(2, host=H2, memory_mib=2500)]
    return an_inventory(vms, hosts=hosts, clusters=[a_cluster(memory_ceiling=1.0)])


def test_who_makes_room_is_told_with_those_for_whom() -> None:
    (found,) = _found(_crowded(4000), "vm.makes_room")
    assert found.severity is Severity.WARNING
    assert vm_id(2) in found.subject
    assert "from h2 to h3, and stays there, to make room for vm1" in found.message
    (one,) = _report(_crowded(4000)).dispositions
    assert (one.method, one.target) == (Method.LIVE, H2)


def test_who_makes_room_is_told_of_the_host_for_which_it_does() -> None:
    crowded = _crowded(4000)
    inventory = replace(crowded, hosts=[*crowded.hosts, a_host(H4)])
    reports = assess(inventory, [H1, H4], EnterOptions()).reports
    told = [[one.code for one in report.findings] for report in reports]
    assert ["vm.makes_room" in codes for codes in told] == [True, False]


def test_a_vm_that_goes_cold_is_not_sent_where_one_that_makes_room_goes() -> None:
    crowded = _crowded(4000)
    cold = replace(
        a_vm(3, memory_mib=2000, policy=VmPolicy(on_maintenance=OnMaintenance.COLD)),
        hindrances=("a transient disk",),
    )
    found = assess(replace(crowded, vms=[*crowded.vms, cold]), [H1], EnterOptions())
    assert found.placement.makers == {vm_id(2): (H3,)}
    assert vm_id(3) not in found.placement.targets


def test_an_operation_that_waits_for_failed_vms_names_who_could_make_room() -> None:
    (found,) = _found(_crowded(4000), "vm.no_room", _WAITING)
    assert f"furlough vm migrate {vm_id(2)} --to h3 ({a_vm(2).name})" in found.remedy
    assert found.severity is Severity.WARNING


def test_nobody_is_named_where_nobody_could_make_room() -> None:
    (found,) = _found(_crowded(1000), "vm.no_room")
    assert "make room" not in found.remedy


def test_many_who_would_have_to_move_are_no_advice() -> None:
    hosts = [a_host(H1), a_host(H2, memory_mib=8000), a_host(H3, memory_mib=4000)]
    small = [a_vm(n, host=H2, memory_mib=500) for n in range(2, 7)]
    inventory = an_inventory(
        [a_vm(1, memory_mib=8000), *small], hosts=hosts, clusters=[a_cluster(memory_ceiling=1.0)]
    )
    assert len(assess(inventory, [H1], _WAITING).placement.helpers) == len(small)
    (found,) = _found(inventory, "vm.no_room", _WAITING)
    assert "make room" not in found.remedy
